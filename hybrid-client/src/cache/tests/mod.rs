//! The rules of the cache, one by one and against a model.

mod model;
mod plane;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;

use domain::{AppId, ErrorCode, FnId};
use tokio::time::{Instant, advance};

use self::plane::Plane;
use super::*;
use crate::control_plane::Change;

fn cache(plane: &Arc<Plane>) -> CachedControlPlane {
    CachedControlPlane::new(
        Arc::clone(plane) as Arc<dyn ControlPlane>,
        CacheSettings::default(),
    )
}

async fn image(cache: &CachedControlPlane) -> Result<String, ErrorCode> {
    let target = cache
        .target_by_fn("f")
        .await
        .map_err(|error| error.code())?;
    Ok(target.spec.image.clone())
}

async fn trigger_image(cache: &CachedControlPlane) -> Result<String, ErrorCode> {
    let target = cache
        .target_by_trigger("a", "/s")
        .await
        .map_err(|error| error.code())?;
    Ok(target.spec.image.clone())
}

fn sizes(cache: &CachedControlPlane) -> (usize, usize) {
    let sizes = cache
        .shared
        .shards
        .iter()
        .map(|shard| shard.lock().unwrap().sizes());
    sizes.fold((0, 0), |sum, size| (sum.0 + size.0, sum.1 + size.1))
}

async fn poll_once<F: Future>(future: &mut Pin<Box<F>>) -> Poll<F::Output> {
    std::future::poll_fn(|context| Poll::Ready(future.as_mut().poll(context))).await
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_used_for_its_ttl_and_both_ways_find_it() {
    let plane = Plane::filled();
    let cache = cache(&plane);
    assert_eq!(image(&cache).await.unwrap(), "img:1");
    assert_eq!(trigger_image(&cache).await.unwrap(), "img:1");
    plane.put_fn("f", "app", "img:2");
    advance(Duration::from_millis(4999)).await;
    assert_eq!(image(&cache).await.unwrap(), "img:1");
    assert_eq!(plane.fn_reads(), 2);
    advance(Duration::from_millis(1)).await;
    assert_eq!(image(&cache).await.unwrap(), "img:2");
    assert_eq!(trigger_image(&cache).await.unwrap(), "img:2");
    assert_eq!(plane.fn_reads(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_change_of_any_part_ends_what_depends_on_it_and_nothing_else() {
    let plane = Plane::filled();
    plane.put_app("b", "other-app", "1");
    plane.put_fn("g", "other-app", "img:1");
    let cache = cache(&plane);
    let rows: [(Change, usize); 6] = [
        (Change::App(AppId::from("app")), 2),
        (Change::Fn(FnId::from("f")), 2),
        (Change::Triggers(AppId::from("app")), 1),
        (Change::App(AppId::from("unknown")), 0),
        (Change::Fn(FnId::from("unknown")), 0),
        (Change::Triggers(AppId::from("other-app")), 0),
    ];
    for (change, ended) in rows {
        image(&cache).await.unwrap();
        trigger_image(&cache).await.unwrap();
        cache.target_by_fn("g").await.unwrap();
        let before = plane.fn_reads();
        plane.announce(change.clone());
        image(&cache).await.unwrap();
        trigger_image(&cache).await.unwrap();
        cache.target_by_fn("g").await.unwrap();
        assert_eq!(plane.fn_reads() - before, ended, "{change:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn errors_are_those_of_the_control_plane_and_are_not_kept() {
    let plane = Plane::new();
    let cache = cache(&plane);
    assert_eq!(image(&cache).await, Err(ErrorCode::FnNotFound));
    plane.put_fn("f", "app", "img:1");
    assert_eq!(image(&cache).await, Err(ErrorCode::AppNotFound));
    assert_eq!(trigger_image(&cache).await, Err(ErrorCode::AppNotFound));
    plane.put_app("a", "app", "1");
    assert_eq!(trigger_image(&cache).await, Err(ErrorCode::TriggerNotFound));
    plane.put_trigger("app", "/s", "gone");
    assert_eq!(trigger_image(&cache).await, Err(ErrorCode::FnNotFound));
    plane.put_trigger("app", "/s", "f");
    assert_eq!(trigger_image(&cache).await.unwrap(), "img:1");
    assert_eq!(image(&cache).await.unwrap(), "img:1");
    assert_eq!(sizes(&cache), (2, 0));
}

#[tokio::test(start_paused = true)]
async fn a_receiver_that_lags_drops_everything() {
    let plane = Plane::filled();
    let cache = cache(&plane);
    image(&cache).await.unwrap();
    plane.put_fn("f", "app", "img:2");
    plane.announce(Change::Fn(FnId::from("f")));
    for _ in 0..20 {
        plane.announce(Change::Fn(FnId::from("unrelated")));
    }
    assert_eq!(image(&cache).await.unwrap(), "img:2");
}

#[tokio::test(start_paused = true)]
async fn those_who_ask_together_share_one_load() {
    let plane = Plane::filled();
    let cache = cache(&plane);
    plane.close_gate();
    let mut lookups: Vec<_> = (0..10).map(|_| Box::pin(image(&cache))).collect();
    for lookup in &mut lookups {
        assert!(poll_once(lookup).await.is_pending());
    }
    assert_eq!((plane.fn_reads(), sizes(&cache)), (1, (0, 1)));
    // The one who started it goes away, as a client does.
    drop(lookups.remove(0));
    plane.open_gate();
    for lookup in lookups {
        assert_eq!(lookup.await.unwrap(), "img:1");
    }
    assert_eq!((plane.fn_reads(), sizes(&cache)), (1, (1, 0)));
}

#[tokio::test(start_paused = true)]
async fn a_load_that_nobody_waits_for_leaves_nothing_behind() {
    let plane = Plane::filled();
    let cache = cache(&plane);
    plane.close_gate();
    let mut lookup = Box::pin(image(&cache));
    assert!(poll_once(&mut lookup).await.is_pending());
    drop(lookup);
    assert_eq!(sizes(&cache), (0, 0));
    plane.open_gate();
    assert_eq!(image(&cache).await.unwrap(), "img:1");
}

#[tokio::test(start_paused = true)]
async fn a_change_during_a_load_is_not_papered_over() {
    let plane = Plane::filled();
    let cache = cache(&plane);
    plane.close_gate();
    let mut early = Box::pin(image(&cache));
    assert!(poll_once(&mut early).await.is_pending());
    plane.put_fn("f", "app", "img:2");
    plane.announce(Change::Fn(FnId::from("f")));
    let mut late = Box::pin(image(&cache));
    assert!(poll_once(&mut late).await.is_pending());
    assert_eq!(
        plane.fn_reads(),
        2,
        "the later lookup must not join the earlier load"
    );
    plane.open_gate();
    assert_eq!(late.await.unwrap(), "img:2");
    assert_eq!(early.await.unwrap(), "img:1", "asked before the change");
    assert_eq!(image(&cache).await.unwrap(), "img:2");
}

#[tokio::test(start_paused = true)]
async fn a_stale_load_alone_is_not_kept() {
    let plane = Plane::filled();
    let cache = cache(&plane);
    plane.close_gate();
    let mut early = Box::pin(image(&cache));
    assert!(poll_once(&mut early).await.is_pending());
    plane.put_fn("f", "app", "img:2");
    plane.announce(Change::Fn(FnId::from("f")));
    plane.open_gate();
    assert_eq!(early.await.unwrap(), "img:1");
    assert_eq!(sizes(&cache), (0, 0));
    assert_eq!(image(&cache).await.unwrap(), "img:2");
}

#[tokio::test(start_paused = true)]
async fn an_outage_is_bridged_for_ten_minutes_but_not_across_a_change() {
    let plane = Plane::filled();
    let cache = cache(&plane);
    image(&cache).await.unwrap();
    trigger_image(&cache).await.unwrap();
    plane.down.store(true, Ordering::Relaxed);
    advance(Duration::from_secs(599)).await;
    assert_eq!(image(&cache).await.unwrap(), "img:1");
    let reads = plane.fn_reads();
    assert_eq!(image(&cache).await.unwrap(), "img:1");
    assert_eq!(plane.fn_reads(), reads, "no new try within a second");
    plane.announce(Change::Triggers(AppId::from("app")));
    assert_eq!(
        trigger_image(&cache).await,
        Err(ErrorCode::StoreUnavailable)
    );
    advance(Duration::from_secs(1)).await;
    assert_eq!(image(&cache).await, Err(ErrorCode::StoreUnavailable));
    plane.down.store(false, Ordering::Relaxed);
    assert_eq!(image(&cache).await.unwrap(), "img:1");
}

#[tokio::test(start_paused = true)]
async fn a_deletion_ends_the_stale_answer_too() {
    let plane = Plane::filled();
    let cache = cache(&plane);
    image(&cache).await.unwrap();
    plane.data.lock().unwrap().fns.clear();
    advance(Duration::from_secs(6)).await;
    assert_eq!(image(&cache).await, Err(ErrorCode::FnNotFound));
    plane.down.store(true, Ordering::Relaxed);
    assert_eq!(image(&cache).await, Err(ErrorCode::StoreUnavailable));
}

#[tokio::test(start_paused = true)]
async fn a_control_plane_that_hangs_counts_as_unreachable() {
    let plane = Plane::filled();
    let cache = cache(&plane);
    plane.close_gate();
    let started = Instant::now();
    assert_eq!(image(&cache).await, Err(ErrorCode::StoreUnavailable));
    assert_eq!(started.elapsed(), CacheSettings::default().load_timeout);
    assert_eq!(sizes(&cache), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn the_size_is_bounded_and_the_oldest_goes_first() {
    let plane = Plane::filled();
    let settings = CacheSettings {
        capacity: SHARDS,
        ..CacheSettings::default()
    };
    let cache = CachedControlPlane::new(Arc::clone(&plane) as Arc<dyn ControlPlane>, settings);
    for at in 0..200 {
        let id = format!("f{at}");
        plane.put_fn(&id, "app", "img:1");
        cache.target_by_fn(&id).await.unwrap();
        advance(Duration::from_millis(1)).await;
        let reads = plane.fn_reads();
        cache.target_by_fn(&id).await.unwrap();
        assert_eq!(plane.fn_reads(), reads, "the newest is kept");
    }
    assert!(sizes(&cache).0 <= SHARDS);
}

#[tokio::test(start_paused = true)]
async fn after_a_gap_a_newer_answer_is_waited_for() {
    let plane = Plane::filled();
    let cache = cache(&plane);
    image(&cache).await.unwrap();
    plane.put_fn("f", "app", "img:2");
    plane.announce(Change::Everything);
    plane.close_gate();
    let mut lookup = Box::pin(image(&cache));
    assert!(poll_once(&mut lookup).await.is_pending());
    advance(Duration::from_secs(1)).await;
    assert!(poll_once(&mut lookup).await.is_pending());
    plane.open_gate();
    assert_eq!(lookup.await.unwrap(), "img:2");
}

#[tokio::test(start_paused = true)]
async fn after_a_gap_a_stale_answer_is_better_than_none() {
    let plane = Plane::filled();
    let cache = cache(&plane);
    image(&cache).await.unwrap();
    plane.down.store(true, Ordering::Relaxed);
    plane.announce(Change::Everything);
    assert_eq!(image(&cache).await.unwrap(), "img:1");
    plane.announce(Change::Everything);
    assert_eq!(image(&cache).await.unwrap(), "img:1");
    // But not across a change that was told.
    plane.announce(Change::Fn(FnId::from("f")));
    assert_eq!(image(&cache).await, Err(ErrorCode::StoreUnavailable));
    advance(Duration::from_secs(1)).await;
    plane.down.store(false, Ordering::Relaxed);
    plane.data.lock().unwrap().fns.clear();
    plane.announce(Change::Everything);
    assert_eq!(image(&cache).await, Err(ErrorCode::FnNotFound));
}

/// Lets what was spawned go on.
async fn settle() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_long_for_a_control_plane_that_hangs() {
    let plane = Plane::filled();
    plane.put_fn("g", "app", "img:1");
    let cache = cache(&plane);
    image(&cache).await.unwrap();
    cache.target_by_fn("g").await.unwrap();
    advance(Duration::from_secs(6)).await;
    plane.put_fn("f", "app", "img:2");
    plane.close_gate();
    let started = Instant::now();
    assert_eq!(image(&cache).await.unwrap(), "img:1");
    assert_eq!(started.elapsed(), CacheSettings::default().stale_wait);
    // From now on nobody waits at all, while a load in the background tries on.
    let started = Instant::now();
    for _ in 0..10 {
        assert_eq!(image(&cache).await.unwrap(), "img:1");
        cache.target_by_fn("g").await.unwrap();
    }
    assert_eq!(started.elapsed(), Duration::ZERO);
    settle().await;
    plane.open_gate();
    settle().await;
    assert_eq!(image(&cache).await.unwrap(), "img:2");
    assert_eq!(sizes(&cache).1, 0);
}

#[tokio::test(start_paused = true)]
async fn an_outage_is_no_storm_of_questions() {
    let plane = Plane::filled();
    let cache = cache(&plane);
    let ids: Vec<_> = (0..100).map(|n| format!("f{n}")).collect();
    for id in &ids {
        plane.put_fn(id, "app", "img:1");
        cache.target_by_fn(id).await.unwrap();
    }
    advance(Duration::from_secs(6)).await;
    plane.close_gate();
    let before = plane.fn_reads();
    for id in &ids {
        cache.target_by_fn(id).await.unwrap();
        settle().await;
    }
    assert!(
        plane.fn_reads() - before <= MAX_PROBES,
        "{}",
        plane.fn_reads() - before
    );
    plane.open_gate();
    settle().await;
    assert_eq!(sizes(&cache).1, 0);
    for id in &ids {
        cache.target_by_fn(id).await.unwrap();
    }
    assert_eq!(plane.fn_reads() - before, ids.len());
}
