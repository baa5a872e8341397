//! The protected resource: a file that keeps the largest fencing token it has seen and refuses smaller ones. As a
//! negative control, there is one that does not check.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::Duration;

use quorlock::FencingToken;
use tokio::time::sleep;

/// All stores, two for each key.
pub(super) struct Stores {
    fenced: Vec<Store>,
    unfenced: Vec<Store>,
}

/// A store: one access at a time, by a lock on its file. That file lock is not the lock under test: it lasts for a read
/// and a write.
pub(super) struct Store {
    pub(super) name: String,
    file: File,
    is_fenced: bool,
}

/// The reply of a store.
pub(super) struct StoreReply {
    /// Its count of writes so far.
    pub(super) position: u64,
    pub(super) accepted: bool,
}

impl Stores {
    pub(super) fn open(folder: &Path, keys: &[String]) -> io::Result<Self> {
        let open = |prefix: &str, is_fenced| {
            let open = |key: &String| {
                Store::open(folder, format!("{prefix}-{}", key.replace([':', '/'], "-")), is_fenced)
            };
            keys.iter().map(open).collect::<io::Result<Vec<_>>>()
        };
        Ok(Self { fenced: open("fenced", true)?, unfenced: open("unfenced", false)? })
    }

    /// The store of this key that checks tokens.
    pub(super) fn fenced(&self, key: usize) -> &Store {
        &self.fenced[key]
    }

    /// The store of this key that does not.
    pub(super) fn unfenced(&self, key: usize) -> &Store {
        &self.unfenced[key]
    }
}

impl Store {
    fn open(folder: &Path, name: String, is_fenced: bool) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(false).open(folder.join(&name))?;
        Ok(Self { name, file, is_fenced })
    }

    /// Writes with this token. None if the store is not available, because a client was stopped in the middle of an
    /// access.
    pub(super) async fn write(&self, token: FencingToken) -> io::Result<Option<StoreReply>> {
        for _ in 0..TRIES {
            match self.file.try_lock() {
                Ok(()) => {
                    let answer = self.access(token);
                    self.file.unlock()?;
                    return answer.map(Some);
                }
                Err(TryLockError::WouldBlock) => sleep(PAUSE).await,
                Err(TryLockError::Error(error)) => return Err(error),
            }
        }
        Ok(None)
    }

    fn access(&self, token: FencingToken) -> io::Result<StoreReply> {
        let (asked, last) = self.load()?;
        let accepted = !self.is_fenced || last.is_none_or(|last| token.supersedes(&last));
        let last = if accepted { Some(token) } else { last };
        let place = asked + 1;
        let last = last.map(|last| last.to_string()).unwrap_or_default();
        // One write of a constant length: a client that is killed in here has written all of it or nothing.
        let record = format!("{place:>20} {last:<LEN$}\n");
        self.file.write_all_at(record.as_bytes(), 0)?;
        Ok(StoreReply { position: place, accepted })
    }

    fn load(&self) -> io::Result<(u64, Option<FencingToken>)> {
        let mut bytes = vec![0; self.file.metadata()?.len() as usize];
        self.file.read_exact_at(&mut bytes, 0)?;
        let text = String::from_utf8_lossy(&bytes);
        let mut words = text.split_whitespace();
        let odd =
            |text: &str| io::Error::new(io::ErrorKind::InvalidData, format!("the store holds {text:?}"));
        let asked = words.next().map_or(Ok(0), |word| word.parse().map_err(|_| odd(word)))?;
        let last = words.next().map(|word| word.parse().map_err(|_| odd(word))).transpose()?;
        Ok((asked, last))
    }
}

/// As long as a token can be, and more.
const LEN: usize = 80;
/// A fifth of a second.
const TRIES: u32 = 200;
const PAUSE: Duration = Duration::from_millis(1);
