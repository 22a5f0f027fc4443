//! The states of a call and the moves between them.

use serde::{Deserialize, Serialize};

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum $name {
            $($(#[$variant_doc])* #[serde(rename = $text)] $variant,)+
        }

        impl $name {
            /// Every one, in order.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The word that stands for it in documents, tables and metrics.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }

            /// The one that this word stands for.
            pub fn parse(text: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|word| word.as_str() == text)
            }
        }

        // By hand: the derived one does not see words that come through a macro.
        impl utoipa::PartialSchema for $name {
            fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
                utoipa::openapi::ObjectBuilder::new()
                    .schema_type(utoipa::openapi::schema::Type::String)
                    .enum_values(Some([$($text),+]))
                    .into()
            }
        }

        impl utoipa::ToSchema for $name {}
    };
}
pub(super) use words;

words! {
    /// Who waits for a call: its client, or nobody.
    CallKind {
        /// The client waits for the answer. Its record is written when it is over.
        Sync = "sync",
        /// The call was accepted, and is run when it is due and there is room.
        Async = "async",
    }
}

words! {
    /// How far a call is.
    CallState {
        /// Not due yet.
        Delayed = "delayed",
        /// Due, or waiting for its next attempt.
        Queued = "queued",
        /// A runner holds its lease.
        Running = "running",
        /// The function answered, with a status below 500.
        Success = "success",
        /// The only attempt that the call was allowed failed.
        Error = "error",
        /// The only attempt that the call was allowed took too long.
        Timeout = "timeout",
        /// Somebody cancelled it.
        Cancelled = "cancelled",
        /// It was given up; the reason is beside it.
        Dead = "dead",
    }
}

words! {
    /// Why a call was given up.
    DeadReason {
        /// Every attempt that it was allowed failed.
        RetriesExhausted = "retries_exhausted",
        /// It did not come to its end before it expired.
        Expired = "expired",
        /// What is wrong cannot get better by itself, as a missing image.
        Permanent = "permanent",
        /// Its container died under it too often.
        Poison = "poison",
        /// The function is gone.
        FunctionDeleted = "function_deleted",
    }
}

impl CallState {
    /// Whether it never changes again.
    pub const fn is_final(self) -> bool {
        !matches!(self, Self::Delayed | Self::Queued | Self::Running)
    }

    /// Whether a call in this state may move to `next`.
    pub const fn can_become(self, next: Self) -> bool {
        match self {
            Self::Delayed => matches!(
                next,
                Self::Queued | Self::Running | Self::Cancelled | Self::Dead
            ),
            Self::Queued => matches!(next, Self::Running | Self::Cancelled | Self::Dead),
            Self::Running => !matches!(next, Self::Delayed | Self::Running),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_back() {
        for state in CallState::ALL {
            assert_eq!(CallState::parse(state.as_str()), Some(*state));
            let json = serde_json::to_string(state).expect("a word");
            assert_eq!(json, format!("{:?}", state.as_str()));
        }
        assert_eq!(CallState::parse("killed"), None);
    }

    #[test]
    fn final_states_stay() {
        for from in CallState::ALL {
            for to in CallState::ALL {
                let allowed = from.can_become(*to);
                assert!(!(from.is_final() && allowed), "{from:?} {to:?}");
                assert!(!(from == to && allowed), "{from:?}");
            }
        }
    }
}
