//! What says which nodes, for all commands that speak to some.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::NonEmptyStringValueParser;

use crate::config::values::{Mode, Urls, count, share, span};

/// Which nodes, and how to reach them. A flag beats the environment, which beats the file. The variables are read where
/// the file is, so that one that is set to nothing is none, and no error shows what is in it.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Nodes")]
#[expect(clippy::doc_markdown, reason = "clap shows variables as they are written here")]
pub(crate) struct NodeArgs {
    /// The nodes' URLs, separated by commas: `redis://host:port`, `rediss://…`, `unix:/path`. [env: QUORLOCK_NODES]
    #[arg(long, value_name = "URLS", value_parser = Urls::read)]
    pub(crate) nodes: Vec<Urls>,
    /// A TOML file with any of these settings (`nodes = ["redis://…"]`, `key_prefix = "…"`). Files that it names are
    /// looked for from its own folder. [env: QUORLOCK_CONFIG]
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// The user, for URLs that name none. [env: QUORLOCK_USERNAME]
    #[arg(long, value_name = "USER", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) username: Option<String>,
    /// A file with the password, for URLs that have none. (Or set `QUORLOCK_PASSWORD`.) [env: QUORLOCK_PASSWORD_FILE]
    #[arg(long, value_name = "FILE")]
    pub(crate) password_file: Option<PathBuf>,
    /// What stands before every name on the nodes. [env: QUORLOCK_KEY_PREFIX]
    #[arg(long, value_name = "TEXT")]
    pub(crate) key_prefix: Option<String>,
    /// How many nodes make a lock: the same for all clients. With 4 of 5, two may forget a lock, or jump their clocks,
    /// without harm, and one may be away. [default: the majority] [env: QUORLOCK_QUORUM]
    #[arg(long, value_name = "N", value_parser = count)]
    pub(crate) quorum: Option<usize>,
    /// The longest --ttl that any client may ask for, and so how long a node that may have forgotten locks casts no
    /// vote: the same for all clients. [default: 30s] [env: QUORLOCK_MAX_TTL]
    #[arg(long, value_name = "DUR", value_parser = span)]
    pub(crate) max_ttl: Option<Duration>,
    /// How long nodes keep the last fencing number of a name that is not locked any more: the same for all clients, and at
    /// least twice the longest ttl. [default: 1h, or twice the longest ttl if that is more] [env: QUORLOCK_FENCING_RETENTION]
    #[arg(long, value_name = "DUR", value_parser = span)]
    pub(crate) fencing_retention: Option<Duration>,
    /// `fenced`: locks have fencing tokens, and nodes that may have lost data are on probation. `plain`: literally
    /// `SET NX PX` and the textbook's release; such clients make the others' locks less safe too. [default: fenced]
    /// [env: QUORLOCK_MODE]
    #[arg(long, value_name = "MODE", value_parser = Mode::read)]
    pub(crate) mode: Option<Mode>,
    /// How far clocks may drift, as a share. [default: 0.01]
    #[arg(long, value_name = "SHARE", value_parser = share)]
    pub(crate) clock_drift: Option<f64>,
    /// How long a node may owe an answer before nobody waits for it. [default: 500ms]
    #[arg(long, value_name = "DUR", value_parser = span)]
    pub(crate) reply_timeout: Option<Duration>,
    /// How long one dial of one node may take. [default: 1s]
    #[arg(long, value_name = "DUR", value_parser = span)]
    pub(crate) dial_timeout: Option<Duration>,
    /// The authority's certificates for rediss://. [default: the system's]
    #[arg(long, value_name = "FILE")]
    pub(crate) tls_ca: Option<PathBuf>,
    /// Our certificate, where nodes ask for one.
    #[arg(long, value_name = "FILE")]
    pub(crate) tls_cert: Option<PathBuf>,
    /// The private key of our certificate.
    #[arg(long, value_name = "FILE")]
    pub(crate) tls_key: Option<PathBuf>,
}
