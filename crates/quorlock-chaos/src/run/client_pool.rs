//! Starts, signals and stops the client processes of a run.

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
use crate::workload::{ClientCommand, ClientSpec};

/// The live client processes of a run.
pub(super) struct ClientPool<'a> {
    config: &'a Config,
    log: Arc<EventLog>,
    processes: Mutex<Processes>,
}

#[derive(Default)]
struct Processes {
    next: u32,
    alive: Vec<ClientProcess>,
}

/// A client process, the thread that reads its output, and the watchdog that kills it if this process cannot.
struct ClientProcess {
    process: u32,
    child: Child,
    stdin: Option<ChildStdin>,
    reader: Option<JoinHandle<()>>,
    watchdog: Watchdog,
    /// Whether it is reserved for a fault.
    is_busy: bool,
    /// An empty folder: a watchdog needs one to remove.
    _folder: TempDir,
}

impl<'a> ClientPool<'a> {
    pub(super) fn new(config: &'a Config, log: Arc<EventLog>) -> Self {
        Self { config, log, processes: Mutex::default() }
    }

    /// Starts one more client, with the next number.
    pub(super) fn start_client(&self, spec: impl FnOnce(u32) -> ClientSpec) -> io::Result<()> {
        let mut processes = self.processes();
        let process = processes.next;
        processes.next += 1;
        let client = self.start(&spec(process))?;
        processes.alive.push(client);
        Ok(())
    }

    fn start(&self, spec: &ClientSpec) -> io::Result<ClientProcess> {
        let folder = tempfile::Builder::new().prefix("quorlock-client-").tempdir()?;
        let mut watchdog = Watchdog::for_folder(folder.path())?;
        let (program, args) = &self.config.program;
        let mut command = Command::new(program);
        // Ctrl-C goes to the terminal's process group; the run ends its clients itself.
        command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).process_group(0);
        let mut child = command.spawn()?;
        // If this process dies before, the client reads the end of its input instead of a command, and ends.
        watchdog.watch(child.id())?;
        let stdin = child.stdin.take();
        let log = Arc::clone(&self.log);
        let out = child.stdout.take();
        let process = spec.process;
        let reader = thread::Builder::new().name(format!("client {process}"));
        let reader = reader.spawn(move || out.map_or((), |out| read_events(out, &log, process)))?;
        let mut client = ClientProcess {
            process,
            child,
            stdin,
            reader: Some(reader),
            watchdog,
            is_busy: false,
            _folder: folder,
        };
        client.send(&ClientCommand::Begin(Box::new(spec.clone())))?;
        Ok(client)
    }

    /// Reserves one of these processes, selected by `draw`, for a fault. None if all are busy or dead.
    pub(super) fn reserve(&self, candidates: &[u32], draw: u64) -> Option<u32> {
        let mut processes = self.processes();
        let free = |client: &&mut ClientProcess| candidates.contains(&client.process) && !client.is_busy;
        let mut free: Vec<&mut ClientProcess> = processes.alive.iter_mut().filter(free).collect();
        let chosen = (draw % free.len().max(1) as u64) as usize;
        let client = free.get_mut(chosen)?;
        client.is_busy = true;
        Some(client.process)
    }

    pub(super) fn unreserve(&self, process: u32) {
        self.with_client(process, |client| client.is_busy = false);
    }

    pub(super) fn signal(&self, process: u32, signal: Signal) -> io::Result<()> {
        let sent = self.with_client(process, |client| kill_process(Pid::from_child(&client.child), signal));
        Ok(sent.unwrap_or(Ok(()))?)
    }

    pub(super) fn send(&self, process: u32, command: &ClientCommand) -> io::Result<()> {
        self.with_client(process, |client| client.send(command)).unwrap_or(Ok(()))
    }

    /// Kills the process. Returns when all its output has been read.
    pub(super) fn kill(&self, process: u32) {
        let client = {
            let mut processes = self.processes();
            let index = processes.alive.iter().position(|client| client.process == process);
            index.map(|index| processes.alive.remove(index))
        };
        drop(client);
        self.log.client_ended(process);
    }

    /// Ends all clients and waits for them. Returns those that failed, or did not end in time and were
    /// killed.
    pub(super) fn stop_all(&self, timeout: Duration) -> io::Result<Vec<(u32, String)>> {
        let mut processes = std::mem::take(&mut self.processes().alive);
        for client in &mut processes {
            client.stdin = None;
        }
        let mut remaining = timeout;
        while !remaining.is_zero() {
            let mut all_ended = true;
            for client in &mut processes {
                all_ended &= client.child.try_wait()?.is_some();
            }
            if all_ended {
                break;
            }
            thread::sleep(POLL_INTERVAL);
            remaining = remaining.saturating_sub(POLL_INTERVAL);
        }
        let mut failures = Vec::new();
        for client in &mut processes {
            match client.child.try_wait()? {
                None => failures.push((client.process, format!("has not ended within {timeout:?}"))),
                Some(status) if !status.success() => {
                    failures.push((client.process, format!("ended with {status}")));
                }
                Some(_) => {}
            }
        }
        Ok(failures)
    }

    fn with_client<T>(&self, process: u32, action: impl FnOnce(&mut ClientProcess) -> T) -> Option<T> {
        self.processes().alive.iter_mut().find(|client| client.process == process).map(action)
    }

    fn processes(&self) -> MutexGuard<'_, Processes> {
        self.processes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientProcess {
    fn send(&mut self, command: &ClientCommand) -> io::Result<()> {
        let line = serde_json::to_string(command)? + "\n";
        self.stdin.as_mut().map_or(Ok(()), |stdin| stdin.write_all(line.as_bytes()))
    }
}

impl Drop for ClientProcess {
    /// Kills the process, and returns when all its output has been read.
    fn drop(&mut self) {
        // Fails only for a process that has ended by itself.
        let _ = self.child.kill();
        self.watchdog.forget();
        let _ = self.child.wait();
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
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
        // A last line without an end: the client was killed in the middle of it.
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
