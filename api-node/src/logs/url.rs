//! The URL of the store of logs (`FN_LOGSTORE_URL`, spec/09 9.6): what it names, and how that may be
//! shown.

use std::fmt;
use std::path::PathBuf;

use percent_encoding::percent_decode_str;
use secrecy::SecretString;
use url::Url;

/// What a URL names.
#[derive(Debug)]
pub(super) enum Target {
    /// The database of the calls.
    Database,
    /// A directory.
    Directory(PathBuf),
    /// A bucket.
    S3(S3Target),
}

/// A bucket, and who may use it.
#[derive(Debug)]
pub(super) struct S3Target {
    /// With its port, if that is not the usual one.
    pub(super) host: String,
    pub(super) region: String,
    pub(super) bucket: String,
    pub(super) key: String,
    pub(super) secret: SecretString,
    pub(super) ssl: bool,
}

/// Why a URL names no store. The text holds no part of the URL that may be secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LogUrlError {
    /// Cannot be read.
    #[error(
        "the URL of the log store can not be read; file:///<directory> and s3://<key>:<secret>@<host>/<region>/<bucket>?ssl=<bool> are supported, with key and secret URL-encoded"
    )]
    Unreadable,
    /// A scheme that is not known.
    #[error("log store '{0}' is not supported; file and s3 are")]
    UnknownScheme(String),
    /// Where a directory must be named.
    #[error(
        "the URL of the log store must name a directory by its whole path: file:///<directory>"
    )]
    NoDirectory,
    /// As the original says it.
    #[error(
        "must provide bucket name and region in path of s3 api url. e.g. s3://s3.com/us-east-1/my_bucket"
    )]
    NoBucketAndRegion,
    /// As the original says it.
    #[error(
        "must provide non-empty region in path of s3 api url. e.g. s3://s3.com/us-east-1/my_bucket"
    )]
    NoRegion,
    /// As the original says it.
    #[error(
        "must provide non-empty bucket name in path of s3 api url. e.g. s3://s3.com/us-east-1/my_bucket"
    )]
    NoBucket,
    /// Letters that no region or bucket has.
    #[error("region and bucket of the log store may have letters, digits, '.', '-' and '_' only")]
    BadName,
    /// Nobody to ask as.
    #[error(
        "the URL of the log store must have a key and a secret: s3://<key>:<secret>@<host>/..."
    )]
    NoCredentials,
    /// A query key that is not known, or a value that it can not have.
    #[error("the URL of the log store may have no parameter but ssl=true or ssl=false")]
    BadParameter,
}

impl Target {
    /// Reads a URL; an empty one is the database.
    pub(super) fn parse(text: &str) -> Result<Self, LogUrlError> {
        if text.is_empty() {
            return Ok(Self::Database);
        }
        let (scheme, _) = text.split_once("://").ok_or(LogUrlError::Unreadable)?;
        match scheme {
            "file" => {
                let url = Url::parse(text).map_err(|_| LogUrlError::Unreadable)?;
                let path = url.to_file_path().map_err(|()| LogUrlError::NoDirectory)?;
                if path.parent().is_none() {
                    return Err(LogUrlError::NoDirectory);
                }
                Ok(Self::Directory(path))
            }
            "s3" => S3Target::parse(text).map(Self::S3),
            other if other.bytes().all(|letter| letter.is_ascii_alphanumeric()) => {
                Err(LogUrlError::UnknownScheme(other.to_owned()))
            }
            _ => Err(LogUrlError::Unreadable),
        }
    }
}

impl S3Target {
    fn parse(text: &str) -> Result<Self, LogUrlError> {
        let url = Url::parse(text).map_err(|_| LogUrlError::Unreadable)?;
        let host = url.host_str().filter(|host| !host.is_empty());
        let mut host = host.ok_or(LogUrlError::Unreadable)?.to_owned();
        if let Some(port) = url.port() {
            host = format!("{host}:{port}");
        }
        let path = url.path().strip_prefix('/').unwrap_or_default();
        let (region, bucket) = path.split_once('/').ok_or(LogUrlError::NoBucketAndRegion)?;
        let bucket = bucket.trim_end_matches('/');
        if region.is_empty() {
            return Err(LogUrlError::NoRegion);
        }
        if bucket.is_empty() {
            return Err(LogUrlError::NoBucket);
        }
        let good = |letter: u8| letter.is_ascii_alphanumeric() || b".-_".contains(&letter);
        if !region.bytes().chain(bucket.bytes()).all(good) || bucket.bytes().all(|b| b == b'.') {
            return Err(LogUrlError::BadName);
        }
        let decoded = |text: &str| {
            let decoded = percent_decode_str(text).decode_utf8();
            decoded
                .map(String::from)
                .map_err(|_| LogUrlError::Unreadable)
        };
        let key = decoded(url.username())?;
        let secret = decoded(url.password().unwrap_or_default())?;
        if key.is_empty() || secret.is_empty() {
            return Err(LogUrlError::NoCredentials);
        }
        let mut ssl = true;
        for (name, value) in url.query_pairs() {
            ssl = match (&*name, &*value) {
                ("ssl", "true" | "1") => true,
                ("ssl", "false" | "0") => false,
                _ => return Err(LogUrlError::BadParameter),
            };
        }
        Ok(Self {
            host,
            region: region.to_owned(),
            bucket: bucket.to_owned(),
            key,
            secret: secret.into(),
            ssl,
        })
    }

    /// Where requests are sent to.
    pub(super) fn endpoint(&self) -> String {
        let scheme = if self.ssl { "https" } else { "http" };
        format!("{scheme}://{}", self.host)
    }
}

impl fmt::Display for S3Target {
    /// For logs: without key and secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s3://{}/{}/{}", self.host, self.region, self.bucket)
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;

    fn s3(url: &str) -> S3Target {
        match Target::parse(url) {
            Ok(Target::S3(target)) => target,
            other => panic!("{url}: {other:?}"),
        }
    }

    #[test]
    fn an_empty_url_is_the_database_and_a_file_url_a_directory() {
        assert!(matches!(Target::parse(""), Ok(Target::Database)));
        match Target::parse("file:///var/lib/hearth/my%20logs") {
            Ok(Target::Directory(path)) => {
                assert_eq!(path, PathBuf::from("/var/lib/hearth/my logs"));
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_form_of_the_original_names_a_bucket_and_who_may_use_it() {
        let target = s3("s3://key%2B:se%2Fcret%40@minio.local:9000/us-east-1/fn-logs?ssl=false");
        assert_eq!(target.endpoint(), "http://minio.local:9000");
        assert_eq!(
            (&*target.key, target.secret.expose_secret()),
            ("key+", "se/cret@")
        );
        assert_eq!(
            target.to_string(),
            "s3://minio.local:9000/us-east-1/fn-logs"
        );
        let tls = s3("s3://key:secret@s3.com/eu-1/logs/?ssl=true");
        assert_eq!(tls.endpoint(), "https://s3.com");
        assert_eq!(tls.bucket, "logs");
        assert!(
            s3("s3://key:secret@s3.com/eu-1/logs").ssl,
            "what is not said is safe"
        );
    }

    #[test]
    fn what_names_no_store_is_refused_by_name() {
        use LogUrlError as E;
        for (url, error) in [
            ("logs", E::Unreadable),
            ("my secret://x", E::Unreadable),
            ("s3://", E::Unreadable),
            ("gs://bucket", E::UnknownScheme("gs".to_owned())),
            ("file://host/logs", E::NoDirectory),
            ("file:///", E::NoDirectory),
            ("s3://k:s@h", E::NoBucketAndRegion),
            ("s3://k:s@h/us-east-1", E::NoBucketAndRegion),
            ("s3://k:s@h//bucket", E::NoRegion),
            ("s3://k:s@h/us-east-1/", E::NoBucket),
            ("s3://k:s@h/us-east-1/a/b", E::BadName),
            ("s3://k:s@h/us<1/b", E::BadName),
            ("s3://h/us-east-1/b", E::NoCredentials),
            ("s3://k@h/us-east-1/b", E::NoCredentials),
            ("s3://k:s@h/us-east-1/b?ssl=maybe", E::BadParameter),
            ("s3://k:s@h/us-east-1/b?tls=true", E::BadParameter),
        ] {
            assert_eq!(Target::parse(url).expect_err(url), error, "{url}");
        }
    }

    #[test]
    fn a_secret_is_never_shown() {
        for url in [
            "s3://key:hunter2@h/us-east-1/b?ssl=true",
            "s3://key:hunter2@h",
            "s3://key:hun/hunter2@h/us-east-1/b",
            "s3://key:hunter2@h/us-east-1/b?secret=hunter2",
            "key:hunter2@h/us-east-1/b",
        ] {
            let shown = match Target::parse(url) {
                Ok(target) => format!("{target:?}"),
                Err(error) => format!("{error} {error:?}"),
            };
            assert!(!shown.contains("hunter2"), "{shown}");
        }
    }
}
