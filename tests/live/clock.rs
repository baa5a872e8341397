//! Servers whose wall clock is set while they run. They are real; what they are told the time is, is not: a small
//! library is loaded before them (`shim/clock.c`), so this needs a C compiler, and Linux.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};

use quorlock::{Doubt, Event, ExtendError, Loss, Redlock};
use quorlock_chaos::{Server, Setup, locate};
use tempfile::TempDir;

use crate::world::{declare, eventually, secs, votes};

const LONGEST_TTL: std::time::Duration = secs(4);

/// Three servers, each with a clock to set, and a client that listens.
struct World {
    redlock: Redlock,
    heard: Arc<Mutex<Heard>>,
    clocks: [File; 3],
    _servers: [Server; 3],
    _folder: TempDir,
}

#[derive(Default)]
struct Heard {
    /// Address and step of each jump.
    jumps: Vec<(String, i64)>,
    losses: Vec<Loss>,
}

impl World {
    /// None where there is no C compiler, or no way to load a library first.
    async fn new() -> Option<Self> {
        let folder = tempfile::tempdir().expect("a folder");
        let library = build(folder.path())?;
        let nodes = [0, 1, 2].map(|node| server(folder.path(), &library, node));
        let (servers, clocks): (Vec<_>, Vec<_>) = nodes.into_iter().unzip();
        let heard: Arc<Mutex<Heard>> = Arc::default();
        let listener = Arc::clone(&heard);
        let builder = Redlock::builder().nodes(servers.iter().map(Server::url)).longest_ttl(LONGEST_TTL);
        declare(builder.clone());
        let redlock = builder
            .observer(move |event: &Event<'_>| {
                let mut heard = listener.lock().expect("whole");
                match event {
                    Event::ClockJumped { node, by_micros } => {
                        heard.jumps.push(((*node).to_owned(), *by_micros));
                    }
                    Event::Lost { loss, .. } => heard.losses.push(*loss),
                    _ => {}
                }
            })
            .connect()
            .await
            .expect("all are up");
        eventually("all vote", || async { redlock.nodes().await.iter().all(votes) }).await;
        let world = Self {
            redlock,
            heard,
            clocks: clocks.try_into().expect("three"),
            _servers: servers.try_into().expect("three"),
            _folder: folder,
        };
        // Each clock was read once, so that there is something to compare with.
        drop(world.redlock.mutex("k").acquire().await.expect("free"));
        Some(world)
    }

    /// From now on the node's clock is off by so many microseconds.
    fn set(&self, node: usize, micros: i64) {
        self.clocks[node].write_all_at(&micros.to_ne_bytes(), 0).expect("written");
    }

    /// Takes locks until the jump of just this node was told.
    async fn hear_of(&self, node: usize) -> i64 {
        let address = self.redlock.nodes().await[node].address.clone();
        eventually("the jump is told", || async {
            let guard = self.redlock.mutex("k").acquire().await.expect("the others are a quorum");
            guard.release().await.expect("released");
            !self.heard.lock().expect("whole").jumps.is_empty()
        })
        .await;
        let jumps = std::mem::take(&mut self.heard.lock().expect("whole").jumps);
        let [(told, by_micros)] = &jumps[..] else { panic!("expected one jump, got {jumps:?}") };
        assert_eq!(*told, address);
        *by_micros
    }
}

/// The library, compiled.
fn build(folder: &Path) -> Option<String> {
    let library = folder.join("clock.so").display().to_string();
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/live/shim/clock.c");
    if cfg!(not(target_os = "linux")) || Command::new("cc").arg("--version").output().is_err() {
        eprintln!("skipped: clocks are not set, for there is no C compiler `cc`, or this is not Linux");
        return None;
    }
    let output = Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o", &library, source]).output();
    let output = output.expect("there is a compiler");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(library)
}

/// A server that has the library loaded first, and its clock.
fn server(folder: &Path, library: &str, node: usize) -> (Server, File) {
    let clock = folder.join(format!("clock{node}"));
    fs::write(&clock, 0_i64.to_ne_bytes()).expect("written");
    let wrapper = folder.join(format!("server{node}"));
    let binary = locate().expect("a redis-server is installed");
    let (clock_name, binary) = (clock.display(), binary.display());
    let script = format!(
        "#!/bin/sh\nexport QUORLOCK_TEST_CLOCK='{clock_name}' LD_PRELOAD='{library}'\nexec '{binary}' \"$@\"\n"
    );
    fs::write(&wrapper, script).expect("written");
    fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755)).expect("made executable");
    let server = Server::start(&Setup::new().binary(wrapper)).expect("started");
    (server, OpenOptions::new().write(true).open(clock).expect("opened"))
}

#[tokio::test]
async fn a_clock_that_is_set_forward_or_back_puts_its_node_out_of_the_count_for_a_while() {
    let Some(world) = World::new().await else { return };
    world.set(1, 1_000_000);
    let by_micros = world.hear_of(1).await;
    assert!((900_000..1_100_000).contains(&by_micros), "{by_micros}");
    let probation = world.redlock.nodes().await[1].probation.expect("it is out of the count");
    assert_eq!(probation.doubt, Doubt::Clock);
    assert!(probation.remaining() > secs(2), "{:?}", probation.remaining());
    let guard = world.redlock.mutex("k").acquire().await.expect("the others are a quorum");
    assert_eq!(guard.margin(), 0);
    guard.release().await.expect("released");
    eventually("it votes again", || async { world.redlock.nodes().await.iter().all(votes) }).await;
    world.set(1, 0);
    let by_micros = world.hear_of(1).await;
    assert!((-1_100_000..-900_000).contains(&by_micros), "{by_micros}");
}

#[tokio::test]
async fn a_held_lock_survives_the_jump_of_one_clock_and_is_lost_by_the_jump_of_two() {
    let Some(world) = World::new().await else { return };
    let guard = world.redlock.mutex("held").ttl(LONGEST_TTL).acquire().await.expect("free");
    eventually("all three have it", || async { guard.margin() == 1 }).await;
    world.set(0, 1_000_000);
    guard.extend(LONGEST_TTL).await.expect("two others are enough");
    eventually("one is not counted any more", || async { guard.margin() == 0 }).await;
    assert!(guard.is_valid());
    world.set(2, 1_000_000);
    let refused = guard.extend(LONGEST_TTL).await.expect_err("one is too few");
    assert!(matches!(refused, ExtendError::Lost), "{refused:?}");
    assert!(!guard.is_valid());
    assert_eq!(world.heard.lock().expect("whole").losses, [Loss::Clock]);
    assert_eq!(world.heard.lock().expect("whole").jumps.len(), 2);
}
