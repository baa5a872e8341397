//! A holder process: changes an account under its lock, and sends the fencing token with every write.

use std::time::Duration;

use quorlock::Redlock;
use rustix::process::{Signal, getpid, kill_process};

use crate::Outcome;
use crate::account::{Bank, Rule};

/// Runs with the arguments `NODES RULE NAME CHANGES PAUSE`: applies all changes to the account's balance
/// under one lock.
pub(crate) async fn run(args: &[String]) -> Outcome<()> {
    let [nodes, rule, name, changes, pause] = args else {
        return Err("a holder needs five arguments".into());
    };
    die_with_the_parent()?;
    let rule: Rule = rule.parse()?;
    let changes = changes.split(',').map(str::parse).collect::<Result<Vec<i64>, _>>()?;
    let mut must_pause: bool = pause.parse()?;
    let bank = Bank::connect().await?;
    let redlock = Redlock::builder().nodes(nodes.split(',')).connect().await?;

    while !work(&redlock, &bank, rule, name, &changes, must_pause).await? {
        println!("  {name}: repeats all changes under a new lock");
        must_pause = false;
    }
    redlock.shutdown(Duration::from_secs(5)).await?;
    Ok(())
}

/// Applies the changes under one lock. Returns whether all writes were accepted. A rejected write means that
/// another holder has the lock, and that the balance that was read is outdated.
async fn work(
    redlock: &Redlock,
    bank: &Bank,
    rule: Rule,
    name: &str,
    changes: &[i64],
    must_pause: bool,
) -> Outcome<bool> {
    let lock = redlock.mutex(format!("account:{}", rule.name())).ttl(TTL).wait_timeout(WAIT);
    let guard = lock.acquire().await?;
    let token = guard.fencing_token().ok_or("a fenced client's lock has a fencing token")?;
    let account = bank.account(rule).await?;
    let mut balance = account.balance;
    println!("  {name}: has the lock with number {}, reads {balance}", token.number);

    let mut is_accepted = true;
    for change in changes {
        balance += change;
        if !guard.is_valid() {
            return Err(format!("{name} lost the lock before the first write").into());
        }
        println!("  {name}: the lock is valid, so writes {balance}");
        if must_pause {
            // Between the last check and the write a process may always be paused: by a garbage collector, a
            // full disk, or a virtual machine that moves. To hit this gap for certain, the process stops
            // itself here.
            kill_process(getpid(), Signal::STOP)?;
        }
        is_accepted = bank.write(rule, balance, token).await?;
        if !is_accepted {
            let last = bank.account(rule).await?.fence;
            println!(
                "  {name}: REJECTED, 0 rows: the table has seen number {last}, {} is older",
                token.number
            );
            break;
        }
        println!("  {name}: 1 row is written");
    }
    let was_lost = guard.release().await.is_err();
    if was_lost != must_pause {
        return Err(format!("{name} must lose the lock if and only if it was paused").into());
    }
    Ok(is_accepted)
}

/// Kills this process when its parent ends, because a stopped process cannot notice that.
fn die_with_the_parent() -> Outcome<()> {
    #[cfg(target_os = "linux")]
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    Ok(())
}

pub(crate) const FLAG: &str = "--holder";
/// Short, because the next holder waits until it has passed.
const TTL: Duration = Duration::from_secs(1);
const WAIT: Duration = Duration::from_secs(20);
