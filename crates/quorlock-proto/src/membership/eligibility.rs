//! What a node's memory is worth.

use std::sync::Arc;

use crate::marker::{ClusterId, LockClusterConfig, Marker, MarkerReading};
use crate::vote::ExclusionReason;

/// What becomes of a node, by what it remembers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) enum Eligibility {
    /// Nobody can tell yet.
    #[default]
    Unverified,
    /// It votes once it is past its probation.
    Member(ExpectedMarker),
    /// It must be told to remember this cluster and charter.
    NeedsMarker(Arc<str>),
    /// It may not vote.
    Excluded(ExclusionReason),
}

/// What a node is expected to remember.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ExpectedMarker {
    /// Its marker, to the letter.
    pub marker: Arc<str>,
    /// From when on it votes, in microseconds of its own clock.
    pub votes_from_micros: u64,
    /// What every fencing number of it is above.
    pub fencing_numbers_above: u64,
}

/// What becomes of a node that remembers this, if the nodes are this cluster, as far as enough of them have said.
pub(super) fn eligibility_of(
    reading: &MarkerReading,
    in_force: Option<ClusterId>,
    all_looked: bool,
    config: LockClusterConfig,
) -> Eligibility {
    let marker = match reading.marker.as_deref() {
        None => {
            return match in_force {
                Some(cluster) => Eligibility::NeedsMarker(Marker::identity(cluster, config)),
                None if all_looked => Eligibility::Excluded(ExclusionReason::Uninitialized),
                None => Eligibility::Unverified,
            };
        }
        Some(text) => Marker::parse(text),
    };
    let Some(marker) = marker else {
        return Eligibility::Excluded(ExclusionReason::Unsupported(
            "`quorlock:node` is taken: it holds something that is no marker".into(),
        ));
    };
    if marker.config != config {
        let words = format!("its clients agreed on {}, this client was given {config}", marker.config);
        return Eligibility::Excluded(ExclusionReason::ClusterMismatch(words.into()));
    }
    match in_force {
        Some(cluster) if cluster != marker.cluster => Eligibility::Excluded(
            ExclusionReason::ClusterMismatch("most of the nodes given belong to a different one".into()),
        ),
        // Another server, other data, or a clock that was set back: behind the marker, or too far for its fences.
        Some(_)
            if !marker.incarnation.is_same(&reading.incarnation)
                || marker.since_micros > reading.micros
                || reading.was_set_back(config.retention()) && marker.base_micros < reading.latest_micros =>
        {
            Eligibility::NeedsMarker(Marker::identity(marker.cluster, config))
        }
        Some(_) => Eligibility::Member(ExpectedMarker {
            marker: reading.marker.clone().unwrap_or_default(),
            votes_from_micros: marker.votes_from_micros(),
            fencing_numbers_above: marker.fencing_numbers_above(),
        }),
        None if all_looked => Eligibility::Excluded(ExclusionReason::ClusterMismatch(
            "no quorum of the nodes given belongs to the same one (if they should, stop all clients, then \
             `quorlock init --force`)"
                .into(),
        )),
        None => Eligibility::Unverified,
    }
}
