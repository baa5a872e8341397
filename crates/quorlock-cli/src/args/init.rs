//! The flags of `init`.

use super::NodeArgs;

#[derive(Debug, clap::Args)]
#[command(after_help = INIT_HELP)]
pub(crate) struct InitArgs {
    /// Make these nodes a new lock cluster, even if they belong to one. Stop all its clients first: their
    /// locks are void.
    #[arg(long)]
    pub(crate) force: bool,
    /// Do not wait for the nodes that cannot be reached: their seats become vacant. Nodes that may have lost
    /// data still pass their probation.
    #[arg(long, conflicts_with = "force")]
    pub(crate) without_unreachable: bool,
    /// Print one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) nodes: NodeArgs,
}

const INIT_HELP: &str = "\
Every node keeps the roster of its lock cluster (the keys quorlock:node and
quorlock:roster): a seat for each server, and the settings: the number of nodes,
the quorum, the max ttl, and how long fencing numbers are kept.
A server that is blank, or was restarted, may have forgotten locks. It takes a new
seat, and casts no vote for the max ttl (probation). New servers have nothing to
forget: init says so, and they vote at once. Without init, the first client makes
them a lock cluster too, but no lock can be acquired for the max ttl.

Clients do the same by themselves when too few servers remember the roster for a
quorum. They wait for servers that cannot be reached, until no client has reached
them for the max ttl; --without-unreachable skips that wait. If such a server
still serves locks to others, two holders are possible: be sure that it is off.

It is safe to run init again while the nodes keep their data: nodes that are one
lock cluster with this list and these settings stay as they are, also with
--without-unreachable. Other nodes that are not blank are an error: init changes
neither the list of nodes nor the settings of a lock cluster. But nodes that have
all lost their data look new: then wait for the max ttl before init, or leave it to
the first client.

To change the nodes, the quorum or the max ttl of a lock cluster in use, see
`quorlock reconfigure`. --force makes any nodes a new lock cluster, for servers that
belonged to another one, or to change --fencing-retention:
  1. stop all its clients: locks held meanwhile are not respected
  2. quorlock init --force
  3. start the clients, with the same settings

Exit codes:
  0    the nodes are a lock cluster with this list of nodes and these settings
  64   usage error
  69   not all nodes could be reached, and all must be (--without-unreachable: a quorum)
  74   the output cannot be written to stdout
  77   the nodes exclude this client: password, permission, role, missing command
  78   a node is not blank (without --force), this is not the list in force, the
       settings in force are others, or the configuration is invalid

Examples:
  quorlock init --nodes redis://10.0.0.1,redis://10.0.0.2,redis://10.0.0.3
  quorlock init --quorum 4 --max-ttl 10s
  quorlock init --without-unreachable
  quorlock init --json";
