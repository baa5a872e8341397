//! Measures the code without input or output: the coordinator with its operations, and the parser of replies.
//!
//! Needs `--features bench-internals`, which makes the reply parser public.

#![allow(clippy::disallowed_methods, reason = "the macros of criterion")]

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};

use quorlock::reply_length;
use quorlock_proto::coordinator::{Action, AttemptEvent, Coordinator, Limits, OperationEvent};
use quorlock_proto::lease::RenewalPolicy;
use quorlock_proto::lease_params::{Drift, LeaseParams};
use quorlock_proto::quorum::Quorum;
use quorlock_proto::request::{Key, LockSpec, OperationId, OwnerToken, RequestKind};
use quorlock_proto::time::DualTimestamp;
use quorlock_proto::vote::Vote;

/// A coordinator with five connected nodes, and a clock that the bench sets.
struct FakeCluster {
    coordinator: Coordinator,
    params: LeaseParams,
    key: Key,
    now: DualTimestamp,
    tokens: u128,
}

impl FakeCluster {
    fn new() -> Self {
        let limits =
            Limits { reply_timeout: Duration::from_millis(500), redial_after: Duration::from_secs(2) };
        let quorum = Quorum::new(5, None).expect("five nodes have a majority");
        let drift = Drift::new(0.01).expect("a valid drift");
        let params = LeaseParams::new(Duration::from_secs(10), drift, None, limits.reply_timeout)
            .expect("valid lease parameters");
        let now = DualTimestamp::new(1_000_000_000, 1_700_000_000_000_000_000);
        let mut coordinator = Coordinator::new(quorum, limits);
        quorum.all().iter().for_each(|node| coordinator.on_up(node, now));
        Self { coordinator, params, key: Key::new("orders:42"), now, tokens: 0 }
    }

    /// Acquires the lock and releases it. Every node replies.
    fn acquire_and_release(&mut self, id: OperationId) {
        self.tokens += 1;
        let spec = LockSpec {
            key: self.key.clone(),
            params: self.params,
            want_holder_ttl: false,
            min_fencing_number: 0,
            previous_owner: None,
        };
        let policy = RenewalPolicy { auto_renew: true, max_hold_time: None };
        self.coordinator.acquire(id, spec, policy, OwnerToken::new(self.tokens), self.now);
        assert!(
            self.reply_to_all(|event| matches!(event, OperationEvent::Attempt(AttemptEvent::Won { .. }))),
            "a free lock is won"
        );
        assert!(self.coordinator.release(id, self.now), "it is held");
        assert!(self.reply_to_all(|event| matches!(event, OperationEvent::Released(_))), "all nodes replied");
    }

    /// Replies to the requests of the coordinator until none is left. Returns whether the expected event
    /// came.
    fn reply_to_all(&mut self, is_expected: impl Fn(&OperationEvent) -> bool) -> bool {
        let mut was_notified = false;
        while let Some(action) = self.coordinator.poll() {
            match action {
                Action::Send { request, nodes, .. } => {
                    for node in nodes.iter() {
                        let vote =
                            if request.kind == RequestKind::Release { Vote::NotHeld } else { Vote::Granted };
                        self.coordinator.on_reply(node, vote, self.now);
                    }
                }
                Action::Event(_, event) => was_notified |= is_expected(&event),
                _ => {}
            }
        }
        self.coordinator.on_wake(self.now);
        was_notified
    }
}

fn coordinator(criterion: &mut Criterion) {
    let mut cluster = FakeCluster::new();
    let mut id = 0;
    criterion.bench_function("coordinator: acquire and release, five nodes", |bencher| {
        bencher.iter(|| {
            id += 1;
            cluster.acquire_and_release(id);
        });
    });
}

fn replies(criterion: &mut Criterion) {
    let kinds: [(&str, &[u8]); 4] = [
        ("OK", b"+OK\r\n"),
        ("nil", b"$-1\r\n"),
        ("number", b":1\r\n"),
        ("grant with number", b"*3\r\n:1\r\n:1700000000000000\r\n:1700000000000001\r\n"),
    ];
    for (name, bytes) in kinds {
        criterion.bench_function(&format!("reply: {name}"), |bencher| {
            bencher.iter(|| reply_length(black_box(bytes)).expect("a reply"));
        });
    }
}

criterion_group!(pure, coordinator, replies);
criterion_main!(pure);
