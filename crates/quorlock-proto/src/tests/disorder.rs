//! Inputs in no sensible order: nothing panics, nothing wakes without end, and nobody votes who may not.

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use crate::coordinator::{Coordinator, Limits, OperationId};
use crate::fence::MAX_MIN_FENCING_NUMBER;
use crate::lease::RenewalPolicy;
use crate::lease_params::Drift;
use crate::marker::{ClusterId, Incarnation, LockClusterConfig, Marker, MarkerReading};
use crate::membership::{MemberStep, Membership};
use crate::quorum::{NodeId, Quorum};
use crate::request::{Key, LockSpec, OwnerHash, RequestKind};
use crate::tests::properties::votes;
use crate::tests::world::{MAX_TTL, ms, params, token};
use crate::time::DualTimestamp;
use crate::vote::{ExclusionReason, ProbationReason, ReplyFailure, Vote};

/// One input of a board, in no sensible order.
#[derive(Clone, Debug)]
enum Input {
    Acquire { ttl: u64, curious: bool, max_hold: Option<u64>, floor: u64 },
    Abandon(OperationId),
    Extend(OperationId, u64),
    Forfeit(OperationId),
    Release(OperationId),
    Survey(RequestKind),
    Declare { cluster: u128, is_forced: bool },
    Met(u8, Sight),
    Up(u8),
    Down(u8),
    Barred(u8),
    Reply(u8, Vote),
    Clock(u8, u64),
    Look(u8, Result<Sight, Vote>),
    Wake { boot: u64, wall: u64 },
    Poll,
}

/// What a node tells, but for what hangs on how many nodes there are.
#[derive(Clone, Debug)]
struct Sight {
    marker: Memory,
    run: u8,
    evicts: bool,
    micros: u64,
    latest_micros: u64,
}

#[derive(Clone, Debug)]
enum Memory {
    Nothing,
    Junk(String),
    /// Of one of two clusters, on our terms or on others, by one of two servers.
    Marker {
        cluster: u8,
        is_ours: bool,
        run: u8,
        since: u64,
        written: u64,
        base: u64,
    },
}

impl Sight {
    fn reading(&self, config: LockClusterConfig) -> MarkerReading {
        let marker = match &self.marker {
            Memory::Nothing => None,
            Memory::Junk(text) => Some(text.as_str().into()),
            Memory::Marker { cluster, is_ours, run, since, written, base } => {
                let other = LockClusterConfig::new(config.quorum(), MAX_TTL * 2);
                let config = if *is_ours { config } else { other };
                let identity = Marker::identity(ClusterId::new(u128::from(*cluster)), config);
                Some(Arc::from(format!("{identity} run{run}:data {since} {written} {base}")))
            }
        };
        let incarnation = Incarnation::new(&format!("run{}:data", self.run));
        let Self { evicts, micros, latest_micros, .. } = *self;
        MarkerReading { marker, incarnation, evicts, micros, latest_micros }
    }
}

fn sights() -> impl Strategy<Value = Sight> {
    // Half a minute and more, which is the max ttl.
    let micros = || prop_oneof![9 => 0_u64..100_000_000, 1 => any::<u64>()];
    let often_none = move || prop_oneof![Just(0), micros()];
    let marker = prop_oneof![
        2 => Just(Memory::Nothing),
        1 => ".{0,40}".prop_map(Memory::Junk),
        8 => (0_u8..2, prop::bool::weighted(0.9), 0_u8..2, micros(), often_none(), often_none()).prop_map(
            |(cluster, is_ours, run, since, written, base)| {
                Memory::Marker { cluster, is_ours, run, since, written, base }
            },
        ),
    ];
    (marker, 0_u8..2, prop::bool::weighted(0.05), micros(), often_none()).prop_map(
        |(marker, run, evicts, micros, latest_micros)| Sight { marker, run, evicts, micros, latest_micros },
    )
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
            .prop_map(|(ttl, curious, max_hold, floor)| Input::Acquire { ttl, curious, max_hold, floor }),
        1 => id.clone().prop_map(Input::Abandon),
        1 => (id.clone(), ttl).prop_map(|(id, ttl)| Input::Extend(id, ttl)),
        1 => id.clone().prop_map(Input::Forfeit),
        1 => id.prop_map(Input::Release),
        1 => prop_oneof![Just(RequestKind::Inspect), Just(RequestKind::ForceRelease), Just(RequestKind::BreakOf(OwnerHash::of(b"")))].prop_map(Input::Survey),
        1 => (0_u128..3, any::<bool>())
            .prop_map(|(cluster, is_forced)| Input::Declare { cluster, is_forced }),
        4 => (node.clone(), sights()).prop_map(|(node, sight)| Input::Met(node, sight)),
        1 => node.clone().prop_map(Input::Up),
        1 => node.clone().prop_map(Input::Down),
        1 => node.clone().prop_map(Input::Barred),
        20 => (node.clone(), fenced_votes()).prop_map(|(node, vote)| Input::Reply(node, vote)),
        3 => (node.clone(), any::<u64>()).prop_map(|(node, micros)| Input::Clock(node, micros)),
        5 => (node, looks()).prop_map(|(node, reading)| Input::Look(node, reading)),
        6 => (0_u64..4_000_000_000, 0_u64..8_000_000_000).prop_map(|(boot, wall)| Input::Wake { boot, wall }),
        6 => Just(Input::Poll),
    ];
    prop::collection::vec(input, 1..200)
}

fn looks() -> impl Strategy<Value = Result<Sight, Vote>> {
    prop_oneof![
        8 => sights().prop_map(Ok),
        1 => Just(Err(Vote::Unknown(ReplyFailure::NoScript))),
        1 => Just(Err(Vote::Unknown(ReplyFailure::TransientError("BUSY".into())))),
        1 => Just(Err(Vote::Excluded(ExclusionReason::PermissionDenied("NOPERM".into())))),
    ]
}

fn drift() -> Drift {
    Drift::new(0.01).expect("a usual drift")
}

proptest! {
    #[test]
    fn no_order_of_inputs_makes_a_board_panic_or_wake_without_end(
        nodes in 1_usize..=5,
        is_fenced in any::<bool>(),
        founds in prop::bool::weighted(0.8),
        inputs in inputs(),
    ) {
        let quorum = Quorum::new(nodes, None).expect("a usual quorum");
        let limits = Limits { reply_timeout: ms(500), redial_after: Duration::from_secs(2) };
        let config = LockClusterConfig::new(quorum, MAX_TTL);
        let mut coordinator = if is_fenced {
            Coordinator::fenced(quorum, limits, Membership::new(config, drift(), founds))
        } else {
            Coordinator::new(quorum, limits)
        };
        let (mut now, mut ids) = (DualTimestamp::new(1_000_000_000, 1_700_000_000_000_000_000), 0);
        let place = |node: u8| NodeId(node % nodes as u8);
        let mut away = quorum.all();
        for input in inputs {
            match &input {
                Input::Met(node, _) | Input::Up(node) => away.remove(place(*node)),
                Input::Down(node) | Input::Barred(node) => away.insert(place(*node)),
                _ => {}
            }
            match input {
                Input::Acquire { ttl, curious, max_hold, floor } => {
                    ids += 1;
                    let spec = LockSpec { key: Key::new("k"), params: params(ms(ttl)), want_holder_ttl: curious, min_fencing_number: floor };
                    let policy = RenewalPolicy { auto_renew: curious, max_hold_time: max_hold.map(ms) };
                    coordinator.acquire(ids, spec, policy, token(ids), now);
                }
                Input::Abandon(id) => coordinator.cancel(id, now),
                Input::Extend(id, ttl) => { coordinator.extend(id, params(ms(ttl)), now); }
                Input::Forfeit(id) => coordinator.expire(id, now),
                Input::Release(id) => { coordinator.release(id, now); }
                Input::Survey(phase) => {
                    ids += 1;
                    coordinator.survey(ids, phase, Key::new("k"), now);
                }
                Input::Declare { cluster, is_forced } => {
                    ids += 1;
                    coordinator.initialize(ids, ClusterId::new(cluster), is_forced, now);
                }
                Input::Met(node, sight) => {
                    coordinator.on_handshake(place(node), sight.reading(config), now, now);
                    coordinator.on_up(place(node), now);
                }
                Input::Up(node) => coordinator.on_up(place(node), now),
                Input::Down(node) => coordinator.on_down(place(node), "gone".into(), now),
                Input::Barred(node) => coordinator.on_excluded(place(node), ExclusionReason::Replica, now),
                Input::Reply(node, vote) => {
                    let expected = coordinator.next_reply_kind(place(node)).filter(|phase| *phase != RequestKind::ReadMarker);
                    let asked = coordinator.on_reply(place(node), vote, now);
                    prop_assert_eq!(asked.map(|(_, phase)| phase), expected);
                }
                Input::Clock(node, micros) => coordinator.on_node_time(place(node), micros, now),
                Input::Look(node, reading) => {
                    coordinator.on_marker_reading(place(node), reading.map(|sight| sight.reading(config)), now);
                }
                Input::Wake { boot, wall } => {
                    // The wall clock goes either way, the boot clock only on.
                    let wall = (now.wall_nanos() + wall).saturating_sub(4_000_000_000);
                    now = DualTimestamp::new(now.boot_nanos() + boot, wall);
                    coordinator.on_wake(now);
                    prop_assert!(coordinator.next_wake().is_none_or(|at| at > now.boot_nanos()));
                }
                Input::Poll => while coordinator.poll().is_some() {},
            }
            for node in away.iter() {
                prop_assert_eq!(coordinator.next_reply_kind(node), None, "an answer of a node that is away");
            }
        }
        prop_assert_eq!(coordinator.clone(), coordinator);
    }

    /// Whoever votes was seen with a marker of ours, written by that very server on those very data; and who was seen
    /// to change did not vote for the max ttl.
    #[test]
    fn nobody_votes_who_is_not_known_to_remember(
        nodes in 1_usize..=5,
        founds in any::<bool>(),
        inputs in prop::collection::vec(member_inputs(), 1..120),
    ) {
        let config = LockClusterConfig::new(Quorum::new(nodes, None).expect("a usual quorum"), MAX_TTL);
        let mut members = Membership::new(config, drift(), founds);
        let mut now = DualTimestamp::new(1_000_000_000, 1_700_000_000_000_000_000);
        let mut seen: Vec<Option<MarkerReading>> = vec![None; nodes];
        let mut known: Vec<Option<Arc<str>>> = vec![None; nodes];
        let mut has_declared = false;
        let mut changed_at: Vec<Option<DualTimestamp>> = vec![None; nodes];
        for (node, input) in inputs {
            let node = NodeId(node % nodes as u8);
            match input {
                MemberInput::Up(sight) => {
                    let reading = sight.reading(config);
                    seen[node.index()] = Some(reading.clone());
                    members.on_up(node, reading, now);
                }
                MemberInput::Look(sight) => {
                    let reading = sight.map(|sight| sight.reading(config));
                    if reading.is_some() {
                        seen[node.index()].clone_from(&reading);
                    }
                    members.on_marker_reading(node, reading.ok_or(Vote::Unknown(ReplyFailure::UnexpectedReply)), now);
                }
                MemberInput::Down => members.on_down(node),
                MemberInput::Changed => members.on_marker_mismatch(node, now),
                MemberInput::OnProbation(millis) => members.on_probation(node, ms(millis), now),
                MemberInput::Clock(micros) => drop(members.on_node_time(node, now.minus(ms(3)), micros, now)),
                MemberInput::Declare(is_forced) => {
                    has_declared = true;
                    members.initialize(1, ClusterId::new(1), is_forced);
                }
                MemberInput::Pass(millis) => now = now.plus(ms(millis)),
            }
            let mut steps = 0;
            while let Some(step) = members.poll(now) {
                steps += 1;
                prop_assert!(steps <= 4 * nodes + 2, "no end to {:?}", step);
                if let MemberStep::ReadMarker(_, Some(write)) = step {
                    let carried = seen.iter().flatten().filter_map(|reading| Marker::parse(reading.marker.as_deref()?));
                    let is_founded = carried.filter(|marker| marker.config == config).count() > 0;
                    prop_assert!(founds || has_declared || is_founded, "who only looks founded {:?}", write);
                }
            }
            prop_assert!(members.wake_at().is_none_or(|at| !now.is_due(at)), "woken at once, again");
            for node in config.quorum().all().iter() {
                let place = node.index();
                let badge = members.expected_marker(node).map(|badge| badge.marker.clone());
                if let Some(badge) = &badge {
                    if known[place].as_ref().is_some_and(|known| known != badge) {
                        changed_at[place] = Some(now);
                    }
                    known[place] = Some(badge.clone());
                }
                if members.implicit_vote(node, now).is_some() {
                    continue;
                }
                let reading = seen[place].as_ref().expect("a client met it");
                let marker = reading.marker.as_deref().and_then(Marker::parse).expect("a marker");
                prop_assert_eq!(badge, reading.marker.clone());
                prop_assert!(marker.config == config && marker.incarnation == reading.incarnation);
                prop_assert!(!reading.evicts && marker.since_micros <= reading.micros);
                let since = changed_at[place].map(|changed| now.since(changed));
                prop_assert!(since.is_none_or(|since| since >= MAX_TTL), "{:?}", since);
            }
        }
    }
}

/// One input of a membership.
#[derive(Clone, Debug)]
enum MemberInput {
    Up(Sight),
    Look(Option<Sight>),
    Down,
    Changed,
    OnProbation(u64),
    Clock(u64),
    Declare(bool),
    Pass(u64),
}

fn member_inputs() -> impl Strategy<Value = (u8, MemberInput)> {
    let input = prop_oneof![
        6 => sights().prop_map(MemberInput::Up),
        6 => proptest::option::of(sights()).prop_map(MemberInput::Look),
        1 => Just(MemberInput::Down),
        2 => Just(MemberInput::Changed),
        1 => (0_u64..60_000).prop_map(MemberInput::OnProbation),
        1 => any::<u64>().prop_map(MemberInput::Clock),
        1 => any::<bool>().prop_map(MemberInput::Declare),
        8 => (0_u64..20_000).prop_map(MemberInput::Pass),
    ];
    (0_u8..5, input)
}
