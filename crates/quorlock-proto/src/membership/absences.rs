//! Absences: which nodes the client does not reach, since when, and what the other nodes learn of them.

use alloc::vec::Vec;
use core::time::Duration;

use super::member::Member;
use super::{Begin, Membership, READS_PER_TTL, split_mix};
use crate::quorum::NodeId;
use crate::quorum::NodeSet;
use crate::roster::NodeList;
use crate::roster::server_view::Permissions;
use crate::time::DualTimestamp;

/// Whether the client reaches a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) enum Absence {
    /// It does, or it reaches no node at all.
    #[default]
    None,
    /// It has not since then.
    Since(DualTimestamp),
    /// It has not for so long that it tells the other nodes.
    Reportable,
}

impl Member {
    /// When its absence may be reported, if it is not yet.
    pub(super) fn report_absence_at(&self, is_any_up: bool) -> Option<DualTimestamp> {
        match self.absence {
            Absence::Since(since) if is_any_up => Some(since.plus(ABSENCE_REPORT_DELAY)),
            _ => None,
        }
    }

    /// Whether its absence may be reported from now on; true once.
    pub(super) fn absence_became_reportable(&mut self, is_any_up: bool, now: DualTimestamp) -> bool {
        let is_due = self.report_absence_at(is_any_up).is_some_and(|at| now.is_due(at));
        if is_due {
            self.absence = Absence::Reportable;
        }
        is_due
    }

    pub(super) fn is_absence_reportable(&self) -> bool {
        self.absence == Absence::Reportable
    }

    /// For how long this node's clients have not reached `node`.
    pub(super) fn reports_absence(&self, list: &NodeList, node: NodeId) -> Duration {
        let micros = self.reading.as_ref().map_or(0, |it| it.micros);
        self.parsed.absences.duration(list, node, micros)
    }

    /// Begins to measure the absence of a node that is not connected.
    pub(super) fn begin_absence(&mut self, now: DualTimestamp) {
        if !self.is_up {
            self.absence = Absence::Since(now);
        }
    }
}

impl Membership {
    pub(super) fn permissions(&mut self, now: DualTimestamp) -> Permissions {
        self.draws += 1;
        let max_ttl = self.probation();
        let list = self.proposer.list();
        let longer_than = |limit: Duration| -> NodeSet {
            let is_absent = |node: &NodeId| {
                let has_report = |member: &Member| member.reports_absence(list, *node) >= limit;
                !self.members[node.index()].is_up && (self.skips_absence || self.replying().all(has_report))
            };
            list.nodes().iter().filter(is_absent).collect()
        };
        let (voting, is_settled) = self.voting_and_settled(now);
        Permissions {
            now_millis: now.wall_nanos() / 1_000_000,
            absent: longer_than(max_ttl),
            to_vacate: longer_than(vacating_absence(max_ttl)),
            may_found: self.auto_init || self.skips_absence,
            leaves_out_unreachable: self.skips_absence,
            voting,
            is_settled,
            may_begin: self.begin == Begin::Now,
            random: split_mix(self.client ^ self.draws),
        }
    }

    /// How long until every node that does not reply has been absent for the max ttl, by the reports that were read
    /// last.
    pub(super) fn absence_left(&self) -> Duration {
        let max_ttl = self.probation();
        let list = self.proposer.list();
        let down = list.nodes().iter().filter(|node| !self.members[node.index()].is_up);
        let left = |node| {
            let left = self.replying().map(|member| match member.reports_absence(list, node) {
                Duration::ZERO => max_ttl + ABSENCE_REPORT_DELAY,
                absent => max_ttl.saturating_sub(absent),
            });
            left.max().unwrap_or(max_ttl)
        };
        down.map(left).max().unwrap_or_default()
    }

    /// The nodes that reply, of the list in force.
    fn replying(&self) -> impl Iterator<Item = &Member> {
        let members = self.proposer.list().nodes().iter().map(|node| &self.members[node.index()]);
        members.filter(|member| member.is_up)
    }

    /// The permissions of clients that found a lock cluster, if this client or others do. A client that does not
    /// knows of others if each node that replies has a report of each node that does not.
    pub(super) fn as_founders(&self, may: Permissions) -> Permissions {
        let list = self.proposer.list();
        let down = list.nodes().iter().filter(|node| !self.members[node.index()].is_up);
        let is_reported = self
            .replying()
            .all(|member| down.clone().all(|node| !member.reports_absence(list, node).is_zero()));
        Permissions { may_found: may.may_found || is_reported, ..may }
    }

    /// By when the seat of a node that does not reply becomes vacant, unless a client reaches it: by the reports that
    /// were read last, and with the time until they are read again. `None` if it does not become vacant by itself.
    #[must_use]
    pub fn seat_vacated_by(&self, node: NodeId) -> Option<DualTimestamp> {
        let list = self.proposer.list();
        let roster = self.roster.as_ref().filter(|it| it.list == list.hash())?;
        let is_taken = roster.seats.get(list.position(node))?.id.is_some();
        let is_member =
            |member: &&Member| member.view.record.as_ref().is_some_and(|it| it.is_member_of(roster));
        if !is_taken
            || self.members[node.index()].is_up
            || self.replying().filter(is_member).count() < roster.majority()
        {
            return None;
        }
        let at = |member: &Member| {
            let absent = member.reports_absence(list, node);
            let left = vacating_absence(self.probation()).saturating_sub(absent);
            let read_at = member.read_received_at.filter(|_| !absent.is_zero())?;
            Some(read_at.plus(left + self.max_ttl() / READS_PER_TTL))
        };
        let all: Option<Vec<DualTimestamp>> = self.replying().map(at).collect();
        all?.into_iter().reduce(|one, other| if one.is_due(other) { one } else { other })
    }

    /// Tells a node of the list in force which of the others the client cannot reach, if that is news to it.
    pub(super) fn report_absences(&mut self, node: NodeId) {
        let list = self.proposer.list();
        if !list.nodes().contains(node) {
            return;
        }
        let unreached: NodeSet =
            list.nodes().iter().filter(|node| !self.members[node.index()].is_up).collect();
        let is_absent = |node: &NodeId| self.members[node.index()].is_absence_reportable();
        let absent: NodeSet = unreached.iter().filter(is_absent).collect();
        let pause = self.probation();
        let member = &mut self.members[node.index()];
        let Some(reading) = member.reading.as_ref().filter(|_| member.is_up) else { return };
        if let Some(after) =
            member.parsed.absences.after_report(list, (unreached, absent), reading.micros, pause)
        {
            let replaces = reading.absences.clone();
            member.request_absences(replaces, after.to_text().into());
        }
    }
}

/// How long a node must be absent until its seat becomes vacant.
fn vacating_absence(max_ttl: Duration) -> Duration {
    MIN_VACATING_ABSENCE.max(max_ttl * VACATING_TTLS)
}

/// How long a node must be disconnected before its absence is reported.
pub(super) const ABSENCE_REPORT_DELAY: Duration = Duration::from_secs(1);
/// After how many max ttls, and after what time at least, the seat of an absent server becomes vacant.
const VACATING_TTLS: u32 = 10;
const MIN_VACATING_ABSENCE: Duration = Duration::from_secs(300);
