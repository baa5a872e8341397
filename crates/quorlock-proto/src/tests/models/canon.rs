//! What of a state matters to its future, without the names of nodes and clients.
//!
//! Nodes are alike, and so are clients that make equally many attempts: a state is told by one column for each node,
//! sorted, and the order of the clients that gives the least. Numbers that may be anything are told by their order
//! only. Leases that are extended are taken whole, as their own `Hash` gives them.

use std::hash::{Hash, Hasher};

use crate::quorum::{NodeId, NodeSet};
use crate::vote::{ReplyFailure, Vote};

use super::bounds::{Memory, Numbers, Slip};
use super::node::Said;
use super::print::{Parts, Print};
use super::state::{MOST_NODES, MOST_ROWS, Row, Stage, State};
use super::world::World;

/// Which rows stand in the place of which.
pub(crate) type Places = [usize; MOST_ROWS];

/// All ways to swap the names of clients.
pub(crate) fn swaps(attempts: &[u8], slip: Option<Slip>) -> Vec<Places> {
    let all: Places = std::array::from_fn(|row| row);
    let is_each_alike = attempts.iter().all(|count| *count == attempts[0]);
    if slip == Some(Slip::ReusesToken) || !is_each_alike || attempts.len() == 1 {
        return vec![all];
    }
    let each = usize::from(attempts[0]);
    let orders: &[&[usize]] = match attempts.len() {
        2 => &[&[0, 1], &[1, 0]],
        _ => &[&[0, 1, 2], &[0, 2, 1], &[1, 0, 2], &[1, 2, 0], &[2, 0, 1], &[2, 1, 0]],
    };
    let place = |command: &&[usize]| {
        std::array::from_fn(|row| match command.get(row / each) {
            Some(client) => client * each + row % each,
            None => row,
        })
    };
    orders.iter().map(place).collect()
}

impl World {
    pub(crate) fn print(&self, state: &State) -> u64 {
        let (rows, nodes) = (self.bounds.rows(), self.bounds.nodes);
        let ranks = if self.bounds.numbers == Numbers::Any { self.numbers(state) } else { Vec::new() };
        let rank = |number: u32| match ranks.binary_search(&number) {
            Ok(rank) => rank as u32 + 1,
            // Numbers that are no longer compared with any, and those that are told as they are.
            Err(_) if self.bounds.numbers == Numbers::Any => 0,
            Err(_) => number,
        };
        let mut cells = [[0; MOST_NODES]; MOST_ROWS];
        let mut heads = [0; MOST_ROWS];
        for row in 0..rows {
            let mut parts = Parts::default();
            if let Stage::Held(lease) = &state.rows[row].stage
                && self.bounds.extensions > 0
            {
                lease.hash(&mut parts);
            }
            heads[row] = self.head(&state.rows[row], parts.rest, rank);
            for (node, cell) in cells[row][..nodes].iter_mut().enumerate() {
                *cell = self.cell(state, row, node, parts.nodes[node], rank);
            }
        }
        let is_free = |node: usize| state.nodes[node].owner == 0;
        let mut least = u64::MAX;
        for places in &self.swaps {
            let mut columns = [0; MOST_NODES];
            for (node, column) in columns[..nodes].iter_mut().enumerate() {
                let mut print = Print::new();
                let at = &state.nodes[node];
                let owner = if is_free(node) { 0 } else { self.place_of(places, at.owner) };
                print.write_u8(owner);
                print.write_u8(at.expires);
                print.write_u32(rank(at.fence));
                if self.bounds.memory == Memory::Marked {
                    print.write_u8(at.life);
                    print.write_u8(at.since);
                }
                places[..rows].iter().for_each(|row| print.add(cells[*row][node]));
                *column = print.finish();
            }
            columns[..nodes].sort_unstable();
            let mut print = Print::new();
            print.write_u8(state.now);
            print.write_u8(u8::from(self.bounds.is_lean && state.is_fresh));
            print.write_u8(state.cuts);
            print.write_u8(state.forgets);
            for row in &places[..rows] {
                print.add(heads[*row]);
                let earlier = state.rows[*row].earlier;
                let earlier = (0..rows)
                    .filter(|place| earlier & 1 << places[*place] != 0)
                    .fold(0, |set, it| set | 1 << it);
                print.write_u8(earlier);
            }
            columns[..nodes].iter().for_each(|column| print.add(*column));
            least = least.min(print.finish());
        }
        least
    }

    /// An owner by the place of its row.
    fn place_of(&self, places: &Places, owner: u8) -> u8 {
        if self.swaps.len() == 1 {
            return owner;
        }
        let row = usize::from(owner - 1);
        1 + places.iter().position(|other| *other == row).unwrap_or(row) as u8
    }

    /// What an attempt is, apart from the nodes.
    fn head(&self, row: &Row, lease: Print, rank: impl Fn(u32) -> u32) -> u64 {
        let mut print = lease;
        print.write_u32(rank(row.number));
        print.write_u8(u8::from(row.is_issued) | u8::from(row.was_passed) << 1);
        print.write_u8(row.start);
        print.write_u8(row.extensions);
        match &row.stage {
            Stage::Waiting => print.write_u8(1),
            Stage::Open(attempt) => {
                print.write_u8(2);
                print.write_u8(u8::from(attempt.fencing_number().is_some()));
            }
            Stage::Held(lease) => {
                print.write_u8(3);
                if self.bounds.extensions == 0 && self.is_timed() {
                    print.write_u64(lease.deadline().boot_nanos());
                }
            }
            Stage::Over => print.write_u8(4),
        }
        print.finish()
    }

    /// What is between an attempt and a node.
    fn cell(&self, state: &State, row: usize, at: usize, lease: u64, rank: impl Fn(u32) -> u32) -> u64 {
        let mut print = Print::new();
        print.add(lease);
        let (wire, row) = (&state.wires[row][at], &state.rows[row]);
        let node = NodeId(at as u8);
        let has = |nodes: NodeSet| u8::from(nodes.contains(node));
        let is_in = |bits: u8| bits >> at & 1;
        match &row.stage {
            Stage::Waiting | Stage::Over => {}
            Stage::Open(attempt) => {
                let vote = match attempt.round().vote(node) {
                    Vote::Unknown(ReplyFailure::Timeout) => 1,
                    Vote::Granted => 2,
                    // Once the lock's number is fixed, nobody asks any more what it was made of.
                    Vote::Fenced(_) if attempt.fencing_number().is_some() => 9,
                    Vote::Fenced(number) => {
                        print.write_u32(rank(self.narrow(*number)));
                        3
                    }
                    Vote::HeldByOther { .. } => 4,
                    Vote::NotHeld => 5,
                    Vote::FencedOut { .. } => 6,
                    Vote::OnProbation { .. } => 7,
                    Vote::Unknown(_) => 8,
                    Vote::Inspected(_) | Vote::Excluded(_) => unreachable!("nobody says so here"),
                };
                print.write_u8(vote);
                print.write_u8(has(attempt.at_fencing_number()) | has(attempt.possibly_applied()) << 1);
            }
            // Without time, keys go by themselves: nobody minds where they may be left.
            Stage::Held(_) if !self.is_timed() => print.write_u8(is_in(row.counted)),
            Stage::Held(_) => print.write_u8(is_in(row.counted) | is_in(row.touched) << 1),
        }
        print.write_u8(is_in(row.undone));
        for command in wire.commands.items() {
            print.write_u32(u32::from_le_bytes([command.phase, command.round, command.ttl, command.life]));
            print.write_u8(u8::from(command.is_ghost));
            print.write_u32(rank(command.past));
        }
        print.write_u8(255);
        for reply in wire.replies.items() {
            print.write_u16(u16::from_le_bytes([reply.phase, reply.round]));
            match reply.said {
                Said::Granted => print.write_u8(1),
                Said::Fenced(number) => {
                    print.write_u8(2);
                    print.write_u32(rank(number));
                }
                Said::Held => print.write_u8(3),
                Said::Missing => print.write_u8(4),
                Said::Outranked(fence) => {
                    print.write_u8(5);
                    print.write_u32(rank(fence));
                }
                Said::Doubtful => print.write_u8(6),
                Said::Changed => print.write_u8(7),
            }
        }
        print.finish()
    }
}
