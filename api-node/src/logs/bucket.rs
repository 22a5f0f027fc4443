//! The bucket that logs are kept in: looked for, and created when missing, which the client for
//! objects can not do.

use std::time::Duration;

use futures_util::StreamExt as _;
use http::{Method, StatusCode};
use object_store::aws::AmazonS3;
use object_store::path::Path;
use object_store::signer::Signer as _;
use object_store::{ObjectStore as _, Result};

/// How long the signature of the request holds.
const SIGNED_FOR: Duration = Duration::from_secs(60);
/// The region whose buckets must not name it.
const NAMELESS_REGION: &str = "us-east-1";

/// A bucket.
pub(super) struct Bucket {
    pub(super) client: AmazonS3,
    pub(super) http: reqwest::Client,
    pub(super) region: String,
}

/// Why there is no bucket. The text holds neither the secret nor a signature.
#[derive(Debug, thiserror::Error)]
pub(super) enum BucketError {
    /// The server will not do it.
    #[error("{0}")]
    Refused(String),
    /// It did not answer, or can not work at the moment.
    #[error("{0}")]
    Unavailable(String),
}

impl Bucket {
    /// Whether something can be read from the bucket.
    pub(super) async fn look(&self, prefix: &Path) -> Result<()> {
        let found = self.client.list(Some(prefix)).next().await;
        found.transpose().map(drop)
    }

    /// Creates the bucket; one that is there already is as good.
    pub(super) async fn create(&self) -> Result<(), BucketError> {
        let url = self
            .client
            .signed_url(Method::PUT, &Path::default(), SIGNED_FOR)
            .await
            .map_err(|error| BucketError::Unavailable(error.to_string()))?;
        let body = match self.region.as_str() {
            NAMELESS_REGION => String::new(),
            // Nothing in it has to be escaped: the region has been checked.
            region => format!(
                "<CreateBucketConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
                 <LocationConstraint>{region}</LocationConstraint></CreateBucketConfiguration>"
            ),
        };
        let answer = self.http.put(url).body(body).send().await;
        // The signature is in the URL.
        let unreachable =
            |error: reqwest::Error| BucketError::Unavailable(error.without_url().to_string());
        let answer = answer.map_err(unreachable)?;
        let status = answer.status();
        if status.is_success() || status == StatusCode::CONFLICT {
            return Ok(());
        }
        let said = answer.text().await.map_err(unreachable)?;
        let said = match message(&said) {
            Some(message) => format!("{status}: {message}"),
            None => status.to_string(),
        };
        if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
            return Err(BucketError::Unavailable(said));
        }
        Err(BucketError::Refused(said))
    }
}

/// The sentence in an answer of S3. The rest of it is not for logs: it repeats the request.
fn message(xml: &str) -> Option<&str> {
    let (_, rest) = xml.split_once("<Message>")?;
    let (message, _) = rest.split_once("</Message>")?;
    Some(message)
}
