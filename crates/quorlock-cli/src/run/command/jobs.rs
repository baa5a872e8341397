//! Signals and job control: which signals are passed on, what a stop of the command means, and which group
//! has the terminal.

use std::os::unix::process::ExitStatusExt as _;

use rustix::process::{Signal, kill_current_process_group};

use super::delivery::Delivery;
use super::{Stage, Supervisor, messages, nanos};
use crate::groups::{group_of, is_first_of_session, is_session_leader};
use crate::reaper::{ReaperOrder, boot_nanos};
use crate::run::terminal::Terminal;
use crate::signals::Caught;

impl Supervisor<'_> {
    /// Passes a signal on to the command.
    pub(super) fn pass_on(&mut self, caught: Caught) {
        // After the command's end a signal is for this process, unless it was typed for both just before.
        if self.status.is_some() && caught.ends_process() && !(self.is_shared && caught.is_typed) {
            self.signal_for_run = self.signal_for_run.or(Signal::from_named_raw(caught.number));
        }
        let delivery = self.deliveries.deliver(caught, is_session_leader());
        self.carry_out(delivery, caught);
    }

    /// The command has started: passes on the signals that were typed before.
    pub(super) fn pass_on_waiting(&mut self) {
        let waiting: Vec<Caught> = std::iter::from_fn(|| self.signals.try_next()).collect();
        let deliveries = self.deliveries.start(&waiting, is_session_leader());
        for (delivery, caught) in deliveries.into_iter().zip(waiting) {
            self.carry_out(delivery, caught);
        }
    }

    fn carry_out(&mut self, delivery: Delivery, caught: Caught) {
        match delivery {
            Delivery::Received => {}
            Delivery::GroupWantsTerminal => self.group_wants_terminal = true,
            Delivery::PassOn => self.reaper.send(ReaperOrder::Signal(caught.number)),
        }
    }

    /// Handles a stop of the command. No other process sees the stop, and the lock stays held meanwhile.
    pub(super) fn handle_stop(&mut self, number: i32) {
        let Some(signal) = Signal::from_named_raw(number).filter(|_| self.stage == Stage::Working) else {
            return;
        };
        let wants_terminal = matches!(signal, Signal::TTIN | Signal::TTOU);
        // Without a shell above, nothing would continue this process.
        let has_shell = !is_first_of_session();
        let is_shared = self.is_shared;
        // Some programs stop themselves with STOP when Ctrl-Z is typed.
        let is_at_terminal = |terminal: &&mut Terminal| {
            let has_it = if is_shared { terminal.is_in_foreground() } else { terminal.is_lent() };
            signal != Signal::STOP || has_shell && has_it
        };
        let Some(terminal) = self.terminal.as_mut().filter(is_at_terminal) else {
            self.eprint(&format!(
                "the command was stopped ({}), and the lock stays held",
                messages::name_of(signal)
            ));
            return;
        };
        let group = self.command.and_then(|pid| group_of(Some(pid))).or(self.group);
        // The command may have received the terminal after it was stopped. Then continue the command, too.
        if wants_terminal
            && group.is_some_and(|group| terminal.lend(group) || terminal.is_foreground_group(group))
        {
            self.reaper.send(ReaperOrder::Signal(Signal::CONT.as_raw()));
            return;
        }
        let was_lent = terminal.was_lent();
        let own_stop = if signal == Signal::STOP { Signal::TSTP } else { signal };
        let was_continued = has_shell && self.signals.stop_own_group(own_stop);
        // This group may be in the foreground meanwhile, also if another stop hides the CONT.
        if wants_terminal && group.is_some_and(|group| terminal.lend(group)) {
            self.reaper.send(ReaperOrder::Signal(Signal::CONT.as_raw()));
            return;
        }
        if wants_terminal && !was_continued {
            let send_kill_at = boot_nanos().saturating_add(nanos(self.args.kill_after));
            self.stage = Stage::EndingForTerminal { signal, send_kill_at };
            self.eprint(
                "the command was stopped, because it uses the terminal in the background: it gets TERM",
            );
            self.reaper.send(ReaperOrder::Term);
            return;
        }
        // In the foreground again: restore the loan.
        if let Some(group) = group.filter(|_| was_lent) {
            terminal.lend(group);
        }
        self.reaper.send(ReaperOrder::Signal(Signal::CONT.as_raw()));
    }

    /// Takes the terminal back, once. Restores the modes if the command was killed and could not do so.
    pub(super) fn give_back_terminal(&mut self) {
        let was_ended =
            self.stage != Stage::Working || self.status.is_none_or(|status| status.signal().is_some());
        if let Some(mut terminal) = self.terminal.take() {
            // The command may have taken the terminal without a report of its start.
            if let Some(group) = self.takes_terminal_from.and(self.group) {
                terminal.record_loan_to(group);
            }
            terminal.take_back(was_ended && self.command.is_some());
            if self.group_wants_terminal {
                let _ = kill_current_process_group(Signal::CONT);
            }
        }
    }
}
