//! The flags of `forget`.

use super::NodeArgs;

#[derive(Debug, clap::Args)]
#[command(after_help = FORGET_HELP)]
pub(crate) struct ForgetArgs {
    /// Print one JSON object per name, each on a line.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) nodes: NodeArgs,
    /// The locks' names.
    #[arg(help_heading = None, required = true, value_name = "NAME")]
    pub(crate) names: Vec<String>,
}

const FORGET_HELP: &str = "\
After its last lock, each name takes 120 bytes and its own length on each node,
for --fencing-retention. A forgotten name takes them for the max ttl at most: a
node drops a fencing number when its clock has passed it by that much. If the name
is locked again, its numbers still grow, unless a node's clock was set back by
more than that.

Only nodes of this lock cluster forget. `force-release` sends its request to
every node of the list, also nodes of another lock cluster.

Exit codes:
  0    forgotten on a quorum of the nodes
  64   usage error
  69   too few nodes replied
  74   the output cannot be written to stdout
  75   one of the names is held
  77   the nodes exclude this client: password, permission, role, missing command
  78   the configuration is invalid, or the nodes are another lock cluster

Example:
  quorlock run order:81723 -- ./ship 81723 && quorlock forget order:81723";
