//! Inputs in no sensible order: nothing panics, nothing wakes without end, and nobody votes who may not.

use std::time::Duration;

use proptest::prelude::*;

use crate::properties::votes;
use crate::protocol::board::{Board, Id, Limits};
use crate::protocol::claim::{Claim, Key, Phase};
use crate::protocol::lease::Tenure;
use crate::protocol::quorum::{NodeId, Quorum};
use crate::protocol::time::Moment;
use crate::protocol::vote::{Bar, Vote};
use crate::world::{ms, terms, token};

/// One input of a board, in no sensible order.
#[derive(Clone, Debug)]
enum Input {
    Acquire { ttl: u64, curious: bool, max_hold: Option<u64> },
    Abandon(Id),
    Extend(Id, u64),
    Forfeit(Id),
    Release(Id),
    Survey(Phase),
    Up(u8),
    Down(u8),
    Barred(u8),
    Reply(u8, Vote),
    Wake { boot: u64, wall: u64 },
    Poll,
}

fn inputs() -> impl Strategy<Value = Vec<Input>> {
    let (id, node, ttl) = (0_u64..12, 0_u8..5, 10_u64..60_000);
    let input = prop_oneof![
        3 => (ttl.clone(), any::<bool>(), proptest::option::of(10_u64..90_000))
            .prop_map(|(ttl, curious, max_hold)| Input::Acquire { ttl, curious, max_hold }),
        1 => id.clone().prop_map(Input::Abandon),
        1 => (id.clone(), ttl).prop_map(|(id, ttl)| Input::Extend(id, ttl)),
        1 => id.clone().prop_map(Input::Forfeit),
        1 => id.prop_map(Input::Release),
        1 => prop_oneof![Just(Phase::Inspect), Just(Phase::Break)].prop_map(Input::Survey),
        3 => node.clone().prop_map(Input::Up),
        1 => node.clone().prop_map(Input::Down),
        1 => node.clone().prop_map(Input::Barred),
        20 => (node, votes()).prop_map(|(node, vote)| Input::Reply(node, vote)),
        6 => (0_u64..4_000_000_000, 0_u64..8_000_000_000).prop_map(|(boot, wall)| Input::Wake { boot, wall }),
        6 => Just(Input::Poll),
    ];
    prop::collection::vec(input, 1..200)
}

proptest! {
    #[test]
    fn no_order_of_inputs_makes_a_board_panic_or_wake_without_end(nodes in 1_usize..=5, inputs in inputs()) {
        let quorum = Quorum::new(nodes, None).expect("a usual quorum");
        let limits = Limits { node_timeout: ms(500), redial_after: Duration::from_secs(2) };
        let mut board = Board::new(quorum, limits);
        let (mut now, mut ids) = (Moment::new(1_000_000_000, 1_700_000_000_000_000_000), 0);
        let place = |node: u8| NodeId(node % nodes as u8);
        for input in inputs {
            match input {
                Input::Acquire { ttl, curious, max_hold } => {
                    ids += 1;
                    let claim = Claim { key: Key::new("k"), terms: terms(ms(ttl)), curious, floor: 0 };
                    let tenure = Tenure { auto_renew: curious, max_hold: max_hold.map(ms) };
                    board.acquire(ids, claim, tenure, token(ids), now);
                }
                Input::Abandon(id) => board.abandon(id, now),
                Input::Extend(id, ttl) => { board.extend(id, terms(ms(ttl)), now); }
                Input::Forfeit(id) => board.forfeit(id, now),
                Input::Release(id) => { board.release(id, now); }
                Input::Survey(phase) => {
                    ids += 1;
                    board.survey(ids, phase, Key::new("k"), now);
                }
                Input::Up(node) => board.on_up(place(node), now),
                Input::Down(node) => board.on_down(place(node), "gone".into(), now),
                Input::Barred(node) => board.on_barred(place(node), Bar::Replica, now),
                Input::Reply(node, vote) => {
                    let expected = board.expects(place(node));
                    let asked = board.on_reply(place(node), vote, now);
                    prop_assert_eq!(asked.map(|(_, phase)| phase), expected);
                }
                Input::Wake { boot, wall } => {
                    // The wall clock goes either way, the boot clock only on.
                    let wall = (now.wall_nanos() + wall).saturating_sub(4_000_000_000);
                    now = Moment::new(now.boot_nanos() + boot, wall);
                    board.on_wake(now);
                    prop_assert!(board.next_wake().is_none_or(|at| at > now.boot_nanos()));
                }
                Input::Poll => while board.poll().is_some() {},
            }
        }
        prop_assert_eq!(board.clone(), board);
    }
}
