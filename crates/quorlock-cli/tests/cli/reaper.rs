//! The reaper process without `run`: it gets the deadline with the start command, and needs nothing else.

use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::getpgrp;
use rustix::time::{ClockId, clock_gettime};

use crate::world::wait;

/// A reaper, and the socket to it.
struct LoneReaper {
    process: Child,
    socket: UnixStream,
}

impl LoneReaper {
    fn start() -> Self {
        let (own_end, reaper_end) = UnixStream::pair().expect("a socket");
        let mut command = Command::new(env!("CARGO_BIN_EXE_quorlock"));
        command.arg0("quorlock: reaper of \"a\"").process_group(0).stdin(OwnedFd::from(reaper_end));
        command.stdout(Stdio::null()).stderr(Stdio::null());
        own_end.set_read_timeout(Some(Duration::from_secs(30))).expect("a socket");
        Self { process: command.spawn().expect("a process"), socket: own_end }
    }

    /// Sends the start command for a shell with this script, and with this deadline on the boot clock.
    fn send_start(&mut self, end_at: u64, script: &str) {
        let (end_at, group) = (end_at.to_string(), getpgrp().as_raw_pid().to_string());
        let fields = ["start", &end_at, &group, "1", "0", "5000000000", "0", "sh", "-c", script];
        let body = fields.join("\0");
        let message = [&(body.len() as u32).to_le_bytes()[..], body.as_bytes()].concat();
        self.socket.write_all(&message).expect("a reader");
    }

    /// All its events until it ends, as text.
    fn events(mut self) -> String {
        let mut events = Vec::new();
        self.socket.read_to_end(&mut events).expect("events");
        wait(&mut self.process);
        String::from_utf8_lossy(&events).replace('\0', " ")
    }
}

fn boot_nanos() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

#[test]
fn a_reaper_past_the_deadline_starts_no_command() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut reaper = LoneReaper::start();
    reaper.send_start(boot_nanos(), &format!("touch {}/began", folder.path().display()));
    let events = reaper.events();
    assert!(events.contains("failed") && !events.contains("started"), "{events}");
    assert!(!folder.path().join("began").exists());
}

#[test]
fn the_reaper_ends_the_command_when_run_stops_sending() {
    let mut reaper = LoneReaper::start();
    let end_at = boot_nanos() + 500_000_000;
    reaper.send_start(end_at, "trap '' TERM HUP INT; setsid sleep 600 & sleep 600; sleep 600");
    let events = reaper.events();
    assert!(boot_nanos() >= end_at);
    // Ended by KILL (9), and no process is left.
    assert!(events.contains("exited 9") && events.contains("done"), "{events}");
}
