//! How many nodes keep their data and address while addresses move: a lock cluster survives moves only if a
//! quorum of its members does.

use std::collections::BTreeSet;

use super::fault_window::FaultWindow;
use super::{RunFacts, Span};
use crate::history::Effect;

/// The excuse for two lock clusters, if addresses moved within `span`, or so shortly before that it matters,
/// while more nodes lost their memory or address than a quorum can spare. The clients with old connections are
/// then in one lock cluster, and those with new ones in another.
pub(super) fn excuse(facts: &RunFacts<'_>, span: Span) -> Option<String> {
    let near = Span { from: span.from.saturating_sub(facts.max_ttl()), to: span.to };
    let spare_count = facts.settings.nodes - facts.settings.quorum;
    let recovering = || {
        facts.fault_windows.iter().filter(|window| loses_memory_or_address(window)).map(|window| {
            let Span { from, to } = window.span;
            (window, Span { from, to: to.saturating_add(facts.max_ttl()) })
        })
    };
    // The set of these nodes grows only when a fault begins.
    let begins = recovering().map(|(_, span)| span.from).chain([near.from]);
    let mut begins = begins.filter(|at| near.from <= *at && *at <= near.to);
    let is_beyond = begins.any(|at| {
        let at = || recovering().filter(|(_, span)| span.from <= at && at <= span.to);
        let nodes: BTreeSet<usize> =
            at().flat_map(|(window, _)| window.fault.nodes.iter().copied()).collect();
        nodes.len() > spare_count && at().any(|(window, _)| moves(window))
    });
    is_beyond.then(|| "addresses moved, and too few nodes kept their data and address".to_owned())
}

fn loses_memory_or_address(window: &FaultWindow<'_>) -> bool {
    window.fault.effects.iter().any(|effect| {
        matches!(effect, Effect::Down | Effect::DataLoss { .. } | Effect::AddressMoved | Effect::LeavesRoster)
    })
}

fn moves(window: &FaultWindow<'_>) -> bool {
    window.fault.effects.contains(&Effect::AddressMoved)
}
