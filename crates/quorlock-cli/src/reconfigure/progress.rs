//! Reports the progress of a reconfiguration on stderr: one line for each change, and for each wait that lasts.

use std::sync::Arc;
use std::time::Duration;

use quorlock::reconfiguration::{ReconfigurationProgress, ReconfigurationStep};
use tokio::time::Instant;

use super::report::{loses_locks, settings};
use crate::exit;
use crate::nodes;

/// Prints what has changed and what is waited for, each once.
pub(super) struct ProgressReporter {
    is_quiet: bool,
    first_epoch: Option<Arc<str>>,
    pub(super) last: Option<ReconfigurationProgress>,
    wait: Wait,
}

/// What is waited for, since when, and whether it was printed.
struct Wait {
    next: ReconfigurationStep,
    since: Instant,
    is_printed: bool,
}

impl ProgressReporter {
    pub(super) fn new(is_quiet: bool) -> Self {
        let wait = Wait { next: ReconfigurationStep::Done, since: Instant::now(), is_printed: false };
        Self { is_quiet, first_epoch: None, last: None, wait }
    }

    pub(super) fn report(&mut self, progress: &ReconfigurationProgress) {
        let lines = self.lines(progress, Instant::now());
        self.print(&lines);
    }

    /// Reports what is waited for, once that has lasted.
    pub(super) fn report_wait(&mut self) {
        let line = self.lasting_wait(Instant::now());
        self.print(line.as_slice());
    }

    fn print(&self, lines: &[String]) {
        if !self.is_quiet {
            for line in lines {
                exit::eprint_line(line);
            }
        }
    }

    /// Whether another roster is in force than at first.
    pub(super) fn was_changed(&self, now: &ReconfigurationProgress) -> bool {
        self.first_epoch.as_ref().is_some_and(|first| *first != now.epoch)
    }

    /// The new lines.
    fn lines(&mut self, progress: &ReconfigurationProgress, now: Instant) -> Vec<String> {
        let mut lines = Vec::new();
        match &self.last {
            None => {
                self.first_epoch = Some(Arc::clone(&progress.epoch));
                lines.push(format!("in force: {} ({})", settings(progress), progress.nodes.join(", ")));
                lines.extend(progress.loses_locks.then(|| loses_locks(progress)));
            }
            Some(last) => lines.extend(change(last, progress)),
        }
        let is_next_step = self.last.as_ref().is_some_and(|last| last.epoch != progress.epoch);
        if is_next_step || !is_same_wait(&self.wait.next, &progress.next) {
            self.wait = Wait { next: progress.next.clone(), since: now, is_printed: false };
        }
        self.last = Some(progress.clone());
        lines
    }

    /// The wait that is not printed yet. A step takes some round trips, and passes through states that no person needs
    /// to know, so a short wait does not count.
    fn lasting_wait(&mut self, now: Instant) -> Option<String> {
        let waited = now.duration_since(self.wait.since);
        let progress = self.last.as_ref().filter(|_| !self.wait.is_printed && waited >= SHORT_WAIT)?;
        self.wait.is_printed = true;
        wait(progress, waited)
    }
}

/// What has changed, if it is something that people know.
fn change(last: &ReconfigurationProgress, now: &ReconfigurationProgress) -> Option<String> {
    let is_same = last.nodes == now.nodes && last.quorum == now.quorum && last.max_ttl == now.max_ttl;
    let new = |of: &ReconfigurationProgress, than: &ReconfigurationProgress| -> Vec<Arc<str>> {
        of.nodes.iter().filter(|node| !than.nodes.contains(node)).cloned().collect()
    };
    let mut changes = Vec::new();
    for (what, nodes) in [("added", new(now, last)), ("removed", new(last, now))] {
        if !nodes.is_empty() {
            changes.push(format!("{} {what}", nodes.join(", ")));
        }
    }
    let changes = if changes.is_empty() { String::new() } else { format!("{}: ", changes.join(", ")) };
    (!is_same).then(|| format!("{changes}{}", settings(now)))
}

/// What is waited for since `waited`, for people.
fn wait(progress: &ReconfigurationProgress, waited: Duration) -> Option<String> {
    Some(match &progress.next {
        ReconfigurationStep::AfterProbation(nodes) => format!(
            "waiting until {} may vote: about {}",
            nodes.join(", "),
            humantime::format_duration(progress.max_ttl)
        ),
        ReconfigurationStep::AfterLocks(left) => {
            format!("waiting {}, until earlier locks have ended", nodes::span(left.saturating_sub(waited)))
        }
        ReconfigurationStep::AfterNewNode(node) => match &*progress.obstacles {
            [] => format!("waiting for the new node {node}"),
            obstacles => {
                let obstacles: Vec<String> = obstacles.iter().map(ToString::to_string).collect();
                format!("waiting for the new node {node}: {}", obstacles.join("; "))
            }
        },
        ReconfigurationStep::Done => return None,
        _ => {
            let silent = progress.nodes.iter().filter(|node| !progress.voting.contains(node));
            let silent: Vec<&str> = silent.map(|node| &**node).collect();
            if silent.is_empty() {
                "waiting for the members to agree on the next step".to_owned()
            } else {
                format!(
                    "waiting for more members, without which the next step is impossible: {}",
                    silent.join(", ")
                )
            }
        }
    })
}

/// Whether it is the same wait, perhaps for a shorter time.
fn is_same_wait(one: &ReconfigurationStep, other: &ReconfigurationStep) -> bool {
    let is_for_locks = |step: &ReconfigurationStep| matches!(step, ReconfigurationStep::AfterLocks(_));
    one == other || is_for_locks(one) && is_for_locks(other)
}

/// A shorter wait is not reported.
const SHORT_WAIT: Duration = Duration::from_millis(300);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shrinking_wait_is_the_same_and_another_node_is_not() {
        let locks = |seconds| ReconfigurationStep::AfterLocks(Duration::from_secs(seconds));
        let node = |name: &str| ReconfigurationStep::AfterNewNode(name.into());
        assert!(is_same_wait(&locks(3), &locks(2)) && is_same_wait(&node("a"), &node("a")));
        assert!(!is_same_wait(&node("a"), &node("b")) && !is_same_wait(&locks(3), &node("a")));
    }
}
