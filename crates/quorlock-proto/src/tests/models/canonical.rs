//! Canonical fingerprints (symmetry reduction): equal for states that differ only in names of nodes and clients.
//!
//! Nodes are interchangeable, and so are clients that make equally many attempts. A fingerprint hashes one
//! column per node, in sorted order, and is the minimum over all permutations of the clients. Arbitrary
//! fencing numbers are hashed by rank. Leases that are extended are hashed whole, by their own `Hash`.

use std::hash::{Hash, Hasher};

use crate::quorum::{NodeId, NodeSet};
use crate::vote::{ReplyFailure, Vote};

use super::bounds::{AfterDataLoss, FencingNumbers, ModelMutant};
use super::hashers::{FingerprintHasher, LeaseHasher};
use super::lock_model::LockModel;
use super::node::ScriptResult;
use super::state::{Contender, MAX_CONTENDERS, MAX_NODES, Progress, State};

/// For each position, the contender that takes it.
pub(crate) type Permutation = [usize; MAX_CONTENDERS];

/// All permutations of interchangeable clients, as permutations of their contenders.
pub(crate) fn client_permutations(
    attempts_per_client: &[u8],
    mutant: Option<ModelMutant>,
) -> Vec<Permutation> {
    let identity: Permutation = std::array::from_fn(|contender| contender);
    let are_clients_alike = attempts_per_client.iter().all(|count| *count == attempts_per_client[0]);
    if mutant == Some(ModelMutant::TokenReused) || !are_clients_alike || attempts_per_client.len() == 1 {
        return vec![identity];
    }
    let per_client = usize::from(attempts_per_client[0]);
    let orders: &[&[usize]] = match attempts_per_client.len() {
        2 => &[&[0, 1], &[1, 0]],
        _ => &[&[0, 1, 2], &[0, 2, 1], &[1, 0, 2], &[1, 2, 0], &[2, 0, 1], &[2, 1, 0]],
    };
    let permutation_of = |order: &&[usize]| {
        std::array::from_fn(|contender| match order.get(contender / per_client) {
            Some(client) => client * per_client + contender % per_client,
            None => contender,
        })
    };
    orders.iter().map(permutation_of).collect()
}

impl LockModel {
    pub(crate) fn canonical_fingerprint(&self, state: &State) -> u64 {
        let (contenders, nodes) = (self.bounds.contenders(), self.bounds.nodes);
        let ranks = if self.bounds.fencing_numbers == FencingNumbers::Any {
            self.numbers_in_use(state)
        } else {
            Vec::new()
        };
        let rank = |fencing_number: u32| match ranks.binary_search(&fencing_number) {
            Ok(rank) => rank as u32 + 1,
            // A number that no node and no contender compares any more.
            Err(_) if self.bounds.fencing_numbers == FencingNumbers::Any => 0,
            Err(_) => fencing_number,
        };
        let mut channel_fingerprints = [[0; MAX_NODES]; MAX_CONTENDERS];
        let mut contender_fingerprints = [0; MAX_CONTENDERS];
        for contender in 0..contenders {
            let mut lease_hasher = LeaseHasher::default();
            if let Progress::Leased(lease) = &state.contenders[contender].progress
                && self.bounds.max_extensions > 0
            {
                lease.hash(&mut lease_hasher);
            }
            contender_fingerprints[contender] =
                self.contender_fingerprint(&state.contenders[contender], lease_hasher.shared, rank);
            for (node, fingerprint) in channel_fingerprints[contender][..nodes].iter_mut().enumerate() {
                *fingerprint =
                    self.channel_fingerprint(state, contender, node, lease_hasher.node_bits[node], rank);
            }
        }
        let is_free = |node: usize| state.nodes[node].owner == 0;
        let mut least = u64::MAX;
        for permutation in &self.client_permutations {
            let mut columns = [0; MAX_NODES];
            for (node, column) in columns[..nodes].iter_mut().enumerate() {
                let mut hasher = FingerprintHasher::new();
                let content = &state.nodes[node];
                let owner = if is_free(node) { 0 } else { self.permuted_owner(permutation, content.owner) };
                hasher.write_u8(owner);
                hasher.write_u8(content.expires_at);
                hasher.write_u32(rank(content.fence));
                if self.bounds.after_data_loss == AfterDataLoss::Probation {
                    hasher.write_u8(content.incarnation);
                    hasher.write_u8(content.data_since);
                }
                permutation[..contenders]
                    .iter()
                    .for_each(|contender| hasher.mix(channel_fingerprints[*contender][node]));
                *column = hasher.finish();
            }
            columns[..nodes].sort_unstable();
            let mut hasher = FingerprintHasher::new();
            hasher.write_u8(state.now);
            hasher.write_u8(u8::from(self.bounds.is_reduced && state.may_start));
            hasher.write_u8(state.disconnects);
            hasher.write_u8(state.data_losses);
            for contender in &permutation[..contenders] {
                hasher.mix(contender_fingerprints[*contender]);
                let issued_before = state.contenders[*contender].issued_before;
                let issued_before = (0..contenders)
                    .filter(|index| issued_before & 1 << permutation[*index] != 0)
                    .fold(0, |set, it| set | 1 << it);
                hasher.write_u8(issued_before);
            }
            columns[..nodes].iter().for_each(|column| hasher.mix(*column));
            least = least.min(hasher.finish());
        }
        least
    }

    /// The owner after the permutation of contenders.
    fn permuted_owner(&self, permutation: &Permutation, owner: u8) -> u8 {
        if self.client_permutations.len() == 1 {
            return owner;
        }
        let contender = usize::from(owner - 1);
        1 + permutation.iter().position(|other| *other == contender).unwrap_or(contender) as u8
    }

    /// Hashes what of a contender does not depend on a node.
    fn contender_fingerprint(
        &self,
        contender: &Contender,
        lease: FingerprintHasher,
        rank: impl Fn(u32) -> u32,
    ) -> u64 {
        let mut hasher = lease;
        hasher.write_u32(rank(contender.fencing_number));
        hasher.write_u8(u8::from(contender.is_number_issued) | u8::from(contender.was_overtaken) << 1);
        hasher.write_u8(contender.started_at);
        hasher.write_u8(contender.extensions);
        match &contender.progress {
            Progress::NotStarted => hasher.write_u8(1),
            Progress::Attempting(attempt) => {
                hasher.write_u8(2);
                hasher.write_u8(u8::from(attempt.fencing_number().is_some()));
            }
            Progress::Leased(lease) => {
                hasher.write_u8(3);
                if self.bounds.max_extensions == 0 && self.is_timed() {
                    hasher.write_u64(lease.deadline().boot_nanos());
                }
            }
            Progress::Ended => hasher.write_u8(4),
        }
        hasher.finish()
    }

    /// Hashes what of a contender belongs to one node, and what is in flight between the two.
    fn channel_fingerprint(
        &self,
        state: &State,
        contender: usize,
        node: usize,
        lease: u64,
        rank: impl Fn(u32) -> u32,
    ) -> u64 {
        let mut hasher = FingerprintHasher::new();
        hasher.mix(lease);
        let (channel, contender) = (&state.channels[contender][node], &state.contenders[contender]);
        let id = NodeId(node as u8);
        let in_set = |nodes: NodeSet| u8::from(nodes.contains(id));
        let in_bits = |bits: u8| bits >> node & 1;
        match &contender.progress {
            Progress::NotStarted | Progress::Ended => {}
            Progress::Attempting(attempt) => {
                let vote = match attempt.round().vote(id) {
                    Vote::Unknown(ReplyFailure::Timeout) => 1,
                    Vote::Granted => 2,
                    // Once the lock's number is fixed, the numbers it was chosen from no longer matter.
                    Vote::Fenced(_) if attempt.fencing_number().is_some() => 9,
                    Vote::Fenced(fencing_number) => {
                        hasher.write_u32(rank(self.model_number(*fencing_number)));
                        3
                    }
                    Vote::HeldByOther { .. } => 4,
                    Vote::NotHeld => 5,
                    Vote::FencedOut { .. } => 6,
                    Vote::OnProbation { .. } => 7,
                    Vote::Unknown(_) => 8,
                    Vote::Inspected(_) | Vote::Excluded(_) => {
                        unreachable!("the node of the models sends no such vote")
                    }
                };
                hasher.write_u8(vote);
                hasher
                    .write_u8(in_set(attempt.at_fencing_number()) | in_set(attempt.possibly_applied()) << 1);
            }
            // Without time any key may expire, so it does not matter where keys may be left.
            Progress::Leased(_) if !self.is_timed() => hasher.write_u8(in_bits(contender.counted_nodes)),
            Progress::Leased(_) => {
                hasher.write_u8(in_bits(contender.counted_nodes) | in_bits(contender.possibly_set) << 1);
            }
        }
        hasher.write_u8(in_bits(contender.pending_releases));
        for request in channel.requests.items() {
            hasher.write_u32(u32::from_le_bytes([
                request.kind,
                request.round,
                request.ttl,
                request.expected_incarnation,
            ]));
            hasher.write_u8(u8::from(request.is_orphaned));
            hasher.write_u32(rank(request.number_override));
        }
        hasher.write_u8(255);
        for reply in channel.replies.items() {
            hasher.write_u16(u16::from_le_bytes([reply.kind, reply.round]));
            match reply.result {
                ScriptResult::Granted => hasher.write_u8(1),
                ScriptResult::GrantedWithFence(fencing_number) => {
                    hasher.write_u8(2);
                    hasher.write_u32(rank(fencing_number));
                }
                ScriptResult::HeldByOther => hasher.write_u8(3),
                ScriptResult::NotHeld => hasher.write_u8(4),
                ScriptResult::FencedOut(fence) => {
                    hasher.write_u8(5);
                    hasher.write_u32(rank(fence));
                }
                ScriptResult::OnProbation => hasher.write_u8(6),
                ScriptResult::MarkerMismatch => hasher.write_u8(7),
            }
        }
        hasher.finish()
    }
}
