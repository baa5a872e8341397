//! A process that changes an account under its lock, as every process should that has a fenced resource.

use std::time::Duration;

use quorlock::Redlock;
use rustix::process::{Signal, getpid, kill_process};

use crate::Outcome;
use crate::account::{Bank, Rule};

/// `NODES RULE NAME CHANGES PAUSE`: changes the account's balance by each of the changes, all under one lock.
pub(crate) async fn run(task: &[String]) -> Outcome<()> {
    let [nodes, rule, name, changes, pause] = task else {
        return Err("a holder takes five words".into());
    };
    die_with_the_parent()?;
    let rule: Rule = rule.parse()?;
    let changes = changes.split(',').map(str::parse).collect::<Result<Vec<i64>, _>>()?;
    let mut is_to_pause: bool = pause.parse()?;
    let bank = Bank::connect().await?;
    let redlock = Redlock::builder().nodes(nodes.split(',')).connect().await?;

    while !work(&redlock, &bank, rule, name, &changes, is_to_pause).await? {
        println!("  {name}: does it all again, under a new lock");
        is_to_pause = false;
    }
    redlock.shutdown(Duration::from_secs(5)).await?;
    Ok(())
}

/// Whether every write was taken. A refused one means that the lock is long another's, and what was read under it is
/// old.
async fn work(
    redlock: &Redlock,
    bank: &Bank,
    rule: Rule,
    name: &str,
    changes: &[i64],
    is_to_pause: bool,
) -> Outcome<bool> {
    let lock = redlock.mutex(format!("account:{}", rule.name())).ttl(TTL).wait_timeout(WAIT);
    let guard = lock.acquire().await?;
    let token = guard.fencing_token().ok_or("a fenced client's lock has a fencing token")?;
    let account = bank.account(rule).await?;
    let mut balance = account.balance;
    println!("  {name}: has the lock with number {}, reads {balance}", token.number);

    let mut is_taken = true;
    for change in changes {
        balance += change;
        if !guard.is_valid() {
            return Err(format!("{name}'s lock was lost before anything had happened").into());
        }
        println!("  {name}: the lock is valid, so writes {balance}");
        if is_to_pause {
            // The gap between the last look and the write. It is always there: for a garbage collector, a full
            // disk, a virtual machine that moves. No scheduler can be asked to hit it, so we stop here ourselves.
            kill_process(getpid(), Signal::STOP)?;
        }
        is_taken = bank.write(rule, balance, token).await?;
        if !is_taken {
            let last = bank.account(rule).await?.fence;
            println!(
                "  {name}: REFUSED, 0 rows: the table has seen number {last}, {} is older",
                token.number
            );
            break;
        }
        println!("  {name}: 1 row is written");
    }
    let report = guard.release().await?;
    if report.was_lost != is_to_pause {
        return Err(format!("{name}'s lock should be lost if it slept, and only then").into());
    }
    Ok(is_taken)
}

/// A stopped process hears of nothing, not even that it is left alone.
fn die_with_the_parent() -> Outcome<()> {
    #[cfg(target_os = "linux")]
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    Ok(())
}

pub(crate) const FLAG: &str = "--holder";
/// Short, because the next holder waits for its end.
const TTL: Duration = Duration::from_secs(1);
const WAIT: Duration = Duration::from_secs(20);
