//! Locks that are handed to another client or process by a ticket.

use std::io::{BufRead, BufReader, Write as _};
use std::net::TcpStream;
use std::sync::mpsc;
use std::time::SystemTime;

use futures::FutureExt;
use quorlock::error::{AdoptError, TicketError};
use quorlock::event::{Event, LossReason};
use quorlock::inspect::KeyOwner;
use quorlock::node::NodeReply;
use quorlock::{FencingToken, Guard, LockTicket, Mode, Redlock};
use quorlock_chaos::{LinkRules, Proxy, Server};
use tokio::time::timeout;

use crate::support::{
    LockCluster, builder, client, eventually, fenced, key_count, millis, nodes_with_key, plain, secs,
};
use crate::wait_queue::{granted, notifications, spawn_waiter, unnotified_waiters};

/// Longer than every test: no lock expires and no renewal is due.
const LONG: std::time::Duration = secs(60);

/// A ticket for the lock `k`, whose keys are on every node.
async fn ticket(cluster: &LockCluster, redlock: &Redlock) -> LockTicket {
    let guard = redlock.mutex("k").ttl(LONG).acquire().await.expect("free");
    eventually("every node has the key", || async { nodes_with_key(cluster, "k") == cluster.len() }).await;
    guard.into_ticket().await.expect("held")
}

fn number(token: Option<FencingToken>) -> Option<u64> {
    token.map(|token| token.number)
}

/// The option that an invalid adoption names.
fn rejected_option(outcome: Result<Guard, AdoptError>) -> &'static str {
    let AdoptError::InvalidInput(invalid) = outcome.expect_err("not for this client") else {
        panic!("no request may be sent")
    };
    assert_eq!(invalid.key().map(ToString::to_string).as_deref(), Some("k"), "{invalid}");
    invalid.option().expect("an option")
}

#[tokio::test]
async fn a_lock_goes_to_another_client() {
    for cluster in [fenced(3), plain(3), fenced(5), plain(1)] {
        let (sender, events) = mpsc::channel();
        let record = move |event: &Event| drop(sender.send(event.clone()));
        let first = builder(&cluster).on_event(record).connect().await.expect("all nodes are up");
        let second = client(&cluster).await;
        let guard = first.mutex("k").ttl(LONG).acquire().await.expect("free");
        eventually("every node has the key", || async { nodes_with_key(&cluster, "k") == cluster.len() })
            .await;
        let (view, lost, owner) = (guard.view(), guard.cancellation_token(), guard.owner_hash());
        let (deadline, token) = (guard.deadline().system_time(), guard.fencing_token());
        let ticket = guard.into_ticket().await.expect("held");
        assert_eq!((ticket.key().to_string().as_str(), ticket.ttl()), ("k", LONG));
        assert_eq!(ticket.fencing_token(), token);
        assert!(ticket.expires_at() <= deadline && ticket.expires_at() + millis(2) > deadline);
        assert!(ticket.expires_at() > SystemTime::UNIX_EPOCH);
        // The guard has ended, and is not lost.
        assert!(!view.is_valid() && !lost.is_cancelled());
        assert_eq!((view.ended().await, view.loss_reason()), (None, None));
        // Its keys stay.
        let seen = second.inspect("k").await.expect("a reply");
        assert_eq!(seen.holder().map(|holder| holder.owner), Some(owner), "{seen:?}");

        let adopted = second.adopt(&ticket).await.expect("held until now");
        assert!(adopted.is_valid() && adopted.remaining() > LONG / 2);
        assert!(adopted.owner_hash() != owner);
        assert!(number(adopted.fencing_token()) > number(token) || token.is_none());
        let seen = first.inspect("k").await.expect("a reply");
        assert_eq!(seen.holder().map(|holder| holder.owner), Some(adopted.owner_hash()), "{seen:?}");
        assert!(adopted.release().await.expect("held until then").confirmed);
        eventually("no key is left", || async { key_count(&cluster) == 0 }).await;
        let is_end = |event: &Event| matches!(event, Event::Lost { .. } | Event::Released { .. });
        let ends: Vec<Event> = events.try_iter().filter(is_end).collect();
        assert!(ends.is_empty(), "{ends:?}");
        first.shutdown(secs(10)).await.expect("no lock is held");
    }
}

#[tokio::test]
async fn an_adopted_lock_is_renewed_and_can_be_handed_on() {
    for cluster in [fenced(3), plain(3)] {
        let clients = [client(&cluster).await, client(&cluster).await];
        let mut guard = clients[0].mutex("k").ttl(secs(3)).acquire().await.expect("free");
        for hop in 1..5 {
            let before = guard.fencing_token();
            let ticket = guard.into_ticket().await.expect("held");
            guard = clients[hop % 2].adopt(&ticket).await.expect("held");
            assert!(number(guard.fencing_token()) > number(before) || before.is_none());
        }
        let first = guard.deadline();
        eventually("it is renewed", || async { guard.deadline().boot_time() > first.boot_time() }).await;
        assert!(guard.is_valid());
        // Also by the client that had it.
        let ticket = guard.into_ticket().await.expect("held");
        let guard = clients[0].adopt(&ticket).await.expect("held");
        guard.release().await.expect("held until then");
        eventually("no key is left", || async { key_count(&cluster) == 0 }).await;
    }
}

#[tokio::test]
async fn a_ticket_is_adopted_once() {
    for cluster in [fenced(3), plain(3)] {
        let (first, second) = (client(&cluster).await, client(&cluster).await);
        let ticket = ticket(&cluster, &first).await;
        let copy = ticket.clone();
        let adopted = second.adopt(&ticket).await.expect("held");
        for redlock in [&first, &second] {
            let error = redlock.adopt(&copy).await.expect_err("adopted before");
            let AdoptError::NotHeld { key, replies, .. } = &error else { panic!("{error:?}") };
            assert!(*key == "k" && replies.iter().any(|(_, it)| matches!(it, NodeReply::HeldByOther { .. })));
            assert!(error.to_string().starts_with("lock \"k\": "), "{error}");
            assert!(!error.is_retryable() && error.replies().is_some());
        }
        assert!(adopted.is_valid() && nodes_with_key(&cluster, "k") == 3);
        adopted.release().await.expect("held until then");
        let error = first.adopt(&copy).await.expect_err("released");
        assert!(matches!(error, AdoptError::NotHeld { .. }), "{error:?}");
        eventually("no key is left", || async { key_count(&cluster) == 0 }).await;
    }
}

#[tokio::test]
async fn one_of_several_simultaneous_adopters_gets_the_lock_at_most() {
    for cluster in [fenced(3), plain(3), fenced(5)] {
        let mut clients = Vec::new();
        for _ in 0..4 {
            clients.push(client(&cluster).await);
        }
        let mut winners = 0;
        for _ in 0..20 {
            let ticket = ticket(&cluster, &clients[0]).await;
            let adoptions = clients.iter().map(|redlock| redlock.adopt(&ticket));
            let outcomes = futures::future::join_all(adoptions).await;
            let guards: Vec<Guard> = outcomes.into_iter().filter_map(Result::ok).collect();
            assert!(guards.len() <= 1, "{guards:?}");
            winners += guards.len();
            drop(guards);
            eventually("no key is left", || async { key_count(&cluster) == 0 }).await;
        }
        println!("{winners} of 20 tickets were adopted by one of four");
    }
}

#[tokio::test]
async fn an_expired_ticket_is_not_adopted() {
    for cluster in [fenced(3), plain(3)] {
        let redlock = client(&cluster).await;
        let guard = redlock.mutex("k").ttl(millis(300)).acquire().await.expect("free");
        let ticket = guard.into_ticket().await.expect("held");
        eventually("no process renews the keys", || async { key_count(&cluster) == 0 }).await;
        let error = redlock.adopt(&ticket).await.expect_err("expired");
        let AdoptError::NotHeld { replies, .. } = &error else { panic!("{error:?}") };
        assert!(replies.iter().filter(|(_, reply)| **reply == NodeReply::NotHeld).count() >= 2, "{error}");
        assert_eq!(key_count(&cluster), 0);
        // A later holder is not affected.
        let guard = redlock.mutex("k").ttl(LONG).acquire().await.expect("free");
        redlock.adopt(&ticket).await.expect_err("held by another");
        assert!(guard.is_valid() && guard.release().await.expect("held until then").confirmed);
    }
}

#[tokio::test]
async fn a_lock_is_adopted_although_one_node_is_down() {
    for mut cluster in [fenced(3), plain(3)] {
        let (first, second) = (client(&cluster).await, client(&cluster).await);
        let ticket = ticket(&cluster, &first).await;
        cluster[1].kill();
        let adopted = second.adopt(&ticket).await.expect("a quorum has the keys");
        assert!(adopted.is_valid());
        drop(adopted);
    }
}

#[tokio::test]
async fn without_a_quorum_a_lock_is_not_adopted() {
    for mut cluster in [fenced(3), plain(3)] {
        let (first, second) = (client(&cluster).await, client(&cluster).await);
        let ticket = ticket(&cluster, &first).await;
        (0..3).for_each(|node| cluster[node].pause());
        let error = second.adopt(&ticket).await.expect_err("no node replies");
        assert!(matches!(error, AdoptError::NoQuorum { .. }) && error.is_retryable(), "{error:?}");
        (0..3).for_each(|node| cluster[node].resume());
        // What the nodes do late is released.
        eventually("no key is left", || async { key_count(&cluster) == 0 }).await;
        drop((first, second));
    }
}

/// The process has just started, and the connection to one node is slow. Of the first two nodes, one lacks the key.
#[tokio::test]
async fn a_client_that_is_not_connected_yet_adopts_a_lock() {
    for cluster in [fenced(3), plain(3)] {
        let first = client(&cluster).await;
        let ticket = ticket(&cluster, &first).await;
        cluster[0].command::<()>(&["DEL", "k"]).expect("a reply");
        let proxy = Proxy::in_front_of(&cluster[2], 1).expect("a port");
        proxy.set(0, LinkRules::delayed(millis(50), millis(0)));
        let mut urls = cluster.urls();
        urls[2] = proxy.url(0);
        let second = builder(&cluster).nodes(urls).reply_timeout(secs(10)).dial_timeout(secs(20));
        let second = second.connect_timeout(secs(20)).connect_lazy().expect("valid options");
        let adopted = second.adopt(&ticket).await.expect("the other two have the key");
        adopted.release().await.expect("held until then");
    }
}

#[tokio::test]
async fn a_ticket_for_another_client_is_rejected_before_any_request() {
    for cluster in [fenced(3), plain(3)] {
        let first = client(&cluster).await;
        let is_fenced =
            matches!(first.mutex("other").acquire().await, Ok(guard) if guard.fencing_token().is_some());
        let ticket = ticket(&cluster, &first).await;
        let other_mode = if is_fenced { Mode::Plain } else { Mode::Fenced };
        let other = Redlock::builder().nodes(cluster.urls()).mode(other_mode).connect_lazy().expect("valid");
        assert_eq!(rejected_option(other.adopt(&ticket).await), "mode");
        let prefixed = builder(&cluster).key_prefix("app:").connect_lazy().expect("valid");
        assert_eq!(rejected_option(prefixed.adopt(&ticket).await), "key_prefix");
        let other_name = first.mutex("another").adopt(&ticket).await.expect_err("another lock");
        let AdoptError::InvalidInput(invalid) = &other_name else { panic!("{other_name:?}") };
        assert_eq!(invalid.option(), Some("name"));
        assert_eq!(
            rejected_option(first.mutex("k").wait_timeout(secs(1)).adopt(&ticket).await),
            "wait_timeout"
        );
        let too_long = first.mutex("k").ttl(secs(1_000_000_000)).adopt(&ticket).await;
        assert_eq!(rejected_option(too_long), "ttl");
        // The lock can still be adopted, with the options of a mutex.
        let mutex = first.mutex("k").ttl(secs(30)).auto_renew(false).max_hold_time(secs(40));
        let adopted = mutex.adopt(&ticket).await.expect("held");
        assert!(adopted.remaining() <= secs(30));
        assert!(adopted.extend(secs(50)).await.expect("held").remaining() <= secs(40));
        adopted.release().await.expect("held until then");
        eventually("no key is left", || async { key_count(&cluster) == 0 }).await;
    }
}

/// The key is the same: the ticket's client has a prefix.
#[tokio::test]
async fn a_ticket_keeps_the_key_prefix() {
    let cluster = fenced(3);
    let connect = || builder(&cluster).key_prefix("app:").connect();
    let (first, second) = (connect().await.expect("up"), connect().await.expect("up"));
    let guard = first.mutex("k").ttl(LONG).acquire().await.expect("free");
    let ticket = guard.into_ticket().await.expect("held");
    assert_eq!(ticket.key().to_string(), "app:k");
    let adopted = second.adopt(&ticket).await.expect("held");
    assert_eq!(adopted.key().to_string(), "app:k");
    drop(adopted);
}

/// Tasks of the client that adopted the lock contend for it like other processes, so its release hands it to no task
/// here.
#[tokio::test]
async fn the_release_of_an_adopted_lock_notifies_the_first_waiting_process() {
    for cluster in [fenced(3), plain(3)] {
        let (first, second, third) = (client(&cluster).await, client(&cluster).await, client(&cluster).await);
        let ticket = ticket(&cluster, &first).await;
        let adopted = second.adopt(&ticket).await.expect("held");
        let waiter = spawn_waiter(&cluster, &third).await;
        // Two tasks of the adopter: one contends for the lock, the other waits behind it.
        let contending = spawn_waiter(&cluster, &second).await;
        let behind = tokio::spawn({
            let redlock = second.clone();
            async move { redlock.mutex("k").acquire().await.expect("waits without a limit") }
        });
        tokio::task::yield_now().await;
        let (published, unnotified) = (notifications(&cluster), unnotified_waiters(&cluster));
        assert_eq!(unnotified, 2, "two processes wait");
        adopted.release().await.expect("held until then");
        let guard = granted(waiter).await;
        assert!(notifications(&cluster) > published, "the release notified the waiter");
        guard.release().await.expect("held until then");
        let guard = granted(contending).await;
        guard.release().await.expect("held until then");
        drop(granted(behind).await);
    }
}

/// Reads the commands that a server runs.
struct Monitor(BufReader<TcpStream>);

impl Monitor {
    fn start(server: &Server) -> Self {
        let mut stream = TcpStream::connect(("127.0.0.1", server.port())).expect("a connection");
        stream.set_read_timeout(Some(secs(20))).expect("a read timeout");
        stream.write_all(b"MONITOR\r\n").expect("sent");
        let mut monitor = Self(BufReader::new(stream));
        assert_eq!(monitor.next_with("OK"), "+OK");
        monitor
    }

    /// The next line that contains this text.
    fn next_with(&mut self, text: &str) -> String {
        loop {
            let mut line = String::new();
            self.0.read_line(&mut line).expect("a line");
            if line.contains(text) {
                return line.trim_end().to_owned();
            }
        }
    }
}

/// A task of the adopter that contends for the lock at its release, with another task behind it, does not make the
/// release a local hand-off.
#[tokio::test]
async fn the_release_of_an_adopted_lock_is_no_local_hand_off() {
    for mut cluster in [fenced(3), plain(3)] {
        let first = client(&cluster).await;
        let second = builder(&cluster).reply_timeout(secs(20)).connect().await.expect("all nodes are up");
        let ticket = ticket(&cluster, &first).await;
        let adopted = second.adopt(&ticket).await.expect("held");
        eventually("every node has the adopter's key", || async {
            let seen = first.inspect("k").await.expect("a reply");
            let owner = |reply: &NodeReply| matches!(reply, NodeReply::Inspected(it) if it.holder == KeyOwner::Owner(adopted.owner_hash()));
            seen.nodes.iter().all(|node| owner(&node.reply))
        })
        .await;
        let token: String = cluster[0].command(&["GET", "k"]).expect("a reply");
        let mut monitors: Vec<Monitor> = cluster.servers().iter().map(Monitor::start).collect();
        (0..3).for_each(|node| cluster[node].pause());
        let tasks = [(); 2].map(|()| {
            let mutex = second.mutex("k").ttl(LONG);
            tokio::spawn(async move { mutex.acquire().await.expect("waits without a limit") })
        });
        // One of them is contending when both have run, because no node replies.
        tokio::task::yield_now().await;
        drop(adopted);
        (0..3).for_each(|node| cluster[node].resume());
        // On another thread, because the driver runs on this one.
        let read = move || monitors.iter_mut().map(|monitor| monitor.next_with(&token)).collect::<Vec<_>>();
        let releases = tokio::task::spawn_blocking(read).await.expect("no panic");
        let notifying: Vec<&String> =
            releases.iter().filter(|line| line.contains("quorlock:waiters:k")).collect();
        assert!(
            !notifying.is_empty() && notifying.iter().all(|line| line.ends_with("\"1\"")),
            "{releases:#?}"
        );
        for task in tasks {
            drop(granted(task).await);
        }
    }
}

/// The view of the ended lock is still there.
#[tokio::test]
async fn tasks_of_the_previous_holder_wait_for_the_lock_again() {
    for cluster in [fenced(3), plain(3)] {
        let (first, second) = (client(&cluster).await, client(&cluster).await);
        let guard = first.mutex("k").ttl(LONG).acquire().await.expect("free");
        eventually("every node has the key", || async { nodes_with_key(&cluster, "k") == 3 }).await;
        let view = guard.view();
        let ticket = guard.into_ticket().await.expect("held");
        assert!(first.mutex("k").try_acquire().await.expect("a quorum replies").is_none());
        let waiter = spawn_waiter(&cluster, &first).await;
        let adopted = second.adopt(&ticket).await.expect("held");
        assert!(!waiter.is_finished() && !view.is_valid());
        adopted.release().await.expect("held until then");
        drop(granted(waiter).await);
    }
}

#[tokio::test]
async fn a_lost_lock_is_not_made_a_ticket() {
    for cluster in [fenced(3), plain(3)] {
        let redlock = client(&cluster).await;
        let guard = redlock.mutex("k").ttl(millis(200)).auto_renew(false).acquire().await.expect("free");
        timeout(secs(20), guard.lost()).await.expect("the loss is signaled");
        let error = guard.into_ticket().await.expect_err("lost");
        assert!(matches!(error, TicketError::Lost { reason: LossReason::Expired, .. }), "{error:?}");
        assert!(*error.key() == "k" && error.to_string().starts_with("lock \"k\": lost before"), "{error}");

        let guard = redlock.mutex("k").ttl(LONG).acquire().await.expect("free");
        redlock.shutdown(millis(0)).await.expect_err("a lock is held");
        let error = guard.into_ticket().await.expect_err("the client is closed");
        assert!(matches!(error, TicketError::Lost { reason: LossReason::ClientClosed, .. }), "{error:?}");
        let error = redlock.adopt(&other_ticket(&cluster).await).await.expect_err("closed");
        assert!(matches!(error, AdoptError::Closed { .. }), "{error:?}");
    }
}

async fn other_ticket(cluster: &LockCluster) -> LockTicket {
    let redlock = client(cluster).await;
    redlock.mutex("other").acquire().await.expect("free").into_ticket().await.expect("held")
}

#[tokio::test]
async fn a_dropped_hand_over_releases_the_lock() {
    for cluster in [fenced(3), plain(3)] {
        let redlock = client(&cluster).await;
        let guard = redlock.mutex("k").ttl(LONG).acquire().await.expect("free");
        let view = guard.view();
        // The command is sent at the first poll; the driver runs later on this thread.
        assert!(guard.into_ticket().now_or_never().is_none());
        assert!(!view.is_valid());
        eventually("no key is left", || async { key_count(&cluster) == 0 }).await;
        assert!(redlock.mutex("k").try_acquire().await.expect("a quorum replies").is_some());
    }
}

#[tokio::test]
async fn a_dropped_adoption_leaves_no_key() {
    for mut cluster in [fenced(3), plain(3)] {
        let (first, second) = (client(&cluster).await, client(&cluster).await);
        let ticket = ticket(&cluster, &first).await;
        let before: String = cluster[0].command(&["GET", "k"]).expect("a reply");
        (1..3).for_each(|node| cluster[node].pause());
        let adoption = tokio::spawn(async move { second.adopt(&ticket).await });
        eventually("the first node was adopted, or even released", || async {
            cluster[0].command::<Option<String>>(&["GET", "k"]).expect("a reply").as_ref() != Some(&before)
        })
        .await;
        adoption.abort();
        (1..3).for_each(|node| cluster[node].resume());
        eventually("no key is left", || async { key_count(&cluster) == 0 }).await;
    }
}

#[tokio::test]
async fn the_debug_text_of_a_ticket_does_not_show_the_owner_token() {
    let cluster = fenced(3);
    let redlock = client(&cluster).await;
    let ticket = ticket(&cluster, &redlock).await;
    let secret: String = cluster[0].command(&["GET", "k"]).expect("a reply");
    assert!(secret.len() == 32 && !format!("{ticket:?}").contains(&secret));
}

/// The test, which starts its own binary again: in that process, this function adopts the lock.
#[cfg(feature = "serde")]
#[test]
fn a_lock_goes_to_another_process_as_json() {
    use crate::support::Worker;

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    if let (Ok(json), Ok(nodes)) =
        (std::env::var("QUORLOCK_TEST_TICKET"), std::env::var("QUORLOCK_TEST_NODES"))
    {
        return runtime.block_on(adopt_in_worker(&json, &nodes));
    }
    for cluster in [fenced(3), plain(3)] {
        let worker = runtime.block_on(async {
            let redlock = client(&cluster).await;
            let ticket = ticket(&cluster, &redlock).await;
            let json = serde_json::to_string(&ticket).expect("JSON");
            redlock.shutdown(secs(10)).await.expect("no lock is held here");
            assert_eq!(nodes_with_key(&cluster, "k"), 3, "the lock outlives its client");
            let test = "tickets::a_lock_goes_to_another_process_as_json";
            let env = [("QUORLOCK_TEST_TICKET", json), ("QUORLOCK_TEST_NODES", cluster.nodes())];
            Worker::start(test, &env)
        });
        worker.wait();
        assert_eq!(key_count(&cluster), 0, "the worker has released the lock");
    }
}

#[cfg(feature = "serde")]
async fn adopt_in_worker(json: &str, nodes: &str) {
    let ticket: LockTicket = serde_json::from_str(json).expect("a ticket");
    let mode = if ticket.fencing_token().is_some() { Mode::Fenced } else { Mode::Plain };
    let builder = Redlock::builder().nodes(nodes.split(',')).mode(mode);
    let builder = if mode == Mode::Fenced { builder.max_ttl(LONG) } else { builder };
    let redlock = builder.connect().await.expect("all nodes are up");
    let guard = redlock.adopt(&ticket).await.expect("held");
    assert!(number(guard.fencing_token()) > number(ticket.fencing_token()) || mode == Mode::Plain);
    assert!(guard.release().await.expect("held until then").confirmed);
    redlock.shutdown(secs(10)).await.expect("no pending release");
}
