//! Removes images that nobody uses when there are too many (spec/05 5.5).

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bollard::query_parameters::{ListImagesOptions, RemoveImageOptions};
use tokio::time::{MissedTickBehavior, interval};

use super::cache::{ImageCache, Victim};
use crate::driver::docker::engine::Engine;

/// Two removals, or two tries to list, per second.
const PERIOD: Duration = Duration::from_millis(500);
/// Metrics are brought up to date every so many periods: 2 s.
const MEASURE_EVERY: u64 = 4;
const LIMIT: Duration = Duration::from_secs(60);

/// The images, if they are to be cleaned. Clones are one.
#[derive(Clone)]
pub(crate) struct Images {
    cache: Option<Arc<Mutex<ImageCache>>>,
    max_size: u64,
}

/// A container of an image. The image is busy until this is dropped.
pub(crate) struct ImageUse {
    images: Images,
    id: String,
}

impl Images {
    /// `max_size` of zero turns cleaning off.
    pub(crate) fn new(max_size: u64, exempt_tags: &[String]) -> Self {
        let cache = || Arc::new(Mutex::new(ImageCache::new(max_size, exempt_tags)));
        Self {
            cache: (max_size > 0).then(cache),
            max_size,
        }
    }

    /// An image is there, and a function calls it by `name`.
    pub(crate) fn seen(&self, name: &str, id: &str, size: u64, tags: &[String]) {
        if let Some(mut cache) = self.lock() {
            cache.add(id, size, tags);
            cache.name(name, id);
        }
    }

    /// A container of the image `name` begins.
    pub(crate) fn start_use(&self, name: &str) -> Option<ImageUse> {
        let id = self.lock()?.acquire(name)?;
        let images = self.clone();
        Some(ImageUse { images, id })
    }

    /// Removes images as long as there are too many; for ever, if cleaning is on.
    pub(crate) async fn clean(&self, engine: &Engine) {
        if self.cache.is_none() {
            return;
        }
        let mut tick = interval(PERIOD);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut listed = false;
        let mut count = 0_u64;
        loop {
            tick.tick().await;
            if listed {
                self.remove_one(engine).await;
            } else {
                listed = self.list(engine).await;
            }
            if count.is_multiple_of(MEASURE_EVERY)
                && let Some(cache) = self.lock()
            {
                engine.metrics().images(cache.size(), self.max_size);
            }
            count += 1;
        }
    }

    async fn list(&self, engine: &Engine) -> bool {
        let request = engine.docker().list_images(None::<ListImagesOptions>);
        match engine
            .call_within(LIMIT, "docker_list_images", request)
            .await
        {
            Ok(images) => {
                if let Some(mut cache) = self.lock() {
                    for image in images {
                        let size = u64::try_from(image.size).unwrap_or(0);
                        cache.add(&image.id, size, &image.repo_tags);
                    }
                }
                true
            }
            Err(error) => {
                tracing::warn!(%error, "images cannot be listed");
                engine
                    .metrics()
                    .retry("docker_list_images", error.status_label());
                false
            }
        }
    }

    async fn remove_one(&self, engine: &Engine) {
        let Some(victim) = self.lock().and_then(|mut cache| cache.victim()) else {
            return;
        };
        // Put back unless it is known to be gone, even if this future is dropped.
        let mut returned = Returned {
            images: self,
            id: &victim.id,
            gone: false,
        };
        returned.gone = remove(engine, &victim).await;
    }

    fn lock(&self) -> Option<MutexGuard<'_, ImageCache>> {
        let cache = self.cache.as_ref()?;
        // A cache that is wrong costs an image that is pulled again.
        Some(cache.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

struct Returned<'a> {
    images: &'a Images,
    id: &'a str,
    gone: bool,
}

impl Drop for Returned<'_> {
    fn drop(&mut self) {
        if let Some(mut cache) = self.images.lock() {
            match self.gone {
                true => cache.removed(self.id),
                false => cache.put_back(self.id),
            }
        }
    }
}

impl Drop for ImageUse {
    fn drop(&mut self) {
        if let Some(mut cache) = self.images.lock() {
            cache.release(&self.id);
        }
    }
}

/// Removes an image by each of its tags; the last one takes the image along.
async fn remove(engine: &Engine, victim: &Victim) -> bool {
    let names = match victim.tags.as_slice() {
        [] => std::slice::from_ref(&victim.id),
        tags => tags,
    };
    for name in names {
        let request = engine
            .docker()
            .remove_image(name, None::<RemoveImageOptions>, None);
        match engine
            .call_within(LIMIT, "docker_remove_image", request)
            .await
        {
            Ok(_) => tracing::info!(image = %name, "unused image was removed"),
            Err(error) if error.is_not_found() => {}
            Err(error) => {
                tracing::warn!(image = %name, %error, "unused image cannot be removed");
                return false;
            }
        }
    }
    true
}
