//! The command `quorlock`: a lock over N independent Redis masters, for those who write no Rust.

mod args;
mod bench;
mod chaos;
mod config;
mod dev;
mod doctor;
mod exit;
mod forget;
mod groups;
mod init;
mod nodes;
mod progress;
mod reaper;
mod run;
mod signals;
mod status;
mod waiting;

use std::fs::File;
use std::io::{self, IsTerminal};
use std::os::unix::ffi::OsStrExt as _;
use std::process::ExitCode;

use clap::Parser;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use args::{Args, Command};
use exit::Failure;

fn main() -> ExitCode {
    // Parts of `run` that are to begin without delay, and take nothing from the environment.
    let mut words = std::env::args_os();
    if words.next().is_some_and(|name| name.as_bytes().starts_with(reaper::REAPER_OF.as_bytes())) {
        return ExitCode::from(reaper::reap());
    }
    match words.next() {
        Some(word) if word == reaper::ANCHOR => return ExitCode::SUCCESS,
        Some(word) if word == reaper::BECOME => return ExitCode::from(run::become_it::become_it(words)),
        _ => {}
    }
    signals::unblock();
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => {
            // Help and version are no failure, and a closed pipe is none of theirs.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(exit::USAGE) } else { ExitCode::SUCCESS };
        }
    };
    // Only what somebody asks for by RUST_LOG: what a user must know, each command says itself.
    let filter = EnvFilter::builder().with_default_directive(LevelFilter::OFF.into()).from_env_lossy();
    tracing_subscriber::fmt()
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .with_env_filter(filter)
        .init();
    let quiet = matches!(&args.command, Command::Run(run) if run.quiet);
    match dispatch(args.command) {
        Ok(code) => ExitCode::from(code),
        Err(Failure { code, words }) => {
            if !quiet || code == exit::USAGE {
                exit::say(&words);
            }
            ExitCode::from(code)
        }
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
        Command::Break(args) => runtime.block_on(status::break_lock(args)),
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
