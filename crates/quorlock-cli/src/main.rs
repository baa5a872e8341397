//! The command `quorlock`: a lock over N independent Redis masters, for those who write no Rust.

mod about;
mod args;
mod around;
mod bench;
mod chaos;
mod config;
mod dev;
mod doctor;
mod exit;
mod force_release;
mod forget;
mod groups;
mod init;
mod nodes;
mod output;
mod progress;
mod reaper;
mod report_file;
mod run;
mod signals;
mod stat;
mod status;
mod waiting;

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, IsTerminal};
use std::os::unix::ffi::OsStrExt as _;
use std::process::ExitCode;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use args::{Args, Command, Ended};
use exit::Failure;

fn main() -> ExitCode {
    let typed: Vec<OsString> = std::env::args_os().collect();
    if let Some(code) = be_part_of_run(&typed) {
        return ExitCode::from(code);
    }
    signals::unblock();
    let is_for_terminal = io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let outcome = match Args::read(&typed, is_for_terminal) {
        Ok(args) => obey(args.command),
        Err(Ended::Asked(text)) => {
            output::print(&text);
            Ok(0)
        }
        Err(Ended::Failed(failure)) => Err(failure),
    };
    let outcome = outcome.and_then(|code| output::failure().map_or(Ok(code), Err));
    ExitCode::from(outcome.unwrap_or_else(|Failure { code, words }| {
        exit::say(&words);
        code
    }))
}

/// If this is one of the processes between `run` and its command: they are to begin without delay, and take nothing from
/// the environment.
fn be_part_of_run(typed: &[OsString]) -> Option<u8> {
    let (name, words) = typed.split_first()?;
    if name.as_bytes().starts_with(reaper::REAPER_OF.as_bytes()) {
        return Some(reaper::reap());
    }
    match words.split_first()? {
        (word, _) if word == reaper::ANCHOR => Some(0),
        (word, words) if word == reaper::BECOME => Some(run::become_it::become_it(words.iter().cloned())),
        _ => None,
    }
}

fn obey(command: Command) -> Result<u8, Failure> {
    // Only what somebody asks for by RUST_LOG: what a user must know, each command says itself.
    let filter = EnvFilter::builder().with_default_directive(LevelFilter::OFF.into()).from_env_lossy();
    tracing_subscriber::fmt()
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .with_env_filter(filter)
        .init();
    let quiet = matches!(&command, Command::Run(run) if run.quiet);
    match dispatch(command) {
        Err(Failure { code, .. }) if quiet && code != exit::USAGE => Ok(code),
        outcome => outcome,
    }
}

fn dispatch(command: Command) -> Result<u8, Failure> {
    // The runtime would panic instead.
    let files: io::Result<Vec<File>> = (0..FILES).map(|_| File::open("/dev/null")).collect();
    drop(files.map_err(|error| Failure::new(exit::SOFTWARE, format!("{error}: raise `ulimit -n`")))?);
    // One thread is enough: locks are renewed on a thread of their own.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(exit::SOFTWARE, format!("no runtime: {error}")))?;
    // Where a parent ignores the end of its children, the system forgets it, and ours would be ignored too.
    let _runtime = runtime.enter();
    let _children = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::child());
    match command {
        Command::Run(args) => runtime.block_on(run::run(args)),
        Command::Init(args) => runtime.block_on(init::init(args)),
        Command::Status(args) => runtime.block_on(status::status(args)),
        Command::ForceRelease(args) => runtime.block_on(force_release::force_release(args)),
        Command::Forget(args) => runtime.block_on(forget::forget(args)),
        Command::Doctor(args) => runtime.block_on(doctor::doctor(args)),
        Command::Dev(args) => runtime.block_on(dev::dev(args)),
        Command::Bench(args) => runtime.block_on(bench::bench(args)),
        Command::Chaos(args) => runtime.block_on(chaos::chaos(args)),
        Command::ChaosClient => runtime.block_on(chaos::client()),
    }
}

/// How many files any command needs beside those to its nodes.
const FILES: usize = 16;
