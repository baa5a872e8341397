//! The flags of `reconfigure`.

use std::time::Duration;

use super::NodeArgs;
use crate::config::Origin;
use crate::config::values::{Names, Urls};
use crate::exit::{self, Failure};

#[derive(Debug, clap::Args)]
#[command(before_help = EXAMPLE, after_help = RECONFIGURE_HELP)]
pub(crate) struct ReconfigureArgs {
    /// The nodes after the change: URLs as in --nodes. [default: the nodes stay]
    #[arg(long, value_name = "URLS", value_parser = Urls::read)]
    pub(crate) to: Vec<Urls>,
    /// The names of these nodes, in their order, as in --node-names. Needed for new nodes if the nodes in force have
    /// names. A node with the same name is the same node, also under another URL. [default: the names in force]
    #[arg(long, value_name = "NAMES", value_parser = Names::read)]
    pub(crate) to_names: Vec<Names>,
    /// Show what is in force, what would change, and how long it takes. Change nothing.
    #[arg(long, display_order = 10)]
    pub(crate) dry_run: bool,
    /// Print one JSON object at the end.
    #[arg(long, display_order = 11)]
    pub(crate) json: bool,
    /// Print no progress on stderr.
    #[arg(short, long, display_order = 12)]
    pub(crate) quiet: bool,
    /// Its `--quorum` and `--max-ttl` are goals here, see [`ReconfigureArgs::take_goal`].
    #[command(flatten)]
    pub(crate) nodes: NodeArgs,
}

/// What a lock cluster is to become. What is not set stays.
pub(crate) struct Goal {
    pub(crate) to: Option<Vec<String>>,
    pub(crate) to_names: Option<Vec<String>>,
    pub(crate) quorum: Option<usize>,
    pub(crate) max_ttl: Option<Duration>,
}

impl ReconfigureArgs {
    /// Takes the goal out of the flags.
    ///
    /// Elsewhere the quorum, the max ttl and the retention are those with which a client founds its lock cluster. This
    /// command founds none: it reads the settings in force from the nodes. So it takes these from no other source, and
    /// the flags for quorum and max ttl are free to name the goal.
    pub(crate) fn take_goal(&mut self) -> Result<Goal, Failure> {
        let to: Vec<String> = self.to.drain(..).flat_map(|urls| urls.0).collect();
        let to_names: Vec<String> = self.to_names.drain(..).flat_map(|names| names.0).collect();
        let goal = Goal {
            to: (!to.is_empty()).then_some(to),
            to_names: (!to_names.is_empty()).then_some(to_names),
            quorum: self.nodes.quorum.take(),
            max_ttl: self.nodes.max_ttl.take(),
        };
        if self.nodes.fencing_retention.take().is_some() {
            let message = "--fencing-retention: it stays as it is, or grows with --max-ttl; leave it out";
            return Err(Failure::new(exit::USAGE, message));
        }
        if goal.to.is_none() && goal.quorum.is_none() && goal.max_ttl.is_none() {
            return Err(Failure::new(exit::USAGE, "nothing to change: give --to, --quorum or --max-ttl"));
        }
        for name in FOUNDING_SETTINGS {
            // As if the flag were given: then no variable and no line of the file is used.
            self.nodes.origins.entry(name).or_insert(Origin::Flag(name));
        }
        Ok(goal)
    }

    /// The flags of nodes with their meaning for this command.
    pub(super) fn describe_flags(command: clap::Command) -> clap::Command {
        command
            .mut_arg("nodes", |arg| {
                arg.help("The nodes in force now, or before a reconfiguration that was interrupted: the URLs, separated by commas")
            })
            .mut_arg("quorum", |arg| {
                arg.help(QUORUM).help_heading(None).display_order(1)
            })
            .mut_arg("max_ttl", |arg| {
                arg.help(MAX_TTL).help_heading(None).display_order(2)
            })
            .mut_arg("fencing_retention", |arg| arg.hide(true))
            .mut_arg("mode", |arg| arg.hide(true))
    }
}

/// The settings that count when a client founds a lock cluster.
const FOUNDING_SETTINGS: [&str; 3] = ["quorum", "max_ttl", "fencing_retention"];
const QUORUM: &str = "The number of nodes that make a lock after the change. [default: as before, or the majority if the \
                      number of nodes changes]";
const MAX_TTL: &str = "The longest ttl of any lock after the change. [default: as before]";

const EXAMPLE: &str = "\
export QUORLOCK_NODES=redis://10.0.0.1,redis://10.0.0.2,redis://10.0.0.3
quorlock reconfigure --to redis://10.0.0.1,redis://10.0.0.2,redis://10.0.0.4";

const RECONFIGURE_HELP: &str = "\
Steps:
  1. start the new servers, blank, and let all clients reach them
  2. quorlock reconfigure --to …, with the list in force as --nodes. First --dry-run,
     if you like
  3. give all clients the new list of nodes
  4. shut the removed servers down. Do not empty them before 3 is done

Clients go on meanwhile, and held locks stay held, but in a step after which fewer
nodes vote than a quorum, as from one node to two: it says so before, also in a
--dry-run. The nodes change one by one: each step is chosen by a majority of the
members, and the next one waits until all members vote and earlier locks have ended.
So each step takes the max ttl (30s): to exchange one node, about 30 seconds; to
exchange three, about 90.

It can be interrupted at any time, and run again with the same --nodes and --to (or
any list in between as --nodes). Where a node does not reply, it waits for it, unless
it is a member and a majority replies; then it is named at the end. If that node is
gone for good, start a blank server at its address, or interrupt and take another
one as --to. --dry-run names all that stands in the way, but for missing permission
to write.

What clients see: those with the earlier list work as long as enough of its nodes
are in force. `run` then prints that its list should be changed; with too few it
ends with 78. They follow the quorum and the max ttl by themselves: a held lock is
renewed with the shorter ttl, but a new one with a longer --ttl is rejected. Locks
longer than before need the new --max-ttl at their clients, too.

While no client has the list in force, a server that restarts gets no seat. So do
not leave step 3 for later.

Exit codes:
  0    the lock cluster is as wanted, or (--dry-run) nothing stands in the way
  64   usage error
  69   too few nodes could be reached, or they are not initialized, or (--dry-run) a
       new node cannot be reached or rejects writes
  74   the output cannot be written to stdout
  77   nodes exclude this client, or a new node does: password, permission, role, or
       it evicts keys
  78   --nodes is not the list in force, a new node belongs to another lock cluster or
       is a member already under another address, or the configuration is invalid
  128 + the number of the signal that interrupted it

Examples:
  quorlock reconfigure --to redis://10.0.0.1,redis://10.0.0.2,redis://10.0.0.4
  quorlock reconfigure --dry-run --to redis://10.0.0.4,redis://10.0.0.5,redis://10.0.0.6
  quorlock reconfigure --quorum 3 --max-ttl 60s
  quorlock reconfigure --max-ttl 10s --json -q";
