//! Tests of the fleet: faults are real, and nothing is left behind.

use std::env;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use quorlock_chaos::{Data, Fleet, MovableAddress, Server, Setup, StartError, redis};
use rustix::process::{Pid, Signal, kill_process_group, test_kill_process};

#[test]
fn a_started_fleet_answers_on_ports_of_its_own() {
    let mut fleet = Fleet::start(5).expect("a fleet");
    let mut ports: Vec<u16> = fleet.servers().iter().map(Server::port).collect();
    ports.sort_unstable();
    ports.dedup();
    assert_eq!(ports.len(), 5);
    assert_eq!(fleet.nodes(), fleet.urls().join(","));
    for server in fleet.servers_mut() {
        assert!(server.is_running());
        assert_eq!(server.command::<String>(&["PING"]).expect("a reply"), "PONG");
        let bound: (String, String) = server.command(&["CONFIG", "GET", "bind"]).expect("a reply");
        assert_eq!(bound.1, "127.0.0.1");
    }
}

#[test]
fn kept_data_survives_a_kill_and_the_port_and_url_stay() {
    let mut server = Server::start(&Setup::new()).expect("a server");
    let (url, first) = (server.url(), server.pid());
    keep(&server, "before");
    server.kill();
    assert!(!server.is_running());
    assert_eq!(server.pid(), None);
    assert!(TcpStream::connect(("127.0.0.1", server.port())).is_err(), "a dead server refuses");
    server.restart(Data::Kept).expect("a restart");
    assert_eq!(kept(&server).as_deref(), Some("before"));
    assert_eq!(server.url(), url);
    assert_ne!(server.pid(), first);
}

#[test]
fn a_restart_without_data_forgets() {
    let mut server = Server::start(&Setup::new()).expect("a server");
    keep(&server, "before");
    server.restart(Data::Empty).expect("a restart of a running server");
    assert_eq!(kept(&server), None);
}

#[test]
fn an_old_snapshot_brings_back_the_old_time_again_and_again() {
    let mut server = Server::start(&Setup::new()).expect("a server");
    keep(&server, "old");
    let snapshot = server.snapshot().expect("a snapshot");
    for _ in 0..2 {
        keep(&server, "new");
        server.restart(Data::Old(snapshot.clone())).expect("a restart");
        assert_eq!(kept(&server).as_deref(), Some("old"));
    }
}

#[test]
fn a_wiped_server_forgets_for_good() {
    let mut server = Server::start(&Setup::new()).expect("a server");
    keep(&server, "before");
    server.wipe().expect("a reply");
    assert_eq!(kept(&server), None);
    server.restart(Data::Kept).expect("a restart");
    assert_eq!(kept(&server), None);
}

#[test]
fn a_swapped_server_forgets_and_remembers() {
    let server = Server::start(&Setup::new()).expect("a server");
    keep(&server, "before");
    server.swap_databases().expect("a reply");
    assert_eq!(kept(&server), None);
    server.swap_databases().expect("a reply");
    assert_eq!(kept(&server).as_deref(), Some("before"));
}

#[test]
fn a_server_that_is_demoted_and_promoted_has_the_data_of_another() {
    let fleet = Fleet::start(2).expect("a fleet");
    keep(&fleet[0], "mine");
    let (first, run_id) = (fleet[0].pid(), run_id(&fleet[0]));
    fleet[0].demote(&fleet[1]).expect("a replica");
    let refused = fleet[0].command::<()>(&["SET", "key", "value"]).expect_err("it takes no writes");
    assert_eq!(refused.code(), Some("READONLY"));
    fleet[0].promote().expect("a master");
    assert_eq!(kept(&fleet[0]), None);
    keep(&fleet[0], "after");
    assert_eq!((fleet[0].pid(), self::run_id(&fleet[0])), (first, run_id), "it is the same process");
}

#[test]
fn a_front_moves_from_one_server_to_another_and_breaks_its_connections() {
    let fleet = Fleet::start(2).expect("a fleet");
    keep(&fleet[0], "first");
    keep(&fleet[1], "second");
    let mut front = MovableAddress::of(&fleet[0]).expect("a front");
    let dial = |front: &MovableAddress| redis::Client::open(front.url())?.get_connection();
    let get = |connection: &mut redis::Connection| redis::cmd("GET").arg("key").query::<String>(connection);
    let mut before = dial(&front).expect("a connection");
    assert_eq!(get(&mut before).expect("a reply"), "first");
    front.move_to(&fleet[1]);
    get(&mut before).expect_err("it is broken");
    let mut after = dial(&front).expect("a connection");
    assert_eq!(get(&mut after).expect("a reply"), "second");
    drop(front);
    get(&mut after).expect_err("it is gone");
}

#[test]
fn a_paused_server_is_silent_until_it_is_resumed() {
    let mut server = Server::start(&Setup::new()).expect("a server");
    let mut connection = server.connect(Duration::from_millis(200)).expect("a connection");
    for _ in 0..3 {
        server.pause();
        let silent = redis::cmd("PING").query::<String>(&mut connection).expect_err("no reply");
        assert!(silent.is_timeout(), "{silent}");
        assert!(server.is_running(), "paused is not dead");
        server.resume();
        connection = server.connect(Duration::from_secs(5)).expect("a connection");
        redis::cmd("PING").query::<String>(&mut connection).expect("a reply");
        connection.set_read_timeout(Some(Duration::from_millis(200))).expect("a timeout");
    }
}

/// A thread that still ran could take a lock after its server was reported as paused.
#[cfg(target_os = "linux")]
#[test]
fn every_thread_stands_still_when_the_pause_returns() {
    let mut server = Server::start(&Setup::new()).expect("a server");
    let tasks = format!("/proc/{}/task", server.pid().expect("alive"));
    for _ in 0..100 {
        server.pause();
        for task in fs::read_dir(&tasks).expect("threads") {
            let stat = fs::read_to_string(task.expect("a thread").path().join("stat")).expect("its state");
            assert!(stat.contains(") T "), "{stat}");
        }
        server.resume();
    }
}

#[test]
fn a_paused_server_can_be_killed_and_brought_back() {
    let mut server = Server::start(&Setup::new()).expect("a server");
    keep(&server, "before");
    server.pause();
    server.kill();
    server.pause();
    server.resume();
    assert!(!server.is_running());
    server.restart(Data::Kept).expect("a restart");
    assert_eq!(kept(&server).as_deref(), Some("before"));
}

#[test]
fn a_server_that_ends_by_itself_is_found_dead() {
    let mut server = Server::start(&Setup::new()).expect("a server");
    server.command::<()>(&["SHUTDOWN", "NOSAVE"]).expect_err("it hangs up instead of answering");
    within_ten_seconds("found dead", || !server.is_running());
    assert_eq!(server.pid(), None);
    server.restart(Data::Kept).expect("a restart");
}

#[test]
fn a_setup_is_followed() {
    let parent = tempfile::tempdir().expect("a temp folder");
    let setup = Setup::new()
        .dir(parent.path())
        .password("secret")
        .unix_socket(true)
        .append_only(false)
        .args(["--maxmemory-policy", "allkeys-lru"]);
    let mut server = Server::start(&setup).expect("a server");
    assert!(server.url().contains(":secret@"));
    assert!(server.dir().starts_with(parent.path()));
    UnixStream::connect(server.unix_socket().expect("a socket")).expect("a connection");
    let policy: (String, String) = server.command(&["CONFIG", "GET", "maxmemory-policy"]).expect("a reply");
    assert_eq!(policy.1, "allkeys-lru");
    keep(&server, "before");
    server.restart(Data::Kept).expect("a restart");
    assert_eq!(kept(&server), None, "nothing was put on disk");
    drop(server);
    assert_eq!(fs::read_dir(parent.path()).expect("the folder").count(), 0);
}

#[test]
fn a_server_that_cannot_start_says_why_and_leaves_nothing() {
    let parent = tempfile::tempdir().expect("a temp folder");
    let setup = Setup::new().dir(parent.path());
    match Server::start(&setup.clone().args(["--no-such-option", "1"])) {
        Err(StartError::Ended { log }) => assert!(log.contains("no-such-option"), "{log}"),
        other => panic!("{other:?}"),
    }
    assert!(matches!(Fleet::start_with(2, &setup.binary("/no/such/server")), Err(StartError::Ended { .. })));
    assert_eq!(fs::read_dir(parent.path()).expect("the folder").count(), 0);
}

#[test]
fn all_is_gone_after_the_drop_even_paused_and_dead_servers() {
    let mut fleet = Fleet::start(3).expect("a fleet");
    let traces = traces(&fleet);
    assert!(traces.iter().all(Trace::shows));
    fleet[0].pause();
    fleet[1].kill();
    drop(fleet);
    for trace in &traces {
        assert!(!trace.shows(), "{trace:?}");
    }
}

#[test]
fn all_is_gone_after_a_panic() {
    let (sender, receiver) = std::sync::mpsc::channel();
    let panicked = thread::spawn(move || {
        let fleet = Fleet::start(2).expect("a fleet");
        sender.send(traces(&fleet)).expect("a listener");
        panic!("on purpose");
    });
    let traces = receiver.recv().expect("traces");
    panicked.join().expect_err("it panicked");
    assert!(!traces.iter().any(Trace::shows));
}

/// The test runs itself again as the parent that is killed, with its whole process group. Neither servers nor watchdogs
/// may be in that group.
#[test]
fn all_is_gone_after_the_parent_is_killed() {
    if env::var_os(DOOMED).is_some() {
        live_until_killed();
    }
    let mut parent = Command::new(env::current_exe().expect("this test"))
        .args(["--exact", "all_is_gone_after_the_parent_is_killed", "--nocapture"])
        .env(DOOMED, "1")
        .stdout(Stdio::piped())
        .process_group(0)
        .spawn()
        .expect("a process");
    let output = BufReader::new(parent.stdout.take().expect("its output"));
    let traces: Vec<Trace> =
        output.lines().map_while(Result::ok).filter_map(|line| Trace::read(&line)).take(3).collect();
    assert_eq!(traces.len(), 3);
    assert!(traces.iter().all(Trace::shows));
    kill_process_group(Pid::from_child(&parent), Signal::KILL).expect("a kill");
    parent.wait().expect("a dead process");
    within_ten_seconds("all gone", || !traces.iter().any(Trace::shows));
}

/// Three servers in the states that differ for a watchdog: restarted with another process id, paused, dead.
fn live_until_killed() -> ! {
    let mut fleet = Fleet::start(3).expect("a fleet");
    fleet[0].restart(Data::Kept).expect("a restart");
    let traces = traces(&fleet);
    fleet[1].pause();
    fleet[2].kill();
    for trace in traces {
        println!("\n{DOOMED} {} {}", trace.pid, trace.dir.display());
    }
    loop {
        thread::park();
    }
}

/// What a server can leave behind: a process, a folder, and any process that still names that folder.
#[derive(Debug)]
struct Trace {
    pid: u32,
    dir: PathBuf,
}

impl Trace {
    fn read(line: &str) -> Option<Self> {
        let (pid, dir) = line.strip_prefix(DOOMED)?.trim().split_once(' ')?;
        Some(Self { pid: pid.parse().ok()?, dir: dir.into() })
    }

    fn shows(&self) -> bool {
        is_alive(self.pid) || self.dir.exists() || is_named_by_a_process(&self.dir)
    }
}

fn traces(fleet: &Fleet) -> Vec<Trace> {
    let trace = |server: &Server| Trace { pid: server.pid().expect("alive"), dir: server.dir().to_owned() };
    fleet.servers().iter().map(trace).collect()
}

/// A zombie counts as gone: its new parent may be slow to reap it.
fn is_alive(pid: u32) -> bool {
    if !cfg!(target_os = "linux") {
        let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
        return pid.is_some_and(|pid| test_kill_process(pid).is_ok());
    }
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

/// The watchdog has the folder on its command line.
fn is_named_by_a_process(dir: &Path) -> bool {
    let dir = dir.display().to_string();
    let Ok(processes) = fs::read_dir("/proc") else { return false };
    processes
        .filter_map(Result::ok)
        .filter_map(|process| fs::read(process.path().join("cmdline")).ok())
        .any(|line| String::from_utf8_lossy(&line).contains(&dir))
}

fn keep(server: &Server, value: &str) {
    server.command::<()>(&["SET", "key", value]).expect("a reply");
}

fn kept(server: &Server) -> Option<String> {
    server.command(&["GET", "key"]).expect("a reply")
}

fn run_id(server: &Server) -> String {
    let info: String = server.command(&["INFO", "server"]).expect("a reply");
    info.lines().find(|line| line.starts_with("run_id:")).expect("its run id").to_owned()
}

fn within_ten_seconds(condition: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..1000 {
        if holds() {
            return;
        }
        thread::sleep(Duration::from_millis(10));
    }
    panic!("not within ten seconds: {condition}");
}

const DOOMED: &str = "QUORLOCK_CHAOS_DOOMED";
