//! Random histories: several clients use the same nodes under random faults.
//!
//! A failure prints its shrunk history and writes a seed to `proptest-regressions`. Commit the seed; every
//! later run starts with it. `PROPTEST_CASES=100000` searches longer.

use proptest::prelude::*;

use crate::request::OperationId;
use crate::tests::world::{AcquireOptions, World, ms};
use crate::vote::{ReplyFailure, Vote};

/// A step of a history. Clients and nodes are taken modulo their number.
#[derive(Clone, Copy, Debug)]
enum Action {
    Acquire {
        client: usize,
        ttl: u64,
        want_holder_ttl: bool,
        auto_renew: bool,
    },
    Release {
        client: usize,
    },
    Cancel {
        client: usize,
    },
    Extend {
        client: usize,
        ttl: u64,
    },
    Deliver {
        client: usize,
        node: usize,
    },
    HandleReply {
        client: usize,
        node: usize,
    },
    RoundTrip {
        client: usize,
        node: usize,
    },
    /// All requests of one client and their replies arrive.
    AllRoundTrips {
        client: usize,
    },
    DeliverAll,
    Disconnect {
        client: usize,
        node: usize,
        orphans: usize,
    },
    Connect {
        client: usize,
        node: usize,
    },
    DeliverOrphan {
        node: usize,
    },
    PassTime {
        millis: u64,
    },
    Pause {
        client: usize,
    },
    Resume {
        client: usize,
    },
    SetWallClock {
        client: usize,
        millis: i64,
    },
    FlushScripts {
        node: usize,
    },
    TransientError {
        node: usize,
    },
    ToggleHang {
        node: usize,
    },
    /// The worst case: the victim pauses, and the overtaker wins at the instant that enough keys expire.
    PauseAndOvertake {
        victim: usize,
        overtaker: usize,
    },
}

fn actions(with_expiry: bool) -> impl Strategy<Value = Vec<Action>> {
    let (client, node) = (0_usize..4, 0_usize..5);
    let ttl = if with_expiry { 60_u64..1_500 } else { 40_000..60_000 };
    let sleep = if with_expiry { 1_u64..600 } else { 1..20 };
    let action = prop_oneof![
        5 => (client.clone(), client.clone())
            .prop_map(|(victim, overtaker)| Action::PauseAndOvertake { victim, overtaker }),
        10 => (client.clone(), ttl.clone(), any::<bool>(), prop::bool::weighted(0.8))
            .prop_map(|(client, ttl, want_holder_ttl, auto_renew)| {
                Action::Acquire { client, ttl, want_holder_ttl, auto_renew }
            }),
        4 => client.clone().prop_map(|client| Action::Release { client }),
        2 => client.clone().prop_map(|client| Action::Cancel { client }),
        2 => (client.clone(), ttl).prop_map(|(client, ttl)| Action::Extend { client, ttl }),
        8 => (client.clone(), node.clone()).prop_map(|(client, node)| Action::Deliver { client, node }),
        8 => (client.clone(), node.clone()).prop_map(|(client, node)| Action::HandleReply { client, node }),
        8 => (client.clone(), node.clone()).prop_map(|(client, node)| Action::RoundTrip { client, node }),
        12 => client.clone().prop_map(|client| Action::AllRoundTrips { client }),
        4 => Just(Action::DeliverAll),
        3 => (client.clone(), node.clone(), 0_usize..4)
            .prop_map(|(client, node, orphans)| Action::Disconnect { client, node, orphans }),
        6 => (client.clone(), node.clone()).prop_map(|(client, node)| Action::Connect { client, node }),
        3 => node.clone().prop_map(|node| Action::DeliverOrphan { node }),
        14 => sleep.prop_map(|millis| Action::PassTime { millis }),
        2 => client.clone().prop_map(|client| Action::Pause { client }),
        4 => client.clone().prop_map(|client| Action::Resume { client }),
        1 => (client, -2_000_i64..1_000).prop_map(|(client, millis)| Action::SetWallClock { client, millis }),
        1 => node.clone().prop_map(|node| Action::FlushScripts { node }),
        1 => node.clone().prop_map(|node| Action::TransientError { node }),
        1 => node.prop_map(|node| Action::ToggleHang { node }),
    ];
    // So that no key outlives its compensating release, no request arrives later, and no clock ends a lease.
    let action = action.prop_map(move |action| match action {
        Action::Pause { .. }
        | Action::PauseAndOvertake { .. }
        | Action::SetWallClock { .. }
        | Action::DeliverOrphan { .. }
            if !with_expiry =>
        {
            Action::DeliverAll
        }
        Action::Disconnect { client, node, .. } if !with_expiry => {
            Action::Disconnect { client, node, orphans: 0 }
        }
        _ => action,
    });
    prop::collection::vec(action, 1..160)
}

/// A world, and the operation that each client's caller has.
struct History {
    world: World,
    current: Vec<Option<OperationId>>,
}

impl History {
    fn new(nodes: usize, clients: usize) -> Self {
        let mut world = World::with_quorum(nodes, None, clients);
        // Node clocks run up to 1 % faster than the clients', the largest drift allowed.
        for (index, server) in world.servers.iter_mut().enumerate() {
            server.node.set_drift([10_000, 0, 5_000][index % 3], 5_000_000_000);
        }
        Self { world, current: vec![None; clients] }
    }

    fn apply(&mut self, action: Action) {
        let (clients, nodes) = (self.current.len(), self.world.servers.len());
        let world = &mut self.world;
        // A paused process sends no command and handles no reply.
        let running = |world: &World, client: usize| {
            Some(client % clients).filter(|client| !world.clients[*client].is_paused)
        };
        match action {
            Action::Acquire { client, ttl, want_holder_ttl, auto_renew } => {
                let Some(client) = running(world, client) else { return };
                if let Some(previous) = self.current[client].take() {
                    // The caller retries after a failed attempt; it first releases a held or lost lock.
                    let _ = world.release(client, previous);
                    world.cancel(client, previous);
                }
                let wish = AcquireOptions {
                    ttl: ms(ttl),
                    want_holder_ttl,
                    auto_renew,
                    min_fencing_number: 0,
                    max_hold_time: None,
                };
                self.current[client] = Some(world.start_acquire_with(client, wish));
            }
            Action::Release { client } => {
                let Some(client) = running(world, client) else { return };
                if self.current[client].is_some_and(|id| world.release(client, id)) {
                    self.current[client] = None;
                }
            }
            Action::Cancel { client } => {
                let Some(client) = running(world, client) else { return };
                if let Some(id) = self.current[client].take() {
                    world.cancel(client, id);
                }
            }
            Action::Extend { client, ttl } => {
                let Some(client) = running(world, client) else { return };
                if let Some(id) = self.current[client] {
                    world.extend(client, id, ms(ttl));
                }
            }
            Action::Deliver { client, node } => {
                world.deliver_request(client % clients, node % nodes);
            }
            Action::HandleReply { client, node } => {
                let Some(client) = running(world, client) else { return };
                world.deliver_reply(client, node % nodes);
            }
            Action::RoundTrip { client, node } => {
                let Some(client) = running(world, client) else { return };
                world.round_trip(client, node % nodes);
            }
            Action::AllRoundTrips { client } => {
                let Some(client) = running(world, client) else { return };
                for node in 0..nodes {
                    while !world.servers[node].hangs && world.round_trip(client, node) {}
                }
            }
            Action::DeliverAll => world.deliver_all(),
            Action::Disconnect { client, node, orphans } => {
                let Some(client) = running(world, client) else { return };
                world.disconnect_leaving(client, node % nodes, orphans);
            }
            Action::Connect { client, node } => {
                let Some(client) = running(world, client) else { return };
                world.connect(client, node % nodes);
            }
            Action::DeliverOrphan { node } => {
                world.deliver_orphan(node % nodes);
            }
            Action::PassTime { millis } => world.run_timers_for(ms(millis)),
            Action::Pause { client } => world.clients[client % clients].is_paused = true,
            Action::Resume { client } => {
                // The next action decides whether it first handles replies or the time.
                world.clients[client % clients].is_paused = false;
            }
            Action::SetWallClock { client, millis } => world.shift_wall_clock(client % clients, millis),
            Action::FlushScripts { node } => world.flush_scripts(node % nodes),
            Action::TransientError { node } => {
                let busy = Vote::Unknown(ReplyFailure::TransientError("BUSY".into()));
                world.servers[node % nodes].canned_replies.push_back(busy);
            }
            Action::PauseAndOvertake { victim, overtaker } => {
                let (victim, Some(overtaker)) = (victim % clients, running(world, overtaker)) else { return };
                if victim == overtaker {
                    return;
                }
                world.clients[victim].is_paused = true;
                let mut key_ttls: Vec<_> =
                    (0..nodes).map(|node| world.remaining_ttl(node).unwrap_or_default()).collect();
                key_ttls.sort_unstable();
                let free_after = key_ttls[world.quorum().needed() - 1];
                world.run_timers_for(free_after);
                self.apply(Action::Acquire {
                    client: overtaker,
                    ttl: 800,
                    want_holder_ttl: false,
                    auto_renew: true,
                });
                self.apply(Action::AllRoundTrips { client: overtaker });
            }
            Action::ToggleHang { node } => world.servers[node % nodes].hangs ^= true,
        }
    }

    /// All clients release, all nodes are connected again, and all messages in flight arrive.
    fn quiesce(&mut self) {
        let (clients, nodes) = (self.current.len(), self.world.servers.len());
        let world = &mut self.world;
        for server in &mut world.servers {
            server.hangs = false;
            server.canned_replies.clear();
        }
        for client in 0..clients {
            world.clients[client].is_paused = false;
            if let Some(id) = self.current[client].take() {
                let _ = world.release(client, id);
                world.cancel(client, id);
            }
        }
        for node in 0..nodes {
            while world.deliver_orphan(node) {}
            (0..clients).for_each(|client| world.connect(client, node));
        }
        // A pending release with an error reply is retried after 250 ms, and a connection that was closed
        // meanwhile is connected again.
        for _ in 0..3 {
            world.deliver_all();
            world.run_timers_for(ms(250));
            for node in 0..nodes {
                (0..clients).for_each(|client| world.connect(client, node));
            }
        }
        world.deliver_all();
    }
}

proptest! {
    /// Mutual exclusion, and that no key, pending release or timer is left.
    #[test]
    fn at_most_one_lock_is_valid_at_any_instant_and_no_state_is_left_behind(
        nodes in 1_usize..=5,
        clients in 2_usize..=4,
        actions in actions(true),
    ) {
        let mut history = History::new(nodes, clients);
        for (step, action) in actions.iter().enumerate() {
            history.apply(*action);
            prop_assert_eq!(&history.world.overlap, &None, "after action {} of the history", step);
        }
        history.quiesce();
        history.world.run_timers_for(ms(1_600));
        history.world.deliver_all();
        prop_assert_eq!(&history.world.overlap, &None);
        prop_assert_eq!(history.world.key_count(), 0);
        for (id, client) in history.world.clients.iter().enumerate() {
            prop_assert_eq!(history.world.pending_releases(id), 0, "client {} has pending releases", id);
            prop_assert!(!client.coordinator.is_busy(), "client {} has operations", id);
            prop_assert_eq!(client.coordinator.next_wake(), None);
        }
    }

    /// Compensating releases work: once nothing is in flight, no key waits for its ttl.
    #[test]
    fn after_all_clients_release_no_key_waits_for_its_ttl(
        nodes in 1_usize..=5,
        clients in 1_usize..=3,
        actions in actions(false),
    ) {
        let mut history = History::new(nodes, clients);
        for action in actions {
            history.apply(action);
        }
        prop_assert_eq!(&history.world.overlap, &None);
        history.quiesce();
        prop_assert_eq!(history.world.key_count(), 0);
        prop_assert!((0..clients).all(|client| history.world.pending_releases(client) == 0));
    }
}
