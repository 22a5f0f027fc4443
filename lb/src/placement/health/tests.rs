use proptest::prelude::*;

use super::*;

fn settings() -> FleetSettings {
    FleetSettings::default()
}

fn at(seconds: f64) -> Now {
    Now::from_secs_f64(seconds)
}

/// The state after some events, all at one time.
fn after(state: State, events: &[Event], now: Now) -> State {
    let next = |state: State, event: &Event| state.after(*event, now, true, &settings());
    events.iter().fold(state, next)
}

fn ejected(cause: Cause, until: f64, times: u32) -> State {
    State::Ejected {
        until: at(until),
        cause,
        times,
    }
}

#[test]
fn failures_in_a_row_eject_and_a_good_call_between_them_does_not() {
    use Event::{Failure, Good};
    let healthy = State::default();
    assert!(
        !after(
            healthy,
            &[Failure, Failure, Good, Failure, Failure],
            at(1.0)
        )
        .is_out()
    );
    let out = after(healthy, &[Failure, Failure, Failure], at(1.0));
    assert_eq!(out, ejected(Cause::Failures, 2.0, 1));
    assert_eq!(out.health(), Health::Ejected { until: at(2.0) });
}

#[test]
fn unanswered_health_checks_are_failures_and_answered_ones_no_good_calls() {
    use Event::{Answered, Failure, Silent};
    let state = after(
        State::default(),
        &[Silent, Answered, Failure, Answered, Silent],
        at(1.0),
    );
    assert!(state.is_out());
}

#[test]
fn a_slow_runner_is_ejected_unless_too_many_are() {
    let healthy = State::default();
    assert_eq!(
        after(healthy, &[Event::Slow], at(1.0)),
        ejected(Cause::Slow, 2.0, 1)
    );
    assert_eq!(
        healthy.after(Event::Slow, at(1.0), false, &settings()),
        healthy
    );
    let mut state = healthy;
    for _ in 0..100 {
        state = state.after(Event::Failure, at(1.0), false, &settings());
        assert!(!state.is_out());
    }
    // As soon as there is room for it, the next failure ejects it.
    assert!(
        state
            .after(Event::Failure, at(1.0), true, &settings())
            .is_out()
    );
}

#[test]
fn a_failing_runner_is_tried_after_an_answered_check() {
    let out = ejected(Cause::Failures, 2.0, 1);
    assert_eq!(after(out, &[Event::Answered], at(1.9)), out);
    assert_eq!(
        after(out, &[Event::Answered], at(2.0)).health(),
        Health::Probing
    );
    // Each unanswered one makes it longer, but not the next ejection.
    assert_eq!(
        after(out, &[Event::Silent], at(5.0)),
        ejected(Cause::Failures, 6.0, 1)
    );
}

#[test]
fn without_checks_a_failing_runner_is_tried_later() {
    let out = ejected(Cause::Failures, 2.0, 1);
    assert_eq!(out.due(&settings()), at(4.0));
    assert_eq!(after(out, &[Event::Tick], at(3.9)), out);
    assert_eq!(
        after(out, &[Event::Tick], at(4.0)).health(),
        Health::Probing
    );
}

#[test]
fn a_slow_runner_is_tried_when_its_time_is_over() {
    let out = ejected(Cause::Slow, 2.0, 1);
    assert_eq!(after(out, &[Event::Tick], at(1.9)), out);
    assert_eq!(
        after(out, &[Event::Tick], at(2.0)).health(),
        Health::Probing
    );
}

#[test]
fn old_calls_say_nothing_about_an_ejected_runner() {
    use Event::{Failure, Good, Sent, Slow, Void};
    let out = ejected(Cause::Slow, 2.0, 1);
    assert_eq!(after(out, &[Good, Failure, Slow, Sent, Void], at(5.0)), out);
}

#[test]
fn a_trial_gives_one_call_first_and_more_for_each_good_one() {
    let trial = after(ejected(Cause::Slow, 2.0, 1), &[Event::Tick], at(2.0));
    assert_eq!(trial.due(&settings()), Now::ZERO);
    let one = after(trial, &[Event::Sent], at(3.0));
    assert_eq!(
        one.due(&settings()),
        at(5.0),
        "no second call before the first has ended"
    );
    let good = after(one, &[Event::Good], at(3.0));
    assert_eq!(good.due(&settings()), Now::ZERO);
    let given_back = after(one, &[Event::Void], at(3.0));
    assert_eq!(
        given_back.due(&settings()),
        Now::ZERO,
        "a call given back is given again"
    );
    let healthy = after(good, &[Event::Good; 4], at(3.0));
    assert_eq!(healthy, State::default());
}

#[test]
fn a_bad_trial_ejects_for_longer_but_not_without_end() {
    let mut state = ejected(Cause::Slow, 2.0, 1);
    for (times, length) in [(2, 2.0), (3, 2.0), (4, 2.0)] {
        state = after(state, &[Event::Tick, Event::Sent, Event::Slow], at(10.0));
        assert_eq!(state, ejected(Cause::Slow, 10.0 + length, times));
        state = ejected(Cause::Slow, 10.0, times);
    }
    let failed = after(state, &[Event::Tick, Event::Failure], at(10.0));
    assert_eq!(failed, ejected(Cause::Failures, 12.0, 5));
}

fn any_event() -> impl Strategy<Value = Event> {
    use Event::{Answered, Failure, Good, Pardon, Sent, Silent, Slow, Tick, Void};
    prop::sample::select(vec![
        Sent, Good, Void, Failure, Slow, Answered, Silent, Tick, Pardon,
    ])
}

proptest! {
    /// Whatever has happened: a runner that is well again has its calls again, within the longest
    /// ejection, a check after it, and a few calls.
    #[test]
    fn always_readmitted(
        events in prop::collection::vec((any_event(), 0_u64..3_000), 0..200),
        probed in any::<bool>(),
    ) {
        let settings = settings();
        let (mut state, mut now) = (State::default(), Now::ZERO);
        for (event, pause) in events {
            now += Duration::from_millis(pause);
            state = state.after(event, now, true, &settings);
        }
        let mut waited = Duration::ZERO;
        while state.is_out() {
            if now < state.due(&settings) || matches!(state, State::Ejected { .. }) {
                let pause = Duration::from_millis(100);
                now += pause;
                waited += pause;
                let event = if probed { Event::Answered } else { Event::Tick };
                state = state.after(event, now, true, &settings);
                state = state.after(Event::Tick, now, true, &settings);
            }
            if matches!(state, State::Trial { .. }) && now >= state.due(&settings) {
                state = state.after(Event::Sent, now, true, &settings);
                state = state.after(Event::Good, now, true, &settings);
            }
            prop_assert!(waited <= settings.eject_longest * (UNPROBED + 2), "still {state:?}");
        }
    }

    /// Nobody is ejected who may not be.
    #[test]
    fn never_ejected_beyond_the_limit(events in prop::collection::vec(any_event(), 0..200)) {
        let mut state = State::default();
        for event in events {
            state = state.after(event, Now::ZERO, false, &settings());
            prop_assert!(!state.is_out());
        }
    }
}
