//! Tests over plans of many seeds: what each must contain, and must never contain.

use super::*;

fn scope(seed: u64) -> Scope {
    Scope {
        seed,
        nodes: 5,
        quorum: 3,
        kinds: FaultKind::ALL.into(),
        duration: Duration::from_secs(120),
        ttl: Duration::from_secs(1),
        max_ttl: Duration::from_secs(2),
    }
}

#[test]
fn the_same_seed_gives_the_same_plan_and_another_seed_another() {
    assert_eq!(plan(&scope(7)), plan(&scope(7)));
    assert_ne!(plan(&scope(7)), plan(&scope(8)));
}

#[test]
fn two_minutes_have_every_kind_of_fault_and_end_in_peace() {
    for seed in 0..50 {
        let steps = plan(&scope(seed));
        let kinds: BTreeSet<FaultKind> = steps.iter().map(|step| step.injection.kind()).collect();
        // Clients drop futures by themselves, without a plan.
        assert_eq!(kinds.len(), FaultKind::ALL.len() - 1, "seed {seed}: {kinds:?}");
        let of_nodes = steps.iter().filter(|step| !step.nodes.is_empty());
        let last = of_nodes.map(|step| step.at + step.lasts).max().expect("some");
        assert!(last <= Duration::from_millis(120_000 - 3500), "seed {seed}: {last:?}");
    }
}

#[test]
fn the_shortest_run_that_is_allowed_has_a_fault_whatever_kind_is_asked_for() {
    for kind in FaultKind::ALL {
        // These are there from the start, or done by the clients themselves.
        if kind.is_of_whole_run() || kind == FaultKind::Cancel {
            continue;
        }
        let lasts = Duration::from_secs(kind.least_seconds());
        for seed in 0..500 {
            let short = Scope { kinds: [kind].into(), duration: lasts, ..scope(seed) };
            let steps = plan(&short);
            assert!(!steps.is_empty(), "{kind}, seed {seed}");
            let is_in_time = |step: &PlannedFault| {
                step.nodes.is_empty() || step.at + step.lasts + Duration::from_millis(3500) <= lasts
            };
            assert!(steps.iter().all(is_in_time), "{kind}, seed {seed}: {steps:?}");
        }
    }
}

#[test]
fn a_part_of_a_node_is_broken_by_one_fault_at_a_time() {
    for seed in 0..50 {
        let steps = plan(&scope(seed));
        for (place, step) in steps.iter().enumerate() {
            for later in steps[place + 1..].iter().filter(|later| later.at < step.at + step.lasts) {
                let shared = step.nodes.iter().any(|node| later.nodes.contains(node));
                let theirs = subsystems(later.injection.kind());
                let same = subsystems(step.injection.kind()).iter().any(|part| theirs.contains(part));
                assert!(!(shared && same), "seed {seed}: {step:?} and {later:?}");
            }
        }
    }
}

#[test]
fn stale_keys_are_on_a_minority() {
    for seed in 0..50 {
        let steps = plan(&scope(seed));
        let stale: Vec<_> =
            steps.iter().filter(|step| step.injection.kind() == FaultKind::StaleKey).collect();
        assert!(!stale.is_empty() && stale.iter().all(|step| step.nodes.len() <= 2), "seed {seed}");
        let apart = stale.windows(2).all(|pair| pair[0].at + pair[0].lasts + PAUSE_BETWEEN <= pair[1].at);
        assert!(apart, "seed {seed}: {stale:?}");
    }
}

#[test]
fn no_clock_is_ever_wrong_by_half_a_probation() {
    for seed in 0..50 {
        let mut gained = [0_i64; 5];
        for step in plan(&scope(seed)) {
            for node in step.nodes {
                if let Injection::ClockSkew { millionths } = step.injection {
                    gained[node] += step.lasts.as_millis() as i64 * millionths / 1_000;
                }
                if let Injection::ClockOffset { micros } = step.injection {
                    gained[node] += micros;
                }
                let jump = if let Injection::ClockJump { micros } = step.injection { micros } else { 0 };
                // DESIGN: (Q - tol) / 2, for a max ttl of 2 s.
                assert!((gained[node] + jump).abs() < 875_000, "seed {seed}: {gained:?}, {jump}");
            }
        }
    }
}
