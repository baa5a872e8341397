//! Providers and servers: how each gets the settings that locks need. A finding without a way is of no use to a reader who may
//! not run `CONFIG`.

use quorlock::node::{ExclusionReason, NodeStatus};

/// How to set up a server at one provider, or of one product.
pub(super) struct Provider {
    /// The provider's service or the product, as `ServerVersion` names it.
    server: &'static str,
    /// The ends of its host names.
    hosts: &'static [&'static str],
    /// How to set the policy `noeviction`.
    pub(super) noeviction: &'static str,
    /// How to keep data across restarts; where that is impossible, what follows from it.
    pub(super) persistence: &'static str,
    /// Where a user gets permissions.
    pub(super) permissions: &'static str,
    /// How to set its clock.
    pub(super) clock: &'static str,
    /// What to use in place of a Redis Cluster.
    no_cluster: &'static str,
}

impl Provider {
    /// The provider of a node, by what its server says and by its host name.
    pub(super) fn of(node: &NodeStatus) -> &'static Self {
        let names = node.server.as_ref().map(|server| [Some(server.name), server.service]);
        let says_so = |provider: &&Self| names.iter().flatten().any(|name| *name == Some(provider.server));
        PROVIDERS
            .iter()
            .find(says_so)
            .or_else(|| PROVIDERS.iter().find(|provider| provider.has_host(&node.address)))
            .unwrap_or(&SELF_RUN)
    }

    fn has_host(&self, address: &str) -> bool {
        let host = address.split('/').next().unwrap_or_default();
        let host = host.rsplit_once(':').map_or(host, |(host, _)| host);
        self.hosts.iter().any(|end| host.ends_with(end))
    }

    /// The message of an exclusion, with the fix at this provider.
    pub(super) fn fix_for(&self, reason: &ExclusionReason) -> String {
        match reason {
            ExclusionReason::AuthFailed(_) => format!(
                "{reason}; check the user and the password (--username, --password-file, --password-command, or the URL)"
            ),
            ExclusionReason::ClusterMismatch(_) => format!(
                "{reason}; give all clients the same --nodes; to change nodes, quorum or max ttl, see `quorlock \
                 reconfigure`"
            ),
            ExclusionReason::EvictionEnabled => {
                format!("{reason} {}; until then it casts no vote", self.noeviction)
            }
            ExclusionReason::RedisClusterNode => format!("{reason}: {}", self.no_cluster),
            _ => reason.to_string(),
        }
    }
}

const SELF_RUN: Provider = Provider {
    server: "Redis",
    hosts: &[],
    noeviction: "(`CONFIG SET maxmemory-policy noeviction`, then `CONFIG REWRITE`; where a provider does not allow \
                 CONFIG, in its own way: `gcloud redis instances update NAME --update-redis-config \
                 maxmemory-policy=noeviction`, `gcloud memorystore instances update NAME \
                 --update-engine-configs=maxmemory-policy=noeviction`, others in docs/servers.md)",
    persistence: "set appendonly yes and appendfsync always (`CONFIG SET`, then `CONFIG REWRITE`)",
    permissions: "",
    clock: "synchronize the clock (chrony, or another time service)",
    no_cluster: "start servers without cluster mode (cluster-enabled no), one for each node of the list",
};

/// Services at a provider, and products with settings of their own.
const PROVIDERS: &[Provider] = &[
    Provider {
        server: "Amazon ElastiCache",
        hosts: &[".cache.amazonaws.com", ".cache.amazonaws.com.cn"],
        noeviction: "in a parameter group of its own (`aws elasticache modify-cache-parameter-group \
                     --cache-parameter-group-name GROUP --parameter-name-values \
                     ParameterName=maxmemory-policy,ParameterValue=noeviction`)",
        persistence: "with Valkey 9 or later, enable durability with synchronous writes; otherwise it returns blank, so \
                      give each node a zone of its own",
        permissions: " in its access string (`aws elasticache modify-user --user-id USER --access-string …`)",
        clock: MANAGED_CLOCK,
        no_cluster: "create node-based caches of one node each, with cluster mode off; ElastiCache Serverless always is a \
                     cluster",
    },
    Provider {
        server: "Amazon MemoryDB",
        hosts: &[".memorydb.amazonaws.com"],
        no_cluster: "MemoryDB always is a cluster; use node-based ElastiCache, with cluster mode off",
        ..MANAGED
    },
    Provider {
        server: "Azure Managed Redis",
        hosts: &[".redis.azure.net", ".redisenterprise.cache.azure.net"],
        noeviction: "(`az redisenterprise database update --cluster-name NAME --resource-group GROUP --eviction-policy \
                     NoEviction`)",
        permissions: " in its access policy",
        ..MANAGED
    },
    Provider {
        server: "Azure Cache for Redis",
        hosts: &[".redis.cache.windows.net", ".redis.cache.chinacloudapi.cn"],
        noeviction: "(`az redis update --name NAME --resource-group GROUP --set \
                     redisConfiguration.maxmemory-policy=noeviction`)",
        permissions: " in its access policy",
        ..MANAGED
    },
    Provider {
        server: "Redis Enterprise",
        hosts: &[".redislabs.com", ".redis-cloud.com", ".rlrcp.com"],
        noeviction: "(data eviction policy of the database, in the console or by the API)",
        permissions: " in its role (ACL of the database, in the console)",
        ..MANAGED
    },
    Provider {
        server: "Upstash",
        hosts: &[".upstash.io"],
        noeviction: "(switch eviction off in the console)",
        ..MANAGED
    },
    Provider {
        server: "Aiven",
        hosts: &[".aivencloud.com"],
        noeviction: "(`avn service update NAME -c valkey_maxmemory_policy=noeviction`)",
        ..MANAGED
    },
    Provider {
        server: "DigitalOcean",
        hosts: &[".db.ondigitalocean.com"],
        noeviction: "(valkey_maxmemory_policy, by the API or in the console)",
        ..MANAGED
    },
    Provider { server: "Alibaba Cloud", hosts: &[".rds.aliyuncs.com", ".kvstore.aliyuncs.com"], ..MANAGED },
    Provider { server: "Huawei Cloud", hosts: &[".myhuaweicloud.com"], ..MANAGED },
    Provider { server: "OCI Cache", hosts: &[".oci.oraclecloud.com"], ..MANAGED },
    Provider {
        server: "Dragonfly",
        noeviction: "(start it without --cache_mode)",
        persistence: "it has snapshots only (--snapshot_cron), so restart one node at a time",
        no_cluster: "start it without --cluster_mode",
        ..SELF_RUN
    },
    Provider { server: "Garnet", no_cluster: "start it without --cluster", ..SELF_RUN },
];

const MANAGED: Provider = Provider {
    server: "",
    hosts: &[],
    noeviction: "in its parameters (console or API of the provider)",
    persistence: "switch its append-only file on, if the provider has one; otherwise a restarted node is on probation for \
                  the max ttl, so give each node a maintenance window of its own",
    permissions: " in its access control (console or API of the provider)",
    clock: MANAGED_CLOCK,
    no_cluster: "create instances of one node each, without cluster mode or shards",
};

/// An operator cannot set the clock of a managed server.
const MANAGED_CLOCK: &str = "check the clock of this machine (`chronyc tracking`); if it is right, have the provider replace the server";

#[cfg(test)]
mod tests {
    use super::*;

    fn by_host(address: &str) -> &'static str {
        PROVIDERS.iter().find(|provider| provider.has_host(address)).map_or("", |provider| provider.server)
    }

    #[test]
    fn providers_are_recognized_by_host_names() {
        for (address, server) in [
            ("locks-1.jyqn3e.0001.apn2.cache.amazonaws.com:6379", "Amazon ElastiCache"),
            ("locks-1.jyqn3e.0001.apn2.cache.amazonaws.com:6379/2", "Amazon ElastiCache"),
            ("locks.westeurope.redis.azure.net:10000", "Azure Managed Redis"),
            ("locks.redis.cache.windows.net:6380", "Azure Cache for Redis"),
            ("redis-18103.c1.eu-west-1-3.ec2.redns.redis-cloud.com:18103", "Redis Enterprise"),
            ("locks-me.h.aivencloud.com:28000", "Aiven"),
            ("locks-do-user-1.k.db.ondigitalocean.com:25061", "DigitalOcean"),
            ("r-1.redis.rds.aliyuncs.com:6379", "Alibaba Cloud"),
            ("10.0.0.1:6379", ""),
            ("cache.amazonaws.com.example.org:6379", ""),
            ("unix:/run/redis.upstash.io/redis.sock", ""),
        ] {
            assert_eq!(by_host(address), server, "{address}");
        }
    }

    #[test]
    fn every_provider_has_a_way_for_each_finding() {
        for provider in PROVIDERS.iter().chain([&SELF_RUN]) {
            for way in [provider.noeviction, provider.persistence, provider.clock, provider.no_cluster] {
                assert!(!way.is_empty() && !way.ends_with('.'), "{}: {way:?}", provider.server);
            }
        }
    }
}
