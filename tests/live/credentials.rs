//! Logins that change: providers of credentials, rotated passwords, and logins on living connections.

use std::collections::HashSet;
use std::error::Error;
use std::fmt;
use std::future::pending;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::join_all;
use quorlock::error::ConnectError;
use quorlock::event::Event;
use quorlock::node::{
    Credentials, CredentialsRequest, DialStep, ExclusionReason, NodeState, NodeStatus, NodeWarning,
};
use quorlock::{Guard, LockName, Redlock, RedlockBuilder};
use quorlock_chaos::Server;
use tokio::time::{Instant, sleep};

use crate::support::{LockCluster, builder, eventually, fenced, is_up, millis, plain, secs};

type ProviderError = Box<dyn Error + Send + Sync>;

/// Gives this user the password and no other, and all rights.
fn set_password(server: &Server, user: &str, password: &str) {
    let password = format!(">{password}");
    let args = ["ACL", "SETUSER", user, "on", "resetpass", &password, "~*", "&*", "+@all"];
    server.command::<()>(&args).expect("a user");
}

fn set_passwords(fleet: &LockCluster, user: &str, password: &str) {
    fleet.servers().iter().for_each(|server| set_password(server, user, password));
}

/// The id and the user of each connection of the client, by its name.
fn connections(server: &Server) -> Vec<(String, String)> {
    let list: String = server.command(&["CLIENT", "LIST"]).expect("a reply");
    let value = |line: &str, name: &str| {
        let field = line.split(' ').find_map(|field| field.strip_prefix(name)?.strip_prefix('='));
        field.unwrap_or_default().to_owned()
    };
    let own = list.lines().filter(|line| value(line, "name") == "quorlock");
    own.map(|line| (value(line, "id"), value(line, "user"))).collect()
}

/// How often `AUTH` was called, and how often it failed.
fn logins(server: &Server) -> (usize, usize) {
    let stats: String = server.command(&["INFO", "commandstats"]).expect("a reply");
    let line = stats.lines().find_map(|line| line.strip_prefix("cmdstat_auth:")).unwrap_or_default();
    let value = |name: &str| {
        let found = line.split(',').find_map(|field| field.strip_prefix(name)?.strip_prefix('='));
        found.map_or(0, |count| count.parse().expect("a number"))
    };
    (value("calls"), value("failed_calls"))
}

/// Builds a client that records when a lock is lost or a node is no longer up.
fn recording(builder: RedlockBuilder, events: &Arc<Mutex<Vec<String>>>) -> RedlockBuilder {
    let events = Arc::clone(events);
    builder.on_event(move |event| {
        if let Event::NodeDown { .. } | Event::NodeExcluded { .. } | Event::Lost { .. } = event {
            events.lock().expect("not poisoned").push(format!("{event:?}"));
        }
    })
}

async fn acquire_all(redlock: &Redlock, count: usize, ttl: Duration) -> Vec<Guard> {
    let names = (0..count).map(|index| LockName::new(format!("lease:{index}")));
    let mutexes: Vec<_> = names.map(|name| redlock.mutex(name).ttl(ttl)).collect();
    let guards = join_all(mutexes.iter().map(quorlock::Mutex::acquire)).await;
    guards.into_iter().collect::<Result<_, _>>().expect("free locks")
}

/// With `QUORLOCK_TEST_ROTATION=long`, the password changes every 10 s for a minute while 1,000 leases renew.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_lease_is_lost_while_the_password_is_rotated() {
    let is_long = std::env::var("QUORLOCK_TEST_ROTATION").is_ok_and(|form| form == "long");
    let (leases, interval, rotations, ttl) =
        if is_long { (1_000, secs(10), 6, secs(10)) } else { (100, millis(300), 12, secs(2)) };
    let fleet = fenced(3);
    set_passwords(&fleet, "locker", "password-0");
    let current = Arc::new(Mutex::new("password-0".to_owned()));
    let asked = Arc::new(AtomicUsize::new(0));
    let (source, count) = (Arc::clone(&current), Arc::clone(&asked));
    let provider = move |_: CredentialsRequest| {
        count.fetch_add(1, Ordering::Relaxed);
        let password = source.lock().expect("not poisoned").clone();
        async move { Ok(Credentials::new(password).username("locker")) }
    };
    let lost = Arc::new(Mutex::new(Vec::new()));
    let events = Arc::clone(&lost);
    let on_event = move |event: &Event| {
        if let Event::Lost { key, reason, .. } = event {
            events.lock().expect("not poisoned").push(format!("{key}: {reason}"));
        }
    };
    let redlock =
        builder(&fleet).credentials(provider).on_event(on_event).connect().await.expect("connected");
    let guards = acquire_all(&redlock, leases, ttl).await;
    let mut killed = 0;
    for rotation in 1..=rotations {
        sleep(interval).await;
        let next = format!("password-{rotation}");
        // The source changes first at one rotation and last at the next.
        let set_source = || current.lock().expect("not poisoned").clone_from(&next);
        if rotation % 2 == 0 {
            set_source();
        }
        for server in fleet.servers() {
            set_password(server, "locker", &next);
            killed += server.command::<usize>(&["CLIENT", "KILL", "USER", "locker"]).expect("killed");
        }
        if rotation % 2 == 1 {
            set_source();
        }
    }
    sleep(ttl).await;
    assert_eq!(*lost.lock().expect("not poisoned"), Vec::<String>::new());
    assert!(guards.iter().all(Guard::is_valid));
    assert!(killed >= 3 * (rotations - 1), "{killed} connections were killed");
    let failed: usize = fleet.servers().iter().map(|server| logins(server).1).sum();
    println!(
        "{leases} leases, {rotations} rotations, {killed} connections killed, {} requests for credentials, {failed} \
         failed logins, {} leases lost",
        asked.load(Ordering::Relaxed),
        lost.lock().expect("not poisoned").len()
    );
    for released in join_all(guards.into_iter().map(Guard::release)).await {
        released.expect("still held");
    }
}

#[tokio::test]
async fn rejected_credentials_are_asked_for_once_more_before_the_node_is_excluded() {
    let fleet = plain(3);
    set_passwords(&fleet, "locker", "new");
    let requests = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&requests);
    // As a cache does that still has the password from before a rotation.
    let cache = move |request: CredentialsRequest| {
        let password = if request.is_retry { "new" } else { "old" };
        seen.lock().expect("not poisoned").push((request.node.to_string(), request.is_retry));
        async move { Ok(Credentials::new(password).username("locker")) }
    };
    let redlock = builder(&fleet).credentials(cache).connect().await.expect("connected");
    eventually("all are up", || async { redlock.node_status().await.iter().all(is_up) }).await;
    redlock.mutex("k").acquire().await.expect("free").release().await.expect("held");
    for server in fleet.servers() {
        assert_eq!(logins(server), (2, 1), "one login failed, and one succeeded");
        let address = format!("127.0.0.1:{}", server.port());
        let of_node: Vec<bool> = requests
            .lock()
            .expect("not poisoned")
            .iter()
            .filter(|(node, _)| *node == address)
            .map(|(_, is_retry)| *is_retry)
            .collect();
        assert_eq!(of_node, [false, true]);
    }

    let wrong = |_: CredentialsRequest| async { Ok(Credentials::new("wr0ng").username("locker")) };
    let error = builder(&fleet).credentials(wrong).connect().await.expect_err("a wrong password");
    let ConnectError::NodesExcluded { nodes, .. } = &error else { panic!("{error:?}") };
    let is_excluded =
        |node: &&NodeStatus| matches!(node.state, NodeState::Excluded(ExclusionReason::AuthFailed(_)));
    assert!(nodes.iter().filter(is_excluded).count() >= 2, "{nodes:?}");
    assert!(!format!("{error} {error:?}").contains("wr0ng"));
}

/// The id of a connection stays the same, and its user changes: so it was this connection that logged in again.
#[tokio::test]
async fn a_living_connection_logs_in_again_before_its_credentials_expire() {
    let fleet = fenced(3);
    for user in ["first", "second"] {
        set_passwords(&fleet, user, user);
    }
    let calls = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&calls);
    let provider = move |_: CredentialsRequest| {
        let user = if count.fetch_add(1, Ordering::Relaxed) < 3 { "first" } else { "second" };
        async move { Ok(Credentials::new(user).username(user).valid_for(millis(400))) }
    };
    let events = Arc::default();
    let redlock =
        recording(builder(&fleet).credentials(provider), &events).connect().await.expect("connected");
    eventually("all are up", || async { redlock.node_status().await.iter().all(is_up) }).await;
    let before: Vec<_> = fleet.servers().iter().map(connections).collect();
    assert!(before.iter().all(|connections| connections.len() == 1), "{before:?}");
    let _guards = acquire_all(&redlock, 50, secs(2)).await;
    let end = Instant::now() + secs(3);
    while Instant::now() < end {
        // Replies to logins come between those to these requests.
        let guards = redlock.mutex("k").acquire().await.expect("free");
        guards.release().await.expect("held");
    }
    for (server, before) in fleet.servers().iter().zip(before) {
        let after: HashSet<_> = connections(server).into_iter().collect();
        assert_eq!(after, HashSet::from([(before[0].0.clone(), "second".to_owned())]));
        let (calls, failed) = logins(server);
        // Every 180 to 200 ms, for 3 s and more.
        assert!(calls > 7 && failed == 0, "{calls} logins, {failed} failed");
    }
    assert_eq!(*events.lock().expect("not poisoned"), Vec::<String>::new());
}

#[tokio::test]
async fn a_failed_renewal_is_a_warning_and_the_connection_goes_on() {
    let fleet = plain(3);
    set_passwords(&fleet, "locker", "right");
    let mode = Arc::new(Mutex::new("right"));
    let source = Arc::clone(&mode);
    let provider = move |_: CredentialsRequest| {
        let password = *source.lock().expect("not poisoned");
        async move {
            if password == "none" {
                return Err("the vault is sealed".into());
            }
            Ok(Credentials::new(password).username("locker").valid_for(secs(2)))
        }
    };
    let events = Arc::default();
    let redlock =
        recording(builder(&fleet).credentials(provider), &events).connect().await.expect("connected");
    eventually("all are up", || async { redlock.node_status().await.iter().all(is_up) }).await;
    let ids = || fleet.servers().iter().map(connections).collect::<Vec<_>>();
    let before = ids();
    for (password, text) in [("none", "credentials: the vault is sealed"), ("wrong", "WRONGPASS")] {
        *mode.lock().expect("not poisoned") = password;
        eventually(text, || async {
            redlock.node_status().await.iter().all(|node| {
                matches!(&node.warnings[..], [NodeWarning::LoginNotRenewed(reason)] if reason.contains(text))
            })
        })
        .await;
    }
    *mode.lock().expect("not poisoned") = "right";
    eventually("no warning", || async {
        redlock.node_status().await.iter().all(|node| node.warnings.is_empty())
    })
    .await;
    assert_eq!(ids(), before, "the same connections");
    let guard = redlock.mutex("k").acquire().await.expect("free");
    guard.release().await.expect("held");
    assert_eq!(*events.lock().expect("not poisoned"), Vec::<String>::new());
}

#[tokio::test]
async fn a_provider_that_hangs_delays_only_its_node_and_is_dropped_at_the_dial_timeout() {
    struct Dropped(Arc<AtomicUsize>);
    impl Drop for Dropped {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
    let fleet = plain(3);
    set_passwords(&fleet, "locker", "right");
    let hanging = format!("127.0.0.1:{}", fleet[1].port());
    let dropped = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&dropped);
    let provider = move |request: CredentialsRequest| {
        let hanging = (*request.node == *hanging).then(|| Dropped(Arc::clone(&count)));
        async move {
            if let Some(_dropped) = hanging {
                pending::<()>().await;
            }
            Ok(Credentials::new("right").username("locker"))
        }
    };
    let began = Instant::now();
    let dial_timeout = secs(2);
    let builder = builder(&fleet).credentials(provider).dial_timeout(dial_timeout);
    let redlock = builder.connect().await.expect("two of three");
    let guard = redlock.mutex("k").acquire().await.expect("free");
    guard.release().await.expect("held");
    assert!(began.elapsed() < dial_timeout, "the other nodes did not wait: {:?}", began.elapsed());
    let status = || async { redlock.node_status().await[1].clone() };
    eventually("the dial fails", || async { status().await.failed_step.is_some() }).await;
    let status = status().await;
    assert_eq!(status.failed_step, Some(DialStep::Credentials), "{status}");
    assert!(status.to_string().contains("credentials: no reply within 2s"), "{status}");
    assert!(dropped.load(Ordering::Relaxed) >= 1, "the provider is dropped with the dial");
    assert_eq!(logins(&fleet[1]), (0, 0));
}

#[tokio::test]
async fn the_error_of_a_provider_is_shown_with_its_source_and_the_node_is_dialed_again() {
    #[derive(Debug)]
    struct Outage(std::io::Error);
    impl fmt::Display for Outage {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("no token")
        }
    }
    impl Error for Outage {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            Some(&self.0)
        }
    }
    let fleet = plain(3);
    set_passwords(&fleet, "locker", "right");
    let calls = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&calls);
    let provider = move |_: CredentialsRequest| {
        let call = count.fetch_add(1, Ordering::Relaxed);
        async move {
            let outage = || Outage(std::io::Error::other("the token service is down"));
            if call < 9 { Err(outage().into()) } else { Ok(Credentials::new("right").username("locker")) }
        }
    };
    let lazy = builder(&fleet).credentials(provider).connect_lazy().expect("built");
    eventually("a dial fails", || async {
        lazy.node_status().await.iter().any(|node| {
            node.failed_step == Some(DialStep::Credentials)
                && node.to_string().contains("credentials: no token: the token service is down")
        })
    })
    .await;
    eventually("all are up", || async { lazy.node_status().await.iter().all(is_up) }).await;
    assert!(fleet.servers().iter().all(|server| logins(server).0 == 1), "no dial before had credentials");

    let panics = |request: CredentialsRequest| async move {
        assert!(request.is_retry, "a bug in the provider");
        Ok::<_, ProviderError>(Credentials::default())
    };
    let error = builder(&fleet).credentials(panics).dial_once().connect().await.expect_err("a panic");
    assert!(error.to_string().contains("the provider panicked"), "{error}");
}

#[tokio::test]
async fn a_user_who_loses_a_permission_is_replaced_by_the_one_that_the_provider_names_next() {
    let fleet = plain(3);
    for user in ["first", "second"] {
        set_passwords(&fleet, user, user);
    }
    let current = Arc::new(Mutex::new("first"));
    let source = Arc::clone(&current);
    let provider = move |_: CredentialsRequest| {
        let user = *source.lock().expect("not poisoned");
        async move { Ok(Credentials::new(user).username(user)) }
    };
    let redlock = builder(&fleet).credentials(provider).connect().await.expect("connected");
    eventually("all are up", || async { redlock.node_status().await.iter().all(is_up) }).await;
    let before: Vec<_> = fleet.servers().iter().map(connections).collect();
    *current.lock().expect("not poisoned") = "second";
    for server in fleet.servers() {
        server.command::<()>(&["ACL", "SETUSER", "first", "-@all"]).expect("changed");
    }
    eventually("the lock is acquired", || async { redlock.mutex("k").acquire().await.is_ok() }).await;
    eventually("all connections have the other user", || async {
        drop(redlock.mutex("other").acquire().await);
        fleet
            .servers()
            .iter()
            .zip(&before)
            .all(|(server, before)| connections(server) == [(before[0].0.clone(), "second".to_owned())])
    })
    .await;
}
