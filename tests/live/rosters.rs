//! Rosters: lock clusters that are founded, recovered and changed by clients, without a command.

use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use quorlock::event::Event;
use quorlock::node::{ExclusionReason, NodeState, SeatStatus};
use quorlock::{AcquireError, Guard, LockView, Redlock, RedlockBuilder};
use quorlock_chaos::{Data, Fleet, MovableAddress, Server, Setup};
use tokio::task::{JoinSet, block_in_place};
use tokio::time::{Instant, sleep};

use crate::support::{
    blank_servers, builder, client, eventually, fenced_with_max_ttl, initialize, is_up, is_voting, millis,
    secs,
};

/// Longer than each short-lived client waits.
const MAX_TTL: Duration = secs(4);

/// Runs short-lived clients one after another, as a script does that repeats `quorlock run`, until one has acquired
/// the lock. Returns how long that took.
async fn first_lock(fleet: &Fleet) -> Duration {
    let began = Instant::now();
    loop {
        let redlock = Redlock::builder().nodes(fleet.urls()).max_ttl(MAX_TTL).connect_lazy().expect("built");
        let outcome = redlock.mutex("k").ttl(secs(1)).wait_timeout(secs(2)).acquire().await;
        let after = began.elapsed();
        if let Ok(guard) = outcome {
            guard.release().await.expect("held until then");
            return after;
        }
        redlock.shutdown(secs(2)).await.expect("no pending release");
        assert!(after < MAX_TTL + secs(10), "no lock after {after:?}: {outcome:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn short_lived_clients_found_and_recover_a_lock_cluster_without_an_absent_server() {
    let mut fleet = blank_servers(5);
    // No client has ever reached it.
    fleet[4].kill();
    let founded = first_lock(&fleet).await;
    assert!(founded >= MAX_TTL, "the absent server was not waited for: {founded:?}");

    for node in 0..3 {
        fleet[node].kill();
    }
    for node in 0..3 {
        block_in_place(|| fleet[node].restart(Data::Empty)).expect("restarted");
    }
    // The locks of before may be on the absent server and on the one that kept its data.
    let recovered = first_lock(&fleet).await;
    assert!(recovered >= MAX_TTL, "locks that run are not respected: {recovered:?}");

    block_in_place(|| fleet[4].restart(Data::Empty)).expect("started");
    let redlock = Redlock::builder().nodes(fleet.urls()).max_ttl(MAX_TTL).connect().await.expect("a quorum");
    eventually("all five servers vote", || async { redlock.node_status().await.iter().all(is_voting) }).await;
}

#[tokio::test]
async fn a_lock_cluster_is_founded_without_an_unreachable_server_which_joins_later() {
    let mut fleet = blank_servers(3);
    let list = || Redlock::builder().nodes(fleet.urls()).max_ttl(MAX_TTL);
    let builders = [list(), list()];
    fleet[2].kill();
    let [founder, locker] = builders;
    let began = Instant::now();
    founder.initialize_without_unreachable().await.expect("two of three servers reply");
    let (sender, events) = mpsc::channel();
    let locker = locker.on_event(move |event| drop(sender.send(event.clone()))).connect().await;
    let redlock = locker.expect("two of three servers reply");
    let attempt = redlock.mutex("k").ttl(secs(1)).try_acquire().await;
    assert!(matches!(attempt, Err(AcquireError::OnProbation { .. })), "{attempt:?}");
    let guard =
        redlock.mutex("k").ttl(secs(1)).wait_timeout(secs(20)).acquire().await.expect("probation ends");
    let after = began.elapsed();
    assert!(after >= MAX_TTL, "the locks of the unreachable server are not respected: {after:?}");
    guard.release().await.expect("held until then");
    let seats = seats(&redlock).await;
    assert_eq!(seats.iter().map(|it| it.is_vacant).collect::<Vec<_>>(), [false, false, true], "{seats:?}");

    fleet[2].restart(Data::Empty).expect("started");
    eventually("all three servers vote", || async { redlock.node_status().await.iter().all(is_voting) })
        .await;
    let joined = seats_of(&redlock.node_status().await);
    assert!(joined.iter().all(|it| !it.is_vacant && it.epoch != seats[0].epoch), "{joined:?}");
    assert!(joined[2].changed_at.is_some(), "{joined:?}");
    let address = redlock.node_status().await[2].address.clone();
    let is_joined = |event: &Event| matches!(event, Event::SeatChanged { node, is_vacant: false, .. } if *node == address);
    assert_eq!(events.try_iter().filter(is_joined).count(), 1);
}

/// With the roster sealed while a seat changes hands, both of the remaining nodes cast no vote for a moment.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_single_attempt_fails_when_one_node_restarts() {
    let mut cluster = fenced_with_max_ttl(3, MAX_TTL);
    // The second client changes the roster, too.
    let clients = [client(&cluster).await, client(&cluster).await];
    let stop = Arc::new(Mutex::new(false));
    let done = Arc::new(Mutex::new(0));
    let (is_over, count_done, redlock) = (Arc::clone(&stop), Arc::clone(&done), clients[0].clone());
    let attempts = tokio::spawn(async move {
        for count in 0.. {
            if *is_over.lock().expect("no panic") {
                return count;
            }
            // An attempt outlasts the change also on a busy machine.
            let mutex = redlock.mutex(format!("k{count}")).ttl(MAX_TTL).attempt_timeout(secs(1));
            let attempt = mutex.try_acquire().await;
            let guard = attempt.unwrap_or_else(|error| panic!("attempt {count}: {error}")).expect("free");
            guard.release().await.expect("held until then");
            *count_done.lock().expect("no panic") = count;
        }
        0
    });
    for node in 0..3 {
        let before = seats(&clients[0]).await[node].clone();
        block_in_place(|| cluster[node].restart(Data::Kept)).expect("restarted");
        for redlock in &clients {
            eventually("it votes again", || async {
                let nodes = redlock.node_status().await;
                seats_of(&nodes)[node] != before && nodes.iter().all(is_voting)
            })
            .await;
        }
        // An attempt that began earlier lacks the vote of this node, and must not lose another one.
        let earlier = *done.lock().expect("no panic");
        eventually("a later attempt is done", || async {
            attempts.is_finished() || *done.lock().expect("no panic") > earlier + 1
        })
        .await;
    }
    *stop.lock().expect("no panic") = true;
    assert!(attempts.await.expect("no attempt fails") > 100);
}

/// The locks that are held now.
type Held = Arc<Mutex<Vec<LockView>>>;

/// Acquires the lock, and checks for a while that no other guard is valid.
async fn hold(redlock: Redlock, key: String, held: Held) {
    let guard: Guard =
        redlock.mutex(key).ttl(secs(1)).wait_timeout(secs(20)).acquire().await.expect("granted");
    let check = |held: &[LockView]| {
        let valid = held.iter().filter(|view| view.is_valid()).count();
        assert!(valid <= 1, "{valid} valid guards");
    };
    {
        let mut held = held.lock().expect("no other check failed");
        held.push(guard.view());
        check(&held);
    }
    sleep(millis(10)).await;
    {
        let mut held = held.lock().expect("no other check failed");
        check(&held);
        held.retain(|view| view.owner_hash() != guard.owner_hash());
    }
    guard.release().await.expect("held until then");
}

/// Both clients contend for a lock, 40 times.
async fn contend(clients: [&Redlock; 2]) {
    for round in 0..40 {
        let held = Held::default();
        let mut tasks = JoinSet::new();
        for redlock in clients {
            tasks.spawn(hold(redlock.clone(), format!("k{round}"), Arc::clone(&held)));
        }
        while let Some(task) = tasks.join_next().await {
            task.expect("one holder at a time");
        }
    }
}

/// The first client stays connected to the old server, and the second one reaches the new server. Each of them and one
/// of the other nodes would be a quorum.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_that_moves_to_a_blank_server_is_one_vote() {
    let fleet = blank_servers(3);
    let blank = Server::start(&Setup::new()).expect("server starts");
    let mut address = MovableAddress::of(&fleet[1]).expect("a port");
    let urls = [fleet[0].url(), address.url(), fleet[2].url()];
    let list = || Redlock::builder().nodes(urls.clone()).max_ttl(MAX_TTL);
    initialize(list());
    let reasons = Arc::new(Mutex::new(Vec::new()));
    let recorded = Arc::clone(&reasons);
    let old = connected(list().on_event(move |event| {
        if let Event::NodeDown { reason, .. } = event {
            recorded.lock().expect("no panic").push(reason.to_string());
        }
    }))
    .await;
    let old_run_id = old.node_status().await[1].run_id.clone();
    address.move_new_connections_to(&blank);
    let moved_at = Instant::now();
    let new = list().connect().await.expect("a quorum");
    eventually("the other server replies", || async {
        let run_id = new.node_status().await[1].run_id.clone();
        !run_id.is_empty() && run_id != old_run_id
    })
    .await;
    contend([&old, &new]).await;
    let run_id = new.node_status().await[1].run_id.clone();
    for redlock in [&old, &new] {
        eventually("the new server votes", || async {
            let node = &redlock.node_status().await[1];
            node.run_id == run_id && node.is_voting()
        })
        .await;
        assert!(moved_at.elapsed() >= MAX_TTL, "it votes before its probation is over");
    }
    contend([&old, &new]).await;
    let reasons = reasons.lock().expect("no panic");
    assert_eq!(*reasons, ["another server has its seat"], "why the first client dialed again");
}

/// Both lists have two nodes in common. The third is another database of the same server.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_with_another_database_makes_no_second_lock_cluster() {
    let cluster = fenced_with_max_ttl(3, secs(1));
    let usual = client(&cluster).await;
    let urls = [cluster[0].url(), cluster[1].url(), format!("{}/1", cluster[2].url())];
    let list = Redlock::builder().nodes(urls).max_ttl(secs(1));
    let odd = list.connect().await.expect("two of its nodes vote");
    contend([&usual, &odd]).await;
    // It stays so, however long it takes.
    sleep(secs(2)).await;
    contend([&usual, &odd]).await;
    let nodes = odd.node_status().await;
    assert!(is_up(&nodes[0]) && is_up(&nodes[1]), "{nodes:?}");
    assert!(
        matches!(&nodes[2].state, NodeState::Excluded(ExclusionReason::OtherNodeList(reason)) if reason.contains("another list")),
        "{nodes:?}"
    );
    let same = |seats: &[SeatStatus]| seats.iter().map(|it| it.same_node_list).collect::<Vec<_>>();
    assert_eq!((same(&seats_of(&nodes)), same(&seats(&usual).await)), (vec![false; 3], vec![true; 3]));
    let keys: Vec<String> = other_database(&cluster[2]);
    assert!(keys.iter().all(|key| !key.starts_with('k')), "{keys:?}");
}

/// The keys in database 1.
fn other_database(server: &Server) -> Vec<String> {
    server.swap_databases().expect("swapped");
    server.command(&["KEYS", "*"]).expect("a reply")
}

/// Both clients reach the same servers under different addresses.
#[tokio::test]
async fn clients_with_the_same_names_of_nodes_have_the_same_list() {
    let fleet = blank_servers(3);
    let address = |server| MovableAddress::of(server).expect("a port");
    let tunnels: Vec<MovableAddress> = fleet.servers().iter().map(address).collect();
    let names = ["a", "b", "c"];
    initialize(Redlock::builder().nodes(fleet.urls()).node_names(names).max_ttl(secs(1)));
    let urls = || tunnels.iter().map(MovableAddress::url);
    let unnamed = connected(Redlock::builder().nodes(urls()).max_ttl(secs(1))).await;
    assert!(seats(&unnamed).await.iter().all(|seat| !seat.same_node_list));
    unnamed.shutdown(secs(10)).await.expect("no pending release");
    fleet[1].wipe().expect("flushed");
    let redlock = connected(Redlock::builder().nodes(urls()).node_names(names).max_ttl(secs(1))).await;
    let seats = seats(&redlock).await;
    assert!(seats.iter().all(|seat| seat.same_node_list) && seats[1].changed_at.is_some(), "{seats:?}");
}

#[tokio::test]
async fn a_seat_that_changes_hands_is_reported_once() {
    let mut cluster = fenced_with_max_ttl(3, secs(2));
    let (sender, events) = mpsc::channel();
    let recorded = builder(&cluster).on_event(move |event| drop(sender.send(event.clone())));
    let redlock = connected(recorded).await;
    let before = seats(&redlock).await;
    assert!(before.iter().all(|it| it.changed_at.is_none() && &*it.epoch == "1.0"), "{before:?}");
    cluster[1].restart(Data::Empty).expect("restarted");
    eventually("its seat changes hands", || async { seats(&redlock).await[1].changed_at.is_some() }).await;
    eventually("every node votes", || async { redlock.node_status().await.iter().all(is_voting) }).await;
    let nodes = redlock.node_status().await;
    let changed: Vec<_> = events
        .try_iter()
        .filter_map(|event| match event {
            Event::SeatChanged { node, epoch, is_vacant, .. } => Some((node, epoch.to_string(), is_vacant)),
            _ => None,
        })
        .collect();
    assert_eq!(changed, [(nodes[1].address.clone(), "1.1".to_owned(), false)]);
}

async fn connected(builder: RedlockBuilder) -> Redlock {
    let redlock = builder.connect().await.expect("all nodes are up");
    eventually("every node votes", || async { redlock.node_status().await.iter().all(is_voting) }).await;
    redlock
}

fn seats_of(nodes: &[quorlock::node::NodeStatus]) -> Vec<SeatStatus> {
    nodes.iter().map(|node| node.seat.clone().expect("the client follows a roster")).collect()
}

async fn seats(redlock: &Redlock) -> Vec<SeatStatus> {
    seats_of(&redlock.node_status().await)
}
