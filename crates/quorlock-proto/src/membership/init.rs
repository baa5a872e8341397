//! `init`: makes the nodes a new lock cluster that votes at once.

use super::member::Member;
use super::{MarkerWrite, Membership, NodeWrite, split_mix};
use crate::marker::ClusterId;
use crate::quorum::{NodeId, NodeSet};
use crate::request::OperationId;
use crate::roster::record::Record;
use crate::roster::voting_time::MarkerTime;
use crate::roster::{Epoch, Roster, Seat, SeatId};
use crate::vote::{ReplyFailure, Vote};
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;

/// Which nodes an `init` makes a lock cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum InitMode {
    /// All nodes, if all are blank. They vote at once.
    Blank,
    /// All nodes, whatever they remember. They vote at once.
    Forced,
    /// The nodes that reply. The seats of the others become vacant without a wait. A node that may have lost
    /// data passes its probation.
    WithoutUnreachable,
}

/// Whether the node belongs to no lock cluster. A client may have drawn a seat for it, for a founding that others
/// did not finish.
fn is_blank(member: &Member) -> bool {
    let Some(reading) = &member.reading else { return false };
    let is_waiting =
        |record: &Record| !record.was_member && record.roster.is_none() && record.accepted.is_none();
    reading.marker.is_none() || member.view.record.as_ref().is_some_and(is_waiting)
}

/// The result of an `init`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum InitResult {
    /// The nodes are a new lock cluster, and vote at once, or after their probation.
    Initialized,
    /// They were a lock cluster with the same list of nodes and the same settings already; nothing was changed.
    AlreadyInitialized,
    /// A node has another marker, or the lock cluster has another list of nodes or other settings; nothing was changed.
    InOtherLockCluster,
    /// A node is not connected, or too few of those that reply can have a seat. Nothing was changed, or only some
    /// nodes: run `init` again.
    Unreachable,
    /// A node rejected the marker, or another client wrote a different one meanwhile: run `init` again.
    /// Contains every node's vote, a grant where the new marker is stored.
    Rejected(Vec<Vote>),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct PendingInit {
    operation: OperationId,
    cluster: ClusterId,
    mode: InitMode,
    /// The roster that was in force before, if any.
    before: Option<Arc<Roster>>,
    /// The new roster, and the nodes that have not replied to its write; `None` before the writes are sent.
    writes: Option<(Arc<Roster>, NodeSet)>,
    /// The nodes' votes.
    replies: Vec<Vote>,
    /// Whether the new roster is the one that won over those of other clients.
    is_settling: bool,
}

impl Membership {
    /// Makes the nodes a new lock cluster. Ends with [`MemberStep::InitDone`](super::MemberStep::InitDone).
    /// Poll next.
    pub fn initialize(
        &mut self,
        operation: OperationId,
        cluster: ClusterId,
        mode: InitMode,
        now: crate::time::DualTimestamp,
    ) {
        let read = self.members.iter().filter(|member| member.is_up && member.reading.is_some());
        let is_enough = if mode == InitMode::WithoutUnreachable {
            let quorum = self.config.quorum().listing(self.members.len());
            quorum.is_met(read.filter(|member| member.view.is_fit).count())
        } else {
            read.count() == self.members.len()
        };
        if self.pending_init.is_some() || !is_enough {
            self.init_result = Some((operation, InitResult::Unreachable));
            return;
        }
        let replies = vec![Vote::Unknown(ReplyFailure::Timeout); self.members.len()];
        let before = self.roster.clone();
        let is_other = before.as_ref().is_some_and(|it| !self.is_as_configured(it));
        let (writes, is_settling) = (None, false);
        self.pending_init =
            Some(PendingInit { operation, cluster, mode, before, writes, replies, is_settling });
        if mode == InitMode::WithoutUnreachable {
            if is_other {
                // The proposer changes nothing of a lock cluster with another list, and never the settings.
                self.end_init(InitResult::InOtherLockCluster);
                return;
            }
            self.skips_absence = true;
            self.evaluate(now);
            self.end_init_without_unreachable();
        } else {
            self.begin_init();
        }
    }

    /// Writes the new records, once no reading is pending: a pending one could still change the marker to
    /// replace.
    pub(super) fn begin_init(&mut self) {
        let Some(PendingInit { cluster, mode, writes: None, .. }) = self.pending_init else { return };
        if mode == InitMode::WithoutUnreachable {
            self.end_init_without_unreachable();
            return;
        }
        if self.members.iter().any(Member::is_read_pending) {
            return;
        }
        if mode == InitMode::Blank && !self.members.iter().all(is_blank) {
            let result = if self.is_one_cluster() {
                InitResult::AlreadyInitialized
            } else {
                InitResult::InOtherLockCluster
            };
            self.end_init(result);
            return;
        }
        self.draws += 1;
        let seat = |node: usize| SeatId::drawn(split_mix(self.client ^ self.draws), NodeId(node as u8));
        let mut seats = vec![Seat::default(); self.members.len()];
        for index in 0..self.members.len() {
            seats[self.list.position(NodeId(index as u8))].id = Some(seat(index));
        }
        let roster = Arc::new(Roster {
            cluster,
            epoch: Epoch::default().after_recovery(),
            list: self.list.hash(),
            config: self.config,
            probation: self.config.max_ttl(),
            fence_base: self.members.iter().map(|member| member.view.largest_number).max().unwrap_or(0),
            seats,
        });
        let max_ttl = self.config.max_ttl();
        let seats: Vec<SeatId> = (0..self.members.len()).map(seat).collect();
        for (member, seat) in self.members.iter_mut().zip(seats) {
            let Some(reading) = &member.reading else { continue };
            let record = Record {
                seat,
                was_member: true,
                roster: Some(roster.clone()),
                promised: None,
                accepted: None,
            };
            let (marker, time) = (member.parsed.marker.as_ref(), MarkerTime::After(Duration::ZERO));
            let write = MarkerWrite::new(reading, marker, &record, max_ttl, time, 0);
            member.request_write(NodeWrite::Marker(Box::new(write)));
        }
        if let Some(init) = &mut self.pending_init {
            init.writes = Some((roster, self.list.nodes()));
        }
    }

    /// Whether an `init` is about to write all records, so that nothing else is written.
    pub(super) fn is_init_pending(&self) -> bool {
        self.pending_init.as_ref().is_some_and(|init| init.mode != InitMode::WithoutUnreachable)
    }

    pub(super) fn end_init(&mut self, result: InitResult) {
        if let Some(init) = self.pending_init.take() {
            self.skips_absence = false;
            self.init_result = Some((init.operation, result));
        }
    }

    /// Ends an `init` that a node was lost for.
    pub(super) fn end_init_if_unreachable(&mut self) {
        let up = self.members.iter().filter(|member| member.is_up).count();
        let skips = self.pending_init.as_ref().is_some_and(|it| it.mode == InitMode::WithoutUnreachable);
        if !(skips && self.quorum().is_met(up)) {
            self.end_init(InitResult::Unreachable);
        }
    }

    /// It is done when a quorum are members. It also ends when nothing is left to do for that.
    fn end_init_without_unreachable(&mut self) {
        let Some(init) = &self.pending_init else { return };
        let roster = self.roster.as_ref();
        let members = self.members.iter().filter(|member| roster.is_some_and(|it| member.is_member_of(it)));
        if self.quorum().is_met(members.count()) {
            let is_as_before = init.before == self.roster;
            let is_other = roster.is_some_and(|it| !self.is_as_configured(it));
            self.end_init(match () {
                // Another client was first.
                () if is_other => InitResult::InOtherLockCluster,
                () if is_as_before => InitResult::AlreadyInitialized,
                () => InitResult::Initialized,
            });
        } else if !self.is_ballot_needed() && !self.members.iter().any(Member::is_read_pending) {
            self.end_init(InitResult::Unreachable);
        }
    }

    /// A node sent no reading: it rejected what was to be written, for example, and does so again if asked again.
    fn fail_init_without_unreachable(&mut self, node: NodeId, failure: Vote) {
        let vote = |member: &Member| match &self.roster {
            Some(roster) if member.is_member_of(roster) => Vote::Granted,
            _ => Vote::Unknown(ReplyFailure::NotWaitedFor),
        };
        let mut votes: Vec<Vote> = self.members.iter().map(vote).collect();
        votes[node.index()] = failure;
        self.end_init(InitResult::Rejected(votes));
    }

    /// Whether it has the client's list of nodes and its settings.
    fn is_as_configured(&self, roster: &Roster) -> bool {
        roster.config == self.config && roster.list == self.list.hash()
    }

    /// Whether the nodes are one lock cluster with the client's list and settings. Nodes that wait for a seat in it,
    /// or will, have no roster.
    fn is_one_cluster(&self) -> bool {
        let Some(roster) = self.roster.as_ref().filter(|it| self.is_as_configured(it)) else { return false };
        self.members.iter().all(|member| match member.view.roster() {
            Some(its) => its.cluster == roster.cluster,
            None => member.view.is_up,
        })
    }

    /// Records a node's reply to the write; `failure` is the vote of a node that sent no reading. The `init`
    /// ends after all replies, so that it reports all failures at once.
    pub(super) fn on_init_reply(&mut self, node: NodeId, failure: Option<Vote>) {
        let skips = self.pending_init.as_ref().is_some_and(|it| it.mode == InitMode::WithoutUnreachable);
        if let Some(failure) = failure.clone().filter(|_| skips) {
            self.fail_init_without_unreachable(node, failure);
            return;
        }
        let Some(PendingInit { cluster, writes: Some((roster, unconfirmed)), replies, .. }) =
            &mut self.pending_init
        else {
            return;
        };
        let record = self.members[node.index()].view.record.as_ref();
        let is_written = record.is_some_and(|record| record.is_member_of(roster));
        replies[node.index()] = failure.unwrap_or(if is_written {
            Vote::Granted
        } else {
            Vote::Unknown(ReplyFailure::MarkerMismatch)
        });
        unconfirmed.remove(node);
        if !unconfirmed.is_empty() {
            return;
        }
        let is_ours = *cluster == roster.cluster;
        let replies = core::mem::take(replies);
        if replies.iter().all(Vote::is_grant) {
            self.end_init(if is_ours { InitResult::Initialized } else { InitResult::AlreadyInitialized });
        } else if !self.settle_with_other_inits() {
            self.end_init(InitResult::Rejected(replies));
        }
    }

    /// Several clients ran `init` at once, and each has written its roster to some of the nodes, which were all blank.
    /// No node is blank any more, so what each of them has is final, and all of these clients know it. They take the
    /// same roster, the one that most nodes have: the others are on fewer nodes than a quorum, and have had no lock.
    fn settle_with_other_inits(&mut self) -> bool {
        let Some(winner) = self.winner_of_inits() else { return false };
        let max_ttl = self.config.max_ttl();
        let mut unconfirmed = NodeSet::EMPTY;
        for (index, member) in self.members.iter_mut().enumerate() {
            let node = NodeId(index as u8);
            let (Some(reading), Some(seat)) = (&member.reading, winner.seats[self.list.position(node)].id)
            else {
                return false;
            };
            if member.is_member_of(&winner) {
                continue;
            }
            let roster = Some(winner.clone());
            let record = Record { seat, was_member: true, roster, promised: None, accepted: None };
            let (marker, time) = (member.parsed.marker.as_ref(), MarkerTime::After(Duration::ZERO));
            let write = MarkerWrite::new(reading, marker, &record, max_ttl, time, 0);
            member.request_write(NodeWrite::Marker(Box::new(write)));
            unconfirmed.insert(node);
        }
        if let Some(init) = &mut self.pending_init {
            init.replies = vec![Vote::Granted; self.members.len()];
            init.writes = Some((winner, unconfirmed));
            init.is_settling = true;
        }
        true
    }

    /// The roster that most nodes have, if all have the first roster of an `init` like this one.
    fn winner_of_inits(&self) -> Option<Arc<Roster>> {
        let init = self.pending_init.as_ref().filter(|it| it.mode == InitMode::Blank && !it.is_settling)?;
        let (own, _) = init.writes.as_ref()?;
        let is_like_own = |it: &Roster| {
            let is_full = it.seats.iter().all(|seat| seat.id.is_some());
            it.epoch == own.epoch && self.is_as_configured(it) && is_full
        };
        let first_roster = |member: &Member| {
            let roster = member.view.record.as_ref()?.roster.clone()?;
            (member.is_member_of(&roster) && is_like_own(&roster)).then_some(roster)
        };
        let rosters: Vec<Arc<Roster>> = self.members.iter().map(first_roster).collect::<Option<_>>()?;
        let count = |it: &Arc<Roster>| rosters.iter().filter(|other| *other == it).count();
        rosters.iter().max_by_key(|it| (count(it), it.cluster)).cloned()
    }
}
