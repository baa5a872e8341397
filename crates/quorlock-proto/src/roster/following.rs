//! Which roster a client follows, and what it waits for.

use alloc::sync::Arc;
use core::cmp::Ordering;

use super::Roster;
use super::proposer::{Next, Proposer, members, nodes};
use super::reconfiguration::Wait;
use super::record::RecordWrite;
use super::server_view::{Permissions, ServerView};
use crate::quorum::NodeSet;

impl Proposer {
    /// The roster that this client follows: of the lock cluster with its list that the most servers remember, or
    /// else of the one that most servers have in their data, the latest. Of two with one number, it is the one
    /// with more servers.
    #[must_use]
    pub fn current<'a>(&self, servers: &'a [ServerView]) -> Option<&'a Arc<Roster>> {
        let rosters = || servers.iter().filter_map(ServerView::roster);
        let first = rosters().next()?;
        if rosters().all(|it| it == first) {
            return Some(first);
        }
        let in_cluster = |cluster| rosters().filter(|it| it.cluster == cluster).count();
        let is_ours = |cluster| rosters().any(|it| it.cluster == cluster && it.list == self.list.hash());
        let remembering = |cluster| {
            let remembers = |server: &&ServerView| {
                let record = server.record.as_ref().filter(|record| record.was_member);
                record.and_then(|it| it.roster.as_ref()).is_some_and(|it| it.cluster == cluster)
            };
            if is_ours(cluster) { servers.iter().filter(remembers).count() } else { 0 }
        };
        let with_same = |roster: &Arc<Roster>| rosters().filter(|it| *it == roster).count();
        let rank = |it: &Arc<Roster>| {
            let servers = (remembering(it.cluster), in_cluster(it.cluster));
            (servers, is_ours(it.cluster), it.cluster, it.epoch, with_same(it))
        };
        rosters().max_by(|one, other| {
            let by_hash = || if one == other { Ordering::Equal } else { one.hash().cmp(&other.hash()) };
            rank(one).cmp(&rank(other)).then_with(by_hash)
        })
    }

    /// While it reconfigures, its list is the one in force, as far as it knows the nodes.
    pub(super) fn follow_list(&mut self, current: Option<&Roster>) {
        if let (Some(it), Some(current)) = (&self.reconfiguration, current)
            && current.list != self.list.hash()
            && let Some(nodes) = it.nodes_of(current.list)
        {
            self.list = it.list(nodes);
        }
    }

    /// Members of an earlier roster learn the current one, also those that have no seat there any more.
    pub(super) fn carry(
        servers: &[ServerView],
        current: Option<&Arc<Roster>>,
        writes: &mut [Option<RecordWrite>],
    ) {
        let Some(current) = current else { return };
        let has_majority = members(servers, current).len() >= current.majority();
        for (server, write) in servers.iter().zip(writes) {
            let Some(record) = server.record.as_ref().filter(|_| server.is_up) else { continue };
            let is_earlier = match record.roster.as_deref() {
                Some(its) => {
                    // Two recoveries have one number if the first was lost. What the client read of servers
                    // that do not reply any more may be the first.
                    let is_before = its.epoch < current.epoch || its.epoch == current.epoch && has_majority;
                    its.cluster == current.cluster && is_before && its != &**current
                }
                None => true,
            };
            if is_earlier && (record.was_member || current.has(record.seat)) {
                *write = Some(RecordWrite::Carry(current.clone()));
            }
        }
    }

    /// The nodes that are to be added to the list in force; none without a reconfiguration.
    #[must_use]
    pub fn to_add(&self) -> NodeSet {
        self.reconfiguration.as_ref().map_or(NodeSet::EMPTY, |it| it.to_add(&self.list))
    }

    /// What keeps the reconfiguration from its next step; `None` if nothing does, or without a reconfiguration.
    #[must_use]
    pub fn waits_for(&self, servers: &[ServerView], may: &Permissions) -> Option<Wait> {
        let current = self.current(servers)?;
        if current.list != self.list.hash() {
            return self.reconfiguration.as_ref().map(|_| Wait::OtherList);
        }
        let views = (servers, may.voting);
        self.reconfiguration.as_ref()?.next(current, &self.list, views).err()
    }

    /// Whether the servers that reply could found or recover the lock cluster if all others were absent for the
    /// max ttl, and cannot before.
    #[must_use]
    pub fn waits_for_absence(&self, servers: &[ServerView], may: &Permissions) -> bool {
        let current = self.current(servers);
        let all_absent = Permissions { absent: nodes(servers, |server| !server.is_up), ..*may };
        let is_ours = current.is_none_or(|it| it.list == self.list.hash());
        let plan = |may| self.plan(servers, current.map(|it| &**it), may);
        is_ours && plan(may).is_none() && plan(&all_absent).is_some_and(|it| it.next == Next::Recovery)
    }
}
