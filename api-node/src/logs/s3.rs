//! Logs in a bucket of S3, or of a server that speaks its protocol.
//!
//! A server that does not answer costs a log, never a call: every request has limits, and a start does
//! not wait for the server.

use std::sync::Arc;
use std::time::Duration;

use nodekit::tls::use_ring;
use object_store::aws::AmazonS3Builder;
use object_store::{BackoffConfig, ClientOptions, RetryConfig};
use secrecy::ExposeSecret as _;

use super::bucket::{Bucket, BucketError};
use super::layout;
use super::objects::ObjectParts;
use super::open::LogStoreError;
use super::url::S3Target;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// For one request, with its answer.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// Behind this time no request is tried again.
const RETRY_TIMEOUT: Duration = Duration::from_secs(5);
const RETRIES: usize = 2;

/// Opens a bucket, which is created when missing.
pub(super) async fn open(target: &S3Target) -> Result<ObjectParts, LogStoreError> {
    // Neither of the two clients takes a provider of its own.
    use_ring();
    let client = AmazonS3Builder::new()
        .with_endpoint(target.endpoint())
        .with_region(&target.region)
        .with_bucket_name(&target.bucket)
        .with_access_key_id(&target.key)
        .with_secret_access_key(target.secret.expose_secret())
        .with_virtual_hosted_style_request(false)
        .with_client_options(
            ClientOptions::new()
                .with_allow_http(!target.ssl)
                .with_connect_timeout(CONNECT_TIMEOUT)
                .with_timeout(REQUEST_TIMEOUT),
        )
        .with_retry(RetryConfig {
            backoff: BackoffConfig::default(),
            max_retries: RETRIES,
            retry_timeout: RETRY_TIMEOUT,
        })
        .build()?;
    let http = reqwest::Client::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(REQUEST_TIMEOUT)
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .map_err(|error| LogStoreError::Client(error.to_string()))?;
    let bucket = Bucket {
        client: client.clone(),
        http,
        region: target.region.clone(),
    };
    if bucket.look(&layout::root()).await.is_err() {
        match bucket.create().await {
            Ok(()) => {}
            Err(BucketError::Refused(reason)) => {
                return Err(LogStoreError::Bucket {
                    bucket: target.bucket.clone(),
                    reason,
                });
            }
            Err(BucketError::Unavailable(reason)) => {
                tracing::warn!(%target, reason, "logs of calls can not be kept until their store answers");
            }
        }
    }
    Ok(ObjectParts::new(Arc::new(client), Some(bucket)))
}
