//! Restarts: rolling and full ones, with waiters and with read-only clients.

use std::time::Duration;

use quorlock::{Guard, InitOutcome, Redlock, RedlockBuilder};
use quorlock_chaos::{Data, Fleet, LinkRules, Proxy, Server, Setup};
use tokio::task::{JoinHandle, block_in_place};
use tokio::time::{Instant, sleep};

use crate::support::{
    LockCluster, builder, client, eventually, fenced, fenced_with_max_ttl, initialize, is_up, is_voting,
    millis, nodes_with_key, secs,
};

/// The max ttl of the restarted lock clusters, and the ttl of their locks.
const MAX_TTL: Duration = secs(2);

fn key_of(guard: &Guard) -> &str {
    guard.key().to_str().expect("all names are text")
}

/// A task that waits for the key.
fn spawn_waiter(redlock: &Redlock, key: &str) -> JoinHandle<Guard> {
    let mutex = redlock.mutex(key).ttl(secs(2));
    tokio::spawn(async move { mutex.acquire().await.expect("waits without a limit") })
}

fn has_wait_queue(server: &Server, key: &str) -> bool {
    server.command(&["EXISTS", &format!("quorlock:waiters:{key}")]).expect("a reply")
}

/// The length of the wait queue of the key, summed over all nodes.
fn queue_length(fleet: &Fleet, key: &str) -> usize {
    let request = |server: &Server| {
        server.command::<usize>(&["ZCARD", &format!("quorlock:waiters:{key}")]).expect("a reply")
    };
    fleet.servers().iter().map(request).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_of_three_nodes_loses_no_lock_while_others_wait() {
    check_rolling_restart(3, &Setup::new(), true).await;
}

/// The comparison for the tests with waiters.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_of_three_nodes_loses_no_lock_without_waiters() {
    check_rolling_restart(3, &Setup::new(), false).await;
}

/// The nodes restart without data.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_of_five_nodes_without_data_loses_no_lock_while_others_wait() {
    check_rolling_restart(5, &Setup::new().append_only(false), true).await;
}

/// The documented procedure: restart a node, wait until it votes again, continue with the next. Six names, so
/// that several nodes have wait queues.
async fn check_rolling_restart(nodes: usize, setup: &Setup, others_wait: bool) {
    let mut fleet = Fleet::start_with(nodes, setup).expect("server starts");
    let clients = || Redlock::builder().nodes(fleet.urls()).max_ttl(MAX_TTL);
    initialize(clients());
    let [holder, other, observer] =
        [connected(clients()).await, connected(clients()).await, connected(clients()).await];
    let mut guards = Vec::new();
    for name in 0..6 {
        guards.push(holder.mutex(format!("k{name}")).ttl(MAX_TTL).acquire().await.expect("free"));
    }
    let waiting = guards.iter().filter(|_| others_wait);
    let waiters: Vec<_> = waiting.map(|guard| spawn_waiter(&other, key_of(guard))).collect();
    let total_queued = || guards.iter().map(|guard| queue_length(&fleet, key_of(guard))).sum::<usize>();
    eventually("all waiters are queued", || async { total_queued() == waiters.len() }).await;
    let mut failures = Vec::new();
    for node in 0..nodes {
        let before = observer.node_status().await[node].run_id.clone();
        block_in_place(|| fleet[node].restart(Data::Kept)).expect("restarted");
        let votes_again = async || {
            let status = &observer.node_status().await[node];
            status.run_id != before && status.is_voting()
        };
        eventually("it votes again", votes_again).await;
        let valid = guards.iter().filter(|guard| guard.is_valid()).count();
        failures.extend((valid < guards.len()).then(|| format!("{valid} locks are left after node {node}")));
    }
    // Twice the ttl; renewals are due every third of a ttl.
    let is_on_all_nodes = |guard: &Guard| nodes_with_key(&fleet, key_of(guard)) == nodes;
    let end = Instant::now() + 2 * MAX_TTL;
    while !guards.iter().all(is_on_all_nodes) && Instant::now() < end {
        sleep(millis(5)).await;
    }
    for guard in &guards {
        let count = nodes_with_key(&fleet, key_of(guard));
        if !guard.is_valid() || count < nodes {
            failures.push(format!(
                "{}: valid {}, on {count} nodes of {nodes}",
                guard.key(),
                guard.is_valid()
            ));
        }
    }
    let served = waiters.iter().filter(|waiter| waiter.is_finished()).count();
    waiters.iter().for_each(JoinHandle::abort);
    assert!(
        failures.is_empty() && served == 0,
        "{served} other clients were granted a lock\n{}",
        failures.join("\n")
    );
}

async fn connected(builder: RedlockBuilder) -> Redlock {
    let redlock = builder.connect().await.expect("all nodes are up");
    eventually("every node votes", || async { redlock.node_status().await.iter().all(is_voting) }).await;
    redlock
}

/// Three waiters are queued on a node that lacks the holder's key, because it lost the key or the holder does
/// not reach it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn waiters_do_not_poll_a_node_that_lacks_the_holders_key() {
    let (lost, partitioned) = tokio::join!(check_load(false), check_load(true));
    let failures: Vec<String> = lost.into_iter().chain(partitioned).collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// A message if the waiters sent too many commands.
async fn check_load(is_partitioned: bool) -> Option<String> {
    const TTL: Duration = secs(3);
    let fleet = fenced(3);
    let proxies: Vec<Proxy> =
        fleet.servers().iter().map(|server| Proxy::in_front_of(server, 1).expect("a port")).collect();
    let holder = builder(&fleet).nodes(proxies.iter().map(|proxy| proxy.url(0))).connect().await.expect("up");
    eventually("every node votes", || async { holder.node_status().await.iter().all(is_voting) }).await;
    let guard = holder.mutex("k").ttl(TTL).acquire().await.expect("free");
    let mut others = Vec::new();
    for _ in 0..3 {
        others.push(client(&fleet).await);
    }
    let waiters: Vec<_> = others.iter().map(|other| spawn_waiter(other, "k")).collect();
    eventually("all waiters are queued", || async { queue_length(&fleet, "k") == 3 }).await;
    let queue_node = fleet
        .servers()
        .iter()
        .position(|server| has_wait_queue(server, "k"))
        .expect("one node has the wait queue");
    let before = commands_in_5_s(&fleet).await;
    if is_partitioned {
        proxies[queue_node].set(0, LinkRules::PARTITIONED);
    }
    fleet[queue_node].command::<()>(&["DEL", "k"]).expect("deleted");
    // One failed attempt by another client.
    let visitor = client(&fleet).await.mutex("k").ttl(TTL).try_acquire().await;
    assert!(visitor.expect("a quorum replies").is_none());
    // By then each waiter has a reply about that node, because no waiter waits longer than the ttl.
    sleep(TTL).await;
    let after = commands_in_5_s(&fleet).await;
    assert!(guard.is_valid() && waiters.iter().all(|waiter| !waiter.is_finished()));
    waiters.iter().for_each(JoinHandle::abort);
    // Three waiters send some commands to every node; polling waiters would send ten times as many.
    let [total_before, total] = [&before, &after].map(|counts| counts.iter().sum::<u64>());
    (total > 2 * total_before + 100).then(|| {
        format!(
            "partitioned: {is_partitioned}, wait queue on node {queue_node}: {after:?} commands in 5 s, {before:?} before"
        )
    })
}

/// The number of commands that each node runs in five seconds, including those of scripts and two of this
/// function.
async fn commands_in_5_s(fleet: &Fleet) -> Vec<u64> {
    let count = |server: &Server| {
        let info: String = server.command(&["INFO", "stats"]).expect("a reply");
        let line = info.lines().find_map(|line| line.strip_prefix("total_commands_processed:"));
        line.expect("a command count").parse::<u64>().expect("a number")
    };
    let before: Vec<u64> = fleet.servers().iter().map(count).collect();
    sleep(secs(5)).await;
    fleet.servers().iter().zip(before).map(|(server, before)| count(server) - before).collect()
}

/// A connected read-only client, like `quorlock doctor` while it runs.
async fn read_only_client(cluster: &LockCluster) -> Redlock {
    let redlock = builder(cluster).read_only(true).connect().await.expect("all nodes are up");
    eventually("every node votes", || async { redlock.node_status().await.iter().all(is_voting) }).await;
    redlock
}

/// Restarts these nodes and waits until the observer has seen it and the max ttl has passed since.
async fn restart_and_wait(cluster: &mut LockCluster, nodes: &[usize], data: &Data, observer: &Redlock) {
    let before = observer.node_status().await;
    restart(cluster, nodes, data);
    eventually("the client sees it", || async {
        let now = observer.node_status().await;
        nodes.iter().all(|node| !now[*node].run_id.is_empty() && now[*node].run_id != before[*node].run_id)
    })
    .await;
    wait_for_probation().await;
}

fn restart(cluster: &mut LockCluster, nodes: &[usize], data: &Data) {
    for node in nodes {
        cluster[*node].kill();
    }
    for node in nodes {
        cluster[*node].restart(data.clone()).expect("restarted");
    }
}

/// Waits for the max ttl, the allowed clock drift and the time to write a marker.
async fn wait_for_probation() {
    sleep(MAX_TTL + MAX_TTL / 50 + millis(500)).await;
}

async fn acquire_at_once(cluster: &LockCluster) -> Result<(), String> {
    let redlock = builder(cluster).connect().await.map_err(|error| error.to_string())?;
    match redlock.mutex("k").ttl(MAX_TTL).try_acquire().await {
        Ok(Some(_)) => Ok(()),
        Ok(None) => Err("contended".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

#[tokio::test]
async fn probation_begins_when_a_read_only_client_is_connected() {
    let mut cluster = fenced_with_max_ttl(3, MAX_TTL);
    let read_only_client = read_only_client(&cluster).await;
    restart_and_wait(&mut cluster, &[1], &Data::Kept, &read_only_client).await;
    // Without the vote of the restarted node there is no quorum now.
    cluster[0].kill();
    assert_eq!(acquire_at_once(&cluster).await, Ok(()));
}

#[tokio::test]
async fn probation_begins_when_a_read_only_client_connects_once() {
    let mut cluster = fenced_with_max_ttl(3, MAX_TTL);
    restart(&mut cluster, &[1], &Data::Kept);
    let visitor = builder(&cluster).read_only(true).connect().await.expect("all nodes are up");
    eventually("probation is reported", || async { visitor.node_status().await[1].probation.is_some() })
        .await;
    visitor.shutdown(secs(10)).await.expect("no pending release");
    wait_for_probation().await;
    cluster[0].kill();
    assert_eq!(acquire_at_once(&cluster).await, Ok(()));
}

#[tokio::test]
async fn locks_are_granted_at_once_one_max_ttl_after_a_full_restart_seen_by_a_read_only_client() {
    let mut cluster = fenced_with_max_ttl(3, MAX_TTL);
    let read_only_client = read_only_client(&cluster).await;
    restart_and_wait(&mut cluster, &[0, 1, 2], &Data::Kept, &read_only_client).await;
    assert_eq!(acquire_at_once(&cluster).await, Ok(()));
}

/// The comparison for the tests with read-only clients.
#[tokio::test]
async fn locks_are_granted_at_once_one_max_ttl_after_a_full_restart_seen_by_a_locking_client() {
    let mut cluster = fenced_with_max_ttl(3, MAX_TTL);
    let locker = client(&cluster).await;
    restart_and_wait(&mut cluster, &[0, 1, 2], &Data::Kept, &locker).await;
    assert_eq!(acquire_at_once(&cluster).await, Ok(()));
}

#[tokio::test]
async fn a_read_only_client_does_not_initialize_blank_nodes() {
    let mut cluster = fenced_with_max_ttl(3, MAX_TTL);
    let read_only_client = read_only_client(&cluster).await;
    restart_and_wait(&mut cluster, &[0, 1, 2], &Data::Empty, &read_only_client).await;
    // At most it has drawn seats, when it still knew the other nodes as members.
    let has_roster = |server: &Server| {
        let record: Option<String> = server.command(&["GET", "quorlock:roster"]).expect("a reply");
        record.is_some_and(|it| it != NO_ROSTER)
    };
    assert!(!cluster.servers().iter().any(has_roster));
    assert!(!read_only_client.node_status().await.iter().any(is_up));
    // So they still are new servers.
    let outcome = builder(&cluster).initialize().await.expect("no node belongs to a lock cluster");
    assert_eq!(outcome, InitOutcome::Initialized);
}

/// A record without roster, promise and accepted proposal.
const NO_ROSTER: &str = ";;;";
