//! A resource that looks at fencing tokens, and its twin that does not: what each makes of a holder that was stopped
//! between its last look at the lock and its write.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use quorlock::{FencingToken, Redlock};
use tokio::time::sleep;

use crate::support::{Worker, client, eventually, fenced_with_max_ttl, millis, secs};

/// A number in a file, and the token of the last write that was accepted. One at a time by a lock on the file, which
/// is not the lock in question: it lasts for an access, not for a piece of work.
struct Store {
    file: File,
    is_fenced: bool,
}

/// The store has seen a later holder.
#[derive(Debug, PartialEq, Eq)]
struct Stale;

impl Store {
    fn new(folder: &Path, is_fenced: bool) -> Self {
        let name = if is_fenced { "fenced" } else { "unfenced" };
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(folder.join(name));
        Self { file: file.expect("opened"), is_fenced }
    }

    fn read(&mut self) -> u64 {
        self.file.lock().expect("locked");
        let (value, _) = self.load();
        self.file.unlock().expect("unlocked");
        value
    }

    fn write(&mut self, value: u64, token: FencingToken) -> Result<(), Stale> {
        self.file.lock().expect("locked");
        let (_, last) = self.load();
        let may_write = !self.is_fenced || last.is_none_or(|last| token.supersedes(&last));
        if may_write {
            self.file.set_len(0).expect("emptied");
            self.file.rewind().expect("rewound");
            self.file.write_all(format!("{value} {token}").as_bytes()).expect("written");
        }
        self.file.unlock().expect("unlocked");
        if may_write { Ok(()) } else { Err(Stale) }
    }

    fn load(&mut self) -> (u64, Option<FencingToken>) {
        let mut text = String::new();
        self.file.rewind().expect("rewound");
        self.file.read_to_string(&mut text).expect("read");
        let Some((value, token)) = text.split_once(' ') else { return (0, None) };
        (value.parse().expect("a number"), Some(token.parse().expect("a token")))
    }
}

/// The same test is the story and, in the process it starts, the holder that is stopped.
#[tokio::test]
async fn a_fenced_resource_rejects_a_paused_holder_and_an_unfenced_one_loses_an_update() {
    if let Ok(nodes) = std::env::var("QUORLOCK_TEST_NODES") {
        return hold_and_write(&nodes).await;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str| folder.path().join(name);
    let fleet = fenced_with_max_ttl(3, MAX_TTL);
    let redlock = client(&fleet).await;
    let told = [
        ("QUORLOCK_TEST_NODES", fleet.nodes()),
        ("QUORLOCK_TEST_FOLDER", folder.path().display().to_string()),
    ];
    let holder = Worker::start(NAME, &told);
    eventually("it has read", || async { file("has-read").exists() }).await;
    signal("STOP", holder.id());

    // It would renew its lock for ever, so who gets the lock knows that it stands still.
    let guard = redlock.mutex("account").wait_timeout(secs(20)).acquire().await.expect("after its ttl");
    let token = guard.fencing_token().expect("fenced");
    let mut stores = [true, false].map(|is_fenced| Store::new(folder.path(), is_fenced));
    for store in &mut stores {
        let value = store.read();
        store.write(value + 1, token).expect("the latest holder");
        store.write(value + 1, token).expect("the same token may write again");
    }
    guard.release().await.expect("released");
    fs::write(file("go"), "").expect("written");
    signal("CONT", holder.id());
    holder.wait();

    let [fenced, unfenced] = &mut stores;
    assert_eq!(fs::read_to_string(file("fenced-said")).expect("read"), "Err(Stale)");
    assert_eq!(fs::read_to_string(file("unfenced-said")).expect("read"), "Ok(())");
    // Two were told that they had added one. The fenced one knows better by now, and has done it again.
    assert_eq!(fenced.read(), 2);
    assert_eq!(unfenced.read(), 1, "without a look at the token, one of two updates is lost");
}

async fn hold_and_write(nodes: &str) {
    let folder = PathBuf::from(std::env::var_os("QUORLOCK_TEST_FOLDER").expect("variable is set"));
    let redlock = Redlock::builder().nodes(nodes.split(',')).max_ttl(MAX_TTL);
    let redlock = redlock.connect().await.expect("up");
    let guard = redlock.mutex("account").acquire().await.expect("free");
    let token = guard.fencing_token().expect("fenced");
    let mut stores = [true, false].map(|is_fenced| Store::new(&folder, is_fenced));
    let values = stores.each_mut().map(Store::read);
    assert!(guard.is_valid(), "valid before the pause");
    fs::write(folder.join("has-read"), "").expect("written");
    while !folder.join("go").exists() {
        // Stopped in here, or there would be renewals.
        sleep(millis(1)).await;
    }
    let [fenced, unfenced] = &mut stores;
    let said = fenced.write(values[0] + 1, token);
    fs::write(folder.join("fenced-said"), format!("{said:?}")).expect("written");
    let also = unfenced.write(values[1] + 1, token);
    fs::write(folder.join("unfenced-said"), format!("{also:?}")).expect("written");
    // Who was refused takes the lock anew and does its work again.
    drop(guard);
    let guard = redlock.mutex("account").wait_timeout(secs(20)).acquire().await.expect("free");
    let value = fenced.read();
    fenced.write(value + 1, guard.fencing_token().expect("fenced")).expect("the latest holder");
    guard.release().await.expect("released");
}

fn signal(name: &str, pid: u32) {
    let sent = Command::new("kill").args([format!("-{name}"), pid.to_string()]).status();
    assert!(sent.expect("`kill` is installed").success());
}

const MAX_TTL: std::time::Duration = millis(1000);
const NAME: &str =
    "fenced_resource::a_fenced_resource_rejects_a_paused_holder_and_an_unfenced_one_loses_an_update";
