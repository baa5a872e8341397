//! Several instances update one configuration file (read, compute, write). Under the lock no change is lost.
//!
//! `quorlock dev -n 5 -- cargo run --example config_update`

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use quorlock::Redlock;
use tokio::task::JoinSet;
use tokio::time::sleep;

type Error = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Error> {
    let folder = std::env::temp_dir().join(format!("quorlock-config-{}", std::process::id()));
    fs::create_dir_all(&folder)?;
    let outcome = in_folder(&folder).await;
    fs::remove_dir_all(&folder)?;
    outcome
}

async fn in_folder(folder: &Path) -> Result<(), Error> {
    let file = folder.join("service.conf");
    fs::write(&file, "revision = 0\n")?;
    let mut instances = JoinSet::new();
    for instance in 1..=INSTANCES {
        // Each instance has its own client, like a separate process.
        instances.spawn(run_instance(instance, client().await?, file.clone()));
    }
    while let Some(result) = instances.join_next().await {
        result??;
    }

    let config = fs::read_to_string(&file)?;
    let changes = INSTANCES * CHANGES;
    if !config.starts_with(&format!("revision = {changes}\n")) || config.lines().count() != changes + 1 {
        return Err(format!("changes were lost: {changes} were made, and this is left:\n{config}").into());
    }
    println!("{INSTANCES} instances made {CHANGES} changes each: none of the {changes} was lost.");
    Ok(())
}

/// One instance. It adds some settings, one after another.
async fn run_instance(instance: usize, redlock: Redlock, file: PathBuf) -> Result<(), Error> {
    for change in 1..=CHANGES {
        let setting = format!("instance-{instance}.option-{change} = on");
        // `run` drops the work if the lock is lost, and releases the lock when the work is done.
        let lock = redlock.mutex("service.conf").ttl(Duration::from_secs(5));
        let revision = lock.run(|_lock| add(&file, &setting)).await?;
        println!("revision {revision}: {setting}");
    }
    Ok(redlock.shutdown(Duration::from_secs(2)).await?)
}

/// Reads and rewrites the whole file. Without a lock, the last writer would overwrite the changes of others.
async fn add(file: &Path, setting: &str) -> Result<usize, Error> {
    let config = fs::read_to_string(file)?;
    let (head, settings) = config.split_once('\n').ok_or("no first line")?;
    let revision = 1 + head.trim_start_matches("revision = ").parse::<usize>()?;
    sleep(Duration::from_millis(5)).await;
    // Write a draft and rename it, so that no reader sees half a file.
    let draft = file.with_extension("draft");
    fs::write(&draft, format!("revision = {revision}\n{settings}{setting}\n"))?;
    fs::rename(&draft, file)?;
    Ok(revision)
}

async fn client() -> Result<Redlock, Error> {
    let nodes = std::env::var("QUORLOCK_NODES").map_err(
        |_| "QUORLOCK_NODES names no nodes; try: quorlock dev -n 5 -- cargo run --example config_update",
    )?;
    Ok(Redlock::builder().nodes(nodes.split(',')).connect().await?)
}

const INSTANCES: usize = 6;
const CHANGES: usize = 5;
