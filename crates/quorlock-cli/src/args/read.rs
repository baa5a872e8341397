//! From what was typed to a command.

use std::ffi::OsString;

use clap::{Arg, CommandFactory as _, FromArgMatches as _};

use super::{Args, Command, DevArgs, RunArgs, mistake};
#[cfg(test)]
use super::{ForceReleaseArgs, NodeArgs};
use crate::exit::{self, Failure};

/// What was typed does not get as far as a command.
pub(crate) enum Ended {
    /// Help or version was asked for.
    Asked(String),
    /// A mistake.
    Failed(Failure),
}

impl Args {
    /// Reads what was typed, beginning with the program's name.
    pub(crate) fn read(typed: &[OsString], is_for_terminal: bool) -> Result<Self, Ended> {
        // To ask how to ask is to ask.
        let is_help_of_help =
            matches!(typed, [_, help, flag] if help == "help" && (flag == "--help" || flag == "-h"));
        let typed = if is_help_of_help { &[typed[0].clone(), typed[2].clone()] } else { typed };
        let matches =
            parser().try_get_matches_from(typed).and_then(|matches| Self::from_arg_matches(&matches));
        let args = matches.map_err(|error| {
            if error.use_stderr() {
                return Ended::Failed(Failure::new(exit::USAGE, mistake::words_of(error, typed)));
            }
            let text = error.render();
            Ended::Asked(if is_for_terminal { text.ansi().to_string() } else { text.to_string() })
        })?;
        let command = match &args.command {
            Command::Run(RunArgs { command, .. }) | Command::Dev(DevArgs { command, .. }) => command.first(),
            _ => None,
        };
        if command.is_some_and(|command| command.is_empty()) {
            let failure = Failure::new(exit::NOT_FOUND, "the command's name is empty: nothing was run");
            return Err(Ended::Failed(failure));
        }
        Ok(args)
    }
}

#[cfg(test)]
impl Command {
    /// What says which nodes, where something does.
    pub(crate) fn nodes(&self) -> Option<&NodeArgs> {
        match self {
            Self::Run(args) => Some(&args.nodes),
            Self::Init(args) => Some(&args.nodes),
            Self::Status(args) | Self::ForceRelease(ForceReleaseArgs { lock: args, .. }) => Some(&args.nodes),
            Self::Forget(args) => Some(&args.nodes),
            Self::Doctor(args) => Some(&args.nodes),
            Self::Bench(args) => Some(&args.nodes),
            Self::Dev(_) | Self::Chaos(_) | Self::ChaosClient => None,
        }
    }
}

fn parser() -> clap::Command {
    // So that `--ttl -1s` is a mistake about --ttl, and not an unknown flag. What may stand without a value takes none that
    // looks like the next flag.
    let is_number = |arg: &Arg| {
        let names = arg.get_value_names().unwrap_or_default();
        let needs_value = arg.get_num_args().is_none_or(|count| count.min_values() > 0);
        needs_value && names.iter().any(|name| ["DUR", "N", "SHARE", "K", "S"].contains(&name.as_str()))
    };
    Args::command().mut_subcommands(|command| {
        command.mut_args(|arg| if is_number(&arg) { arg.allow_hyphen_values(true) } else { arg })
    })
}
