//! A scheduled job on several instances: at every tick all instances wake up, and one of them does the work.
//!
//! `quorlock dev -n 5 -- cargo run --example scheduled_job`

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use quorlock::Redlock;
use tokio::task::JoinSet;
use tokio::time::sleep;

type Error = Box<dyn std::error::Error + Send + Sync>;

/// Records which instances did the work of which tick. In production it is a table that all instances share.
#[derive(Clone, Default)]
struct Journal(Arc<Mutex<BTreeMap<u32, Vec<usize>>>>);

#[tokio::main]
async fn main() -> Result<(), Error> {
    let journal = Journal::default();
    let mut instances = JoinSet::new();
    for instance in 1..=INSTANCES {
        // Each instance has its own client, like a separate process.
        instances.spawn(run_instance(instance, client().await?, journal.clone()));
    }
    while let Some(result) = instances.join_next().await {
        result??;
    }
    for tick in 1..=TICKS {
        let runs = journal.runs_of(tick);
        if runs.len() != 1 {
            return Err(format!("tick {tick} was done by instances {runs:?}, expected exactly one").into());
        }
    }
    println!("{TICKS} ticks, {INSTANCES} instances: every tick was done once.");
    Ok(())
}

/// One instance. Its clock has a small error.
async fn run_instance(instance: usize, redlock: Redlock, journal: Journal) -> Result<(), Error> {
    sleep(CLOCK_ERROR * instance as u32).await;
    for tick in 1..=TICKS {
        let next_tick = sleep(PERIOD);
        run_once(instance, tick, &redlock, &journal).await?;
        next_tick.await;
    }
    Ok(redlock.shutdown(Duration::from_secs(2)).await?)
}

async fn run_once(instance: usize, tick: u32, redlock: &Redlock, journal: &Journal) -> Result<(), Error> {
    // `try_acquire` would also work: if several instances split the votes at the same instant, they retry
    // once or twice. A short wait makes it certain that one of them gets the lock.
    let lock = redlock.mutex("nightly-report").ttl(Duration::from_secs(5));
    let Some(guard) = lock.try_acquire_for(SHORT_WAIT).await? else {
        println!("tick {tick}: instance {instance} skips, another instance is working");
        return Ok(());
    };
    // The lock shows that no other instance runs the job now. The journal shows whether one *has run* it: an
    // instance whose clock is far behind may come after the release.
    if journal.runs_of(tick).is_empty() {
        sleep(WORK).await;
        if !guard.is_valid() {
            return Err("lost the lock during the work".into());
        }
        journal.write(tick, instance);
        println!("tick {tick}: instance {instance} did the work");
    } else {
        println!("tick {tick}: instance {instance} skips, the work is done");
    }
    guard.release().await?;
    Ok(())
}

impl Journal {
    fn runs_of(&self, tick: u32) -> Vec<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&tick).cloned().unwrap_or_default()
    }

    fn write(&self, tick: u32, instance: usize) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(tick).or_default().push(instance);
    }
}

async fn client() -> Result<Redlock, Error> {
    let nodes = std::env::var("QUORLOCK_NODES").map_err(
        |_| "QUORLOCK_NODES names no nodes; try: quorlock dev -n 5 -- cargo run --example scheduled_job",
    )?;
    Ok(Redlock::builder().nodes(nodes.split(',')).connect().await?)
}

const INSTANCES: usize = 4;
const TICKS: u32 = 4;
const PERIOD: Duration = Duration::from_millis(800);
const WORK: Duration = Duration::from_millis(300);
const SHORT_WAIT: Duration = Duration::from_millis(150);
const CLOCK_ERROR: Duration = Duration::from_millis(15);
