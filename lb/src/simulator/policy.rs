//! The rules that are compared: Hearth's placers themselves, and ports of others. Those that look at
//! load see what Hearth's see, which is as old.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::placement::fleet::Members;
use crate::placement::jump_hash;
use crate::placement::runner::Runner;
use crate::placement::{Ask, Fleet, FleetSettings, Now, Placer, PlacerKind, RunnerId};

/// What a call does whose pass has found no runner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patience {
    /// It waits for this long and tries again, as the original does.
    Pause(Duration),
    /// It waits until the load balancer learns something, as Hearth does.
    Change,
}

/// A rule by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Policy {
    /// Hearth's default.
    Ewma,
    /// The original's `naive`: a scan from anywhere.
    Naive,
    /// The original's `ch`: a scan from where the id hashes to.
    Ch,
    /// The original of 2017: `ch` with a look at the waits (spec/07 7.3).
    Fnlb,
    /// Any.
    Random,
    /// The less loaded of two.
    TwoChoices,
    /// The least loaded of all.
    LeastLoaded,
    /// Where the id hashes to, the next ones while load is above 1.25 of the mean.
    BoundedHash,
    /// One after the other.
    RoundRobin,
}

/// All of them.
pub const ALL: [Policy; 9] = [
    Policy::Ewma,
    Policy::Ch,
    Policy::Naive,
    Policy::Fnlb,
    Policy::Random,
    Policy::TwoChoices,
    Policy::LeastLoaded,
    Policy::BoundedHash,
    Policy::RoundRobin,
];

/// A name that no rule has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown policy {0:?}")]
pub struct UnknownPolicy(String);

impl Policy {
    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ewma => "ewma",
            Self::Naive => "naive",
            Self::Ch => "ch",
            Self::Fnlb => "fnlb-2017",
            Self::Random => "random",
            Self::TwoChoices => "two-choices",
            Self::LeastLoaded => "least-loaded",
            Self::BoundedHash => "bounded-hash",
            Self::RoundRobin => "round-robin",
        }
    }

    /// One load balancer's own.
    pub fn rule(self) -> Rule {
        let pause = Patience::Pause(Duration::from_millis(10));
        match self {
            Self::Ewma => Rule::of(PlacerKind::Ewma, Patience::Change),
            Self::Naive => Rule::of(PlacerKind::Naive, pause),
            Self::Ch => Rule::of(PlacerKind::Ch, pause),
            Self::Fnlb => {
                let waits = Waits::default();
                Rule {
                    placer: Box::new(Fnlb),
                    patience: pause,
                    waits: Some(waits),
                }
            }
            Self::Random => Rule::port(Few(Few::random)),
            Self::TwoChoices => Rule::port(Few(Few::two_choices)),
            Self::LeastLoaded => Rule::port(Few(Few::least_loaded)),
            Self::BoundedHash => Rule::port(Few(Few::bounded_hash)),
            Self::RoundRobin => Rule::port(RoundRobin::default()),
        }
    }

    /// The settings of its fleet: only Hearth's default ejects runners.
    pub fn settings(self) -> FleetSettings {
        let settings = FleetSettings::default();
        match self {
            Self::Ewma => settings,
            _ => FleetSettings {
                failures_to_eject: u32::MAX,
                slow_factor: 0.0,
                ..settings
            },
        }
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Policy {
    type Err = UnknownPolicy;

    fn from_str(name: &str) -> Result<Self, UnknownPolicy> {
        let found = ALL.into_iter().find(|policy| policy.name() == name);
        found.ok_or_else(|| UnknownPolicy(name.to_owned()))
    }
}

/// A rule as one load balancer has it.
#[derive(Debug)]
pub struct Rule {
    /// Who chooses.
    pub placer: Box<dyn Placer>,
    /// What follows a pass without a runner.
    pub patience: Patience,
    /// The waits that the rule of 2017 remembers.
    pub waits: Option<Waits>,
}

impl Rule {
    fn of(kind: PlacerKind, patience: Patience) -> Self {
        Self {
            placer: kind.placer(),
            patience,
            waits: None,
        }
    }

    fn port(placer: impl Placer + 'static) -> Self {
        let patience = Patience::Pause(Duration::from_millis(10));
        Self {
            placer: Box::new(placer),
            patience,
            waits: None,
        }
    }

    /// The runner to send a call to.
    pub fn choose(&self, fleet: &Fleet, ask: &Ask<'_>, now: Now) -> Option<RunnerId> {
        match &self.waits {
            None => self.placer.choose(fleet, ask, now),
            Some(waits) => Fnlb::pick(fleet, ask, waits),
        }
    }

    /// A call's wait, for the rule of 2017.
    pub fn waited(&self, fn_id: &str, runner: RunnerId, wait: Duration) {
        if let Some(waits) = &self.waits {
            waits.add(fn_id, runner, wait);
        }
    }
}

/// The rule of 2017: from the function's home on, each node takes the call unless its mean wait is
/// above half a second; then by chance.
#[derive(Debug)]
struct Fnlb;

/// Mean waits per node and function: a tenth of each new one; they never fade.
#[derive(Debug, Default)]
pub struct Waits(Mutex<BTreeMap<(String, RunnerId), f64>>);

impl Waits {
    fn add(&self, fn_id: &str, runner: RunnerId, wait: Duration) {
        let mut waits = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let sample = wait.as_secs_f64();
        waits
            .entry((fn_id.to_owned(), runner))
            .and_modify(|mean| *mean += 0.1 * (sample - *mean))
            .or_insert(sample);
    }

    fn get(&self, fn_id: &str, runner: RunnerId) -> f64 {
        let waits = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        waits
            .get(&(fn_id.to_owned(), runner))
            .copied()
            .unwrap_or(0.0)
    }
}

impl Fnlb {
    fn pick(fleet: &Fleet, ask: &Ask<'_>, waits: &Waits) -> Option<RunnerId> {
        let members = fleet.members();
        let home = jump_hash::home(ask.fn_id, members.len())?;
        let start = match ask.tried.last() {
            Some(last) if ask.tried.len() < members.len() => members.place_of(*last)? + 1,
            Some(_) => return None,
            None => home,
        };
        // The original's loop has no end; its chance of going on has.
        (start..start + 100 * members.len())
            .filter_map(|place| members.nth(place % members.len()))
            .find(|runner| {
                let chance = fleet.random().below(1_000_000) as f64 / 1e6;
                !ask.tried.contains(&runner.id) && chance < accepts(waits.get(ask.fn_id, runner.id))
            })
            .map(|runner| runner.id)
    }
}

/// The chance that a node with this mean wait takes a call.
pub fn accepts(wait: f64) -> f64 {
    match wait {
        wait if wait < 0.5 => 1.0,
        wait if wait > 2.0 => 0.1,
        wait => 0.4 - 0.3 * (wait - 0.5) / 1.5,
    }
}

impl Placer for Fnlb {
    fn choose(&self, fleet: &Fleet, ask: &Ask<'_>, _now: Now) -> Option<RunnerId> {
        Self::pick(fleet, ask, &Waits::default())
    }
}

/// Rules that try two runners in one pass.
struct Few(fn(&Fleet, &Members, &Ask<'_>) -> Option<RunnerId>);

impl fmt::Debug for Few {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Few")
    }
}

impl Placer for Few {
    fn choose(&self, fleet: &Fleet, ask: &Ask<'_>, _now: Now) -> Option<RunnerId> {
        if ask.tried.len() >= 2 {
            return None;
        }
        (self.0)(fleet, &fleet.members(), ask)
    }
}

impl Few {
    fn any(fleet: &Fleet, members: &Members, ask: &Ask<'_>) -> Option<RunnerId> {
        let start = fleet.random().below(members.len());
        (start..start + members.len())
            .filter_map(|place| members.nth(place % members.len()))
            .find(|runner| !ask.tried.contains(&runner.id))
            .map(|runner| runner.id)
    }

    fn random(fleet: &Fleet, members: &Members, ask: &Ask<'_>) -> Option<RunnerId> {
        Self::any(fleet, members, ask)
    }

    fn two_choices(fleet: &Fleet, members: &Members, ask: &Ask<'_>) -> Option<RunnerId> {
        let two = [
            Self::any(fleet, members, ask)?,
            Self::any(fleet, members, ask)?,
        ];
        two.into_iter()
            .min_by_key(|id| members.get(*id).map(|runner| runner.load()))
    }

    fn least_loaded(fleet: &Fleet, members: &Members, ask: &Ask<'_>) -> Option<RunnerId> {
        let start = fleet.random().below(members.len());
        (start..start + members.len())
            .filter_map(|place| members.nth(place % members.len()))
            .filter(|runner| !ask.tried.contains(&runner.id))
            .min_by_key(|runner| runner.load())
            .map(|runner| runner.id)
    }

    fn bounded_hash(fleet: &Fleet, members: &Members, ask: &Ask<'_>) -> Option<RunnerId> {
        let bound = (1.25 * (fleet.load() + 1.0) / members.len() as f64).ceil();
        let below = |runner: &Runner| f64::from(runner.load()) + 1.0 <= bound;
        let mut candidates = members.ring().candidates(ask.fn_id);
        candidates
            .find(|runner| below(runner) && !ask.tried.contains(&runner.id))
            .map(|runner| runner.id)
            .or_else(|| Self::any(fleet, members, ask))
    }
}

/// One after the other.
#[derive(Debug, Default)]
struct RoundRobin(AtomicUsize);

impl Placer for RoundRobin {
    fn choose(&self, fleet: &Fleet, ask: &Ask<'_>, _now: Now) -> Option<RunnerId> {
        if ask.tried.len() >= 2 {
            return None;
        }
        let members = fleet.members();
        let turn = self.0.fetch_add(1, Ordering::Relaxed);
        let chosen = members.nth(turn.checked_rem(members.len())?)?.id;
        (!ask.tried.contains(&chosen)).then_some(chosen)
    }
}
