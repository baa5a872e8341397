//! Servers whose wall clock can be set while they run.
//!
//! The servers are real; the time that they read is not, because a small library is loaded before them. So this needs
//! Linux, a C compiler `cc`, and servers that can load libraries.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use tempfile::TempDir;

use crate::history;
use crate::watchdog::Watchdog;

/// The built library that changes clocks, for [`Setup::clocks`](crate::Setup::clocks). It is cheap to clone and deleted
/// with the last clone, so it lives as long as its servers.
#[derive(Clone, Debug)]
pub struct ClockLibrary {
    files: Arc<LibraryFiles>,
}

/// Its folder, and the watchdog that removes it if this process is killed.
#[derive(Debug)]
struct LibraryFiles {
    folder: TempDir,
    _watchdog: Watchdog,
}

/// Why clocks cannot be set here.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClockError {
    /// Another system than Linux.
    #[error("this is not Linux")]
    NotLinux,
    /// There is no C compiler.
    #[error("there is no C compiler `cc`")]
    NoCompiler,
    /// The library could not be built.
    #[error("the C compiler failed: {0}")]
    NotBuilt(String),
    /// There is no place for the library.
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

    /// The environment that makes a process read `clock` as its wall clock.
    pub(crate) fn environment(&self, clock: &Clock) -> [(&'static str, PathBuf); 2] {
        [("LD_PRELOAD", self.file()), ("QUORLOCK_CHAOS_CLOCK", clock.path.clone())]
    }
}

/// The wall clock of one server, correct at first. A restart of the server keeps its setting.
#[derive(Debug)]
pub struct Clock {
    path: PathBuf,
    bend: Mutex<ClockRule>,
    file: File,
}

/// The error of a clock: an offset at one time of the boot clock, and its growth per second since.
#[derive(Clone, Copy, Debug, Default)]
struct ClockRule {
    from: u64,
    micros: i64,
    millionths: i64,
    /// Which of the two slots in the file holds it.
    place: u64,
}

impl Clock {
    /// A correct clock, stored in this file.
    pub(crate) fn new(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).truncate(true).read(true).write(true).open(path)?;
        file.set_len(FILE_LEN)?;
        Ok(Self { path: path.to_owned(), bend: Mutex::default(), file })
    }

    /// Sets it ahead by this many microseconds; back, if they are negative.
    ///
    /// # Errors
    ///
    /// If its file cannot be written.
    pub fn step(&self, micros: i64) -> io::Result<()> {
        self.rule(|bend| bend.micros += micros)
    }

    /// Makes it gain this many microseconds each second from now on; lose them, if they are negative. The offset so far
    /// stays.
    ///
    /// # Errors
    ///
    /// If its file cannot be written.
    pub fn set_rate(&self, millionths: i64) -> io::Result<()> {
        self.rule(|bend| bend.millionths = millionths)
    }

    /// By how many microseconds it is ahead right now.
    #[must_use]
    pub fn offset_micros(&self) -> i64 {
        self.bend.lock().unwrap_or_else(PoisonError::into_inner).offset_at(history::now())
    }

    fn rule(&self, change: impl FnOnce(&mut ClockRule)) -> io::Result<()> {
        let mut bend = self.bend.lock().unwrap_or_else(PoisonError::into_inner);
        let from = history::now();
        *bend = ClockRule { from, micros: bend.offset_at(from), place: 1 - bend.place, ..*bend };
        change(&mut bend);
        let words = [bend.from as i64, bend.micros, bend.millionths].map(i64::to_ne_bytes);
        self.file.write_all_at(&words.concat(), 8 + bend.place * 24)?;
        self.file.write_all_at(&bend.place.to_ne_bytes(), 0)
    }
}

impl ClockRule {
    fn offset_at(&self, at: u64) -> i64 {
        let past_micros = at.saturating_sub(self.from) as i64 / 1_000;
        self.micros + past_micros * self.millionths / 1_000_000
    }
}

const SHIM_SOURCE: &str = include_str!("clock/shim.c");
/// The index of the slot in use, and two slots of three numbers.
const FILE_LEN: u64 = 8 + 2 * 24;
