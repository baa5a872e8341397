//! Tests that the reductions are sound: canonical fingerprints drop only names, reduced models only failures.
//!
//! A model is explored a second time with every bit of every operation in the fingerprint. If two states with
//! different futures shared a canonical fingerprint, the usual exploration would skip one of them, and most
//! likely its successors. So both explorations must find equally many canonical fingerprints.

use std::cell::RefCell;
use std::collections::HashSet;
use std::hash::{Hash, Hasher};

use super::bounds::{Bounds, FencingNumbers};
use super::hashers::FingerprintHasher;
use super::lock_model::{Event, LockModel};
use super::runs::{probation, renewal};
use super::search::{Coverage, Model, SearchOrder, explore};
use super::state::{Progress, State};

/// A model with another fingerprint function.
struct WithFingerprint<F> {
    model: LockModel,
    fingerprint: F,
}

impl<F: Fn(&LockModel, &State) -> u64> Model for WithFingerprint<F> {
    type State = State;
    type Event = Event;

    fn initial_state(&self) -> State {
        self.model.initial_state()
    }

    fn enabled_events(&self, state: &State, events: &mut Vec<Event>) {
        self.model.enabled_events(state, events);
    }

    fn step(&self, state: &State, event: Event, coverage: &mut Coverage) -> Result<State, String> {
        self.model.step(state, event, coverage)
    }

    fn fingerprint(&self, state: &State) -> u64 {
        (self.fingerprint)(&self.model, state)
    }

    fn describe(&self, before: &State, event: Event, after: Option<&State>) -> String {
        self.model.describe(before, event, after)
    }
}

/// A fingerprint of every bit of every operation, which does not merge symmetric states.
fn full_fingerprint(state: &State) -> u64 {
    let mut hasher = FingerprintHasher::new();
    (state.now, state.may_start, state.disconnects, state.data_losses).hash(&mut hasher);
    for node in &state.nodes {
        (node.owner, node.expires_at, node.fence, node.incarnation, node.data_since).hash(&mut hasher);
    }
    for (contender, channels) in state.contenders.iter().zip(&state.channels) {
        match &contender.progress {
            Progress::NotStarted => hasher.write_u8(1),
            Progress::Attempting(attempt) => attempt.hash(&mut hasher),
            Progress::Leased(lease) => lease.hash(&mut hasher),
            Progress::Ended => hasher.write_u8(2),
        }
        (
            contender.started_at,
            contender.fencing_number,
            contender.is_number_issued,
            contender.issued_before,
            contender.counted_nodes,
            contender.possibly_set,
        )
            .hash(&mut hasher);
        (contender.was_overtaken, contender.extensions, contender.pending_releases).hash(&mut hasher);
        for channel in channels {
            channel.requests.items().hash(&mut hasher);
            channel.replies.items().hash(&mut hasher);
        }
    }
    hasher.finish()
}

fn check_canonical_fingerprints(name: &str, bounds: Bounds) {
    let canonical_fingerprints = RefCell::new(HashSet::new());
    let unmerged = WithFingerprint {
        model: LockModel::new(bounds),
        fingerprint: |model: &LockModel, state: &State| {
            canonical_fingerprints.borrow_mut().insert(model.fingerprint(state));
            full_fingerprint(state)
        },
    };
    let all_states = explore(&unmerged, name, SearchOrder::DepthFirst);
    let merged = explore(&LockModel::new(bounds), name, SearchOrder::DepthFirst);
    let canonical_fingerprints = canonical_fingerprints.borrow().len() as u64;
    eprintln!(
        "{name}: {} states, {canonical_fingerprints} canonical fingerprints, {} states merged",
        all_states.states, merged.states
    );
    assert!(all_states.violation.is_none() && merged.violation.is_none());
    assert!(all_states.states > 2 * canonical_fingerprints, "{name}: nothing was merged");
    assert_eq!(canonical_fingerprints, merged.states, "{name}: states with different futures were merged");
}

/// A tick, and the fencing numbers and deadlines of the locks that are held then.
type HeldLocks = (u8, Vec<(u32, u64)>);

/// The locks that are held in this state.
fn held_locks(state: &State) -> HeldLocks {
    let leases = state.contenders.iter().filter_map(|contender| Some((contender, contender.lease()?)));
    let mut locks: Vec<_> =
        leases.map(|(contender, lease)| (contender.fencing_number, lease.deadline().boot_nanos())).collect();
    locks.sort_unstable();
    (state.now, locks)
}

/// Checks that the reduced model leaves out only states with fewer locks.
fn compare_with_reduced(name: &str, full: Bounds) {
    let [full, reduced] = [false, true].map(|is_reduced| {
        let model = LockModel::new(Bounds { is_reduced, ..full });
        let locks = RefCell::new(HashSet::new());
        let fingerprint = |model: &LockModel, state: &State| {
            locks.borrow_mut().insert(held_locks(state));
            model.fingerprint(state)
        };
        let recorder = WithFingerprint { model, fingerprint };
        let exploration = explore(&recorder, name, SearchOrder::DepthFirst);
        assert!(exploration.violation.is_none());
        (exploration.states, locks.into_inner())
    });
    eprintln!("{name}: {} states, {} reduced; {} combinations of locks", full.0, reduced.0, full.1.len());
    assert!(reduced.0 < full.0, "{name}: nothing was reduced");
    assert!(reduced.1.is_subset(&full.1), "{name}: only the reduced model has these locks");
    let is_covered = |(now, locks): &HeldLocks| {
        let has_all = |other: &[(u32, u64)]| locks.iter().all(|lock| other.contains(lock));
        reduced.1.iter().any(|(then, other)| now == then && has_all(other))
    };
    assert!(full.1.iter().all(is_covered), "{name}: the reduced model misses locks");
}

#[test]
fn reduced_models_reach_the_same_locks() {
    compare_with_reduced("fencing, next numbers", Bounds::fencing(3, &[1, 1], FencingNumbers::Next(1)));
    compare_with_reduced("plain", Bounds::timed(&[1, 1], 2, 2));
    compare_with_reduced("fenced", probation(1, 1, 0));
    compare_with_reduced("extension", renewal(1, &[1], 0));
}

#[test]
fn canonical_fingerprints_merge_only_symmetric_states() {
    check_canonical_fingerprints(
        "reduced fencing, 2 nodes, any numbers",
        Bounds::reduced(2, &[1, 1], FencingNumbers::Any),
    );
    check_canonical_fingerprints(
        "reduced fencing, two numbers",
        Bounds::reduced(3, &[1, 1], FencingNumbers::Next(2)),
    );
    check_canonical_fingerprints("plain", Bounds::timed(&[1, 1], 1, 1));
    check_canonical_fingerprints("fenced", probation(1, 1, 0));
    check_canonical_fingerprints("extension", renewal(1, &[1], 0));
}
