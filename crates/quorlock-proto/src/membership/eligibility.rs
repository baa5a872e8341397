//! Eligibility: what its record entitles a node to.

use alloc::format;
use alloc::sync::Arc;

use super::member::Member;
use super::parsed_reading::ParsedReading;
use crate::marker::{LockClusterConfig, MarkerReading};
use crate::mutant::{Mutant, enabled};
use crate::quorum::NodeId;
use crate::roster::record::Record;
use crate::roster::server_view::ServerView;
use crate::roster::voting_time::probation_of;
use crate::roster::{ListHash, Roster};
use crate::vote::{ExclusionReason, ReplyFailure};

/// What a node is entitled to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) enum Eligibility {
    /// Not decided yet.
    #[default]
    Unverified,
    /// It votes after its probation.
    Member(ExpectedMarker),
    /// It has no seat, with the reason if that may last; or it takes part in the choice of the next roster.
    NotAMember(Option<ReplyFailure>),
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

/// What a server with this reading remembers.
pub(super) fn view_of(
    reading: &MarkerReading,
    parsed: &ParsedReading,
    config: LockClusterConfig,
) -> ServerView {
    if reading.marker.is_none() {
        return ServerView { is_up: true, is_fit: !reading.evicts, ..ServerView::default() };
    }
    let Some(marker) = &parsed.marker else {
        // Another program's value, which must stay.
        return ServerView::default();
    };
    let record = parsed.record.clone();
    // The settings of the lock cluster count, not those of a client that has others.
    let roster = record.as_ref().and_then(|record| record.roster.as_ref());
    let config = roster.map_or(config, |roster| roster.config);
    let probation = roster.map_or(config.max_ttl(), |roster| roster.probation);
    // The data of a server that knows when it votes began at least a probation earlier.
    let began = if marker.was_member {
        marker.time_micros.saturating_sub(probation_of(probation).as_micros() as u64)
    } else {
        marker.time_micros
    };
    let remembers = marker.incarnation.is_same(&reading.incarnation)
        && began <= reading.micros
        && !(reading.was_set_back(config.retention()) && marker.base_micros < reading.latest_micros);
    let roster = record.as_ref().and_then(|record| record.roster.clone());
    // Without a roster it has given out no number.
    let largest_number =
        roster.as_ref().map_or(0, |_| (reading.micros + HINT_TOLERANCE_MICROS).max(reading.highest_number));
    ServerView {
        is_up: true,
        is_fit: !reading.evicts,
        hint: roster.filter(|_| !remembers),
        record: record.filter(|_| remembers),
        largest_number,
    }
}

/// The eligibility of a node under this roster; `list` is the client's, or the one in force while it reconfigures, and
/// `is_hopeless` is whether blank nodes stay blank.
pub(super) fn eligibility_of(
    members: &[Member],
    node: NodeId,
    roster: Option<&Roster>,
    (list, followed_list): (ListHash, ListHash),
    is_hopeless: bool,
) -> Eligibility {
    let member = &members[node.index()];
    let Some(reading) = &member.reading else { return Eligibility::Unverified };
    let marker = member.parsed.marker.as_ref();
    if reading.marker.is_some() && marker.is_none() {
        return Eligibility::Excluded(ExclusionReason::Unsupported(
            "`quorlock:node` holds a value that is not a marker".into(),
        ));
    }
    let Some(roster) = roster else {
        return if is_hopeless {
            Eligibility::Excluded(ExclusionReason::Uninitialized)
        } else {
            Eligibility::NotAMember(explain_no_seat(members, None))
        };
    };
    if member.view.is_foreign(Some(roster), list) {
        return Eligibility::Excluded(ExclusionReason::ClusterMismatch(
            "most of the nodes given belong to a different one".into(),
        ));
    }
    let known = members.len() - members.iter().filter(|member| has_left(member, roster)).count();
    if known < roster.config.quorum().needed() && !has_left(member, roster) {
        let message = format!(
            "its lock cluster has {}, and this client's list names {known} of these nodes: change the list",
            roster.config
        );
        return Eligibility::Excluded(ExclusionReason::OtherNodeList(message.into()));
    }
    if roster.list != followed_list
        && !has_left(member, roster)
        && let Some(reason) = distrust(members, roster)
    {
        return reason;
    }
    match (&member.view.record, marker) {
        (Some(record), Some(marker)) if has_vote(record, roster) => {
            let others = members[..node.index()].iter().filter(|other| other.is_up);
            let has_seat = |other: &Member| other.view.record.as_ref().is_some_and(|it| it.seat == record.seat);
            if others.into_iter().any(has_seat) {
                return Eligibility::NotAMember(None);
            }
            Eligibility::Member(ExpectedMarker {
                marker: reading.marker.clone().unwrap_or_default(),
                votes_from_micros: marker.time_micros,
                fencing_numbers_above: marker.time_micros.max(marker.base_micros).max(roster.fence_base),
            })
        }
        _ if has_left(member, roster) && roster.list == list => {
            Eligibility::Excluded(ExclusionReason::NotInRoster)
        }
        _ if has_left(member, roster) => Eligibility::Excluded(ExclusionReason::OtherNodeList(
            "it is not one of the lock cluster's nodes any more: change this client's list".into(),
        )),
        // It takes part in the choice of the next roster, or learns this one in a moment.
        (Some(record), _) if record.was_member || roster.has(record.seat) => {
            Eligibility::NotAMember(explain_no_seat(members, Some(roster)))
        }
        _ if roster.list != list => Eligibility::Excluded(ExclusionReason::OtherNodeList(
            "this client has another list of nodes (host, port and database of each, or their names), so it cannot \
             give a seat to a node that has none"
                .into(),
        )),
        _ => Eligibility::NotAMember(explain_no_seat(members, Some(roster))),
    }
}

/// Why a client with another list does not follow this roster. The lock cluster may be another than its own: then
/// an address that leads there would give a second holder while the own one is down. So at least half of its nodes,
/// and two of them, must be of the lock cluster, or must have been. Half, because a client may have both the nodes from
/// before a reconfiguration and those after it.
fn distrust(members: &[Member], roster: &Roster) -> Option<Eligibility> {
    let is_of_cluster =
        |member: &&Member| member.view.roster().is_some_and(|it| it.cluster == roster.cluster);
    let of_cluster = members.iter().filter(is_of_cluster).count();
    let unknown = members.iter().filter(|member| !member.is_up && !is_of_cluster(member)).count();
    let needed = members.len().div_ceil(2).max(members.len().min(2));
    if of_cluster >= needed {
        None
    } else if of_cluster + unknown >= needed {
        Some(Eligibility::NotAMember(Some(ReplyFailure::Unverified)))
    } else {
        let message = format!(
            "its lock cluster has another list of nodes, and only {of_cluster} of the {} nodes of this client's list are \
             of it: change the list",
            members.len()
        );
        Some(Eligibility::Excluded(ExclusionReason::OtherNodeList(message.into())))
    }
}

/// Whether the server knows this roster, and that it has no seat there any more.
fn has_left(member: &Member, roster: &Roster) -> bool {
    member.view.record.as_ref().is_some_and(|record| {
        let knows = record.was_member && record.roster.as_deref() == Some(roster);
        knows && !record.is_sealed() && !roster.has(record.seat)
    })
}

fn has_vote(record: &Record, roster: &Roster) -> bool {
    let has_lost_seat = record.was_member && record.roster.as_deref() == Some(roster);
    let has_seat = record.is_member_of(roster) || has_lost_seat && enabled(Mutant::LostSeatVotes);
    has_seat && !record.is_sealed()
}

/// Why a node that is not a member is not.
fn explain_no_seat(members: &[Member], roster: Option<&Roster>) -> Option<ReplyFailure> {
    // Also members that do not carry this roster yet: that takes a moment.
    let has_seat = |member: &&Member| {
        member.is_up
            && member.view.record.as_ref().is_some_and(|it| roster.is_some_and(|roster| roster.has(it.seat)))
    };
    let count = members.iter().filter(has_seat).count();
    let lacks_members = roster.is_none_or(|roster| count < roster.majority());
    // Where all nodes reply, some client makes the change within a moment.
    (lacks_members && members.iter().any(|member| !member.is_up)).then_some(ReplyFailure::Unverified)
}

/// How far ahead of its clock a node follows a number that a client prefers (`lua/acquire_fenced.lua`).
const HINT_TOLERANCE_MICROS: u64 = crate::fence::CLOCK_TOLERANCE_MICROS;
