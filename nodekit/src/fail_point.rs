//! Named steps of the protocol of durable calls at which a test may have the process die, and bugs
//! that a test may plant. Without the features `chaos` and `planted-bugs` there is nothing of either
//! in the binary.

/// Steps between two of which a process may die, so that each of them is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// A call is committed; its doorbell is not published, and its client not answered.
    AcceptAfterCommit,
    /// A doorbell is published, and confirmed or not; nothing is made of that yet.
    PublishBeforeConfirm,
    /// The broker has a doorbell; the store does not know that.
    ConfirmBeforeForget,
    /// A doorbell was delivered; its call is not claimed yet.
    DeliveryBeforeClaim,
    /// A call is claimed; its doorbell is not acknowledged.
    ClaimBeforeAck,
    /// A claimed call's doorbell is acknowledged; its runner does not have the call.
    AckBeforePush,
    /// The start is noted; the function has not seen the call.
    StartBeforeSend,
    /// The function has answered; nobody else knows.
    AnswerBeforeFinish,
    /// The end is committed; the runner does not know that.
    FinishBeforeReply,
}

impl Step {
    /// Every one, in the order of a call's life.
    pub const ALL: [Self; 9] = [
        Self::AcceptAfterCommit,
        Self::PublishBeforeConfirm,
        Self::ConfirmBeforeForget,
        Self::DeliveryBeforeClaim,
        Self::ClaimBeforeAck,
        Self::AckBeforePush,
        Self::StartBeforeSend,
        Self::AnswerBeforeFinish,
        Self::FinishBeforeReply,
    ];

    /// Its name in `HEARTH_ABORT_AT`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AcceptAfterCommit => "accept-after-commit",
            Self::PublishBeforeConfirm => "publish-before-confirm",
            Self::ConfirmBeforeForget => "confirm-before-forget",
            Self::DeliveryBeforeClaim => "delivery-before-claim",
            Self::ClaimBeforeAck => "claim-before-ack",
            Self::AckBeforePush => "ack-before-push",
            Self::StartBeforeSend => "start-before-send",
            Self::AnswerBeforeFinish => "answer-before-finish",
            Self::FinishBeforeReply => "finish-before-reply",
        }
    }
}

/// The process may die here.
#[cfg(not(feature = "chaos"))]
#[inline(always)]
pub fn fail_point(_step: Step) {}

#[cfg(feature = "chaos")]
pub use self::deaths::fail_point;

#[cfg(feature = "chaos")]
mod deaths {
    use std::path::Path;
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::Step;

    /// The process may die here: with the probability that `HEARTH_ABORT_AT` gives to this step, as in
    /// `claim-before-ack:0.01,answer-before-finish:0.02`. It does so only as long as the file exists
    /// that `HEARTH_ABORT_WHILE` names, if it names one.
    pub fn fail_point(step: Step) {
        static WHERE: LazyLock<Vec<(Step, f64)>> = LazyLock::new(|| {
            let text = std::env::var("HEARTH_ABORT_AT").unwrap_or_default();
            parse(&text).unwrap_or_else(|| {
                tracing::error!(text, "HEARTH_ABORT_AT must have steps and probabilities");
                std::process::abort();
            })
        });
        static PASSES: AtomicU64 = AtomicU64::new(0);
        let Some((_, probability)) = WHERE.iter().find(|(known, _)| *known == step) else {
            return;
        };
        let pass = PASSES.fetch_add(1, Ordering::Relaxed);
        let chance = chance(u64::from(std::process::id()) << 32 | pass);
        let armed =
            || std::env::var("HEARTH_ABORT_WHILE").map_or(true, |file| Path::new(&file).exists());
        if chance < *probability && armed() {
            tracing::error!(step = step.as_str(), "dies at a step, as it was told to");
            std::process::abort();
        }
    }

    /// Steps with their probabilities; none if there is a mistake.
    pub(super) fn parse(text: &str) -> Option<Vec<(Step, f64)>> {
        let one = |part: &str| {
            let (name, probability) = part.split_once(':')?;
            let step = Step::ALL.into_iter().find(|step| step.as_str() == name)?;
            Some((step, probability.parse().ok()?))
        };
        text.split(',')
            .filter(|part| !part.is_empty())
            .map(one)
            .collect()
    }

    /// A number from 0 to 1 that looks like chance (SplitMix64).
    fn chance(number: u64) -> f64 {
        let mut mixed = number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        f64::from(u32::try_from((mixed ^ (mixed >> 31)) >> 32).unwrap_or(u32::MAX))
            / f64::from(u32::MAX)
    }
}

/// Known bugs that the tests of the tests plant: the suite must find each of them.
#[cfg(feature = "planted-bugs")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    /// A doorbell is acknowledged before its call is claimed.
    AckBeforeCommit,
    /// The end of an attempt counts whoever holds the lease.
    NoEpochCheck,
    /// The relay takes every doorbell that it has published for confirmed.
    RelayWithoutConfirms,
    /// A runner renews no lease.
    LeaseNeverRenewed,
    /// The doorbell of an accepted call is forgotten before it is published.
    ForgottenBeforeConfirm,
}

/// Whether `HEARTH_PLANTED_BUG` names this bug.
#[cfg(feature = "planted-bugs")]
pub fn is_planted(bug: Bug) -> bool {
    use std::sync::LazyLock;
    static PLANTED: LazyLock<String> =
        LazyLock::new(|| std::env::var("HEARTH_PLANTED_BUG").unwrap_or_default());
    let name = match bug {
        Bug::AckBeforeCommit => "ack-before-commit",
        Bug::NoEpochCheck => "no-epoch-check",
        Bug::RelayWithoutConfirms => "relay-without-confirms",
        Bug::LeaseNeverRenewed => "lease-never-renewed",
        Bug::ForgottenBeforeConfirm => "forgotten-before-confirm",
    };
    *PLANTED == name
}

#[cfg(all(test, feature = "chaos"))]
mod tests {
    use super::*;

    #[test]
    fn steps_are_read_by_their_names_and_typing_errors_are_refused() {
        assert_eq!(deaths::parse(""), Some(Vec::new()));
        assert_eq!(
            deaths::parse("claim-before-ack:0.5,ack-before-push:1"),
            Some(vec![
                (Step::ClaimBeforeAck, 0.5),
                (Step::AckBeforePush, 1.0)
            ])
        );
        assert_eq!(deaths::parse("claim-before-ak:0.5"), None);
        assert_eq!(deaths::parse("claim-before-ack"), None);
        for step in Step::ALL {
            let text = format!("{}:0", step.as_str());
            assert_eq!(deaths::parse(&text), Some(vec![(step, 0.0)]));
        }
    }
}
