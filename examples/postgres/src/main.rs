//! A holder that is paused past the end of its lock, wakes up, and writes: the write that a lock alone cannot stop,
//! and that a PostgreSQL table refuses by two columns, `fence` and `nonce`.
//!
//! `scripts/postgres` runs this with a PostgreSQL server of its own. Five Redis masters and the two holders, which
//! are processes, are started here. Both accounts have the same story:
//!
//! 1. Ann takes the lock, reads the balance, sees that her lock is valid, and is paused (SIGSTOP) just there.
//! 2. Her lock expires. Bob takes it and pays in.
//! 3. Ann goes on, and writes the balance that she worked out before the pause.
//!
//! The first account is the control: it takes every write, so Bob's money is gone. The second one has
//! `AND (fence < $2 OR (fence = $2 AND nonce = $3))` in its UPDATE: Ann's write changes no row, she sees that, and does
//! her work again under a new lock. It ends with code 1 if either story goes otherwise.

mod account;
mod holder;
mod process;

use std::env;
use std::process::ExitCode;

use quorlock::Redlock;
use quorlock_chaos::Fleet;
use tokio::signal::unix::{SignalKind, signal};

use account::{Bank, Rule};
use process::Process;

type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

// One thread: a process that stops itself stands still at once, with nothing of it running on.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    let end = match args.as_slice() {
        [] => play().await,
        [flag, task @ ..] if flag == holder::FLAG => holder::run(task).await,
        _ => Err("it takes no arguments: see scripts/postgres".into()),
    };
    match end {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Both stories. Whatever ends them, the servers and the holders go.
async fn play() -> Outcome<()> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    tokio::select! {
        end = stories() => end,
        _ = interrupt.recv() => Err("interrupted".into()),
        _ = terminate.recv() => Err("ended from outside".into()),
    }
}

async fn stories() -> Outcome<()> {
    let bank = Bank::connect().await?;
    bank.open(OPENING).await?;
    let fleet = Fleet::start(5)?;
    // Once, as the servers are new: nodes that were not initialized would first be on probation.
    Redlock::builder().nodes(fleet.urls()).init(false).await?;
    println!("PostgreSQL keeps the accounts, five Redis masters the lock. Ann pays out {ANN_PAYS_OUT},");
    println!("Bob pays in {BOB_PAYS_IN} in two writes. {OPENING} are there, so {SUM} are due in the end.");

    println!("\nWithout a fence: the UPDATE takes whatever comes.");
    // The control must lose the update, or the other story proves nothing.
    story(&bank, &fleet, Rule::Open, OPENING - ANN_PAYS_OUT).await?;
    println!("     Bob's {BOB_PAYS_IN} are lost.");

    println!("\nWith a fence: the UPDATE takes a larger number, or the last one with its own nonce.");
    story(&bank, &fleet, Rule::Fenced, SUM).await?;

    println!("\nAs promised: the fenced table refused the late write, the other one lost an update.");
    Ok(())
}

/// One account's story, which is to end with this balance.
async fn story(bank: &Bank, fleet: &Fleet, rule: Rule, promised: i64) -> Outcome<()> {
    let ann = Process::start(fleet, rule, "Ann", &[-ANN_PAYS_OUT], true)?;
    ann.stopped().await?;
    println!("  ... Ann is paused. Her lock expires, and she cannot notice.");
    // Bob waits for the lock like anybody: that he gets it says that Ann's time is over.
    Process::start(fleet, rule, "Bob", &[BOB_PAYS_IN / 2, BOB_PAYS_IN / 2], false)?.end().await?;
    println!("  ... Ann goes on, where she was.");
    ann.go_on()?;
    ann.end().await?;
    let balance = bank.account(rule).await?.balance;
    println!("  => {balance} in the account, {SUM} were due.");
    if balance != promised {
        return Err(format!("NOT as promised: it should be {promised}").into());
    }
    Ok(())
}

const OPENING: i64 = 100;
const ANN_PAYS_OUT: i64 = 30;
const BOB_PAYS_IN: i64 = 20;
const SUM: i64 = OPENING - ANN_PAYS_OUT + BOB_PAYS_IN;
