//! The rules of eviction: the original's table (spec/11 11.5), the race between a call and an
//! eviction, and the choice of victims.

use std::time::Duration;

use domain::{Annotations, AppId, FnId, FnSpec, MilliCpus};
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::resources::manual_task::ManualTask;

/// A function of this name.
pub(crate) fn spec(name: &str) -> FnSpec {
    FnSpec {
        app_id: AppId::from("app"),
        app_name: "app".to_owned(),
        fn_id: FnId::from(name),
        fn_name: name.to_owned(),
        image: "image".to_owned(),
        memory_mb: 128,
        cpus: MilliCpus::default(),
        tmpfs_mb: 0,
        timeout: Duration::from_secs(30),
        idle_timeout: Duration::from_secs(30),
        env: [].into(),
        annotations: Annotations::default(),
        syslog_url: None,
    }
}

/// The slot key of a function of this name.
pub(crate) fn key(name: &str) -> SlotKey {
    spec(name).slot_key()
}

fn amount(memory_bytes: u64, cpu_millis: u64) -> Resources {
    Resources {
        memory_bytes,
        cpu_millis,
    }
}

/// Containers of `held`, the first of them idle for the longest.
fn idle(evictor: &Evictor, slot_key: SlotKey, held: &[Resources]) -> Vec<Registration> {
    let start = Instant::now();
    (0u64..)
        .zip(held)
        .map(|(number, held)| {
            let registration = evictor.register(slot_key, *held);
            registration.offer(start + Duration::from_secs(number));
            registration
        })
        .collect()
}

fn evicted(registrations: &[Registration]) -> Vec<usize> {
    let evicted = |(index, registration): (usize, &Registration)| {
        let told = ManualTask::new(registration.evicted()).poll().is_some();
        assert_eq!(told, registration.is_evicted());
        told.then_some(index)
    };
    registrations
        .iter()
        .enumerate()
        .filter_map(evicted)
        .collect()
}

fn count(eviction: Option<Eviction>) -> Option<usize> {
    eviction.map(|eviction| eviction.count())
}

/// `EvictorSimple01`.
#[test]
fn one_container_is_evicted_for_another_function_and_enough() {
    let evictor = Evictor::new();
    let containers = idle(&evictor, key("1"), &[amount(1, 100)]);
    assert_eq!(count(evictor.evict(&key("1"), amount(1, 100))), None);
    assert_eq!(count(evictor.evict(&key("2"), amount(0, 0))), Some(0));
    assert_eq!(count(evictor.evict(&key("2"), amount(1, 101))), None);
    assert_eq!(count(evictor.evict(&key("2"), amount(2, 100))), None);
    assert!(evicted(&containers).is_empty());
    assert_eq!(count(evictor.evict(&key("2"), amount(1, 100))), Some(1));
    assert_eq!(evicted(&containers), [0]);
}

/// `EvictorSimple02`: the oldest go first, and those who are gone do not count.
#[test]
fn containers_go_in_order_and_forgotten_ones_are_ignored() {
    let evictor = Evictor::new();
    let mut containers = idle(&evictor, key("1"), &[amount(1, 100); 3]);
    drop(containers.remove(0));
    assert_eq!(count(evictor.evict(&key("2"), amount(3, 300))), None);
    assert_eq!(count(evictor.evict(&key("2"), amount(1, 100))), Some(1));
    assert_eq!(evicted(&containers), [0]);
    drop(containers.remove(0));
    assert_eq!(count(evictor.evict(&key("2"), amount(1, 100))), Some(1));
    assert_eq!(evicted(&containers), [0]);
}

/// `EvictorSimple03`.
#[test]
fn eviction_stops_as_soon_as_it_is_satisfied() {
    let evictor = Evictor::new();
    let containers = idle(&evictor, key("1"), &[amount(1, 100); 5]);
    assert_eq!(count(evictor.evict(&key("2"), amount(2, 110))), Some(2));
    assert_eq!(evicted(&containers), [0, 1]);
}

#[test]
fn a_container_that_was_used_again_is_the_last_to_go() {
    let evictor = Evictor::new();
    let containers = idle(&evictor, key("1"), &[amount(1, 0); 2]);
    assert!(containers[0].try_claim());
    containers[0].offer(Instant::now() + Duration::from_secs(60));
    assert!(evictor.evict(&key("2"), amount(1, 0)).is_some());
    assert_eq!(evicted(&containers), [1]);
}

#[test]
fn nothing_goes_that_the_others_make_unnecessary() {
    let evictor = Evictor::new();
    let containers = idle(
        &evictor,
        key("1"),
        &[amount(1, 0), amount(2, 0), amount(8, 0), amount(8, 0)],
    );
    assert_eq!(count(evictor.evict(&key("2"), amount(9, 0))), Some(2));
    assert_eq!(evicted(&containers), [0, 2]);
}

#[test]
fn who_holds_nothing_is_never_evicted() {
    let evictor = Evictor::new();
    let status = idle(&evictor, key("1"), &[amount(0, 0)]);
    let other = idle(&evictor, key("2"), &[amount(1, 0)]);
    assert_eq!(count(evictor.evict(&key("3"), amount(1, 0))), Some(1));
    assert!(evicted(&status).is_empty());
    assert_eq!(evicted(&other), [0]);
    assert_eq!(evictor.shared.containers().registered.len(), 1);
    assert!(status[0].try_claim(), "its slot works all the same");
}

#[test]
fn busy_and_starting_containers_stay() {
    let evictor = Evictor::new();
    let starting = evictor.register(key("1"), amount(1, 0));
    let busy = idle(&evictor, key("1"), &[amount(1, 0)]);
    assert!(busy[0].try_claim());
    assert_eq!(count(evictor.evict(&key("2"), amount(1, 0))), None);
    assert!(!starting.is_evicted() && !busy[0].is_evicted());
}

#[test]
fn busy_containers_yield_to_a_hungry_launch_and_no_more_than_it_needs() {
    let evictor = Evictor::new();
    let held = amount(10, 0);
    let busy: Vec<_> = (0..3).map(|_| evictor.register(key("f"), held)).collect();
    let own = evictor.register(key("g"), held);
    assert!(!busy[0].yields(), "nobody is hungry");
    let hungry = evictor.hunger(&key("g"), amount(15, 0));
    assert!(!own.yields(), "its own function is");
    assert_eq!(
        busy.iter().map(Registration::yields).collect::<Vec<_>>(),
        [true, true, false]
    );
    assert!(busy[0].is_evicted() && !busy[2].is_evicted());
    drop(hungry);
    // What leaves already counts for the next one.
    let hungry = evictor.hunger(&key("h"), amount(20, 0));
    assert!(!busy[2].yields());
    drop(hungry);
    let _hungry = evictor.hunger(&key("h"), amount(21, 0));
    assert!(busy[2].yields());
}

#[test]
fn a_container_is_taken_once_and_not_after_its_eviction() {
    let evictor = Evictor::new();
    let containers = idle(&evictor, key("1"), &[amount(1, 0); 2]);
    assert!(containers[1].try_claim());
    assert!(!containers[1].try_claim());
    assert!(evictor.evict(&key("2"), amount(1, 0)).is_some());
    assert!(!containers[0].try_claim());
    containers[0].offer(Instant::now());
    assert!(!containers[0].try_claim(), "an eviction is final");
    assert!(containers[0].is_evicted());
}

#[test]
fn each_victim_that_is_gone_is_a_reason_to_look_again() {
    let evictor = Evictor::new();
    let mut containers = idle(&evictor, key("1"), &[amount(1, 0); 2]);
    for left in [2, 1] {
        let eviction = evictor.evict(&key("2"), amount(left, 0)).expect("idle");
        let mut released = ManualTask::new(eviction.next_release());
        assert!(released.poll().is_none());
        containers.pop();
        assert!(released.is_woken());
        assert!(released.poll().is_some());
    }
    assert_eq!(count(evictor.evict(&key("2"), amount(1, 0))), None);
}

#[test]
fn an_eviction_that_nobody_waits_for_goes_on() {
    let evictor = Evictor::new();
    let containers = idle(&evictor, key("1"), &[amount(1, 0)]);
    drop(evictor.evict(&key("2"), amount(1, 0)));
    assert!(containers[0].is_evicted());
}

/// What is on its way out already is not asked for again, and is waited for.
#[test]
fn victims_on_their_way_out_count() {
    let evictor = Evictor::new();
    let mut containers = idle(&evictor, key("1"), &[amount(4, 0); 3]);
    assert_eq!(count(evictor.evict(&key("2"), amount(4, 0))), Some(1));
    let second = evictor.evict(&key("3"), amount(4, 0)).expect("on its way");
    assert_eq!(second.count(), 0);
    assert_eq!(evicted(&containers), [0]);
    let mut released = ManualTask::new(second.next_release());
    assert!(released.poll().is_none());
    assert_eq!(count(evictor.evict(&key("3"), amount(5, 0))), Some(1));
    let nothing = evictor.evict(&key("3"), amount(0, 0)).expect("nothing");
    assert!(
        ManualTask::new(nothing.next_release()).poll().is_some(),
        "it has nothing to wait for"
    );
    drop(containers.remove(0));
    assert!(released.poll().is_some(), "its victim is gone");
}

#[test]
fn a_search_hears_of_containers_that_become_idle() {
    let evictor = Evictor::new();
    let container = evictor.register(key("1"), amount(1, 0));
    let search = evictor.search();
    let mut idled = ManualTask::new(search.idled());
    assert!(idled.poll().is_none());
    container.offer(Instant::now());
    assert!(idled.is_woken());
    assert!(idled.poll().is_some());
    let unpolled = search.idled();
    assert!(container.try_claim());
    container.offer(Instant::now());
    assert!(
        ManualTask::new(unpolled).poll().is_some(),
        "a wake-up was lost"
    );
}

/// Two containers that serve calls all the time, and an evictor that wants both: it gets both or
/// none, and never one that serves a call.
#[test]
fn calls_and_evictions_never_share_a_container() {
    for _ in 0..200 {
        let evictor = Evictor::new();
        let containers = idle(&evictor, key("1"), &[amount(1, 0); 2]);
        let asker = {
            let evictor = evictor.clone();
            std::thread::spawn(move || {
                loop {
                    if let Some(eviction) = evictor.evict(&key("2"), amount(2, 0)) {
                        return eviction.count();
                    }
                    std::thread::yield_now();
                }
            })
        };
        let calls: Vec<_> = containers
            .into_iter()
            .map(|container| {
                std::thread::spawn(move || {
                    while container.try_claim() {
                        for _ in 0..10 {
                            assert!(!container.is_evicted(), "evicted during a call");
                        }
                        container.offer(Instant::now());
                        std::thread::yield_now();
                    }
                    assert!(container.is_evicted(), "the slot was lost");
                    container
                })
            })
            .collect();
        assert_eq!(asker.join().expect("no panic"), 2);
        for call in calls {
            drop(call.join().expect("no panic"));
        }
        let left = evictor.shared.containers().registered.len();
        assert_eq!(left, 0, "a registration leaked");
    }
}

fn held() -> impl Strategy<Value = Resources> {
    (0..8u64, 0..8u64).prop_map(|(memory_bytes, cpu_millis)| amount(memory_bytes, cpu_millis))
}

fn sum<'a>(held: impl IntoIterator<Item = &'a Resources>) -> Resources {
    held.into_iter()
        .copied()
        .fold(Resources::default(), Resources::saturating_add)
}

#[derive(Debug, Clone)]
struct Container {
    held: Resources,
    own: bool,
    busy: bool,
    idle_since: u64,
}

fn container() -> impl Strategy<Value = Container> {
    (held(), any::<bool>(), any::<bool>(), 0..6u64).prop_map(|(held, own, busy, idle_since)| {
        Container {
            held,
            own,
            busy,
            idle_since,
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// All or nothing; nobody who may not go; nobody who can be spared; the oldest first.
    #[test]
    fn victims_are_enough_and_none_too_many(containers in vec(container(), 0..10), missing in held()) {
        let evictor = Evictor::new();
        let start = Instant::now();
        let registrations: Vec<_> = containers
            .iter()
            .map(|container| {
                let slot_key = if container.own { key("own") } else { key("other") };
                let registration = evictor.register(slot_key, container.held);
                if !container.busy {
                    registration.offer(start + Duration::from_secs(container.idle_since));
                }
                registration
            })
            .collect();
        let may_go = |container: &&Container| !container.own && !container.busy;
        let all = sum(containers.iter().filter(may_go).map(|container| &container.held));
        let eviction = evictor.evict(&key("own"), missing);
        let victims = evicted(&registrations);
        prop_assert_eq!(eviction.is_some(), missing.fits_in(all));
        prop_assert_eq!(eviction.map_or(0, |eviction| eviction.count()), victims.len());
        let Some(newest) = victims.iter().map(|index| (containers[*index].idle_since, *index)).max() else {
            return Ok(());
        };
        for victim in &victims {
            prop_assert!(may_go(&&containers[*victim]));
            let others = victims.iter().filter(|other| *other != victim);
            let others = sum(others.map(|other| &containers[*other].held));
            prop_assert!(!missing.fits_in(others), "container {victim} could have stayed");
        }
        prop_assert!(missing.fits_in(sum(victims.iter().map(|victim| &containers[*victim].held))));
        let older = (0..).zip(&containers).filter(|(index, container): &(usize, _)| {
            may_go(container) && (container.idle_since, *index) < newest
        });
        let older = sum(older.map(|(_, container)| &container.held));
        prop_assert!(!missing.fits_in(older), "older ones would have been enough");
    }
}
