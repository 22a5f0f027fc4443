//! Idle containers are counted from what runners tell and from our own calls, none of them twice.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;

fn idle(fleet: &Fleet, n: usize) -> u32 {
    fleet
        .function(&slot_key(n), |function| function.idle_in_all())
        .unwrap_or(0)
}

#[test]
fn a_call_takes_an_idle_container_and_leaves_one() {
    let (fleet, ids) = fleet(1);
    fleet.state(ids[0], &told(true, &[holds(1, 2, 0)]), START);
    assert_eq!(idle(&fleet, 1), 2);
    fleet.begun(ids[0], &slot_key(1), START);
    assert_eq!(idle(&fleet, 1), 1);
    fleet.ended(ids[0], &slot_key(1), done(), START);
    assert_eq!(idle(&fleet, 1), 2);
}

#[test]
fn a_report_that_was_made_before_our_call_arrived_does_not_give_its_container_away() {
    let (fleet, ids) = fleet(1);
    fleet.begun(ids[0], &slot_key(1), START);
    fleet.state(ids[0], &told(false, &[holds(1, 1, 0)]), START);
    assert_eq!(idle(&fleet, 1), 0);
    fleet.ended(ids[0], &slot_key(1), done(), START);
    assert_eq!(idle(&fleet, 1), 1);
}

#[test]
fn a_report_that_was_made_after_our_call_had_ended_is_not_counted_again() {
    let (fleet, ids) = fleet(1);
    fleet.begun(ids[0], &slot_key(1), START);
    fleet.state(ids[0], &told(false, &[holds(1, 0, 1)]), START);
    assert_eq!(idle(&fleet, 1), 0);
    // The runner tells that it is idle before its answer is here.
    fleet.state(ids[0], &told(false, &[holds(1, 1, 0)]), START);
    fleet.ended(ids[0], &slot_key(1), done(), START);
    assert_eq!(idle(&fleet, 1), 1);
}

#[test]
fn calls_that_shared_a_container_leave_one() {
    let (fleet, ids) = fleet(1);
    (0..3).for_each(|_| fleet.begun(ids[0], &slot_key(1), START));
    let queue = FunctionState {
        waiting: 2,
        ..holds(1, 0, 1)
    };
    fleet.state(ids[0], &told(false, &[queue]), START);
    for _ in 0..3 {
        assert_eq!(idle(&fleet, 1), 0);
        fleet.ended(ids[0], &slot_key(1), done(), START);
    }
    assert_eq!(idle(&fleet, 1), 1);
}

#[test]
fn what_a_complete_report_does_not_name_is_not_there() {
    let (fleet, ids) = fleet(2);
    fleet.state(
        ids[0],
        &told(true, &[holds(1, 1, 0), holds(2, 1, 0)]),
        START,
    );
    fleet.state(ids[1], &told(true, &[holds(1, 1, 0)]), START);
    fleet.state(ids[0], &told(true, &[holds(2, 1, 0)]), START);
    assert_eq!(warm(&fleet, 1, START), [ids[1]]);
    assert_eq!(warm(&fleet, 2, START), [ids[0]]);
    // And a report of changes says nothing about the others.
    fleet.state(ids[0], &told(false, &[holds(1, 1, 0)]), START);
    assert_eq!(idle(&fleet, 2), 1);
    fleet.state(ids[0], &told(false, &[holds(2, 0, 0)]), START);
    assert_eq!(idle(&fleet, 2), 0);
}

#[test]
fn only_a_served_call_leaves_a_container() {
    for how in [
        Ended::Refused,
        Ended::Unreachable,
        Ended::Failed,
        Ended::Cancelled,
    ] {
        let (fleet, ids) = fleet(1);
        fleet.begun(ids[0], &slot_key(1), START);
        fleet.ended(ids[0], &slot_key(1), how, START);
        assert_eq!(idle(&fleet, 1), 0, "{how:?}");
        assert_eq!(fleet.runners(START)[0].in_flight, 0, "{how:?}");
    }
}

#[test]
fn who_refuses_has_no_idle_container() {
    let (fleet, ids) = fleet(1);
    fleet.state(ids[0], &told(true, &[holds(1, 5, 0)]), START);
    fleet.begun(ids[0], &slot_key(1), START);
    fleet.ended(ids[0], &slot_key(1), Ended::Refused, START);
    assert_eq!(idle(&fleet, 1), 0);
}

#[test]
fn our_calls_in_a_report_of_load_are_not_counted_twice() {
    let (fleet, ids) = fleet(1);
    (0..3).for_each(|_| fleet.begun(ids[0], &slot_key(1), START));
    let load = |running| RunnerState {
        load: Some(NodeLoad {
            running,
            ..NodeLoad::default()
        }),
        ..RunnerState::default()
    };
    fleet.state(ids[0], &load(5), START);
    assert_eq!((fleet.runners(START)[0].load, fleet.load()), (5, 5.0));
    // A report from before our calls came.
    fleet.state(ids[0], &load(1), START);
    assert_eq!((fleet.runners(START)[0].load, fleet.load()), (3, 3.0));
    fleet.state(ids[0], &load(5), START);
    fleet.ended(ids[0], &slot_key(1), done(), START);
    assert_eq!((fleet.runners(START)[0].load, fleet.load()), (4, 4.0));
}

/// What can happen between one load balancer and one runner with a fixed number of containers.
#[derive(Debug, Clone, Copy)]
enum Step {
    Send,
    Arrive,
    Serve,
    Answer,
    Report,
    Deliver,
}

proptest! {
    /// However calls, answers and reports overtake each other: there are never more idle containers
    /// than containers, and when all have arrived the count is right.
    #[test]
    fn idle_containers_are_never_made_up(
        steps in prop::collection::vec(
            prop::sample::select(vec![
                Step::Send, Step::Arrive, Step::Serve, Step::Answer, Step::Report, Step::Deliver,
            ]),
            0..300,
        ),
        containers in 1_u32..5,
    ) {
        let (fleet, ids) = fleet(1);
        let (id, key) = (ids[0], slot_key(1));
        fleet.state(id, &told(true, &[holds(1, containers, 0)]), START);
        let (mut sent, mut busy, mut served) = (0_u32, 0_u32, 0_u32);
        let mut reports = VecDeque::new();
        let report = |busy: u32| holds(1, containers - busy, busy);
        for step in steps {
            match step {
                // As many as there are containers, so that the runner never starts another one.
                Step::Send if sent + busy + served < containers => {
                    fleet.begun(id, &key, START);
                    sent += 1;
                }
                Step::Arrive if sent > 0 && busy < containers => (sent, busy) = (sent - 1, busy + 1),
                Step::Serve if busy > 0 => (busy, served) = (busy - 1, served + 1),
                Step::Answer if served > 0 => {
                    fleet.ended(id, &key, done(), START);
                    served -= 1;
                }
                Step::Report => reports.push_back(report(busy)),
                Step::Deliver => {
                    if let Some(report) = reports.pop_front() {
                        fleet.state(id, &told(false, &[report]), START);
                    }
                }
                _ => {}
            }
            let open = sent + busy + served;
            prop_assert!(idle(&fleet, 1) <= containers - open, "{open} of {containers} are taken");
            prop_assert_eq!(fleet.runners(START)[0].in_flight, open);
        }
        (0..sent + busy + served).for_each(|_| fleet.ended(id, &key, done(), START));
        fleet.state(id, &told(false, &[report(0)]), START);
        prop_assert_eq!(idle(&fleet, 1), containers);
        prop_assert_eq!(fleet.load(), 0.0);
    }
}
