//! Fencing numbers are unique and ordered, whatever keys expire and whatever data nodes lose.

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use quorlock::event::Event;
use quorlock::{AcquireError, Guard, Redlock};
use quorlock_chaos::{Data, Setup};
use rustix::time::{ClockId, clock_gettime};
use tokio::time::{sleep, timeout};

use crate::support::{
    LockCluster, Worker, builder, client, eventually, fenced, fenced_with_max_ttl, is_voting, millis, plain,
    secs, with_setup,
};

const PROCESSES: usize = 6;
const KEYS: usize = 4;
const GRANTS_PER_KEY: usize = 210;

/// One granted lock. The times are nanoseconds of the boot-time clock, which all processes share.
#[derive(Clone, Copy, Debug)]
struct Grant {
    began: u64,
    ended: u64,
    number: u64,
    rounds: u8,
}

/// The test, which starts its own binary again: in those processes, this function is a worker.
#[test]
fn fencing_numbers_of_six_processes_are_unique_and_ordered() {
    match std::env::var("QUORLOCK_TEST_WORKER") {
        Ok(id) => run_worker(&id),
        Err(_) => run_test(),
    }
}

fn run_test() {
    let folder = tempfile::tempdir().expect("a folder");
    let fleet = with_setup(3, &Setup::new().append_only(false), false);
    // A new name continues from the largest number that a node gave ahead of its clock, as those of `far`
    // are.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let redlock = client(&fleet).await;
        for id in 0..PROCESSES {
            drop(redlock.mutex(format!("own{id}")).acquire().await.expect("free"));
        }
        redlock.shutdown(secs(10)).await.expect("no pending release");
    });
    let workers: Vec<_> = (0..PROCESSES)
        .map(|id| {
            let env = [
                ("QUORLOCK_TEST_WORKER", id.to_string()),
                ("QUORLOCK_TEST_NODES", fleet.nodes()),
                ("QUORLOCK_TEST_FOLDER", folder.path().display().to_string()),
            ];
            Worker::start(TEST_NAME, &env)
        })
        .collect();
    workers.into_iter().for_each(Worker::wait);

    let mut all: HashMap<String, Vec<Grant>> = HashMap::new();
    for id in 0..PROCESSES {
        let text = fs::read_to_string(folder.path().join(id.to_string())).expect("read");
        for line in text.lines() {
            let fields: Vec<&str> = line.split(' ').collect();
            let [key, began, ended, number, rounds] = fields[..] else { panic!("incomplete line: {line:?}") };
            let count = |field: &str| field.parse::<u64>().expect("a number");
            let grant = Grant {
                began: count(began),
                ended: count(ended),
                number: count(number),
                rounds: count(rounds) as u8,
            };
            all.entry(key.to_owned()).or_default().push(grant);
        }
    }
    let mut counts: HashMap<&str, (usize, usize)> = HashMap::new();
    for (key, grants) in &mut all {
        check_order(key, grants);
        let (in_one_round, of) = counts.entry(key.trim_end_matches(char::is_numeric)).or_default();
        *in_one_round += grants.iter().filter(|it| it.rounds == 1).count();
        *of += grants.len();
    }
    println!("numbered in one round: {counts:?}");
    let (in_one_round, of) = counts["own"];
    assert_eq!(in_one_round, of, "without skew or contention, one round suffices");
    let (in_one_round, of) = counts["far"];
    assert!(in_one_round < of, "no acquire needed a second round, so the test shows nothing");
    assert_eq!(counts["far"].1 + counts["hot"].1, PROCESSES * KEYS * GRANTS_PER_KEY);
}

fn check_order(key: &str, grants: &mut [Grant]) {
    grants.sort_unstable_by_key(|it| it.number);
    for pair in grants.windows(2) {
        assert!(pair[0].number < pair[1].number, "{key}: one number twice: {pair:?}");
    }
    // From the largest number down: no grant with a smaller number may begin after one with a larger number
    // ended.
    let mut first_end = u64::MAX;
    for it in grants.iter().rev() {
        assert!(it.began < first_end, "{key}: {it:?} began after a larger number was given");
        first_end = first_end.min(it.ended);
    }
}

fn run_worker(id: &str) {
    let folder = PathBuf::from(std::env::var_os("QUORLOCK_TEST_FOLDER").expect("variable is set"));
    let nodes = std::env::var("QUORLOCK_TEST_NODES").expect("variable is set");
    let rounds: Arc<Mutex<HashMap<(String, u64), u8>>> = Arc::default();
    let listener = Arc::clone(&rounds);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let grants = runtime.block_on(async {
        let redlock = Redlock::builder()
            .nodes(nodes.split(','))
            .max_ttl(secs(60))
            .on_event(move |event: &Event| {
                if let Event::Acquired { key, fencing_number: Some(number), rounds, .. } = event {
                    let mut recorded = listener.lock().unwrap_or_else(PoisonError::into_inner);
                    recorded.insert((key.to_string(), *number), *rounds);
                }
            })
            .connect()
            .await
            .expect("all nodes are up");
        let shared = (0..KEYS).map(|key| format!("{}{key}", if key % 2 == 0 { "hot" } else { "far" }));
        let tasks: Vec<_> = (shared.chain([format!("own{id}")]))
            .enumerate()
            .map(|(index, key)| {
                let seed = (id.parse::<u64>().expect("a number") << 8 | index as u64) + 1;
                tokio::spawn(acquire_repeatedly(redlock.clone(), key, seed))
            })
            .collect();
        let mut grants = Vec::new();
        for task in tasks {
            grants.extend(task.await.expect("no panic"));
        }
        redlock.shutdown(secs(10)).await.expect("no pending release");
        grants
    });
    let rounds = rounds.lock().unwrap_or_else(PoisonError::into_inner);
    let lines = grants.into_iter().map(|(key, it)| {
        let rounds = rounds[&(key.clone(), it.number)];
        format!("{key} {} {} {} {rounds}\n", it.began, it.ended, it.number)
    });
    fs::write(folder.join(id), lines.collect::<String>()).expect("written");
}

/// Acquires a lock repeatedly, with ttls so short that keys expire while clients contend or hold.
async fn acquire_repeatedly(redlock: Redlock, key: String, seed: u64) -> Vec<(String, Grant)> {
    let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut grants = Vec::new();
    while grants.len() < GRANTS_PER_KEY {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let ttl = millis(10 + random % 21);
        let mutex = redlock.mutex(&key).ttl(ttl).auto_renew(false).attempt_timeout(ttl / 4);
        // Beyond all clocks the nodes choose different numbers, so second rounds are needed.
        let mutex = if key.starts_with("far") { mutex.min_fencing_number(1 << 52) } else { mutex };
        if random.is_multiple_of(3) {
            // Cancels an acquire, often in flight: then only some nodes have given a number.
            drop(timeout(Duration::from_micros(random % 1000), mutex.acquire()).await);
        }
        let began = boot_nanos();
        let guard = mutex.acquire().await.expect("waits without a limit");
        let (ended, number) = (boot_nanos(), fencing_number(&guard));
        grants.push((key.clone(), Grant { began, ended, number, rounds: 0 }));
        match (random >> 32) % 8 {
            // Held until shortly after it has expired.
            0 => sleep(ttl + Duration::from_micros(random % 3000)).await,
            1 => sleep(Duration::from_micros(random % 3000)).await,
            _ => {}
        }
        drop(guard);
    }
    grants
}

fn boot_nanos() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

fn fencing_number(guard: &Guard) -> u64 {
    guard.fencing_token().expect("fenced").number
}

const TEST_NAME: &str = "fencing::fencing_numbers_of_six_processes_are_unique_and_ordered";

/// The fence of this key on each node.
fn fences(fleet: &LockCluster, key: &str) -> Vec<Option<u64>> {
    let fence = format!("quorlock:fence:{key}");
    fleet.servers().iter().map(|it| it.command(&["GET", &fence]).expect("up")).collect()
}

/// Acquires and releases the lock when every voting node has its fencing number.
async fn acquire_and_release(redlock: &Redlock, fleet: &LockCluster, key: &str) -> u64 {
    let guard = redlock.mutex(key).wait_timeout(secs(20)).acquire().await.expect("free");
    let number = fencing_number(&guard);
    eventually("every voting node has the fencing number", || async {
        let voting = redlock.node_status().await.iter().filter(|it| is_voting(it)).count();
        fences(fleet, key).iter().filter(|it| **it == Some(number)).count() >= voting
    })
    .await;
    guard.release().await.expect("released");
    number
}

#[tokio::test]
async fn a_fencing_number_ahead_of_all_clocks_survives_data_loss_on_one_node_after_another() {
    let mut fleet = fenced_with_max_ttl(3, secs(1));
    let redlock = client(&fleet).await;
    let guard = redlock.mutex("k").min_fencing_number(1 << 52).acquire().await.expect("free");
    let mut last = fencing_number(&guard);
    assert!(last > 1 << 52, "{last}");
    eventually("all three nodes have it", || async { fences(&fleet, "k") == [Some(last); 3] }).await;
    guard.release().await.expect("released");
    for node in 0..3 {
        match node {
            0 => fleet[node].wipe().expect("flushed"),
            1 => fleet[node].restart(Data::Empty).expect("restarted"),
            _ => fleet[node].command(&["DEL", "quorlock:fence:k"]).expect("deleted"),
        }
        let next = acquire_and_release(&redlock, &fleet, "k").await;
        // No clock is at 2^52 µs, which is in the year 2112.
        assert!(next > last, "{next} after {last}, when node {node} had lost it");
        eventually("every node votes again", || async { redlock.node_status().await.iter().all(is_voting) })
            .await;
        last = acquire_and_release(&redlock, &fleet, "k").await;
        assert!(last > next, "{last} after {next}");
    }
}

#[tokio::test]
async fn fencing_numbers_continue_from_the_clocks_when_every_fence_is_deleted() {
    let fleet = fenced(5);
    let redlock = client(&fleet).await;
    let mut last = 0;
    for _ in 0..20 {
        let next = acquire_and_release(&redlock, &fleet, "k").await;
        assert!(next > last, "{next} after {last}");
        last = next;
        for server in fleet.servers() {
            server.command::<()>(&["DEL", "quorlock:fence:k"]).expect("deleted");
        }
    }
}

#[tokio::test]
async fn a_fencing_number_survives_renewals_and_is_restored_on_nodes_that_lost_it() {
    let fleet = fenced_with_max_ttl(3, secs(2));
    let redlock = client(&fleet).await;
    let guard = redlock.mutex("k").ttl(millis(600)).acquire().await.expect("free");
    let token = guard.fencing_token().expect("fenced");
    eventually("all three nodes have it", || async { fences(&fleet, "k") == [Some(token.number); 3] }).await;
    for server in &fleet.servers()[..2] {
        server.command::<()>(&["DEL", "quorlock:fence:k"]).expect("deleted");
    }
    fleet[2].command::<()>(&["DEL", "k", "quorlock:fence:k"]).expect("deleted");
    eventually("all three nodes have it again", || async { fences(&fleet, "k") == [Some(token.number); 3] })
        .await;
    guard.extend(secs(2)).await.expect("extended");
    assert_eq!(guard.fencing_token(), Some(token));
}

#[tokio::test]
async fn a_minimum_fencing_number_is_applied_reported_and_bounded() {
    let fleet = fenced(3);
    let recorded: Arc<Mutex<Vec<u64>>> = Arc::default();
    let listener = Arc::clone(&recorded);
    let listening = builder(&fleet).on_event(move |event: &Event| {
        if let Event::MinFencingNumberSet { number, .. } = event {
            listener.lock().expect("not poisoned").push(*number);
        }
    });
    let redlock = listening.connect().await.expect("all nodes are up");
    let largest = (1 << 53) - (1 << 40);
    let guard = redlock.mutex("k").min_fencing_number(largest).acquire().await.expect("exactly the limit");
    assert!(
        fencing_number(&guard) > largest && fencing_number(&guard) < 1 << 53,
        "{}",
        fencing_number(&guard)
    );
    guard.release().await.expect("released");
    assert_eq!(*recorded.lock().expect("not poisoned"), [largest]);
    let error =
        redlock.mutex("k").min_fencing_number(largest + 1).acquire().await.expect_err("above the limit");
    assert!(matches!(&error, AcquireError::InvalidInput(_)), "{error:?}");
    assert!(error.to_string().contains(&largest.to_string()), "{error}");

    let fleet = plain(3);
    let redlock = client(&fleet).await;
    let error =
        redlock.mutex("k").min_fencing_number(1).acquire().await.expect_err("has no effect in plain mode");
    assert!(error.to_string().contains("plain"), "{error}");
    let guard = redlock.mutex("k").acquire().await.expect("free");
    assert_eq!(guard.fencing_token(), None);
}
