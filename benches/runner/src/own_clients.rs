//! The clients built into this package: quorlock, the baseline, and the redis crate by hand.

use crate::baseline::{self, Mode};
use crate::bench::Serve;
use crate::by_hand::ByHand;
use crate::contenders::{Fenced, Plain};
use crate::worker::serve;
use crate::{Outcome, Part, Peer};

pub const QUORLOCK: &str = "quorlock";
pub const FENCED: &str = "quorlock fenced";
pub const BASELINE: &str = "baseline";
pub const FENCED_BASELINE: &str = "baseline fenced";
pub const BY_HAND: &str = "redis crate by hand";

pub const WORKERS: [(&str, Serve); 5] = [
    (QUORLOCK, serve::<Plain>),
    (FENCED, serve::<Fenced>),
    (BASELINE, |args| baseline::serve(args, Mode::Plain)),
    (FENCED_BASELINE, |args| baseline::serve(args, Mode::Fenced)),
    (BY_HAND, serve::<ByHand>),
];

pub fn peers() -> Outcome<Vec<Peer>> {
    let baseline = [Part::OneThread, Part::AllThreads, Part::NodeCounts, Part::Distance, Part::Work];
    let library = [
        Part::OneThread,
        Part::AllThreads,
        Part::NodeCounts,
        Part::Throughput,
        Part::TaskCounts,
        Part::Cancelled,
        Part::Faults,
        Part::Distance,
        Part::Leases,
        Part::Renewals,
        Part::Takeover,
        Part::Work,
    ];
    // It neither renews nor waits, and the key of a cancelled acquire can exclude it until the key expires.
    let lacks = [Part::Leases, Part::Renewals, Part::Takeover];
    let by_hand: Vec<Part> = library.into_iter().filter(|part| !lacks.contains(part)).collect();
    Ok(vec![
        Peer::own(QUORLOCK, &library)?,
        Peer::own(FENCED, &library)?,
        Peer::own(BASELINE, &baseline)?,
        Peer::own(FENCED_BASELINE, &baseline)?,
        Peer::own(BY_HAND, &by_hand)?,
    ])
}
