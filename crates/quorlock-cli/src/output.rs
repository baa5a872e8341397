//! Output to stdout.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::sync::OnceLock;

use serde::Serialize;

use crate::exit::{self, Failure};

/// Writes to stdout in one call. A closed pipe is not an error; any other one decides the exit code.
pub(crate) fn print(text: &str) {
    if let Err(error) = write(text)
        && error.kind() != io::ErrorKind::BrokenPipe
    {
        let _ = FAILED.set(error);
    }
}

/// Writes a value to stdout as one line of JSON. Fields have the names of the library, in snake case.
pub(crate) fn print_json(value: &impl Serialize) {
    match serde_json::to_string(value) {
        Ok(line) => print(&(line + "\n")),
        Err(error) => _ = FAILED.set(error.into()),
    }
}

/// The first error of a write, if there was one.
pub(crate) fn failure() -> Option<Failure> {
    let error = FAILED.get()?;
    Some(Failure::new(exit::OUTPUT, format!("cannot write to stdout: {error}")))
}

/// Bypasses `std::io::Stdout`, which buffers lines, and ignores a closed stdout.
fn write(text: &str) -> io::Result<()> {
    File::from(io::stdout().as_fd().try_clone_to_owned()?).write_all(text.as_bytes())
}

static FAILED: OnceLock<io::Error> = OnceLock::new();
