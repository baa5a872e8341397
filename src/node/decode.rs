//! Decodes replies: into a vote, and what else they say. A total match on request kind and reply shape, so that only a
//! well-formed grant is a grant.

use std::sync::Arc;
use std::time::Duration;

use redis::Value;

use super::error_reply::ErrorReply;
use super::reply::Reply;
use crate::view::Fences;
use quorlock_proto::marker::{Incarnation, MarkerReading};
use quorlock_proto::request::{OwnerHash, RequestKind};
use quorlock_proto::vote::{ExclusionReason, KeyOwner, KeyState, ProbationReason, ReplyFailure, Vote};

/// What a reply to a request says. The driver knows no shape of a reply and no result code of a script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DecodedReply {
    pub(crate) vote: Vote,
    /// The node's clock in microseconds, if the reply contains it.
    pub(crate) node_micros: Option<u64>,
    /// Whether the reply to a release reports that another process waits for the key.
    pub(crate) has_other_waiters: bool,
    /// Whether the node rejects every write for now.
    pub(crate) is_write_rejected: bool,
    /// Whether the user may not run a command of the request, with any key.
    pub(crate) is_command_denied: bool,
    /// The error text, if the error shows that the handshake is outdated, so that the node must be dialed again.
    pub(crate) redial_reason: Option<Arc<str>>,
}

/// What the reply to a marker reading says.
pub(crate) struct DecodedMarker {
    /// The reading, or the vote if the reply contains none.
    pub(crate) reading: Result<MarkerReading, Vote>,
    /// The estimated number of fences on the node, their key length and the memory limit.
    pub(crate) fences: Option<Fences>,
    /// As in [`DecodedReply`].
    pub(crate) is_command_denied: bool,
    /// As in [`DecodedReply`].
    pub(crate) redial_reason: Option<Arc<str>>,
}

/// Decodes the reply to a request of this kind.
pub(crate) fn decode(kind: RequestKind, reply: &Reply) -> DecodedReply {
    DecodedReply {
        vote: decode_vote(kind, reply),
        node_micros: match reply {
            Reply::ScriptResult([_, _, micros]) if *micros > 0 => Some(*micros as u64),
            _ => None,
        },
        has_other_waiters: kind.is_release() && matches!(reply, Reply::Int(2..=4)),
        is_write_rejected: matches!(reply, Reply::Error(error) if error.is_write_rejected()),
        is_command_denied: is_command_denied(reply),
        redial_reason: redial_reason(reply),
    }
}

/// Decodes the reply to a marker reading.
pub(crate) fn decode_marker(reply: &Reply) -> DecodedMarker {
    DecodedMarker {
        reading: marker_reading(reply),
        fences: fences(reply),
        is_command_denied: is_command_denied(reply),
        redial_reason: redial_reason(reply),
    }
}

fn decode_vote(kind: RequestKind, reply: &Reply) -> Vote {
    match (kind, reply) {
        (_, Reply::Error(error)) => vote_of_error(error),

        // For releases, 2, 3 and 4 also mean that another process waits: see `decode`.
        (
            RequestKind::Release | RequestKind::ReleaseAndNotify | RequestKind::ReleaseLocal,
            Reply::Int(1 | 2),
        )
        | (RequestKind::Acquire | RequestKind::Reacquire, Reply::Ok)
        | (
            RequestKind::Adopt | RequestKind::Renew | RequestKind::ForceRelease | RequestKind::BreakOf(_),
            Reply::Int(1),
        )
        | (RequestKind::Dequeue, Reply::Int(0 | 1)) => Vote::Granted,

        (RequestKind::Acquire | RequestKind::Reacquire, Reply::Nil)
        | (
            RequestKind::Adopt
            | RequestKind::Renew
            | RequestKind::Release
            | RequestKind::ReleaseAndNotify
            | RequestKind::ReleaseLocal,
            Reply::Int(0),
        )
        | (RequestKind::ReleaseAndNotify | RequestKind::ReleaseLocal, Reply::Int(3))
        | (RequestKind::BreakOf(_) | RequestKind::QueryTtl, Reply::Int(-1)) => {
            Vote::HeldByOther { remaining: None }
        }
        (RequestKind::QueryTtl, Reply::Int(millis @ 0..)) => {
            Vote::HeldByOther { remaining: Some(Duration::from_millis(*millis as u64)) }
        }

        (RequestKind::QueryTtl, Reply::Int(-2))
        | (
            RequestKind::Adopt
            | RequestKind::Renew
            | RequestKind::Release
            | RequestKind::ReleaseAndNotify
            | RequestKind::ReleaseLocal,
            Reply::Int(-1),
        )
        | (RequestKind::ReleaseAndNotify | RequestKind::ReleaseLocal, Reply::Int(4))
        | (RequestKind::ForceRelease | RequestKind::BreakOf(_), Reply::Int(0)) => Vote::NotHeld,

        (RequestKind::Inspect, Reply::Other(Value::Array(items))) => key_state(items),
        (_, Reply::ScriptResult([code, value, _])) => script_vote(kind, *code, *value),
        _ => Vote::Unknown(ReplyFailure::UnexpectedReply),
    }
}

/// The vote in an error reply.
fn vote_of_error(error: &ErrorReply) -> Vote {
    let text = error.text();
    if error.has_code("NOSCRIPT") {
        Vote::Unknown(ReplyFailure::NoScript)
    } else if error.is_permission_denied() {
        Vote::Excluded(ExclusionReason::PermissionDenied(text))
    } else if error.is_auth_failure() {
        Vote::Excluded(ExclusionReason::AuthFailed(text))
    } else if let Some(reason) = error.unsupported_reason() {
        Vote::Excluded(ExclusionReason::Unsupported(reason))
    } else {
        Vote::Unknown(ReplyFailure::TransientError(text))
    }
}

fn marker_reading(reply: &Reply) -> Result<MarkerReading, Vote> {
    match reply {
        Reply::Error(error) => Err(vote_of_error(error)),
        Reply::Other(Value::Array(items)) => match &items[..] {
            [
                Value::BulkString(marker),
                Value::BulkString(incarnation),
                Value::Int(evicts @ 0..=1),
                Value::Int(micros @ 1..),
                Value::Int(latest @ 0..),
                Value::BulkString(record),
                Value::Int(high @ 0..),
                Value::BulkString(absences),
                ..,
            ] => {
                let text = |bytes: &[u8]| {
                    let text = String::from_utf8_lossy(bytes);
                    (!text.is_empty()).then(|| Arc::from(&*text))
                };
                Ok(MarkerReading {
                    marker: text(marker),
                    record: text(record),
                    incarnation: Incarnation::new(&String::from_utf8_lossy(incarnation)),
                    evicts: *evicts == 1,
                    micros: *micros as u64,
                    latest_micros: *latest as u64,
                    highest_number: *high as u64,
                    absences: text(absences),
                })
            }
            _ => Err(Vote::Unknown(ReplyFailure::UnexpectedReply)),
        },
        _ => Err(Vote::Unknown(ReplyFailure::UnexpectedReply)),
    }
}

/// The estimate of fences at the end of a marker reading.
fn fences(reply: &Reply) -> Option<Fences> {
    let Reply::Other(Value::Array(items)) = reply else { return None };
    let [.., Value::Int(count @ 0..), Value::Int(length @ 0..), Value::Int(memory @ 0..)] = &items[..] else {
        return None;
    };
    Some(Fences::new(*count as u64, *length as u64, *memory as u64))
}

fn is_command_denied(reply: &Reply) -> bool {
    matches!(reply, Reply::Error(error) if error.is_permission_denied() && !error.is_key_denied())
}

fn redial_reason(reply: &Reply) -> Option<Arc<str>> {
    match reply {
        Reply::Error(error) => REDIAL_CODES.iter().any(|code| error.has_code(code)).then(|| error.text()),
        Reply::Ok | Reply::Nil | Reply::Int(_) | Reply::ScriptResult(_) | Reply::Other(_) => None,
    }
}

/// Maps the result codes of
/// `lua/{acquire_fenced,adopt_fenced,renew_fenced,reacquire_fenced,forget,enqueue}.lua`.
fn script_vote(kind: RequestKind, code: i64, value: i64) -> Vote {
    let remaining = u64::try_from(value).ok().map(Duration::from_millis);
    match (kind, code) {
        (RequestKind::Acquire | RequestKind::Adopt, 1) if value > 0 => Vote::Fenced(value as u64),
        (RequestKind::RaiseFence | RequestKind::Renew | RequestKind::Reacquire | RequestKind::Forget, 1) => {
            Vote::Granted
        }
        (
            RequestKind::Acquire
            | RequestKind::Adopt
            | RequestKind::RaiseFence
            | RequestKind::Renew
            | RequestKind::Reacquire
            | RequestKind::Forget,
            0,
        )
        | (RequestKind::Enqueue, 1) => Vote::HeldByOther { remaining },
        (RequestKind::Adopt | RequestKind::RaiseFence | RequestKind::Renew | RequestKind::Forget, -1)
        | (RequestKind::Enqueue, 0) => Vote::NotHeld,
        (RequestKind::Adopt | RequestKind::RaiseFence | RequestKind::Renew | RequestKind::Reacquire, -2)
            if value > 0 =>
        {
            Vote::FencedOut { fence: value as u64 }
        }
        (
            RequestKind::Acquire
            | RequestKind::Adopt
            | RequestKind::RaiseFence
            | RequestKind::Renew
            | RequestKind::Reacquire
            | RequestKind::Forget,
            -3,
        ) => Vote::Unknown(ReplyFailure::MarkerMismatch),
        (
            RequestKind::Acquire
            | RequestKind::Adopt
            | RequestKind::RaiseFence
            | RequestKind::Renew
            | RequestKind::Reacquire,
            -4,
        ) => Vote::OnProbation {
            remaining: remaining.unwrap_or_default(),
            reason: ProbationReason::PossibleDataLoss,
        },
        _ => Vote::Unknown(ReplyFailure::UnexpectedReply),
    }
}

fn key_state(items: &[Value]) -> Vote {
    let remaining = |millis: i64| u64::try_from(millis).ok().map(Duration::from_millis);
    match items {
        [Value::Int(0), _, _] => Vote::Inspected(KeyState::new(KeyOwner::Unheld, None)),
        [Value::Int(1), Value::BulkString(value), Value::Int(left)] => {
            Vote::Inspected(KeyState::new(KeyOwner::Owner(OwnerHash::of(value)), remaining(*left)))
        }
        [Value::Int(2), _, Value::Int(left)] => {
            Vote::Inspected(KeyState::new(KeyOwner::NotALock, remaining(*left)))
        }
        _ => Vote::Unknown(ReplyFailure::UnexpectedReply),
    }
}

/// Error codes of a changed role, changed credentials or a changed topology.
const REDIAL_CODES: [&str; 6] = ["READONLY", "LOADING", "NOAUTH", "MASTERDOWN", "MOVED", "CLUSTERDOWN"];

#[cfg(test)]
mod tests {
    use super::*;

    const REQUEST_KINDS: [RequestKind; 15] = [
        RequestKind::Adopt,
        RequestKind::Forget,
        RequestKind::ReleaseAndNotify,
        RequestKind::ReleaseLocal,
        RequestKind::Enqueue,
        RequestKind::Dequeue,
        RequestKind::RaiseFence,
        RequestKind::ReadMarker,
        RequestKind::Acquire,
        RequestKind::QueryTtl,
        RequestKind::Renew,
        RequestKind::Reacquire,
        RequestKind::Release,
        RequestKind::Inspect,
        RequestKind::ForceRelease,
    ];

    #[test]
    fn errors_that_cause_a_redial_keep_their_text() {
        let reason_of = |text: &str| redial_reason(&Reply::Error(ErrorReply::new(text.as_bytes())));
        let text = "READONLY You can't write against a read only replica.";
        assert_eq!(reason_of(text).as_deref(), Some(text));
        assert_eq!(reason_of("BUSY Redis is busy running a script"), None);
    }

    #[test]
    fn permanent_errors_exclude_the_node() {
        let of = |text: &str| vote_of_error(&ErrorReply::new(text.as_bytes()));
        assert!(matches!(
            of("ERR unknown command 'SET', with args"),
            Vote::Excluded(ExclusionReason::Unsupported(_))
        ));
        assert!(matches!(
            of("NOPERM No permissions to access a key"),
            Vote::Excluded(ExclusionReason::PermissionDenied(_))
        ));
        assert!(matches!(
            of("NOREPLICAS Not enough good replicas"),
            Vote::Unknown(ReplyFailure::TransientError(_))
        ));
    }

    #[test]
    fn no_error_and_no_unexpected_shape_is_a_grant() {
        let errors = [
            "LOADING x",
            "READONLY x",
            "OOM x",
            "MISCONF x",
            "BUSY x",
            "ERR x",
            "NOSCRIPT x",
            "NOPERM x",
            "",
        ];
        let mut replies: Vec<Reply> =
            errors.iter().map(|text| Reply::Error(ErrorReply::new(text.as_bytes()))).collect();
        replies.push(Reply::Other(Value::Array(vec![])));
        replies.push(Reply::Other(Value::SimpleString("QUEUED".into())));
        replies.push(Reply::Int(-7));
        replies.extend([[2, 1, 1], [-5, 1, 1], [0, 1, 1], [-1, 1, 1]].map(Reply::ScriptResult));
        for kind in REQUEST_KINDS.into_iter().chain([RequestKind::BreakOf(OwnerHash::of(b""))]) {
            for reply in &replies {
                assert!(!decode_vote(kind, reply).is_grant(), "{kind:?} {reply:?}");
            }
        }
        assert_eq!(
            decode_vote(RequestKind::Acquire, &Reply::Int(1)),
            Vote::Unknown(ReplyFailure::UnexpectedReply)
        );
        assert_eq!(
            decode_vote(RequestKind::Acquire, &Reply::ScriptResult([1, 0, 1])),
            Vote::Unknown(ReplyFailure::UnexpectedReply)
        );
        assert_eq!(
            decode_vote(RequestKind::Release, &Reply::ScriptResult([1, 1, 1])),
            Vote::Unknown(ReplyFailure::UnexpectedReply)
        );
        assert_eq!(decode_vote(RequestKind::Renew, &Reply::Ok), Vote::Unknown(ReplyFailure::UnexpectedReply));
        assert_eq!(
            decode_vote(RequestKind::Release, &Reply::Nil),
            Vote::Unknown(ReplyFailure::UnexpectedReply)
        );
    }
}
