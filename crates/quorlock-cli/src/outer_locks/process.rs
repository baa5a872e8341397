//! The identity of a process, unique across machines and containers. A pid alone recurs in each container.

use std::fs;

use crate::stat::{self, ProcessStat};

/// A process as `/proc` shows it.
#[derive(Debug)]
pub(super) struct Process {
    /// Its pid in its PID namespace, its start time (in ticks since the boot), the namespace and the boot id.
    /// No other process of any machine has the same. None if its namespace cannot be read.
    pub(super) identity: Option<String>,
    /// The parent's pid in this `/proc`.
    parent: i32,
}

/// A PID namespace: its nesting depth below the namespace of this `/proc`, and its number.
struct Namespace {
    depth: usize,
    number: String,
}

/// This process and its ancestors, up to the PID namespace of this `/proc`.
pub(super) fn lineage() -> impl Iterator<Item = Process> {
    // As `self`, because this `/proc` may show this process under another pid.
    let own = Namespace::of("self");
    std::iter::successors(Process::of("self", own.as_ref()), move |it| {
        Process::of(&it.parent.to_string(), own.as_ref())
    })
}

impl Process {
    fn of(name: &str, own: Option<&Namespace>) -> Option<Self> {
        let ProcessStat { parent, began: started, .. } = stat::of(name)?;
        let identity = || {
            let numbers = numbers_of(name)?;
            // No process has a descendant outside of its namespace. So an ancestor at the same depth is in
            // the namespace of this process, also if its link cannot be read because it is another user's.
            let namespace = match (Namespace::of(name), own) {
                (Some(shown), _) => shown.number,
                (None, Some(own)) if own.depth == numbers.len() => own.number.clone(),
                _ => return None,
            };
            let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
            Some(format!("{}.{started}.{namespace}.{}", numbers.last()?, boot.trim()))
        };
        Some(Self { identity: identity(), parent })
    }
}

impl Namespace {
    fn of(name: &str) -> Option<Self> {
        let link = fs::read_link(format!("/proc/{name}/ns/pid")).ok()?;
        let number = link.to_str()?.strip_prefix("pid:[")?.strip_suffix(']')?.to_owned();
        Some(Self { depth: numbers_of(name)?.len(), number })
    }
}

/// Its pids in all namespaces that it is in, the innermost last.
fn numbers_of(name: &str) -> Option<Vec<String>> {
    let status = fs::read_to_string(format!("/proc/{name}/status")).ok()?;
    let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
    Some(numbers.split_whitespace().map(ToOwned::to_owned).collect())
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_process_and_its_ancestors_have_distinct_identities() {
        let lineage: Vec<Process> = lineage().collect();
        let identities: Vec<&str> = lineage.iter().filter_map(|it| it.identity.as_deref()).collect();
        let parent = std::os::unix::process::parent_id();
        for (identity, number) in identities.iter().zip([std::process::id(), parent]) {
            assert!(
                identity.starts_with(&format!("{number}.")) && identity.split('.').count() == 4,
                "{identities:?}"
            );
        }
        let distinct: std::collections::BTreeSet<&str> = identities.iter().copied().collect();
        assert!(identities.len() >= 2 && distinct.len() == identities.len(), "{identities:?}");
        assert_eq!(lineage.last().map(|it| it.parent), Some(0), "{lineage:?}");
    }
}
