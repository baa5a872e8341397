//! The checker against whole families of histories: those of a correct lock, those with one violation inserted, and
//! nonsense.

mod forge;

use forge::{BOOT, MS, Story, story};
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

/// Leases in sequence: the pause before, the duration, the end, and the growth of the number.
fn holds() -> impl Strategy<Value = Vec<(u64, u64, End, u64)>> {
    let end = prop_oneof![6 => Just(End::Released), 2 => Just(End::Lost), 1 => Just(End::Killed)];
    prop::collection::vec((15..200_u64, 3..900_u64, end, 1..1_000_u64), 1..40)
}

fn modelled(holds: &[(u64, u64, End, u64)]) -> (Story, Vec<(u64, u64)>) {
    let mut story = story();
    let (mut at, mut number) = (100, 0);
    let mut spans = Vec::new();
    for (process, (pause, long, end, more)) in holds.iter().enumerate() {
        let process = process as u32;
        at += pause;
        number += more;
        story.take(process, 0, at, Some(number));
        let from = at;
        at += long;
        match end {
            End::Released => story.release(process, 0, at),
            End::Killed => story.kill(process, at),
            End::Lost => {
                at = from + 970;
                story.lost(process, 0, at)
            }
        };
        spans.push((from, at));
    }
    (story, spans)
}

proptest! {
    #[test]
    fn what_a_correct_lock_does_is_never_a_violation(holds in holds()) {
        let verdict = check_history(&modelled(&holds).0.history());
        prop_assert!(verdict.passed() && verdict.expected.is_empty(), "{:#?}", verdict.violations);
    }

    #[test]
    fn a_second_holder_slipped_in_anywhere_is_always_found(holds in holds(), place: prop::sample::Index) {
        let (mut story, spans) = modelled(&holds);
        let (from, _) = spans[place.index(spans.len())];
        story.hold(1_000, 0, from + 1, from + 2, Some(u64::MAX >> 12));
        let verdict = check_history(&story.history());
        let found = verdict.violations.iter().any(|violation| violation.invariant == Invariant::Exclusion);
        prop_assert!(found, "{:#?}", verdict.violations);
    }

    #[test]
    fn a_number_out_of_place_is_always_found(holds in holds(), place: prop::sample::Index) {
        let (mut story, spans) = modelled(&holds);
        let (_, to) = spans[place.index(spans.len())];
        story.hold(1_000, 0, to + 13, to + 14, Some(0));
        let verdict = check_history(&story.history());
        let found = verdict.violations.iter().any(|violation| violation.invariant == Invariant::NumbersOrdered);
        prop_assert!(found, "{:#?}", verdict.violations);
    }
}

/// Events of every kind that are inconsistent: the history of confused or broken writers.
fn nonsense() -> impl Strategy<Value = Event> {
    let what = prop_oneof![
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
                kind: "nonsense".to_owned(),
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
        Just(EventKind::Abandoned),
        Just(EventKind::Finished),
    ];
    let who = prop_oneof![
        Just(Actor::Run),
        (0..4_u32, 0..2_u32, 0..3_u32).prop_map(|(process, task, attempt)| Actor::Client {
            process,
            task,
            attempt
        })
    ];
    (0..20_000_u64, who, what).prop_map(|(at, who, what)| Event {
        at: BOOT + at * MS / 3,
        actor: who,
        kind: what,
    })
}

proptest! {
    #[test]
    fn nonsense_is_checked_and_drawn_too(events in prop::collection::vec(nonsense(), 0..60), columns in 0..200_usize) {
        let settings = story().history().events()[0].clone();
        let history = History::new(std::iter::once(settings).chain(events).collect());
        let verdict = check_history(&history);
        prop_assert!(!verdict.to_string().is_empty());
        prop_assert!(!text(&history, &verdict, columns).is_empty());
        prop_assert!(!html(&history, &verdict).contains("null</script>"));
    }
}

#[test]
fn a_hundred_thousand_events_are_checked_in_one_go() {
    let mut story = story();
    for attempt in 0..25_000_u32 {
        let from = 100 + u64::from(attempt) * 30;
        story.hold(attempt % 8, attempt, from, from + 10, Some(u64::from(attempt) + 1));
    }
    for id in 0..500 {
        story.fault(id, "cut", &[id as usize % 5], id * 1_000, id * 1_000 + 900, &[Effect::Unreachable]);
    }
    let verdict = check_history(&story.history());
    assert!(verdict.passed(), "{:#?}", verdict.violations.first());
    assert_eq!(verdict.acquisitions, 25_000);
    assert!(verdict.totals.events > 100_000);
}
