//! Services and servers that are not installed here, as their `INFO` shows them, and what a client must say about
//! each. The texts of Dragonfly, Kvrocks, Garnet, `KeyDB`, Amazon `ElastiCache` and Redis Cloud are from recorded
//! replies, shortened; those of other services have the fields that their documentation names.

use super::{ScriptInfo, ServerProfile};

/// A service, and what `connect` and `doctor` report about it.
pub(crate) struct Service {
    pub(crate) name: &'static str,
    pub(crate) profile: ServerProfile,
    pub(crate) verdict: Verdict,
    /// What `doctor` prints, for a client in fenced mode.
    pub(crate) doctor: &'static [&'static str],
}

/// What becomes of a client that connects.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Locks in both modes.
    Works,
    /// Locks in plain mode only. In fenced mode the node is excluded, with a reason that contains these texts.
    Plain(&'static [&'static str]),
    /// Excluded in both modes, with a reason that contains these texts.
    Excluded(&'static [&'static str]),
}

/// All services of the table in `docs/servers.md`, and proxies.
pub(crate) const SERVICES: &[Service] = &[
    Service {
        name: "Redis",
        profile: PASS,
        verdict: Verdict::Works,
        doctor: &["Redis ", "append-only file"],
    },
    Service {
        name: "Valkey",
        profile: ServerProfile { info: VALKEY, ..PASS },
        verdict: Verdict::Works,
        doctor: &["Valkey 9.1.2"],
    },
    Service {
        name: "Amazon ElastiCache, node-based",
        profile: ServerProfile { info: ELASTICACHE, missing: MANAGED, ..PASS },
        verdict: Verdict::Plain(&["evicts keys", "noeviction"]),
        doctor: &["volatile-lru", "aws elasticache modify-cache-parameter-group", "enable durability"],
    },
    Service {
        name: "Amazon ElastiCache, node-based, with noeviction",
        profile: ServerProfile { info: ELASTICACHE_NOEVICTION, missing: MANAGED, ..PASS },
        verdict: Verdict::Works,
        doctor: &["Redis 6.2.5", "enable durability"],
    },
    Service {
        name: "Amazon ElastiCache Serverless",
        profile: ServerProfile { info: ELASTICACHE_SERVERLESS, missing: MANAGED, ..PASS },
        verdict: Verdict::Excluded(&["Redis Cluster member"]),
        doctor: &["Redis Cluster member", "node-based", "cluster mode off"],
    },
    Service {
        name: "Memorystore for Redis",
        profile: ServerProfile { info: MEMORYSTORE_REDIS, missing: MANAGED, ..PASS },
        verdict: Verdict::Plain(&["evicts keys", "noeviction"]),
        doctor: &["volatile-lru", "gcloud redis instances update"],
    },
    Service {
        name: "Memorystore for Valkey, cluster mode off",
        profile: ServerProfile { info: VALKEY_VOLATILE, missing: MANAGED, ..PASS },
        verdict: Verdict::Plain(&["evicts keys", "noeviction"]),
        doctor: &["volatile-lru", "gcloud memorystore instances update"],
    },
    Service {
        name: "Redis Enterprise, Redis Cloud, Azure Managed Redis",
        profile: ServerProfile { info: REDIS_CLOUD, script_info: ScriptInfo::Refused, ..PASS },
        verdict: Verdict::Plain(&["not allowed from script", "INFO", "plain mode"]),
        doctor: &["not allowed from script", "--mode plain"],
    },
    Service {
        name: "Upstash",
        profile: ServerProfile { info: UPSTASH, ..PASS },
        verdict: Verdict::Plain(&["lacks role, run_id, master_replid", "plain mode"]),
        doctor: &["Upstash 1.10.5", "lacks role, run_id, master_replid", "--mode plain"],
    },
    Service {
        name: "Aiven for Valkey",
        profile: ServerProfile { info: VALKEY, missing: MANAGED, ..PASS },
        verdict: Verdict::Works,
        doctor: &["Valkey 9.1.2"],
    },
    Service {
        name: "DigitalOcean, Huawei DCS (single node), OCI Cache (not sharded)",
        profile: ServerProfile { missing: MANAGED, ..PASS },
        verdict: Verdict::Works,
        doctor: &["append-only file"],
    },
    Service {
        name: "Alibaba",
        profile: ServerProfile { info: REDIS_VOLATILE, missing: MANAGED, ..PASS },
        verdict: Verdict::Plain(&["evicts keys", "noeviction"]),
        doctor: &["volatile-lru", "CONFIG SET maxmemory-policy noeviction", "docs/servers.md"],
    },
    Service {
        name: "OCI Cache (sharded), Huawei DCS (cluster)",
        profile: ServerProfile { info: REDIS_CLUSTER, missing: MANAGED, ..PASS },
        verdict: Verdict::Excluded(&["Redis Cluster member"]),
        doctor: &["Redis Cluster member", "without cluster mode"],
    },
    Service {
        name: "Dragonfly",
        profile: DRAGONFLY,
        verdict: Verdict::Works,
        doctor: &["Dragonfly 2.0.0", "snapshots only"],
    },
    Service {
        name: "Kvrocks",
        profile: ServerProfile { info: KVROCKS, ..PASS },
        verdict: Verdict::Plain(&["restarted", "lacks run_id, master_replid", "plain mode"]),
        doctor: &["lacks run_id, master_replid", "--mode plain"],
    },
    Service { name: "Garnet", profile: GARNET, verdict: Verdict::Works, doctor: &["Garnet 2.2.0"] },
    Service {
        name: "KeyDB",
        profile: ServerProfile { info: KEYDB, ..PASS },
        verdict: Verdict::Works,
        doctor: &["KeyDB 6.3.4"],
    },
    Service {
        name: "KeyDB, active replica",
        profile: ServerProfile { info: KEYDB_ACTIVE, ..PASS },
        verdict: Verdict::Excluded(&["a replica: name its master instead"]),
        doctor: &["a replica: name its master instead"],
    },
    Service {
        name: "Dragonfly, replica",
        profile: ServerProfile { info: DRAGONFLY_REPLICA, ..PASS },
        verdict: Verdict::Excluded(&["a replica: name its master instead"]),
        doctor: &["a replica: name its master instead"],
    },
    Service {
        name: "Valkey Sentinel",
        profile: ServerProfile {
            info: VALKEY_SENTINEL,
            missing: &["EVAL", "EVALSHA", "SCRIPT", "SELECT"],
            ..PASS
        },
        verdict: Verdict::Excluded(&["Sentinel", "name the master"]),
        doctor: &["Sentinel", "name the master"],
    },
    Service {
        name: "a proxy that routes by key, with an INFO of its own (Envoy)",
        profile: ServerProfile {
            info: AGGREGATE,
            script_info: ScriptInfo::Real,
            missing: &["HELLO", "CLIENT", "SUBSCRIBE", "PUBLISH", "TIME"],
            keyless_scripts: false,
        },
        verdict: Verdict::Plain(&["a proxy that understands Redis", "plain mode"]),
        doctor: &["a proxy that understands Redis", "the server's own address"],
    },
    Service {
        name: "a proxy that only adds up INFO",
        profile: ServerProfile { info: AGGREGATE, script_info: ScriptInfo::Real, ..PASS },
        verdict: Verdict::Plain(&["a proxy that understands Redis", "plain mode"]),
        doctor: &["a proxy that understands Redis", "the server's own address"],
    },
    Service {
        name: "a proxy that hides TIME, HELLO and SUBSCRIBE",
        profile: ServerProfile { missing: &["TIME", "HELLO", "SUBSCRIBE"], ..PASS },
        verdict: Verdict::Plain(&["a proxy that understands Redis", "plain mode"]),
        doctor: &["a proxy that understands Redis", "the server's own address"],
    },
    Service {
        name: "a proxy without INFO (Twemproxy)",
        profile: ServerProfile { missing: &["INFO", "TIME", "SELECT", "CLIENT", "CONFIG"], ..PASS },
        verdict: Verdict::Excluded(&["a command is missing", "INFO"]),
        doctor: &["a command is missing", "INFO"],
    },
];

/// The real server.
pub(crate) const PASS: ServerProfile =
    ServerProfile { info: "", script_info: ScriptInfo::Same, missing: &[], keyless_scripts: true };

/// No `run_id`; a new replication id at each start.
pub(crate) const DRAGONFLY: ServerProfile = ServerProfile {
    info: "# Server\nredis_version:7.4.0\ndragonfly_version:df-v2.0.0\nredis_mode:standalone\narch_bits:64\n\
           process_id:1\nos:Linux 6.12.0 x86_64\nthread_count:8\nmultiplexing_api:epoll\ntcp_port:6379\n\n\
           # Memory\nused_memory:6784704\nmaxmemory:48540578611\ncache_mode:store\nmaxmemory_policy:noeviction\n\n\
           # Stats\ntotal_commands_processed:1\nevicted_keys:0\n\n# Persistence\nloading:0\nsaving:0\n\n\
           # Replication\nrole:master\nconnected_slaves:0\n\
           master_replid:c7a9e3b0d1f24c5686a7d2e91b8f4a3d5c6e7f80\n\n# Commandstats\ncmdstat_GET:calls=1,usec=4\n\n\
           # Cluster\ncluster_enabled:0\n",
    ..PASS
};

/// A `run_id`, a constant replication id, and no memory limit, but addresses of its log.
pub(crate) const GARNET: ServerProfile = ServerProfile {
    info: "# Server\ngarnet_version:2.2.0\nserver_name:garnet\nos:Unix\nprocessor_count:8\narch_bits:64\n\
           commandstats_monitor:disabled\nrun_id:4b1f6d7a9c3e58b20d6f7a1c4e9b3d5f8a2c6e0b\n\
           redis_version:7.4.3\nredis_mode:standalone\n\n# Memory\ntotal_system_memory:8589934592\n\n\
           # Cluster\ncluster_enabled:0\n\n# Replication\nrole:master\nconnected_slaves:0\n\
           master_failover_state:no-failover\nmaster_replid:0000000000000000000000000000000000000000\n\n\
           # Stats\ntotal_commands_processed:0\n\n# Store_DB_0\nLogDir:\nLog.BeginAddress:64\n\
           Log.HeadAddress:64\nLog.TailAddress:64\n",
    ..PASS
};

/// Commands that managed services do not have.
const MANAGED: &[&str] = &["CONFIG", "ACL", "DEBUG", "REPLICAOF", "SLAVEOF", "SAVE", "BGSAVE", "SHUTDOWN"];

const VALKEY: &str = "# Server\nredis_version:7.2.4\nserver_name:valkey\nvalkey_version:9.1.2\nserver_mode:standalone\n\
                      os:Linux 6.1.0 x86_64\nprocess_id:1\nrun_id:1d7c9b3e5f20a8467b2d9c1e4f60a8533e7b1d9c\n\n\
                      # Memory\nmaxmemory:0\nmaxmemory_policy:noeviction\n\n# Persistence\nloading:0\naof_enabled:1\n\n\
                      # Stats\nevicted_keys:0\n\n# Replication\nrole:master\n\
                      master_replid:2e0d41c7a25b83f6d2c17e4b90a5f3862d7c1b4e\n\n# Cluster\ncluster_enabled:0\n";

const VALKEY_VOLATILE: &str = "# Server\nredis_version:7.2.4\nserver_name:valkey\nvalkey_version:8.0.1\n\
                               server_mode:standalone\nrun_id:3d7c9b3e5f20a8467b2d9c1e4f60a8533e7b1d9c\n\n\
                               # Memory\nmaxmemory:1395864371\nmaxmemory_policy:volatile-lru\n\n\
                               # Persistence\nloading:0\naof_enabled:1\n\n# Stats\nevicted_keys:0\n\n\
                               # Replication\nrole:master\nmaster_replid:4e0d41c7a25b83f6d2c17e4b90a5f3862d7c1b4e\n\n\
                               # Cluster\ncluster_enabled:0\n";

const REDIS_VOLATILE: &str = "# Server\nredis_version:7.0.15\nredis_mode:standalone\nos:Linux\n\
                              run_id:5d7c9b3e5f20a8467b2d9c1e4f60a8533e7b1d9c\n\n\
                              # Memory\nmaxmemory:1073741824\nmaxmemory_policy:volatile-lru\n\n\
                              # Persistence\nloading:0\naof_enabled:1\n\n# Stats\nevicted_keys:0\n\n\
                              # Replication\nrole:master\nmaster_replid:6e0d41c7a25b83f6d2c17e4b90a5f3862d7c1b4e\n";

const REDIS_CLUSTER: &str = "# Server\nredis_version:7.0.15\nredis_mode:cluster\nos:Linux\n\
                             run_id:7d7c9b3e5f20a8467b2d9c1e4f60a8533e7b1d9c\n\n# Replication\nrole:master\n\
                             master_replid:8e0d41c7a25b83f6d2c17e4b90a5f3862d7c1b4e\n\n# Cluster\ncluster_enabled:1\n";

const ELASTICACHE: &str = "# Server\nredis_version:6.2.5\nredis_git_sha1:0\nredis_build_id:0\nredis_mode:standalone\n\
                           os:Amazon ElastiCache\narch_bits:64\nmultiplexing_api:epoll\ngcc_version:0.0.0\n\
                           process_id:1\nrun_id:133863b990a0f0e29472afde545febd775fd624f\ntcp_port:6379\n\
                           executable:-\nconfig_file:-\n\n# Memory\nmaxmemory:581959680\n\
                           maxmemory_policy:volatile-lru\n\n# Persistence\nloading:0\naof_enabled:0\n\n\
                           # Stats\nevicted_keys:0\n\n# Replication\nrole:master\nconnected_slaves:0\n\
                           master_replid:9e0d41c7a25b83f6d2c17e4b90a5f3862d7c1b4e\n\n# Cluster\ncluster_enabled:0\n";

const ELASTICACHE_NOEVICTION: &str = "# Server\nredis_version:6.2.5\nredis_mode:standalone\nos:Amazon ElastiCache\nprocess_id:1\n\
     run_id:133863b990a0f0e29472afde545febd775fd624f\n\n# Memory\nmaxmemory:581959680\n\
     maxmemory_policy:noeviction\n\n# Persistence\nloading:0\naof_enabled:0\n\n# Stats\nevicted_keys:0\n\n\
     # Replication\nrole:master\nmaster_replid:9e0d41c7a25b83f6d2c17e4b90a5f3862d7c1b4e\n";

const ELASTICACHE_SERVERLESS: &str = "# Server\nredis_version:7.1.0\nredis_mode:cluster\nos:Amazon ElastiCache\nprocess_id:1\n\
     run_id:a20787f1c26718fd8c3b27a0c7dc33fce98ed847\n\n# Replication\nrole:master\n\n# Cluster\ncluster_enabled:1\n";

const MEMORYSTORE_REDIS: &str = "# Server\nredis_version:7.2.4\nredis_mode:standalone\n\
                                 run_id:9d7c9b3e5f20a8467b2d9c1e4f60a8533e7b1d9c\n\n# Memory\nmaxmemory:1073741824\n\
                                 maxmemory_policy:volatile-lru\n\n# Persistence\nloading:0\naof_enabled:0\n\n\
                                 # Stats\nevicted_keys:0\n\n# Replication\nrole:master\n\
                                 master_replid:ae0d41c7a25b83f6d2c17e4b90a5f3862d7c1b4e\n";

/// Its proxy makes this text: the uptime is 2830 days, and the policy is not shown.
const REDIS_CLOUD: &str = "# Server\nredis_version:6.0.9\nredis_git_sha1:00000000\nredis_mode:standalone\n\
                           os:Linux 5.4.0-1051-aws x86_64\narch_bits:64\nmultiplexing_api:epoll\nprocess_id:7463228\n\
                           run_id:37278d06bac0c36a66a7f95500b5c3ffa173e799\ntcp_port:18103\n\
                           uptime_in_seconds:244566003\nuptime_in_days:2830\nhz:10\nlru_clock:0\nconfig_file:\n\n\
                           # Memory\nused_memory:1054058256\nmem_allocator:jemalloc-5.1.0\n\n\
                           # Persistence\nloading:0\naof_enabled:1\n\n# Replication\nrole:master\nconnected_slaves:0\n";

/// Sections that it does not support have a heading alone.
const UPSTASH: &str = "# Server\nupstash_version:1.10.5\nredis_version:6.2.6\nredis_mode:standalone\n\n\
                       # Memory\n\n# Stats\ntotal_commands_processed:3\n\n# Replication\n\n# Keyspace\ndb0:keys=0\n";

/// Neither `run_id` nor replication id, and no memory limit.
const KVROCKS: &str = "# Server\nversion:2.17.0\nkvrocks_version:2.17.0\nredis_version:7.0.0\nredis_mode:standalone\n\
                       kvrocks_mode:standalone\nos:Linux 6.12.0 x86_64\nrocksdb_version:11.8.1\narch_bits:64\n\
                       process_id:1\ntcp_port:6666\nuptime_in_seconds:0\n\n# Memory\nused_memory_rss:39284736\n\n\
                       # Persistence\nloading:0\nbgsave_in_progress:0\n\n# Stats\ntotal_commands_processed:1\n\n\
                       # Replication\nrole:master\nconnected_slaves:0\nmaster_repl_offset:0\n\n\
                       # CommandStats\ncmdstat_info:calls=1,usec=0,usec_per_call=0\n\n# Cluster\ncluster_enabled:0\n";

const KEYDB: &str = "# Server\nredis_version:6.3.4\nredis_git_sha1:7e7e5e57\nredis_mode:standalone\n\
                     os:Linux 6.12.0 x86_64\nprocess_id:1\nrun_id:5b2e7c91d04f8a63e1b7d9c25f40a86e3d17b9c4\n\
                     tcp_port:6379\nfeatures:cluster_mget\n\n# Memory\nmaxmemory:0\nmaxmemory_policy:noeviction\n\n\
                     # Persistence\nloading:0\naof_enabled:0\n\n# Stats\nevicted_keys:0\n\n\
                     # Replication\nrole:master\nconnected_slaves:0\n\
                     master_replid:9e0d41c7a25b83f6d2c17e4b90a5f3862d7c1b4e\n\n# Commandstats\n\n\
                     # Cluster\ncluster_enabled:0\n\n# KeyDB\nmvcc_depth:0\n";

/// One of two masters that replicate each other.
const KEYDB_ACTIVE: &str = "# Server\nredis_version:6.3.4\nredis_mode:standalone\nprocess_id:1\n\
                            run_id:5b2e7c91d04f8a63e1b7d9c25f40a86e3d17b9c4\ntcp_port:6379\n\n\
                            # Memory\nmaxmemory:0\nmaxmemory_policy:noeviction\n\n# Stats\nevicted_keys:0\n\n\
                            # Replication\nrole:active-replica\nmaster_host:10.0.0.2\nmaster_link_status:up\n\
                            master_replid:9e0d41c7a25b83f6d2c17e4b90a5f3862d7c1b4e\n\n# KeyDB\nmvcc_depth:0\n";

const DRAGONFLY_REPLICA: &str = "# Server\nredis_version:7.4.0\ndragonfly_version:df-v2.0.0\nprocess_id:1\n\n\
                                 # Replication\nrole:replica\nmaster_host:10.0.0.2\nmaster_link_status:up\n\
                                 master_replid:d7a9e3b0d1f24c5686a7d2e91b8f4a3d5c6e7f80\n";

/// A Sentinel, as `INFO` of Valkey 8 shows it.
const VALKEY_SENTINEL: &str = "# Server\nredis_version:7.2.4\nserver_name:valkey\nvalkey_version:8.0.1\n\
                               server_mode:sentinel\nrun_id:7d1c9b3e5f20a8467b2d9c1e4f60a8533e7b1d9c\n\
                               tcp_port:26379\n\n# Sentinel\nsentinel_masters:1\n";

/// Numbers of several servers, added up.
const AGGREGATE: &str = "# Server\nredis_version:7.2.4\nredis_mode:standalone\n\n# Memory\nused_memory:4194304\n\n\
                         # Stats\ntotal_commands_processed:6\n\n# Replication\nrole:master\n";
