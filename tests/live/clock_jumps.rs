//! Clock jumps: the wall clock of a server is set while it runs. This needs Linux and a C compiler.

use std::sync::{Arc, Mutex};

use quorlock::Redlock;
use quorlock::error::ExtendError;
use quorlock::event::{Event, LossReason};
use quorlock::node::ProbationReason;
use quorlock_chaos::{ClockLibrary, Fleet, Setup};
use tokio::time::Instant;

use crate::support::{eventually, initialize, is_voting, secs};

const MAX_TTL: std::time::Duration = secs(4);

/// Three servers with adjustable clocks, and a client that records events.
struct Scenario {
    redlock: Redlock,
    recorded: Arc<Mutex<Recorded>>,
    fleet: Fleet,
}

#[derive(Default)]
struct Recorded {
    /// Node address and size of each clock jump, in microseconds.
    jumps: Vec<(String, i64)>,
    losses: Vec<LossReason>,
}

impl Scenario {
    /// `None` where clocks cannot be set.
    async fn new() -> Option<Self> {
        let library = ClockLibrary::build().inspect_err(|error| eprintln!("skipped: {error}")).ok()?;
        let fleet = Fleet::start_with(3, &Setup::new().clocks(&library)).expect("server starts");
        let recorded: Arc<Mutex<Recorded>> = Arc::default();
        let listener = Arc::clone(&recorded);
        let builder = Redlock::builder().nodes(fleet.urls()).max_ttl(MAX_TTL);
        initialize(builder.clone());
        let redlock = builder
            .on_event(move |event: &Event| {
                let mut recorded = listener.lock().expect("not poisoned");
                match event {
                    Event::ClockJumped { node, by_micros, .. } => {
                        recorded.jumps.push((node.to_string(), *by_micros));
                    }
                    Event::Lost { reason, .. } => recorded.losses.push(*reason),
                    _ => {}
                }
            })
            .connect()
            .await
            .expect("all nodes are up");
        eventually("every node votes", || async { redlock.node_status().await.iter().all(is_voting) }).await;
        let scenario = Self { redlock, recorded, fleet };
        // One acquire reads each clock, so that later readings can be compared.
        drop(scenario.redlock.mutex("k").acquire().await.expect("free"));
        Some(scenario)
    }

    /// Steps the clock of this node, forward or back.
    fn step_clock(&self, node: usize, micros: i64) {
        let before = self.server_time(node);
        self.fleet[node].clock().expect("the server has its own clock").step(micros).expect("written");
        // Some servers cache the time and update it periodically.
        let end = Instant::now() + secs(5);
        while (self.server_time(node) - before).abs_diff(micros) > 300_000 {
            assert!(Instant::now() < end, "the server does not see the step of its clock");
        }
    }

    fn server_time(&self, node: usize) -> i64 {
        let time: Vec<i64> = self.fleet[node].command(&["TIME"]).expect("a reply");
        time[0] * 1_000_000 + time[1]
    }

    /// Acquires locks until a clock jump of exactly this node is reported. Returns its size in microseconds.
    async fn detect_jump(&self, node: usize) -> i64 {
        let address = self.redlock.node_status().await[node].address.clone();
        eventually("the clock jump is reported", || async {
            let guard = self.redlock.mutex("k").acquire().await.expect("the other nodes are a quorum");
            guard.release().await.expect("released");
            !self.recorded.lock().expect("not poisoned").jumps.is_empty()
        })
        .await;
        let jumps = std::mem::take(&mut self.recorded.lock().expect("not poisoned").jumps);
        let [(reported, by_micros)] = &jumps[..] else { panic!("expected one jump, got {jumps:?}") };
        assert_eq!(**reported, *address);
        *by_micros
    }
}

#[tokio::test]
async fn a_node_whose_clock_jumps_is_on_probation() {
    let Some(scenario) = Scenario::new().await else { return };
    scenario.step_clock(1, 1_000_000);
    let by_micros = scenario.detect_jump(1).await;
    // The estimate is wrong by up to the time that the replies took.
    assert!((500_000..2_000_000).contains(&by_micros), "{by_micros}");
    let probation = scenario.redlock.node_status().await[1].probation.expect("it is on probation");
    assert_eq!(probation.reason, ProbationReason::ClockJump);
    assert!(probation.remaining() > secs(2), "{:?}", probation.remaining());
    let guard = scenario.redlock.mutex("k").acquire().await.expect("the other nodes are a quorum");
    assert_eq!(guard.spare_nodes(), 0);
    guard.release().await.expect("released");
    eventually("it votes again", || async { scenario.redlock.node_status().await.iter().all(is_voting) })
        .await;
    scenario.step_clock(1, -1_000_000);
    let by_micros = scenario.detect_jump(1).await;
    assert!((-2_000_000..-500_000).contains(&by_micros), "{by_micros}");
}

#[tokio::test]
async fn a_held_lock_survives_the_jump_of_one_clock_and_is_lost_by_the_jump_of_two() {
    let Some(scenario) = Scenario::new().await else { return };
    // Without renewal, because a reply to a renewal from before the jump would count too.
    let mutex = scenario.redlock.mutex("held").ttl(MAX_TTL).auto_renew(false);
    let guard = mutex.acquire().await.expect("free");
    eventually("all three nodes have it", || async { guard.spare_nodes() == 1 }).await;
    scenario.step_clock(0, 1_000_000);
    guard.extend(MAX_TTL).await.expect("the two other nodes are a quorum");
    // The two other nodes may reply first, so wait for the reply of the third.
    eventually("one clock jump is reported", || async {
        scenario.recorded.lock().expect("not poisoned").jumps.len() == 1
    })
    .await;
    assert_eq!(guard.spare_nodes(), 0);
    assert!(guard.is_valid());
    scenario.step_clock(2, 1_000_000);
    let error = guard.extend(MAX_TTL).await.expect_err("one node is no quorum");
    assert!(matches!(error, ExtendError::Lost { .. }), "{error:?}");
    assert!(!guard.is_valid());
    assert_eq!(scenario.recorded.lock().expect("not poisoned").losses, [LossReason::ClockJump]);
    assert_eq!(scenario.recorded.lock().expect("not poisoned").jumps.len(), 2);
}
