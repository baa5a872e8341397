//! The flags of the commands that inspect locks and nodes: `status`, `force-release`, `doctor`.

use quorlock::inspect::OwnerHash;

use super::NodeArgs;

#[derive(Debug, clap::Args)]
#[command(after_help = STATUS_HELP)]
pub(crate) struct StatusArgs {
    /// Print one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) nodes: NodeArgs,
    /// The lock's name.
    #[arg(help_heading = None)]
    pub(crate) name: String,
}

#[derive(Debug, clap::Args)]
#[command(after_help = FORCE_RELEASE_HELP)]
pub(crate) struct ForceReleaseArgs {
    /// Free it even if its holder may still be working.
    #[arg(long)]
    pub(crate) yes: bool,
    /// Free it only if this is the holder: the hash that `status` shows, with or without the #. So no later
    /// holder loses the lock.
    #[arg(long, value_name = "#HASH")]
    pub(crate) if_holder: Option<OwnerHash>,
    #[command(flatten)]
    pub(crate) lock: StatusArgs,
}

#[derive(Debug, clap::Args)]
#[command(after_help = DOCTOR_HELP)]
pub(crate) struct DoctorArgs {
    /// The name of a lock to acquire and release as a test. Set it if the user may access only some keys.
    #[arg(long, default_value = "quorlock-doctor:probe", value_name = "NAME")]
    pub(crate) probe: String,
    /// Print one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) nodes: NodeArgs,
}

const STATUS_HELP: &str = "\
The hash after the # identifies a holder; it grants no access. Use it in `quorlock
force-release --if-holder`. In JSON it is `holder.owner`, without the #.

Exit codes:
  0    free
  1    held, or keys are in the way
  64   usage error
  69   unknown, because too few nodes vote
  74   the output cannot be written to stdout
  77   the nodes exclude this client: password, permission, role, missing command
  78   the configuration is invalid, or the nodes are another lock cluster

Example:
  quorlock status nightly";

const DOCTOR_HELP: &str = "\
Exit codes:
  0    healthy, perhaps with warnings
  1    unhealthy: there are problems to fix
  64   usage error
  74   the output cannot be written to stdout
  78   the configuration is invalid

Example:
  quorlock doctor --json";

const FORCE_RELEASE_HELP: &str = "\
A live holder is not contacted. It works on until its next renewal, within a
third of its ttl, while the next holder may be at work too. Then it learns that
the lock is lost, and does not take it again; `quorlock run` ends its command with
a KILL at once, without a TERM, because others may have the lock. The process that
has waited longest gets the lock at once.

Every node of the list gets the request, also nodes of another lock cluster.

With --mode plain, a live holder takes the lock again at its next renewal if it
is free then: stop the holder first, or check with `quorlock status` after a
third of its ttl.

With --if-holder each node compares the hash and deletes the key in one step. A
node that has another holder's key, or none, deletes nothing.

Exit codes:
  0    a majority of the nodes has no key; with --if-holder: that holder has lost
       the lock
  64   usage error, or --yes is missing
  69   too few nodes replied, or (with --if-holder) had its key
  74   the output cannot be written to stdout
  75   with --if-holder: another holder has the lock
  77   the nodes exclude this client: password, permission, role, missing command
  78   the configuration is invalid, or a node is a Redis Cluster member

Examples:
  quorlock status nightly
  quorlock force-release --yes nightly
  quorlock force-release --yes --if-holder '#45bf80c1' nightly";
