//! The flags that name the nodes, shared by all commands that connect to nodes.

use std::path::PathBuf;
use std::sync::LazyLock;
use std::time::Duration;

use clap::Args as _;
use clap::builder::NonEmptyStringValueParser;
use quorlock::Mode;

use crate::config::Origins;
use crate::config::values::{Names, Urls, count, mode, share, span};

/// Which nodes, and how to reach them. Each is a flag, an environment variable and, but for `config`, a line of the
/// file. Variables are read by `config`, not by clap: an empty variable counts as unset, and no error shows its value.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = HEADING)]
pub(crate) struct NodeArgs {
    /// The nodes' URLs, separated by commas: `redis://host:port`,
    /// `rediss://…`, `unix:/path`.
    #[arg(long, value_name = "URLS", value_parser = Urls::read)]
    pub(crate) nodes: Vec<Urls>,
    /// The names of the nodes in the lock cluster, in the order of --nodes, separated by commas. Give them where
    /// programs do (`node_names`), because clients reach a node under different addresses. [default: host, port and
    /// database]
    #[arg(long, value_name = "NAMES", value_parser = Names::read)]
    pub(crate) node_names: Vec<Names>,
    /// A TOML file with any of these settings (`nodes = ["redis://…"]`, `key_prefix = "…"`). Paths in it are
    /// relative to its own folder.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// The user, for URLs that name none.
    #[arg(long, value_name = "USER", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) username: Option<String>,
    /// A file with the password, for URLs that have none. It is read for each login. (Or set
    /// `QUORLOCK_PASSWORD`.)
    #[arg(long, value_name = "FILE")]
    pub(crate) password_file: Option<PathBuf>,
    /// A command for the shell that prints the password, for URLs that have none. It is run for each login, with the
    /// node in `QUORLOCK_NODE`, and killed at the --dial-timeout.
    #[arg(
        long,
        value_name = "COMMAND",
        conflicts_with = "password_file",
        value_parser = NonEmptyStringValueParser::new()
    )]
    pub(crate) password_command: Option<String>,
    /// A prefix for all lock names on the nodes.
    #[arg(long, value_name = "TEXT")]
    pub(crate) key_prefix: Option<String>,
    /// The number of nodes that make a lock, for a client that founds the lock cluster. Later
    /// `quorlock reconfigure` changes it. With 4 of 5, locks tolerate two nodes that lose
    /// data or jump their clocks, and one node that is down. [default: the majority]
    #[arg(long, value_name = "N", value_parser = count)]
    pub(crate) quorum: Option<usize>,
    /// The longest --ttl that this client requests and, if it founds the lock cluster, that any client may. A node
    /// that may have forgotten locks casts no vote for this long. [default: 30s]
    #[arg(long, value_name = "DUR", value_parser = span)]
    pub(crate) max_ttl: Option<Duration>,
    /// How long nodes keep the last fencing number of a free name, for a client that founds
    /// the lock cluster; at least twice the max ttl. [default: 1h, or twice the max ttl if that
    /// is more]
    #[arg(long, value_name = "DUR", value_parser = span)]
    pub(crate) fencing_retention: Option<Duration>,
    /// `fenced`: locks with fencing tokens and probation. `plain`: nothing but SET NX PX
    /// and a release by script; plain clients make the locks of fenced clients less safe
    /// too. [default: fenced]
    #[arg(long, value_name = "fenced|plain", value_parser = mode)]
    pub(crate) mode: Option<Mode>,
    /// The largest clock drift, as a fraction. [default: 0.01]
    #[arg(long, value_name = "SHARE", value_parser = share)]
    pub(crate) clock_drift: Option<f64>,
    /// How long to wait for a reply of a node. [default: 500ms]
    #[arg(long, value_name = "DUR", value_parser = span)]
    pub(crate) reply_timeout: Option<Duration>,
    /// How long one connection attempt to one node may take. [default: 1s]
    #[arg(long, value_name = "DUR", value_parser = span)]
    pub(crate) dial_timeout: Option<Duration>,
    /// The certificates of the authority for rediss://. [default: the system's]
    #[arg(long, value_name = "FILE")]
    pub(crate) tls_ca: Option<PathBuf>,
    /// The client certificate, if nodes require one.
    #[arg(long, value_name = "FILE")]
    pub(crate) tls_cert: Option<PathBuf>,
    /// The private key of the client certificate.
    #[arg(long, value_name = "FILE")]
    pub(crate) tls_key: Option<PathBuf>,
    /// Where each setting was found.
    #[arg(skip)]
    pub(crate) origins: Origins,
}

/// The heading of these flags in help texts.
pub(super) const HEADING: &str = "Nodes";
/// A parser of these flags alone, without a program's name.
pub(crate) static NODE_FLAGS: LazyLock<clap::Command> =
    LazyLock::new(|| NodeArgs::augment_args(clap::Command::new("nodes").no_binary_name(true)));
