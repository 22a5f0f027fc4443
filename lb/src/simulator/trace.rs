//! Calls as they come in production: who is popular, how long functions run, how much memory they
//! need and how bursty their calls are follow what was published of Azure Functions in 2019
//! (popularity log-normal with sigma 3.5, mean durations log-normal with mu -0.38 and sigma 2.36,
//! memory Burr; the coefficient of variation of the time between calls is above 1 for 40 % of the
//! functions).

use super::dice::Dice;

/// What a trace is made from.
#[derive(Debug, Clone)]
pub struct TraceSpec {
    /// The random state.
    pub seed: u64,
    /// How many functions there are.
    pub functions: usize,
    /// In which time all calls come, in seconds.
    pub seconds: f64,
    /// How many processors their work keeps busy on average.
    pub busy: f64,
}

/// A function.
#[derive(Debug, Clone)]
pub struct Function {
    /// Its id, which placers hash.
    pub id: String,
    /// How often it is called beside others.
    pub popularity: f64,
    /// Its mean run time in seconds.
    pub mean: f64,
    /// What its container needs.
    pub memory_mb: u64,
    /// Standard deviation of the time between calls beside its mean.
    pub variation: f64,
    /// What its container needs to start beside what all need, in seconds.
    pub init: f64,
}

/// A call.
#[derive(Debug, Clone, Copy)]
pub struct Arrival {
    /// When it comes, in seconds.
    pub at: f64,
    /// Whose it is.
    pub function: u32,
    /// How long it runs on a processor of its own, in seconds.
    pub work: f64,
}

/// Functions and calls, in the order of their times.
#[derive(Debug, Clone)]
pub struct Trace {
    /// The functions.
    pub functions: Vec<Function>,
    /// The calls.
    pub arrivals: Vec<Arrival>,
}

/// How bursty functions are, and for which share of them.
const VARIATIONS: [(f64, f64); 4] = [(0.05, 0.15), (1.0, 0.45), (4.0, 0.30), (13.0, 0.10)];

/// The longest run: a simulation of minutes can tell nothing about hours.
const LONGEST: f64 = 60.0;

/// Deviation of the logarithm of one function's run times.
const SAME_FUNCTION: f64 = 0.5;

/// No single function may have more of all work: a function this large would be spread by hand, and
/// one seed would say nothing about another.
const LARGEST_SHARE: f64 = 0.05;

impl TraceSpec {
    /// The functions alone.
    pub fn functions(&self) -> Vec<Function> {
        let mut dice = Dice::new(self.seed, 1);
        (0..self.functions)
            .map(|n| Function {
                id: format!("{:016X}{n:010X}", dice.number()),
                popularity: dice.log_normal(0.0, 3.5),
                mean: dice.log_normal(-0.38, 2.36),
                memory_mb: dice.burr(11.652, 0.221, 107.083).clamp(32.0, 2_048.0) as u64,
                variation: variation(dice.unit()),
                init: dice.log_normal(-2.3, 1.0).min(5.0),
            })
            .collect()
    }

    /// The whole trace. The work in it is exactly what was asked for: times are stretched to this
    /// end, which leaves popularity and bursts as they are.
    pub fn generate(&self) -> Trace {
        let functions = self.functions();
        let mut rates: Vec<f64> = functions
            .iter()
            .map(|function| function.popularity)
            .collect();
        let time = |function: &Function| function.mean.min(LONGEST);
        // Twice, because cutting one down makes another one's share larger.
        for _ in 0..8 {
            let all: f64 = functions
                .iter()
                .zip(&rates)
                .map(|(f, rate)| rate * time(f))
                .sum();
            for (function, rate) in functions.iter().zip(&mut rates) {
                *rate = rate.min(LARGEST_SHARE * all / time(function));
            }
        }
        let all: f64 = functions
            .iter()
            .zip(&rates)
            .map(|(f, rate)| rate * time(f))
            .sum();
        let scale = self.busy / all;
        let mut arrivals = Vec::new();
        for (n, function) in functions.iter().enumerate() {
            let mut dice = Dice::new(self.seed, 1_000 + n as u64);
            let gap = 1.0 / (rates[n] * scale);
            let mut gaps = Gaps::new(gap, function.variation);
            // From the middle of a gap: the trace begins long before the simulation.
            let mut at = gaps.first(&mut dice);
            while at < self.seconds {
                let half = SAME_FUNCTION * SAME_FUNCTION / 2.0;
                let work = function.mean * dice.log_normal(-half, SAME_FUNCTION);
                let work = work.clamp(0.000_1, LONGEST);
                arrivals.push(Arrival {
                    at,
                    function: n as u32,
                    work,
                });
                at += gaps.next(&mut dice);
            }
        }
        let work: f64 = arrivals.iter().map(|arrival| arrival.work).sum();
        let stretch = work / (self.busy * self.seconds);
        for arrival in &mut arrivals {
            arrival.at *= stretch;
        }
        arrivals.sort_by(|a, b| a.at.total_cmp(&b.at).then(a.function.cmp(&b.function)));
        Trace {
            functions,
            arrivals,
        }
    }
}

fn variation(chance: f64) -> f64 {
    let mut passed = 0.0;
    for (variation, share) in VARIATIONS {
        passed += share;
        if chance < passed {
            return variation;
        }
    }
    1.0
}

/// Times between calls: log-normal with the given mean and coefficient of variation, which makes
/// bursts of many short gaps between few long ones.
#[derive(Debug)]
pub struct Gaps {
    mu: f64,
    sigma: f64,
}

impl Gaps {
    /// Gaps with this mean and this coefficient of variation.
    pub fn new(mean: f64, variation: f64) -> Self {
        let variance = (1.0 + variation * variation).ln();
        Self {
            mu: mean.ln() - variance / 2.0,
            sigma: variance.sqrt(),
        }
    }

    /// The time until the first call after any moment: long gaps are met more often.
    pub fn first(&mut self, dice: &mut Dice) -> f64 {
        let biased = dice.log_normal(self.mu + self.sigma * self.sigma, self.sigma);
        biased * dice.unit()
    }

    /// The time until the next call.
    pub fn next(&mut self, dice: &mut Dice) -> f64 {
        dice.log_normal(self.mu, self.sigma)
    }
}
