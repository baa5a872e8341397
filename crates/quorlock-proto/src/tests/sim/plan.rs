//! Parameters of a history: its nodes and clients, latencies, clocks and possible faults.
//!
//! A [`Profile`] holds the probabilities. A [`Plan`] is what one seed draws from them.

use std::time::Duration;

pub(super) use super::fault_kinds::{FAULTS_BEYOND_LIMITS, FAULTS_WITHIN_LIMITS, Fault};

use super::reconfigurations::Reconfigurations;
use super::rng::SeededRng;
use crate::coordinator::Limits;
use crate::lease_params::Drift;
use crate::marker::{LockClusterConfig, min_retention};
use crate::mutant::Mutant;
use crate::quorum::Quorum;
use crate::test_util::node::ScriptMutant;
use crate::tests::world::ms;

/// A mistake of a client, beside those of the protocol ([`Mutant`]) and of the scripts ([`ScriptMutant`]),
/// that a checker must detect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ClientMistake {
    /// All attempts of a client for a key use the same owner token.
    OwnerTokenReused,
    /// Its clocks stop while the machine sleeps.
    ClocksStopInSuspend,
    /// Replies of a broken connection are read as replies of the next one.
    ReplyOfOldConnection,
    /// An error reply counts as a grant.
    ErrorCountsAsGrant,
}

/// The distribution that histories are drawn from. Frequencies are in permille.
#[derive(Clone, Debug)]
pub(super) struct Profile {
    pub(super) nodes: &'static [usize],
    /// Histories whose quorum is one larger than the majority, where there are enough nodes.
    pub(super) super_majority: u64,
    pub(super) clients: (u64, u64),
    /// Histories in which all clients are plain, and in which some are.
    pub(super) plain: u64,
    pub(super) mixed: u64,
    /// Histories with faults beyond the guarantees.
    pub(super) beyond_limits: u64,
    /// The possible faults; a history uses some of them, or all if `all_faults`.
    pub(super) faults: &'static [Fault],
    pub(super) faults_beyond_limits: &'static [Fault],
    pub(super) all_faults: bool,
    /// The largest share of slow messages, in histories that have any.
    pub(super) slow_messages: u64,
    /// The largest share of requests that are followed by a fault at once.
    pub(super) faults_on_send: u64,
    /// Clients whose wall clock is up to 2,000 s wrong.
    pub(super) wrong_wall_clocks: u64,
    /// Histories in which the clocks of nodes and clients differ by a second or an hour.
    pub(super) clock_offsets: u64,
    /// Histories in which some tasks enter wait queues.
    pub(super) waiters: u64,
    /// Whether to check that a lock's key spreads to every undisturbed node.
    pub(super) checks_redundancy: bool,
    /// Whether to check that waiting tasks do not poll.
    pub(super) checks_polling: bool,
    /// If set, the longest time in milliseconds from a release until a waiting task has the lock.
    pub(super) max_handoff_millis: Option<u64>,
    /// Histories in which some attempts request a minimum fencing number far ahead of all clocks.
    pub(super) far_min_numbers: u64,
    /// Holders that hand their lock to another client, per step of their work.
    pub(super) tickets: u64,
    /// Histories in which the last client's list has another name of a node.
    pub(super) other_lists: u64,
    /// Histories in which a node is absent from the start, for up to fifteen max TTLs.
    pub(super) absences: u64,
    /// Histories in which clients reconfigure the lock cluster.
    pub(super) reconfigurations: u64,
    /// Changes the drawn plan.
    pub(super) adjust: Option<fn(&mut Plan)>,
    pub(super) mutant: Option<Mutant>,
    pub(super) script_mistake: Option<ScriptMutant>,
    pub(super) client_mistake: Option<ClientMistake>,
}

impl Profile {
    /// All faults and all checks: the profile of the main test.
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
        max_handoff_millis: None,
        far_min_numbers: 100,
        tickets: 0,
        other_lists: 100,
        absences: 0,
        reconfigurations: 60,
        adjust: None,
        mutant: None,
        script_mistake: None,
        client_mistake: None,
    };
}

/// The drawn parameters of one history. Times without a unit are in nanoseconds.
#[allow(clippy::struct_excessive_bools, reason = "each is read by itself")]
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) quorum: Quorum,
    pub(super) client_count: usize,
    /// One or two.
    pub(super) key_count: usize,
    /// The fenced clients, as a bit set.
    pub(super) fenced: u32,
    /// Whether the last client is configured with another max TTL than the rest.
    pub(super) has_misconfigured_client: bool,
    /// Whether that max TTL is half of the right one, not twice.
    pub(super) is_other_max_ttl_shorter: bool,
    /// Whether the last client's list has another name of a node.
    pub(super) has_other_list: bool,
    /// How long the first node is absent from the start, in nanoseconds.
    pub(super) first_node_absent_until: Option<u64>,
    /// What the lock cluster is reconfigured to, if it is.
    pub(super) reconfigurations: Reconfigurations,
    /// Whether an operator initialized the lock cluster; otherwise the clients do so.
    pub(super) is_initialized: bool,
    pub(super) max_ttl: Duration,
    pub(super) min_ttl: Duration,
    pub(super) limits: Limits,
    pub(super) drift: Drift,
    pub(super) max_drift_ppm: i64,
    /// The share of the drift that node clocks may use, in quarters; client clocks may use the rest.
    pub(super) node_drift_quarters: i64,
    pub(super) faults: Vec<Fault>,
    /// The mean time between two faults.
    pub(super) fault_interval: u64,
    /// The length of the phase with faults.
    pub(super) faults_nanos: u64,
    /// The mean one-way delay of a message.
    pub(super) latency: u64,
    /// In permille: messages with a much longer delay.
    pub(super) slow_messages: u64,
    /// In permille: requests that are followed by a fault at once.
    pub(super) faults_on_send: u64,
    /// In permille: tasks that enter a wait queue.
    pub(super) waiters: u64,
    /// In permille: steps of a holder at which it hands its lock to another client.
    pub(super) tickets: u64,
    /// Whether the clocks of nodes and clients differ by a second or an hour.
    pub(super) has_clock_offsets: bool,
    /// Whether some attempts request a minimum fencing number far ahead of all clocks.
    pub(super) has_far_min_numbers: bool,
    /// Whether a minority of the nodes, among them those with the wait queues, has a key without an owner.
    pub(super) has_orphan_keys: bool,
    /// How late timers fire.
    pub(super) timer_delay: u64,
    /// The longest time for which a holder works, in percent of its TTL.
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
        let has_no_faults = faults.is_empty() || rng.chance_permille(30);
        let mut plan = Self {
            quorum: Quorum::new(nodes, Some(need)).expect("a valid quorum"),
            client_count,
            key_count: if rng.chance_permille(200) { 2 } else { 1 },
            fenced,
            has_misconfigured_client: is_initialized
                && fenced == all_clients
                && client_count > 2
                && rng.chance_permille(60),
            is_other_max_ttl_shorter: false,
            has_other_list: profile.other_lists > 0 && rng.chance_permille(profile.other_lists),
            first_node_absent_until: None,
            reconfigurations: Reconfigurations::default(),
            is_initialized,
            max_ttl: ms(max_ttl),
            min_ttl: ms(rng.pick(&[60, 150, 400])),
            limits: Limits { reply_timeout: ms(reply_timeout), redial_after: ms(reply_timeout * 4) },
            drift: Drift::new(max_drift_ppm as f64 / 1e6).expect("a valid drift"),
            max_drift_ppm,
            node_drift_quarters: rng.between(0, 4) as i64,
            fault_interval: if has_no_faults {
                u64::MAX / 8
            } else {
                max_ttl * 1_000_000 / rng.between(2, 12)
            },
            faults,
            faults_nanos: max_ttl * 1_000_000 * rng.between(2, 5),
            latency: rng.log_uniform(50_000, 5_000_000),
            slow_messages: if rng.chance_permille(500) { rng.below(profile.slow_messages + 1) } else { 0 },
            timer_delay: rng.pick(&[0, 100_000, 1_000_000]),
            faults_on_send: if has_no_faults { 0 } else { rng.below(profile.faults_on_send + 1) },
            max_work_percent: rng.pick(&[30, 120, 400]),
            waiters: if profile.waiters > 0 && rng.chance_permille(profile.waiters) { 500 } else { 0 },
            tickets: profile.tickets,
            has_clock_offsets: false,
            has_far_min_numbers: profile.far_min_numbers > 0 && rng.chance_permille(profile.far_min_numbers),
            has_orphan_keys: false,
        };
        if profile.clock_offsets > 0 && rng.chance_permille(profile.clock_offsets) {
            plan.has_clock_offsets = true;
            // Data copied from a node whose clock is an hour ahead would block a lock for that hour.
            plan.faults.retain(|fault| !matches!(fault, Fault::RoleChange | Fault::DemotedToReplica));
        }
        if let Some(adjust) = profile.adjust {
            adjust(&mut plan);
        }
        if profile.absences > 0 && rng.chance_permille(profile.absences) {
            let max_ttl = plan.max_ttl_nanos();
            plan.first_node_absent_until = Some(rng.between(max_ttl, 15 * max_ttl));
        }
        if profile.reconfigurations > 0 && rng.chance_permille(profile.reconfigurations) {
            plan.draw_reconfigurations(rng);
        }
        plan
    }

    /// Draws the constant offset of one clock, in nanoseconds.
    pub(super) fn clock_offset(&self, rng: &mut SeededRng) -> i64 {
        if self.has_clock_offsets { rng.pick(&[0, -1_000, 1_000, 3_600_000]) * 1_000_000 } else { 0 }
    }

    /// The quorum in the settings of a client with so many nodes.
    pub(super) fn quorum_of(&self, nodes: usize) -> Quorum {
        if nodes == self.quorum.nodes() { self.quorum } else { Quorum::new(nodes, None).expect("a quorum") }
    }

    /// The settings by which nodes keep fences for the longest time.
    pub(super) fn longest_config(&self) -> LockClusterConfig {
        let max_ttl = self.largest_max_ttl();
        LockClusterConfig::new(self.quorum, max_ttl).with_retention(min_retention(max_ttl))
    }

    pub(super) const fn is_fenced(&self, client: usize) -> bool {
        client >= self.client_count || self.fenced & 1 << client != 0
    }

    pub(super) const fn is_all_fenced(&self) -> bool {
        self.fenced == (1 << self.client_count) - 1
    }

    /// How much faster than true time node clocks may run.
    pub(super) fn max_node_drift_ppm(&self) -> i64 {
        let share = self.max_drift_ppm * self.node_drift_quarters / 4;
        if self.has_small_clock_jumps() { share / 2 } else { share }
    }

    /// How much slower than true time client clocks may run.
    pub(super) fn max_client_slowdown_ppm(&self) -> i64 {
        let share = self.max_drift_ppm * (4 - self.node_drift_quarters) / 4;
        if self.has_small_clock_jumps() { share / 2 } else { share }
    }

    pub(super) fn has_small_clock_jumps(&self) -> bool {
        self.faults.contains(&Fault::SmallClockJump)
    }

    /// The longest time until every connected client has read a node's marker again.
    pub(super) fn marker_read_window(&self) -> u64 {
        let redial = self.limits.redial_after.as_nanos() as u64 * 13 / 10;
        self.longest_ttl_nanos() * 3 / 10 + redial + 50_000_000
    }

    /// Fences have the shortest retention, so that they expire within a history.
    pub(super) fn config(&self) -> LockClusterConfig {
        LockClusterConfig::new(self.quorum, self.max_ttl).with_retention(min_retention(self.max_ttl))
    }

    /// The shortest probation, in true time.
    pub(super) fn min_probation_nanos(&self) -> u64 {
        self.min_elapsed_nanos(Duration::from_nanos(self.shortest_max_ttl_nanos()))
    }

    /// The shortest true time in which a node's clock may advance by this.
    pub(super) fn min_elapsed_nanos(&self, span: Duration) -> u64 {
        let fastest_ppm = 1_000_000 + self.max_drift_ppm as u64;
        span.as_nanos() as u64 / 1000 * 1_000_000 / fastest_ppm * 1000
    }

    /// The max TTL of the misconfigured client.
    pub(super) fn other_max_ttl(&self) -> Duration {
        if self.is_other_max_ttl_shorter { self.max_ttl / 2 } else { self.max_ttl * 2 }
    }

    pub(super) fn max_ttl_nanos(&self) -> u64 {
        self.max_ttl.as_nanos() as u64
    }
}

/// The most nodes and clients of a history.
pub(super) const MAX_NODES: usize = 6;
pub(super) const MAX_CLIENTS: usize = 6;
