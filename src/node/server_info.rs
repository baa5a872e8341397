//! Server information: what a handshake reports about a server.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::view::{Fences, NodeWarning, Persistence, ServerVersion};
use quorlock_proto::marker::{Incarnation, MarkerReading};
use quorlock_proto::time::DualTimestamp;
use quorlock_proto::vote::ExclusionReason;

/// What the handshake reported about a server: its `INFO`, its marker, and the results of probes.
#[derive(Clone, Debug)]
pub(crate) struct ServerInfo {
    /// The random id of the server process; empty if `INFO` lacks it. For Dragonfly it is the replication id, which
    /// each of its processes draws.
    pub(crate) run_id: String,
    /// When the handshake's requests were sent, in one write.
    pub(crate) requested_at: DualTimestamp,
    /// From the write of the handshake to the reply to `INFO`. It includes the requests before `INFO`, so it
    /// is longer than the round trip of a single request.
    pub(crate) round_trip: Duration,
    /// How far the server's clock is ahead of this client's wall clock, in microseconds; negative if behind.
    /// Half of `round_trip` is the largest error. If `INFO` lacks the time, it is the marker reading's, with a
    /// larger error; `None` in plain mode then.
    pub(crate) clock_ahead_micros: Option<i64>,
    /// The marker reading, set after `INFO` was parsed; `None` in plain mode.
    pub(crate) marker: Option<MarkerReading>,
    /// An estimate of the memory that fences take on the server, set with the marker; `None` in plain mode,
    /// or if unknown.
    pub(crate) fences: Option<Fences>,
    /// Why the server cannot keep wait queues for this client, set by a probe after `INFO`; `None` if it can.
    pub(crate) wait_queue_unsupported: Option<String>,
    /// The error text of the same probe, if the server rejected a write.
    pub(crate) write_error: Option<Arc<str>>,
    /// The fields of `INFO`.
    info: HashMap<String, String>,
}

impl ServerInfo {
    /// Parses the text of `INFO`, which was requested at `sent` and received at `received`.
    pub(super) fn parse(info: &str, sent: DualTimestamp, received: DualTimestamp) -> Self {
        let lines = info.lines().filter_map(|line| line.split_once(':'));
        let info: HashMap<String, String> =
            lines.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect();
        let round_trip = received.since(sent);
        let server_micros = info.get("server_time_usec").and_then(|micros| micros.parse::<i64>().ok());
        let clock_ahead_micros = server_micros.map(|micros| clock_ahead_micros(micros, sent, received));
        Self {
            run_id: run_id(&info).cloned().unwrap_or_default(),
            requested_at: sent,
            round_trip,
            clock_ahead_micros,
            marker: None,
            fences: None,
            wait_queue_unsupported: None,
            write_error: None,
            info,
        }
    }

    /// Sets the marker reading, which was received at `received`. Its time serves where `INFO` lacks one.
    pub(super) fn set_marker(&mut self, reading: MarkerReading, received: DualTimestamp) {
        let ahead_micros = clock_ahead_micros(reading.micros as i64, self.requested_at, received);
        self.clock_ahead_micros.get_or_insert(ahead_micros);
        self.marker = Some(reading);
    }

    /// The reason to exclude the server, if `INFO` shows one.
    pub(super) fn exclusion(&self) -> Option<ExclusionReason> {
        // `server_mode` is the field's name in Valkey since version 8.
        let modes = [self.field("redis_mode"), self.field("server_mode")];
        if modes.contains(&"cluster") || self.field("cluster_enabled") == "1" {
            return Some(ExclusionReason::RedisClusterNode);
        }
        if modes.contains(&"sentinel") {
            return Some(ExclusionReason::Unsupported(
                "a Sentinel, which stores nothing: name the master it watches".into(),
            ));
        }
        // Another server may overwrite the data of a "slave", "replica" or "active-replica".
        (!matches!(self.field("role"), "" | "master")).then_some(ExclusionReason::Replica)
    }

    /// Whether the server that sent `INFO` also ran the script that read this incarnation (`lua/read_marker.lua`).
    pub(super) fn is_of(&self, incarnation: &Incarnation) -> bool {
        incarnation.run_id() == self.run_id
    }

    /// Whether the server is still loading its data from disk.
    pub(super) fn is_loading(&self) -> bool {
        self.field("loading") == "1"
    }

    /// The server's name and version.
    pub(crate) fn server(&self) -> ServerVersion {
        let own_version = OWN_VERSIONS.iter().find_map(|(field, name)| Some((*name, self.info.get(*field)?)));
        let (name, version) = match own_version {
            Some((name, version)) => (name, version.trim_start_matches("df-v")),
            // KeyDB reports its version as `redis_version`. Only KeyDB has this field.
            None if self.info.contains_key("mvcc_depth") => ("KeyDB", self.field("redis_version")),
            None => ("Redis", self.field("redis_version")),
        };
        ServerVersion { name, version: version.to_owned(), service: self.service() }
    }

    fn service(&self) -> Option<&'static str> {
        let is_named = |(field, value, _): &&(&str, &str, &str)| {
            self.info.get(*field).is_some_and(|text| value.is_empty() || text == value)
        };
        SERVICES.iter().find(is_named).map(|(_, _, service)| *service)
    }

    /// Whether it writes an append-only file; `None` if `INFO` does not say.
    pub(crate) fn persistence(&self) -> Option<Persistence> {
        match self.field("aof_enabled") {
            "1" => Some(Persistence::AppendOnlyFile),
            "0" => Some(Persistence::NoAppendOnlyFile),
            // It has snapshots, and nothing that keeps each write.
            _ if self.info.contains_key("dragonfly_version") => Some(Persistence::NoAppendOnlyFile),
            _ => None,
        }
    }

    /// Problems that endanger locks on it, or slow them.
    pub(crate) fn warnings(&self) -> Vec<NodeWarning> {
        let mut warnings = Vec::new();
        let policy = self.field("maxmemory_policy");
        let has_limit = !matches!(self.field("maxmemory"), "" | "0");
        if has_limit && !policy.is_empty() && policy != "noeviction" {
            warnings.push(NodeWarning::EvictionPolicy(policy.to_owned()));
        }
        warnings.extend(self.write_warning());
        warnings.extend(self.wait_queue_unsupported.clone().map(NodeWarning::WaitQueueUnavailable));
        warnings
    }

    /// The warning that it rejects writes, which is removed when it accepts one.
    pub(crate) fn write_warning(&self) -> Option<NodeWarning> {
        self.write_error.clone().map(NodeWarning::WriteRejected)
    }

    fn field(&self, name: &str) -> &str {
        self.info.get(name).map_or("", String::as_str)
    }
}

/// How far a server's clock is ahead, if it read this time between `sent` and `received`.
fn clock_ahead_micros(server_micros: i64, sent: DualTimestamp, received: DualTimestamp) -> i64 {
    let middle = sent.plus(received.since(sent) / 2);
    server_micros - (middle.wall_nanos() / 1000) as i64
}

fn run_id(info: &HashMap<String, String>) -> Option<&String> {
    let is_dragonfly = info.contains_key("dragonfly_version");
    info.get("run_id").or_else(|| info.get("master_replid").filter(|_| is_dragonfly))
}

/// Services: an `INFO` field, its value (empty for any), and the service's name.
const SERVICES: [(&str, &str, &str); 4] = [
    ("os", "Amazon ElastiCache", "Amazon ElastiCache"),
    ("os", "Amazon MemoryDB", "Amazon MemoryDB"),
    ("rlec_version", "", "Redis Enterprise"),
    ("upstash_version", "", "Upstash"),
];

/// Products that are compatible with Redis: the `INFO` field with the product's own version, and its name.
const OWN_VERSIONS: [(&str, &str); 6] = [
    ("valkey_version", "Valkey"),
    ("dragonfly_version", "Dragonfly"),
    ("dfly_version", "Dragonfly"),
    ("kvrocks_version", "Kvrocks"),
    ("garnet_version", "Garnet"),
    ("upstash_version", "Upstash"),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn server_info(info: &str) -> ServerInfo {
        let sent = DualTimestamp::new(0, 1_000_000_000);
        ServerInfo::parse(info, sent, sent.plus(Duration::from_millis(2)))
    }

    #[test]
    fn info_yields_product_run_id_and_clock_difference() {
        // Sent at 1 000 000 µs and received 2 ms later: the server's time is compared with 1 001 000 µs.
        let redis =
            server_info("redis_version:7.0.15\r\nrun_id:abc\r\nserver_time_usec:1001500\r\nrole:master\r\n");
        assert_eq!((redis.server().to_string().as_str(), redis.run_id.as_str()), ("Redis 7.0.15", "abc"));
        assert_eq!(redis.clock_ahead_micros, Some(500));
        assert_eq!(redis.exclusion(), None);
    }

    #[test]
    fn products_other_than_redis_are_recognized() {
        for (info, name) in [
            ("redis_version:7.2.4\r\nvalkey_version:8.0.1", "Valkey 8.0.1"),
            ("redis_version:7.4.0\r\ndragonfly_version:df-v1.31.0", "Dragonfly 1.31.0"),
            ("version:2.9.0\r\nkvrocks_version:2.9.0\r\nredis_version:4.0.0", "Kvrocks 2.9.0"),
            ("garnet_version:1.0.50\r\nredis_version:7.2.5", "Garnet 1.0.50"),
            ("redis_version:6.3.4\r\n# KeyDB\r\nmvcc_depth:0", "KeyDB 6.3.4"),
            ("redis_version:6.2.6\r\nupstash_version:1.10.5", "Upstash 1.10.5"),
        ] {
            assert_eq!(server_info(info).server().to_string(), name);
        }
    }

    #[test]
    fn services_are_recognized() {
        for (info, service) in [
            ("redis_version:7.1.0\r\nos:Amazon ElastiCache", Some("Amazon ElastiCache")),
            ("redis_version:7.4.0\r\nrlec_version:7.22.0-216", Some("Redis Enterprise")),
            ("redis_version:7.0.15\r\nos:Linux 6.1.0 x86_64", None),
        ] {
            assert_eq!(server_info(info).server().service, service);
        }
    }

    #[test]
    fn the_reply_to_info_is_compared_with_what_scripts_read() {
        let is_of = |info: &str, incarnation: &str| server_info(info).is_of(&Incarnation::new(incarnation));
        assert!(is_of("run_id:abc\r\nmaster_replid:def", "abc:def"));
        assert!(!is_of("run_id:other\r\nmaster_replid:def", "abc:def"));
        assert!(!is_of("master_replid:def", "def:p1"), "only Dragonfly draws it at each start");
        assert!(is_of("dragonfly_version:df-v2.0.0\r\nmaster_replid:def", "def:p1:s2"));
    }

    #[test]
    fn persistence_is_unknown_if_info_does_not_show_it() {
        assert_eq!(server_info("aof_enabled:1").persistence(), Some(Persistence::AppendOnlyFile));
        assert_eq!(server_info("aof_enabled:0").persistence(), Some(Persistence::NoAppendOnlyFile));
        assert_eq!(
            server_info("dragonfly_version:df-v2.0.0").persistence(),
            Some(Persistence::NoAppendOnlyFile)
        );
        assert_eq!(server_info("kvrocks_version:2.17.0").persistence(), None);
    }

    #[test]
    fn replicas_cluster_nodes_and_sentinels_are_excluded() {
        for role in ["slave", "replica", "active-replica"] {
            assert_eq!(
                server_info(&format!("role:{role}")).exclusion(),
                Some(ExclusionReason::Replica),
                "{role}"
            );
        }
        assert_eq!(
            server_info("server_mode:cluster\r\nrole:master").exclusion(),
            Some(ExclusionReason::RedisClusterNode)
        );
        assert!(matches!(
            server_info("server_mode:sentinel").exclusion(),
            Some(ExclusionReason::Unsupported(_))
        ));
        assert_eq!(
            server_info("redis_mode:cluster\r\nrole:master").exclusion(),
            Some(ExclusionReason::RedisClusterNode)
        );
        assert!(matches!(
            server_info("redis_mode:sentinel").exclusion(),
            Some(ExclusionReason::Unsupported(_))
        ));
    }

    #[test]
    fn eviction_is_reported_only_where_memory_has_a_limit() {
        assert_eq!(server_info("maxmemory:0\r\nmaxmemory_policy:allkeys-lru").warnings().len(), 0);
        assert_eq!(server_info("maxmemory:100\r\nmaxmemory_policy:noeviction").warnings().len(), 0);
        assert_eq!(server_info("maxmemory:100\r\nmaxmemory_policy:volatile-ttl").warnings().len(), 1);
    }
}
