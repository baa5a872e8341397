//! Fencing tokens with PostgreSQL: a holder is paused until its lock has expired, continues, and writes. A
//! lock alone cannot prevent that write; the table rejects it by two columns, `fence` and `nonce`.
//!
//! `scripts/postgres` runs this with its own PostgreSQL server. This program starts five Redis masters and
//! two holder processes. It runs the same scenario with both accounts:
//!
//! 1. Ann acquires the lock, reads the balance, checks that her lock is valid, and is paused (SIGSTOP).
//! 2. Her lock expires. Bob acquires it and pays in.
//! 3. Ann continues, and writes the balance that she computed before the pause.
//!
//! The first account is the negative control: it accepts every write, so Bob's payment is lost. The second
//! account has `AND (fence < $2 OR (fence = $2 AND nonce = $3))` in its UPDATE. Ann's write changes no row;
//! she sees that, and repeats her work under a new lock. The exit code is 1 if a scenario ends otherwise.

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

// One thread: when the process stops itself, no other thread runs on until the signal takes effect.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    let result = match args.as_slice() {
        [] => run_both().await,
        [flag, args @ ..] if flag == holder::FLAG => holder::run(args).await,
        _ => Err("it takes no arguments: see scripts/postgres".into()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs both scenarios. Servers and holders are stopped in any case, also by a signal.
async fn run_both() -> Outcome<()> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    tokio::select! {
        result = scenarios() => result,
        _ = interrupt.recv() => Err("interrupted".into()),
        _ = terminate.recv() => Err("terminated".into()),
    }
}

async fn scenarios() -> Outcome<()> {
    let bank = Bank::connect().await?;
    bank.open(OPENING).await?;
    let fleet = Fleet::start(5)?;
    // The servers are new, and uninitialized nodes would start on probation.
    Redlock::builder().nodes(fleet.urls()).initialize().await?;
    println!("PostgreSQL keeps the accounts, five Redis masters the lock. Ann pays out {ANN_PAYS_OUT},");
    println!("Bob pays in {BOB_PAYS_IN} in two writes. {OPENING} are there, so {SUM} are due in the end.");

    println!("\nWithout a fence: the UPDATE accepts every write.");
    // The negative control must lose the update; otherwise the other scenario proves nothing.
    scenario(&bank, &fleet, Rule::Open, OPENING - ANN_PAYS_OUT).await?;
    println!("     Bob's {BOB_PAYS_IN} are lost.");

    println!("\nWith a fence: the UPDATE accepts a larger number, or the last number with its own nonce.");
    scenario(&bank, &fleet, Rule::Fenced, SUM).await?;

    println!("\nAs expected: the fenced table rejected the late write, and the other table lost an update.");
    Ok(())
}

/// Runs the scenario with one account, which must end with this balance.
async fn scenario(bank: &Bank, fleet: &Fleet, rule: Rule, expected: i64) -> Outcome<()> {
    let ann = Process::start(fleet, rule, "Ann", &[-ANN_PAYS_OUT], true)?;
    ann.stopped().await?;
    println!("  ... Ann is paused. Her lock expires, and she cannot notice.");
    // Bob waits for the lock as usual. When he gets it, Ann's lock has expired.
    Process::start(fleet, rule, "Bob", &[BOB_PAYS_IN / 2, BOB_PAYS_IN / 2], false)?.end().await?;
    println!("  ... Ann continues where she was paused.");
    ann.resume()?;
    ann.end().await?;
    let balance = bank.account(rule).await?.balance;
    println!("  => {balance} in the account, {SUM} were due.");
    if balance != expected {
        return Err(format!("wrong balance {balance}: expected {expected}").into());
    }
    Ok(())
}

const OPENING: i64 = 100;
const ANN_PAYS_OUT: i64 = 30;
const BOB_PAYS_IN: i64 = 20;
const SUM: i64 = OPENING - ANN_PAYS_OUT + BOB_PAYS_IN;
