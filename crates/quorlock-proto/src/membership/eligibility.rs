//! Eligibility: what its marker entitles a node to.

use alloc::format;
use alloc::sync::Arc;

use crate::marker::{ClusterId, LockClusterConfig, Marker, MarkerReading};
use crate::vote::ExclusionReason;

/// What a node is entitled to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) enum Eligibility {
    /// Not decided yet.
    #[default]
    Unverified,
    /// It votes after its probation.
    Member(ExpectedMarker),
    /// A new marker with this cluster id and these settings must be written to it.
    NeedsMarker(Arc<str>),
    /// It may not vote.
    Excluded(ExclusionReason),
}

/// The marker that a request carries and that the voting script compares with the stored one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ExpectedMarker {
    /// The marker's exact text.
    pub marker: Arc<str>,
    /// When the node votes, in microseconds of its own clock.
    pub votes_from_micros: u64,
    /// Every fencing number of the node is above this.
    pub fencing_numbers_above: u64,
}

/// The eligibility of a node with this reading. `confirmed_cluster` is the cluster id that enough nodes
/// confirm, if any; `all_read` is whether all nodes were read.
pub(super) fn eligibility_of(
    reading: &MarkerReading,
    confirmed_cluster: Option<ClusterId>,
    all_read: bool,
    config: LockClusterConfig,
) -> Eligibility {
    let marker = match reading.marker.as_deref() {
        None => {
            return match confirmed_cluster {
                Some(cluster) => Eligibility::NeedsMarker(Marker::identity(cluster, config)),
                None if all_read => Eligibility::Excluded(ExclusionReason::Uninitialized),
                None => Eligibility::Unverified,
            };
        }
        Some(text) => Marker::parse(text),
    };
    let Some(marker) = marker else {
        return Eligibility::Excluded(ExclusionReason::Unsupported(
            "`quorlock:node` holds a value that is not a marker".into(),
        ));
    };
    if marker.config != config {
        let message = format!("its clients have {}, this client has {config}", marker.config);
        return Eligibility::Excluded(ExclusionReason::ClusterMismatch(message.into()));
    }
    match confirmed_cluster {
        Some(cluster) if cluster != marker.cluster => Eligibility::Excluded(
            ExclusionReason::ClusterMismatch("most of the nodes given belong to a different one".into()),
        ),
        // Another server, other data, or a clock set back: behind the marker's time, or too far for the
        // node's fences.
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
        None if all_read => Eligibility::Excluded(ExclusionReason::ClusterMismatch(
            "no quorum of the nodes given belongs to the same one (if they should, stop all clients, then \
             `quorlock init --force`)"
                .into(),
        )),
        None => Eligibility::Unverified,
    }
}
