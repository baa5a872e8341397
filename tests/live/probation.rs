//! Nodes that forget: fenced, they cast no vote until what they forgot is over; plain, they let a second holder in.
//!
//! One story, told for every way to forget. A cluster of three; the holder cannot reach node 2, so it has its lock on
//! the nodes 0 and 1. Then node 1 forgets. Everybody else reaches the nodes 1 and 2, which are a quorum.

use std::time::Duration;

use quorlock::{Guard, Redlock, RedlockBuilder};
use quorlock_chaos::{Data, Fleet, MovableAddress, Server, Setup, Snapshot};
use tokio::time::timeout;

use crate::support::{blank_servers, eventually, initialize, secs};

/// Long enough for the slowest of the faults to be done before the lock is over, short enough to wait for.
const MAX_TTL: Duration = secs(3);

/// The servers of one story.
struct World {
    fleet: Fleet,
    /// The address of node 1.
    front: MovableAddress,
    /// Up all the time, and blank.
    blank: Server,
    /// Was a replica of node 1 until just before the lock was taken.
    lagging: Server,
    /// Node 1 before the lock was taken.
    old: Snapshot,
    is_plain: bool,
}

impl World {
    fn new(is_plain: bool) -> Self {
        let fleet = blank_servers(3);
        let (blank, lagging) = (server(), server());
        // First, because a server that gets its first replica takes a new replication id.
        lagging.demote(&fleet[1]).expect("demoted");
        let front = MovableAddress::of(&fleet[1]).expect("a port");
        let mut world =
            Self { old: fleet[1].snapshot().expect("read"), fleet, front, blank, lagging, is_plain };
        if !is_plain {
            initialize(world.clients());
            let has_marker = || world.lagging.command::<bool>(&["EXISTS", "quorlock:node"]).expect("up");
            while !has_marker() {
                std::thread::yield_now();
            }
        }
        world.lagging.promote().expect("promoted");
        world.old = world.fleet[1].snapshot().expect("read");
        world
    }

    /// For clients that reach every node.
    fn clients(&self) -> RedlockBuilder {
        self.with_third(self.fleet[2].url())
    }

    /// For the one that does not reach node 2.
    fn holder(&self) -> RedlockBuilder {
        // Nobody listens at port 1.
        self.with_third("redis://127.0.0.1:1".to_owned())
    }

    fn with_third(&self, third: String) -> RedlockBuilder {
        let builder = Redlock::builder().nodes([self.fleet[0].url(), self.front.url(), third]);
        if self.is_plain { builder.plain() } else { builder.max_ttl(MAX_TTL) }
    }

    async fn hold(&self) -> (Redlock, Guard) {
        let holder = self.holder().connect().await.expect("two of three");
        // Plain, it does not renew: it would take node 1 again, perhaps before the rival comes.
        let mutex = holder.mutex("k").auto_renew(!self.is_plain);
        let mutex = if self.is_plain { mutex.ttl(secs(600)) } else { mutex.ttl(MAX_TTL) };
        let guard = mutex.acquire().await.expect("two of three");
        assert_eq!(guard.spare_nodes(), 0);
        (holder, guard)
    }
}

fn server() -> Server {
    Server::start(&Setup::new()).expect("server starts")
}

/// Makes node 1 forget.
type Fault = fn(&mut World);

const FAULTS: [(&str, Fault); 8] = [
    ("restarted without data", |world| world.fleet[1].restart(Data::Empty).expect("restarted")),
    ("restarted with a stale copy", |world| {
        world.fleet[1].restart(Data::Old(world.old.clone())).expect("restarted");
    }),
    ("flushed", |world| world.fleet[1].wipe().expect("flushed")),
    ("limited in memory, and set right", |world| {
        // Nobody is there meanwhile, so nobody sees that it evicts.
        world.lagging.kill();
        world.front.move_to(&world.lagging);
        evict(&world.fleet[1]);
        world.front.move_to(&world.fleet[1]);
    }),
    ("swapped", |world| world.fleet[1].swap().expect("swapped")),
    ("demoted and promoted", |world| {
        world.fleet[1].demote(&world.blank).expect("demoted");
        world.fleet[1].promote().expect("promoted");
    }),
    ("replaced by a blank server", |world| world.front.move_to(&world.blank)),
    ("replaced by a replica that lags", |world| world.front.move_to(&world.lagging)),
];

/// Makes it evict what has a ttl, until the lock is gone.
fn evict(server: &Server) {
    let set = |option, value| server.command::<()>(&["CONFIG", "SET", option, value]).expect("set");
    set("maxmemory-policy", "volatile-random");
    set("maxmemory", "1");
    while server.command::<bool>(&["EXISTS", "k"]).expect("up") {
        std::thread::yield_now();
    }
    set("maxmemory", "0");
    set("maxmemory-policy", "noeviction");
}

/// Tells a story on a thread and a runtime of its own; its servers are killed, and block.
fn tell_all<F: Future<Output = ()>>(story: impl Fn(&'static str, Fault) -> F + Sync) {
    std::thread::scope(|scope| {
        for (name, fault) in FAULTS {
            let story = &story;
            scope.spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                runtime.expect("a runtime").block_on(story(name, fault));
            });
        }
    });
}

#[test]
fn a_plain_lock_has_two_holders_when_a_node_forgets() {
    tell_all(async |name, fault| {
        let mut world = World::new(true);
        let rival = world.clients().connect().await.expect("all nodes are up");
        let (_holder, guard) = world.hold().await;
        assert!(rival.mutex("k").try_acquire().await.expect("a quorum replies").is_none(), "{name}");
        fault(&mut world);
        let second =
            rival.mutex("k").wait_timeout(secs(20)).acquire().await.expect("the node has lost the key");
        assert!(guard.is_valid() && second.is_valid(), "{name}: the fault does not bite");
    });
}

#[test]
fn a_fenced_lock_has_one_holder_when_a_node_forgets() {
    tell_all(async |name, fault| {
        for _ in 0..5 {
            if one_holder(name, fault).await {
                return;
            }
        }
        panic!("{name}: it always took longer than the lock lasted, so nothing was shown");
    });
}

/// True if the holder was still there when the others found the node on probation: then something was shown.
async fn one_holder(name: &str, fault: Fault) -> bool {
    let mut world = World::new(false);
    let knowing = world.clients().connect().await.expect("all nodes are up");
    let (holder, guard) = world.hold().await;
    fault(&mut world);
    // As a command would come: it never knew the node, and must trust its marker.
    let fresh = world.clients().connect_lazy().expect("built");
    let rivals = [knowing, fresh];
    let waiting = rivals.clone().map(|rival| {
        let first = guard.view();
        tokio::spawn(async move {
            let second = rival.mutex("k").ttl(MAX_TTL).acquire().await.expect("after the probation");
            assert!(!first.is_valid(), "two holders");
            second.release().await.expect("released");
        })
    });
    for rival in &rivals {
        eventually("node 1 is on probation", || async { rival.node_status().await[1].probation.is_some() })
            .await;
    }
    let is_shown = guard.is_valid();
    for second in waiting {
        timeout(secs(20), second).await.expect("probation ends").expect(name);
    }
    drop(holder);
    is_shown
}
