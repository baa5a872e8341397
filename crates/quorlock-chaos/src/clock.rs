//! Virtual wall clocks for real servers, which can be set while a server runs.
//!
//! A small library, loaded with `LD_PRELOAD`, changes the time that a server reads. So this needs Linux, a C
//! compiler `cc`, and servers that can load libraries.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use tempfile::TempDir;

use crate::history;
use crate::watchdog::Watchdog;

/// The built library of virtual clocks, for [`Setup::clocks`](crate::Setup::clocks). Its clones share one
/// file, which is deleted with the last of them.
#[derive(Clone, Debug)]
pub struct ClockLibrary {
    files: Arc<LibraryFiles>,
}

/// The folder of the library, and the watchdog that removes it if this process is killed.
#[derive(Debug)]
struct LibraryFiles {
    folder: TempDir,
    _watchdog: Watchdog,
}

/// Why clocks cannot be set here.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClockError {
    /// The system is not Linux.
    #[error("this is not Linux")]
    NotLinux,
    /// There is no C compiler.
    #[error("there is no C compiler `cc`")]
    NoCompiler,
    /// The library could not be built.
    #[error("the C compiler failed: {0}")]
    NotBuilt(String),
    /// The folder or a process for the library could not be created.
    #[error("no folder or process for the clock library: {0}")]
    System(#[from] io::Error),
}

impl ClockLibrary {
    /// Builds the library.
    ///
    /// # Errors
    ///
    /// If this is not Linux, or there is no C compiler.
    pub fn build() -> Result<Self, ClockError> {
        if cfg!(not(target_os = "linux")) {
            return Err(ClockError::NotLinux);
        }
        let folder = tempfile::Builder::new().prefix("quorlock-clock-").tempdir()?;
        let watchdog = Watchdog::for_folder(folder.path())?;
        let source = folder.path().join("shim.c");
        fs::write(&source, SHIM_SOURCE)?;
        let library = Self { files: Arc::new(LibraryFiles { folder, _watchdog: watchdog }) };
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-O1", "-o"]).arg(library.file()).arg(source).stdin(Stdio::null());
        let output = compiler.output().map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => ClockError::NoCompiler,
            _ => ClockError::System(error),
        })?;
        if !output.status.success() {
            return Err(ClockError::NotBuilt(String::from_utf8_lossy(&output.stderr).into_owned()));
        }
        Ok(library)
    }

    fn file(&self) -> PathBuf {
        self.files.folder.path().join("clock.so")
    }

    /// The environment variables that make a process read `clock` as its wall clock.
    pub(crate) fn environment(&self, clock: &Clock) -> [(&'static str, PathBuf); 2] {
        [("LD_PRELOAD", self.file()), ("QUORLOCK_CHAOS_CLOCK", clock.path.clone())]
    }
}

/// The wall clock of one server: correct at first, then as set. It keeps its setting when the server
/// restarts.
#[derive(Debug)]
pub struct Clock {
    path: PathBuf,
    rule: Mutex<ClockRule>,
    file: File,
}

/// The error of a clock: an offset at one time of the boot clock, and a rate since then.
#[derive(Clone, Copy, Debug, Default)]
struct ClockRule {
    from: u64,
    micros: i64,
    ppm: i64,
    /// The slot in the file that holds it: 0 or 1.
    slot: u64,
}

impl Clock {
    /// A correct clock, stored in this file.
    pub(crate) fn new(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).truncate(true).read(true).write(true).open(path)?;
        file.set_len(FILE_LEN)?;
        Ok(Self { path: path.to_owned(), rule: Mutex::default(), file })
    }

    /// Sets it ahead by this many microseconds; back if negative.
    ///
    /// # Errors
    ///
    /// If its file cannot be written.
    pub fn step(&self, micros: i64) -> io::Result<()> {
        self.change_rule(|rule| rule.micros += micros)
    }

    /// Makes it gain this many microseconds per second from now on; lose them if negative. The offset so far
    /// stays.
    ///
    /// # Errors
    ///
    /// If its file cannot be written.
    pub fn set_rate(&self, ppm: i64) -> io::Result<()> {
        self.change_rule(|rule| rule.ppm = ppm)
    }

    /// Sets it like another clock: the same offset and rate.
    pub(crate) fn follow(&self, other: &Self) -> io::Result<()> {
        let other = *other.rule.lock().unwrap_or_else(PoisonError::into_inner);
        self.change_rule(|rule| (rule.micros, rule.ppm) = (other.offset_at(rule.from), other.ppm))
    }

    /// How many microseconds it is ahead now.
    #[must_use]
    pub fn offset_micros(&self) -> i64 {
        self.rule.lock().unwrap_or_else(PoisonError::into_inner).offset_at(history::now())
    }

    fn change_rule(&self, change: impl FnOnce(&mut ClockRule)) -> io::Result<()> {
        let mut rule = self.rule.lock().unwrap_or_else(PoisonError::into_inner);
        let from = history::now();
        *rule = ClockRule { from, micros: rule.offset_at(from), slot: 1 - rule.slot, ..*rule };
        change(&mut rule);
        let numbers = [rule.from as i64, rule.micros, rule.ppm].map(i64::to_ne_bytes);
        self.file.write_all_at(&numbers.concat(), 8 + rule.slot * 24)?;
        self.file.write_all_at(&rule.slot.to_ne_bytes(), 0)
    }
}

impl ClockRule {
    fn offset_at(&self, at: u64) -> i64 {
        let elapsed_micros = at.saturating_sub(self.from) as i64 / 1_000;
        self.micros + elapsed_micros * self.ppm / 1_000_000
    }
}

const SHIM_SOURCE: &str = include_str!("clock/shim.c");
/// The index of the slot in use, and two slots of three numbers.
const FILE_LEN: u64 = 8 + 2 * 24;
