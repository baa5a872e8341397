//! A command of another user, which `run` may not signal: reported at once, not only at the end.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use quorlock_chaos::Server;
use rustix::process::Signal;

use crate::processes::{Process, process_tree};
use crate::programs::is_root;
use crate::world::{World, now, output_of, wait_until};

/// The id of a user without any files.
const USER: &str = "64321";

/// Copies a program into the test's folder, with this mode.
fn copy(world: &World, from: &Path, name: &str, mode: u32) {
    fs::copy(from, world.file(name)).expect("a copy");
    fs::set_permissions(world.file(name), fs::Permissions::from_mode(mode)).expect("permissions");
}

/// A folder with `./quorlock`, and with `./as-root`, a set-user-id program that becomes root, as `sudo` does.
fn world_of_two_users() -> Option<World> {
    if !is_root() {
        return None;
    }
    let world = World::of(3);
    fs::set_permissions(world.file(""), fs::Permissions::from_mode(0o777)).expect("permissions");
    copy(&world, Path::new(env!("CARGO_BIN_EXE_quorlock")), "quorlock", 0o755);
    let setpriv = Command::new("sh").args(["-c", "command -v setpriv"]).output().expect("a shell");
    copy(&world, Path::new(String::from_utf8_lossy(&setpriv.stdout).trim()), "as-root", 0o4755);
    let probe = as_user(&world, &["./as-root", "--reuid=0", "id", "-u"]).output().expect("a process");
    if probe.stdout != b"0\n" {
        eprintln!("skipped: set-user-id programs do not work here: {probe:?}");
        return None;
    }
    Some(world)
}

fn as_user(world: &World, args: &[&str]) -> Command {
    let (user, group) = (format!("--reuid={USER}"), format!("--regid={USER}"));
    world.program("setpriv", &[&[user.as_str(), &group, "--clear-groups", "--"], args].concat())
}

fn root_child_of(run: &Child) -> Process {
    let mut found = None;
    wait_until("root's process runs", || {
        found = process_tree(run.id() as i32).into_iter().find(|it| it.comm == "sleep");
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
        let args = [&["./quorlock", "run", "--ttl", "2s"], options, &command].concat();
        let stderr = fs::File::create(world.file("stderr")).expect("a file");
        let run = as_user(&world, &args).stdout(Stdio::null()).stderr(stderr).spawn().expect("a process");
        let root = root_child_of(&run);
        world.fleet.servers_mut().iter_mut().for_each(Server::pause);
        let deadline = now() + 2000;
        wait_until("the error is reported", || world.read("stderr").contains("Operation not permitted"));
        assert!(now() < deadline + 500, "reported too late");
        assert!(root.is_alive(), "{}", world.read("stderr"));
        let output = output_of(run);
        let stderr = world.read("stderr");
        assert_eq!(output.code, Some(70), "{stderr}");
        assert!(root.is_alive(), "root's process has ended: {stderr}");
        assert!(stderr.lines().all(|line| line.starts_with("quorlock: ")), "{stderr}");
        assert!(stderr.contains("without the lock"), "{stderr}");
        assert!(stderr.lines().count() <= 3, "reported more than once: {stderr}");
        assert_eq!(stderr.matches("Operation not permitted").count(), 1, "{stderr}");
        root.send(Signal::KILL);
        world.fleet.servers_mut().iter_mut().for_each(Server::resume);
    }
}

#[test]
fn processes_of_another_user_are_polled_slowly() {
    let Some(world) = world_of_two_users() else { return };
    let args = ["./quorlock", "run", "a", "--", "./as-root", "--reuid=0", "sleep", "4"];
    let run = as_user(&world, &args).spawn().expect("a process");
    root_child_of(&run);
    let process = Process::of(run.id() as i32).expect("run");
    process.send(Signal::TERM);
    let before = process.refreshed().map_or(0, |now| now.ticks);
    let mut ticks = before;
    while process.is_alive() {
        ticks = process.refreshed().map_or(ticks, |now| now.ticks);
        sleep(Duration::from_millis(50));
    }
    let output = output_of(run);
    assert!(
        output.stderr.contains("Operation not permitted"),
        "the failed signal is not reported: {output:?}"
    );
    assert!(ticks - before < 50, "waiting used {} ms of processor time", (ticks - before) * 10);
    assert_eq!(output.code, Some(0), "the command's exit code is not passed on: {output:?}");
    assert_eq!(world.key_count("a"), 0);
}

#[test]
fn a_failed_thread_start_gives_a_clear_message() {
    let Some(world) = world_of_two_users() else { return };
    for limit in ["1", "2", "3", "4"] {
        let script = format!("ulimit -u {limit}; exec ./quorlock run -n a -- true");
        let output = output_of(as_user(&world, &["bash", "-c", &script]).spawn().expect("a process"));
        crate::process_environment::check_no_panic(&output, &script);
        world.wait_until_free("a");
    }
}
