//! Names of any bytes: they exclude each other, are notified, released and forgotten, and are shown escaped.

use std::sync::mpsc;
use std::time::Duration;

use quorlock::event::Event;
use quorlock::{AcquireError, Guard, LockName, Redlock};
use quorlock_chaos::{Fleet, Server, redis};
use tokio::task::JoinHandle;

use crate::support::{LockCluster, builder, client, eventually, fenced, fenced_with_max_ttl, plain, secs};
use crate::wait_queue::{granted, notifications};

/// Each name, and how it is shown.
const NAMES: [(&[u8], &str); 8] = [
    (b"\xff\xfe", r"\xff\xfe"),
    (b"\xff\xfd", r"\xff\xfd"),
    (b"a\0b", r"a\0b"),
    (b"\0", r"\0"),
    (b" two  words ", " two  words "),
    (b"\"quoted\" 'and' \\", r#"\"quoted\" 'and' \\"#),
    (b"line\r\nbreak\r\n", r"line\r\nbreak\r\n"),
    (b"$3\r\n*1\xc3\r\n\xc3\xa9", "$3\\r\\n*1\\xc3\\r\\né"),
];

/// The number of nodes that have a key of these bytes.
fn nodes_with(fleet: &Fleet, prefix: &[u8], name: &[u8]) -> usize {
    let has = |server: &&Server| -> bool {
        let mut connection = server.connect(secs(1)).expect("it is up");
        let key = [prefix, name].concat();
        redis::cmd("EXISTS").arg(key).query(&mut connection).expect("a reply")
    };
    fleet.servers().iter().filter(has).count()
}

fn spawn_acquire(redlock: &Redlock, name: &'static [u8]) -> JoinHandle<Guard> {
    let mutex = redlock.mutex(name).ttl(secs(60));
    tokio::spawn(async move { mutex.acquire().await.expect("waits without a limit") })
}

async fn check_exclusion(cluster: &LockCluster, holder: &Redlock, other: &Redlock) {
    // All at once, so no two of them are the same key.
    let mut guards = Vec::new();
    for (name, shown) in NAMES {
        let guard = holder.mutex(name).ttl(secs(60)).acquire().await.expect("free");
        assert_eq!((guard.key(), guard.key().to_string().as_str()), (&LockName::new(name), shown));
        eventually("every node has the key", || async { nodes_with(cluster, b"", name) == 3 }).await;
        guards.push(guard);
    }
    for ((name, shown), guard) in NAMES.into_iter().zip(&guards) {
        assert!(guard.is_valid());
        assert!(other.mutex(name).try_acquire().await.expect("a quorum replies").is_none());
        let error = other.mutex(name).wait_timeout(Duration::ZERO).acquire().await.expect_err("held");
        assert!(matches!(error, AcquireError::Contended { .. }), "{error:?}");
        assert!(error.to_string().starts_with(&format!("lock \"{shown}\": ")), "{error}");
        assert_eq!(error.key(), Some(&LockName::new(name)));
        let seen = other.inspect(name).await.expect("a reply");
        assert_eq!(seen.holder().map(|holder| holder.owner), Some(guard.owner_hash()));
        guard.extend(secs(60)).await.expect("renewed");
    }
    for ((name, _), guard) in NAMES.into_iter().zip(guards) {
        let outcome = guard.release().await.expect("held until then");
        assert!(outcome.confirmed, "{outcome:?}");
        eventually("every node has released it", || async { nodes_with(cluster, b"", name) == 0 }).await;
        let guard = other.mutex(name).try_acquire().await.expect("a quorum replies").expect("free");
        assert!(other.force_release(name).await.expect("a reply").iter().len() == 3);
        assert!(guard.release().await.is_err(), "it was force-released");
    }
}

#[tokio::test]
async fn binary_names_exclude_each_other_and_are_shown_escaped() {
    for cluster in [fenced(3), plain(3)] {
        let (holder, other) = (client(&cluster).await, client(&cluster).await);
        check_exclusion(&cluster, &holder, &other).await;
        for redlock in [holder, other] {
            redlock.shutdown(secs(10)).await.expect("no pending release");
        }
    }
}

#[tokio::test]
async fn the_waiter_for_a_binary_name_is_notified() {
    for cluster in [fenced(3), plain(3)] {
        let (holder, other) = (client(&cluster).await, client(&cluster).await);
        for (name, shown) in NAMES {
            let guard = holder.mutex(name).ttl(secs(60)).acquire().await.expect("free");
            let waiter = spawn_acquire(&other, name);
            eventually("the waiter is queued", || async {
                nodes_with(&cluster, b"quorlock:waiters:", name) == 1
            })
            .await;
            let before = notifications(&cluster);
            guard.release().await.expect("held until then");
            let guard = granted(waiter).await;
            assert_eq!(notifications(&cluster), before + 1, "{shown}: exactly one process is notified");
            guard.release().await.expect("held until then");
        }
        for redlock in [holder, other] {
            redlock.shutdown(secs(10)).await.expect("no pending release");
        }
        for (name, shown) in NAMES {
            assert_eq!(nodes_with(&cluster, b"quorlock:waiters:", name), 0, "{shown}: no wait queue is left");
        }
    }
}

#[tokio::test]
async fn a_binary_name_is_forgotten() {
    let cluster = fenced_with_max_ttl(3, secs(2));
    let redlock = client(&cluster).await;
    for (name, shown) in NAMES {
        let guard = redlock.mutex(name).ttl(secs(2)).acquire().await.expect("free");
        let error = redlock.forget(name).await.expect_err("it is held");
        assert!(error.to_string().starts_with(&format!("lock \"{shown}\": ")), "{error}");
        eventually("every node has its fence", || async {
            nodes_with(&cluster, b"quorlock:fence:", name) == 3
        })
        .await;
        guard.release().await.expect("held until then");
        eventually("every node has released it", || async { nodes_with(&cluster, b"", name) == 0 }).await;
        redlock.forget(name).await.expect("free");
    }
    for (name, shown) in NAMES {
        // Otherwise they would stay for an hour.
        eventually(shown, || async { nodes_with(&cluster, b"quorlock:fence:", name) == 0 }).await;
    }
}

#[tokio::test]
async fn a_binary_name_follows_the_key_prefix_and_is_in_events() {
    for cluster in [fenced(3), plain(3)] {
        let (sender, events) = mpsc::channel();
        let record = move |event: &Event| drop(sender.send(event.clone()));
        let redlock =
            builder(&cluster).key_prefix("é:").on_event(record).connect().await.expect("all nodes are up");
        let guard = redlock.mutex(b"\xa9\0").acquire().await.expect("free");
        let key = LockName::new(b"\xc3\xa9:\xa9\0");
        assert_eq!((guard.key(), guard.key().to_string().as_str()), (&key, r"é:\xa9\0"));
        eventually("every node has the key", || async { nodes_with(&cluster, b"", key.as_bytes()) == 3 })
            .await;
        guard.release().await.expect("held until then");
        redlock.shutdown(secs(10)).await.expect("no pending release");
        let of_key = |event: &Event| match event {
            Event::Acquired { key, .. } | Event::Released { key, .. } => Some(key.clone()),
            _ => None,
        };
        let keys: Vec<LockName> = events.try_iter().filter_map(|event| of_key(&event)).collect();
        assert_eq!(keys, [key.clone(), key]);
    }
}
