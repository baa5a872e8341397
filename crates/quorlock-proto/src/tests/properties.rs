//! Properties for all values: quorums, deadlines, ranges, back-off and tokens.

use std::collections::HashSet;
use std::time::Duration;

use proptest::prelude::*;

use crate::attempt::{Attempt, AttemptStep};
use crate::backoff;
use crate::fence::FencingToken;
use crate::lease::Lease;
use crate::lease_params::{Drift, InvalidLeaseParams, LeaseParams};
use crate::quorum::{InvalidQuorum, NodeId, NodeSet, Quorum};
use crate::request::{Key, LockSpec, OwnerHash, OwnerToken};
use crate::round::Round;
use crate::time::DualTimestamp;
use crate::vote::{ExclusionReason, KeyOwner, KeyState, ReplyFailure, Vote};

const YEAR: Duration = Duration::from_secs(366 * 24 * 60 * 60);

/// All valid quorums of up to nine nodes.
fn quorums() -> impl Iterator<Item = Quorum> {
    let needed_counts = (1..=9).flat_map(|nodes| (0..=nodes + 1).map(move |need| (nodes, need)));
    needed_counts.filter_map(|(nodes, need)| Quorum::new(nodes, Some(need)).ok())
}

pub(crate) fn votes() -> impl Strategy<Value = Vote> {
    let remaining = proptest::option::of((0_u64..100_000).prop_map(Duration::from_millis));
    prop_oneof![
        4 => Just(Vote::Granted),
        2 => remaining.clone().prop_map(|remaining| Vote::HeldByOther { remaining }),
        2 => Just(Vote::NotHeld),
        1 => remaining.prop_map(|remaining| Vote::Inspected(KeyState { holder: KeyOwner::NotALock, remaining })),
        1 => Just(Vote::Excluded(ExclusionReason::PermissionDenied("set".into()))),
        1 => Just(Vote::Unknown(ReplyFailure::NoScript)),
        1 => Just(Vote::Unknown(ReplyFailure::TransientError("LOADING".into()))),
        1 => Just(Vote::Unknown(ReplyFailure::UnexpectedReply)),
        1 => Just(Vote::Unknown(ReplyFailure::Backlogged)),
    ]
}

#[test]
fn any_two_quorums_intersect() {
    for quorum in quorums() {
        let minimal_quorums: Vec<u16> = (0..1_u16 << quorum.nodes())
            .filter(|bits| quorum.is_met(bits.count_ones() as usize))
            .filter(|bits| bits.count_ones() as usize == quorum.needed())
            .collect();
        for one in &minimal_quorums {
            assert!(minimal_quorums.iter().all(|other| one & other != 0), "{quorum:?}");
        }
    }
}

#[test]
fn a_quorum_is_a_majority_unless_more_is_requested() {
    for nodes in 0..12 {
        for need in (0..12).map(Some).chain([None]) {
            let majority = nodes / 2 + 1;
            let expected = need.unwrap_or(majority);
            match Quorum::new(nodes, need) {
                Ok(quorum) => {
                    assert!((1..=9).contains(&nodes) && (majority..=nodes).contains(&expected));
                    assert_eq!((quorum.nodes(), quorum.needed()), (nodes, expected));
                    assert_eq!(quorum.all().len(), nodes);
                }
                Err(InvalidQuorum::NoNodes) => assert_eq!(nodes, 0),
                Err(InvalidQuorum::TooManyNodes(_)) => assert!(nodes > 9),
                Err(InvalidQuorum::BelowMajority { .. }) => assert!(expected < majority),
                Err(InvalidQuorum::AboveNodes { .. }) => assert!(expected > nodes),
            }
        }
    }
}

#[test]
fn a_quorum_is_out_of_reach_exactly_when_the_remaining_nodes_are_too_few() {
    for quorum in quorums() {
        for others in 0..=quorum.nodes() {
            let is_reachable = quorum.is_met(quorum.nodes() - others);
            assert_eq!(quorum.is_out_of_reach(others), !is_reachable, "{quorum:?} {others}");
        }
    }
}

#[test]
fn spare_nodes_is_how_many_nodes_may_lose_data_before_another_client_can_win() {
    for quorum in quorums() {
        for confirmed in quorum.needed()..=quorum.nodes() {
            let other_wins = |lost: usize| quorum.is_met(quorum.nodes() - confirmed + lost);
            let spare = usize::try_from(quorum.spare_nodes(confirmed))
                .expect("a lock has no negative number of spare nodes");
            assert!(!other_wins(spare) && other_wins(spare + 1), "{quorum:?} {confirmed}");
        }
        assert!(quorum.spare_nodes(0) < 0);
    }
}

proptest! {
    #[test]
    fn a_round_counts_the_first_vote_of_each_node_and_ends_exactly_when_decided(
        nodes in 1_usize..=9,
        more in 0_usize..5,
        replies in prop::collection::vec((0_u8..12, votes()), 0..24),
    ) {
        let need = (nodes / 2 + 1 + more).min(nodes);
        let quorum = Quorum::new(nodes, Some(need)).expect("between the majority and all");
        let mut round = Round::new(quorum, |_| None);
        let mut first: Vec<Option<Vote>> = vec![None; nodes];
        for (node, vote) in replies {
            round.record(NodeId(node), vote.clone());
            if let Some(slot) = first.get_mut(usize::from(node)) {
                slot.get_or_insert(vote);
            }
            let granted = first.iter().flatten().filter(|vote| **vote == Vote::Granted).count();
            let voted = first.iter().flatten().count();
            prop_assert_eq!(round.is_won(), granted >= need);
            prop_assert_eq!(round.is_out_of_reach(), granted + (nodes - voted) < need);
            prop_assert_eq!(round.is_complete(), voted == nodes);
            prop_assert!(!(round.is_won() && round.is_out_of_reach()));
        }
        for (vote, first) in round.votes().zip(first) {
            prop_assert_eq!(vote, &first.unwrap_or(Vote::Unknown(ReplyFailure::Timeout)));
        }
    }

    #[test]
    fn a_failed_attempt_releases_on_every_node_that_may_have_granted(
        nodes in 1_usize..=9,
        replies in prop::collection::vec((0_u8..9, votes()), 0..12),
        ends_by_time in any::<bool>(),
    ) {
        let quorum = Quorum::new(nodes, None).expect("a valid quorum");
        let drift = Drift::new(0.01).expect("a valid drift");
        let params = LeaseParams::new(Duration::from_secs(10), drift, None, Duration::from_secs(1)).expect("valid lease parameters");
        let key = Key::new("k");
        let spec =
            LockSpec { key, params, want_holder_ttl: false, min_fencing_number: 0, previous_owner: None };
        let start = DualTimestamp::new(0, 0);
        let mut attempt = Attempt::new(spec, OwnerToken::new(1), None, quorum, |_| None, start);
        prop_assert_eq!(
            attempt.poll(),
            Some(AttemptStep::Request(crate::request::RequestKind::Acquire, quorum.all()))
        );
        for (node, vote) in replies {
            attempt.on_reply(NodeId(node), crate::request::RequestKind::Acquire, vote, start);
        }
        if ends_by_time {
            attempt.on_wake(start.plus(Duration::from_secs(2)));
        }
        let mut released = NodeSet::EMPTY;
        loop {
            match attempt.poll() {
                Some(AttemptStep::Request(_, nodes)) => released = released.or(nodes),
                Some(AttemptStep::Won) | None => break,
                Some(AttemptStep::Failed(failure)) => {
                    for (node, vote) in failure.votes.iter().enumerate() {
                        let is_not_granted = matches!(
                            vote,
                            Vote::HeldByOther { .. } | Vote::NotHeld | Vote::Excluded(_)
                                | Vote::Unknown(ReplyFailure::TransientError(_) | ReplyFailure::NoScript)
                        );
                        prop_assert_eq!(released.contains(NodeId(node as u8)), !is_not_granted, "{:?}", vote);
                    }
                    prop_assert!(attempt.is_done());
                    break;
                }
            }
        }
    }

    #[test]
    fn the_deadline_follows_the_formula_and_grows_with_the_ttl(
        millis in 10_u64..40_000_000,
        longer in 0_u64..10_000,
        millionths in 0_u32..=200_000,
        boot in 0_u64..1 << 60,
        wall in 0_u64..1 << 60,
    ) {
        let drift = Drift::new(f64::from(millionths) / 1e6).expect("in range");
        let start = DualTimestamp::new(boot, wall);
        let deadline_of = |millis| {
            let ttl = Duration::from_millis(millis);
            LeaseParams::new(ttl, drift, None, Duration::from_secs(1)).expect("in range").deadline(start)
        };
        let (deadline, longer_deadline) = (deadline_of(millis), deadline_of(millis + longer));
        prop_assert!(deadline.boot_nanos() <= longer_deadline.boot_nanos());

        let scaled = u128::from(millis) * 1_000_000 * u128::from(1_000_000 - millionths);
        let trusted = deadline.boot_nanos() - boot;
        prop_assert!(u128::from(trusted) * 1_000_000 < scaled, "always before start + ttl·(1 − ρ)");
        let formula = (scaled.div_ceil(1_000_000) as u64).saturating_sub(2_000_000);
        prop_assert_eq!(trusted, formula);
        prop_assert_eq!(deadline.wall_nanos() - wall, trusted, "the same on both clocks");
    }

    #[test]
    fn lease_params_are_accepted_exactly_in_their_ranges(
        ttl in prop_oneof![0_u64..30_000, 30_000_000_000_u64..33_000_000_000].prop_map(Duration::from_millis),
        micros in 0_u64..1_000_000,
        attempt_timeout in proptest::option::of((0_u64..8_000).prop_map(Duration::from_millis)),
        reply_timeout in (0_u64..1_000).prop_map(Duration::from_millis),
    ) {
        let requested = ttl + Duration::from_micros(micros % 1_000);
        let drift = Drift::new(0.01).expect("in range");
        match LeaseParams::new(requested, drift, attempt_timeout, reply_timeout) {
            Ok(params) => {
                prop_assert!(requested >= Duration::from_millis(10) && requested <= YEAR);
                prop_assert_eq!(params.ttl(), ttl, "whole milliseconds, never more than requested");
                prop_assert_eq!(params.attempt_timeout(), attempt_timeout.unwrap_or(reply_timeout.min(ttl / 8)));
                prop_assert!(!params.attempt_timeout().is_zero() && params.attempt_timeout() <= ttl / 4);
            }
            Err(InvalidLeaseParams::TtlTooShort(_)) => prop_assert!(requested < Duration::from_millis(10)),
            Err(InvalidLeaseParams::TtlTooLong(_)) => prop_assert!(requested > YEAR),
            Err(InvalidLeaseParams::ZeroAttemptTimeout) => {
                prop_assert!(attempt_timeout.map_or(reply_timeout.is_zero(), |attempt_timeout| attempt_timeout.is_zero()));
            }
            Err(InvalidLeaseParams::AttemptTimeoutTooLong { attempt_timeout: rejected, .. }) => {
                prop_assert_eq!(Some(rejected), attempt_timeout);
                prop_assert!(rejected > ttl / 4);
            }
            Err(InvalidLeaseParams::DriftOutOfRange(_)) => prop_assert!(false, "the drift is valid"),
        }
    }

    #[test]
    fn drift_is_accepted_from_zero_to_20_percent(share in prop_oneof![-1.0_f64..1.0, Just(f64::NAN), Just(0.2)]) {
        prop_assert_eq!(Drift::new(share).is_ok(), (0.0..=0.2).contains(&share));
    }

    #[test]
    fn a_retry_waits_within_its_bounds_and_at_most_6_ms_past_the_hint(
        failures in any::<u32>(),
        hint in proptest::option::of((0_u64..100_000).prop_map(Duration::from_micros)),
        random in any::<u64>(),
    ) {
        let delay = backoff::retry(failures, hint, random);
        let bound = Duration::from_millis(10 << failures.min(8)).min(Duration::from_millis(150));
        prop_assert!(delay <= bound);
        match hint {
            None => prop_assert!(delay >= Duration::from_millis(5)),
            Some(hint) => {
                prop_assert!(delay <= hint + Duration::from_millis(6));
                prop_assert!(delay >= Duration::from_millis(5).min(hint + Duration::from_millis(1)));
            }
        }
    }

    #[test]
    fn a_redial_waits_within_its_bounds(failures in any::<u32>(), random in any::<u64>()) {
        let delay = backoff::redial(failures, random);
        prop_assert!(delay >= Duration::from_millis(10) && delay <= Duration::from_secs(2));
        let excluded = backoff::redial_excluded(random);
        prop_assert!(excluded >= Duration::from_secs(5) && excluded <= Duration::from_secs(10));
    }

    #[test]
    fn digits_are_unique_to_an_owner_token_and_absent_from_debug(one in any::<u128>(), other in any::<u128>()) {
        let digits = |bits| String::from_utf8(OwnerToken::new(bits).digits().to_vec()).expect("hexadecimal digits");
        prop_assert_eq!(digits(one), format!("{one:032x}"));
        prop_assert_eq!(u128::from_str_radix(&digits(one), 16), Ok(one));
        prop_assert_eq!(one == other, digits(one) == digits(other));
        prop_assert_eq!(OwnerToken::new(one).hash(), OwnerHash::of(digits(one).as_bytes()));
        let hash = OwnerToken::new(one).hash();
        prop_assert_eq!(format!("{:?}", OwnerToken::new(one)), format!("OwnerToken(#{hash})"));
    }

    #[test]
    fn a_node_set_behaves_like_a_hash_set(steps in prop::collection::vec((any::<bool>(), 0_u8..16), 0..40), bits in any::<u16>()) {
        let (mut set, mut model) = (NodeSet::EMPTY, HashSet::new());
        for (inserts, node) in steps {
            if inserts {
                set.insert(NodeId(node));
                model.insert(node);
            } else {
                set.remove(NodeId(node));
                model.remove(&node);
            }
        }
        let other = NodeSet::from_bits(bits);
        let members: HashSet<u8> = other.iter().map(|node| node.0).collect();
        let sorted = |set: NodeSet| set.iter().map(|node| node.0).collect::<Vec<_>>();
        let expected = |model: HashSet<u8>| { let mut all: Vec<_> = model.into_iter().collect(); all.sort_unstable(); all };
        prop_assert_eq!((set.len(), set.is_empty()), (model.len(), model.is_empty()));
        prop_assert_eq!(sorted(set.or(other)), expected(model.union(&members).copied().collect()));
        prop_assert_eq!(sorted(set.without(other)), expected(model.difference(&members).copied().collect()));
        prop_assert_eq!(sorted(set), expected(model));
        prop_assert_eq!(set.iter().collect::<NodeSet>(), set);
        prop_assert_eq!(NodeSet::from_bits(set.bits()), set);
    }

    #[test]
    fn a_timestamp_is_past_when_either_clock_has_passed_it(
        boot in 0_u64..1000, wall in 0_u64..1000, boot_end in 0_u64..1000, wall_end in 0_u64..1000, span in 0_u64..500,
    ) {
        let (now, end) = (DualTimestamp::new(boot, wall), DualTimestamp::new(boot_end, wall_end));
        prop_assert_eq!(now.is_past(end), boot >= boot_end || wall >= wall_end);
        prop_assert_eq!(now.is_past(end), now.until(end).is_zero());
        prop_assert_eq!(now.is_due(end), boot >= boot_end);
        let span = Duration::from_nanos(span);
        prop_assert_eq!(now.plus(span).minus(span), now);
        prop_assert_eq!(now.plus(span).since(now), span);
        prop_assert!(now.plus(span).is_past(now) && (span.is_zero() || !now.is_past(now.plus(span))));
        prop_assert_eq!(now.later(end).boot_nanos(), boot.max(boot_end));
        prop_assert_eq!(now.earlier(end).boot_nanos(), boot.min(boot_end));
    }

    #[test]
    fn a_fencing_token_parses_only_from_its_text(number in any::<u64>(), nonce in any::<u128>(), junk in any::<String>()) {
        let token = FencingToken { number, nonce };
        prop_assert_eq!(token.to_string().parse(), Ok(token));
        let upper = token.to_string().to_ascii_uppercase();
        prop_assert_eq!(upper.parse(), Ok(token), "upper case parses too");
        for bad in [junk.clone(), format!("{token}{junk}"), format!("{junk}{token}")] {
            let parsed: Result<FencingToken, _> = bad.parse();
            prop_assert!(parsed.is_err() || bad.bytes().all(|byte| byte == b'-' || byte.is_ascii_hexdigit()), "{}", bad);
        }
    }

    #[test]
    fn two_fencing_tokens_are_ordered_unless_their_numbers_are_equal(
        one in (0_u64..4, 0_u128..4), other in (0_u64..4, 0_u128..4),
    ) {
        let [one, other] = [one, other].map(|(number, nonce)| FencingToken { number, nonce });
        prop_assert_eq!(one.supersedes(&other) && other.supersedes(&one), one == other);
        prop_assert_eq!(!one.supersedes(&other) && !other.supersedes(&one), one.number == other.number && one != other);
    }
}

/// A client may hold thousands of leases.
#[cfg(target_pointer_width = "64")]
#[test]
fn a_lease_takes_at_most_160_bytes() {
    assert!(size_of::<Lease>() <= 160, "{} bytes", size_of::<Lease>());
}
