//! Workers that share a queue: each item is worked on by one of them, once.
//!
//! `quorlock dev -n 5 -- cargo run --example queue_workers`

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use quorlock::Redlock;
use tokio::task::JoinSet;
use tokio::time::sleep;

type Error = Box<dyn std::error::Error + Send + Sync>;

/// The queue, as a table that all workers read and write. It has no idea of who is working on what.
#[derive(Clone)]
struct Table(Arc<Mutex<Vec<Row>>>);

#[derive(Clone, Default)]
struct Row {
    is_done: bool,
    times_worked_on: u32,
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    let table = Table(Arc::new(Mutex::new(vec![Row::default(); ITEMS])));
    let mut workers = JoinSet::new();
    for worker in 1..=WORKERS {
        // A client of its own, as if it were a process of its own.
        workers.spawn(work(worker, client().await?, table.clone()));
    }
    while let Some(end) = workers.join_next().await {
        let (worker, done, left_alone) = end??;
        println!("worker {worker} did {done} items and left {left_alone} to others who were at them");
    }
    for (item, row) in table.rows().iter().enumerate() {
        if !row.is_done || row.times_worked_on != 1 {
            let times = row.times_worked_on;
            return Err(format!("item {item} was worked on {times} times: once was promised").into());
        }
    }
    println!("{ITEMS} items, {WORKERS} workers: every item was worked on once.");
    Ok(())
}

/// Goes through the table until nothing is left to do.
async fn work(worker: usize, redlock: Redlock, table: Table) -> Result<(usize, usize, usize), Error> {
    let (mut done, mut left_alone) = (0, 0);
    loop {
        let open: Vec<usize> = (0..ITEMS).filter(|item| !table.rows()[*item].is_done).collect();
        if open.is_empty() {
            break;
        }
        for item in open {
            let lock = redlock.mutex(format!("queue:item-{item}")).ttl(Duration::from_secs(5));
            let Some(guard) = lock.try_acquire().await? else {
                // Held by another: there is other work to do.
                left_alone += 1;
                continue;
            };
            // What was open when the list was made may have been done since. Only under the lock is it certain.
            if !table.rows()[item].is_done {
                table.rows()[item].times_worked_on += 1;
                sleep(Duration::from_millis(20)).await;
                if !guard.is_valid() {
                    return Err("lost the lock while at work".into());
                }
                table.rows()[item].is_done = true;
                done += 1;
            }
            guard.release().await?;
        }
        sleep(Duration::from_millis(5)).await;
    }
    redlock.shutdown(Duration::from_secs(2)).await?;
    Ok((worker, done, left_alone))
}

impl Table {
    /// Protects the memory, and only for the moment of one access: not the work on an item.
    fn rows(&self) -> MutexGuard<'_, Vec<Row>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn client() -> Result<Redlock, Error> {
    let nodes = std::env::var("QUORLOCK_NODES").map_err(
        |_| "QUORLOCK_NODES names no nodes; try: quorlock dev -n 5 -- cargo run --example queue_workers",
    )?;
    Ok(Redlock::builder().nodes(nodes.split(',')).connect().await?)
}

const WORKERS: usize = 5;
const ITEMS: usize = 60;
