//! Servers whose wall clock is set while they run. That needs Linux, and a C compiler.

use std::sync::{Arc, Mutex};

use quorlock::{Event, ExtendError, LossReason, ProbationReason, Redlock};
use quorlock_chaos::{ClockLibrary, Fleet, Setup};
use tokio::time::Instant;

use crate::support::{eventually, initialize, is_voting, secs};

const MAX_TTL: std::time::Duration = secs(4);

/// Three servers, each with a clock to set, and a client that listens.
struct World {
    redlock: Redlock,
    heard: Arc<Mutex<Heard>>,
    fleet: Fleet,
}

#[derive(Default)]
struct Heard {
    /// Address and step of each jump.
    jumps: Vec<(String, i64)>,
    losses: Vec<LossReason>,
}

impl World {
    /// None where clocks cannot be set.
    async fn new() -> Option<Self> {
        let library = ClockLibrary::build().inspect_err(|error| eprintln!("skipped: {error}")).ok()?;
        let fleet = Fleet::start_with(3, &Setup::new().clocks(&library)).expect("started");
        let heard: Arc<Mutex<Heard>> = Arc::default();
        let listener = Arc::clone(&heard);
        let builder = Redlock::builder().nodes(fleet.urls()).max_ttl(MAX_TTL);
        initialize(builder.clone());
        let redlock = builder
            .observer(move |event: &Event<'_>| {
                let mut heard = listener.lock().expect("whole");
                match event {
                    Event::ClockJumped { node, by_micros } => {
                        heard.jumps.push(((*node).to_owned(), *by_micros));
                    }
                    Event::Lost { reason: loss, .. } => heard.losses.push(*loss),
                    _ => {}
                }
            })
            .connect()
            .await
            .expect("all are up");
        eventually("all vote", || async { redlock.node_status().await.iter().all(is_voting) }).await;
        let world = Self { redlock, heard, fleet };
        // Each clock was read once, so that there is something to compare with.
        drop(world.redlock.mutex("k").acquire().await.expect("free"));
        Some(world)
    }

    /// Sets the node's clock ahead by so many microseconds, or back.
    fn set(&self, node: usize, micros: i64) {
        let before = self.shown(node);
        self.fleet[node].clock().expect("its own").step(micros).expect("written");
        // Some servers look at the clock now and then, and answer by what they saw before.
        let end = Instant::now() + secs(5);
        while (self.shown(node) - before).abs_diff(micros) > 300_000 {
            assert!(Instant::now() < end, "the server does not see that its clock was set");
        }
    }

    fn shown(&self, node: usize) -> i64 {
        let time: Vec<i64> = self.fleet[node].command(&["TIME"]).expect("an answer");
        time[0] * 1_000_000 + time[1]
    }

    /// Takes locks until the jump of just this node was told.
    async fn hear_of(&self, node: usize) -> i64 {
        let address = self.redlock.node_status().await[node].address.clone();
        eventually("the jump is told", || async {
            let guard = self.redlock.mutex("k").acquire().await.expect("the others are a quorum");
            guard.release().await.expect("released");
            !self.heard.lock().expect("whole").jumps.is_empty()
        })
        .await;
        let jumps = std::mem::take(&mut self.heard.lock().expect("whole").jumps);
        let [(told, by_micros)] = &jumps[..] else { panic!("expected one jump, got {jumps:?}") };
        assert_eq!(*told, address);
        *by_micros
    }
}

#[tokio::test]
async fn a_node_whose_clock_jumps_is_on_probation() {
    let Some(world) = World::new().await else { return };
    world.set(1, 1_000_000);
    let by_micros = world.hear_of(1).await;
    // An estimate: it is off by as long as the answers took.
    assert!((500_000..2_000_000).contains(&by_micros), "{by_micros}");
    let probation = world.redlock.node_status().await[1].probation.expect("it is out of the count");
    assert_eq!(probation.reason, ProbationReason::ClockJump);
    assert!(probation.remaining() > secs(2), "{:?}", probation.remaining());
    let guard = world.redlock.mutex("k").acquire().await.expect("the others are a quorum");
    assert_eq!(guard.spare_nodes(), 0);
    guard.release().await.expect("released");
    eventually("it votes again", || async { world.redlock.node_status().await.iter().all(is_voting) }).await;
    world.set(1, -1_000_000);
    let by_micros = world.hear_of(1).await;
    assert!((-2_000_000..-500_000).contains(&by_micros), "{by_micros}");
}

#[tokio::test]
async fn a_held_lock_survives_the_jump_of_one_clock_and_is_lost_by_the_jump_of_two() {
    let Some(world) = World::new().await else { return };
    // Nothing of its own is under way when it is extended: that would be an answer too, from before the jump.
    let mutex = world.redlock.mutex("held").ttl(MAX_TTL).auto_renew(false);
    let guard = mutex.acquire().await.expect("free");
    eventually("all three have it", || async { guard.spare_nodes() == 1 }).await;
    world.set(0, 1_000_000);
    guard.extend(MAX_TTL).await.expect("two others are enough");
    // The two may have answered first; what is waited for is the answer of the third.
    eventually("one jump is told", || async { world.heard.lock().expect("whole").jumps.len() == 1 }).await;
    assert_eq!(guard.spare_nodes(), 0);
    assert!(guard.is_valid());
    world.set(2, 1_000_000);
    let refused = guard.extend(MAX_TTL).await.expect_err("one is too few");
    assert!(matches!(refused, ExtendError::Lost { .. }), "{refused:?}");
    assert!(!guard.is_valid());
    assert_eq!(world.heard.lock().expect("whole").losses, [LossReason::ClockJump]);
    assert_eq!(world.heard.lock().expect("whole").jumps.len(), 2);
}
