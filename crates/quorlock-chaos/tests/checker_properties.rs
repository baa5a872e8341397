//! Property tests of the checker: with histories of a correct lock, histories with one inserted violation,
//! and inconsistent histories.

mod history_builder;

use history_builder::{BOOT, HistoryBuilder, MS, builder};
use proptest::prelude::*;
use quorlock_chaos::checker::{Invariant, check_history};
use quorlock_chaos::history::{
    Actor, Effect, Event, EventKind, FailureReason, Fault, History, LockKind, NodeView,
};
use quorlock_chaos::timeline::{html, text};

/// How a holder in the model ends its lease.
#[derive(Clone, Copy, Debug)]
enum End {
    Released,
    Lost,
    Killed,
}

/// Leases in sequence: the pause before, the duration, the end, and the increase of the fencing number.
fn holds() -> impl Strategy<Value = Vec<(u64, u64, End, u64)>> {
    let end = prop_oneof![6 => Just(End::Released), 2 => Just(End::Lost), 1 => Just(End::Killed)];
    prop::collection::vec((15..200_u64, 3..900_u64, end, 1..1_000_u64), 1..40)
}

/// The history of these leases, and the time in which each lock was held.
fn sequential_history(holds: &[(u64, u64, End, u64)]) -> (HistoryBuilder, Vec<(u64, u64)>) {
    let mut builder = builder();
    let (mut at, mut number) = (100, 0);
    let mut spans = Vec::new();
    for (process, (pause, long, end, more)) in holds.iter().enumerate() {
        let process = process as u32;
        at += pause;
        number += more;
        builder.acquire(process, 0, at, Some(number));
        let from = at;
        at += long;
        match end {
            End::Released => builder.release(process, 0, at),
            End::Killed => builder.kill(process, at),
            End::Lost => {
                at = from + 970;
                builder.lost(process, 0, at)
            }
        };
        spans.push((from, at));
    }
    (builder, spans)
}

proptest! {
    #[test]
    fn a_correct_lock_causes_no_violation(holds in holds()) {
        let verdict = check_history(&sequential_history(&holds).0.build());
        prop_assert!(verdict.passed() && verdict.expected.is_empty(), "{:#?}", verdict.violations);
    }

    #[test]
    fn an_inserted_second_holder_is_always_found(holds in holds(), index: prop::sample::Index) {
        let (mut builder, spans) = sequential_history(&holds);
        let (from, _) = spans[index.index(spans.len())];
        builder.hold(1_000, 0, from + 1, from + 2, Some(u64::MAX >> 12));
        let verdict = check_history(&builder.build());
        let found = verdict.violations.iter().any(|violation| violation.invariant == Invariant::MutualExclusion);
        prop_assert!(found, "{:#?}", verdict.violations);
    }

    #[test]
    fn an_inserted_number_out_of_order_is_always_found(holds in holds(), index: prop::sample::Index) {
        let (mut builder, spans) = sequential_history(&holds);
        let (_, to) = spans[index.index(spans.len())];
        builder.hold(1_000, 0, to + 13, to + 14, Some(0));
        let verdict = check_history(&builder.build());
        let found = verdict.violations.iter().any(|violation| violation.invariant == Invariant::NumbersOrdered);
        prop_assert!(found, "{:#?}", verdict.violations);
    }
}

/// Inconsistent events of every kind, as from faulty writers.
fn inconsistent_event() -> impl Strategy<Value = Event> {
    let kind = prop_oneof![
        (0..4_u32, 0..3_000_u64, 0..5_000_u64).prop_map(|(key, ttl_ms, wait_ms)| EventKind::Waiting {
            keys: (0..key).map(|key| format!("key {key}")).collect(),
            kind: if key == 2 { LockKind::Permit { of: 1 } } else { LockKind::Mutex },
            ttl_ms,
            wait_ms,
        }),
        (0..20_000_u64, prop::option::of(0..5_u64), -3..3_i32).prop_map(
            |(ahead, fencing_number, spare_nodes)| {
                EventKind::Granted {
                    deadline: BOOT + ahead * MS,
                    fencing_number,
                    nonce: fencing_number.map(|number| number.to_string()),
                    spare_nodes,
                }
            }
        ),
        (any::<bool>(), 0..20_000_u64).prop_map(|(valid, ahead)| EventKind::Validated {
            valid,
            deadline: ahead * MS,
            spare_nodes: 0
        }),
        (0..9_u64, 0..9_usize, -9_000_000..9_000_000_i64).prop_map(|(id, node, by)| EventKind::Fault(
            Fault {
                id,
                kind: "inconsistent".to_owned(),
                nodes: vec![node],
                side: None,
                processes: vec![node as u32],
                effects: vec![
                    Effect::ClockStep { micros: by },
                    Effect::ClockRate { ppm: by },
                    Effect::Paused,
                    Effect::DataLoss { locks: true, fences: true }
                ],
                detail: String::new(),
            }
        )),
        (0..9_u64).prop_map(|fault| EventKind::FaultEnded { fault }),
        (0..9_usize, -2..9_000_i64).prop_map(|(node, ttl_ms)| EventKind::KeyLeft {
            node,
            key: "key 1".to_owned(),
            ttl_ms
        }),
        (0..9_usize).prop_map(|node| EventKind::NodeViewChanged {
            node,
            view: NodeView::OnProbation { until: BOOT }
        }),
        (0..9_u64, any::<bool>()).prop_map(|(position, accepted)| EventKind::Wrote {
            store: "ledger".to_owned(),
            position,
            fencing_number: Some(position / 2),
            nonce: None,
            accepted,
        }),
        Just(EventKind::Lost { reason: String::new() }),
        Just(EventKind::Releasing),
        Just(EventKind::Released { confirmed: false }),
        Just(EventKind::Failed { reason: FailureReason::TooLate }),
        Just(EventKind::Cancelled),
        Just(EventKind::Finished),
    ];
    let actor = prop_oneof![
        Just(Actor::Run),
        (0..4_u32, 0..2_u32, 0..3_u32).prop_map(|(process, task, attempt)| Actor::Client {
            process,
            task,
            attempt
        })
    ];
    (0..20_000_u64, actor, kind).prop_map(|(at, actor, kind)| Event { at: BOOT + at * MS / 3, actor, kind })
}

proptest! {
    #[test]
    fn inconsistent_histories_can_be_checked_and_drawn(events in prop::collection::vec(inconsistent_event(), 0..60), columns in 0..200_usize) {
        let settings = builder().build().events()[0].clone();
        let history = History::new(std::iter::once(settings).chain(events).collect());
        let verdict = check_history(&history);
        prop_assert!(!verdict.to_string().is_empty());
        prop_assert!(!text(&history, &verdict, columns).is_empty());
        prop_assert!(!html(&history, &verdict).contains("null</script>"));
    }
}

#[test]
fn a_history_of_a_hundred_thousand_events_can_be_checked() {
    let mut builder = builder();
    for attempt in 0..25_000_u32 {
        let from = 100 + u64::from(attempt) * 30;
        builder.hold(attempt % 8, attempt, from, from + 10, Some(u64::from(attempt) + 1));
    }
    for id in 0..500 {
        builder.fault(
            id,
            "partition",
            &[id as usize % 5],
            id * 1_000,
            id * 1_000 + 900,
            &[Effect::Unreachable],
        );
    }
    let verdict = check_history(&builder.build());
    assert!(verdict.passed(), "{:#?}", verdict.violations.first());
    assert_eq!(verdict.acquisitions, 25_000);
    assert!(verdict.totals.events > 100_000);
}
