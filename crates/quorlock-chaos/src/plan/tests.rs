//! Tests of the plans of many seeds: the faults that each must contain, and the limits that each must keep.

use super::*;

fn input(seed: u64) -> PlanInput {
    PlanInput {
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
    assert_eq!(plan(&input(7)), plan(&input(7)));
    assert_ne!(plan(&input(7)), plan(&input(8)));
}

#[test]
fn a_run_of_two_minutes_has_every_kind_of_fault_and_a_quiet_end() {
    for seed in 0..50 {
        let faults = plan(&input(seed));
        let kinds: BTreeSet<FaultKind> = faults.iter().map(|fault| fault.injection.kind()).collect();
        // `Cancel` is not planned: clients drop futures by themselves.
        assert_eq!(kinds.len(), FaultKind::ALL.len() - 1, "seed {seed}: {kinds:?}");
        let of_nodes = faults.iter().filter(|fault| !fault.nodes.is_empty());
        let last = of_nodes.map(|fault| fault.at + fault.duration).max().expect("some");
        assert!(last <= Duration::from_millis(120_000 - 3500), "seed {seed}: {last:?}");
    }
}

#[test]
fn the_shortest_run_of_each_kind_has_a_fault() {
    for kind in FaultKind::ALL {
        // These last for the whole run, or are injected by the clients.
        if kind.is_of_whole_run() || kind == FaultKind::Cancel {
            continue;
        }
        let duration = Duration::from_secs(kind.least_seconds());
        for seed in 0..500 {
            let short = PlanInput { kinds: [kind].into(), duration, ..input(seed) };
            let faults = plan(&short);
            assert!(!faults.is_empty(), "{kind}, seed {seed}");
            let is_in_time = |fault: &PlannedFault| {
                fault.nodes.is_empty() || fault.at + fault.duration + Duration::from_millis(3500) <= duration
            };
            assert!(faults.iter().all(is_in_time), "{kind}, seed {seed}: {faults:?}");
        }
    }
}

#[test]
fn a_subsystem_of_a_node_has_one_fault_at_a_time() {
    for seed in 0..50 {
        let faults = plan(&input(seed));
        for (index, fault) in faults.iter().enumerate() {
            for later in faults[index + 1..].iter().filter(|later| later.at < fault.at + fault.duration) {
                let shared = fault.nodes.iter().any(|node| later.nodes.contains(node));
                let later_subsystems = subsystems(later.injection.kind());
                let same = subsystems(fault.injection.kind())
                    .iter()
                    .any(|subsystem| later_subsystems.contains(subsystem));
                assert!(!(shared && same), "seed {seed}: {fault:?} and {later:?}");
            }
        }
    }
}

#[test]
fn stale_keys_are_on_a_minority() {
    for seed in 0..50 {
        let faults = plan(&input(seed));
        let stale: Vec<_> =
            faults.iter().filter(|fault| fault.injection.kind() == FaultKind::StaleKey).collect();
        assert!(!stale.is_empty() && stale.iter().all(|fault| fault.nodes.len() <= 2), "seed {seed}");
        let apart = stale.windows(2).all(|pair| pair[0].at + pair[0].duration + PAUSE_BETWEEN <= pair[1].at);
        assert!(apart, "seed {seed}: {stale:?}");
    }
}

#[test]
fn no_clock_error_reaches_half_a_probation() {
    for seed in 0..50 {
        let mut gained = [0_i64; 5];
        for fault in plan(&input(seed)) {
            for node in fault.nodes {
                if let Injection::ClockSkew { ppm } = fault.injection {
                    gained[node] += fault.duration.as_millis() as i64 * ppm / 1_000;
                }
                if let Injection::ClockOffset { micros } = fault.injection {
                    gained[node] += micros;
                }
                let jump = if let Injection::ClockJump { micros } = fault.injection { micros } else { 0 };
                // (max ttl − tolerance) / 2 for a max ttl of 2 s.
                assert!((gained[node] + jump).abs() < 875_000, "seed {seed}: {gained:?}, {jump}");
            }
        }
    }
}

#[test]
fn while_an_address_is_moved_a_quorum_keeps_its_data_and_addresses() {
    let max_ttl = input(0).max_ttl;
    let (mut moves, mut largest) = (0, 0);
    for (seed, nodes) in (0..100).flat_map(|seed| [(seed, 3), (seed, 5)]) {
        let quorum = nodes / 2 + 1;
        let faults = plan(&PlanInput { nodes, quorum, ..input(seed) });
        let is_moved = |fault: &&PlannedFault| fault.injection.kind() == FaultKind::AddressMove;
        let until = |fault: &PlannedFault| fault.at + fault.duration + max_ttl;
        for moved in faults.iter().filter(is_moved) {
            moves += 1;
            let begins =
                faults.iter().map(|fault| fault.at).filter(|at| moved.at <= *at && *at < until(moved));
            for at in begins {
                let loses = |fault: &&PlannedFault| {
                    !fault.injection.kind().keeps_data_and_address() && fault.at <= at && at < until(fault)
                };
                let lossy =
                    faults.iter().filter(loses).filter(|fault| !fault.injection.kind().is_of_whole_run());
                let lossy: BTreeSet<usize> = lossy.flat_map(|fault| fault.nodes.iter().copied()).collect();
                largest = largest.max(lossy.len());
                assert!(lossy.len() <= nodes - quorum, "seed {seed}, {nodes} nodes: {lossy:?} at {at:?}");
            }
        }
    }
    assert!(moves > 200 && largest == 2, "{moves}, {largest}");
}

#[test]
fn no_address_moves_where_the_quorum_can_spare_no_node() {
    let kinds = BTreeSet::from([FaultKind::AddressMove]);
    assert_eq!(plan(&PlanInput { nodes: 2, quorum: 2, kinds, ..input(1) }), []);
}

#[test]
fn no_node_loses_data_or_its_address_during_a_reconfiguration() {
    let mut reconfigurations = 0;
    for seed in 0..100 {
        let faults = plan(&input(seed));
        for (index, fault) in faults.iter().enumerate() {
            if fault.injection.kind() != FaultKind::Reconfiguration {
                continue;
            }
            reconfigurations += 1;
            assert_eq!(fault.nodes.len(), 1);
            let overlaps = |other: &PlannedFault| {
                other.at < fault.at + fault.duration && fault.at < other.at + other.duration
            };
            let others =
                faults.iter().enumerate().filter(|(other, _)| *other != index).map(|(_, fault)| fault);
            let others = others.filter(|fault| !fault.nodes.is_empty() && overlaps(fault));
            let lossy = others.filter(|fault| !fault.injection.kind().keeps_data_and_address()).count();
            assert_eq!(lossy, 0, "seed {seed}: {fault:?}");
        }
    }
    assert!(reconfigurations > 100, "{reconfigurations}");
}
