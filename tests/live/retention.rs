//! Fencing retention: how long nodes keep the fences of free names, and `forget`.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use quorlock::Redlock;
use quorlock::error::ForgetError;
use quorlock::event::Event;
use quorlock::node::{NodeReply, NodeStatus};
use quorlock_chaos::{ClockLibrary, Fleet, Setup};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::support::{
    blank_servers, builder, client, eventually, fenced, fenced_with_max_ttl, initialize, is_voting,
    lock_keys, plain, secs, with_setup,
};

/// The number of fences on each node.
fn fences(fleet: &Fleet) -> Vec<usize> {
    let count = |server: &quorlock_chaos::Server| {
        server.command::<Vec<String>>(&["KEYS", "quorlock:fence:*"]).expect("it is up").len()
    };
    fleet.servers().iter().map(count).collect()
}

/// The fields of a node's marker.
fn marker(server: &quorlock_chaos::Server) -> Vec<String> {
    let marker: String = server.command(&["GET", "quorlock:node"]).expect("it is up");
    marker.split(' ').map(str::to_owned).collect()
}

/// The clock of a node in microseconds.
fn clock_micros(server: &quorlock_chaos::Server) -> u64 {
    let time: Vec<u64> = server.command(&["TIME"]).expect("it is up");
    time[0] * 1_000_000 + time[1]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_is_forgotten_once_the_node_clocks_have_passed_its_fencing_number() {
    let fleet = fenced_with_max_ttl(3, Duration::from_millis(300));
    let redlock = client(&fleet).await;
    let lock = || redlock.mutex("order:1").ttl(Duration::from_millis(300));
    let guard = lock().acquire().await.expect("free");
    let first = guard.fencing_token().expect("fenced").number;
    match redlock.forget("order:1").await {
        Err(error @ ForgetError::HeldByOthers { .. }) => {
            assert!(error.to_string().contains("order:1"), "{error}");
        }
        other => panic!("forget of a held lock: {other:?}"),
    }
    guard.release().await.expect("released");
    assert_eq!(fences(&fleet), [1; 3], "the fences of a held lock are kept");
    redlock.forget("order:1").await.expect("free");
    let guard = lock().acquire().await.expect("free");
    assert!(guard.fencing_token().expect("fenced").number > first, "the next number is larger");
    guard.release().await.expect("released");
    redlock.forget("order:1").await.expect("it is free again");
    eventually("no node has the fence", || async { fences(&fleet) == [0; 3] }).await;
    let replies = redlock.forget("order:1").await.expect("forget succeeds again");
    assert_eq!(replies.iter().filter(|(_, reply)| **reply == NodeReply::NotHeld).count(), 3);
    let guard = lock().acquire().await.expect("free");
    assert!(guard.fencing_token().expect("fenced").number > first, "the next number is larger again");
}

#[tokio::test(flavor = "multi_thread")]
async fn forget_fails_without_a_quorum_and_on_a_plain_client() {
    let mut servers = fenced(3);
    let redlock = client(&servers).await;
    drop(redlock.mutex("k").acquire().await.expect("free"));
    (0..2).for_each(|node| servers[node].kill());
    match redlock.forget("k").await {
        Err(ForgetError::NoQuorum { replies, .. }) => assert_eq!(replies.len(), 3),
        other => panic!("forget with one of three nodes: {other:?}"),
    }
    let bad = redlock.forget("").await;
    assert!(matches!(bad, Err(ForgetError::InvalidInput(_))), "{bad:?}");
    let servers = plain(1);
    let bad = client(&servers).await.forget("k").await;
    assert!(
        matches!(&bad, Err(ForgetError::InvalidInput(bad)) if bad.to_string().contains("plain")),
        "{bad:?}"
    );
}

/// An invalid fence prevents every lock of its name.
#[tokio::test(flavor = "multi_thread")]
async fn a_name_with_invalid_fences_is_usable_again_after_forget() {
    let servers = fenced(3);
    let redlock = client(&servers).await;
    for server in servers.servers() {
        server.command::<()>(&["SET", "quorlock:fence:k", "a poem"]).expect("set");
    }
    assert!(redlock.mutex("k").try_acquire().await.is_err());
    redlock.forget("k").await.expect("free");
    assert!(redlock.mutex("k").try_acquire().await.expect("all nodes are up").is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_cannot_shorten_the_fencing_retention_of_a_lock_cluster() {
    let servers = fenced(3);
    let redlock = builder(&servers).fencing_retention(secs(120)).connect().await.expect("all nodes are up");
    let guard = redlock.mutex("k").acquire().await.expect("free");
    guard.release().await.expect("held until then");
    let ttl: i64 = servers[0].command(&["PTTL", "quorlock:fence:k"]).expect("it is up");
    assert!((3_590_000..=3_600_000).contains(&ttl), "{ttl} ms");
}

/// A client like `quorlock run`, without earlier clock readings.
#[tokio::test(flavor = "multi_thread")]
async fn a_new_client_detects_a_clock_that_was_set_back_before_it_connected() {
    let Ok(library) = ClockLibrary::build().inspect_err(|error| eprintln!("skipped: {error}")) else {
        return;
    };
    let servers = Fleet::start_with(3, &Setup::new().clocks(&library)).expect("server starts");
    let builder = Redlock::builder().nodes(servers.urls()).max_ttl(secs(2)).fencing_retention(secs(4));
    initialize(builder.clone());
    let base = || marker(&servers[0])[8].parse::<u64>().expect("a base");
    let redlock = builder.clone().connect().await.expect("all nodes are up");
    let noted =
        || async { servers[0].command::<Option<u64>>(&["GET", "quorlock:clock"]).expect("up").is_some() };
    eventually("the node has a clock record", noted).await;
    // The marker is older than the step, so its own time does not reveal the step.
    let since = marker(&servers[0])[6].parse::<u64>().expect("a time");
    let is_old = || async { clock_micros(&servers[0]) > since + 3_500_000 };
    eventually("the marker is older than the step, and the clock was recorded since", is_old).await;
    let _ = redlock.shutdown(secs(1)).await;
    assert_eq!(base(), 0);
    let before: u64 = servers[0].command(&["GET", "quorlock:clock"]).expect("noted");
    servers[0].clock().expect("the server has its own clock").step(-3_000_000).expect("written");
    let redlock = builder.connect().await.expect("two vote");
    eventually("the node has a new marker", || async { base() >= before }).await;
    eventually("it votes", || async { redlock.node_status().await.iter().all(is_voting) }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_warning_is_given_before_fences_fill_the_memory_of_a_node() {
    let setup = Setup::new().args(["--maxmemory", "20mb", "--maxmemory-policy", "noeviction"]);
    let servers = with_setup(1, &setup, false);
    let warnings: Arc<Mutex<Vec<String>>> = Arc::default();
    let listener = Arc::clone(&warnings);
    let connect = || {
        let listener = Arc::clone(&listener);
        builder(&servers).max_ttl(secs(60)).on_event(move |event: &Event| {
            if let Event::NodeWarning { warning, .. } = event {
                listener.lock().expect("not poisoned").push(warning.to_string());
            }
        })
    };
    let status = |redlock: &Redlock| {
        let redlock = redlock.clone();
        async move { redlock.node_status().await.remove(0) }
    };
    let redlock = connect().connect().await.expect("it is up");
    let before: NodeStatus = status(&redlock).await;
    assert_eq!((before.fences.map(|fences| fences.count), before.warnings.len()), (Some(0), 0));
    // Enough for 45 % of the memory.
    let fill =
        "for i = 1, 60000 do redis.call('SET', 'quorlock:fence:order:' .. i, 1.7e15 + i, 'PX', 3600000) end";
    servers[0].command::<()>(&["EVAL", fill, "0"]).expect("there is room");
    let redlock = connect().connect().await.expect("it is up");
    let after = status(&redlock).await;
    let fences = after.fences.expect("a fenced client knows");
    assert!((45_000..=62_000).contains(&fences.count) && fences.memory == Some(20 << 20), "{fences:?}");
    assert!(
        after.warnings.iter().any(|warning| warning.to_string().contains("fencing numbers take")),
        "{:?}",
        after.warnings
    );
    assert!(warnings.lock().expect("not poisoned").iter().any(|warning| warning.contains("quorlock forget")));
    assert!(
        redlock.mutex("k").try_acquire().await.expect("there is room").is_some(),
        "the warning does not prevent locking"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_force_released_lock_stays_released_when_its_name_is_forgotten() {
    let servers = fenced_with_max_ttl(3, secs(1));
    let (redlock, operator) = (client(&servers).await, client(&servers).await);
    let guard = redlock.mutex("k").ttl(secs(1)).acquire().await.expect("free");
    // A name is forgotten at once when it is older than the max ttl and 250 ms.
    let number = guard.fencing_token().expect("fenced").number;
    let is_old =
        || async { servers.servers().iter().all(|server| clock_micros(server) > number + 1_250_000) };
    eventually("the fencing number is old enough", is_old).await;
    assert!(guard.is_valid(), "the lock is renewed");
    operator.force_release("k").await.expect("a reply");
    operator.forget("k").await.expect("free");
    eventually("the holder sees the loss", || async { !guard.is_valid() }).await;
    // The lock must not come back within a whole ttl, in which the holder would have renewed three times.
    sleep(secs(1)).await;
    assert!(operator.inspect("k").await.expect("a reply").is_free());
}

/// A client has connected while the clock was wrong after a boot.
#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_was_once_far_ahead_does_not_make_fences_permanent() {
    let mut servers = blank_servers(3);
    let builder = Redlock::builder().nodes(servers.urls()).max_ttl(secs(1)).fencing_retention(secs(2));
    initialize(builder.clone());
    servers[0].command::<()>(&["SET", "quorlock:clock", "1900000000000000"]).expect("set");
    let redlock = builder.connect().await.expect("all nodes are up");
    let base = || marker(&servers[0])[8].parse::<u64>().expect("a base");
    eventually("the node has a new marker", || async { base() == 1_900_000_000_000_000 }).await;
    eventually("it votes", || async { redlock.node_status().await.iter().all(is_voting) }).await;
    let numbers = |last: u64| {
        let lock = redlock.mutex("order:1").ttl(secs(1));
        async move {
            let guard = lock.acquire().await.expect("free");
            let number = guard.fencing_token().expect("fenced").number;
            guard.release().await.expect("released");
            assert!(number > last, "{number} after {last}");
            number
        }
    };
    let mut last = 0;
    for _ in 0..5 {
        last = numbers(last).await;
    }
    for server in servers.servers() {
        let ttl: i64 = server.command(&["PTTL", "quorlock:fence:order:1"]).expect("it is up");
        assert!(ttl <= 2_000, "{ttl} ms");
    }
    eventually("no node has the fence", || async { fences(&servers) == [0; 3] }).await;
    // Numbers also increase with only the nodes whose clocks were always right.
    servers[0].kill();
    numbers(last).await;
}

/// A thousand names in every run; the long run sets `QUORLOCK_NAMES=1000000`.
#[tokio::test(flavor = "multi_thread")]
async fn names_used_once_are_forgotten_completely() {
    let count = std::env::var("QUORLOCK_NAMES").map_or(1_000, |count| count.parse().expect("a number"));
    let servers = blank_servers(3);
    let builder = Redlock::builder().nodes(servers.urls()).max_ttl(secs(1)).fencing_retention(secs(2));
    initialize(builder.clone());
    let redlock = builder.connect().await.expect("all nodes are up");
    let mut tasks = JoinSet::new();
    for task in 0..TASKS {
        let redlock = redlock.clone();
        tasks.spawn(async move {
            for command in (task..count).step_by(TASKS) {
                let lock = redlock.mutex(format!("order:{command}")).ttl(secs(1));
                lock.acquire().await.expect("free").release().await.expect("released");
                if command % 100_000 == 99_999 {
                    println!("{} names", command + 1);
                }
            }
        });
    }
    tasks.join_all().await;
    let left = fences(&servers);
    println!("{count} names; fences left on each node: {left:?}");
    assert!(left.iter().all(|left| *left > 0), "fences are kept for a while: {left:?}");
    eventually("all fences are forgotten", || async { fences(&servers) == [0; 3] }).await;
    assert!(lock_keys(&servers).iter().all(Vec::is_empty), "{:?}", lock_keys(&servers));
}

const TASKS: usize = 32;
