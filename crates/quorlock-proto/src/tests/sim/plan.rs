//! What a history is made of: how many of what, on which terms, and what may go wrong.

use std::time::Duration;

use super::rng::SeededRng;
use crate::coordinator::Limits;
use crate::lease_params::Drift;
use crate::marker::{LockClusterConfig, min_retention};
use crate::mutant::Mutant;
use crate::quorum::Quorum;
use crate::test_util::node::Mistake;
use crate::tests::world::ms;

/// What goes wrong, one kind each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fault {
    /// A connection breaks; some of the bytes under way still arrive.
    ConnectionReset,
    /// Nothing goes from a client to a node, or back, or both, for a while.
    Partition,
    /// A client's process stands still, its clocks go on.
    ClientPause,
    /// A client's machine sleeps: its boot clock goes on.
    ClientSuspend,
    /// A client's virtual machine stops, and its wall clock is set right before it goes on.
    VmStop,
    ClientCrash,
    /// A client's wall clock is set forth or back.
    WallClockSet,
    /// A node's process stands still, its clock goes on.
    NodeFreeze,
    /// A node's process ends; the next one has all its data.
    Restart,
    /// The next one has no data.
    RestartDataLoss,
    /// The next one has data of some earlier time.
    RestartStaleData,
    /// `FLUSHALL`.
    Flush,
    /// Made a replica of a server and a master again, with that one's data, in no time.
    RoleChange,
    /// A replica for a while, and a master again with other data.
    DemotedToReplica,
    ScriptFlush,
    /// A node answers with errors for a while.
    ErrorReplies,
    /// A node's memory is limited by a policy that deletes keys, and it is full now and then.
    Eviction,
    /// Databases are swapped, so that a node has nothing, and after a while swapped back.
    DatabaseSwap,
    /// A node's process ends without its data or with earlier ones, its clock is behind when the next begins, and is set
    /// right soon after.
    RestartClockBehind,
    /// An operator sets a node's statistics to nothing.
    StatisticsReset,
    /// A node's clock is set forth, by less than the drift allows.
    SmallClockJump,
    /// A node's clock is set back.
    ClockSetBack,
    /// A node's clock is set forth by more than the drift allows.
    ClockSetForward,
    /// A node's clock runs faster than the drift allows, for a while.
    FastNodeClock,
    /// A client's clock runs slower than the drift allows, for a while.
    SlowClientClock,
    /// A client's virtual machine stops, and its clocks do not show it.
    VmStopUndetected,
    /// An operator deletes a lock's key on a node.
    KeyDeleted,
}

/// Those within what the lock promises to stand.
pub(super) const FAULTS_WITHIN_LIMITS: [Fault; 22] = [
    Fault::ConnectionReset,
    Fault::Partition,
    Fault::ClientPause,
    Fault::ClientSuspend,
    Fault::VmStop,
    Fault::ClientCrash,
    Fault::WallClockSet,
    Fault::NodeFreeze,
    Fault::Restart,
    Fault::RestartDataLoss,
    Fault::RestartStaleData,
    Fault::Flush,
    Fault::RoleChange,
    Fault::DemotedToReplica,
    Fault::ScriptFlush,
    Fault::ErrorReplies,
    Fault::Eviction,
    Fault::StatisticsReset,
    Fault::DatabaseSwap,
    Fault::RestartClockBehind,
    Fault::SmallClockJump,
    Fault::ClockSetBack,
];

/// Those beyond it, which may cost exclusion, and never the order of the numbers.
pub(super) const FAULTS_BEYOND_LIMITS: [Fault; 5] = [
    Fault::ClockSetForward,
    Fault::FastNodeClock,
    Fault::SlowClientClock,
    Fault::VmStopUndetected,
    Fault::KeyDeleted,
];

/// A mistake of a client, beside those of the protocol ([`Mutant`]) and of the scripts ([`Mistake`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ClientMistake {
    /// All attempts of a client for a key have the same token.
    OwnerTokenReused,
    /// Its clocks stand still while the machine sleeps.
    ClocksStopInSuspend,
    /// Answers of a broken connection are read from the next one.
    ReplyOfOldConnection,
    /// An error reply is taken for what was asked for.
    ErrorCountsAsGrant,
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
    pub(super) beyond_limits: u64,
    /// What may happen; a history takes some of them, unless `all`.
    pub(super) faults: &'static [Fault],
    pub(super) faults_beyond_limits: &'static [Fault],
    pub(super) all_faults: bool,
    /// Of a thousand messages in the histories that have them, those under way for long: at most.
    pub(super) slow_messages: u64,
    /// Of a thousand questions, those upon which something goes wrong at once: at most.
    pub(super) faults_on_send: u64,
    /// Of a thousand clients, those whose wall clock is far off.
    pub(super) wrong_wall_clocks: u64,
    /// Of a thousand histories, those where the clocks of nodes and clients are apart by a second or an hour.
    pub(super) clock_offsets: u64,
    /// Of a thousand histories, those where some stand in line for locks that others have.
    pub(super) waiters: u64,
    /// Whether it is checked that a lock comes to stand on every node that is well.
    pub(super) checks_redundancy: bool,
    /// Whether it is checked that those in line leave the nodes alone.
    pub(super) checks_polling: bool,
    /// Within how many milliseconds those in line have a lock that was given up, if that is checked.
    pub(super) max_handover_millis: Option<u64>,
    /// Of a thousand histories, those where some claims want a number far ahead of all clocks.
    pub(super) far_min_numbers: u64,
    /// What else must be so.
    pub(super) adjust: Option<fn(&mut Plan)>,
    pub(super) mutant: Option<Mutant>,
    pub(super) script_mistake: Option<Mistake>,
    pub(super) client_mistake: Option<ClientMistake>,
}

impl Profile {
    /// Everything.
    pub(super) const GENERAL: Self = Self {
        nodes: &[1, 3, 3, 4, 5],
        super_majority: 250,
        clients: (2, 4),
        plain: 150,
        mixed: 50,
        beyond_limits: 300,
        faults: &FAULTS_WITHIN_LIMITS,
        faults_beyond_limits: &FAULTS_BEYOND_LIMITS,
        all_faults: false,
        slow_messages: 60,
        faults_on_send: 20,
        wrong_wall_clocks: 50,
        clock_offsets: 50,
        waiters: 250,
        checks_redundancy: true,
        checks_polling: true,
        max_handover_millis: None,
        far_min_numbers: 100,
        adjust: None,
        mutant: None,
        script_mistake: None,
        client_mistake: None,
    };
}

/// One history, before anything happens in it.
#[allow(clippy::struct_excessive_bools, reason = "each is asked for by itself")]
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) quorum: Quorum,
    pub(super) client_count: usize,
    /// One or two.
    pub(super) key_count: usize,
    /// As bits, which of the clients are fenced.
    pub(super) fenced: u32,
    /// The last client thinks of the cluster otherwise than the rest.
    pub(super) has_misconfigured_client: bool,
    /// Whether an operator declared the cluster; otherwise the clients found it.
    pub(super) is_initialized: bool,
    pub(super) max_ttl: Duration,
    pub(super) min_ttl: Duration,
    pub(super) limits: Limits,
    pub(super) drift: Drift,
    pub(super) max_drift_ppm: i64,
    /// How much of the drift a node's clock may use, and the client's the rest, in quarters.
    pub(super) node_drift_quarters: i64,
    pub(super) faults: Vec<Fault>,
    /// Between two faults, on average.
    pub(super) fault_interval: u64,
    pub(super) faults_nanos: u64,
    /// A usual way of a message.
    pub(super) latency: u64,
    /// Of a thousand messages, those under way for much longer.
    pub(super) slow_messages: u64,
    /// Of a thousand questions, those upon which something goes wrong at once.
    pub(super) faults_on_send: u64,
    /// Of a thousand callers, those that stand in line for a lock that others have.
    pub(super) waiters: u64,
    /// Whether the clocks of nodes and clients are apart by a second or an hour.
    pub(super) has_clock_offsets: bool,
    /// Whether some claims want a number far ahead of all clocks.
    pub(super) has_far_min_numbers: bool,
    /// Whether a key that is nobody's stands on a minority of the nodes, where those wait client wait for a lock.
    pub(super) has_orphan_keys: bool,
    /// How late timers ring.
    pub(super) timer_delay: u64,
    /// For how long a holder works, in hundredths of its ttl, at most.
    pub(super) max_work_percent: u64,
}

impl Plan {
    pub(super) fn draw(profile: &Profile, rng: &mut SeededRng) -> Self {
        let nodes = rng.pick(profile.nodes);
        let need = nodes / 2 + 1;
        let need = if need < nodes && rng.chance_permille(profile.super_majority) { need + 1 } else { need };
        let client_count = rng.between(profile.clients.0, profile.clients.1) as usize;
        let all_clients = (1 << client_count) - 1;
        let fenced = match rng.below(1000) {
            it if it < profile.plain => 0,
            it if it < profile.plain + profile.mixed => all_clients & rng.next_u64() as u32,
            _ => all_clients,
        };
        let mut faults: Vec<Fault> = profile.faults.to_vec();
        if !profile.all_faults {
            let share = rng.pick(&[150, 300, 600]);
            faults.retain(|_| rng.chance_permille(share));
        }
        if rng.chance_permille(profile.beyond_limits) {
            let faults_beyond_limits = profile.faults_beyond_limits.iter().copied();
            faults.extend(faults_beyond_limits.filter(|_| profile.all_faults || rng.chance_permille(400)));
        }
        let max_ttl = rng.pick(&[600, 1_000, 2_000]);
        let max_drift_ppm = rng.pick(&[10_000, 10_000, 50_000, 200_000]);
        let reply_timeout = rng.pick(&[50, 100, 300]);
        let is_initialized = rng.chance_permille(900);
        let is_calm = faults.is_empty() || rng.chance_permille(30);
        let mut plan = Self {
            quorum: Quorum::new(nodes, Some(need)).expect("a quorum that works"),
            client_count,
            key_count: if rng.chance_permille(200) { 2 } else { 1 },
            fenced,
            has_misconfigured_client: is_initialized
                && fenced == all_clients
                && client_count > 2
                && rng.chance_permille(60),
            is_initialized,
            max_ttl: ms(max_ttl),
            min_ttl: ms(rng.pick(&[60, 150, 400])),
            limits: Limits { reply_timeout: ms(reply_timeout), redial_after: ms(reply_timeout * 4) },
            drift: Drift::new(max_drift_ppm as f64 / 1e6).expect("a drift that makes sense"),
            max_drift_ppm,
            node_drift_quarters: rng.between(0, 4) as i64,
            fault_interval: if is_calm { u64::MAX / 8 } else { max_ttl * 1_000_000 / rng.between(2, 12) },
            faults,
            faults_nanos: max_ttl * 1_000_000 * rng.between(2, 5),
            latency: rng.log_uniform(50_000, 5_000_000),
            slow_messages: if rng.chance_permille(500) { rng.below(profile.slow_messages + 1) } else { 0 },
            timer_delay: rng.pick(&[0, 100_000, 1_000_000]),
            faults_on_send: if is_calm { 0 } else { rng.below(profile.faults_on_send + 1) },
            max_work_percent: rng.pick(&[30, 120, 400]),
            waiters: if profile.waiters > 0 && rng.chance_permille(profile.waiters) { 500 } else { 0 },
            has_clock_offsets: false,
            has_far_min_numbers: profile.far_min_numbers > 0 && rng.chance_permille(profile.far_min_numbers),
            has_orphan_keys: false,
        };
        if profile.clock_offsets > 0 && rng.chance_permille(profile.clock_offsets) {
            plan.has_clock_offsets = true;
            // The data of a node whose clock is ahead by an hour would keep a lock from all_clients for that hour.
            plan.faults.retain(|fault| !matches!(fault, Fault::RoleChange | Fault::DemotedToReplica));
        }
        if let Some(adjust) = profile.adjust {
            adjust(&mut plan);
        }
        plan
    }

    /// By how much one more clock is off for good, in nanoseconds.
    pub(super) fn clock_offset(&self, rng: &mut SeededRng) -> i64 {
        if self.has_clock_offsets { rng.pick(&[0, -1_000, 1_000, 3_600_000]) * 1_000_000 } else { 0 }
    }

    pub(super) const fn is_fenced(&self, client: usize) -> bool {
        self.fenced & 1 << client != 0
    }

    pub(super) const fn is_all_fenced(&self) -> bool {
        self.fenced == (1 << self.client_count) - 1
    }

    /// How much the clocks of nodes may run fast, in millionths.
    pub(super) fn max_node_drift_ppm(&self) -> i64 {
        let whole = self.max_drift_ppm * self.node_drift_quarters / 4;
        if self.has_small_clock_jumps() { whole / 2 } else { whole }
    }

    /// How much the clocks of clients may run slow, in millionths.
    pub(super) fn max_client_slowdown_ppm(&self) -> i64 {
        let whole = self.max_drift_ppm * (4 - self.node_drift_quarters) / 4;
        if self.has_small_clock_jumps() { whole / 2 } else { whole }
    }

    pub(super) fn has_small_clock_jumps(&self) -> bool {
        self.faults.contains(&Fault::SmallClockJump)
    }

    /// By the longest, until all client are connected have looked at a node again.
    pub(super) fn marker_read_window(&self) -> u64 {
        let silence = self.limits.redial_after.as_nanos() as u64 * 13 / 10;
        self.max_ttl_nanos() * 3 / 10 + silence + 50_000_000
    }

    /// Fences are kept for as short as may be, so that they run out in a history.
    pub(super) fn config(&self) -> LockClusterConfig {
        LockClusterConfig::new(self.quorum, self.max_ttl).with_retention(min_retention(self.max_ttl))
    }

    /// By true time, for how long a node is kept from voting, at least.
    pub(super) fn min_probation_nanos(&self) -> u64 {
        let millionths = 1_000_000 + self.max_drift_ppm as u64;
        self.max_ttl_nanos() / 1000 * 1_000_000 / millionths * 1000
    }

    pub(super) fn max_ttl_nanos(&self) -> u64 {
        self.max_ttl.as_nanos() as u64
    }
}
