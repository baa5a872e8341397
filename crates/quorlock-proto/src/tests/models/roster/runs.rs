//! Explores the models of rosters: no invariant is violated, and the state counts match. A model with a mistake violates one.

use super::{LIST, ModelMutant, Nodes, OTHER_LIST, RosterModel, Situation, Start};
use crate::mutant::{Mutant, with};
use crate::tests::models::search::{SearchOrder, check_complete, explore, is_long};

/// Two clients heal a lock cluster of three.
const TWO: RosterModel = RosterModel {
    nodes: 3,
    quorum: 2,
    spares: 0,
    lists: &[LIST, LIST],
    start: Start::Founded,
    max_ballot: 1,
    max_restarts: 1,
    max_moves: 0,
    max_joins: 0,
    max_outages: 0,
    max_delays: 0,
    lockers: 0,
    ttl: 1,
    horizon: 0,
    mutant: None,
};

#[track_caller]
fn check(name: &str, model: &RosterModel, states: u64, situations: &[Situation]) {
    let situations: Vec<usize> = situations.iter().map(|it| *it as usize).collect();
    check_complete(model, name, states, &situations);
}

/// One client that heals the lock cluster alone.
const ONE: RosterModel = RosterModel { lists: &[LIST], max_ballot: 2, ..TWO };
/// One client that heals, and two that lock.
const LOCKS: RosterModel = RosterModel { lockers: 2, horizon: 2, ..ONE };

#[test]
fn model_roster_one_client() {
    use Situation::{Changed, Founded, MemberNotified, Recovered, Vacant};
    check("a restart", &ONE, 85, &[Changed, MemberNotified]);
    check("three restarts", &RosterModel { max_restarts: 3, ..ONE }, 37_209, &[Changed, Recovered]);
    let outage = RosterModel { max_restarts: 2, max_outages: 1, ..ONE };
    check("two restarts, an outage", &outage, 107_004, &[Changed, Recovered, Vacant]);
    let founding = RosterModel { start: Start::Blank, max_outages: 1, ..ONE };
    check("founding, a restart, an outage", &founding, 132_671, &[Founded, Changed, Vacant]);
    let moved = RosterModel { max_restarts: 1, max_moves: 1, max_delays: 1, ..ONE };
    check("a restart, a moved address, a late write", &moved, 31_252, &[Changed, Situation::LateWrite]);
}

#[test]
fn model_roster_two_clients() {
    use Situation::{BallotLost, Changed, Founded, LateWrite, LateWriteRejected, TakenOver};
    let contended = [Changed, BallotLost, TakenOver];
    check("a restart", &TWO, 9_217, &contended);
    check("another list", &RosterModel { lists: &[LIST, OTHER_LIST], ..TWO }, 2_656, &[Changed]);
    let outage = RosterModel { max_restarts: 0, max_outages: 1, ..TWO };
    check("an outage", &outage, 47_918, &contended);
    let founding = RosterModel { start: Start::Blank, max_ballot: 2, max_restarts: 0, ..TWO };
    check("founding, two ballots", &founding, 98_656, &[Founded, BallotLost, TakenOver]);
    let moved = RosterModel { max_restarts: 0, max_moves: 1, max_delays: 1, ..TWO };
    check("a moved address, a late write", &moved, 181_168, &[Changed, LateWrite, LateWriteRejected]);
}

#[test]
fn model_roster_locks() {
    use Situation::{Changed, Locked, LockedUnderTwoRosters, Recovered, Renewed};
    let situations = [Changed, Locked, Renewed, LockedUnderTwoRosters];
    check("a restart", &LOCKS, 547_898, &situations);
    if is_long() {
        let lossy = RosterModel { max_restarts: 2, horizon: 1, ..LOCKS };
        check("two restarts", &lossy, 3_861_594, &[Changed, Recovered, LockedUnderTwoRosters]);
        let moved = RosterModel { max_restarts: 0, max_moves: 1, ..LOCKS };
        check("a moved address", &moved, 1_242_018, &situations);
    }
}

/// One client exchanges a node, adds one, removes one after the other, or changes the quorum.
const EXCHANGES: RosterModel =
    RosterModel { spares: 1, lists: &[Nodes::Reconfigures(&[0, 1, 3], None)], max_restarts: 0, ..TWO };
const ADDS: RosterModel = RosterModel { lists: &[Nodes::Reconfigures(&[0, 1, 2, 3], None)], ..EXCHANGES };
const REMOVES: RosterModel =
    RosterModel { spares: 0, lists: &[Nodes::Reconfigures(&[0], None)], ..EXCHANGES };
const ASKS_MORE: RosterModel =
    RosterModel { spares: 0, lists: &[Nodes::Reconfigures(&[0, 1, 2], Some(3))], ..EXCHANGES };

const TWO_GOALS: &[Nodes] = &[Nodes::Reconfigures(&[0, 1, 3], None), Nodes::Reconfigures(&[0, 1], None)];
const BESIDE_HEALER: &[Nodes] = &[Nodes::Reconfigures(&[0, 1, 3], None), LIST];

/// The same while two clients lock.
const fn with_locks(model: RosterModel, horizon: u8) -> RosterModel {
    RosterModel { lockers: 2, horizon, ..model }
}

#[test]
fn model_roster_reconfiguration() {
    use Situation::{BallotLost, Changed, LateWrite, Reconfigured, TakenOver};
    let healed = RosterModel { max_restarts: 1, max_ballot: 2, ..EXCHANGES };
    check("a node is exchanged, a restart", &healed, 1_601, &[Reconfigured, Changed]);
    let two = RosterModel { lists: TWO_GOALS, ..EXCHANGES };
    check("two reconfigurations", &two, 35_835, &[Reconfigured, BallotLost, TakenOver]);
    let late = RosterModel { max_delays: 1, max_moves: 1, ..EXCHANGES };
    check("a moved address, a late write", &late, 56_578, &[Reconfigured, LateWrite]);
    if is_long() {
        let raced = RosterModel { lists: BESIDE_HEALER, max_restarts: 1, ..EXCHANGES };
        let situations = [Reconfigured, Changed, BallotLost, TakenOver];
        check("a client heals meanwhile", &raced, 203_689, &situations);
    }
}

#[test]
fn model_roster_reconfiguration_locks() {
    use Situation::{LockedUnderTwoRosters, Reconfigured, Renewed};
    let situations = [Reconfigured, Renewed, LockedUnderTwoRosters];
    check("a node is exchanged", &with_locks(EXCHANGES, 1), 326_688, &situations);
    check("a larger quorum", &with_locks(ASKS_MORE, 1), 121_853, &situations);
    if is_long() {
        check("a node is added", &with_locks(ADDS, 1), 376_020, &situations);
        check("three nodes become one", &with_locks(REMOVES, 2), 641_658, &situations);
        check("a node is exchanged, long", &with_locks(EXCHANGES, 2), 1_395_734, &situations);
    }
}

/// A member was removed while it did not reply. It replies again, with its data, to a client with the list before
/// and to one with the list in force.
const RETURNS: RosterModel = RosterModel {
    spares: 1,
    start: Start::Removed,
    max_restarts: 0,
    max_ballot: 2,
    lists: &[LIST, AFTER],
    ..TWO
};
const AFTER: Nodes = Nodes::These(&[0, 1, 3]);

#[test]
fn model_roster_removed_member() {
    use Situation::{LockedUnderTwoRosters, Reconfigured, RemovedNotified, RemovedReturned, Renewed};
    let situations = [Reconfigured, RemovedReturned, RemovedNotified];
    check("a removed member returns, two clients", &RETURNS, 1_813, &situations);
    let restarted = RosterModel { max_restarts: 1, lists: &[LIST], ..RETURNS };
    let situations = [Reconfigured, RemovedReturned, RemovedNotified, Renewed, LockedUnderTwoRosters];
    check("the list before, a restart, locks", &with_locks(restarted, 1), 35_425, &situations);
    if is_long() {
        check("a removed member returns, locks", &with_locks(RETURNS, 1), 1_302_277, &situations);
        let follows = RosterModel { max_restarts: 1, lists: &[AFTER], ..RETURNS };
        check(
            "the list in force, a restart, locks",
            &with_locks(follows, 1),
            485_810,
            &[Reconfigured, Renewed],
        );
    }
}

/// The address of one server moves to another server of the list.
const JOINS: RosterModel = RosterModel { max_joins: 1, max_restarts: 0, max_outages: 1, ..ONE };

#[test]
fn model_roster_one_server_at_two_addresses() {
    let restarted = RosterModel { max_restarts: 1, max_outages: 0, ..JOINS };
    check("two addresses, a restart", &restarted, 817, &[Situation::Changed]);
    check("two addresses, an outage", &JOINS, 3_705, &[Situation::Changed]);
}

/// Explores a model with a mistake until it violates the invariant.
#[track_caller]
fn assert_killed(mutant: Option<Mutant>, model: &RosterModel, invariant: &str) {
    let exploration = with(mutant, || explore(model, "roster mutant", SearchOrder::BreadthFirst));
    let violation = exploration.violation.expect("a violation because of the mistake");
    println!("{mutant:?}: {} states: {}", exploration.states, violation.message);
    assert!(violation.message.starts_with(invariant), "{}: {:#?}", violation.message, violation.trace);
}

#[test]
fn mutant_model_roster() {
    let locks = RosterModel { horizon: 1, ..LOCKS };
    let moved = RosterModel { max_restarts: 0, max_moves: 1, ..locks };
    let with_mutant = |mutant, model| RosterModel { mutant: Some(mutant), ..model };
    assert_killed(Some(Mutant::StepsAtOnce), &with_locks(REMOVES, 1), "R0");
    assert_killed(Some(Mutant::NoPromise), &RosterModel { max_ballot: 2, ..TWO }, "R1");
    assert_killed(
        None,
        &with_mutant(ModelMutant::WritesAnyRecord, RosterModel { max_ballot: 2, ..TWO }),
        "R1",
    );
    let copied = RosterModel { max_restarts: 0, max_moves: 1, ..TWO };
    assert_killed(None, &with_mutant(ModelMutant::SeatSurvivesRestart, copied), "R3");
    assert_killed(Some(Mutant::PromiseDoesNotSeal), &moved, "R2");
    assert_killed(Some(Mutant::NoProbation), &locks, "R0");
    assert_killed(Some(Mutant::ProbationBeforeChoice), &moved, "R0");
    assert_killed(None, &with_mutant(ModelMutant::RoundOfTwoRosters, moved), "R0");
}

#[test]
fn mutant_model_roster_removed_member() {
    let follows = with_locks(RosterModel { lists: &[AFTER], ..RETURNS }, 1);
    let two_rosters = Some(ModelMutant::RoundOfTwoRosters);
    assert_killed(None, &RosterModel { mutant: two_rosters, ..follows }, "R0");
    assert_killed(Some(Mutant::LostSeatVotes), &with_locks(RETURNS, 1), "R0");
}
