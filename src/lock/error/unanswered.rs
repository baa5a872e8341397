//! Calls without an answer: the client's driver has ended, or does not run.

use super::{AcquireError, ExtendError, InspectError, ReleaseError};
use quorlock_proto::request::Key;

/// Why the driver of a client, which does all that has to do with its nodes, does not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NoDriver {
    /// It did not run for as long as the call may take. As soon as it runs again, it undoes the attempts that were given
    /// up.
    #[error(
        "the client's driver did not answer in time: the runtime that the client was built in is blocked or not running; \
         keep it running, or build the client with `dedicated_thread()`"
    )]
    Stalled,
    /// This process is the child of a fork. Connections and locks are its parent's.
    #[error("the client was built before this process was forked: build a client of its own after the fork")]
    Forked,
}

/// What a caller hears in place of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum NoAnswer {
    Closed,
    NoDriver(NoDriver),
}

/// Each error of an operation on a lock has the same two ways not to be answered.
macro_rules! unanswered {
    ($($error:ident),+) => {
        $(impl $error {
            pub(in super::super) fn unanswered(why: NoAnswer, key: &Key) -> Self {
                let key = key.shared();
                match why {
                    NoAnswer::Closed => Self::Closed { key },
                    NoAnswer::NoDriver(reason) => Self::NoDriver { key, reason },
                }
            }
        })+
    };
}
unanswered!(AcquireError, ExtendError, ReleaseError, InspectError);
