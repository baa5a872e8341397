//! Parses the command line.

use std::ffi::OsString;

use clap::{Arg, CommandFactory as _, FromArgMatches as _};

use super::nodes::HEADING;
use super::{Args, Command, DevArgs, ForceReleaseArgs, NodeArgs, ReconfigureArgs, RunArgs, usage_error};
use crate::config::variable;
use crate::exit::{self, Failure};

/// The command line does not lead to a command.
pub(crate) enum Stopped {
    /// Help or version is to be printed.
    Help(String),
    /// A usage error.
    Failed(Failure),
}

impl Args {
    /// Parses the arguments, which begin with the program's name.
    pub(crate) fn read(args_os: &[OsString], is_for_terminal: bool) -> Result<Self, Stopped> {
        // `help --help` is the same as `--help`.
        let is_help_of_help =
            matches!(args_os, [_, help, flag] if help == "help" && (flag == "--help" || flag == "-h"));
        let args_os = if is_help_of_help { &[args_os[0].clone(), args_os[2].clone()] } else { args_os };
        let parsed = parser().try_get_matches_from(args_os).and_then(|matches| {
            let mut args = Self::from_arg_matches(&matches)?;
            if let (Some(nodes), Some((_, given))) = (args.command.nodes(), matches.subcommand()) {
                nodes.record_flags(given);
            }
            Ok(args)
        });
        let args = parsed.map_err(|error| {
            if error.use_stderr() {
                return Stopped::Failed(Failure::new(exit::USAGE, usage_error::message_of(error, args_os)));
            }
            let text = error.render();
            Stopped::Help(if is_for_terminal { text.ansi().to_string() } else { text.to_string() })
        })?;
        let command = match &args.command {
            Command::Run(RunArgs { command, .. }) | Command::Dev(DevArgs { command, .. }) => command.first(),
            _ => None,
        };
        if command.is_some_and(|command| command.is_empty()) {
            let failure = Failure::new(exit::NOT_FOUND, "nothing was run: the command's name is empty");
            return Err(Stopped::Failed(failure));
        }
        Ok(args)
    }
}

impl Command {
    /// The flags that name the nodes, if the command has them.
    pub(crate) fn nodes(&mut self) -> Option<&mut NodeArgs> {
        match self {
            Self::Run(args) => Some(&mut args.nodes),
            Self::Init(args) => Some(&mut args.nodes),
            Self::Reconfigure(args) => Some(&mut args.nodes),
            Self::Status(args) | Self::ForceRelease(ForceReleaseArgs { lock: args, .. }) => {
                Some(&mut args.nodes)
            }
            Self::Forget(args) => Some(&mut args.nodes),
            Self::Doctor(args) => Some(&mut args.nodes),
            Self::Bench(args) => Some(&mut args.nodes),
            Self::Dev(_) | Self::Chaos(_) | Self::ChaosClient => None,
        }
    }
}

fn parser() -> clap::Command {
    // So that `--ttl -1s` is an error of --ttl, not an unknown flag. A flag with an optional value takes none
    // that looks like a flag.
    let is_number = |arg: &Arg| {
        let names = arg.get_value_names().unwrap_or_default();
        let needs_value = arg.get_num_args().is_none_or(|count| count.min_values() > 0);
        needs_value && names.iter().any(|name| ["DUR", "N", "SHARE", "K", "S"].contains(&name.as_str()))
    };
    let with_variable = |arg: Arg| match arg.get_help() {
        Some(help) if arg.get_help_heading() == Some(HEADING) => {
            let help = format!("{help} [env: {}]", variable(arg.get_id().as_str()));
            arg.help(help)
        }
        _ => arg,
    };
    let command = Args::command().mut_subcommand("reconfigure", ReconfigureArgs::describe_flags);
    command.mut_subcommands(|command| {
        command.mut_args(|arg| {
            let arg = with_variable(arg);
            if is_number(&arg) { arg.allow_hyphen_values(true) } else { arg }
        })
    })
}
