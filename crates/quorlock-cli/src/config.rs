//! From what was typed, set and written down to a client: a flag beats the environment, which beats the file.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use quorlock::{Builder, Redlock};
use serde::{Deserialize, Deserializer};

use crate::args::NodeArgs;
use crate::exit::{self, Failure};

/// The settings file. What it does not know it refuses, because a misspelt setting is worse than none.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Settings {
    nodes: Vec<String>,
    username: Option<String>,
    password_file: Option<PathBuf>,
    key_prefix: Option<String>,
    quorum: Option<usize>,
    plain: Option<bool>,
    #[serde(deserialize_with = "span")]
    longest_ttl: Option<Duration>,
    #[serde(deserialize_with = "span")]
    keep_fences: Option<Duration>,
    drift: Option<f64>,
    #[serde(deserialize_with = "span")]
    node_timeout: Option<Duration>,
    #[serde(deserialize_with = "span")]
    connect_timeout: Option<Duration>,
    tls_ca: Option<PathBuf>,
    tls_cert: Option<PathBuf>,
    tls_key: Option<PathBuf>,
}

/// A client to be, and what of it a command itself must know.
pub(crate) struct Cluster {
    pub(crate) builder: Builder,
    /// One for each node. They may hold passwords.
    pub(crate) urls: Vec<String>,
    pub(crate) quorum: usize,
    /// None for plain clients.
    pub(crate) longest_ttl: Option<Duration>,
    /// How long nodes keep the fences of names that are free. Of no use to plain clients.
    pub(crate) keep_fences: Duration,
    /// How long one dial of one node may take.
    pub(crate) connect_timeout: Duration,
}

/// A client to be, from all sources. Its locks are renewed whatever our runtime is busy with.
pub(crate) fn cluster(args: NodeArgs) -> Result<Cluster, Failure> {
    let cluster = on_our_runtime(args)?;
    Ok(Cluster { builder: cluster.builder.dedicated_thread(), ..cluster })
}

/// A client to be, from all sources, that is driven by the runtime it is made on, as programs have it.
pub(crate) fn on_our_runtime(args: NodeArgs) -> Result<Cluster, Failure> {
    let file = args.config.as_deref().map(read).transpose()?.unwrap_or_default();
    let nodes = if args.nodes.is_empty() { file.nodes } else { args.nodes };
    let urls: Vec<String> =
        nodes.iter().map(|url| url.trim().to_owned()).filter(|url| !url.is_empty()).collect();
    if urls.is_empty() {
        let words =
            "no nodes given: set QUORLOCK_NODES=redis://…,redis://…,redis://…, or use --nodes or --config";
        return Err(Failure::new(exit::CONFIG, words));
    }
    let need = args.quorum.or(file.quorum);
    let quorum = need.unwrap_or(urls.len() / 2 + 1);
    let is_plain = args.plain.or(file.plain).unwrap_or(false);
    let longest_ttl = args.longest_ttl.or(file.longest_ttl).unwrap_or(LONGEST_TTL);
    let mut builder = Redlock::builder().nodes(urls.clone()).longest_ttl(longest_ttl).client_name("quorlock");
    if let Some(user) = args.username.or(file.username) {
        builder = builder.username(user);
    }
    if let Some(password) = password(args.password_file.or(file.password_file))? {
        builder = builder.password(password);
    }
    if let Some(prefix) = args.key_prefix.or(file.key_prefix) {
        builder = builder.key_prefix(prefix);
    }
    if let Some(need) = need {
        builder = builder.quorum(need);
    }
    let keep_fences = args.keep_fences.or(file.keep_fences);
    if let Some(keep) = keep_fences {
        builder = builder.keep_fences(keep);
    }
    let keep_fences = keep_fences.unwrap_or_else(|| usual_keep_fences(longest_ttl));
    if is_plain {
        builder = builder.plain();
    }
    if let Some(share) = args.drift.or(file.drift) {
        builder = builder.drift(share);
    }
    if let Some(timeout) = args.node_timeout.or(file.node_timeout) {
        builder = builder.node_timeout(timeout);
    }
    let connect_timeout = args.connect_timeout.or(file.connect_timeout).unwrap_or(CONNECT_TIMEOUT);
    builder = builder.connect_timeout(connect_timeout);
    if let Some(ca) = args.tls_ca.or(file.tls_ca) {
        builder = builder.tls_ca_file(ca);
    }
    match (args.tls_cert.or(file.tls_cert), args.tls_key.or(file.tls_key)) {
        (Some(certificate), Some(key)) => builder = builder.tls_client_certificate(certificate, key),
        (None, None) => {}
        _ => return Err(Failure::new(exit::CONFIG, "tls_cert and tls_key go together: name both")),
    }
    let longest_ttl = (!is_plain).then_some(longest_ttl);
    Ok(Cluster { builder, urls, quorum, longest_ttl, keep_fences, connect_timeout })
}

/// What the library takes too where nothing is said.
pub(crate) fn usual_keep_fences(longest_ttl: Duration) -> Duration {
    Duration::from_secs(3600).max(longest_ttl.saturating_mul(2))
}

fn read(path: &Path) -> Result<Settings, Failure> {
    let bad = |why: String| Failure::new(exit::CONFIG, format!("{}: {why}", path.display()));
    let text = fs::read_to_string(path).map_err(|error| bad(error.to_string()))?;
    // The whole of the parser's message would show the line, which may hold a URL with a password.
    toml::from_str(&text).map_err(|error| bad(error.message().to_owned()))
}

fn password(file: Option<PathBuf>) -> Result<Option<String>, Failure> {
    let Some(path) = file else { return Ok(std::env::var("QUORLOCK_PASSWORD").ok()) };
    let text = fs::read_to_string(&path)
        .map_err(|error| Failure::new(exit::CONFIG, format!("{}: {error}", path.display())))?;
    Ok(Some(text.trim_end_matches(['\r', '\n']).to_owned()))
}

fn span<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
    let text = String::deserialize(from)?;
    humantime::parse_duration(&text).map(Some).map_err(serde::de::Error::custom)
}

/// What the library takes too where nothing is said.
pub(crate) const LONGEST_TTL: Duration = Duration::from_secs(30);
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
