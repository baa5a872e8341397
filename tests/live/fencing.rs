//! Fencing numbers: never twice, always in order, whatever expires, is forgotten, or is asked for.

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use quorlock::{AcquireError, Event, Guard, Redlock};
use quorlock_chaos::{Data, Setup};
use rustix::time::{ClockId, clock_gettime};
use tokio::time::{sleep, timeout};

use crate::support::{
    LockCluster, Worker, builder, client, eventually, fenced, fenced_with_max_ttl, is_voting, millis, plain,
    secs, with_setup,
};

const PROCESSES: usize = 6;
const KEYS: usize = 4;
const TURNS: usize = 210;

/// One acquisition: between these two moments, by the clock that all processes of a machine share.
#[derive(Clone, Copy, Debug)]
struct Taken {
    began: u64,
    ended: u64,
    number: u64,
    rounds: u8,
}

/// The same test is the story and, in the processes it starts, each of its workers.
#[test]
fn fencing_numbers_of_six_processes_are_unique_and_ordered() {
    match std::env::var("QUORLOCK_TEST_WORKER") {
        Ok(id) => work(&id),
        Err(_) => tell(),
    }
}

fn tell() {
    let folder = tempfile::tempdir().expect("a folder");
    let fleet = with_setup(3, &Setup::new().append_only(false), false);
    // A name that is new goes on from the largest number that a node gave ahead of its clock, as the far ones are.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let redlock = client(&fleet).await;
        for id in 0..PROCESSES {
            drop(redlock.mutex(format!("own{id}")).acquire().await.expect("free"));
        }
        redlock.shutdown(secs(10)).await.expect("nothing is owed");
    });
    let workers: Vec<_> = (0..PROCESSES)
        .map(|id| {
            let told = [
                ("QUORLOCK_TEST_WORKER", id.to_string()),
                ("QUORLOCK_TEST_NODES", fleet.nodes()),
                ("QUORLOCK_TEST_FOLDER", folder.path().display().to_string()),
            ];
            Worker::start(NAME, &told)
        })
        .collect();
    workers.into_iter().for_each(Worker::end);

    let mut all: HashMap<String, Vec<Taken>> = HashMap::new();
    for id in 0..PROCESSES {
        let text = fs::read_to_string(folder.path().join(id.to_string())).expect("read");
        for line in text.lines() {
            let words: Vec<&str> = line.split(' ').collect();
            let [key, began, ended, number, rounds] = words[..] else { panic!("half a line: {line:?}") };
            let count = |word: &str| word.parse::<u64>().expect("a number");
            let taken = Taken {
                began: count(began),
                ended: count(ended),
                number: count(number),
                rounds: count(rounds) as u8,
            };
            all.entry(key.to_owned()).or_default().push(taken);
        }
    }
    let mut shares: HashMap<&str, (usize, usize)> = HashMap::new();
    for (key, taken) in &mut all {
        check_order(key, taken);
        let (at_once, of) = shares.entry(key.trim_end_matches(char::is_numeric)).or_default();
        *at_once += taken.iter().filter(|it| it.rounds == 1).count();
        *of += taken.len();
    }
    println!("numbered in one round: {shares:?}");
    let (at_once, of) = shares["own"];
    assert_eq!(at_once, of, "with sane clocks and no rival, one round is enough");
    let (at_once, of) = shares["far"];
    assert!(at_once < of, "no number needed a second round, so none was shown to be sound");
    assert_eq!(shares["far"].1 + shares["hot"].1, PROCESSES * KEYS * TURNS);
}

fn check_order(key: &str, taken: &mut [Taken]) {
    taken.sort_unstable_by_key(|it| it.number);
    for pair in taken.windows(2) {
        assert!(pair[0].number < pair[1].number, "{key}: one number twice: {pair:?}");
    }
    // From the largest number down: nobody with a smaller one may have begun after somebody with a larger had ended.
    let mut first_end = u64::MAX;
    for it in taken.iter().rev() {
        assert!(it.began < first_end, "{key}: {it:?} came after a larger number was given");
        first_end = first_end.min(it.ended);
    }
}

fn work(id: &str) {
    let folder = PathBuf::from(std::env::var_os("QUORLOCK_TEST_FOLDER").expect("told"));
    let nodes = std::env::var("QUORLOCK_TEST_NODES").expect("told");
    let rounds: Arc<Mutex<HashMap<(String, u64), u8>>> = Arc::default();
    let listener = Arc::clone(&rounds);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let taken = runtime.block_on(async {
        let redlock = Redlock::builder()
            .nodes(nodes.split(','))
            .max_ttl(secs(60))
            .observer(move |event: &Event<'_>| {
                if let Event::Acquired { key, number: Some(number), rounds, .. } = event {
                    let mut heard = listener.lock().unwrap_or_else(PoisonError::into_inner);
                    heard.insert(((*key).to_owned(), *number), *rounds);
                }
            })
            .connect()
            .await
            .expect("all are up");
        let shared = (0..KEYS).map(|key| format!("{}{key}", if key % 2 == 0 { "hot" } else { "far" }));
        let tasks: Vec<_> = (shared.chain([format!("own{id}")]))
            .enumerate()
            .map(|(place, key)| {
                let seed = (id.parse::<u64>().expect("a number") << 8 | place as u64) + 1;
                tokio::spawn(take_turns(redlock.clone(), key, seed))
            })
            .collect();
        let mut taken = Vec::new();
        for task in tasks {
            taken.extend(task.await.expect("no panic"));
        }
        redlock.shutdown(secs(10)).await.expect("nothing is owed");
        taken
    });
    let rounds = rounds.lock().unwrap_or_else(PoisonError::into_inner);
    let lines = taken.into_iter().map(|(key, it)| {
        let rounds = rounds[&(key.clone(), it.number)];
        format!("{key} {} {} {} {rounds}\n", it.began, it.ended, it.number)
    });
    fs::write(folder.join(id), lines.collect::<String>()).expect("written");
}

/// Takes a lock again and again, for so short that its keys expire under others, and under itself.
async fn take_turns(redlock: Redlock, key: String, seed: u64) -> Vec<(String, Taken)> {
    let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut taken = Vec::new();
    while taken.len() < TURNS {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let ttl = millis(10 + random % 21);
        let mutex = redlock.mutex(&key).ttl(ttl).auto_renew(false).attempt_timeout(ttl / 4);
        // Past all clocks there is no number that nodes would choose alike, so second rounds are needed.
        let mutex = if key.starts_with("far") { mutex.min_fencing_number(1 << 52) } else { mutex };
        if random.is_multiple_of(3) {
            // Walks away, often in mid-flight: some nodes have given a number then, and others not.
            let walk = timeout(Duration::from_micros(random % 1000), mutex.clone().acquire());
            drop(walk.await);
        }
        let began = boot_nanos();
        let guard = mutex.acquire().await.expect("waits for ever");
        let (ended, number) = (boot_nanos(), number(&guard));
        taken.push((key.clone(), Taken { began, ended, number, rounds: 0 }));
        match (random >> 32) % 8 {
            // Held until it has run out, and a little longer.
            0 => sleep(ttl + Duration::from_micros(random % 3000)).await,
            1 => sleep(Duration::from_micros(random % 3000)).await,
            _ => {}
        }
        drop(guard);
    }
    taken
}

fn boot_nanos() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

fn number(guard: &Guard) -> u64 {
    guard.fencing_token().expect("fenced").number
}

const NAME: &str = "fencing::fencing_numbers_of_six_processes_are_unique_and_ordered";

/// The number that each node has for this key.
fn fences(fleet: &LockCluster, key: &str) -> Vec<Option<u64>> {
    let fence = format!("quorlock:fence:{key}");
    fleet.servers().iter().map(|it| it.command(&["GET", &fence]).expect("up")).collect()
}

/// Takes and gives back; by then every node has the number.
async fn take(redlock: &Redlock, fleet: &LockCluster, key: &str) -> u64 {
    let guard = redlock.mutex(key).wait_timeout(secs(20)).acquire().await.expect("free");
    let number = number(&guard);
    eventually("every node that votes has the number", || async {
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
    let mut last = number(&guard);
    assert!(last > 1 << 52, "{last}");
    eventually("all three have it", || async { fences(&fleet, "k") == [Some(last); 3] }).await;
    guard.release().await.expect("released");
    for node in 0..3 {
        match node {
            0 => fleet[node].wipe().expect("flushed"),
            1 => fleet[node].restart(Data::Empty).expect("back"),
            _ => fleet[node].command(&["DEL", "quorlock:fence:k"]).expect("deleted"),
        }
        let next = take(&redlock, &fleet, "k").await;
        // Nobody's clock is at 2^52 µs: that is in the year 2112.
        assert!(next > last, "{next} after {last}, when node {node} had forgotten");
        eventually("all vote again", || async { redlock.node_status().await.iter().all(is_voting) }).await;
        last = take(&redlock, &fleet, "k").await;
        assert!(last > next, "{last} after {next}");
    }
}

#[tokio::test]
async fn fencing_numbers_continue_from_the_clocks_when_every_fence_is_deleted() {
    let fleet = fenced(5);
    let redlock = client(&fleet).await;
    let mut last = 0;
    for _ in 0..20 {
        let next = take(&redlock, &fleet, "k").await;
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
    eventually("all three have it", || async { fences(&fleet, "k") == [Some(token.number); 3] }).await;
    for server in &fleet.servers()[..2] {
        server.command::<()>(&["DEL", "quorlock:fence:k"]).expect("deleted");
    }
    fleet[2].command::<()>(&["DEL", "k", "quorlock:fence:k"]).expect("deleted");
    eventually("all three have it again", || async { fences(&fleet, "k") == [Some(token.number); 3] }).await;
    guard.extend(secs(2)).await.expect("extended");
    assert_eq!(guard.fencing_token(), Some(token));
}

#[tokio::test]
async fn a_minimum_fencing_number_is_applied_reported_and_bounded() {
    let fleet = fenced(3);
    let heard: Arc<Mutex<Vec<u64>>> = Arc::default();
    let listener = Arc::clone(&heard);
    let listening = builder(&fleet).observer(move |event: &Event<'_>| {
        if let Event::MinFencingNumberSet { number, .. } = event {
            listener.lock().expect("whole").push(*number);
        }
    });
    let redlock = listening.connect().await.expect("all are up");
    let largest = (1 << 53) - (1 << 40);
    let guard = redlock.mutex("k").min_fencing_number(largest).acquire().await.expect("just so");
    assert!(number(&guard) > largest && number(&guard) < 1 << 53, "{}", number(&guard));
    guard.release().await.expect("released");
    assert_eq!(*heard.lock().expect("whole"), [largest]);
    let refused = redlock.mutex("k").min_fencing_number(largest + 1).acquire().await.expect_err("too far");
    assert!(matches!(&refused, AcquireError::InvalidInput(_)), "{refused:?}");
    assert!(refused.to_string().contains(&largest.to_string()), "{refused}");

    let fleet = plain(3);
    let redlock = client(&fleet).await;
    let refused = redlock.mutex("k").min_fencing_number(1).acquire().await.expect_err("of no effect");
    assert!(refused.to_string().contains("plain"), "{refused}");
    let guard = redlock.mutex("k").acquire().await.expect("free");
    assert_eq!(guard.fencing_token(), None);
}
