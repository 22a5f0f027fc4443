//! Credentials of registries: where they come from, and which one an image's registry gets
//! (spec/05 5.5).

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

/// The names under which credentials of the engine's default registry are looked for, in order.
const DEFAULT_REGISTRY_NAMES: [&str; 2] = ["hub.docker.com", "index.docker.io"];

/// A user of a registry.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct Credentials {
    pub(crate) username: String,
    pub(crate) password: String,
    pub(crate) identity_token: String,
    /// The server, as it was written in the configuration.
    pub(crate) server: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credentials({} at {})", self.username, self.server)
    }
}

/// The credentials of all registries.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct RegistryAuth {
    /// By host, in alphabetical order of the servers' names as written.
    servers: Vec<(String, Credentials)>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum File {
    Nested { auths: BTreeMap<String, Entry> },
    Flat(BTreeMap<String, Entry>),
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Entry {
    auth: String,
    username: String,
    password: String,
    identitytoken: String,
}

impl RegistryAuth {
    /// Reads the JSON of a Docker configuration: `{"auths": {server: …}}`, or the inner object
    /// alone. Servers without credentials are left out.
    ///
    /// # Errors
    /// A description without any of the content, which is secret.
    pub(crate) fn parse(json: &str) -> Result<Self, String> {
        let file: File = serde_json::from_str(json)
            .map_err(|error| format!("not a docker configuration, column {}", error.column()))?;
        let (File::Nested { auths } | File::Flat(auths)) = file;
        let mut servers = Vec::new();
        for (server, entry) in auths {
            let credentials = entry.into_credentials(&server)?;
            if credentials.username.is_empty() && credentials.identity_token.is_empty() {
                continue;
            }
            servers.push((host_of(&server).to_owned(), credentials));
        }
        Ok(Self { servers })
    }

    /// The given text, else the first file that can be read and holds credentials. That none does
    /// is no error: most registries need none.
    pub(crate) fn load(given: Option<&str>, files: &[impl AsRef<Path>]) -> Result<Self, String> {
        if let Some(json) = given {
            return Self::parse(json);
        }
        let found = files.iter().find_map(|file| {
            let json = std::fs::read_to_string(file).ok()?;
            Self::parse(&json).ok()
        });
        if found.is_none() {
            tracing::info!("no docker auths from config files found (this is fine)");
        }
        Ok(found.unwrap_or_default())
    }

    /// The credentials for a registry; an empty name is the engine's default registry.
    ///
    /// A server's credentials also serve its parent domains of two labels or more. Of several that
    /// fit, the one with the closest name wins, and of equally close ones the first by name.
    pub(crate) fn find(&self, registry: &str) -> Option<&Credentials> {
        if registry.is_empty() {
            return DEFAULT_REGISTRY_NAMES
                .iter()
                .find_map(|name| self.closest(name));
        }
        self.closest(registry)
    }

    fn closest(&self, registry: &str) -> Option<&Credentials> {
        self.servers
            .iter()
            .filter_map(|(host, credentials)| Some((distance(host, registry)?, credentials)))
            .min_by_key(|(distance, _)| *distance)
            .map(|(_, credentials)| credentials)
    }
}

impl Entry {
    fn into_credentials(self, server: &str) -> Result<Credentials, String> {
        let mut credentials = Credentials {
            username: self.username,
            password: self.password,
            identity_token: self.identitytoken,
            server: server.to_owned(),
        };
        if !self.auth.is_empty() {
            let decoded = STANDARD
                .decode(self.auth.trim())
                .ok()
                .and_then(|bytes| String::from_utf8(bytes).ok());
            let (username, password) = decoded
                .as_deref()
                .and_then(|text| text.split_once(':'))
                .ok_or_else(|| format!("the auth of server {server:?} cannot be decoded"))?;
            credentials.username = username.to_owned();
            credentials.password = password.trim_end_matches('\0').to_owned();
        }
        Ok(credentials)
    }
}

/// The host and port of a server that is written as a URL or as a bare name.
fn host_of(server: &str) -> &str {
    let rest = server.split_once("://").map_or(server, |(_, rest)| rest);
    rest.split('/').next().unwrap_or(rest)
}

/// How many labels must be taken from the front of `host` to get `registry`.
fn distance(host: &str, registry: &str) -> Option<usize> {
    if host == registry {
        return Some(0);
    }
    let name = host.split(':').next().unwrap_or(host);
    let front = host.strip_suffix(registry)?.strip_suffix('.')?;
    let has_two_labels = registry.contains('.');
    (has_two_labels && name.parse::<IpAddr>().is_err()).then(|| front.split('.').count())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(user: &str) -> String {
        format!(
            r#"{{"auth":"{}"}}"#,
            STANDARD.encode(format!("{user}:pass:word"))
        )
    }

    fn auths(servers: &[(&str, &str)]) -> RegistryAuth {
        let entries: Vec<_> = servers
            .iter()
            .map(|(server, user)| format!("{server:?}:{}", entry(user)))
            .collect();
        let json = format!(r#"{{"auths":{{{}}}}}"#, entries.join(","));
        RegistryAuth::parse(&json).expect("valid")
    }

    fn user<'a>(auth: &'a RegistryAuth, registry: &str) -> Option<&'a str> {
        auth.find(registry).map(|found| &*found.username)
    }

    #[test]
    fn parent_domains_of_two_labels_are_served() {
        let auth = auths(&[("https://a.b.google.com/v1/", "u")]);
        for registry in ["a.b.google.com", "b.google.com", "google.com"] {
            assert_eq!(user(&auth, registry), Some("u"), "{registry}");
        }
        for registry in [
            "com",
            "x.a.b.google.com",
            "oogle.com",
            "google.com:5000",
            "",
        ] {
            assert_eq!(user(&auth, registry), None, "{registry}");
        }
    }

    #[test]
    fn ports_count_and_addresses_have_no_parents() {
        let auth = auths(&[
            ("127.0.0.1:5000", "ip"),
            ("http://r.example.com:5000", "port"),
        ]);
        assert_eq!(user(&auth, "127.0.0.1:5000"), Some("ip"));
        assert_eq!(user(&auth, "0.0.1:5000"), None);
        assert_eq!(user(&auth, "127.0.0.1"), None);
        assert_eq!(user(&auth, "example.com:5000"), Some("port"));
    }

    #[test]
    fn the_closest_server_wins() {
        let auth = auths(&[
            ("https://a.x.example.com", "far"),
            ("https://x.example.com", "near"),
            ("https://y.example.com", "other"),
        ]);
        assert_eq!(user(&auth, "x.example.com"), Some("near"));
        assert_eq!(user(&auth, "example.com"), Some("near"));
        assert_eq!(user(&auth, "a.x.example.com"), Some("far"));
    }

    #[test]
    fn the_default_registry_has_two_names() {
        let index = ("https://index.docker.io/v1/", "index");
        assert_eq!(user(&auths(&[index]), ""), Some("index"));
        let both = auths(&[index, ("https://hub.docker.com", "hub")]);
        assert_eq!(user(&both, ""), Some("hub"));
    }

    #[test]
    fn reads_every_shape() {
        let flat = format!(r#"{{"r.io":{}}}"#, entry("flat"));
        let plain = r#"{"auths":{"r.io":{"username":"plain","password":"p"}},"credsStore":"x"}"#;
        let token = r#"{"auths":{"r.io":{"identitytoken":"t"}, "s.io":{}}}"#;
        assert_eq!(
            user(&RegistryAuth::parse(&flat).expect("flat"), "r.io"),
            Some("flat")
        );
        assert_eq!(
            user(&RegistryAuth::parse(plain).expect("plain"), "r.io"),
            Some("plain")
        );
        let token = RegistryAuth::parse(token).expect("token");
        assert_eq!(token.find("r.io").map(|c| &*c.identity_token), Some("t"));
        assert_eq!(user(&token, "s.io"), None);
        let colon = auths(&[("r.io", "u")]);
        assert_eq!(colon.find("r.io").map(|c| &*c.password), Some("pass:word"));
    }

    #[test]
    fn secrets_are_neither_shown_nor_in_errors() {
        let shown = format!("{:?}", auths(&[("r.io", "u")]));
        assert!(!shown.contains("pass"), "{shown}");
        for bad in [
            r#"{"auths":{"r.io":{"auth":"!hunter2"}}}"#,
            r#"["hunter2"]"#,
            "hunter2",
        ] {
            let error = RegistryAuth::parse(bad).expect_err(bad);
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn the_given_text_wins_over_files_and_the_first_good_file_over_the_rest() {
        let dir = tempfile::tempdir().expect("a directory");
        let [bad, good, missing] = ["bad", "good", "missing"].map(|name| dir.path().join(name));
        std::fs::write(&bad, "nonsense").expect("written");
        std::fs::write(&good, format!(r#"{{"r.io":{}}}"#, entry("file"))).expect("written");
        let files = [&missing, &bad, &good];
        let given = format!(r#"{{"r.io":{}}}"#, entry("given"));
        let user_of = |auth: Result<RegistryAuth, String>| {
            auth.expect("loads")
                .find("r.io")
                .map(|c| c.username.clone())
        };
        assert_eq!(
            user_of(RegistryAuth::load(Some(&given), &files)),
            Some("given".into())
        );
        assert_eq!(
            user_of(RegistryAuth::load(None, &files)),
            Some("file".into())
        );
        assert_eq!(user_of(RegistryAuth::load(None, &[&missing])), None);
        assert!(RegistryAuth::load(Some("nonsense"), &files).is_err());
    }
}
