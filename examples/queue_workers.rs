//! Workers that share a queue: each item is processed once, by one worker.
//!
//! `quorlock dev -n 5 -- cargo run --example queue_workers`

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use quorlock::Redlock;
use tokio::task::JoinSet;
use tokio::time::sleep;

type Error = Box<dyn std::error::Error + Send + Sync>;

/// The queue, as a table that all workers read and write. It does not record which worker processes which
/// item.
#[derive(Clone)]
struct Table(Arc<Mutex<Vec<Row>>>);

#[derive(Clone, Default)]
struct Row {
    is_done: bool,
    times_processed: u32,
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    let table = Table(Arc::new(Mutex::new(vec![Row::default(); ITEMS])));
    let mut workers = JoinSet::new();
    for worker in 1..=WORKERS {
        // Each instance has its own client, like a separate process.
        workers.spawn(work(worker, client().await?, table.clone()));
    }
    while let Some(result) = workers.join_next().await {
        let (worker, done, skipped) = result??;
        println!("worker {worker} processed {done} items and skipped {skipped} that others held");
    }
    for (item, row) in table.rows().iter().enumerate() {
        if !row.is_done || row.times_processed != 1 {
            let times = row.times_processed;
            return Err(format!("item {item} was processed {times} times, expected once").into());
        }
    }
    println!("{ITEMS} items, {WORKERS} workers: every item was processed once.");
    Ok(())
}

/// Processes items until all are done.
async fn work(worker: usize, redlock: Redlock, table: Table) -> Result<(usize, usize, usize), Error> {
    let (mut done, mut skipped) = (0, 0);
    loop {
        let open: Vec<usize> = (0..ITEMS).filter(|item| !table.rows()[*item].is_done).collect();
        if open.is_empty() {
            break;
        }
        for item in open {
            let lock = redlock.mutex(format!("queue:item-{item}")).ttl(Duration::from_secs(5));
            let Some(guard) = lock.try_acquire().await? else {
                // Another worker holds this item: continue with the next.
                skipped += 1;
                continue;
            };
            // The item may have been processed since the list was made. Only under the lock is its state
            // certain.
            if !table.rows()[item].is_done {
                table.rows()[item].times_processed += 1;
                sleep(Duration::from_millis(20)).await;
                if !guard.is_valid() {
                    return Err("lost the lock during the work".into());
                }
                table.rows()[item].is_done = true;
                done += 1;
            }
            guard.release().await?;
        }
        sleep(Duration::from_millis(5)).await;
    }
    redlock.shutdown(Duration::from_secs(2)).await?;
    Ok((worker, done, skipped))
}

impl Table {
    /// Locks the table for one access only, not for the processing of an item.
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
