//! Common cases of `acquire_fenced`, `adopt_fenced`, `renew_fenced` and `reacquire_fenced`: a node that may not vote does
//! nothing.

use std::time::Duration;

use super::{
    FENCED_REQUESTS, Location, NodeUnderTest, OTHER_TOKEN, OWN_TOKEN, PREVIOUS_NUMBER, SLACK, TTL,
    assert_about, assert_error, cases, default_fence, request,
};
use crate::membership::ExpectedMarker;
use crate::request::RequestKind;
use crate::vote::{ReplyFailure, Vote};

cases![
    a_node_with_an_unexpected_marker_casts_no_vote,
    a_marker_of_another_type_is_an_error,
    a_request_without_an_expected_marker_gets_no_vote,
    a_node_on_probation_reports_the_remaining_time,
    a_node_votes_from_the_microsecond_in_which_its_probation_ends,
    every_fenced_reply_contains_the_clock,
    an_unknown_fenced_script_does_nothing_until_sent_as_text,
];

/// Prepares the state in which the request is granted: a key with `OWN_TOKEN` or of the previous owner, or none
/// for requests that set one.
fn prepare(node: &mut dyn NodeUnderTest, kind: RequestKind) {
    node.reset();
    match kind {
        RequestKind::RaiseFence | RequestKind::Renew => node.set_lock(OWN_TOKEN, Some(TTL / 2)),
        RequestKind::Adopt => node.set_lock(OTHER_TOKEN, Some(TTL / 2)),
        _ => {}
    }
    node.set_fence(PREVIOUS_NUMBER);
}

fn a_node_with_an_unexpected_marker_casts_no_vote(node: &mut dyn NodeUnderTest) {
    for kind in FENCED_REQUESTS {
        let markers: [Option<&[u8]>; 4] =
            [None, Some(b""), Some(b"the expected marker "), Some(b"another marker")];
        for marker in markers {
            prepare(node, kind);
            let expected_marker = node.expected_marker();
            node.reset();
            prepare(node, kind);
            if let Some(marker) = marker {
                node.set(Location::Marker, Some(marker), None);
            }
            let request = request(kind, Some(default_fence(kind)));
            let (vote, clock) =
                node.assert_unchanged(|node| node.request(&request, Some(&expected_marker), false));
            assert_eq!(vote, Vote::Unknown(ReplyFailure::MarkerMismatch), "{kind:?}");
            assert!(clock.is_some());
        }
    }
}

fn a_marker_of_another_type_is_an_error(node: &mut dyn NodeUnderTest) {
    for kind in FENCED_REQUESTS {
        prepare(node, kind);
        let expected_marker = node.expected_marker();
        node.set(Location::Marker, None, None);
        let request = request(kind, Some(default_fence(kind)));
        let (vote, clock) =
            node.assert_unchanged(|node| node.request(&request, Some(&expected_marker), false));
        assert_error(&vote);
        assert_eq!(clock, None);
    }
}

fn a_request_without_an_expected_marker_gets_no_vote(node: &mut dyn NodeUnderTest) {
    for kind in FENCED_REQUESTS {
        for marker in [None, Some(b"the expected marker" as &[u8])] {
            prepare(node, kind);
            if marker.is_some() {
                node.set(Location::Marker, marker, None);
            }
            let request = request(kind, Some(default_fence(kind)));
            let (vote, _) = node.assert_unchanged(|node| node.request(&request, None, false));
            assert_eq!(vote, Vote::Unknown(ReplyFailure::MarkerMismatch), "{kind:?}");
        }
    }
}

fn a_node_on_probation_reports_the_remaining_time(node: &mut dyn NodeUnderTest) {
    for kind in FENCED_REQUESTS {
        prepare(node, kind);
        let expected_marker = ExpectedMarker {
            votes_from_micros: node.clock_micros() + TTL.as_micros() as u64,
            ..node.expected_marker()
        };
        let request = request(kind, Some(default_fence(kind)));
        let (vote, clock) =
            node.assert_unchanged(|node| node.request(&request, Some(&expected_marker), false));
        let Vote::OnProbation { remaining, .. } = vote else { panic!("{kind:?}: {vote:?}") };
        let left = Duration::from_micros(expected_marker.votes_from_micros - clock.expect("a clock"));
        assert_eq!(remaining.as_millis(), left.as_micros().div_ceil(1000), "rounded up");
        assert_about(Some(remaining), Some(TTL));
    }
}

fn a_node_votes_from_the_microsecond_in_which_its_probation_ends(node: &mut dyn NodeUnderTest) {
    for kind in FENCED_REQUESTS {
        for early in [0, 1, 1_000] {
            prepare(node, kind);
            let expected_marker =
                ExpectedMarker { votes_from_micros: node.clock_micros() - early, ..node.expected_marker() };
            let request = request(kind, Some(default_fence(kind)));
            let (vote, _) = node.request(&request, Some(&expected_marker), false);
            assert!(vote.is_grant(), "{kind:?}: {vote:?}");
        }
    }
}

fn every_fenced_reply_contains_the_clock(node: &mut dyn NodeUnderTest) {
    for kind in FENCED_REQUESTS {
        for is_owner in [true, false] {
            prepare(node, kind);
            if !is_owner {
                node.set(Location::Lock, Some(b"another owner"), Some(TTL));
            }
            let before = node.clock_micros();
            let (vote, clock) = node.fenced_request(kind, default_fence(kind));
            assert_eq!(vote.is_grant(), is_owner, "{kind:?}: {vote:?}");
            let elapsed = clock.expect("a clock").abs_diff(before);
            assert!(elapsed < SLACK.as_micros() as u64, "{elapsed} µs");
        }
    }
}

fn an_unknown_fenced_script_does_nothing_until_sent_as_text(node: &mut dyn NodeUnderTest) {
    // An adoption is rare, and always sent as text.
    for kind in FENCED_REQUESTS.into_iter().filter(|kind| *kind != RequestKind::Adopt) {
        prepare(node, kind);
        let expected_marker = node.expected_marker();
        node.flush_scripts();
        let request = request(kind, Some(default_fence(kind)));
        let (vote, clock) =
            node.assert_unchanged(|node| node.request(&request, Some(&expected_marker), false));
        assert_eq!((vote, clock), (Vote::Unknown(ReplyFailure::NoScript), None), "{kind:?}");
        let (vote, _) = node.request(&request, Some(&expected_marker), true);
        assert!(vote.is_grant(), "{kind:?}: {vote:?}");
        prepare_keeping_scripts(node, kind);
        assert!(node.fenced_vote(kind, default_fence(kind)).is_grant(), "the script is known from then on");
    }
}

/// As [`prepare`], but keeps the loaded scripts.
fn prepare_keeping_scripts(node: &mut dyn NodeUnderTest, kind: RequestKind) {
    match kind {
        RequestKind::RaiseFence | RequestKind::Renew => node.set_lock(OWN_TOKEN, Some(TTL / 2)),
        _ => drop(node.plain_vote(RequestKind::ForceRelease)),
    }
    node.set_fence(PREVIOUS_NUMBER);
}
