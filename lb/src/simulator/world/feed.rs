//! The state feed: what runners tell the load balancers, late.

use std::rc::Rc;

use super::{Event, World, span, time};
use crate::placement::{FunctionState, NodeLoad, RunnerId, RunnerState};

/// How often a runner tells of its state, in seconds, and how long that takes: a view is 100 ms old
/// on average.
pub(super) const EVERY: f64 = 0.1;
const DELAY: f64 = 0.05;

impl World<'_> {
    pub(super) fn feed(&mut self, runner: usize, now: f64) {
        let machine = &mut self.machines[runner];
        let spec = machine.spec();
        let functions = std::mem::take(&mut machine.changed);
        let functions = functions.into_iter().map(|function| {
            let own = machine.containers(function);
            let slot_key = self.keys[function as usize];
            let (idle, busy) = (own.idle(), own.busy);
            let wait = span(own.wait.unwrap_or(0.0));
            FunctionState {
                slot_key,
                idle,
                busy,
                waiting: 0,
                wait,
            }
        });
        let state = RunnerState {
            complete: false,
            functions: functions.collect(),
            load: Some(NodeLoad {
                memory_total_bytes: spec.memory_mb << 20,
                memory_free_bytes: machine.memory_free_mb() << 20,
                cpu_total_millis: (spec.cores * 1e3) as u64,
                cpu_free_millis: 0,
                running: machine.busy(),
                waiting: 0,
            }),
            draining: false,
        };
        self.told[runner].push_back(Rc::new(state));
        self.at(now + DELAY, Event::Told(runner as u32));
        self.at(now + EVERY, Event::Feed(runner as u32));
    }

    pub(super) fn tell(&mut self, runner: usize, now: f64) {
        let Some(state) = self.told[runner].pop_front() else {
            return;
        };
        for balancer in 0..self.balancers.len() {
            self.balancers[balancer]
                .fleet
                .state(RunnerId(runner as u32), &state, time(now));
            self.wake_soon(balancer, now);
        }
    }
}
