//! Whether a signal that this process has caught must be passed on to the command, or has reached it by itself.

use std::collections::BTreeSet;

use rustix::process::Signal;

use crate::signals::Caught;

/// The signals that the command has received, and what decides that.
pub(super) struct Deliveries {
    /// Whether the command is in this process's group.
    is_shared: bool,
    has_started: bool,
    /// Signals that the command received, from this process or from the terminal.
    received: BTreeSet<i32>,
}

/// What becomes of a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Delivery {
    /// The terminal has sent it to the command, too.
    Received,
    /// It is for another process of this group, which was stopped because it used the terminal.
    GroupWantsTerminal,
    /// It must be passed on to the command.
    PassOn,
}

impl Deliveries {
    pub(super) const fn new(is_shared: bool) -> Self {
        Self { is_shared, has_started: false, received: BTreeSet::new() }
    }

    /// The command is in its group from now on. Returns what becomes of the signals that wait to be read.
    ///
    /// They may have been typed before, so that only this process has received them: they count as typed before the
    /// start. One that was typed since, the command receives twice.
    pub(super) fn start(&mut self, waiting: &[Caught], is_session_leader: bool) -> Vec<Delivery> {
        let deliveries = waiting.iter().map(|caught| self.deliver(*caught, is_session_leader)).collect();
        self.has_started = true;
        deliveries
    }

    /// What becomes of a signal that this process, which may be the leader of its session, has caught.
    pub(super) fn deliver(&mut self, caught: Caught, is_session_leader: bool) -> Delivery {
        // Typed signals go to the whole foreground group, and so to a command in this group. But closing the
        // window sends HUP to the session leader alone.
        let is_for_all = caught.is_typed && !(caught.is(Signal::HUP) && is_session_leader);
        // A command that was not started yet has not received the signal.
        if self.is_shared && is_for_all && self.has_started {
            self.received.insert(caught.number);
            return Delivery::Received;
        }
        // TTIN and TTOU stop a process that uses the terminal. Another process of this group continues after
        // the command.
        if caught.is(Signal::TTIN) || caught.is(Signal::TTOU) {
            return Delivery::GroupWantsTerminal;
        }
        self.received.insert(caught.number);
        Delivery::PassOn
    }

    /// Whether the command received this signal.
    pub(super) fn has_received(&self, signal: Signal) -> bool {
        self.received.contains(&signal.as_raw())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CTRL_C: Caught = Caught { number: Signal::INT.as_raw(), is_typed: true };

    /// Where this process is busy, it reads the Ctrl-C only after it has learned of the start.
    #[test]
    fn a_signal_that_waits_when_the_command_starts_is_passed_on() {
        let mut shared = Deliveries::new(true);
        assert_eq!(shared.start(&[CTRL_C], false), [Delivery::PassOn]);
        assert!(shared.has_received(Signal::INT));
        assert_eq!(shared.deliver(CTRL_C, false), Delivery::Received, "typed for both");
    }

    #[test]
    fn a_typed_signal_reaches_a_command_in_this_group_by_itself() {
        let deliver = |is_shared, caught, is_session_leader| {
            let mut deliveries = Deliveries::new(is_shared);
            assert_eq!(deliveries.deliver(CTRL_C, false), Delivery::PassOn, "there is no command yet");
            deliveries.start(&[], false);
            deliveries.deliver(caught, is_session_leader)
        };
        let (hang_up, sent) =
            (Caught { number: Signal::HUP.as_raw(), ..CTRL_C }, Caught { is_typed: false, ..CTRL_C });
        assert_eq!(deliver(true, CTRL_C, true), Delivery::Received);
        assert_eq!(deliver(false, CTRL_C, false), Delivery::PassOn, "the command is in another group");
        assert_eq!(deliver(true, sent, false), Delivery::PassOn);
        assert_eq!(deliver(true, hang_up, false), Delivery::Received);
        assert_eq!(deliver(true, hang_up, true), Delivery::PassOn, "only the leader of the session got it");
        let wants_terminal = Caught { number: Signal::TTIN.as_raw(), is_typed: false };
        assert_eq!(deliver(true, wants_terminal, false), Delivery::GroupWantsTerminal);
    }
}
