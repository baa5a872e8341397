//! Fencing tokens (Kleppmann, "How to do distributed locking", 2016): a holder is paused between its last
//! check of the lock and its write. A resource that checks tokens rejects the late write; one that does not
//! loses an update.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use quorlock::{FencingToken, Redlock};
use tokio::time::sleep;

use crate::support::{Worker, client, eventually, fenced_with_max_ttl, millis, secs};

/// A protected resource: a file with a value and the token of the last accepted write. A lock on the file
/// makes each access atomic; it is not the lock under test.
struct ProtectedResource {
    file: File,
    is_fenced: bool,
}

/// The resource has seen the token of a later holder.
#[derive(Debug, PartialEq, Eq)]
struct Stale;

impl ProtectedResource {
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

/// The test, which starts its own binary again: in that process, this function is the paused holder.
#[tokio::test]
async fn a_fenced_resource_rejects_a_paused_holder_and_an_unfenced_one_loses_an_update() {
    if let Ok(nodes) = std::env::var("QUORLOCK_TEST_NODES") {
        return hold_and_write(&nodes).await;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str| folder.path().join(name);
    let fleet = fenced_with_max_ttl(3, MAX_TTL);
    let redlock = client(&fleet).await;
    let env = [
        ("QUORLOCK_TEST_NODES", fleet.nodes()),
        ("QUORLOCK_TEST_FOLDER", folder.path().display().to_string()),
    ];
    let holder = Worker::start(TEST_NAME, &env);
    eventually("it has read", || async { file("has-read").exists() }).await;
    signal("STOP", holder.id());

    // A running holder would renew its lock forever, so a grant here shows that it is stopped.
    let guard = redlock.mutex("account").wait_timeout(secs(20)).acquire().await.expect("after its ttl");
    let token = guard.fencing_token().expect("fenced");
    let mut resources = [true, false].map(|is_fenced| ProtectedResource::new(folder.path(), is_fenced));
    for resource in &mut resources {
        let value = resource.read();
        resource.write(value + 1, token).expect("the latest holder");
        resource.write(value + 1, token).expect("the same token may write again");
    }
    guard.release().await.expect("released");
    fs::write(file("go"), "").expect("written");
    signal("CONT", holder.id());
    holder.wait();

    let [fenced, unfenced] = &mut resources;
    assert_eq!(fs::read_to_string(file("fenced-outcome")).expect("read"), "Err(Stale)");
    assert_eq!(fs::read_to_string(file("unfenced-outcome")).expect("read"), "Ok(())");
    // Two writes to the unfenced resource were accepted. The holder has repeated the write that the fenced
    // one rejected.
    assert_eq!(fenced.read(), 2);
    assert_eq!(unfenced.read(), 1, "without a check of the token, one of two updates is lost");
}

async fn hold_and_write(nodes: &str) {
    let folder = PathBuf::from(std::env::var_os("QUORLOCK_TEST_FOLDER").expect("variable is set"));
    let redlock = Redlock::builder().nodes(nodes.split(',')).max_ttl(MAX_TTL);
    let redlock = redlock.connect().await.expect("up");
    let guard = redlock.mutex("account").acquire().await.expect("free");
    let token = guard.fencing_token().expect("fenced");
    let mut resources = [true, false].map(|is_fenced| ProtectedResource::new(&folder, is_fenced));
    let values = resources.each_mut().map(ProtectedResource::read);
    assert!(guard.is_valid(), "valid before the pause");
    fs::write(folder.join("has-read"), "").expect("written");
    while !folder.join("go").exists() {
        // The process is stopped here; otherwise it would renew.
        sleep(millis(1)).await;
    }
    let [fenced, unfenced] = &mut resources;
    let rejected = fenced.write(values[0] + 1, token);
    fs::write(folder.join("fenced-outcome"), format!("{rejected:?}")).expect("written");
    let accepted = unfenced.write(values[1] + 1, token);
    fs::write(folder.join("unfenced-outcome"), format!("{accepted:?}")).expect("written");
    // After the rejection the holder acquires the lock again and repeats its work.
    drop(guard);
    let guard = redlock.mutex("account").wait_timeout(secs(20)).acquire().await.expect("free");
    let value = fenced.read();
    fenced.write(value + 1, guard.fencing_token().expect("fenced")).expect("the latest holder");
    guard.release().await.expect("released");
}

fn signal(name: &str, pid: u32) {
    let status = Command::new("kill").args([format!("-{name}"), pid.to_string()]).status();
    assert!(status.expect("`kill` is installed").success());
}

const MAX_TTL: std::time::Duration = millis(1000);
const TEST_NAME: &str =
    "fenced_resource::a_fenced_resource_rejects_a_paused_holder_and_an_unfenced_one_loses_an_update";
