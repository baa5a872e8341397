//! What goes to stdout.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::sync::OnceLock;

use crate::exit::{self, Failure};

/// Writes to stdout, all at once. A reader who has gone away is no failure; any other decides how we end.
pub(crate) fn print(text: &str) {
    if let Err(error) = write(text)
        && error.kind() != io::ErrorKind::BrokenPipe
    {
        let _ = FAILED.set(error);
    }
}

/// What kept something from being written, if anything did.
pub(crate) fn failure() -> Option<Failure> {
    let error = FAILED.get()?;
    Some(Failure::new(exit::OUTPUT, format!("nothing can be written to stdout: {error}")))
}

/// Past the library's own stdout, which holds lines back, and is content where stdout cannot be written to at all.
fn write(text: &str) -> io::Result<()> {
    File::from(io::stdout().as_fd().try_clone_to_owned()?).write_all(text.as_bytes())
}

static FAILED: OnceLock<io::Error> = OnceLock::new();
