//! Locks that are held around us: `run NAME` inside `run NAME` would wait for itself.
//!
//! Each `run` tells its command, and so every `run` inside, whose its lock is: the hash that the nodes show of its owner.
//! A lock is held around us only if it is held by that owner now, and by what is on the nodes: another list of nodes,
//! another prefix, or a variable that outlived its lock match nothing.

use std::fs;

use quorlock::{Inspection, Mark};
use rustix::process::getpid;

/// A `run` that has started what has started us, as it said itself.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Around {
    mark: Mark,
    process: Option<i32>,
}

/// Those of these that hold a lock, as the environment tells: the innermost last.
pub(crate) fn told() -> Vec<Around> {
    std::env::var(VARIABLE).map_or_else(|_| Vec::new(), |text| parsed(&text))
}

/// What is not understood says nothing.
fn parsed(text: &str) -> Vec<Around> {
    let one = |word: &str| {
        let (mark, process) = word.split_once('@')?;
        Some(Around { mark: mark.parse().ok()?, process: process.parse().ok() })
    };
    text.split(' ').filter_map(one).collect()
}

/// What the command is told, so that it knows of our lock too: the variable and its value.
pub(crate) fn tell(mark: Option<Mark>) -> (&'static str, String) {
    let around = std::env::var(VARIABLE).unwrap_or_default();
    let ours = mark.map(|mark| format!("{mark}@{}", getpid().as_raw_pid()));
    let words = around.split(' ').filter(|word| !word.is_empty()).map(ToOwned::to_owned).chain(ours);
    (VARIABLE, words.collect::<Vec<_>>().join(" "))
}

/// The one that holds this lock now, if one does.
pub(crate) fn holder<'a>(around: &'a [Around], seen: &Inspection) -> Option<&'a Around> {
    let (mark, _) = seen.holder()?;
    around.iter().find(|run| run.mark == mark)
}

impl Around {
    /// Whether it ends us before it gives up its lock: it has started us, directly or not. What runs on another machine,
    /// or was started by others in its name, sees no such thing.
    pub(crate) fn ends_us(&self) -> bool {
        let mut parent = getpid().as_raw_pid();
        while parent > 1 && Some(parent) != self.process {
            parent = parent_of(parent).unwrap_or(0);
        }
        Some(parent) == self.process
    }
}

/// Of a process; the name in front of its number may hold anything.
fn parent_of(process: i32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
}

/// Of one word for each lock: the owner's hash, `@`, and the process that holds it.
const VARIABLE: &str = "QUORLOCK_HELD";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_have_put_there_says_nothing() {
        let mark: Mark = "45bf80c1".parse().expect("a mark");
        let told = parsed("x  45bf80c1@12 45bf80c@12 45bf80c1 #45bf80c1@-");
        assert_eq!(told, [Around { mark, process: Some(12) }, Around { mark, process: None }]);
        assert!(!told[1].ends_us());
        // This very process, its parent's parent and so on, and one that is none of these.
        let [ours, first] = [getpid().as_raw_nonzero().get(), 1];
        assert!(Around { mark, process: Some(ours) }.ends_us());
        assert_eq!(parent_of(ours), rustix::process::getppid().map(|pid| pid.as_raw_nonzero().get()));
        assert!(!Around { mark, process: Some(i32::MAX) }.ends_us());
        assert_eq!(parent_of(first), Some(0));
    }
}
