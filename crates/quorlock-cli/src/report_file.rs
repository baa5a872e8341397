//! Files that a run leaves: whether they can be written is found out before, and a failure loses nothing that was found.

use std::fs::{self, OpenOptions};
use std::io;
use std::path::Path;

use crate::exit::{self, Failure};

/// Whether this file can be written, before something is done that takes its time.
pub(crate) fn check(file: &Path) -> Result<(), Failure> {
    try_to_write(file).map_err(|error| Failure::new(exit::USAGE, format!("{}: {error}", file.display())))
}

/// Writes it. To be called when all else was told.
pub(crate) fn write(file: &Path, text: &str) -> Result<(), Failure> {
    let words =
        |error: io::Error| Failure::new(NOT_WRITTEN, format!("{}: not written: {error}", file.display()));
    fs::write(file, text).map_err(words)
}

/// Leaves nothing behind that was not there.
fn try_to_write(file: &Path) -> io::Result<()> {
    let is_new = !file.try_exists()?;
    OpenOptions::new().append(true).create(true).open(file)?;
    if is_new { fs::remove_file(file) } else { Ok(()) }
}

/// After `sysexits`: an error of input or output.
const NOT_WRITTEN: u8 = 74;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_whether_a_file_can_be_written_changes_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let [new, old] = ["new", "old"].map(|name| folder.path().join(name));
        fs::write(&old, "kept").expect("a file");
        try_to_write(&new).expect("a file");
        try_to_write(&old).expect("a file");
        assert!(!fs::exists(&new).expect("a look"), "a file was left behind");
        assert_eq!(fs::read_to_string(&old).expect("a file"), "kept");
        assert!(try_to_write(&folder.path().join("nowhere/new")).is_err());
        assert!(try_to_write(folder.path()).is_err(), "a folder is no file");
    }
}
