//! The states of a container and the moves between them (spec/04 4.3).

/// Where a container is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ContainerState {
    /// Waiting for memory and CPU.
    Wait,
    /// Being pulled, created or started.
    Start,
    /// Ready for a call.
    Idle,
    /// Idle and frozen.
    Paused,
    /// Running a call.
    Busy,
    /// Gone.
    Done,
}

impl ContainerState {
    /// Every state, in order.
    pub const ALL: [Self; 6] = [
        Self::Wait,
        Self::Start,
        Self::Idle,
        Self::Paused,
        Self::Busy,
        Self::Done,
    ];

    /// The name that metrics use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Wait => "wait",
            Self::Start => "start",
            Self::Idle => "idle",
            Self::Paused => "paused",
            Self::Busy => "busy",
            Self::Done => "done",
        }
    }

    /// Whether a container in this state may move to `next`: forward, or from busy and paused back
    /// to idle, or from busy to paused.
    pub fn can_become(self, next: Self) -> bool {
        next > self
            || matches!(
                (self, next),
                (Self::Paused | Self::Busy, Self::Idle) | (Self::Busy, Self::Paused)
            )
    }
}

#[cfg(test)]
mod tests {
    use super::ContainerState::{Busy, Done, Idle, Paused, Start, Wait};
    use super::*;

    #[test]
    fn only_idle_paused_and_busy_alternate() {
        let back: Vec<_> = ContainerState::ALL
            .into_iter()
            .flat_map(|from| ContainerState::ALL.map(|to| (from, to)))
            .filter(|(from, to)| to < from && from.can_become(*to))
            .collect();
        assert_eq!(back, [(Paused, Idle), (Busy, Idle), (Busy, Paused)]);
        assert!(
            ContainerState::ALL
                .iter()
                .all(|state| !state.can_become(*state))
        );
        assert!(Wait.can_become(Done) && Start.can_become(Done) && !Done.can_become(Wait));
    }
}
