//! What this package can be the worker of: quorlock, the floor, and the redis crate by hand.

use crate::bench::Serve;
use crate::by_hand::ByHand;
use crate::contenders::{Fenced, Plain};
use crate::floor::{self, Mode};
use crate::worker::serve;
use crate::{Outcome, Part, Peer};

pub const QUORLOCK: &str = "quorlock";
pub const GUARDED: &str = "quorlock fenced";
pub const FLOOR: &str = "floor";
pub const GUARDED_FLOOR: &str = "floor fenced";
pub const BY_HAND: &str = "redis crate by hand";

pub const WORKERS: [(&str, Serve); 5] = [
    (QUORLOCK, serve::<Plain>),
    (GUARDED, serve::<Fenced>),
    (FLOOR, |job| floor::serve(job, Mode::Plain)),
    (GUARDED_FLOOR, |job| floor::serve(job, Mode::Fenced)),
    (BY_HAND, serve::<ByHand>),
];

pub fn peers() -> Outcome<Vec<Peer>> {
    let floor = [Part::OneThread, Part::AllThreads, Part::Nodes, Part::Distance, Part::Work];
    let library = [
        Part::OneThread,
        Part::AllThreads,
        Part::Nodes,
        Part::Rush,
        Part::Tasks,
        Part::Cancel,
        Part::Faults,
        Part::Distance,
        Part::Leases,
        Part::Renewals,
        Part::Takeover,
        Part::Work,
    ];
    // It does not renew, does not wait, and a call that is given up may stand in its way until it expires.
    let by_hand = [
        Part::OneThread,
        Part::AllThreads,
        Part::Nodes,
        Part::Rush,
        Part::Tasks,
        Part::Cancel,
        Part::Faults,
        Part::Distance,
        Part::Work,
    ];
    Ok(vec![
        Peer::own(QUORLOCK, &library)?,
        Peer::own(GUARDED, &library)?,
        Peer::own(FLOOR, &floor)?,
        Peer::own(GUARDED_FLOOR, &floor)?,
        Peer::own(BY_HAND, &by_hand)?,
    ])
}
