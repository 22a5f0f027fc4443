use super::*;
use crate::placement::{Ended, FleetSettings, FunctionState, NodeLoad, RunnerState};
use crate::simulator::world::slot_key;
use std::time::Duration;

const NOW: Now = Now::from_secs(1_000);

fn fleet(runners: usize, random: u64) -> (Fleet, Vec<RunnerId>) {
    let fleet = Fleet::new(FleetSettings::default(), random);
    let names: Vec<_> = (0..runners)
        .map(|n| format!("10.0.0.{n:03}:9190"))
        .collect();
    let ids = fleet.add_all(names.iter().map(|name| (name.as_str(), 1)), NOW);
    (fleet, ids)
}

fn ask<'a>(fn_id: &'a str, tried: &'a [RunnerId]) -> Ask<'a> {
    Ask {
        slot_key: slot_key(1),
        fn_id,
        memory_mb: 128,
        tried,
    }
}

fn tell(fleet: &Fleet, runner: RunnerId, idle: u32, wait: Duration, running: u32) {
    let function = FunctionState {
        slot_key: slot_key(1),
        idle,
        busy: 1,
        waiting: 0,
        wait,
    };
    let load = NodeLoad {
        running,
        cpu_total_millis: 8_000,
        ..NodeLoad::default()
    };
    let state = RunnerState {
        complete: true,
        functions: vec![function],
        load: Some(load),
        draining: false,
    };
    fleet.state(runner, &state, NOW);
}

#[test]
fn a_runner_with_an_idle_container_comes_first() {
    let (fleet, ids) = fleet(100, 1);
    for id in &ids {
        tell(&fleet, *id, 0, Duration::ZERO, 4);
    }
    tell(&fleet, ids[77], 1, Duration::ZERO, 4);
    assert_eq!(Ewma.choose(&fleet, &ask("fn", &[]), NOW), Some(ids[77]));
    // Its only one: the next call goes elsewhere.
    fleet.begun(ids[77], &slot_key(1), NOW);
    assert_ne!(Ewma.choose(&fleet, &ask("fn", &[]), NOW), Some(ids[77]));
}

#[test]
fn of_several_the_less_loaded_is_taken() {
    let (fleet, ids) = fleet(10, 1);
    for (n, id) in ids[..4].iter().enumerate() {
        tell(&fleet, *id, 1, Duration::ZERO, 8 - n as u32);
    }
    assert_eq!(Ewma.choose(&fleet, &ask("fn", &[]), NOW), Some(ids[3]));
    assert_eq!(
        Ewma.choose(&fleet, &ask("fn", &[ids[3]]), NOW),
        Some(ids[2])
    );
}

#[test]
fn load_balancers_that_know_nothing_agree_on_a_function_s_home() {
    let (one, _) = fleet(50, 1);
    let (other, _) = fleet(50, 2);
    let mut homes = std::collections::BTreeSet::new();
    for n in 0..50 {
        let fn_id = format!("fn-{n}");
        let home = Ewma.choose(&one, &ask(&fn_id, &[]), NOW);
        assert_eq!(home, Ewma.choose(&other, &ask(&fn_id, &[]), NOW));
        homes.insert(home);
    }
    assert!(homes.len() > 20, "functions have different homes");
}

#[test]
fn load_and_wait_above_the_bound_send_a_call_to_the_next() {
    let (fleet, ids) = fleet(20, 1);
    let home = Ewma
        .choose(&fleet, &ask("fn", &[]), NOW)
        .expect("all are free");
    let next = Ewma
        .choose(&fleet, &ask("fn", &[home]), NOW)
        .expect("all are free");
    for id in &ids {
        tell(&fleet, *id, 0, Duration::ZERO, 4);
    }
    tell(&fleet, home, 0, Duration::ZERO, 5);
    assert_eq!(
        Ewma.choose(&fleet, &ask("fn", &[]), NOW),
        Some(next),
        "load"
    );
    tell(&fleet, home, 0, Duration::from_millis(50), 4);
    assert_eq!(
        Ewma.choose(&fleet, &ask("fn", &[]), NOW),
        Some(home),
        "as loaded as all"
    );
    tell(&fleet, home, 0, Duration::from_millis(500), 4);
    assert_eq!(
        Ewma.choose(&fleet, &ask("fn", &[]), NOW),
        Some(next),
        "wait"
    );
    let later = NOW + Duration::from_secs(6);
    assert_eq!(
        Ewma.choose(&fleet, &ask("fn", &[]), later),
        Some(home),
        "the wait has faded"
    );
}

#[test]
fn when_all_homes_are_loaded_a_less_loaded_one_is_found() {
    let (fleet, ids) = fleet(20, 1);
    let mut homes = Vec::new();
    let members = fleet.members();
    homes.extend(
        members
            .ring()
            .candidates("fn")
            .take(CANDIDATES)
            .map(|runner| runner.id),
    );
    for id in &ids {
        let running = if homes.contains(id) { 20 } else { 4 };
        tell(&fleet, *id, 0, Duration::ZERO, running);
    }
    for _ in 0..100 {
        let chosen = Ewma
            .choose(&fleet, &ask("fn", &[]), NOW)
            .expect("most are free");
        assert!(!homes.contains(&chosen));
    }
}

#[test]
fn a_pass_ends_after_two_and_a_full_fleet_is_left_alone_for_a_while() {
    let (fleet, ids) = fleet(5, 1);
    assert_eq!(Ewma.choose(&fleet, &ask("fn", &ids[..2]), NOW), None);
    for id in &ids {
        fleet.begun(*id, &slot_key(1), NOW);
        fleet.ended(*id, &slot_key(1), Ended::Refused, NOW);
    }
    assert_eq!(Ewma.choose(&fleet, &ask("fn", &[]), NOW), None);
    let again = fleet.wake_at(NOW);
    assert!(Ewma.choose(&fleet, &ask("fn", &[]), again).is_some());
    // An idle container is news, refusal or not.
    tell(&fleet, ids[3], 1, Duration::ZERO, 4);
    assert_eq!(Ewma.choose(&fleet, &ask("fn", &[]), NOW), Some(ids[3]));
}

#[test]
fn without_runners_there_is_none() {
    let (fleet, _) = fleet(0, 1);
    assert_eq!(Ewma.choose(&fleet, &ask("fn", &[]), NOW), None);
}

#[test]
fn a_single_runner_is_always_found() {
    let (fleet, ids) = fleet(1, 1);
    tell(&fleet, ids[0], 0, Duration::from_secs(60), 500);
    assert_eq!(Ewma.choose(&fleet, &ask("fn", &[]), NOW), Some(ids[0]));
}
