//! What a reply is worth: a total match on question and shape. Only a well-formed grant is a grant.

use std::time::Duration;

use redis::Value;

use super::reply::Reply;
use crate::protocol::claim::{Mark, Phase};
use crate::protocol::marker::{Incarnation, Look};
use crate::protocol::vote::{Bar, Doubt, Fault, Holder, Sighting, Vote};

/// The vote in a reply to this question.
pub(crate) fn vote(phase: Phase, reply: &Reply) -> Vote {
    match (phase, reply) {
        (_, Reply::Error(complaint)) if complaint.is("NOSCRIPT") => Vote::Unknown(Fault::NoScript),
        (_, Reply::Error(complaint)) if complaint.is_no_permission() => {
            Vote::Barred(Bar::NoPermission(complaint.words()))
        }
        (_, Reply::Error(complaint)) if complaint.is_login() => Vote::Barred(Bar::Login(complaint.words())),
        (_, Reply::Error(complaint)) => Vote::Unknown(Fault::Refused(complaint.words())),

        // Two, and three, if another process waits.
        (Phase::Release | Phase::HandOver | Phase::KeepTurn, Reply::Int(1 | 2))
        | (Phase::Grant | Phase::Retake, Reply::Ok)
        | (Phase::Renew, Reply::Int(1))
        | (Phase::Leave, Reply::Int(0 | 1))
        | (Phase::Break, Reply::Int(1..)) => Vote::Granted,

        (Phase::Grant | Phase::Retake, Reply::Nil) | (Phase::Renew, Reply::Int(0)) => {
            Vote::Held { remaining: None }
        }
        (Phase::Remaining, Reply::Int(-1)) => Vote::Held { remaining: None },
        (Phase::Remaining, Reply::Int(millis @ 0..)) => {
            Vote::Held { remaining: Some(Duration::from_millis(*millis as u64)) }
        }

        (Phase::Remaining, Reply::Int(-2))
        | (Phase::Renew, Reply::Int(-1))
        | (Phase::Release | Phase::HandOver | Phase::KeepTurn, Reply::Int(0 | 3))
        | (Phase::Break, Reply::Int(0)) => Vote::Missing,

        (Phase::Inspect, Reply::Other(Value::Array(items))) => sighting(items),
        (_, Reply::Ballot([verdict, value, _])) => ballot(phase, *verdict, *value),
        _ => Vote::Unknown(Fault::Odd),
    }
}

/// The node's clock, in microseconds, where the reply tells it.
pub(crate) const fn clock(reply: &Reply) -> Option<u64> {
    match reply {
        Reply::Ballot([_, _, micros]) if *micros > 0 => Some(*micros as u64),
        _ => None,
    }
}

/// What a node told of what it remembers, or why it did not.
pub(crate) fn look(reply: &Reply) -> Result<Look, Fault> {
    match reply {
        Reply::Error(complaint) if complaint.is("NOSCRIPT") => Err(Fault::NoScript),
        Reply::Error(complaint) => Err(Fault::Refused(complaint.words())),
        Reply::Other(Value::Array(items)) => match &items[..] {
            [
                Value::BulkString(marker),
                Value::BulkString(incarnation),
                Value::Int(evicts @ 0..=1),
                Value::Int(micros @ 1..),
            ] => {
                let marker = String::from_utf8_lossy(marker);
                Ok(Look {
                    marker: (!marker.is_empty()).then(|| marker.into()),
                    incarnation: Incarnation::new(&String::from_utf8_lossy(incarnation)),
                    evicts: *evicts == 1,
                    micros: *micros as u64,
                })
            }
            _ => Err(Fault::Odd),
        },
        _ => Err(Fault::Odd),
    }
}

/// Whether what the handshake learnt no longer holds, so that the node must be dialed anew.
pub(crate) fn wants_redial(reply: &Reply) -> bool {
    match reply {
        Reply::Error(complaint) => STALE.iter().any(|code| complaint.is(code)),
        Reply::Ok | Reply::Nil | Reply::Int(_) | Reply::Ballot(_) | Reply::Other(_) => false,
    }
}

/// The verdicts of `lua/{grant,hold,retake}.lua`.
fn ballot(phase: Phase, verdict: i64, value: i64) -> Vote {
    let span = u64::try_from(value).ok().map(Duration::from_millis);
    match (phase, verdict) {
        (Phase::Grant, 1) if value > 0 => Vote::Fenced(value as u64),
        (Phase::Raise | Phase::Renew | Phase::Retake, 1) => Vote::Granted,
        (Phase::Grant | Phase::Raise | Phase::Renew | Phase::Retake, 0) | (Phase::Stand, 1) => {
            Vote::Held { remaining: span }
        }
        (Phase::Raise | Phase::Renew, -1) | (Phase::Stand, 0) => Vote::Missing,
        (Phase::Raise | Phase::Renew | Phase::Retake, -2) if value > 0 => {
            Vote::Outranked { fence: value as u64 }
        }
        (Phase::Grant | Phase::Raise | Phase::Renew | Phase::Retake, -3) => Vote::Unknown(Fault::Changed),
        (Phase::Grant | Phase::Raise | Phase::Renew | Phase::Retake, -4) => {
            Vote::Doubtful { remaining: span.unwrap_or_default(), doubt: Doubt::Forgot }
        }
        _ => Vote::Unknown(Fault::Odd),
    }
}

fn sighting(items: &[Value]) -> Vote {
    let remaining = |millis: i64| u64::try_from(millis).ok().map(Duration::from_millis);
    match items {
        [Value::Int(0), _, _] => Vote::Seen(Sighting { holder: Holder::Nobody, remaining: None }),
        [Value::Int(1), Value::BulkString(value), Value::Int(left)] => {
            Vote::Seen(Sighting { holder: Holder::Owner(Mark::of(value)), remaining: remaining(*left) })
        }
        [Value::Int(2), _, Value::Int(left)] => {
            Vote::Seen(Sighting { holder: Holder::OtherType, remaining: remaining(*left) })
        }
        _ => Vote::Unknown(Fault::Odd),
    }
}

/// A role, a login or a topology that changed under us.
const STALE: [&str; 6] = ["READONLY", "LOADING", "NOAUTH", "MASTERDOWN", "MOVED", "CLUSTERDOWN"];

#[cfg(test)]
mod tests {
    use super::super::complaint::Complaint;
    use super::*;

    const PHASES: [Phase; 13] = [
        Phase::HandOver,
        Phase::KeepTurn,
        Phase::Stand,
        Phase::Leave,
        Phase::Raise,
        Phase::Look,
        Phase::Grant,
        Phase::Remaining,
        Phase::Renew,
        Phase::Retake,
        Phase::Release,
        Phase::Inspect,
        Phase::Break,
    ];

    #[test]
    fn no_error_and_no_odd_shape_is_ever_a_grant() {
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
            errors.iter().map(|text| Reply::Error(Complaint::new(text.as_bytes()))).collect();
        replies.push(Reply::Other(Value::Array(vec![])));
        replies.push(Reply::Other(Value::SimpleString("QUEUED".into())));
        replies.push(Reply::Int(-7));
        replies.extend([[2, 1, 1], [-5, 1, 1], [0, 1, 1], [-1, 1, 1]].map(Reply::Ballot));
        for phase in PHASES {
            for reply in &replies {
                assert!(!vote(phase, reply).is_grant(), "{phase:?} {reply:?}");
            }
        }
        assert_eq!(vote(Phase::Grant, &Reply::Int(1)), Vote::Unknown(Fault::Odd));
        assert_eq!(vote(Phase::Grant, &Reply::Ballot([1, 0, 1])), Vote::Unknown(Fault::Odd));
        assert_eq!(vote(Phase::Release, &Reply::Ballot([1, 1, 1])), Vote::Unknown(Fault::Odd));
        assert_eq!(vote(Phase::Renew, &Reply::Ok), Vote::Unknown(Fault::Odd));
        assert_eq!(vote(Phase::Release, &Reply::Nil), Vote::Unknown(Fault::Odd));
    }
}
