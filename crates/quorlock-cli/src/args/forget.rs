//! What can be typed behind `forget`.

use super::NodeArgs;

#[derive(Debug, clap::Args)]
#[command(after_help = FORGET_HELP)]
pub(crate) struct ForgetArgs {
    /// Print one JSON object a line, for each name.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) nodes: NodeArgs,
    /// The locks' names.
    #[arg(help_heading = None, required = true, value_name = "NAME")]
    pub(crate) names: Vec<String>,
}

const FORGET_HELP: &str = "\
Each name that was locked costs each node 120 bytes and the length of the name
for --fencing-retention. A name that is forgotten costs them for the longest ttl at
most: a node drops its number when its clock has passed it by that much. Numbers
go on to grow if the name is locked again, as long as no node's clock is set
back by more.

Only nodes of this lock cluster forget. `force-release` asks every node of
the list, also nodes of another lock cluster.

Exit codes:
  0    forgotten on a quorum of the nodes
  64   what was typed cannot work
  69   too few nodes answered
  74   the answer cannot be written to stdout
  75   one of the names is held
  77   Redis refuses us: password, permission, role, missing command
  78   the configuration cannot work, or the nodes are another cluster

Example:
  quorlock run order:81723 -- ./ship 81723 && quorlock forget order:81723";
