//! Who is ejected, and that some are always left.

use proptest::prelude::*;

use super::*;
use crate::placement::{Ask, PlacerKind};
use crate::simulator::dice::Dice;

fn out(fleet: &Fleet) -> usize {
    let healths = fleet.runners(START).into_iter().map(|runner| runner.health);
    healths
        .filter(|health| matches!(health, Health::Ejected { .. } | Health::Probing))
        .count()
}

fn fail(fleet: &Fleet, runner: RunnerId, times: u32) {
    for _ in 0..times {
        fleet.begun(runner, &slot_key(1), START);
        fleet.ended(runner, &slot_key(1), Ended::Failed, START);
    }
}

#[test]
fn at_most_half_are_ejected() {
    for (runners, most) in [(0, 0), (1, 0), (2, 1), (3, 1), (11, 5)] {
        let (fleet, ids) = fleet(runners);
        ids.iter().for_each(|id| fail(&fleet, *id, 10));
        assert_eq!(out(&fleet), most, "of {runners}");
    }
}

#[test]
fn a_fleet_that_becomes_smaller_takes_ejected_ones_back() {
    let (fleet, ids) = fleet(6);
    ids[..3].iter().for_each(|id| fail(&fleet, *id, 3));
    assert_eq!(out(&fleet), 3);
    fleet.remove_all(&ids[3..5], START);
    assert_eq!(out(&fleet), 2);
    assert_eq!(
        fleet.health(ids[0]),
        Some(Health::Healthy),
        "the one that was out longest"
    );
    let draining = RunnerState {
        draining: true,
        ..RunnerState::default()
    };
    fleet.state(ids[5], &draining, START);
    assert_eq!(out(&fleet), 1);
}

#[test]
fn a_removed_runner_makes_room_for_another_ejection() {
    let (fleet, ids) = fleet(5);
    ids.iter().for_each(|id| fail(&fleet, *id, 3));
    assert_eq!(out(&fleet), 2);
    fleet.remove(ids[0], START);
    assert_eq!(out(&fleet), 1);
    fail(&fleet, ids[3], 1);
    assert_eq!(out(&fleet), 2);
}

#[test]
fn refusals_and_callers_that_give_up_are_no_failures() {
    let (fleet, ids) = fleet(3);
    for how in [Ended::Refused, Ended::Cancelled] {
        for _ in 0..100 {
            fleet.begun(ids[0], &slot_key(1), START);
            fleet.ended(ids[0], &slot_key(1), how, START);
        }
    }
    assert_eq!(out(&fleet), 0);
}

/// Plays calls of the same functions on all runners; the time of one of them is multiplied.
fn play(fleet: &Fleet, ids: &[RunnerId], dice: &mut Dice, calls: usize, slow: (usize, f64)) {
    for n in 0..calls {
        let runner = n % ids.len();
        let factor = if runner == slow.0 { slow.1 } else { 1.0 };
        let took = Duration::from_secs_f64(0.02 * dice.log_normal(0.0, 0.5) * factor);
        let how = Ended::Done {
            wait: Duration::ZERO,
            pulled: false,
            took,
            execution: took,
        };
        fleet.begun(ids[runner], &slot_key(n % 3), START);
        fleet.ended(ids[runner], &slot_key(n % 3), how, START);
    }
}

#[test]
fn one_that_is_slow_beside_the_others_is_ejected_and_all_slow_together_are_not() {
    let (fleet, ids) = fleet(11);
    let mut dice = Dice::new(3, 3);
    play(&fleet, &ids, &mut dice, 2_000, (0, 1.0));
    assert_eq!(out(&fleet), 0);
    for runner in 0..ids.len() {
        play(&fleet, &ids, &mut dice, 200, (runner, 1.0));
    }
    // All of them ten times slower at once.
    for _ in 0..10 {
        for (n, id) in ids.iter().enumerate() {
            play(&fleet, &[*id], &mut dice, 3, (0, 10.0));
            assert_eq!(out(&fleet), 0, "runner {n}");
        }
    }
    play(&fleet, &ids, &mut dice, 5_000, (0, 1.0));
    play(&fleet, &ids, &mut dice, 11 * 15, (4, 10.0));
    assert!(matches!(fleet.health(ids[4]), Some(Health::Ejected { .. })));
    assert_eq!(out(&fleet), 1);
}

#[test]
fn every_placer_brings_an_ejected_runner_back() {
    for kind in [PlacerKind::Ewma, PlacerKind::Ch, PlacerKind::Naive] {
        let (fleet, ids) = fleet(4);
        fail(&fleet, ids[2], 3);
        assert_eq!(out(&fleet), 1);
        let placer = kind.placer();
        let mut now = START;
        let mut tried = 0;
        while out(&fleet) > 0 {
            now += ms(100);
            fleet.tidy(now);
            fleet.probed(ids[2], true, ms(1), now);
            let ask = Ask {
                slot_key: slot_key(1),
                fn_id: "fn",
                memory_mb: 128,
                tried: &[],
            };
            let chosen = placer.choose(&fleet, &ask, now).expect("three are well");
            tried += usize::from(chosen == ids[2]);
            fleet.begun(chosen, &slot_key(1), now);
            fleet.ended(chosen, &slot_key(1), done(), now);
            assert!(now < START + Duration::from_secs(60), "{kind}");
        }
        assert_eq!(tried, 5, "{kind}");
    }
}

#[test]
fn trials_are_a_small_share_of_all_calls() {
    let (fleet, ids) = fleet(20);
    ids[..10].iter().for_each(|id| fail(&fleet, *id, 3));
    let placer = PlacerKind::Ewma.placer();
    let (mut now, mut trials) = (START, 0);
    for n in 0..100_000 {
        now += ms(1);
        if n % 1_000 == 0 {
            fleet.tidy(now);
        }
        let ask = Ask {
            slot_key: slot_key(1),
            fn_id: "fn",
            memory_mb: 128,
            tried: &[],
        };
        let chosen = placer.choose(&fleet, &ask, now).expect("ten are well");
        fleet.begun(chosen, &slot_key(1), now);
        let bad = ids[..10].contains(&chosen);
        trials += usize::from(bad);
        let how = if bad { Ended::Failed } else { done() };
        fleet.ended(chosen, &slot_key(1), how, now);
    }
    // Five in a thousand, one every five seconds, and those that were saved up.
    assert!((100..=500 + 20 + 5).contains(&trials), "{trials}");
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Call(usize, u8),
    Probe(usize, bool),
    Drain(usize, bool),
    Remove(usize),
    Add,
    Pass(u64),
    Choose(u8),
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0_usize..8, 0_u8..5).prop_map(|(runner, how)| Step::Call(runner, how)),
        2 => (0_usize..8, any::<bool>()).prop_map(|(runner, ok)| Step::Probe(runner, ok)),
        1 => (0_usize..8, any::<bool>()).prop_map(|(runner, on)| Step::Drain(runner, on)),
        1 => (0_usize..8).prop_map(Step::Remove),
        1 => Just(Step::Add),
        2 => (0_u64..3_000).prop_map(Step::Pass),
        8 => (0_u8..3).prop_map(Step::Choose),
    ]
}

proptest! {
    /// Whatever happens: at most half of those that take calls are out; a placer never chooses one
    /// that was tried, is ejected or draining; and its first choice is none only if there is none.
    #[test]
    fn some_are_always_left(steps in prop::collection::vec(any_step(), 0..300)) {
        let (fleet, mut ids) = fleet(6);
        let (mut now, mut names) = (START, 0);
        for step in steps {
            let pick = |n: usize| ids.get(n % ids.len().max(1)).copied();
            match step {
                Step::Call(runner, how) => {
                    if let Some(id) = pick(runner) {
                        let how = [
                            done(), Ended::Refused, Ended::Unreachable, Ended::Failed, Ended::Cancelled,
                        ][usize::from(how)];
                        fleet.begun(id, &slot_key(1), now);
                        fleet.ended(id, &slot_key(1), how, now);
                    }
                }
                Step::Probe(runner, ok) => {
                    pick(runner).into_iter().for_each(|id| fleet.probed(id, ok, ms(1), now));
                }
                Step::Drain(runner, draining) => {
                    let state = RunnerState { draining, ..RunnerState::default() };
                    pick(runner).into_iter().for_each(|id| fleet.state(id, &state, now));
                }
                Step::Remove(runner) => {
                    if let Some(id) = pick(runner) {
                        fleet.remove(id, now);
                        ids.retain(|other| *other != id);
                    }
                }
                Step::Add => {
                    names += 1;
                    ids.push(fleet.add(&format!("10.1.0.{names}:9190"), 1, now));
                }
                Step::Pass(millis) => {
                    now += ms(millis);
                    fleet.tidy(now);
                }
                Step::Choose(kind) => {
                    let kinds = [PlacerKind::Ewma, PlacerKind::Ch, PlacerKind::Naive];
                    let kind = kinds[usize::from(kind)];
                    let placer = kind.placer();
                    let mut tried: Vec<RunnerId> = Vec::new();
                    loop {
                        let before: Vec<_> = fleet.runners(now);
                        let healthy = before.iter().filter(|runner| {
                            runner.health == Health::Healthy && !tried.contains(&runner.id)
                        });
                        let ask = Ask { slot_key: slot_key(1), fn_id: "fn", memory_mb: 128, tried: &tried };
                        let Some(chosen) = placer.choose(&fleet, &ask, now) else {
                            if kind == PlacerKind::Ewma {
                                // Two at most, and none that refused a moment ago.
                                let refused = healthy.clone().all(|runner| {
                                    fleet.members().get(runner.id).is_some_and(|one| one.is_full(now))
                                });
                                prop_assert!(tried.len() >= 2 || refused);
                            } else {
                                prop_assert_eq!(healthy.count(), 0);
                            }
                            break;
                        };
                        prop_assert!(!tried.contains(&chosen));
                        let health = fleet.health(chosen);
                        prop_assert!(
                            matches!(health, Some(Health::Healthy | Health::Probing)), "{health:?}",
                        );
                        tried.push(chosen);
                        prop_assert!(tried.len() <= ids.len());
                    }
                }
            }
            let taking = fleet.runners(now).into_iter().filter(|one| one.health != Health::Draining);
            prop_assert!(out(&fleet) <= taking.count() / 2);
        }
    }
}
