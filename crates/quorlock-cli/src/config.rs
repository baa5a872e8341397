//! Builds a client from flags, environment variables and the file. A flag overrides the environment, which
//! overrides the file.

mod file;
mod origin;
mod sources;
#[cfg(test)]
mod tests;
pub(crate) mod values;

use std::collections::BTreeMap;
use std::fs::File;
use std::time::Duration;

use quorlock::error::InvalidInput;
use quorlock::{Mode, Redlock, RedlockBuilder};

use crate::args::NodeArgs;
use crate::exit::{self, Failure};
pub(crate) use origin::{Origin, variable};
use sources::Lookup;
pub(crate) use sources::variables;

/// A client builder, and the settings that commands need themselves.
pub(crate) struct Cluster {
    pub(crate) builder: RedlockBuilder,
    /// The URL of each node. They may contain passwords.
    pub(crate) urls: Vec<String>,
    pub(crate) quorum: usize,
    /// None for plain clients.
    pub(crate) max_ttl: Option<Duration>,
    /// How long nodes keep the fences of free names. Unused by plain clients.
    pub(crate) fencing_retention: Duration,
    /// The limit for one connection attempt to one node.
    pub(crate) dial_timeout: Duration,
}

/// A client from all sources, driven by a separate thread: locks are renewed while this runtime is busy.
pub(crate) fn cluster(args: NodeArgs) -> Result<Cluster, Failure> {
    let cluster = cluster_on_current_runtime(args)?;
    Ok(Cluster { builder: cluster.builder.dedicated_thread(true), ..cluster })
}

/// The same without the check of the builder, and where each setting was found: `reconfigure` checks the builder
/// together with its goal.
pub(crate) fn unchecked_cluster(args: NodeArgs) -> Result<(Cluster, Origins), Failure> {
    let (cluster, origins) = read(args, &|name| std::env::var_os(name))?;
    Ok((Cluster { builder: cluster.builder.dedicated_thread(true), ..cluster }, origins))
}

/// A client from all sources, driven by the current runtime, as in programs that use the library.
pub(crate) fn cluster_on_current_runtime(args: NodeArgs) -> Result<Cluster, Failure> {
    resolve(args, &|name| std::env::var_os(name))
}

/// Rejects a lock that can never be acquired, before any node is contacted.
pub(crate) fn check_lock(
    builder: &RedlockBuilder,
    name: &str,
    ttl: Option<Duration>,
    min_fencing_number: u64,
) -> Result<(), Failure> {
    builder.check_lock(name, ttl, min_fencing_number).map_err(|invalid| {
        let message = invalid.to_string();
        let lock = invalid.key().map_or_else(String::new, |key| format!("{}: ", exit::lock(key)));
        let flag = match invalid.option() {
            Some("ttl") => Some("ttl"),
            Some("floor" | "min_fencing_number") => Some("min-fencing-number"),
            _ => None,
        };
        let message = match flag {
            // Messages name the lock first.
            Some(flag) => format!("{lock}--{flag}: {}", message.strip_prefix(&lock).unwrap_or(&message)),
            None => message,
        };
        Failure::new(exit::USAGE, message)
    })
}

/// Where each setting was found.
pub(crate) type Origins = BTreeMap<&'static str, Origin>;

/// The failure of an option of the builder. It names the source of the invalid value.
pub(crate) fn failure_of(invalid: &InvalidInput, origins: &Origins) -> Failure {
    match invalid.option().and_then(|option| origins.get(setting_of(option))) {
        Some(origin) => origin.invalid(invalid),
        None => Failure::new(exit::CONFIG, invalid.to_string()),
    }
}

/// Builds the client and checks its options.
fn resolve(args: NodeArgs, lookup: Lookup<'_>) -> Result<Cluster, Failure> {
    let (cluster, origins) = read(args, lookup)?;
    let checked = cluster.builder.check().and_then(|()| cluster.builder.check_files());
    checked.map_err(|invalid| failure_of(&invalid, &origins))?;
    Ok(cluster)
}

/// Reads all sources.
fn read(mut args: NodeArgs, lookup: Lookup<'_>) -> Result<(Cluster, Origins), Failure> {
    let password = args.complete(lookup)?;
    let NodeArgs {
        nodes, node_names, quorum, max_ttl, mode, fencing_retention, dial_timeout, origins, ..
    } = args;
    let urls: Vec<String> = nodes.into_iter().flat_map(|urls| urls.0).collect();
    if urls.is_empty() {
        let message =
            "no nodes given: set QUORLOCK_NODES=redis://…,redis://…,redis://…, or use --nodes or --config";
        return Err(Failure::new(exit::CONFIG, message));
    }
    let max_ttl = max_ttl.unwrap_or(MAX_TTL);
    let dial_timeout = dial_timeout.unwrap_or(DIAL_TIMEOUT);
    let mode = mode.unwrap_or_default();
    let mut builder = Redlock::builder()
        .nodes(urls.clone())
        .max_ttl(max_ttl)
        .mode(mode)
        .dial_timeout(dial_timeout)
        .client_name("quorlock");
    let node_names: Vec<String> = node_names.into_iter().flat_map(|names| names.0).collect();
    builder = with(builder, Some(node_names).filter(|it| !it.is_empty()), RedlockBuilder::node_names);
    builder = with(builder, args.username, RedlockBuilder::username);
    builder = with(builder, password, |builder, password| password.set(builder));
    builder = with(builder, args.key_prefix, RedlockBuilder::key_prefix);
    builder = with(builder, quorum, RedlockBuilder::quorum);
    builder = with(builder, fencing_retention, RedlockBuilder::fencing_retention);
    builder = with(builder, args.clock_drift, RedlockBuilder::max_clock_drift);
    builder = with(builder, args.reply_timeout, RedlockBuilder::reply_timeout);
    // Errors do not show the file's name, because it may be a password or key by mistake.
    for (name, file) in [("tls_ca", &args.tls_ca), ("tls_cert", &args.tls_cert), ("tls_key", &args.tls_key)] {
        if let Some(Err(error)) = file.as_ref().map(File::open) {
            return Err(origins[name].invalid(error));
        }
    }
    builder = with(builder, args.tls_ca, RedlockBuilder::tls_ca_file);
    let alone = match (args.tls_cert, args.tls_key) {
        (Some(certificate), Some(key)) => {
            builder = builder.tls_client_certificate(certificate, key);
            None
        }
        (None, None) => None,
        (Some(_), None) => Some(("tls_cert", "tls_key")),
        (None, Some(_)) => Some(("tls_key", "tls_cert")),
    };
    if let Some((name, other)) = alone {
        let other = origins[name].relative_to_origin(other);
        return Err(origins[name].invalid(format_args!("it goes together with {other}: give both")));
    }
    let quorum = quorum.unwrap_or(urls.len() / 2 + 1);
    let fencing_retention = fencing_retention.unwrap_or_else(|| default_fencing_retention(max_ttl));
    let max_ttl = (mode != Mode::Plain).then_some(max_ttl);
    Ok((Cluster { builder, urls, quorum, max_ttl, fencing_retention, dial_timeout }, origins))
}

/// Sets an option of the builder, if there is a value.
fn with<T>(
    builder: RedlockBuilder,
    value: Option<T>,
    set: impl FnOnce(RedlockBuilder, T) -> RedlockBuilder,
) -> RedlockBuilder {
    match value {
        Some(value) => set(builder, value),
        None => builder,
    }
}

/// The setting of an option of the builder.
fn setting_of(option: &str) -> &str {
    match option {
        "max_clock_drift" => "clock_drift",
        "tls_ca_file" => "tls_ca",
        "tls_client_certificate" => "tls_cert",
        "tls_client_key" => "tls_key",
        same => same,
    }
}

/// The default, the same as in the library.
pub(crate) fn default_fencing_retention(max_ttl: Duration) -> Duration {
    Duration::from_secs(3600).max(max_ttl.saturating_mul(2))
}

/// The default, the same as in the library.
pub(crate) const MAX_TTL: Duration = Duration::from_secs(30);
pub(crate) const DIAL_TIMEOUT: Duration = Duration::from_secs(1);
