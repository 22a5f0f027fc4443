//! What is written down of a simulation.

/// How it went.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// For each call that counts: how much longer than its work it took, in seconds. For one that
    /// had no answer: how long it had waited.
    pub overheads: Vec<f64>,
    /// For each call that counts: how long it took, in seconds, and when it came.
    pub latencies: Vec<(f64, f64)>,
    /// For each call that counts: runners asked.
    pub tries: Vec<u32>,
    /// Of these calls, those that started a container.
    pub cold: u64,
    /// Of these calls, those that had no answer in the end.
    pub unfinished: u64,
    /// Whether it was given up, because tries went beyond any measure.
    pub collapsed: bool,
    /// The most runners of full speed that a load balancer had out at one time.
    pub wrongly_out: usize,
    /// When a runner that changes its speed went out or came back at a load balancer: the time and
    /// whether it is healthy.
    pub turns: Vec<(f64, usize, bool)>,
    /// Container starts of all calls, and of what is before them.
    pub starts: u64,
}
