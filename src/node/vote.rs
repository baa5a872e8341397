//! What a reply is worth: a total match on question and shape. Only a well-formed grant is a grant.

use std::time::Duration;

use redis::Value;

use super::reply::Reply;
use crate::protocol::claim::{Mark, Phase};
use crate::protocol::vote::{Bar, Fault, Holder, Sighting, Vote};

/// The vote in a reply to this question.
pub(crate) fn vote(phase: Phase, reply: &Reply) -> Vote {
    match (phase, reply) {
        (_, Reply::Error(complaint)) if complaint.is("NOSCRIPT") => Vote::Unknown(Fault::NoScript),
        (_, Reply::Error(complaint)) if complaint.is_no_permission() => {
            Vote::Barred(Bar::NoPermission(complaint.words()))
        }
        (_, Reply::Error(complaint)) if complaint.is_login() => Vote::Barred(Bar::Login(complaint.words())),
        (_, Reply::Error(complaint)) => Vote::Unknown(Fault::Refused(complaint.words())),

        (Phase::Grant | Phase::Retake, Reply::Ok)
        | (Phase::Renew | Phase::Release, Reply::Int(1))
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
        | (Phase::Release | Phase::Break, Reply::Int(0)) => Vote::Missing,

        (Phase::Inspect, Reply::Other(Value::Array(items))) => sighting(items),
        _ => Vote::Unknown(Fault::Odd),
    }
}

/// Whether what the handshake learnt no longer holds, so that the node must be dialed anew.
pub(crate) fn wants_redial(reply: &Reply) -> bool {
    match reply {
        Reply::Error(complaint) => STALE.iter().any(|code| complaint.is(code)),
        Reply::Ok | Reply::Nil | Reply::Int(_) | Reply::Other(_) => false,
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

    const PHASES: [Phase; 7] = [
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
        for phase in PHASES {
            for reply in &replies {
                assert_ne!(vote(phase, reply), Vote::Granted, "{phase:?} {reply:?}");
            }
        }
        assert_eq!(vote(Phase::Grant, &Reply::Int(1)), Vote::Unknown(Fault::Odd));
        assert_eq!(vote(Phase::Renew, &Reply::Ok), Vote::Unknown(Fault::Odd));
        assert_eq!(vote(Phase::Release, &Reply::Nil), Vote::Unknown(Fault::Odd));
    }
}
