//! Checks of rosters that follow each other, in histories with reconfigurations: who votes under which, and for how
//! long probation is.

use std::sync::Arc;

use super::engine::Sim;
use super::oracle::Oracle;
use super::stats::{Cause, Invariant};
use crate::marker::ClusterId;
use crate::quorum::NodeSet;
use crate::request::{OperationId, Request};
use crate::roster::record::Record;
use crate::roster::{Epoch, Roster, SeatId};
use crate::vote::Vote;

impl Oracle {
    /// Records a roster that was chosen. Returns the one of its epoch that was known before.
    pub(super) fn record_roster(&mut self, roster: &Arc<Roster>, now: u64) -> Option<Arc<Roster>> {
        let number = (roster.cluster, roster.epoch);
        self.chosen_at.entry(number).or_insert(now);
        self.rosters.insert(number, roster.clone())
    }
}

impl Sim<'_> {
    /// A server with this seat carries the roster. Its probation begins if it has not had the seat before.
    pub(super) fn note_joined(&mut self, node: usize, seat: SeatId, roster: &Roster) {
        if self.oracle.is_ghost || !self.plan.reconfigures() {
            return;
        }
        let is_new = self.oracle.seat_of[node].replace(seat) != Some(seat);
        // After a recovery it counts from when the server's data began.
        if is_new && !roster.is_recovery() {
            self.oracle.joined_at[node] = self.nanos;
        }
    }

    /// A client with another list than the roster's gives no seats. It finishes what other clients have begun: it
    /// writes their proposals, or the roster in force once more.
    pub(super) fn check_other_list_writes(
        &mut self,
        node: usize,
        client: usize,
        before: Option<&Record>,
        after: &Record,
    ) {
        let rosters = || before.into_iter().chain([after]).filter_map(|it| it.roster.as_ref());
        let is_chosen = |it: &Roster| {
            self.oracle.rosters.get(&(it.cluster, it.epoch)).is_some_and(|known| **known == *it)
        };
        let is_unchanged = |it: &Roster| {
            let same = |base: &Arc<Roster>| {
                Roster { epoch: base.epoch, fence_base: base.fence_base, ..it.clone() } == **base
            };
            rosters().any(same)
        };
        let is_known = |it: &Arc<Roster>| self.oracle.proposals.contains(it) || is_chosen(it);
        let proposal = after.accepted.as_ref().map(|(_, it)| it);
        let gives_seat = before.is_none_or(|before| before.seat != after.seat)
            || proposal.is_some_and(|it| !is_known(it) && !is_unchanged(it))
            || before.is_some_and(|it| it.roster != after.roster)
                && !after.roster.as_ref().is_some_and(is_known);
        if gives_seat {
            let message = format!("client {client}, which has another list, has changed node {node}");
            self.report_violation(Invariant::Membership, &message);
        }
    }

    /// A recovery under another list than that of a roster whose quorum remembers makes a second lock cluster. Only
    /// servers without memory may do so, which no longer say that there is another list.
    pub(super) fn check_other_list(&mut self, roster: &Roster) {
        if !self.plan.reconfigures() || !roster.is_recovery() || self.oracle.reinitializations > 0 {
            return;
        }
        let has_quorum = |it: &Roster| it.config.quorum().is_met(self.members_of(it));
        let others = self.oracle.rosters.values().filter(|it| it.list != roster.list);
        let Some(other) = others.filter(|it| has_quorum(it)).max_by_key(|it| it.epoch).cloned() else {
            return;
        };
        // One of the two may be written to a server long after it was chosen.
        let is_exempt = [roster, &*other].into_iter().any(|it| it.is_recovery() && self.remembers_none(it));
        let message = format!("beside the roster {}, there is {}", other.to_text(), roster.to_text());
        let cause = is_exempt.then_some(Cause::SecondLockCluster);
        self.report_breach(Invariant::Membership, cause, &message);
        self.oracle.roster_exemption = cause;
    }

    /// Whether all servers with a seat were without memory: no earlier roster has one of the seats.
    fn remembers_none(&self, roster: &Roster) -> bool {
        let earlier = || self.oracle.rosters.values().filter(|it| it.epoch < roster.epoch);
        let is_known = |id: SeatId| earlier().any(|it| it.has(id));
        !roster.seats.iter().filter_map(|seat| seat.id).any(is_known)
    }

    /// Locks of earlier rosters may run for their max TTL. No probation is shorter meanwhile.
    pub(super) fn check_probation(&mut self, roster: &Roster) {
        if self.oracle.roster_exemption.is_some() {
            return;
        }
        let earlier = self.oracle.rosters.range(..=(roster.cluster, roster.epoch));
        let numbers: Vec<_> = earlier.filter(|((cluster, _), _)| *cluster == roster.cluster).collect();
        for pair in numbers.windows(2) {
            let (before, until) = (pair[0].1, self.oracle.chosen_at[pair[1].0]);
            let locks = self.plan.min_elapsed_nanos(before.config.max_ttl());
            if self.nanos < until + locks && roster.probation < before.config.max_ttl() {
                let message =
                    format!("locks of {} may outlive the probation of {}", before.epoch, roster.epoch);
                // A recovery does not know a roster that no server has in its data any more.
                let cause = roster.is_recovery().then_some(Cause::LongerTtlForgotten);
                self.report_breach(Invariant::Membership, cause, &message);
                self.oracle.roster_exemption = cause;
                return;
            }
        }
    }

    /// Notes the roster under which the node has voted. The vote of a larger fence counts once no other client has it.
    pub(super) fn note_vote(&mut self, node: usize, request: &Request, vote: &Vote) {
        let is_vote = vote.is_grant() || matches!(vote, Vote::FencedOut { .. });
        if !self.plan.reconfigures() || !is_vote {
            return;
        }
        let number = self.roster_in_data(node).map(|roster| (roster.cluster, roster.epoch));
        if let Some(id) = self.oracle.attempt_with_token(request.token) {
            self.oracle.records[id as usize].per_node[node].voted_under = number;
        }
    }

    /// Notes how many nodes must have the lock's key, and checks that so many of these nodes have voted under one roster.
    pub(super) fn note_quorum(&mut self, id: OperationId, nodes: NodeSet) {
        let record = &self.oracle.records[id as usize];
        if !self.plan.reconfigures() {
            self.oracle.records[id as usize].needed = self.plan.quorum.needed();
            return;
        }
        let votes: Vec<(ClusterId, Epoch)> =
            nodes.iter().filter_map(|node| record.per_node[node.index()].voted_under).collect();
        let count = |number: &(ClusterId, Epoch)| votes.iter().filter(|it| *it == number).count();
        let Some(number) = votes.iter().max_by_key(|it| (count(it), **it)).copied() else { return };
        let Some(needed) = self.oracle.rosters.get(&number).map(|it| it.config.quorum().needed()) else {
            return;
        };
        let count = count(&number);
        self.oracle.records[id as usize].needed = needed;
        if count < needed {
            let message =
                format!("lock {id} has {count} votes under roster {}, which needs {needed}", number.1);
            let exemption = self.oracle.moved_exemption(&[id]);
            self.report_breach(Invariant::Membership, exemption, &message);
        }
        let lists = self.oracle.rosters[&number].list;
        let client_host = &self.clients[self.oracle.records[id as usize].client];
        if super::reconfigurations::list_of(&client_host.list).hash() != lists {
            self.stats.count_situation(super::situations::Situation::LockedWithOtherList);
        }
    }
}
