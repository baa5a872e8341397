//! Random histories: several clients over the same nodes, with everything that goes wrong.
//!
//! A failure prints its history, smallest first, and leaves a seed in `proptest-regressions`, which is run again
//! first from then on; commit it. `PROPTEST_CASES=100000` digs deeper.

use proptest::prelude::*;

use crate::coordinator::OperationId;
use crate::tests::world::{Wish, World, ms};
use crate::vote::{ReplyFailure, Vote};

/// One thing that happens. Who and where are taken modulo what there is.
#[derive(Clone, Copy, Debug)]
enum Deed {
    Acquire {
        who: usize,
        ttl: u64,
        curious: bool,
        auto_renew: bool,
    },
    Release {
        who: usize,
    },
    Abandon {
        who: usize,
    },
    Extend {
        who: usize,
        ttl: u64,
    },
    Deliver {
        who: usize,
        node: usize,
    },
    Answer {
        who: usize,
        node: usize,
    },
    Step {
        who: usize,
        node: usize,
    },
    /// Everything of one client there and back.
    Serve {
        who: usize,
    },
    Drive,
    Cut {
        who: usize,
        node: usize,
        ghosts: usize,
    },
    Connect {
        who: usize,
        node: usize,
    },
    Ghost {
        node: usize,
    },
    Sleep {
        millis: u64,
    },
    Pause {
        who: usize,
    },
    Resume {
        who: usize,
    },
    SetWall {
        who: usize,
        millis: i64,
    },
    FlushScripts {
        node: usize,
    },
    Excuse {
        node: usize,
    },
    Hang {
        node: usize,
    },
    /// The worst moment: one stands still, and in the very instant that enough keys have run out another wins.
    Overtake {
        victim: usize,
        by: usize,
    },
}

fn deeds(with_time: bool) -> impl Strategy<Value = Vec<Deed>> {
    let (who, node) = (0_usize..4, 0_usize..5);
    let ttl = if with_time { 60_u64..1_500 } else { 40_000..60_000 };
    let sleep = if with_time { 1_u64..600 } else { 1..20 };
    let deed = prop_oneof![
        5 => (who.clone(), who.clone()).prop_map(|(victim, by)| Deed::Overtake { victim, by }),
        10 => (who.clone(), ttl.clone(), any::<bool>(), prop::bool::weighted(0.8))
            .prop_map(|(who, ttl, curious, auto_renew)| Deed::Acquire { who, ttl, curious, auto_renew }),
        4 => who.clone().prop_map(|who| Deed::Release { who }),
        2 => who.clone().prop_map(|who| Deed::Abandon { who }),
        2 => (who.clone(), ttl).prop_map(|(who, ttl)| Deed::Extend { who, ttl }),
        8 => (who.clone(), node.clone()).prop_map(|(who, node)| Deed::Deliver { who, node }),
        8 => (who.clone(), node.clone()).prop_map(|(who, node)| Deed::Answer { who, node }),
        8 => (who.clone(), node.clone()).prop_map(|(who, node)| Deed::Step { who, node }),
        12 => who.clone().prop_map(|who| Deed::Serve { who }),
        4 => Just(Deed::Drive),
        3 => (who.clone(), node.clone(), 0_usize..4)
            .prop_map(|(who, node, ghosts)| Deed::Cut { who, node, ghosts }),
        6 => (who.clone(), node.clone()).prop_map(|(who, node)| Deed::Connect { who, node }),
        3 => node.clone().prop_map(|node| Deed::Ghost { node }),
        14 => sleep.prop_map(|millis| Deed::Sleep { millis }),
        2 => who.clone().prop_map(|who| Deed::Pause { who }),
        4 => who.clone().prop_map(|who| Deed::Resume { who }),
        1 => (who, -2_000_i64..1_000).prop_map(|(who, millis)| Deed::SetWall { who, millis }),
        1 => node.clone().prop_map(|node| Deed::FlushScripts { node }),
        1 => node.clone().prop_map(|node| Deed::Excuse { node }),
        1 => node.prop_map(|node| Deed::Hang { node }),
    ];
    // Where a key may not outlive its undo, nothing may arrive behind that, and nobody's clocks may end a lease.
    let deed = deed.prop_map(move |deed| match deed {
        Deed::Pause { .. } | Deed::Overtake { .. } | Deed::SetWall { .. } | Deed::Ghost { .. }
            if !with_time =>
        {
            Deed::Drive
        }
        Deed::Cut { who, node, .. } if !with_time => Deed::Cut { who, node, ghosts: 0 },
        _ => deed,
    });
    prop::collection::vec(deed, 1..160)
}

/// A world, and what each client's caller is at.
struct History {
    world: World,
    current: Vec<Option<OperationId>>,
}

impl History {
    fn new(nodes: usize, clients: usize) -> Self {
        let mut world = World::with(nodes, None, clients);
        // As fast as the drift of the terms allows, and some of them as we.
        for (place, server) in world.servers.iter_mut().enumerate() {
            server.node.set_drift([10_000, 0, 5_000][place % 3], 5_000_000_000);
        }
        Self { world, current: vec![None; clients] }
    }

    fn take(&mut self, deed: Deed) {
        let (clients, nodes) = (self.current.len(), self.world.servers.len());
        let world = &mut self.world;
        // A process that stands still gives no orders and sees no answers.
        let awake =
            |world: &World, who: usize| Some(who % clients).filter(|who| !world.clients[*who].is_paused);
        match deed {
            Deed::Acquire { who, ttl, curious, auto_renew } => {
                let Some(who) = awake(world, who) else { return };
                if let Some(earlier) = self.current[who].take() {
                    // The caller of a refused attempt tries again, that of a held or lost lock lets go first.
                    let _ = world.release(who, earlier);
                    world.abandon(who, earlier);
                }
                let wish = Wish { ttl: ms(ttl), curious, auto_renew, floor: 0, max_hold: None };
                self.current[who] = Some(world.acquire_as(who, wish));
            }
            Deed::Release { who } => {
                let Some(who) = awake(world, who) else { return };
                if self.current[who].is_some_and(|id| world.release(who, id)) {
                    self.current[who] = None;
                }
            }
            Deed::Abandon { who } => {
                let Some(who) = awake(world, who) else { return };
                if let Some(id) = self.current[who].take() {
                    world.abandon(who, id);
                }
            }
            Deed::Extend { who, ttl } => {
                let Some(who) = awake(world, who) else { return };
                if let Some(id) = self.current[who] {
                    world.extend(who, id, ms(ttl));
                }
            }
            Deed::Deliver { who, node } => {
                world.deliver(who % clients, node % nodes);
            }
            Deed::Answer { who, node } => {
                let Some(who) = awake(world, who) else { return };
                world.answer(who, node % nodes);
            }
            Deed::Step { who, node } => {
                let Some(who) = awake(world, who) else { return };
                world.step(who, node % nodes);
            }
            Deed::Serve { who } => {
                let Some(who) = awake(world, who) else { return };
                for node in 0..nodes {
                    while !world.servers[node].hangs && world.step(who, node) {}
                }
            }
            Deed::Drive => world.drive(),
            Deed::Cut { who, node, ghosts } => {
                let Some(who) = awake(world, who) else { return };
                world.cut_after(who, node % nodes, ghosts);
            }
            Deed::Connect { who, node } => {
                let Some(who) = awake(world, who) else { return };
                world.connect(who, node % nodes);
            }
            Deed::Ghost { node } => {
                world.ghost(node % nodes);
            }
            Deed::Sleep { millis } => world.sleep(ms(millis)),
            Deed::Pause { who } => world.clients[who % clients].is_paused = true,
            Deed::Resume { who } => {
                // What it hears first, the answers or the time, is left to what comes next.
                world.clients[who % clients].is_paused = false;
            }
            Deed::SetWall { who, millis } => world.set_wall(who % clients, millis),
            Deed::FlushScripts { node } => world.flush_scripts(node % nodes),
            Deed::Excuse { node } => {
                let busy = Vote::Unknown(ReplyFailure::TransientError("BUSY".into()));
                world.servers[node % nodes].excuses.push_back(busy);
            }
            Deed::Overtake { victim, by } => {
                let (victim, Some(by)) = (victim % clients, awake(world, by)) else { return };
                if victim == by {
                    return;
                }
                world.clients[victim].is_paused = true;
                let mut lives: Vec<_> = (0..nodes).map(|node| world.life(node).unwrap_or_default()).collect();
                lives.sort_unstable();
                let free_after = lives[world.quorum().needed() - 1];
                world.sleep(free_after);
                self.take(Deed::Acquire { who: by, ttl: 800, curious: false, auto_renew: true });
                self.take(Deed::Serve { who: by });
            }
            Deed::Hang { node } => world.servers[node % nodes].hangs ^= true,
        }
    }

    /// Everybody lets go, every node is reached again, and what is on its way arrives.
    fn settle(&mut self) {
        let (clients, nodes) = (self.current.len(), self.world.servers.len());
        let world = &mut self.world;
        for server in &mut world.servers {
            server.hangs = false;
            server.excuses.clear();
        }
        for who in 0..clients {
            world.clients[who].is_paused = false;
            if let Some(id) = self.current[who].take() {
                let _ = world.release(who, id);
                world.abandon(who, id);
            }
        }
        for node in 0..nodes {
            while world.ghost(node) {}
            (0..clients).for_each(|who| world.connect(who, node));
        }
        // Undos that were answered with an error are tried again after a quarter of a second, and where a
        // connection had to be given up meanwhile, it comes back.
        for _ in 0..3 {
            world.drive();
            world.sleep(ms(250));
            for node in 0..nodes {
                (0..clients).for_each(|who| world.connect(who, node));
            }
        }
        world.drive();
    }
}

proptest! {
    /// The promise itself, and that nothing is left behind for good.
    #[test]
    fn at_most_one_lock_is_valid_at_any_instant_and_nothing_stays(
        nodes in 1_usize..=5,
        clients in 2_usize..=4,
        deeds in deeds(true),
    ) {
        let mut history = History::new(nodes, clients);
        for (step, deed) in deeds.iter().enumerate() {
            history.take(*deed);
            prop_assert_eq!(&history.world.overlap, &None, "after step {} of the history", step);
        }
        history.settle();
        history.world.sleep(ms(1_600));
        history.world.drive();
        prop_assert_eq!(&history.world.overlap, &None);
        prop_assert_eq!(history.world.keys(), 0);
        for (who, client) in history.world.clients.iter().enumerate() {
            prop_assert_eq!(history.world.undone(who), 0, "client {} owes", who);
            prop_assert!(!client.coordinator.is_busy(), "client {} is at something", who);
            prop_assert_eq!(client.coordinator.next_wake(), None);
        }
    }

    /// Undos undo: where nothing is still on its way, no key waits for its ttl.
    #[test]
    fn once_everybody_has_let_go_no_key_is_left_long_before_its_ttl(
        nodes in 1_usize..=5,
        clients in 1_usize..=3,
        deeds in deeds(false),
    ) {
        let mut history = History::new(nodes, clients);
        for deed in deeds {
            history.take(deed);
        }
        prop_assert_eq!(&history.world.overlap, &None);
        history.settle();
        prop_assert_eq!(history.world.keys(), 0);
        prop_assert!((0..clients).all(|who| history.world.undone(who) == 0));
    }
}
