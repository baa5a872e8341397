//! The protected resource: a file that stores the largest fencing token so far and rejects smaller ones. As a
//! negative control, a second kind of store accepts all.

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

/// A store. A lock on its file allows one access at a time; it is unrelated to the lock under test.
pub(super) struct Store {
    pub(super) name: String,
    file: File,
    is_fenced: bool,
}

/// The reply of a store.
pub(super) struct StoreReply {
    /// The store's count of writes, including this write.
    pub(super) position: u64,
    /// Whether the store accepted the write.
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

    /// The store of this key that accepts all writes.
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

    /// Writes with this token. None if the store stays locked for 0.2 s, because a client was stopped during
    /// an access.
    pub(super) async fn write(&self, token: FencingToken) -> io::Result<Option<StoreReply>> {
        for _ in 0..MAX_TRIES {
            match self.file.try_lock() {
                Ok(()) => {
                    let reply = self.access(token);
                    self.file.unlock()?;
                    return reply.map(Some);
                }
                Err(TryLockError::WouldBlock) => sleep(RETRY_PAUSE).await,
                Err(TryLockError::Error(error)) => return Err(error),
            }
        }
        Ok(None)
    }

    fn access(&self, token: FencingToken) -> io::Result<StoreReply> {
        let (writes, last) = self.load()?;
        let accepted = !self.is_fenced || last.is_none_or(|last| token.supersedes(&last));
        let last = if accepted { Some(token) } else { last };
        let position = writes + 1;
        let last = last.map(|last| last.to_string()).unwrap_or_default();
        // One write of constant length: a client that is killed here has written all of it or nothing.
        let record = format!("{position:>20} {last:<LEN$}\n");
        self.file.write_all_at(record.as_bytes(), 0)?;
        Ok(StoreReply { position, accepted })
    }

    fn load(&self) -> io::Result<(u64, Option<FencingToken>)> {
        let mut bytes = vec![0; self.file.metadata()?.len() as usize];
        self.file.read_exact_at(&mut bytes, 0)?;
        let text = String::from_utf8_lossy(&bytes);
        let mut fields = text.split_whitespace();
        let invalid =
            |text: &str| io::Error::new(io::ErrorKind::InvalidData, format!("the store holds {text:?}"));
        let writes = fields.next().map_or(Ok(0), |field| field.parse().map_err(|_| invalid(field)))?;
        let last = fields.next().map(|field| field.parse().map_err(|_| invalid(field))).transpose()?;
        Ok((writes, last))
    }
}

/// More than the longest token.
const LEN: usize = 80;
/// 0.2 s with the pauses.
const MAX_TRIES: u32 = 200;
const RETRY_PAUSE: Duration = Duration::from_millis(1);
