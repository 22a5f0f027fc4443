//! A pass of `ch` and of `naive` (spec/07 7.5).

use super::*;
use crate::placement::{FleetSettings, PlacerKind, RunnerState};
use crate::simulator::world::slot_key;

fn pass(kind: PlacerKind, fleet: &Fleet, fn_id: &str, now: Now) -> Vec<RunnerId> {
    let placer = kind.placer();
    let mut tried = Vec::new();
    loop {
        let ask = Ask {
            slot_key: slot_key(1),
            fn_id,
            memory_mb: 128,
            tried: &tried,
        };
        match placer.choose(fleet, &ask, now) {
            Some(runner) => tried.push(runner),
            None => return tried,
        }
    }
}

fn fleet() -> (Fleet, Vec<RunnerId>) {
    let fleet = Fleet::new(FleetSettings::default(), 1);
    let names: Vec<_> = (0..10).map(|n| format!("10.0.0.{n}:9190")).collect();
    let ids = fleet.add_all(names.iter().map(|name| (name.as_str(), 1)), Now::ZERO);
    (fleet, ids)
}

#[test]
fn ch_asks_all_from_the_home_on() {
    let (fleet, ids) = fleet();
    // The home among ten of this id is the fifth: see the golden values of the hash.
    let asked = pass(
        PlacerKind::Ch,
        &fleet,
        "01DBJ2C3X6NG8G00GZJ0000002",
        Now::ZERO,
    );
    let expected: Vec<_> = (0..10).map(|step| ids[(4 + step) % 10]).collect();
    assert_eq!(asked, expected);
}

#[test]
fn naive_asks_all_from_the_nanosecond_on() {
    let (fleet, ids) = fleet();
    let asked = pass(PlacerKind::Naive, &fleet, "fn", Now::from_nanos(1_237));
    let expected: Vec<_> = (0..10).map(|step| ids[(7 + step) % 10]).collect();
    assert_eq!(asked, expected);
}

#[test]
fn both_pass_over_who_takes_no_calls() {
    let (fleet, ids) = fleet();
    let draining = RunnerState {
        draining: true,
        ..RunnerState::default()
    };
    fleet.state(ids[5], &draining, Now::ZERO);
    for kind in [PlacerKind::Ch, PlacerKind::Naive] {
        let asked = pass(kind, &fleet, "fn", Now::ZERO);
        assert_eq!(asked.len(), 9);
        assert!(!asked.contains(&ids[5]));
    }
}

#[test]
fn names_are_those_of_the_setting() {
    for kind in [PlacerKind::Ewma, PlacerKind::Ch, PlacerKind::Naive] {
        assert_eq!(kind.to_string().parse(), Ok(kind));
    }
    let error = "best".parse::<PlacerKind>().expect_err("no such placer");
    assert_eq!(
        error.to_string(),
        "unknown placer \"best\": ewma, ch and naive are known"
    );
}
