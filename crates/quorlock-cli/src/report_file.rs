//! Report files: checked before a run, and replaced atomically after it.

use std::fs::{self, OpenOptions};
use std::io;
use std::path::Path;

use crate::exit::{self, Failure};

/// Checks that this file can be written, before a long run.
pub(crate) fn check(flag: &str, file: &Path) -> Result<(), Failure> {
    let message = |error: io::Error| format!("{flag}: {}: {error}", file.display());
    try_to_write(file).map_err(|error| Failure::new(exit::USAGE, message(error)))
}

/// Writes the file, after all other output. If that fails half-way, the old content is kept.
pub(crate) fn write(file: &Path, text: &str) -> Result<(), Failure> {
    let failure =
        |error: io::Error| Failure::new(exit::OUTPUT, format!("{}: not written: {error}", file.display()));
    replace(file, text).map_err(failure)
}

/// A regular file is written beside itself and then renamed; anything else, such as a pipe, as it is.
fn replace(file: &Path, text: &str) -> io::Result<()> {
    // Replace the target of a link, not the link.
    let file = &fs::canonicalize(file).unwrap_or_else(|_| file.to_owned());
    let old = match fs::metadata(file) {
        Ok(data) if !data.is_file() => return fs::write(file, text),
        old => old.ok(),
    };
    let mut part_file = file.as_os_str().to_owned();
    part_file.push(format!(".{}.part", std::process::id()));
    let part_file = Path::new(&part_file);
    let written = fs::write(part_file, text)
        .and_then(|()| old.map_or(Ok(()), |old| fs::set_permissions(part_file, old.permissions())))
        .and_then(|()| fs::rename(part_file, file));
    if written.is_err() {
        let _ = fs::remove_file(part_file);
    }
    written
}

/// Opens the file for writing, and removes it again if it is new.
fn try_to_write(file: &Path) -> io::Result<()> {
    let is_new = !file.try_exists()?;
    OpenOptions::new().append(true).create(true).open(file)?;
    if is_new { fs::remove_file(file) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_replaced_atomically() {
        let folder = tempfile::tempdir().expect("a folder");
        let [file, link] = ["report", "link"].map(|name| folder.path().join(name));
        replace(&file, "old").expect("written");
        std::os::unix::fs::symlink(&file, &link).expect("a link");
        let reader = fs::File::open(&file).expect("a file");
        replace(&link, "new").expect("written");
        assert_eq!(fs::read_to_string(&file).expect("a file"), "new");
        assert!(fs::symlink_metadata(&link).expect("a link").is_symlink());
        assert_eq!(io::read_to_string(reader).expect("a file"), "old", "it was written over");
        assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 2, "something was left");
        replace(Path::new("/dev/null"), "new").expect("no file that can be renamed");
    }

    #[test]
    fn a_check_changes_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let [new, old] = ["new", "old"].map(|name| folder.path().join(name));
        fs::write(&old, "kept").expect("a file");
        try_to_write(&new).expect("a file");
        try_to_write(&old).expect("a file");
        assert!(!fs::exists(&new).expect("a status"), "a file was left behind");
        assert_eq!(fs::read_to_string(&old).expect("a file"), "kept");
        assert!(try_to_write(&folder.path().join("nowhere/new")).is_err());
        assert!(try_to_write(folder.path()).is_err(), "a folder is no file");
    }
}
