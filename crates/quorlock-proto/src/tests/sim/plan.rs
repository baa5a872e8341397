//! What a history is made of: how many of what, on which terms, and what may go wrong.

use std::time::Duration;

use super::chance::Chance;
use crate::coordinator::Limits;
use crate::lease_params::Drift;
use crate::marker::{LockClusterConfig, min_retention};
use crate::mutant::Mutant;
use crate::quorum::Quorum;
use crate::test_util::node::ScriptMutant;
use crate::tests::world::ms;

/// What goes wrong, one kind each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fault {
    /// A connection breaks; some of the bytes under way still arrive.
    Cut,
    /// Nothing goes from a client to a node, or back, or both, for a while.
    Partition,
    /// A client's process stands still, its clocks go on.
    Pause,
    /// A client's machine sleeps: its boot clock goes on.
    Suspend,
    /// A client's virtual machine stops, and its wall clock is set right before it goes on.
    VmStop,
    ClientCrash,
    /// A client's wall clock is set forth or back.
    WallSet,
    /// A node's process stands still, its clock goes on.
    Freeze,
    /// A node's process ends; the next one has all its data.
    Restart,
    /// The next one has no data.
    RestartEmpty,
    /// The next one has data of some earlier time.
    RestartOldCopy,
    /// `FLUSHALL`.
    Flush,
    /// Made a replica of a server and a master again, with that one's data, in no time.
    RoleChange,
    /// A replica for a while, and a master again with other data.
    Replica,
    ScriptFlush,
    /// A node answers with errors for a while.
    Errors,
    /// A node's memory is limited by a policy that deletes keys, and it is full now and then.
    Evicts,
    /// Databases are swapped, so that a node has nothing, and after a while swapped back.
    Swap,
    /// A node's process ends without its data or with earlier ones, its clock is behind when the next begins, and is set
    /// right soon after.
    RestartBehind,
    /// An operator sets a node's statistics to nothing.
    ResetStat,
    /// A node's clock is set forth, by less than the drift allows.
    SmallJump,
    /// A node's clock is set back.
    JumpBack,
    /// A node's clock is set forth by more than the drift allows.
    JumpForth,
    /// A node's clock runs faster than the drift allows, for a while.
    FastNode,
    /// A client's clock runs slower than the drift allows, for a while.
    SlowClient,
    /// A client's virtual machine stops, and its clocks do not show it.
    VmStopUnseen,
    /// An operator deletes a lock's key on a node.
    KeyDeleted,
}

/// Those within what the lock promises to stand.
pub(super) const WITHIN: [Fault; 22] = [
    Fault::Cut,
    Fault::Partition,
    Fault::Pause,
    Fault::Suspend,
    Fault::VmStop,
    Fault::ClientCrash,
    Fault::WallSet,
    Fault::Freeze,
    Fault::Restart,
    Fault::RestartEmpty,
    Fault::RestartOldCopy,
    Fault::Flush,
    Fault::RoleChange,
    Fault::Replica,
    Fault::ScriptFlush,
    Fault::Errors,
    Fault::Evicts,
    Fault::ResetStat,
    Fault::Swap,
    Fault::RestartBehind,
    Fault::SmallJump,
    Fault::JumpBack,
];

/// Those beyond it, which may cost exclusion, and never the order of the numbers.
pub(super) const BEYOND: [Fault; 5] =
    [Fault::JumpForth, Fault::FastNode, Fault::SlowClient, Fault::VmStopUnseen, Fault::KeyDeleted];

/// A mistake of a client, beside those of the protocol ([`Mutant`]) and of the scripts ([`ScriptMutant`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Slip {
    /// All attempts of a client for a key have the same token.
    TokenReused,
    /// Its clocks stand still while the machine sleeps.
    SuspendBlind,
    /// Answers of a broken connection are read from the next one.
    Desync,
    /// An error reply is taken for what was asked for.
    ErrorIsVote,
}

/// Which histories to draw.
#[derive(Clone, Debug)]
pub(super) struct Profile {
    pub(super) nodes: &'static [usize],
    /// Of a thousand histories, those with a quorum above the majority, where there is one.
    pub(super) super_majority: u64,
    pub(super) clients: (u64, u64),
    /// Of a thousand histories, those where all clients are plain, and where some are.
    pub(super) plain: u64,
    pub(super) mixed: u64,
    /// Of a thousand histories, those where things beyond the promise happen.
    pub(super) beyond: u64,
    /// What may happen; a history takes some of them, unless `all`.
    pub(super) faults: &'static [Fault],
    pub(super) beyonds: &'static [Fault],
    pub(super) all: bool,
    /// Of a thousand messages in the histories that have them, those under way for long: at most.
    pub(super) long_ways: u64,
    /// Of a thousand questions, those upon which something goes wrong at once: at most.
    pub(super) ill_timed: u64,
    /// Of a thousand clients, those whose wall clock is far off.
    pub(super) odd_walls: u64,
    /// Of a thousand histories, those where the clocks of nodes and clients are apart by a second or an hour.
    pub(super) clock_offsets: u64,
    /// Of a thousand histories, those where some stand in line for locks that others have.
    pub(super) waiters: u64,
    /// Whether it is checked that a lock comes to stand on every node that is well.
    pub(super) checks_redundancy: bool,
    /// Whether it is checked that those in line leave the nodes alone.
    pub(super) checks_patience: bool,
    /// Within how many milliseconds those in line have a lock that was given up, if that is checked.
    pub(super) starves_after: Option<u64>,
    /// Of a thousand histories, those where some claims want a number far ahead of all clocks.
    pub(super) far_floors: u64,
    /// What else must be so.
    pub(super) pin: Option<fn(&mut Plan)>,
    pub(super) mutant: Option<Mutant>,
    pub(super) mistake: Option<ScriptMutant>,
    pub(super) slip: Option<Slip>,
}

impl Profile {
    /// Everything.
    pub(super) const GENERAL: Self = Self {
        nodes: &[1, 3, 3, 4, 5],
        super_majority: 250,
        clients: (2, 4),
        plain: 150,
        mixed: 50,
        beyond: 300,
        faults: &WITHIN,
        beyonds: &BEYOND,
        all: false,
        long_ways: 60,
        ill_timed: 20,
        odd_walls: 50,
        clock_offsets: 50,
        waiters: 250,
        checks_redundancy: true,
        checks_patience: true,
        starves_after: None,
        far_floors: 100,
        pin: None,
        mutant: None,
        mistake: None,
        slip: None,
    };
}

/// One history, before anything happens in it.
#[allow(clippy::struct_excessive_bools, reason = "each is asked for by itself")]
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) quorum: Quorum,
    pub(super) clients: usize,
    /// One or two.
    pub(super) keys: usize,
    /// As bits, which of the clients are fenced.
    pub(super) fenced: u32,
    /// The last client thinks of the cluster otherwise than the rest.
    pub(super) has_stranger: bool,
    /// Whether an operator declared the cluster; otherwise the clients found it.
    pub(super) is_declared: bool,
    pub(super) max_ttl: Duration,
    pub(super) least_ttl: Duration,
    pub(super) limits: Limits,
    pub(super) drift: Drift,
    pub(super) drift_millionths: i64,
    /// How much of the drift a node's clock may use, and the client's the rest, in quarters.
    pub(super) node_share: i64,
    pub(super) faults: Vec<Fault>,
    /// Between two faults, on average.
    pub(super) gap: u64,
    pub(super) storm_until: u64,
    /// A usual way of a message.
    pub(super) way: u64,
    /// Of a thousand messages, those under way for much longer.
    pub(super) long_ways: u64,
    /// Of a thousand questions, those upon which something goes wrong at once.
    pub(super) ill_timed: u64,
    /// Of a thousand callers, those that stand in line for a lock that others have.
    pub(super) waiters: u64,
    /// Whether the clocks of nodes and clients are apart by a second or an hour.
    pub(super) has_clock_offsets: bool,
    /// Whether some claims want a number far ahead of all clocks.
    pub(super) has_far_floors: bool,
    /// Whether a key that is nobody's stands on a minority of the nodes, where those wait who wait for a lock.
    pub(super) has_stale_keys: bool,
    /// How late timers ring.
    pub(super) timer_late: u64,
    /// For how long a holder works, in hundredths of its ttl, at most.
    pub(super) work: u64,
}

impl Plan {
    pub(super) fn draw(profile: &Profile, chance: &mut Chance) -> Self {
        let nodes = chance.pick(profile.nodes);
        let need = nodes / 2 + 1;
        let need = if need < nodes && chance.permille(profile.super_majority) { need + 1 } else { need };
        let clients = chance.between(profile.clients.0, profile.clients.1) as usize;
        let everybody = (1 << clients) - 1;
        let fenced = match chance.below(1000) {
            it if it < profile.plain => 0,
            it if it < profile.plain + profile.mixed => everybody & chance.draw() as u32,
            _ => everybody,
        };
        let mut faults: Vec<Fault> = profile.faults.to_vec();
        if !profile.all {
            let share = chance.pick(&[150, 300, 600]);
            faults.retain(|_| chance.permille(share));
        }
        if chance.permille(profile.beyond) {
            let beyonds = profile.beyonds.iter().copied();
            faults.extend(beyonds.filter(|_| profile.all || chance.permille(400)));
        }
        let max_ttl = chance.pick(&[600, 1_000, 2_000]);
        let drift_millionths = chance.pick(&[10_000, 10_000, 50_000, 200_000]);
        let reply_timeout = chance.pick(&[50, 100, 300]);
        let is_declared = chance.permille(900);
        let is_calm = faults.is_empty() || chance.permille(30);
        let mut plan = Self {
            quorum: Quorum::new(nodes, Some(need)).expect("a quorum that works"),
            clients,
            keys: if chance.permille(200) { 2 } else { 1 },
            fenced,
            has_stranger: is_declared && fenced == everybody && clients > 2 && chance.permille(60),
            is_declared,
            max_ttl: ms(max_ttl),
            least_ttl: ms(chance.pick(&[60, 150, 400])),
            limits: Limits { reply_timeout: ms(reply_timeout), redial_after: ms(reply_timeout * 4) },
            drift: Drift::new(drift_millionths as f64 / 1e6).expect("a drift that makes sense"),
            drift_millionths,
            node_share: chance.between(0, 4) as i64,
            gap: if is_calm { u64::MAX / 8 } else { max_ttl * 1_000_000 / chance.between(2, 12) },
            faults,
            storm_until: max_ttl * 1_000_000 * chance.between(2, 5),
            way: chance.of_any_size(50_000, 5_000_000),
            long_ways: if chance.permille(500) { chance.below(profile.long_ways + 1) } else { 0 },
            timer_late: chance.pick(&[0, 100_000, 1_000_000]),
            ill_timed: if is_calm { 0 } else { chance.below(profile.ill_timed + 1) },
            work: chance.pick(&[30, 120, 400]),
            waiters: if profile.waiters > 0 && chance.permille(profile.waiters) { 500 } else { 0 },
            has_clock_offsets: false,
            has_far_floors: profile.far_floors > 0 && chance.permille(profile.far_floors),
            has_stale_keys: false,
        };
        if profile.clock_offsets > 0 && chance.permille(profile.clock_offsets) {
            plan.has_clock_offsets = true;
            // The data of a node whose clock is ahead by an hour would keep a lock from everybody for that hour.
            plan.faults.retain(|fault| !matches!(fault, Fault::RoleChange | Fault::Replica));
        }
        if let Some(pin) = profile.pin {
            pin(&mut plan);
        }
        plan
    }

    /// By how much one more clock is off for good, in nanoseconds.
    pub(super) fn clock_offset(&self, chance: &mut Chance) -> i64 {
        if self.has_clock_offsets { chance.pick(&[0, -1_000, 1_000, 3_600_000]) * 1_000_000 } else { 0 }
    }

    pub(super) const fn is_fenced(&self, who: usize) -> bool {
        self.fenced & 1 << who != 0
    }

    pub(super) const fn is_all_fenced(&self) -> bool {
        self.fenced == (1 << self.clients) - 1
    }

    /// How much the clocks of nodes may run fast, in millionths.
    pub(super) fn most_node_haste(&self) -> i64 {
        let whole = self.drift_millionths * self.node_share / 4;
        if self.has_small_jumps() { whole / 2 } else { whole }
    }

    /// How much the clocks of clients may run slow, in millionths.
    pub(super) fn most_client_delay(&self) -> i64 {
        let whole = self.drift_millionths * (4 - self.node_share) / 4;
        if self.has_small_jumps() { whole / 2 } else { whole }
    }

    pub(super) fn has_small_jumps(&self) -> bool {
        self.faults.contains(&Fault::SmallJump)
    }

    /// By the longest, until all who are connected have looked at a node again.
    pub(super) fn look_window(&self) -> u64 {
        let silence = self.limits.redial_after.as_nanos() as u64 * 13 / 10;
        self.longest_nanos() * 3 / 10 + silence + 50_000_000
    }

    /// Fences are kept for as short as may be, so that they run out in a history.
    pub(super) fn config(&self) -> LockClusterConfig {
        LockClusterConfig::new(self.quorum, self.max_ttl).with_retention(min_retention(self.max_ttl))
    }

    /// By true time, for how long a node is kept from voting, at least.
    pub(super) fn least_probation(&self) -> u64 {
        let millionths = 1_000_000 + self.drift_millionths as u64;
        self.longest_nanos() / 1000 * 1_000_000 / millionths * 1000
    }

    pub(super) fn longest_nanos(&self) -> u64 {
        self.max_ttl.as_nanos() as u64
    }
}
