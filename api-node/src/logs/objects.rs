//! Parts of logs as objects: of a bucket, or as files of a directory. An object is never changed, so
//! that nothing has to be read before something is appended.

use std::sync::Arc;

use async_trait::async_trait;
use domain::{ApiError, CallId, ErrorCode};
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use object_store::path::Path;
use object_store::{Error, ObjectStore, ObjectStoreExt as _};

use super::bucket::Bucket;
use super::layout;
use super::parts::{LogParts, Part, PartKey};

/// Requests of one operation that are under way together.
const CONCURRENCY: usize = 32;

/// Parts as objects.
pub(super) struct ObjectParts {
    objects: Arc<dyn ObjectStore>,
    /// What has to be there first.
    bucket: Option<Bucket>,
}

impl ObjectParts {
    pub(super) fn new(objects: Arc<dyn ObjectStore>, bucket: Option<Bucket>) -> Self {
        Self { objects, bucket }
    }

    async fn put(&self, id: &CallId, part: Part) -> Result<(), ApiError> {
        let path = layout::part(id, part.key());
        let put = || self.objects.put(&path, part.data.clone().into());
        match (put().await, &self.bucket) {
            // The server did not answer when this node started, or lost the bucket since.
            (Err(Error::NotFound { .. }), Some(bucket)) => {
                bucket.create().await.map_err(unavailable)?;
                put().await
            }
            (result, _) => result,
        }
        .map(drop)
        .map_err(unavailable)
    }

    async fn get(&self, id: &CallId, key: PartKey) -> Result<Option<Part>, ApiError> {
        let read = async {
            let object = self.objects.get(&layout::part(id, key)).await?;
            object.bytes().await
        };
        match read.await {
            // A file may lose its end when the machine dies.
            Ok(data) if data.len() as u64 != key.len => Ok(None),
            Ok(data) => Ok(Some(Part {
                epoch: key.epoch,
                start: key.start,
                data,
            })),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(unavailable(error)),
        }
    }

    /// What is gone already is deleted.
    async fn delete(&self, paths: Vec<Path>) -> Result<(), ApiError> {
        let paths = stream::iter(paths).map(Ok).boxed();
        let mut deleted = self.objects.delete_stream(paths);
        while let Some(result) = deleted.next().await {
            match result {
                Ok(_) | Err(Error::NotFound { .. }) => {}
                Err(error) => return Err(unavailable(error)),
            }
        }
        Ok(())
    }
}

#[async_trait]
impl LogParts for ObjectParts {
    async fn put_parts(&self, parts: Vec<(CallId, Part)>) -> Result<(), ApiError> {
        stream::iter(parts)
            .map(Ok)
            .try_for_each_concurrent(CONCURRENCY, |(id, part)| async move {
                self.put(&id, part).await
            })
            .await
    }

    async fn list_parts(&self, id: &CallId) -> Result<Vec<PartKey>, ApiError> {
        self.objects
            .list(Some(&layout::call(id)))
            .try_filter_map(|object| async move { Ok(layout::key(&object.location)) })
            .try_collect()
            .await
            .map_err(unavailable)
    }

    async fn get_parts(&self, id: &CallId, keys: &[PartKey]) -> Result<Vec<Part>, ApiError> {
        stream::iter(keys.to_vec())
            .map(|key| self.get(id, key))
            .buffered(CONCURRENCY)
            .try_filter_map(|part| async move { Ok(part) })
            .try_collect()
            .await
    }

    async fn delete_parts(&self, ids: &[CallId]) -> Result<(), ApiError> {
        let paths = stream::iter(ids.to_vec())
            .map(|id| {
                let objects = self.objects.list(Some(&layout::call(&id)));
                objects.map_ok(|object| object.location).try_collect()
            })
            .buffered(CONCURRENCY)
            .try_collect::<Vec<Vec<Path>>>()
            .await
            .map_err(unavailable)?;
        self.delete(paths.concat()).await
    }

    async fn prune_parts(&self, unix_millis: u64, limit: usize) -> Result<usize, ApiError> {
        let root = layout::root();
        let directories = self.objects.list_with_delimiter(Some(&root)).await;
        let mut old = directories.map_err(unavailable)?.common_prefixes;
        old.retain(|directory| layout::is_before(directory, unix_millis));
        old.sort();
        let (mut calls, mut paths) = (Vec::new(), Vec::new());
        'old: for directory in old {
            let mut objects = self.objects.list(Some(&directory));
            while let Some(object) = objects.try_next().await.map_err(unavailable)? {
                if let Some(call) = layout::owner(&object.location)
                    && calls.last() != Some(&call)
                {
                    if calls.len() >= limit {
                        break 'old;
                    }
                    calls.push(call);
                }
                paths.push(object.location);
            }
        }
        self.delete(paths).await?;
        Ok(calls.len())
    }
}

/// Neither a bucket nor a disk that fails has anything to tell a client.
fn unavailable(error: impl std::fmt::Display) -> ApiError {
    ApiError::from(ErrorCode::StoreUnavailable).detail(error)
}
