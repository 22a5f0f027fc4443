//! What a placer is asked, and which placers there are (spec/07 7.5).

use std::fmt;
use std::str::FromStr;

use domain::SlotKey;

use super::Now;
use super::ch::Ch;
use super::ewma::Ewma;
use super::fleet::Fleet;
use super::naive::Naive;
use super::runner::RunnerId;

/// What a decision is about.
#[derive(Debug, Clone, Copy)]
pub struct Ask<'a> {
    /// The key under which calls share containers.
    pub slot_key: SlotKey,
    /// The function, for hashing: its calls start their search at the same runner, whatever its
    /// version.
    pub fn_id: &'a str,
    /// What a container of it needs.
    pub memory_mb: u64,
    /// The runners that were asked in this pass and did not take the call, in this order.
    pub tried: &'a [RunnerId],
}

/// A rule by which runners are chosen.
pub trait Placer: Send + Sync + fmt::Debug {
    /// The runner to send the call to; `None` ends the pass. Never one that was tried, is ejected
    /// or draining.
    fn choose(&self, fleet: &Fleet, ask: &Ask<'_>, now: Now) -> Option<RunnerId>;
}

/// The placers, by the names of `FN_PLACER`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PlacerKind {
    /// By what is known of warm containers, load and waits.
    #[default]
    Ewma,
    /// The original's: from the runner that the function's id hashes to, one after the other.
    Ch,
    /// The original's: from any runner, one after the other.
    Naive,
}

/// A name that no placer has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown placer {0:?}: ewma, ch and naive are known")]
pub struct UnknownPlacer(pub String);

impl PlacerKind {
    /// The placer itself.
    pub fn placer(self) -> Box<dyn Placer> {
        match self {
            Self::Ewma => Box::new(Ewma),
            Self::Ch => Box::new(Ch),
            Self::Naive => Box::new(Naive),
        }
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ewma => "ewma",
            Self::Ch => "ch",
            Self::Naive => "naive",
        }
    }
}

impl FromStr for PlacerKind {
    type Err = UnknownPlacer;

    fn from_str(name: &str) -> Result<Self, UnknownPlacer> {
        [Self::Ewma, Self::Ch, Self::Naive]
            .into_iter()
            .find(|kind| kind.name() == name)
            .ok_or_else(|| UnknownPlacer(name.to_owned()))
    }
}

impl fmt::Display for PlacerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
