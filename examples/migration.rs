//! A database migration that runs once: the first instance that starts runs it, and the other instances wait
//! until it is done.
//!
//! `quorlock dev -n 5 -- cargo run --example migration`

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use quorlock::{Guard, Redlock};
use tokio::task::JoinSet;
use tokio::time::sleep;

type Error = Box<dyn std::error::Error + Send + Sync>;

/// The database that all instances share.
#[derive(Clone, Default)]
struct Database(Arc<Mutex<Schema>>);

#[derive(Default)]
struct Schema {
    version: usize,
    applied: Vec<&'static str>,
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    let database = Database::default();
    let mut instances = JoinSet::new();
    for instance in 1..=INSTANCES {
        // Each instance has its own client, like a separate process.
        instances.spawn(start(instance, client().await?, database.clone()));
    }
    while let Some(result) = instances.join_next().await {
        result??;
    }
    let applied = &database.schema().applied;
    if applied != &STEPS {
        return Err(format!("wrong steps: applied {applied:?}, expected each of {STEPS:?} once").into());
    }
    println!("{INSTANCES} instances started, the migration of {} steps ran once.", STEPS.len());
    Ok(())
}

/// One instance. It serves once the schema is up to date.
async fn start(instance: usize, redlock: Redlock, database: Database) -> Result<(), Error> {
    // Waits forever by default. The ttl does not limit the migration, because the lock is renewed. It limits
    // how long the other instances wait if the migrating instance crashes.
    let guard = redlock.mutex("schema-migration").ttl(Duration::from_secs(2)).acquire().await?;
    if database.schema().version == STEPS.len() {
        println!("instance {instance} finds the migration done");
    } else {
        println!("instance {instance} migrates");
        migrate(&guard, &database).await?;
    }
    guard.release().await?;

    if database.schema().version != STEPS.len() {
        return Err(format!("instance {instance} would serve with an old schema").into());
    }
    println!("instance {instance} serves");
    Ok(redlock.shutdown(Duration::from_secs(2)).await?)
}

/// Runs the steps that are not done yet. A previous instance may have crashed between two steps.
async fn migrate(guard: &Guard, database: &Database) -> Result<(), Error> {
    let first = database.schema().version;
    for (index, step) in STEPS.into_iter().enumerate().skip(first) {
        // In a real database, one transaction does the step and raises the version *from the version that was
        // read*. So a holder that was paused and continues too late changes nothing.
        sleep(Duration::from_millis(700)).await;
        if !guard.is_valid() {
            return Err(format!("lost the lock before the step {step:?}").into());
        }
        let mut schema = database.schema();
        schema.applied.push(step);
        schema.version = index + 1;
        println!("  {step}");
    }
    Ok(())
}

impl Database {
    fn schema(&self) -> MutexGuard<'_, Schema> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn client() -> Result<Redlock, Error> {
    let nodes = std::env::var("QUORLOCK_NODES").map_err(
        |_| "QUORLOCK_NODES names no nodes; try: quorlock dev -n 5 -- cargo run --example migration",
    )?;
    Ok(Redlock::builder().nodes(nodes.split(',')).connect().await?)
}

const INSTANCES: usize = 4;
const STEPS: [&str; 4] =
    ["create orders", "add orders.customer", "fill orders.customer", "drop orders.owner"];
