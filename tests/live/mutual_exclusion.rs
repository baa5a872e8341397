//! One holder at a time: twelve processes and sixty tasks, while servers are killed, paused, restarted and emptied.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use quorlock::Redlock;
use quorlock_chaos::Data;
use tokio::time::sleep;

use crate::support::{LockCluster, Worker, fenced_with_max_ttl, millis, plain, secs};

const PROCESSES: usize = 12;
const TASKS: usize = 5;
/// Each task takes so many turns at least, and goes on until there was trouble for so many rounds.
const TURNS: usize = 8;
const ROUNDS: usize = 3;

/// The same test is the story and, in the processes it starts, each of its workers.
#[test]
fn no_increment_is_lost_and_no_lock_has_two_holders_while_servers_are_restarted() {
    match std::env::var("QUORLOCK_TEST_WORKER") {
        Ok(id) => work(&id),
        Err(_) => tell(plain(5), PLAIN, &mut |fleet, round| {
            let (one, two) = (round % 5, (round + 1 + round % 3) % 5);
            fleet[one].kill();
            fleet[two].pause();
            std::thread::sleep(millis(300));
            fleet[two].resume();
            fleet[one].restart(Data::Kept).expect("back with its data");
            std::thread::sleep(millis(300));
        }),
    }
}

/// Here the servers come back with less than they had, one after another: each at the end of the last one's probation.
#[test]
fn no_increment_is_lost_and_no_lock_has_two_holders_while_servers_lose_data() {
    match std::env::var("QUORLOCK_TEST_WORKER") {
        Ok(id) => work(&id),
        Err(_) => tell(fenced_with_max_ttl(5, MAX_TTL), GUARDED, &mut |fleet, round| {
            let (one, two) = (round % 5, (round + 1 + round % 3) % 5);
            fleet[two].pause();
            std::thread::sleep(millis(100));
            match round % 3 {
                0 => fleet[one].restart(Data::Empty).expect("back without its data"),
                1 => fleet[one].wipe().expect("flushed"),
                _ => fleet[one].restart(Data::Kept).expect("back, and who knows with what"),
            }
            fleet[two].resume();
            // Probation begins when somebody looks; they all look at once. If this is too short, more nodes than a
            // minority forget, and the workers wait: it costs time and not the promise.
            std::thread::sleep(MAX_TTL + millis(100));
        }),
    }
}

fn tell(mut fleet: LockCluster, name: &str, trouble: &mut dyn FnMut(&mut LockCluster, usize)) {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("counter"), "0").expect("written");
    let mut workers: Vec<_> = (0..PROCESSES)
        .map(|id| {
            let told = [
                ("QUORLOCK_TEST_WORKER", id.to_string()),
                ("QUORLOCK_TEST_NODES", fleet.nodes()),
                ("QUORLOCK_TEST_MODE", name.to_owned()),
                ("QUORLOCK_TEST_FOLDER", folder.path().display().to_string()),
            ];
            Worker::start(name, &told)
        })
        .collect();

    let mut round = 0;
    loop {
        if !workers.iter_mut().any(Worker::is_running) {
            break;
        }
        assert!(round < 300, "the workers do not come to an end");
        trouble(&mut fleet, round);
        round += 1;
        if round == ROUNDS {
            fs::write(folder.path().join("enough"), "").expect("written");
        }
    }
    workers.into_iter().for_each(Worker::end);
    let witness = fs::read_to_string(folder.path().join("witness")).expect("read");
    let lines: Vec<&str> = witness.lines().collect();
    for pair in lines.chunks(2) {
        let [enter, leave] = pair else { panic!("somebody entered and never left") };
        assert_eq!(enter.strip_prefix("enter "), leave.strip_prefix("leave "), "two held at once");
    }
    assert!(lines.len() >= 2 * PROCESSES * TASKS * TURNS);
    let counter = fs::read_to_string(folder.path().join("counter")).expect("read");
    assert_eq!(counter, (lines.len() / 2).to_string(), "increments were lost");
}

fn work(id: &str) {
    let folder = PathBuf::from(std::env::var_os("QUORLOCK_TEST_FOLDER").expect("told"));
    let nodes = std::env::var("QUORLOCK_TEST_NODES").expect("told");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let builder = Redlock::builder().nodes(nodes.split(','));
        let is_plain = std::env::var("QUORLOCK_TEST_MODE").expect("told") == PLAIN;
        let builder = if is_plain { builder.plain() } else { builder.max_ttl(MAX_TTL) };
        let redlock = builder.connect_lazy().expect("built");
        let tasks: Vec<_> = (0..TASKS)
            .map(|task| {
                let (redlock, folder, name) = (redlock.clone(), folder.clone(), format!("{id}.{task}"));
                tokio::spawn(async move {
                    let mut turns = 0;
                    while turns < TURNS || !folder.join("enough").exists() {
                        increment(&redlock, &folder, &name).await;
                        turns += 1;
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.expect("no panic");
        }
        let left = redlock.shutdown(secs(10)).await;
        assert!(left.is_ok(), "{left:?} {:?}", redlock.node_status().await);
    });
}

/// Reads, waits for somebody else to do the same, writes: without exclusion it loses increments by the dozen.
async fn increment(redlock: &Redlock, folder: &Path, who: &str) {
    let guard = redlock.mutex("counter").acquire().await.expect("waits for ever");
    witness(folder, &format!("enter {who}\n"));
    let file = folder.join("counter");
    let value: u64 = fs::read_to_string(&file).expect("read").parse().expect("a number");
    sleep(millis(1)).await;
    assert!(guard.is_valid(), "a lock of seconds, used for a millisecond");
    fs::write(&file, (value + 1).to_string()).expect("written");
    witness(folder, &format!("leave {who}\n"));
    // Too few confirmations in time are no failure here: the rest goes on in the background.
    let _ = guard.release().await;
}

fn witness(folder: &Path, line: &str) {
    let file = OpenOptions::new().append(true).create(true).open(folder.join("witness"));
    file.expect("opened").write_all(line.as_bytes()).expect("written");
}

const MAX_TTL: Duration = secs(2);
const PLAIN: &str =
    "mutual_exclusion::no_increment_is_lost_and_no_lock_has_two_holders_while_servers_are_restarted";
const GUARDED: &str =
    "mutual_exclusion::no_increment_is_lost_and_no_lock_has_two_holders_while_servers_lose_data";
