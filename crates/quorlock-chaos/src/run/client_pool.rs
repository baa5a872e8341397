//! The client processes of a run.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::Config;
use super::log::EventLog;
use crate::history::Event;
use crate::watchdog::Watchdog;
use crate::workload::{ClientCommand, Spec};

/// All live clients, and the number of the next one.
pub(super) struct ClientPool<'a> {
    config: &'a Config,
    log: Arc<EventLog>,
    members: Mutex<Processes>,
}

#[derive(Default)]
struct Processes {
    next: u32,
    alive: Vec<ClientProcess>,
}

/// A process, the thread that reads its output, and the watchdog that ends it if this process cannot.
struct ClientProcess {
    process: u32,
    child: Child,
    stdin: Option<ChildStdin>,
    reader: Option<JoinHandle<()>>,
    watchdog: Watchdog,
    /// An action on it is under way; no other may begin.
    is_busy: bool,
    /// Empty: what the watchdog removes.
    _folder: TempDir,
}

impl<'a> ClientPool<'a> {
    pub(super) fn new(config: &'a Config, log: Arc<EventLog>) -> Self {
        Self { config, log, members: Mutex::default() }
    }

    /// Starts one more, with the number that is next.
    pub(super) fn start_client(&self, spec: impl FnOnce(u32) -> Spec) -> io::Result<()> {
        let mut members = self.processes();
        let process = members.next;
        members.next += 1;
        let member = self.start(&spec(process))?;
        members.alive.push(member);
        Ok(())
    }

    fn start(&self, spec: &Spec) -> io::Result<ClientProcess> {
        let folder = tempfile::Builder::new().prefix("quorlock-client-").tempdir()?;
        let mut watchdog = Watchdog::for_folder(folder.path())?;
        let (program, args) = &self.config.program;
        let mut command = Command::new(program);
        // Ctrl-C goes to the terminal's process group; the run ends its clients itself.
        command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).process_group(0);
        let mut child = command.spawn()?;
        // If this process dies right here, the client reads the end of its input instead of a command, and ends.
        watchdog.watch(child.id())?;
        let orders = child.stdin.take();
        let log = Arc::clone(&self.log);
        let out = child.stdout.take();
        let process = spec.process;
        let listener = thread::Builder::new().name(format!("client {process}"));
        let listener = listener.spawn(move || out.map_or((), |out| read_events(out, &log, process)))?;
        let mut member = ClientProcess {
            process,
            child,
            stdin: orders,
            reader: Some(listener),
            watchdog,
            is_busy: false,
            _folder: folder,
        };
        member.send(&ClientCommand::Begin(Box::new(spec.clone())))?;
        Ok(member)
    }

    /// Reserves one of these processes, drawn by a number, for an action; none if all are busy or gone.
    pub(super) fn reserve(&self, among: &[u32], draw: u64) -> Option<u32> {
        let mut members = self.processes();
        let free = |member: &&mut ClientProcess| among.contains(&member.process) && !member.is_busy;
        let mut free: Vec<&mut ClientProcess> = members.alive.iter_mut().filter(free).collect();
        let chosen = (draw % free.len().max(1) as u64) as usize;
        let member = free.get_mut(chosen)?;
        member.is_busy = true;
        Some(member.process)
    }

    pub(super) fn unreserve(&self, process: u32) {
        self.with(process, |member| member.is_busy = false);
    }

    /// Stops it, or resumes it.
    pub(super) fn signal(&self, process: u32, signal: Signal) -> io::Result<()> {
        let sent = self.with(process, |member| kill_process(Pid::from_child(&member.child), signal));
        Ok(sent.unwrap_or(Ok(()))?)
    }

    pub(super) fn send(&self, process: u32, order: &ClientCommand) -> io::Result<()> {
        self.with(process, |member| member.send(order)).unwrap_or(Ok(()))
    }

    /// Kills it; returns when all its output has been read.
    pub(super) fn kill(&self, process: u32) {
        let member = {
            let mut members = self.processes();
            let place = members.alive.iter().position(|member| member.process == process);
            place.map(|place| members.alive.remove(place))
        };
        drop(member);
        self.log.client_ended(process);
    }

    /// Makes all clients end, and waits for it. Returns those that did not end in time (killed by then) or failed.
    pub(super) fn stop_all(&self, patience: Duration) -> io::Result<Vec<(u32, String)>> {
        let mut members = std::mem::take(&mut self.processes().alive);
        for member in &mut members {
            member.stdin = None;
        }
        let mut left = patience;
        while !left.is_zero() {
            let mut is_over = true;
            for member in &mut members {
                is_over &= member.child.try_wait()?.is_some();
            }
            if is_over {
                break;
            }
            thread::sleep(POLL_INTERVAL);
            left = left.saturating_sub(POLL_INTERVAL);
        }
        let mut bad = Vec::new();
        for member in &mut members {
            match member.child.try_wait()? {
                None => bad.push((member.process, format!("has not ended within {patience:?}"))),
                Some(status) if !status.success() => {
                    bad.push((member.process, format!("ended with {status}")));
                }
                Some(_) => {}
            }
        }
        Ok(bad)
    }

    fn with<T>(&self, process: u32, ask: impl FnOnce(&mut ClientProcess) -> T) -> Option<T> {
        self.processes().alive.iter_mut().find(|member| member.process == process).map(ask)
    }

    fn processes(&self) -> MutexGuard<'_, Processes> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientProcess {
    fn send(&mut self, order: &ClientCommand) -> io::Result<()> {
        let line = serde_json::to_string(order)? + "\n";
        self.stdin.as_mut().map_or(Ok(()), |orders| orders.write_all(line.as_bytes()))
    }
}

impl Drop for ClientProcess {
    /// However it ends, nothing of it is left, and all its output has been read.
    fn drop(&mut self) {
        // Fails only for a process that has ended by itself.
        let _ = self.child.kill();
        self.watchdog.forget();
        let _ = self.child.wait();
        if let Some(listener) = self.reader.take() {
            let _ = listener.join();
        }
    }
}

fn read_events(out: ChildStdout, log: &EventLog, process: u32) {
    let mut out = BufReader::new(out);
    let mut line = String::new();
    loop {
        line.clear();
        match out.read_line(&mut line) {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) => {
                return log.record_error(format!("cannot read the output of client {process}: {error}"));
            }
        }
        // A last line without an end: it was killed in the middle of it.
        let Some(text) = line.strip_suffix('\n') else { return };
        match serde_json::from_str::<Event>(text) {
            Ok(event) => log.record_client_event(event),
            Err(error) => {
                log.record_error(format!("client {process} wrote a line that is no event ({error}): {text}"));
            }
        }
    }
}

const POLL_INTERVAL: Duration = Duration::from_millis(10);
