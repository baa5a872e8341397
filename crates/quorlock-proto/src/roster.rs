//! Rosters: who the members of a lock cluster are.
//!
//! Each roster names its *seats* and follows from the one before by an agreement of that one's members
//! ([`proposer`]). So at most one roster has a quorum, whatever addresses point to. A seat belongs to one
//! incarnation of a server: a server that may have lost data draws another seat, and votes again once a later
//! roster has it. (A chain of configurations, each chosen by consensus of the one before: Lamport, Malkhi and
//! Zhou, *Vertical Paxos and primary-backup replication*, 2009.)

pub mod absence;
mod following;
pub mod foresight;
pub mod proposer;
pub mod reconfiguration;
pub mod record;
pub mod server_view;
pub mod voting_time;

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::{self, Write as _};
use core::time::Duration;

use crate::marker::{ClusterId, LockClusterConfig};
use crate::quorum::{NodeId, NodeSet, Quorum};

/// The number of a roster. A change counts the second part up. A recovery counts the first part up, so that
/// its roster is above every roster that absent servers may have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Epoch {
    recovery: u32,
    change: u32,
}

impl Epoch {
    /// The epoch after a change of a member.
    #[must_use]
    pub const fn after_change(self) -> Self {
        Self { change: self.change.saturating_add(1), ..self }
    }

    /// The epoch after a recovery.
    #[must_use]
    pub const fn after_recovery(self) -> Self {
        Self { recovery: self.recovery.saturating_add(1), change: 0 }
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.recovery, self.change)
    }
}

/// The name of one incarnation of a server: 64 random bits, drawn by the client that first writes to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SeatId(pub u64);

impl SeatId {
    /// The seat for a node that these random bits give. It differs for each of the nodes, of which there are
    /// fewer than 64, and is never 0.
    #[must_use]
    pub const fn drawn(random: u64, node: NodeId) -> Self {
        let bits = random.rotate_left(7 * node.0 as u32);
        Self(if bits == 0 { 1 } else { bits })
    }
}

/// The hash of a client's list of nodes: the names of all, sorted. A name is host, port and database, or one that
/// the user gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ListHash(pub u64);

/// Hashes a list of nodes, whose names are given in sorted order.
#[derive(Clone, Copy)]
struct ListHasher(u128);

impl ListHasher {
    fn with(self, name: &str) -> Self {
        Self(fnv_on(self.0, name.bytes().chain([0])))
    }

    const fn finish(self) -> ListHash {
        ListHash((self.0 >> 64) as u64 ^ self.0 as u64)
    }
}

impl Default for ListHasher {
    fn default() -> Self {
        Self(FNV_OFFSET)
    }
}

/// A client's list of nodes: its hash, and the position of each node's seat.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NodeList {
    hash: ListHash,
    /// The position of each node's seat, if the node is in the list.
    positions: Vec<Option<u8>>,
}

impl NodeList {
    /// The list of nodes with these names. Seats are in the order of the sorted
    /// names, so clients may name the nodes in any order.
    #[must_use]
    pub fn new(names: &[impl AsRef<str>]) -> Self {
        Self::of(names, (0..names.len() as u8).map(NodeId).collect())
    }

    /// The list of some of the nodes with these names.
    #[must_use]
    pub fn of(names: &[impl AsRef<str>], nodes: NodeSet) -> Self {
        let mut sorted: Vec<&str> = nodes.iter().map(|node| names[node.index()].as_ref()).collect();
        sorted.sort_unstable();
        let position = |name: &str| sorted.iter().position(|it| *it == name).map(|it| it as u8);
        let positions = names.iter().map(|name| position(name.as_ref())).collect();
        let hash = sorted.iter().fold(ListHasher::default(), |hasher, name| hasher.with(name)).finish();
        Self { hash, positions }
    }

    /// The hash of the list.
    #[must_use]
    pub const fn hash(&self) -> ListHash {
        self.hash
    }

    /// The nodes of the list.
    #[must_use]
    pub fn nodes(&self) -> NodeSet {
        let is_in = |index: &usize| self.positions[*index].is_some();
        (0..self.positions.len()).filter(is_in).map(|index| NodeId(index as u8)).collect()
    }

    /// The position of the node's seat; that of no seat if the node is not in the list.
    #[must_use]
    pub fn position(&self, node: NodeId) -> usize {
        self.positions.get(node.index()).copied().flatten().map_or(usize::MAX, usize::from)
    }
}

/// One place in a roster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Seat {
    /// Who has it; `None` while it is vacant.
    pub id: Option<SeatId>,
    /// When it changed hands last, in milliseconds of the proposing client's wall clock; 0 as long as it has the server
    /// with which it was founded or added.
    pub changed_millis: u64,
    /// How often it has changed hands in a row, each time within an hour.
    pub changes: u8,
}

/// A roster as a client's list of nodes sees it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RosterView {
    /// Its number.
    pub epoch: Epoch,
    /// The settings of the lock cluster.
    pub config: LockClusterConfig,
    /// The seat of each node.
    pub seats: Vec<Seat>,
    /// The nodes whose seat has changed hands since the roster that the client followed before.
    pub changed: NodeSet,
    /// Whether the client's list of nodes is the roster's. Otherwise a seat may be another node's.
    pub same_list: bool,
}

impl RosterView {
    /// The view of `roster` by a client with this list, which followed the roster `before`.
    #[must_use]
    pub fn new(roster: &Roster, before: Option<&Roster>, list: &NodeList, nodes: NodeSet) -> Self {
        let seat = |roster: &Roster, node| roster.seats.get(list.position(node)).copied().unwrap_or_default();
        // Under another list the seats have other positions.
        let before = before.filter(|before| before.list == roster.list);
        let has_changed =
            |node: &NodeId| before.is_some_and(|before| seat(before, *node).id != seat(roster, *node).id);
        Self {
            epoch: roster.epoch,
            config: roster.config,
            seats: nodes.iter().map(|node| seat(roster, node)).collect(),
            changed: nodes.iter().filter(has_changed).collect(),
            same_list: roster.list == list.hash(),
        }
    }
}

/// The members of a lock cluster in one epoch.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Roster {
    /// The lock cluster.
    pub cluster: ClusterId,
    /// Its number.
    pub epoch: Epoch,
    /// The list of nodes of the client that founded the lock cluster.
    pub list: ListHash,
    /// The settings of the lock cluster.
    pub config: LockClusterConfig,
    /// The length of a probation: the max ttl, or a longer one that locks of an earlier roster may have.
    pub probation: Duration,
    /// Every fencing number under this roster is above this: no member of an earlier roster gave out a larger
    /// one.
    pub fence_base: u64,
    /// One seat for each node, in the order of the sorted list. A vacant seat counts in N.
    pub seats: Vec<Seat>,
}

impl Roster {
    /// The position of a seat.
    #[must_use]
    pub fn position(&self, seat: SeatId) -> Option<usize> {
        self.seats.iter().position(|it| it.id == Some(seat))
    }

    /// Whether this is one of its seats.
    #[must_use]
    pub fn has(&self, seat: SeatId) -> bool {
        self.position(seat).is_some()
    }

    /// Whether no server has the seat at this position.
    #[must_use]
    pub fn is_vacant(&self, position: usize) -> bool {
        self.seats.get(position).is_some_and(|seat| seat.id.is_none())
    }

    /// How many members must agree to the next roster: a majority of all seats. It shares a member with each
    /// other majority and with each quorum of a lock.
    #[must_use]
    pub fn majority(&self) -> usize {
        self.seats.len() / 2 + 1
    }

    /// The next roster, in which this seat changes hands.
    #[must_use]
    pub fn with_seat(&self, position: usize, id: Option<SeatId>, now_millis: u64) -> Self {
        let mut next = Self { epoch: self.epoch.after_change(), ..self.clone() };
        if let Some(seat) = next.seats.get_mut(position) {
            let is_in_a_row =
                now_millis.saturating_sub(seat.changed_millis) < MAX_CHANGE_PAUSE.as_millis() as u64;
            let changes =
                if is_in_a_row && seat.changed_millis > 0 { seat.changes.saturating_add(1) } else { 0 };
            *seat = Seat { id, changed_millis: now_millis, changes };
        }
        next
    }

    /// Whether the seat may change hands by itself now: not again within the max ttl, which doubles with each
    /// change in a row, up to an hour. So two servers behind one address do not take it from each other
    /// forever.
    #[must_use]
    pub fn may_change(&self, position: usize, now_millis: u64) -> bool {
        let Some(seat) = self.seats.get(position) else { return false };
        let pause = self.config.max_ttl().saturating_mul(1 << seat.changes.min(20)).min(MAX_CHANGE_PAUSE);
        let since = now_millis.abs_diff(seat.changed_millis);
        seat.changed_millis == 0 || since >= pause.as_millis() as u64
    }

    /// Whether no roster was before it.
    #[must_use]
    pub fn is_founding(&self) -> bool {
        self.epoch == Epoch::default().after_recovery()
    }

    /// Whether it was chosen by all servers that replied, because no quorum remembered the one before.
    #[must_use]
    pub const fn is_recovery(&self) -> bool {
        self.epoch.change == 0
    }

    /// A hash of the whole roster (FNV-1a, 128 bits).
    #[must_use]
    pub fn hash(&self) -> u128 {
        fnv(self.to_text().bytes())
    }

    /// The roster as text.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        let (quorum, config) = (self.config.quorum(), self.config);
        let Epoch { recovery, change } = self.epoch;
        // Writing to a string cannot fail.
        let _ = write!(
            text,
            "{:032x} {recovery} {change} {:016x} {} {} {} {} {}",
            self.cluster.bits(),
            self.list.0,
            quorum.needed(),
            config.max_ttl().as_millis(),
            self.probation.as_millis(),
            config.retention().as_millis(),
            self.fence_base,
        );
        for Seat { id, changed_millis, changes } in &self.seats {
            let _ = write!(text, " {:x}/{changed_millis}/{changes}", id.map_or(0, |id| id.0));
        }
        text
    }

    /// Parses a roster; `None` for any other text.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut fields = text.split(' ');
        let cluster = ClusterId::new(u128::from_str_radix(fields.next()?, 16).ok()?);
        let (recovery, change) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        let list = ListHash(u64::from_str_radix(fields.next()?, 16).ok()?);
        let needed = fields.next()?.parse().ok()?;
        let max_ttl = Duration::from_millis(fields.next()?.parse().ok()?);
        let probation = Duration::from_millis(fields.next()?.parse().ok()?);
        let retention = Duration::from_millis(fields.next()?.parse().ok()?);
        let fence_base = fields.next()?.parse().ok()?;
        let seats = fields.map(parse_seat).collect::<Option<Vec<Seat>>>()?;
        let quorum = Quorum::new(seats.len(), Some(needed)).ok()?;
        Some(Self {
            cluster,
            epoch: Epoch { recovery, change },
            list,
            config: LockClusterConfig::new(quorum, max_ttl).with_retention(retention),
            probation,
            fence_base,
            seats,
        })
    }
}

fn parse_seat(text: &str) -> Option<Seat> {
    let mut fields = text.split('/');
    let id = u64::from_str_radix(fields.next()?, 16).ok()?;
    let (changed_millis, changes) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    let id = (id != 0).then_some(SeatId(id));
    fields.next().is_none().then_some(Seat { id, changed_millis, changes })
}

/// FNV-1a with 128 bits.
pub(crate) fn fnv(bytes: impl Iterator<Item = u8>) -> u128 {
    fnv_on(FNV_OFFSET, bytes)
}

fn fnv_on(state: u128, bytes: impl Iterator<Item = u8>) -> u128 {
    bytes.fold(state, |hash, byte| (hash ^ u128::from(byte)).wrapping_mul(FNV_PRIME))
}

const FNV_OFFSET: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
const FNV_PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
/// The longest pause between two changes of one seat.
const MAX_CHANGE_PAUSE: Duration = Duration::from_secs(3600);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_of_nine_nodes_draws_a_seat_of_its_own() {
        let mut seats: Vec<SeatId> =
            (0..9).map(|node| SeatId::drawn(0x0123_4567_89ab_cdef, NodeId(node))).collect();
        seats.sort_unstable();
        seats.dedup();
        assert_eq!(seats.len(), 9);
        assert_ne!(SeatId::drawn(0, NodeId(0)), SeatId(0));
    }
    #[test]
    fn a_seat_waits_for_the_max_ttl_doubled_with_each_change_up_to_an_hour() {
        let config = LockClusterConfig::new(Quorum::new(1, None).expect("a quorum"), Duration::from_secs(30));
        let mut roster = Roster {
            cluster: ClusterId::new(1),
            epoch: Epoch::default().after_recovery(),
            list: ListHash(1),
            config,
            probation: config.max_ttl(),
            fence_base: 0,
            seats: vec![Seat::default()],
        };
        let mut now = 1_700_000_000_000;
        assert!(roster.may_change(0, now) && !roster.may_change(1, now));
        for pause in [30, 60, 120, 240, 480, 960, 1_920, 3_600, 30] {
            roster = roster.with_seat(0, Some(SeatId(now)), now);
            assert!(!roster.may_change(0, now + pause * 1_000 - 1), "{pause}");
            now += pause * 1_000;
            assert!(roster.may_change(0, now), "{pause}");
        }
    }
}
