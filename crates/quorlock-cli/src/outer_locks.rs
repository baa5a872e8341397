//! Locks held by an outer `run`: `run NAME` inside `run NAME` would wait for itself.
//!
//! Each `run` passes the owner hash of its lock to its command in a variable, and so to every `run` inside. A
//! lock is held by an outer `run` only if the nodes show that owner now. With other nodes, another prefix, or
//! a variable that outlived its lock, nothing matches.

mod process;

use quorlock::inspect::{Inspection, OwnerHash};

/// A `run` that has started this process, directly or not, according to the variable.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct OuterRun {
    owner: OwnerHash,
    /// Its [identity](process::Process::identity).
    process: String,
}

/// The outer `run`s that the environment names, the innermost last.
pub(crate) fn from_environment() -> Vec<OuterRun> {
    std::env::var(VARIABLE).map_or_else(|_| Vec::new(), |text| parsed(&text))
}

/// Parses the variable, and skips malformed entries.
fn parsed(text: &str) -> Vec<OuterRun> {
    let parse_one = |entry: &str| {
        let (owner, process) = entry.split_once('@')?;
        Some(OuterRun { owner: owner.parse().ok()?, process: process.to_owned() })
    };
    text.split(' ').filter_map(parse_one).collect()
}

/// The variable for the command, with the lock of this `run` added.
pub(crate) fn variable(owner: OwnerHash) -> (&'static str, String) {
    let inherited = std::env::var(VARIABLE).unwrap_or_default();
    let process = process::lineage().next().and_then(|it| it.identity);
    // Without an identity, no process matches.
    let own = format!("{owner}@{}", process.as_deref().unwrap_or("-"));
    let entries = inherited.split(' ').filter(|entry| !entry.is_empty()).map(ToOwned::to_owned).chain([own]);
    (VARIABLE, entries.collect::<Vec<_>>().join(" "))
}

/// The outer `run` that holds this lock now.
pub(crate) fn holder<'a>(outer_runs: &'a [OuterRun], inspection: &Inspection) -> Option<&'a OuterRun> {
    let holder = inspection.holder()?;
    outer_runs.iter().find(|run| run.owner == holder.owner)
}

impl OuterRun {
    /// Whether it is an ancestor of this process, and so ends it before its lock is released. False on
    /// another machine, if another process has started this one for it, or if this PID namespace hides it.
    pub(crate) fn is_ancestor(&self) -> bool {
        process::lineage().any(|it| it.identity.as_deref() == Some(&*self.process))
    }
}

/// One entry per lock, separated by blanks: the owner hash, `@`, and the identity of its process.
const VARIABLE: &str = "QUORLOCK_HELD";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn malformed_entries_are_skipped() {
        let owner: OwnerHash = "45bf80c1".parse().expect("an owner hash");
        let outer_run = |process: &str| OuterRun { owner, process: process.to_owned() };
        let parsed = parsed("x  45bf80c1@12 45bf80c@12 45bf80c1 #45bf80c1@-");
        assert_eq!(parsed, [outer_run("12"), outer_run("-")]);
        assert!(!parsed.iter().any(OuterRun::is_ancestor));
    }

    /// This process and its ancestors match, and no identity that differs in any part.
    #[cfg(target_os = "linux")]
    #[test]
    fn an_ancestor_matches_only_by_its_whole_identity() {
        let owner: OwnerHash = "45bf80c1".parse().expect("an owner hash");
        let is_ancestor = |process: &str| OuterRun { owner, process: process.to_owned() }.is_ancestor();
        let ancestors: Vec<String> = process::lineage().filter_map(|it| it.identity).collect();
        assert!(ancestors.len() > 1 && ancestors.iter().all(|it| is_ancestor(it)), "{ancestors:?}");
        let parts: Vec<&str> = ancestors[1].split('.').collect();
        for index in 0..parts.len() {
            let mut other = parts.clone();
            other[index] = "7";
            assert!(!is_ancestor(&other.join(".")), "{other:?}");
            assert!(!is_ancestor(parts[index]), "{parts:?}");
        }
    }
}
