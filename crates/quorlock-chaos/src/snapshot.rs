//! Snapshots of a server's data, and the data for a restart.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The data of a server after a restart.
#[derive(Clone, Debug)]
pub enum Data {
    /// All data, as after a reboot.
    Kept,
    /// No data, as on a new machine under the old address.
    Empty,
    /// The data of a snapshot, as after a restored backup or lost writes.
    Old(Snapshot),
}

/// A copy of a server's data files in memory. It is cheap to clone and outlives its server.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Paths are relative to the data folder.
    files: Arc<Vec<(PathBuf, Vec<u8>)>>,
}

impl Snapshot {
    pub(crate) fn take(data: &Path) -> io::Result<Self> {
        let mut files = Vec::new();
        collect(data, data, &mut files)?;
        Ok(Self { files: Arc::new(files) })
    }

    fn restore(&self, data: &Path) -> io::Result<()> {
        for (name, bytes) in self.files.iter() {
            let file = data.join(name);
            fs::create_dir_all(file.parent().unwrap_or(data))?;
            fs::write(file, bytes)?;
        }
        Ok(())
    }
}

impl Data {
    /// Replaces the data in the folder of a dead server.
    pub(crate) fn write_to(self, folder: &Path) -> io::Result<()> {
        match self {
            Self::Kept => Ok(()),
            Self::Empty => clear(folder),
            Self::Old(snapshot) => clear(folder).and_then(|()| snapshot.restore(folder)),
        }
    }
}

fn clear(folder: &Path) -> io::Result<()> {
    fs::remove_dir_all(folder)?;
    fs::create_dir(folder)
}

fn collect(root: &Path, folder: &Path, files: &mut Vec<(PathBuf, Vec<u8>)>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(root, &path, files)?;
        } else {
            let name = path.strip_prefix(root).unwrap_or(&path).to_owned();
            files.push((name, fs::read(&path)?));
        }
    }
    Ok(())
}
