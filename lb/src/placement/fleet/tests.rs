//! What the fleet knows after what it was told.

mod counting;
mod ejecting;

use super::*;
use crate::placement::{FunctionState, NodeLoad};
use crate::simulator::world::slot_key;

const START: Now = Now::from_secs(1_000);

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn fleet(runners: usize) -> (Fleet, Vec<RunnerId>) {
    let fleet = Fleet::new(FleetSettings::default(), 42);
    let names: Vec<_> = (0..runners)
        .map(|n| format!("10.0.0.{n:03}:9190"))
        .collect();
    let ids = fleet.add_all(names.iter().map(|name| (name.as_str(), 1)), START);
    (fleet, ids)
}

fn holds(n: usize, idle: u32, busy: u32) -> FunctionState {
    FunctionState {
        slot_key: slot_key(n),
        idle,
        busy,
        waiting: 0,
        wait: Duration::ZERO,
    }
}

fn told(complete: bool, functions: &[FunctionState]) -> RunnerState {
    RunnerState {
        complete,
        functions: functions.to_vec(),
        ..RunnerState::default()
    }
}

fn done() -> Ended {
    Ended::Done {
        wait: ms(1),
        pulled: false,
        took: ms(11),
        execution: ms(10),
    }
}

/// Runners that are believed to have an idle container of the nth function.
fn warm(fleet: &Fleet, n: usize, now: Now) -> Vec<RunnerId> {
    let since = now.saturating_sub(fleet.settings().warm_without_feed);
    let ids = fleet.function(&slot_key(n), |function| {
        function.warm(0, since).map(|runner| runner.id).collect()
    });
    ids.unwrap_or_default()
}

#[test]
fn a_removed_runner_leaves_nothing_and_late_news_of_it_are_ignored() {
    let (fleet, ids) = fleet(3);
    let gone = ids[1];
    fleet.begun(gone, &slot_key(1), START);
    fleet.begun(gone, &slot_key(1), START);
    fleet.ended(gone, &slot_key(1), done(), START);
    fleet.state(gone, &told(true, &[holds(2, 1, 0)]), START);
    assert!(fleet.places() > 0 && fleet.load() > 0.0);

    fleet.remove(gone, START);
    let nothing_left = || {
        assert_eq!((fleet.places(), fleet.len()), (0, 2));
        assert_eq!(fleet.load(), 0.0);
        assert_eq!(fleet.health(gone), None);
        assert!(fleet.runners(START).iter().all(|runner| runner.id != gone));
        assert!(warm(&fleet, 1, START).is_empty() && warm(&fleet, 2, START).is_empty());
    };
    nothing_left();
    fleet.ended(gone, &slot_key(1), done(), START);
    fleet.begun(gone, &slot_key(1), START);
    fleet.state(gone, &told(true, &[holds(2, 1, 0)]), START);
    fleet.probed(gone, false, ms(1), START);
    fleet.feed_lost(gone, START);
    fleet.remove(gone, START);
    nothing_left();
}

#[test]
fn the_same_address_is_a_new_runner_the_second_time() {
    let (fleet, ids) = fleet(1);
    fleet.begun(ids[0], &slot_key(1), START);
    fleet.remove(ids[0], START);
    let again = fleet.add("10.0.0.000:9190", 1, START);
    assert_ne!(again, ids[0]);
    fleet.ended(ids[0], &slot_key(1), done(), START);
    assert_eq!(fleet.runners(START)[0].in_flight, 0);
    assert!(warm(&fleet, 1, START).is_empty());
}

#[test]
fn an_average_dies_with_its_runner() {
    let (fleet, ids) = fleet(1);
    let slow = Ended::Done {
        wait: ms(900),
        pulled: false,
        took: ms(901),
        execution: ms(1),
    };
    fleet.begun(ids[0], &slot_key(1), START);
    fleet.ended(ids[0], &slot_key(1), slow, START);
    assert_eq!(fleet.runners(START)[0].wait, ms(900));
    fleet.remove(ids[0], START);
    fleet.add("10.0.0.000:9190", 1, START);
    assert_eq!(fleet.runners(START)[0].wait, Duration::ZERO);
}

#[test]
fn the_wait_of_a_call_that_pulled_says_nothing() {
    let (fleet, ids) = fleet(1);
    let pulled = Ended::Done {
        wait: ms(9_000),
        pulled: true,
        took: ms(9_001),
        execution: ms(1),
    };
    fleet.begun(ids[0], &slot_key(1), START);
    fleet.ended(ids[0], &slot_key(1), pulled, START);
    let half_life = fleet.settings().wait_half_life;
    let wait = fleet.function(&slot_key(1), |function| {
        function.wait(ids[0], START, half_life)
    });
    assert_eq!(wait, Some(0.0));
    assert_eq!(fleet.runners(START)[0].wait, Duration::ZERO);
}

#[test]
fn waits_are_those_of_a_runner_and_a_function_and_fade() {
    let (fleet, ids) = fleet(2);
    let slow = Ended::Done {
        wait: ms(800),
        pulled: false,
        took: ms(801),
        execution: ms(1),
    };
    fleet.begun(ids[0], &slot_key(1), START);
    fleet.ended(ids[0], &slot_key(1), slow, START);
    let wait = |runner, n, now| {
        let half_life = fleet.settings().wait_half_life;
        let wait = fleet.function(&slot_key(n), |function| {
            function.wait(runner, now, half_life)
        });
        wait.unwrap_or(0.0)
    };
    assert!((wait(ids[0], 1, START) - 0.8).abs() < 1e-9);
    assert_eq!(wait(ids[1], 1, START), 0.0);
    assert_eq!(wait(ids[0], 2, START), 0.0);
    let later = START + fleet.settings().wait_half_life;
    assert!((wait(ids[0], 1, later) - 0.4).abs() < 1e-9);
}

#[test]
fn what_nobody_used_or_told_of_is_forgotten() {
    let (fleet, ids) = fleet(2);
    fleet.begun(ids[0], &slot_key(1), START);
    fleet.begun(ids[0], &slot_key(2), START);
    fleet.ended(ids[0], &slot_key(2), done(), START);
    fleet.state(ids[1], &told(true, &[holds(3, 1, 0)]), START);
    assert_eq!(fleet.places(), 3);
    let later = START + Duration::from_secs(3_600);
    fleet.tidy(later);
    // A call that is still there, and what a runner tells of as long as it tells.
    assert_eq!(fleet.places(), 2);
    assert_eq!(warm(&fleet, 3, later), [ids[1]]);
    fleet.feed_lost(ids[1], later);
    fleet.tidy(later + Duration::from_secs(3_600));
    assert_eq!(fleet.places(), 1);
}

#[test]
fn memory_is_bounded_whatever_runners_tell() {
    let settings = FleetSettings {
        places: 640,
        ..FleetSettings::default()
    };
    let fleet = Fleet::new(settings, 1);
    let id = fleet.add("10.0.0.1:9190", 1, START);
    let many: Vec<_> = (0..5_000).map(|n| holds(n, 1, 0)).collect();
    fleet.state(id, &told(true, &many), START);
    assert!(fleet.places() <= 640);
    // Calls of functions that are not remembered are counted for the runner all the same.
    for n in 0..5_000 {
        fleet.begun(id, &slot_key(n), START);
    }
    assert_eq!(fleet.runners(START)[0].in_flight, 5_000);
    for n in 0..5_000 {
        fleet.ended(id, &slot_key(n), done(), START);
    }
    assert_eq!(fleet.runners(START)[0].in_flight, 0);
    fleet.state(id, &told(true, &[]), START);
    fleet.tidy(START + Duration::from_secs(3_600));
    assert_eq!(fleet.places(), 0);
}

#[test]
fn a_lost_feed_leaves_what_answers_say() {
    let (fleet, ids) = fleet(1);
    let load = Some(NodeLoad {
        running: 9,
        waiting: 1,
        ..NodeLoad::default()
    });
    let state = RunnerState {
        load,
        ..told(true, &[holds(1, 2, 0)])
    };
    fleet.state(ids[0], &state, START);
    assert_eq!((fleet.runners(START)[0].load, fleet.load()), (10, 10.0));
    fleet.feed_lost(ids[0], START);
    assert_eq!((fleet.runners(START)[0].load, fleet.load()), (0, 0.0));
    // Its idle containers are believed in for a while.
    assert_eq!(warm(&fleet, 1, START + ms(100)), [ids[0]]);
    assert!(warm(&fleet, 1, START + Duration::from_secs(60)).is_empty());
}

#[test]
fn a_draining_runner_that_comes_back_without_a_feed_takes_calls_again() {
    let (fleet, ids) = fleet(1);
    let draining = RunnerState {
        draining: true,
        ..RunnerState::default()
    };
    fleet.state(ids[0], &draining, START);
    fleet.probed(ids[0], true, ms(1), START);
    assert_eq!(fleet.health(ids[0]), Some(Health::Draining));
    fleet.feed_lost(ids[0], START);
    assert_eq!(fleet.health(ids[0]), Some(Health::Draining));
    fleet.probed(ids[0], true, ms(1), START);
    assert_eq!(fleet.health(ids[0]), Some(Health::Healthy));
}

#[test]
fn each_change_that_could_make_room_is_told() {
    let (fleet, ids) = fleet(1);
    let mut last = fleet.generation();
    let mut changed = |what: &str| {
        let now = fleet.generation();
        assert_ne!(now, last, "{what}");
        last = now;
    };
    fleet.begun(ids[0], &slot_key(1), START);
    fleet.ended(ids[0], &slot_key(1), done(), START);
    changed("an end");
    fleet.state(ids[0], &told(false, &[]), START);
    changed("a state");
    fleet.probed(ids[0], true, ms(1), START);
    changed("a probe");
    fleet.add("10.0.0.2:9190", 1, START);
    changed("another runner");
    // And never later than this without one.
    assert!(fleet.wake_at(START) <= START + fleet.settings().refused_pause);
}
