//! The command `quorlock`: Redlock over N independent Redis masters, for shell scripts and any program.

mod about;
mod args;
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
mod outer_locks;
mod output;
mod password;
mod progress;
mod reaper;
mod reconfigure;
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

use args::{Args, Command, Stopped};
use exit::Failure;

fn main() -> ExitCode {
    let typed: Vec<OsString> = std::env::args_os().collect();
    if let Some(code) = run_helper_process(&typed) {
        return ExitCode::from(code);
    }
    signals::unblock();
    let is_for_terminal = io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let outcome = match Args::read(&typed, is_for_terminal) {
        Ok(args) => execute(args.command),
        Err(Stopped::Help(text)) => {
            output::print(&text);
            Ok(0)
        }
        Err(Stopped::Failed(failure)) => Err(failure),
    };
    let outcome = outcome.and_then(|code| output::failure().map_or(Ok(code), Err));
    ExitCode::from(outcome.unwrap_or_else(|Failure { code, message }| {
        exit::eprint_line(&message);
        code
    }))
}

/// Runs a helper process, if this is one: between `run` and its command, or for a password. They start without delay,
/// and ignore the environment.
fn run_helper_process(typed: &[OsString]) -> Option<u8> {
    let (name, args) = typed.split_first()?;
    if name.as_bytes().starts_with(reaper::ARG0_PREFIX.as_bytes()) {
        return Some(reaper::run_main_loop());
    }
    match args.split_first()? {
        (arg, _) if arg == reaper::ANCHOR => Some(0),
        (arg, args) if arg == password::SHELL => Some(password::exec_shell(args.first())),
        (arg, args) if arg == reaper::BECOME => Some(run::exec::exec(args.iter().cloned())),
        _ => None,
    }
}

fn execute(command: Command) -> Result<u8, Failure> {
    // Logs only if RUST_LOG asks for them: commands print what users must know.
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
    // Without free file descriptors the runtime would panic.
    let files: io::Result<Vec<File>> = (0..FILES).map(|_| File::open("/dev/null")).collect();
    drop(files.map_err(|error| {
        Failure::new(exit::SOFTWARE, format!("too few file descriptors: {error}; raise `ulimit -n`"))
    })?);
    // One thread is enough, because locks are renewed on another thread.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(exit::SOFTWARE, format!("the runtime did not start: {error}")))?;
    // If the parent ignores SIGCHLD, so would this process, and the kernel
    // would discard its children's status.
    let _runtime = runtime.enter();
    let _children = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::child());
    match command {
        Command::Run(args) => runtime.block_on(run::run(args)),
        Command::Init(args) => runtime.block_on(init::init(args)),
        Command::Reconfigure(args) => runtime.block_on(reconfigure::reconfigure(args)),
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

/// The number of file descriptors that any command needs, besides connections.
const FILES: usize = 16;
