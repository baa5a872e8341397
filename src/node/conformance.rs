//! A real server keeps the promises that the simulated one keeps, by what we ship: packing, parsing and weighing.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use quorlock_chaos::{Data, Server, Setup, redis};
use quorlock_proto::test_util::conformance::{self as suite, KEY, Location, Stored, Subject, config};
use redis::{Cmd, Value};

use super::decode::{clock, marker_reading, vote};
use super::reply::{Reply, parse};
use super::script::{QUEUE_SOURCES, RequestEncoder, ScriptForm, needs_marker, sources};
use quorlock_proto::marker::MarkerReading;
use quorlock_proto::membership::{ExpectedMarker, MarkerWrite};
use quorlock_proto::quorum::NodeId;
use quorlock_proto::request::{Key, OwnerToken, Request, RequestKind};
use quorlock_proto::vote::Vote;

struct Real {
    server: Server,
    connection: Connection,
    packer: RequestEncoder,
}

/// Bytes there, one reply back.
struct Connection {
    stream: TcpStream,
    unread: Vec<u8>,
}

#[test]
fn a_real_server_passes_the_suite() {
    // What was written outlives the process, which is all that a restart here needs.
    let setup = Setup::new().args(["--appendfsync", "no"]);
    let server = Server::start(&setup).expect("a redis-server to start");
    let connection = Connection::to(&server);
    suite::check(&mut Real { server, connection, packer: RequestEncoder::new(config(), OwnerToken::new(7)) });
}

/// What the scripts of lines say and do, whom they call among it. The simulation has them in words of its own
/// (`crates/quorlock-proto/src/tests/sim/wait_queues.rs`).
#[test]
fn the_first_waiter_is_notified_whatever_the_key_holds() {
    let server = Server::start(&Setup::new()).expect("a redis-server to start");
    let connection = Connection::to(&server);
    let mut node = Real { server, connection, packer: RequestEncoder::new(config(), OwnerToken::new(7)) };
    let [mut first, mut second] = [1, 2].map(|name| Waiter::on(&node.server, OwnerToken::new(name)));
    let is_taken = |vote: &Vote| matches!(vote, Vote::HeldByOther { .. });
    for theirs in [Some(&b"another's"[..]), None] {
        node.reset();
        node.set(Location::Lock, theirs, None);
        assert!(
            is_taken(&node.say(&first, RequestKind::Enqueue))
                && is_taken(&node.say(&second, RequestKind::Enqueue))
        );
        // A release of a lock that does not stand here.
        assert_eq!(
            node.say(&Waiter::no_waiter(), RequestKind::ReleaseAndNotify),
            Vote::HeldByOther { remaining: None }
        );
        assert_eq!((first.receives(), second.receives()), (Some("1 orders:42".to_owned()), None));
        // Who was called and goes without the lock.
        assert_eq!(node.say(&first, RequestKind::Dequeue), Vote::Granted);
        assert_eq!((first.receives(), second.receives()), (None, Some("1 orders:42".to_owned())));
        assert_eq!(node.say(&second, RequestKind::Dequeue), Vote::Granted);
        // A waiter that was not notified takes no other's position.
        assert!(
            is_taken(&node.say(&first, RequestKind::Enqueue))
                && is_taken(&node.say(&second, RequestKind::Enqueue))
        );
        assert_eq!(node.say(&first, RequestKind::Dequeue), Vote::Granted);
        assert_eq!((first.receives(), second.receives()), (None, None));
    }
    node.reset();
    node.set(Location::Lock, Some(b"a holder"), None);
    assert!(
        is_taken(&node.say(&first, RequestKind::Enqueue))
            && is_taken(&node.say(&second, RequestKind::Enqueue))
    );
    node.command(&[b"DEL", KEY.as_bytes()]);
    // A release that finds its key gone.
    assert_eq!(node.say(&Waiter::no_waiter(), RequestKind::ReleaseAndNotify), Vote::NotHeld);
    assert_eq!((first.receives(), second.receives()), (Some("1 orders:42".to_owned()), None));
    node.reset();
    node.set(Location::Lock, Some(b"a holder"), None);
    assert!(
        is_taken(&node.say(&first, RequestKind::Enqueue))
            && is_taken(&node.say(&second, RequestKind::Enqueue))
    );
    node.command(&[b"DEL", KEY.as_bytes()]);
    // Who comes by calls the first, and lets it go before itself.
    let Vote::HeldByOther { remaining: Some(grace) } = node.say(&second, RequestKind::Enqueue) else {
        panic!("not its turn")
    };
    assert!(grace <= Duration::from_millis(100), "{grace:?}");
    assert_eq!((first.receives(), second.receives()), (Some("2 orders:42".to_owned()), None));
    assert_eq!(node.say(&first, RequestKind::Enqueue), Vote::NotHeld, "and that one is the next");
    // The dead are passed over.
    drop(first);
    node.reset();
    let gone = Waiter::on(&node.server, OwnerToken::new(3));
    node.set(Location::Lock, Some(b"a holder"), None);
    assert!(
        is_taken(&node.say(&gone, RequestKind::Enqueue))
            && is_taken(&node.say(&second, RequestKind::Enqueue))
    );
    drop(gone);
    node.command(&[b"DEL", KEY.as_bytes()]);
    while node.command(&[b"PUBSUB", b"NUMSUB", channel(OwnerToken::new(3)).as_bytes()])
        != Value::Array(vec![Value::BulkString(channel(OwnerToken::new(3)).into()), Value::Int(0)])
    {
        thread::yield_now();
    }
    assert_eq!(node.say(&second, RequestKind::Enqueue), Vote::NotHeld);
}

/// A process that stands in line.
struct Waiter {
    name: OwnerToken,
    /// Where it hears that it is called.
    ear: Option<Connection>,
}

impl Waiter {
    fn on(server: &Server, name: OwnerToken) -> Self {
        let mut ear = Connection::to(server);
        let mut subscribe = Cmd::new();
        subscribe.arg("SUBSCRIBE").arg(channel(name));
        ear.request(&subscribe.get_packed_command());
        // A call has come by the time the script that made it has answered.
        ear.stream.set_read_timeout(Some(Duration::from_millis(50))).expect("a limit on how long to wait");
        Self { name, ear: Some(ear) }
    }

    fn no_waiter() -> Self {
        Self { name: OwnerToken::new(7), ear: None }
    }

    /// What it was called with, if it was.
    fn receives(&mut self) -> Option<String> {
        let ear = self.ear.as_mut()?;
        let mut bytes = [0; 4096];
        let count = ear.stream.read(&mut bytes).ok()?;
        let (reply, length) = parse(&bytes[..count]).expect("the protocol").expect("a whole message");
        assert_eq!(length, count, "called once");
        let Reply::Other(Value::Array(parts)) = reply else { panic!("{reply:?}") };
        match &parts[..] {
            [_, _, Value::BulkString(word)] => Some(String::from_utf8_lossy(word).into_owned()),
            odd => panic!("{odd:?}"),
        }
    }
}

fn channel(name: OwnerToken) -> String {
    format!("quorlock:waiters:{}", String::from_utf8_lossy(&name.digits()))
}

impl Real {
    /// What the node answers to a process that stands in line, or does not.
    fn say(&mut self, waiter: &Waiter, phase: RequestKind) -> Vote {
        self.packer = RequestEncoder::new(config(), waiter.name);
        let request = Request {
            phase,
            key: Key::new(KEY),
            token: OwnerToken::new(5),
            ttl: Duration::ZERO,
            fence: None,
        };
        self.request(&request, None, false).0
    }

    fn command(&mut self, words: &[&[u8]]) -> Value {
        let mut command = Cmd::new();
        for word in words {
            command.arg(*word);
        }
        match self.connection.request(&command.get_packed_command()) {
            Reply::Ok => Value::Okay,
            Reply::Nil => Value::Nil,
            Reply::Int(number) => Value::Int(number),
            Reply::Other(value) => value,
            odd @ (Reply::ScriptResult(_) | Reply::Error(_)) => panic!("{odd:?}"),
        }
    }
}

impl Subject for Real {
    fn reset(&mut self) {
        self.command(&[b"FLUSHALL"]);
        for text in sources(true).iter().chain(sources(false)).chain(QUEUE_SOURCES) {
            self.command(&[b"SCRIPT", b"LOAD", text.as_bytes()]);
        }
    }

    fn request(
        &mut self,
        request: &Request,
        badge: Option<&ExpectedMarker>,
        as_text: bool,
    ) -> (Vote, Option<u64>) {
        self.packer.encode(request, form(as_text));
        let mut bytes = self.packer.bytes().to_vec();
        if needs_marker(request) {
            bytes.extend_from_slice(self.packer.marker_args(NodeId(0), badge));
        }
        let reply = self.connection.request(&bytes);
        (vote(request.phase, &reply), clock(&reply))
    }

    fn read_marker(&mut self, write: Option<&MarkerWrite>, as_text: bool) -> Result<MarkerReading, Vote> {
        self.packer.encode_read_marker(write, form(as_text));
        marker_reading(&self.connection.request(self.packer.bytes()))
    }

    fn set(&mut self, place: Location, value: Option<&[u8]>, life: Option<Duration>) {
        let key = key(place);
        self.command(&[b"DEL", &key]);
        match value {
            Some(value) => self.command(&[b"SET", &key, value]),
            None => self.command(&[b"RPUSH", &key, b"an item"]),
        };
        if let Some(life) = life {
            self.command(&[b"PEXPIRE", &key, life.as_millis().to_string().as_bytes()]);
        }
    }

    fn stored(&mut self, place: Location) -> Option<Stored> {
        let key = key(place);
        let Value::Int(left) = self.command(&[b"PTTL", &key]) else { panic!("PTTL tells a number") };
        if left == -2 {
            return None;
        }
        let value = match self.command(&[b"TYPE", &key]) {
            Value::SimpleString(kind) if kind == "string" => match self.command(&[b"GET", &key]) {
                Value::BulkString(value) => Some(value),
                odd => panic!("{odd:?}"),
            },
            _ => None,
        };
        Some(Stored { value, life: u64::try_from(left).ok().map(Duration::from_millis) })
    }

    fn micros(&mut self) -> u64 {
        let Value::Array(parts) = self.command(&[b"TIME"]) else { panic!("TIME tells two numbers") };
        let parts: Vec<u64> =
            parts.iter().map(|part| redis::from_redis_value_ref(part).expect("a number")).collect();
        parts[0] * 1_000_000 + parts[1]
    }

    fn wait(&mut self, span: Duration) {
        thread::sleep(span);
    }

    fn flush_scripts(&mut self) {
        self.command(&[b"SCRIPT", b"FLUSH"]);
    }

    fn set_evicts(&mut self, on: bool) {
        let (limit, policy) = if on { ("100mb", "allkeys-lru") } else { ("0", "noeviction") };
        self.command(&[b"CONFIG", b"SET", b"maxmemory", limit.as_bytes()]);
        self.command(&[b"CONFIG", b"SET", b"maxmemory-policy", policy.as_bytes()]);
    }

    fn evict(&mut self) {
        self.command(&[b"SET", b"bait", b"", b"PX", b"3600000"]);
        self.command(&[b"CONFIG", b"SET", b"maxmemory-policy", b"volatile-random"]);
        self.command(&[b"CONFIG", b"SET", b"maxmemory", b"1"]);
        while self.command(&[b"EXISTS", b"bait"]) == Value::Int(1) {
            // Any command makes room first.
            thread::yield_now();
        }
        self.set_evicts(false);
    }

    fn swap_there_and_back(&mut self) {
        (0..2).for_each(|_| drop(self.command(&[b"SWAPDB", b"0", b"1"])));
    }

    fn restart(&mut self) {
        self.server.restart(Data::Kept).expect("it starts again");
        self.connection = Connection::to(&self.server);
    }

    fn change_role(&mut self) {
        // No process listens on that port, so it stays what it is but for its name.
        self.command(&[b"REPLICAOF", b"127.0.0.1", b"1"]);
        self.command(&[b"REPLICAOF", b"NO", b"ONE"]);
    }
}

impl Connection {
    fn to(server: &Server) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", server.port())).expect("a connection");
        stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a limit on how long to wait");
        Self { stream, unread: Vec::new() }
    }

    fn request(&mut self, bytes: &[u8]) -> Reply {
        self.stream.write_all(bytes).expect("a server that listens");
        loop {
            if let Some((reply, length)) = parse(&self.unread).expect("the protocol") {
                self.unread.drain(..length);
                assert!(self.unread.is_empty(), "one answer to one question");
                return reply;
            }
            let mut bytes = [0; 4096];
            let count = self.stream.read(&mut bytes).expect("an answer");
            assert!(count > 0, "the server hung up");
            self.unread.extend_from_slice(&bytes[..count]);
        }
    }
}

fn form(as_text: bool) -> ScriptForm {
    if as_text { ScriptForm::Source } else { ScriptForm::Sha }
}

fn key(place: Location) -> Vec<u8> {
    match place {
        Location::Lock => KEY.into(),
        Location::Fence => format!("quorlock:fence:{KEY}").into(),
        Location::Marker => "quorlock:node".into(),
        Location::Clock => "quorlock:clock".into(),
        Location::High => "quorlock:high".into(),
    }
}
