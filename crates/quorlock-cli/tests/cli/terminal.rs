//! A pseudo-terminal with a session: types text, and waits for output.
//!
//! [`Terminal::wait_for`] continues after the text that it found last, so the same text can be awaited twice.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{JoinHandle, sleep, spawn};
use std::time::Duration;

use rustix::fs::{OFlags, fcntl_setfl};
use rustix::io::fcntl_dupfd_cloexec;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, OutputModes, Winsize, tcgetattr, tcsetwinsize};

use crate::processes::{self, Process};
use crate::world::{World, wait, wait_until};

pub(crate) struct Terminal {
    /// The user's side; none once the window is closed.
    master: Option<File>,
    /// Kept open, so that its modes can be read after the session has ended.
    slave: OwnedFd,
    leader: Child,
    screen: Arc<Mutex<String>>,
    /// The end of the text that was found last, in bytes.
    read: usize,
    is_closed: Arc<AtomicBool>,
    collector: Option<JoinHandle<()>>,
}

impl Terminal {
    /// An interactive shell with job control.
    pub(crate) fn bash(world: &World) -> Self {
        let mut terminal = Self::start(world, &["bash", "--norc", "--noprofile", "-i"]);
        terminal.wait_for(PROMPT);
        terminal
    }

    /// A shell without job control that runs a script.
    pub(crate) fn script(world: &World, shell: &str, script: &str) -> Self {
        world.write("script", script);
        Self::start(world, &[shell, "script"])
    }

    /// `quorlock` as the session leader.
    pub(crate) fn quorlock(world: &World, args: &[&str]) -> Self {
        Self::start(world, &[&["quorlock"], args].concat())
    }

    fn start(world: &World, args: &[&str]) -> Self {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = openpt(flags).expect("a terminal");
        grantpt(&master).expect("a terminal");
        unlockpt(&master).expect("a terminal");
        let path = ptsname(&master, Vec::new()).expect("its name").into_string().expect("text");
        // NOCTTY, so that it does not become the terminal of the test process.
        let open = || {
            OpenOptions::new().read(true).write(true).custom_flags(OFlags::NOCTTY.bits() as i32).open(&path)
        };
        let slave = OwnedFd::from(open().expect("a terminal"));
        tcsetwinsize(&slave, SIZE).expect("a size");
        fcntl_setfl(&master, OFlags::NONBLOCK).expect("a terminal");
        let mut command: Command = world.program("setsid", &[&["--ctty"], args].concat());
        let side = || Stdio::from(fcntl_dupfd_cloexec(&slave, 3).expect("a terminal"));
        command.stdin(side()).stdout(side()).stderr(side());
        command.env("PS1", PROMPT).env("TERM", "vt100").env("HISTFILE", "/dev/null").env_remove("ENV");
        let leader = command.spawn().expect("a process");
        let master = File::from(master);
        let screen = Arc::<Mutex<String>>::default();
        let is_closed = Arc::<AtomicBool>::default();
        let collector = {
            let (screen, is_closed) = (Arc::clone(&screen), Arc::clone(&is_closed));
            let master = master.try_clone().expect("a terminal");
            spawn(move || collect(master, &screen, &is_closed))
        };
        Self { master: Some(master), slave, leader, screen, read: 0, is_closed, collector: Some(collector) }
    }

    /// Types text.
    pub(crate) fn type_keys(&self, keys: &str) {
        self.master.as_ref().expect("an open window").write_all(keys.as_bytes()).expect("a terminal");
    }

    /// Types a line and Enter.
    pub(crate) fn type_line(&self, line: &str) {
        self.type_keys(&format!("{line}\n"));
    }

    /// Waits until this text is shown, after the text that was found last.
    #[track_caller]
    pub(crate) fn wait_for(&mut self, text: &str) {
        for _ in 0..TRIES {
            if let Some(at) = self.unread().find(text) {
                self.read += at + text.len();
                return;
            }
            sleep(PAUSE);
        }
        panic!("not shown: {text:?}; the screen shows\n{}\n{:#?}", self.screen(), self.running());
    }

    /// Asks the shell for its jobs until it shows this state. The shell learns of a stop later than `/proc`.
    #[track_caller]
    pub(crate) fn wait_for_job(&mut self, state: &str) {
        for _ in 0..TRIES {
            let before = self.read;
            self.type_line("jobs -l");
            self.wait_for(PROMPT);
            if self.screen()[before..self.read].contains(state) {
                return;
            }
            sleep(PAUSE);
        }
        panic!("no job is {state}; the screen shows\n{}", self.screen());
    }

    /// The last exit code of the shell: prints `$?`, and waits for the next prompt.
    #[track_caller]
    pub(crate) fn last_exit_code(&mut self) -> i32 {
        self.type_line("echo code=$?.");
        self.wait_for("code=$?.");
        self.wait_for("code=");
        for _ in 0..TRIES {
            if let Some((code, _)) = self.unread().split_once('.') {
                self.wait_for(PROMPT);
                return code.parse().expect("a number");
            }
            sleep(PAUSE);
        }
        panic!("no exit code: {}", self.screen());
    }

    fn unread(&self) -> String {
        self.screen.lock().expect("a screen")[self.read..].to_owned()
    }

    /// All text shown so far.
    pub(crate) fn screen(&self) -> String {
        self.screen.lock().expect("a screen").clone()
    }

    /// The process id of the session leader.
    pub(crate) fn leader(&self) -> i32 {
        self.leader.id() as i32
    }

    /// The living processes of the session.
    pub(crate) fn running(&self) -> Vec<Process> {
        let session = self.leader();
        processes::all().into_iter().filter(|it| it.session == session && it.is_alive()).collect()
    }

    /// Waits for the first `quorlock run` of the session.
    pub(crate) fn run(&self) -> Process {
        let mut run = None;
        wait_until("quorlock runs", || {
            run = self
                .running()
                .into_iter()
                .find(|it| it.comm == "quorlock" && it.command_line().contains(" run "));
            run.is_some()
        });
        run.expect("a process")
    }

    /// Makes the window larger.
    pub(crate) fn resize(&self) {
        let size = Winsize { ws_row: SIZE.ws_row + 10, ..SIZE };
        tcsetwinsize(self.master.as_ref().expect("an open window"), size).expect("a size");
    }

    /// Whether line editing and echo are on. Editors switch them off.
    pub(crate) fn is_sane(&self) -> bool {
        let modes = tcgetattr(&self.slave).expect("modes");
        modes.local_modes.contains(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG)
            && modes.output_modes.contains(OutputModes::OPOST)
    }

    /// Whether typed text is echoed.
    pub(crate) fn echoes(&self) -> bool {
        tcgetattr(&self.slave).expect("modes").local_modes.contains(LocalModes::ECHO)
    }

    /// Closes the window. The session leader gets HUP.
    pub(crate) fn close(&mut self) {
        self.is_closed.store(true, Ordering::Relaxed);
        if let Some(collector) = self.collector.take() {
            collector.join().expect("a collector");
        }
        self.master = None;
    }

    /// Waits until the session leader ends.
    pub(crate) fn wait_for_end(&mut self) -> ExitStatus {
        let running = format!("{:#?}", self.running());
        for _ in 0..TRIES {
            if let Some(status) = self.leader.try_wait().expect("a status") {
                return status;
            }
            sleep(PAUSE);
        }
        panic!("the session does not end; the screen shows\n{}\n{running}", self.screen());
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        processes::kill_all(|| self.running());
        self.close();
        wait(&mut self.leader);
    }
}

fn collect(mut master: File, screen: &Mutex<String>, is_closed: &AtomicBool) {
    let mut bytes = [0; 4096];
    while !is_closed.load(Ordering::Relaxed) {
        match master.read(&mut bytes) {
            Ok(count) => {
                // Lossy, because an editor may write other bytes than UTF-8.
                let text = String::from_utf8_lossy(&bytes[..count]);
                screen.lock().expect("a screen").push_str(&text);
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => sleep(Duration::from_millis(2)),
            Err(_) => return,
        }
    }
}

/// A prompt that occurs in no other output.
pub(crate) const PROMPT: &str = "<ready> ";
pub(crate) const CTRL_C: &str = "\x03";
pub(crate) const CTRL_Z: &str = "\x1a";
pub(crate) const CTRL_BACKSLASH: &str = "\x1c";

const SIZE: Winsize = Winsize { ws_row: 24, ws_col: 200, ws_xpixel: 0, ws_ypixel: 0 };
const PAUSE: Duration = Duration::from_millis(10);
/// 30 s in all.
const TRIES: u32 = 3000;
