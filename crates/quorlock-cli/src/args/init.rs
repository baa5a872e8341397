//! What can be typed behind `init`.

use super::NodeArgs;

#[derive(Debug, clap::Args)]
#[command(after_help = INIT_HELP)]
pub(crate) struct InitArgs {
    /// Also where nodes belong to a cluster already. Stop all its clients first: their locks are void.
    #[arg(long)]
    pub(crate) force: bool,
    /// Print one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) nodes: NodeArgs,
}

const INIT_HELP: &str = "\
Every node keeps a marker (the key quorlock:node): which cluster it belongs to
and on what terms, namely the number of nodes, the quorum, the longest ttl, and
how long fencing numbers are kept.
A node whose marker is gone, or was written before a restart, may have
forgotten locks, so it casts no vote for the longest ttl. Servers that are new
have nothing to forget; this says so, and they vote at once. Without it the
first client makes them a cluster too, and no lock is to be had for the
longest ttl.

To be run again without harm while the nodes keep their data: those that are
one cluster on these terms are left as they are. Other nodes that are not blank
are an error. But nodes that have all lost their data look new: after that,
wait for the longest ttl first, or leave it to the first client.

--force makes any nodes a new cluster. It is the way to change the number of
nodes, the quorum, the longest ttl or --fencing-retention of a living cluster:
  1. stop all its clients: locks held meanwhile are not respected
  2. quorlock init --force, with the new --nodes, --quorum, --max-ttl, …
  3. start the clients, with just the same

Exit codes:
  0    the nodes are a cluster on these terms
  64   what was typed cannot work
  69   not all nodes could be reached; all must be
  74   the answer cannot be written to stdout
  77   Redis refuses us: password, permission, role, missing command
  78   a node is not blank (without --force), or the configuration cannot work

Examples:
  quorlock init --nodes redis://10.0.0.1,redis://10.0.0.2,redis://10.0.0.3
  quorlock init --quorum 4 --max-ttl 10s
  quorlock init --json";
