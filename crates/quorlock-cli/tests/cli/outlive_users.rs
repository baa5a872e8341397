//! A command that belongs to another user cannot be ended by us: that is said at once, and not only at the end.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use quorlock_chaos::Server;
use rustix::process::Signal;

use crate::processes::{Process, family};
use crate::programs::is_root;
use crate::world::{World, end_of, now, until};

/// A user that owns nothing.
const USER: &str = "64321";

/// Copies a program to where that user can run it.
fn copy(world: &World, from: &Path, name: &str, mode: u32) {
    fs::copy(from, world.file(name)).expect("a copy");
    fs::set_permissions(world.file(name), fs::Permissions::from_mode(mode)).expect("permissions");
}

/// A folder in which that user finds `./quorlock`, and `./as-root`, which becomes root as `sudo` does.
fn world_of_two_users() -> Option<World> {
    if !is_root() {
        return None;
    }
    let world = World::of(3);
    fs::set_permissions(world.file(""), fs::Permissions::from_mode(0o777)).expect("permissions");
    copy(&world, Path::new(env!("CARGO_BIN_EXE_quorlock")), "quorlock", 0o755);
    let setpriv = Command::new("sh").args(["-c", "command -v setpriv"]).output().expect("a shell");
    copy(&world, Path::new(String::from_utf8_lossy(&setpriv.stdout).trim()), "as-root", 0o4755);
    let seen = as_user(&world, &["./as-root", "--reuid=0", "id", "-u"]).output().expect("a process");
    if seen.stdout != b"0\n" {
        eprintln!("left out: here no process becomes root by a file's mode: {seen:?}");
        return None;
    }
    Some(world)
}

fn as_user(world: &World, words: &[&str]) -> Command {
    let (user, group) = (format!("--reuid={USER}"), format!("--regid={USER}"));
    world.program("setpriv", &[&[user.as_str(), &group, "--clear-groups", "--"], words].concat())
}

fn root_child_of(run: &Child) -> Process {
    let mut found = None;
    until("root's process runs", || {
        found = family(run.id() as i32).into_iter().find(|it| it.comm == "sleep");
        found.is_some()
    });
    found.expect("a process")
}

#[test]
fn a_command_of_another_user_that_outlives_the_lock_is_reported_at_once() {
    let Some(mut world) = world_of_two_users() else { return };
    for options in [&[][..], &["--foreground"]] {
        let name = format!("a{}", options.concat());
        let command = [&name, "--", "./as-root", "--reuid=0", "sleep", "60"];
        let words = [&["./quorlock", "run", "--ttl", "2s"], options, &command].concat();
        let said = fs::File::create(world.file("said")).expect("a file");
        let run = as_user(&world, &words).stdout(Stdio::null()).stderr(said).spawn().expect("a process");
        let root = root_child_of(&run);
        world.fleet.servers_mut().iter_mut().for_each(Server::pause);
        let deadline = now() + 2000;
        until("it is said", || world.read("said").contains("Operation not permitted"));
        assert!(now() < deadline + 500, "too late to be of use");
        assert!(root.is_alive(), "{}", world.read("said"));
        let end = end_of(run);
        let said = world.read("said");
        assert_eq!(end.code, Some(70), "{said}");
        assert!(root.is_alive(), "it was not waited for: {said}");
        assert!(said.lines().all(|line| line.starts_with("quorlock: ")), "{said}");
        assert!(said.contains("without the lock"), "{said}");
        assert!(said.lines().count() <= 3, "it is said once: {said}");
        assert_eq!(said.matches("Operation not permitted").count(), 1, "{said}");
        root.send(Signal::KILL);
        world.fleet.servers_mut().iter_mut().for_each(Server::resume);
    }
}

#[test]
fn processes_of_another_user_are_polled_slowly() {
    let Some(world) = world_of_two_users() else { return };
    let words = ["./quorlock", "run", "a", "--", "./as-root", "--reuid=0", "sleep", "4"];
    let run = as_user(&world, &words).spawn().expect("a process");
    root_child_of(&run);
    let process = Process::of(run.id() as i32).expect("run");
    process.send(Signal::TERM);
    let before = process.now().map_or(0, |now| now.ticks);
    let mut ticks = before;
    while process.is_alive() {
        ticks = process.now().map_or(ticks, |now| now.ticks);
        sleep(Duration::from_millis(50));
    }
    let end = end_of(run);
    assert!(
        end.err.contains("Operation not permitted"),
        "no process received the signal, and that is said: {end:?}"
    );
    assert!(ticks - before < 50, "it used {} ms of the processor for waiting", (ticks - before) * 10);
    assert_eq!(end.code, Some(0), "the command had its own end: {end:?}");
    assert_eq!(world.keys("a"), 0);
}

#[test]
fn a_failed_thread_start_gives_a_clear_message() {
    let Some(world) = world_of_two_users() else { return };
    for limit in ["1", "2", "3", "4"] {
        let script = format!("ulimit -u {limit}; exec ./quorlock run -n a -- true");
        let end = end_of(as_user(&world, &["bash", "-c", &script]).spawn().expect("a process"));
        crate::process_environment::check_plain_words(&end, &script);
        world.until_free("a");
    }
}
