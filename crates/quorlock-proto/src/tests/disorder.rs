//! Properties under arbitrary inputs: no panic, no endless wake-ups, and no vote of a node that may not vote.

mod readings;

use std::time::Duration;

use proptest::prelude::*;

use crate::coordinator::{Coordinator, Limits};
use crate::fence::MAX_MIN_FENCING_NUMBER;
use crate::lease::RenewalPolicy;
use crate::lease_params::Drift;
use crate::marker::{ClusterId, LockClusterConfig, Marker, MarkerReading};
use crate::membership::{InitMode, MemberStep, Membership};
use crate::quorum::{NodeId, Quorum};
use crate::request::{Key, LockSpec, OperationId, OwnerHash, RequestKind};
use crate::roster::SeatId;
use crate::roster::record::Record;
use crate::test_util::founding::node_list;
use crate::tests::properties::votes;
use crate::tests::world::{MAX_TTL, lease_params, ms, owner_token};
use crate::time::DualTimestamp;
use crate::vote::{ExclusionReason, ProbationReason, ReplyFailure, Vote};
use readings::{ReadingSpec, reading_specs};

/// An input of a coordinator.
#[derive(Clone, Debug)]
enum Input {
    Acquire { ttl: u64, want_holder_ttl: bool, max_hold_time: Option<u64>, min_fencing_number: u64 },
    Cancel(OperationId),
    Extend(OperationId, u64),
    Expire(OperationId),
    Release(OperationId),
    Survey(RequestKind),
    RequestOne(u8, RequestKind),
    Initialize { cluster: u128, mode: InitMode },
    Connected(u8, ReadingSpec),
    Up(u8),
    Down(u8),
    Excluded(u8),
    Reply(u8, Vote),
    NodeTime(u8, u64),
    MarkerReading(u8, Result<ReadingSpec, Vote>),
    Wake { boot: u64, wall: u64 },
    Poll,
}

fn fenced_votes() -> impl Strategy<Value = Vote> {
    let remaining = prop_oneof![9 => 0_u64..40_000, 1 => any::<u64>()].prop_map(Duration::from_millis);
    prop_oneof![
        5 => votes(),
        4 => (1_u64..1 << 53).prop_map(Vote::Fenced),
        1 => (1_u64..10).prop_map(|fence| Vote::FencedOut { fence }),
        1 => remaining.prop_map(|remaining| Vote::OnProbation { remaining, reason: ProbationReason::PossibleDataLoss }),
        1 => Just(Vote::Unknown(ReplyFailure::MarkerMismatch)),
        1 => Just(Vote::Unknown(ReplyFailure::Unverified)),
    ]
}

fn inputs() -> impl Strategy<Value = Vec<Input>> {
    let (id, node, ttl) = (0_u64..12, 0_u8..5, 10_u64..60_000);
    let input = prop_oneof![
        3 => (ttl.clone(), any::<bool>(), proptest::option::of(10_u64..90_000), 0_u64..=MAX_MIN_FENCING_NUMBER)
            .prop_map(|(ttl, want_holder_ttl, max_hold_time, min_fencing_number)| {
                Input::Acquire { ttl, want_holder_ttl, max_hold_time, min_fencing_number }
            }),
        1 => id.clone().prop_map(Input::Cancel),
        1 => (id.clone(), ttl).prop_map(|(id, ttl)| Input::Extend(id, ttl)),
        1 => id.clone().prop_map(Input::Expire),
        1 => id.prop_map(Input::Release),
        1 => prop_oneof![
            Just(RequestKind::Inspect),
            Just(RequestKind::ForceRelease),
            Just(RequestKind::BreakOf(OwnerHash::of(b""))),
        ]
        .prop_map(Input::Survey),
        1 => (node.clone(), prop_oneof![
            Just(RequestKind::Enqueue),
            Just(RequestKind::Dequeue),
            Just(RequestKind::ReleaseAndNotify),
        ])
        .prop_map(|(node, kind)| Input::RequestOne(node, kind)),
        1 => (0_u128..3, init_modes())
            .prop_map(|(cluster, mode)| Input::Initialize { cluster, mode }),
        4 => (node.clone(), reading_specs()).prop_map(|(node, spec)| Input::Connected(node, spec)),
        1 => node.clone().prop_map(Input::Up),
        1 => node.clone().prop_map(Input::Down),
        1 => node.clone().prop_map(Input::Excluded),
        20 => (node.clone(), fenced_votes()).prop_map(|(node, vote)| Input::Reply(node, vote)),
        3 => (node.clone(), any::<u64>()).prop_map(|(node, micros)| Input::NodeTime(node, micros)),
        5 => (node, reading_results()).prop_map(|(node, reading)| Input::MarkerReading(node, reading)),
        6 => (0_u64..4_000_000_000, 0_u64..8_000_000_000).prop_map(|(boot, wall)| Input::Wake { boot, wall }),
        6 => Just(Input::Poll),
    ];
    prop::collection::vec(input, 1..200)
}

fn reading_results() -> impl Strategy<Value = Result<ReadingSpec, Vote>> {
    prop_oneof![
        8 => reading_specs().prop_map(Ok),
        1 => Just(Err(Vote::Unknown(ReplyFailure::NoScript))),
        1 => Just(Err(Vote::Unknown(ReplyFailure::TransientError("BUSY".into())))),
        1 => Just(Err(Vote::Excluded(ExclusionReason::PermissionDenied("NOPERM".into())))),
    ]
}

fn drift() -> Drift {
    Drift::new(0.01).expect("a valid drift")
}

proptest! {
    #[test]
    fn arbitrary_inputs_never_make_the_coordinator_panic_or_wake_endlessly(
        nodes in 1_usize..=5,
        is_fenced in any::<bool>(),
        may_found in prop::bool::weighted(0.8),
        inputs in inputs(),
    ) {
        let quorum = Quorum::new(nodes, None).expect("a valid quorum");
        let limits = Limits { reply_timeout: ms(500), redial_after: Duration::from_secs(2) };
        let config = LockClusterConfig::new(quorum, MAX_TTL);
        let mut coordinator = if is_fenced {
            Coordinator::fenced(quorum, limits, Membership::new(config, drift(), node_list(nodes), 7, may_found))
        } else {
            Coordinator::new(quorum, limits)
        };
        let (mut now, mut ids) = (DualTimestamp::new(1_000_000_000, 1_700_000_000_000_000_000), 0);
        let node_id = |node: u8| NodeId(node % nodes as u8);
        let mut disconnected = quorum.all();
        for input in inputs {
            match &input {
                Input::Connected(node, _) | Input::Up(node) => disconnected.remove(node_id(*node)),
                Input::Down(node) | Input::Excluded(node) => disconnected.insert(node_id(*node)),
                _ => {}
            }
            match input {
                Input::Acquire { ttl, want_holder_ttl, max_hold_time, min_fencing_number } => {
                    ids += 1;
                    let (key, params) = (Key::new("k"), lease_params(ms(ttl)));
                    let previous_owner = None;
                    let spec =
                        LockSpec { key, params, want_holder_ttl, min_fencing_number, previous_owner };
                    let policy = RenewalPolicy { auto_renew: want_holder_ttl, max_hold_time: max_hold_time.map(ms) };
                    coordinator.acquire(ids, spec, policy, owner_token(ids), now);
                }
                Input::Cancel(id) => coordinator.cancel(id, now),
                Input::Extend(id, ttl) => { coordinator.extend(id, lease_params(ms(ttl)), now); }
                Input::Expire(id) => coordinator.expire(id, now),
                Input::Release(id) => { coordinator.release(id, now); }
                Input::Survey(kind) => {
                    ids += 1;
                    coordinator.survey(ids, kind, Key::new("k"), now);
                }
                Input::RequestOne(node, kind) => {
                    ids += 1;
                    coordinator.request_one(ids, node_id(node), (kind, Key::new("k"), Duration::ZERO), now);
                }
                Input::Initialize { cluster, mode } => {
                    ids += 1;
                    coordinator.initialize(ids, ClusterId::new(cluster), mode, now);
                }
                Input::Connected(node, spec) => {
                    coordinator.on_handshake(node_id(node), spec.reading(config), now, now);
                    coordinator.on_up(node_id(node), now);
                }
                Input::Up(node) => coordinator.on_up(node_id(node), now),
                Input::Down(node) => coordinator.on_down(node_id(node), "closed".into(), now),
                Input::Excluded(node) => coordinator.on_excluded(node_id(node), ExclusionReason::Replica, now),
                Input::Reply(node, vote) => {
                    let expected = coordinator.next_reply_kind(node_id(node)).filter(|kind| *kind != RequestKind::ReadMarker);
                    let request = coordinator.on_reply(node_id(node), vote, now);
                    prop_assert_eq!(request.map(|(_, kind)| kind), expected);
                }
                Input::NodeTime(node, micros) => coordinator.on_node_time(node_id(node), micros, now),
                Input::MarkerReading(node, reading) => {
                    coordinator.on_marker_reading(node_id(node), reading.map(|spec| spec.reading(config)), now);
                }
                Input::Wake { boot, wall } => {
                    // The wall clock jumps in both directions; the boot clock only advances.
                    let wall = (now.wall_nanos() + wall).saturating_sub(4_000_000_000);
                    now = DualTimestamp::new(now.boot_nanos() + boot, wall);
                    coordinator.on_wake(now);
                    prop_assert!(coordinator.next_wake().is_none_or(|at| at > now.boot()));
                }
                Input::Poll => while coordinator.poll().is_some() {},
            }
            for node in disconnected.iter() {
                prop_assert_eq!(coordinator.next_reply_kind(node), None, "no reply is due when disconnected");
            }
        }
        prop_assert_eq!(coordinator.clone(), coordinator);
    }

    /// A voting node was read with a marker of this lock cluster, written for its current server and data.
    /// After its marker changed, it does not vote for the max ttl.
    #[test]
    fn a_node_votes_only_with_a_marker_of_its_current_data(
        nodes in 1_usize..=5,
        may_found in any::<bool>(),
        inputs in prop::collection::vec(member_inputs(), 1..120),
    ) {
        let config = LockClusterConfig::new(Quorum::new(nodes, None).expect("a valid quorum"), MAX_TTL);
        let mut members = Membership::new(config, drift(), node_list(nodes), 7, may_found);
        let mut now = DualTimestamp::new(1_000_000_000, 1_700_000_000_000_000_000);
        let mut last_reading: Vec<Option<MarkerReading>> = vec![None; nodes];
        let mut last_seat: Vec<Option<SeatId>> = vec![None; nodes];
        let mut has_initialized = false;
        let mut changed_at: Vec<Option<DualTimestamp>> = vec![None; nodes];
        for (node, input) in inputs {
            let node = NodeId(node % nodes as u8);
            match input {
                MemberInput::Up(spec) => {
                    let reading = spec.reading(config);
                    last_reading[node.index()] = Some(reading.clone());
                    members.on_up(node, reading, now);
                }
                MemberInput::MarkerReading(spec) => {
                    let reading = spec.map(|spec| spec.reading(config));
                    if reading.is_some() {
                        last_reading[node.index()].clone_from(&reading);
                    }
                    members.on_marker_reading(node, reading.ok_or(Vote::Unknown(ReplyFailure::UnexpectedReply)), now);
                }
                MemberInput::Down => members.on_down(node, now),
                MemberInput::MarkerMismatch => members.on_marker_mismatch(node, now),
                MemberInput::OnProbation(millis) => members.on_probation(node, ms(millis), now),
                MemberInput::NodeTime(micros) => drop(members.on_node_time(node, now.minus(ms(3)), micros, now)),
                MemberInput::Initialize(mode) => {
                    has_initialized = true;
                    members.initialize(1, ClusterId::new(1), mode, now);
                }
                MemberInput::TimePasses(millis) => now = now.plus(ms(millis)),
            }
            let mut steps = 0;
            while let Some(step) = members.poll(now) {
                steps += 1;
                prop_assert!(steps <= 4 * nodes + 2, "too many steps: {:?}", step);
                if let MemberStep::ReadMarker(_, Some(write)) = step {
                    let has_roster = |reading: &MarkerReading| record_of(reading).is_some_and(|it| it.roster.is_some());
                    let is_founded = last_reading.iter().flatten().any(has_roster);
                    let may_write = may_found || has_initialized || is_founded;
                    prop_assert!(may_write, "a client that may not found a lock cluster wrote {:?}", write);
                }
            }
            prop_assert!(members.wake_at().is_none_or(|at| !now.is_due(at)), "the wake-up is due at once");
            for node in config.quorum().all().iter() {
                let index = node.index();
                let expected = members.expected_marker(node).map(|expected| expected.marker.clone());
                if let Some(expected) = &expected {
                    let seat = Marker::parse(expected).map(|marker| marker.seat);
                    if last_seat[index].is_some() && last_seat[index] != seat {
                        changed_at[index] = Some(now);
                    }
                    last_seat[index] = seat;
                }
                if members.implicit_vote(node, now).is_some() {
                    continue;
                }
                let reading = last_reading[index].as_ref().expect("the node was read");
                let marker = reading.marker.as_deref().and_then(Marker::parse).expect("a valid marker");
                let record = record_of(reading).expect("a record");
                let roster = record.roster.as_ref().expect("a roster");
                prop_assert_eq!(expected, reading.marker.clone());
                prop_assert_eq!(&marker.incarnation, &reading.incarnation);
                prop_assert!(roster.has(record.seat) && !record.is_sealed() && !reading.evicts);
                let since = changed_at[index].map(|changed| now.since(changed));
                prop_assert!(since.is_none_or(|since| since >= MAX_TTL), "{:?}", since);
            }
        }
    }
}

fn record_of(reading: &MarkerReading) -> Option<Record> {
    let marker = Marker::parse(reading.marker.as_deref()?)?;
    Record::parse(marker.seat, marker.was_member, reading.record.as_deref()?)
}

/// An input of a membership.
#[derive(Clone, Debug)]
enum MemberInput {
    Up(ReadingSpec),
    MarkerReading(Option<ReadingSpec>),
    Down,
    MarkerMismatch,
    OnProbation(u64),
    NodeTime(u64),
    Initialize(InitMode),
    TimePasses(u64),
}

fn init_modes() -> impl Strategy<Value = InitMode> {
    prop_oneof![Just(InitMode::Blank), Just(InitMode::Forced), Just(InitMode::WithoutUnreachable)]
}

fn member_inputs() -> impl Strategy<Value = (u8, MemberInput)> {
    let input = prop_oneof![
        6 => reading_specs().prop_map(MemberInput::Up),
        6 => proptest::option::of(reading_specs()).prop_map(MemberInput::MarkerReading),
        1 => Just(MemberInput::Down),
        2 => Just(MemberInput::MarkerMismatch),
        1 => (0_u64..60_000).prop_map(MemberInput::OnProbation),
        1 => any::<u64>().prop_map(MemberInput::NodeTime),
        1 => init_modes().prop_map(MemberInput::Initialize),
        8 => (0_u64..20_000).prop_map(MemberInput::TimePasses),
    ];
    (0_u8..5, input)
}
