use super::*;
use crate::simulator::dice::Dice;
use crate::simulator::world::slot_key;

const RUNNERS: usize = 11;

/// Calls of functions on runners, each with the time that `factor` makes of its usual one.
struct Calls {
    usual: Vec<Usual>,
    runners: Vec<Slowness>,
    dice: Dice,
    now: Now,
}

impl Calls {
    fn new(functions: usize) -> Self {
        Self {
            usual: vec![Usual::default(); functions],
            runners: vec![Slowness::default(); RUNNERS],
            dice: Dice::new(7, 7),
            now: Now::ZERO,
        }
    }

    fn call(&mut self, runner: usize, function: usize, factor: f64) {
        self.now += Duration::from_millis(1);
        let took = 0.02 * (1.0 + function as f64) * self.dice.log_normal(0.0, 0.5) * factor;
        let took = Duration::from_secs_f64(took);
        let (key, id) = (slot_key(function), RunnerId(runner as u32));
        let distance = self.usual[function].compare(&key, id, took, self.now, true);
        if let Some(distance) = distance {
            self.runners[runner].add(distance);
        }
    }

    fn is_slow(&self, runner: usize) -> bool {
        let mean = self.runners[runner].mean(10).unwrap_or(0.0);
        mean >= 3.0_f64.ln() && self.runners[runner].is_sure(mean)
    }
}

#[test]
fn a_runner_that_gets_slow_is_seen_in_a_dozen_of_its_calls_and_no_other_is() {
    let mut calls = Calls::new(5);
    for n in 0..5_000 {
        calls.call(n % RUNNERS, n % 5, 1.0);
        assert!(!calls.is_slow(n % RUNNERS), "{n}");
    }
    let mut needed = 0;
    while !calls.is_slow(4) {
        needed += 1;
        assert!(needed <= 15);
        for runner in 0..RUNNERS {
            let factor = if runner == 4 { 10.0 } else { 1.0 };
            calls.call(runner, needed % 5, factor);
        }
    }
    assert!((0..RUNNERS).all(|runner| runner == 4 || !calls.is_slow(runner)));
}

#[test]
fn a_function_that_gets_slow_where_alone_it_runs_is_no_evidence() {
    let mut calls = Calls::new(2);
    for n in 0..200 {
        calls.call(4, n % 2, 1.0);
    }
    for _ in 0..200 {
        calls.call(4, 0, 10.0);
        assert!(!calls.is_slow(4));
    }
}

#[test]
fn several_functions_that_get_slow_at_once_are() {
    let mut calls = Calls::new(4);
    for n in 0..400 {
        calls.call(4, n % 4, 1.0);
    }
    for n in 0..20 {
        calls.call(4, n % 4, 10.0);
    }
    assert!(calls.is_slow(4));
}

#[test]
fn a_function_whose_times_always_differ_much_makes_no_runner_slow() {
    let mut calls = Calls::new(3);
    let mut chance = Dice::new(1, 1);
    for n in 0..20_000 {
        // Now and then a thousand times as long.
        let factor = if chance.unit() < 0.3 { 1_000.0 } else { 1.0 };
        calls.call(n % RUNNERS, n % 3, factor);
        assert!(n < 500 || !calls.is_slow(n % RUNNERS), "{n}");
    }
}

#[test]
fn the_first_calls_of_a_function_are_not_compared() {
    let mut usual = Usual::default();
    let took = Duration::from_millis(10);
    let mut next = |runner: u32| {
        let telling = usual.is_telling();
        let distance = usual.compare(&slot_key(1), RunnerId(runner), took, Now::ZERO, true);
        (telling, distance.is_some())
    };
    for runner in 0..FUNCTION_SAMPLES {
        assert_eq!(next(runner), (false, false));
    }
    assert_eq!(next(0), (true, true));
}
