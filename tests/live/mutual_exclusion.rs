//! Mutual exclusion: 12 processes with 60 tasks contend for one lock while servers are killed, paused,
//! restarted and emptied.

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
/// Each task acquires the lock at least this many times, and goes on until this many rounds of faults are
/// over.
const MIN_LOCKS: usize = 8;
const FAULT_ROUNDS: usize = 3;

/// The test, which starts its own binary again: in those processes, this function is a worker.
#[test]
fn no_increment_is_lost_and_no_lock_has_two_holders_while_servers_are_restarted() {
    match std::env::var("QUORLOCK_TEST_WORKER") {
        Ok(id) => run_worker(&id),
        Err(_) => run_with_faults(plain(5), PLAIN_TEST, &mut |fleet, round| {
            let (one, two) = (round % 5, (round + 1 + round % 3) % 5);
            fleet[one].kill();
            fleet[two].pause();
            std::thread::sleep(millis(300));
            fleet[two].resume();
            fleet[one].restart(Data::Kept).expect("restarted with its data");
            std::thread::sleep(millis(300));
        }),
    }
}

/// The servers lose data one after another, each when the probation of the last one is over.
#[test]
fn no_increment_is_lost_and_no_lock_has_two_holders_while_servers_lose_data() {
    match std::env::var("QUORLOCK_TEST_WORKER") {
        Ok(id) => run_worker(&id),
        Err(_) => run_with_faults(fenced_with_max_ttl(5, MAX_TTL), FENCED_TEST, &mut |fleet, round| {
            let (one, two) = (round % 5, (round + 1 + round % 3) % 5);
            fleet[two].pause();
            std::thread::sleep(millis(100));
            match round % 3 {
                0 => fleet[one].restart(Data::Empty).expect("restarted without its data"),
                1 => fleet[one].wipe().expect("flushed"),
                _ => fleet[one].restart(Data::Kept).expect("restarted, perhaps with old data"),
            }
            fleet[two].resume();
            // Probation begins when a client reads the node, here at once. If this sleep is too short, more
            // than a minority is on probation, and the workers only wait longer.
            std::thread::sleep(MAX_TTL + millis(100));
        }),
    }
}

fn run_with_faults(
    mut fleet: LockCluster,
    name: &str,
    inject_faults: &mut dyn FnMut(&mut LockCluster, usize),
) {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("counter"), "0").expect("written");
    let mut workers: Vec<_> = (0..PROCESSES)
        .map(|id| {
            let env = [
                ("QUORLOCK_TEST_WORKER", id.to_string()),
                ("QUORLOCK_TEST_NODES", fleet.nodes()),
                ("QUORLOCK_TEST_MODE", name.to_owned()),
                ("QUORLOCK_TEST_FOLDER", folder.path().display().to_string()),
            ];
            Worker::start(name, &env)
        })
        .collect();

    let mut round = 0;
    loop {
        if !workers.iter_mut().any(Worker::is_running) {
            break;
        }
        assert!(round < 300, "the worker processes do not end");
        inject_faults(&mut fleet, round);
        round += 1;
        if round == FAULT_ROUNDS {
            fs::write(folder.path().join("enough"), "").expect("written");
        }
    }
    workers.into_iter().for_each(Worker::wait);
    let log = fs::read_to_string(folder.path().join("log")).expect("read");
    let lines: Vec<&str> = log.lines().collect();
    for pair in lines.chunks(2) {
        let [enter, leave] = pair else { panic!("a task entered and never left") };
        assert_eq!(enter.strip_prefix("enter "), leave.strip_prefix("leave "), "two holders at once");
    }
    assert!(lines.len() >= 2 * PROCESSES * TASKS * MIN_LOCKS);
    let counter = fs::read_to_string(folder.path().join("counter")).expect("read");
    assert_eq!(counter, (lines.len() / 2).to_string(), "increments were lost");
}

fn run_worker(id: &str) {
    let folder = PathBuf::from(std::env::var_os("QUORLOCK_TEST_FOLDER").expect("variable is set"));
    let nodes = std::env::var("QUORLOCK_TEST_NODES").expect("variable is set");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let builder = Redlock::builder().nodes(nodes.split(','));
        let is_plain = std::env::var("QUORLOCK_TEST_MODE").expect("variable is set") == PLAIN_TEST;
        let builder = if is_plain { builder.mode(quorlock::Mode::Plain) } else { builder.max_ttl(MAX_TTL) };
        let redlock = builder.connect_lazy().expect("built");
        let tasks: Vec<_> = (0..TASKS)
            .map(|task| {
                let (redlock, folder, name) = (redlock.clone(), folder.clone(), format!("{id}.{task}"));
                tokio::spawn(async move {
                    let mut locks = 0;
                    while locks < MIN_LOCKS || !folder.join("enough").exists() {
                        increment(&redlock, &folder, &name).await;
                        locks += 1;
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.expect("no panic");
        }
        let outcome = redlock.shutdown(secs(10)).await;
        assert!(outcome.is_ok(), "{outcome:?} {:?}", redlock.node_status().await);
    });
}

/// Reads, waits 1 ms, writes. Without mutual exclusion it would lose dozens of increments.
async fn increment(redlock: &Redlock, folder: &Path, owner: &str) {
    let guard = redlock.mutex("counter").acquire().await.expect("waits without a limit");
    append_to_log(folder, &format!("enter {owner}\n"));
    let file = folder.join("counter");
    let value: u64 = fs::read_to_string(&file).expect("read").parse().expect("a number");
    sleep(millis(1)).await;
    assert!(guard.is_valid(), "a lock of seconds, used for a millisecond");
    fs::write(&file, (value + 1).to_string()).expect("written");
    append_to_log(folder, &format!("leave {owner}\n"));
    // A missing confirmation is no failure: the release continues in the background.
    let _ = guard.release().await;
}

fn append_to_log(folder: &Path, line: &str) {
    let file = OpenOptions::new().append(true).create(true).open(folder.join("log"));
    file.expect("opened").write_all(line.as_bytes()).expect("written");
}

const MAX_TTL: Duration = secs(2);
const PLAIN_TEST: &str =
    "mutual_exclusion::no_increment_is_lost_and_no_lock_has_two_holders_while_servers_are_restarted";
const FENCED_TEST: &str =
    "mutual_exclusion::no_increment_is_lost_and_no_lock_has_two_holders_while_servers_lose_data";
