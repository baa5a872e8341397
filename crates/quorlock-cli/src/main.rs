//! The command `quorlock`: a lock over N independent Redis masters, for those who write no Rust.

mod about;
mod args;
mod around;
mod bench;
mod break_lock;
mod chaos;
mod config;
mod dev;
mod doctor;
mod exit;
mod forget;
mod group;
mod init;
mod nodes;
mod progress;
mod reaper;
mod report_file;
mod run;
mod status;
mod waiting;

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::Parser;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use args::{Args, Command};
use exit::Failure;

fn main() -> ExitCode {
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
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
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
    // One thread is enough: locks are renewed on a thread of their own.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(exit::SOFTWARE, format!("no runtime: {error}")))?;
    match command {
        Command::Run(args) => runtime.block_on(run::run(args)),
        Command::Init(args) => runtime.block_on(init::init(args)),
        Command::Status(args) => runtime.block_on(status::status(args)),
        Command::Break(args) => runtime.block_on(break_lock::break_lock(args)),
        Command::Forget(args) => runtime.block_on(forget::forget(args)),
        Command::Doctor(args) => runtime.block_on(doctor::doctor(args)),
        Command::Dev(args) => runtime.block_on(dev::dev(args)),
        Command::Bench(args) => runtime.block_on(bench::bench(args)),
        Command::Chaos(args) => runtime.block_on(chaos::chaos(args)),
        Command::ChaosClient => runtime.block_on(chaos::client()),
        Command::Reap => runtime.block_on(reaper::reap()),
    }
}
