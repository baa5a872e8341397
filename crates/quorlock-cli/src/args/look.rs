//! What can be typed behind the commands that look at locks and nodes: `status`, `force-release`, `doctor`.

use quorlock::OwnerHash;

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
    /// Yes, even if somebody still works under it.
    #[arg(long)]
    pub(crate) yes: bool,
    /// Break it only if this is the holder: the hash that `status` shows, with or without the #. So the holder that was
    /// looked at is broken, and no later one.
    #[arg(long, value_name = "#HASH")]
    pub(crate) if_holder: Option<OwnerHash>,
    #[command(flatten)]
    pub(crate) lock: StatusArgs,
}

#[derive(Debug, clap::Args)]
#[command(after_help = DOCTOR_HELP)]
pub(crate) struct DoctorArgs {
    /// A name to lock for a moment, to see whether that works. Say another if the user may touch only some keys.
    #[arg(long, default_value = "quorlock-doctor", value_name = "NAME")]
    pub(crate) probe: String,
    /// Print one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) nodes: NodeArgs,
}

const STATUS_HELP: &str = "\
The hash behind the # tells holders apart, and opens nothing. `quorlock
force-release --if-holder` takes it. In JSON it is `holder`, without the #.

Exit codes:
  0    free
  1    held, or keys are in its way
  64   what was typed cannot work
  69   too few nodes vote, so it is not known
  74   the answer cannot be written to stdout
  77   Redis refuses us: password, permission, role, missing command
  78   the configuration cannot work, or the nodes are another cluster

Example:
  quorlock status nightly";

const DOCTOR_HELP: &str = "\
Exit codes:
  0    healthy, perhaps with warnings
  1    unhealthy: the problems are above
  64   what was typed cannot work
  74   the answer cannot be written to stdout
  78   the configuration cannot work

Example:
  quorlock doctor --json";

const FORCE_RELEASE_HELP: &str = "\
A holder that still lives is not asked: it works on until its next renewal, at a
third of its ttl, while the next one may be in. Then it is told that the lock is
lost, and does not take it again. `quorlock run` ends its command with a KILL at
once, without a TERM: others may have the lock. Whoever has waited longest gets
the lock at once.

Every node of the list is asked, whatever lock cluster it belongs to.

With --mode plain nothing keeps a living holder from taking the lock again at its
next renewal, if nobody else has it by then: stop the holder first, or look
again with `quorlock status` after a third of its ttl.

With --if-holder each node compares the hash and deletes the key in one step.
Where another's key stands, or none, nothing is done.

Exit codes:
  0    no key is left on a majority of the nodes; with --if-holder: that holder
       has no lock any more
  64   what was typed cannot work, or --yes is missing
  69   too few nodes answered, or (with --if-holder) had its key
  74   the answer cannot be written to stdout
  75   with --if-holder: another holds it by now
  77   Redis refuses us: password, permission, role, missing command
  78   the configuration cannot work, or a node is a Redis Cluster member

Examples:
  quorlock status nightly
  quorlock force-release --yes nightly
  quorlock force-release --yes --if-holder '#45bf80c1' nightly";
