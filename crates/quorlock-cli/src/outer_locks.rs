//! Locks that are held around us: `run NAME` inside `run NAME` would wait for itself.
//!
//! Each `run` tells its command, and so every `run` inside, whose its lock is: the hash that the nodes show of its owner.
//! A lock is held around us only if it is held by that owner now, and by what is on the nodes: another list of nodes,
//! another prefix, or a variable that outlived its lock match nothing.

mod process;

use quorlock::{Inspection, OwnerHash};

/// A `run` that has started what has started us, as it said itself.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct OuterRun {
    owner: OwnerHash,
    /// Its [identity](process::Process::identity).
    process: String,
}

/// Those of these that hold a lock, as the environment tells: the innermost last.
pub(crate) fn from_environment() -> Vec<OuterRun> {
    std::env::var(VARIABLE).map_or_else(|_| Vec::new(), |text| parsed(&text))
}

/// What is not understood says nothing.
fn parsed(text: &str) -> Vec<OuterRun> {
    let one = |word: &str| {
        let (mark, process) = word.split_once('@')?;
        Some(OuterRun { owner: mark.parse().ok()?, process: process.to_owned() })
    };
    text.split(' ').filter_map(one).collect()
}

/// What the command is told, so that it knows of our lock too: the variable and its value.
pub(crate) fn variable(mark: Option<OwnerHash>) -> (&'static str, String) {
    let around = std::env::var(VARIABLE).unwrap_or_default();
    let process = process::lineage().next().and_then(|it| it.identity);
    // Where it is not to be known, nobody takes another for us.
    let ours = mark.map(|mark| format!("{mark}@{}", process.as_deref().unwrap_or("-")));
    let words = around.split(' ').filter(|word| !word.is_empty()).map(ToOwned::to_owned).chain(ours);
    (VARIABLE, words.collect::<Vec<_>>().join(" "))
}

/// The one that holds this lock now, if one does.
pub(crate) fn holder<'a>(around: &'a [OuterRun], seen: &Inspection) -> Option<&'a OuterRun> {
    let (mark, _) = seen.holder()?;
    around.iter().find(|run| run.owner == mark)
}

impl OuterRun {
    /// Whether it ends us before it gives up its lock: it has started us, directly or not. What runs on another machine,
    /// or was started by others in its name, sees no such thing; nor does what sees only a PID namespace of its own.
    pub(crate) fn is_ancestor(&self) -> bool {
        process::lineage().any(|it| it.identity.as_deref() == Some(&*self.process))
    }
}

/// Of one word for each lock: the owner's hash, `@`, and the process that holds it.
const VARIABLE: &str = "QUORLOCK_HELD";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_have_put_there_says_nothing() {
        let mark: OwnerHash = "45bf80c1".parse().expect("a mark");
        let around = |process: &str| OuterRun { owner: mark, process: process.to_owned() };
        let told = parsed("x  45bf80c1@12 45bf80c@12 45bf80c1 #45bf80c1@-");
        assert_eq!(told, [around("12"), around("-")]);
        assert!(!told.iter().any(OuterRun::is_ancestor));
    }

    /// This very process, its parent's parent and so on; and none that differs in any part.
    #[cfg(target_os = "linux")]
    #[test]
    fn an_ancestor_is_one_by_all_that_is_known_of_it() {
        let mark: OwnerHash = "45bf80c1".parse().expect("a mark");
        let ends = |process: &str| OuterRun { owner: mark, process: process.to_owned() }.is_ancestor();
        let ancestors: Vec<String> = process::lineage().filter_map(|it| it.identity).collect();
        assert!(ancestors.len() > 1 && ancestors.iter().all(|it| ends(it)), "{ancestors:?}");
        let parts: Vec<&str> = ancestors[1].split('.').collect();
        for place in 0..parts.len() {
            let mut other = parts.clone();
            other[place] = "7";
            assert!(!ends(&other.join(".")), "{other:?}");
            assert!(!ends(parts[place]), "{parts:?}");
        }
    }
}
