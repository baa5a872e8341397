//! The durations of a run: ttls, waits, limits and pauses.

use std::time::Duration;

pub(super) const TTL: Duration = Duration::from_secs(1);
/// The max TTL of the run's lock cluster, and the length of probation.
pub(super) const MAX_TTL: Duration = Duration::from_secs(2);
pub(super) const WAITS_MS: [u64; 4] = [200, 1000, 3000, 8000];
pub(super) const LONG_WAITS_MS: [u64; 2] = [5000, 8000];
pub(super) const REPLY_TIMEOUT: Duration = Duration::from_millis(500);
/// The time added to the max TTL for a busy machine.
pub(super) const RECOVERY: Duration = Duration::from_millis(2500);
/// The time added to a lock's ttl before a waiting client counts as starved.
pub(super) const STARVATION: Duration = Duration::from_secs(1);
pub(super) const SLACK: Duration = Duration::from_millis(600);
/// 60 tries of 5 ms: 0.3 s.
pub(super) const TARGET_TRIES: u32 = 60;
pub(super) const TARGET_PAUSE: Duration = Duration::from_millis(5);
pub(super) const PROGRESS_INTERVAL: Duration = Duration::from_millis(100);
/// The time after probation until a node counts as a member that remembers again.
pub(super) const PROBATION_SLACK: Duration = Duration::from_millis(400);
/// How long a fault waits for others, before it is left out.
pub(super) const MAX_DELAY: Duration = Duration::from_secs(5);
/// How long a node is not in the roster, between two reconfigurations.
pub(super) const BETWEEN_EXCHANGES: Duration = Duration::from_secs(1);
/// The time for a client to read its command.
pub(super) const BLOCK_SLACK: Duration = Duration::from_millis(50);
/// The time for all clients to end.
pub(super) const CLIENT_STOP_TIMEOUT: Duration = Duration::from_secs(15);
pub(super) const DIAL_TIMEOUT: Duration = Duration::from_secs(20);
