//! The conformance suite of the simulated node, run against a real server with the production encoder and
//! decoder.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use quorlock_chaos::{Data, Server, Setup, redis};
use quorlock_proto::test_util::conformance::{
    self as suite, KEY, Location, NodeUnderTest, StoredValue, config,
};
use redis::{Cmd, Value};

use super::decode::{decode, decode_marker};
use super::reply::{Reply, parse};
use super::script::{QUEUE_SOURCES, RequestEncoder, ScriptForm, needs_marker, sources};
use quorlock_proto::marker::MarkerReading;
use quorlock_proto::membership::{ExpectedMarker, NodeWrite};
use quorlock_proto::quorum::NodeId;
use quorlock_proto::request::{Key, OwnerToken, Request, RequestKind};
use quorlock_proto::vote::Vote;

struct RealServer {
    server: Server,
    connection: Connection,
    encoder: RequestEncoder,
}

/// A blocking connection: sends bytes and reads one reply.
struct Connection {
    stream: TcpStream,
    unread: Vec<u8>,
}

#[test]
fn a_real_server_passes_the_suite() {
    // The append-only file outlives the process; a restart in this test needs no fsync.
    let setup = Setup::new().args(["--appendfsync", "no"]);
    let server = Server::start(&setup).expect("a redis-server to start");
    let connection = Connection::open(&server);
    suite::check(&mut RealServer {
        server,
        connection,
        encoder: RequestEncoder::new(config(), OwnerToken::new(7)),
    });
}

/// Replies and notifications of the wait queue scripts. The simulation implements them itself
/// (`crates/quorlock-proto/src/tests/sim/wait_queues.rs`).
#[test]
fn the_first_waiter_is_notified_whatever_the_key_holds() {
    let server = Server::start(&Setup::new()).expect("a redis-server to start");
    let connection = Connection::open(&server);
    let mut node =
        RealServer { server, connection, encoder: RequestEncoder::new(config(), OwnerToken::new(7)) };
    let [mut first, mut second] = [1, 2].map(|name| Waiter::subscribe(&node.server, OwnerToken::new(name)));
    let is_held = |vote: &Vote| matches!(vote, Vote::HeldByOther { .. });
    for value in [Some(&b"another's"[..]), None] {
        node.reset();
        node.set(Location::Lock, value, None);
        assert!(
            is_held(&node.reply_to(&first, RequestKind::Enqueue))
                && is_held(&node.reply_to(&second, RequestKind::Enqueue))
        );
        // A release of a lock whose key is not on this node.
        assert_eq!(
            node.reply_to(&Waiter::no_waiter(), RequestKind::ReleaseAndNotify),
            Vote::HeldByOther { remaining: None }
        );
        assert_eq!(
            (first.next_notification(), second.next_notification()),
            (Some("1 orders:42".to_owned()), None)
        );
        // A notified process leaves without the lock.
        assert_eq!(node.reply_to(&first, RequestKind::Dequeue), Vote::Granted);
        assert_eq!(
            (first.next_notification(), second.next_notification()),
            (None, Some("1 orders:42".to_owned()))
        );
        assert_eq!(node.reply_to(&second, RequestKind::Dequeue), Vote::Granted);
        // A waiter that was not notified takes no other's position.
        assert!(
            is_held(&node.reply_to(&first, RequestKind::Enqueue))
                && is_held(&node.reply_to(&second, RequestKind::Enqueue))
        );
        assert_eq!(node.reply_to(&first, RequestKind::Dequeue), Vote::Granted);
        assert_eq!((first.next_notification(), second.next_notification()), (None, None));
    }
    node.reset();
    node.set(Location::Lock, Some(b"a holder"), None);
    assert!(
        is_held(&node.reply_to(&first, RequestKind::Enqueue))
            && is_held(&node.reply_to(&second, RequestKind::Enqueue))
    );
    node.command(&[b"DEL", KEY.as_bytes()]);
    // A release whose key is gone.
    assert_eq!(node.reply_to(&Waiter::no_waiter(), RequestKind::ReleaseAndNotify), Vote::NotHeld);
    assert_eq!(
        (first.next_notification(), second.next_notification()),
        (Some("1 orders:42".to_owned()), None)
    );
    node.reset();
    node.set(Location::Lock, Some(b"a holder"), None);
    assert!(
        is_held(&node.reply_to(&first, RequestKind::Enqueue))
            && is_held(&node.reply_to(&second, RequestKind::Enqueue))
    );
    node.command(&[b"DEL", KEY.as_bytes()]);
    // A process that enqueues for a free key notifies the first waiter, and waits behind it.
    let Vote::HeldByOther { remaining: Some(grace) } = node.reply_to(&second, RequestKind::Enqueue) else {
        panic!("the first waiter is the next")
    };
    assert!(grace <= Duration::from_millis(100), "{grace:?}");
    assert_eq!(
        (first.next_notification(), second.next_notification()),
        (Some("2 orders:42".to_owned()), None)
    );
    assert_eq!(node.reply_to(&first, RequestKind::Enqueue), Vote::NotHeld, "the notified waiter is the next");
    // A disconnected waiter is skipped.
    drop(first);
    node.reset();
    let gone = Waiter::subscribe(&node.server, OwnerToken::new(3));
    node.set(Location::Lock, Some(b"a holder"), None);
    assert!(
        is_held(&node.reply_to(&gone, RequestKind::Enqueue))
            && is_held(&node.reply_to(&second, RequestKind::Enqueue))
    );
    drop(gone);
    node.command(&[b"DEL", KEY.as_bytes()]);
    while node.command(&[b"PUBSUB", b"NUMSUB", channel(OwnerToken::new(3)).as_bytes()])
        != Value::Array(vec![Value::BulkString(channel(OwnerToken::new(3)).into()), Value::Int(0)])
    {
        thread::yield_now();
    }
    assert_eq!(node.reply_to(&second, RequestKind::Enqueue), Vote::NotHeld);
}

/// A process in the wait queue.
struct Waiter {
    name: OwnerToken,
    /// The connection that receives its notifications.
    subscription: Option<Connection>,
}

impl Waiter {
    fn subscribe(server: &Server, name: OwnerToken) -> Self {
        let mut subscription = Connection::open(server);
        let mut subscribe = Cmd::new();
        subscribe.arg("SUBSCRIBE").arg(channel(name));
        subscription.request(&subscribe.get_packed_command());
        // A notification arrives before the reply to the script that sent it.
        subscription.stream.set_read_timeout(Some(Duration::from_millis(50))).expect("a read timeout");
        Self { name, subscription: Some(subscription) }
    }

    fn no_waiter() -> Self {
        Self { name: OwnerToken::new(7), subscription: None }
    }

    /// The text of its notification, if there is one.
    fn next_notification(&mut self) -> Option<String> {
        let subscription = self.subscription.as_mut()?;
        let mut bytes = [0; 4096];
        let count = subscription.stream.read(&mut bytes).ok()?;
        let (reply, length) = parse(&bytes[..count]).expect("the protocol").expect("a whole message");
        assert_eq!(length, count, "notified once");
        let Reply::Other(Value::Array(parts)) = reply else { panic!("{reply:?}") };
        match &parts[..] {
            [_, _, Value::BulkString(text)] => Some(String::from_utf8_lossy(text).into_owned()),
            unexpected => panic!("{unexpected:?}"),
        }
    }
}

fn channel(name: OwnerToken) -> String {
    format!("quorlock:waiters:{}", String::from_utf8_lossy(&name.digits()))
}

impl RealServer {
    /// The node's vote on a request of this waiter.
    fn reply_to(&mut self, waiter: &Waiter, kind: RequestKind) -> Vote {
        self.encoder = RequestEncoder::new(config(), waiter.name);
        let (key, token) = (Key::new(KEY), OwnerToken::new(5));
        let request = Request { kind, key, token, ttl: Duration::ZERO, fence: None, previous_owner: None };
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
            unexpected @ (Reply::ScriptResult(_) | Reply::Error(_)) => panic!("{unexpected:?}"),
        }
    }
}

impl NodeUnderTest for RealServer {
    fn reset(&mut self) {
        self.command(&[b"FLUSHALL"]);
        for text in sources(true).iter().chain(sources(false)).chain(QUEUE_SOURCES) {
            self.command(&[b"SCRIPT", b"LOAD", text.as_bytes()]);
        }
    }

    fn request(
        &mut self,
        request: &Request,
        expected: Option<&ExpectedMarker>,
        as_text: bool,
    ) -> (Vote, Option<u64>) {
        self.encoder.encode(request, form(as_text));
        let mut bytes = self.encoder.bytes().to_vec();
        if needs_marker(request) {
            bytes.extend_from_slice(self.encoder.marker_args(NodeId(0), expected));
        }
        let reply = self.connection.request(&bytes);
        let decoded = decode(request.kind, &reply);
        (decoded.vote, decoded.node_micros)
    }

    fn read_marker(&mut self, write: Option<&NodeWrite>, as_text: bool) -> Result<MarkerReading, Vote> {
        self.encoder.encode_read_marker(write, form(as_text));
        decode_marker(&self.connection.request(self.encoder.bytes())).reading
    }

    fn set(&mut self, location: Location, value: Option<&[u8]>, ttl: Option<Duration>) {
        let key = key(location);
        self.command(&[b"DEL", &key]);
        match value {
            Some(value) => self.command(&[b"SET", &key, value]),
            None => self.command(&[b"RPUSH", &key, b"an item"]),
        };
        if let Some(ttl) = ttl {
            self.command(&[b"PEXPIRE", &key, ttl.as_millis().to_string().as_bytes()]);
        }
    }

    fn stored(&mut self, location: Location) -> Option<StoredValue> {
        let key = key(location);
        let Value::Int(left) = self.command(&[b"PTTL", &key]) else { panic!("PTTL returns a number") };
        if left == -2 {
            return None;
        }
        let value = match self.command(&[b"TYPE", &key]) {
            Value::SimpleString(kind) if kind == "string" => match self.command(&[b"GET", &key]) {
                Value::BulkString(value) => Some(value),
                unexpected => panic!("{unexpected:?}"),
            },
            _ => None,
        };
        Some(StoredValue { value, ttl: u64::try_from(left).ok().map(Duration::from_millis) })
    }

    fn clock_micros(&mut self) -> u64 {
        let Value::Array(parts) = self.command(&[b"TIME"]) else { panic!("TIME returns two numbers") };
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
            // Before each command, the server evicts keys.
            thread::yield_now();
        }
        self.set_evicts(false);
    }

    fn swap_databases_twice(&mut self) {
        (0..2).for_each(|_| drop(self.command(&[b"SWAPDB", b"0", b"1"])));
    }

    fn restart(&mut self) {
        self.server.restart(Data::Kept).expect("it starts again");
        self.connection = Connection::open(&self.server);
    }

    fn change_role(&mut self) {
        // No process listens on that port, so its data do not change.
        self.command(&[b"REPLICAOF", b"127.0.0.1", b"1"]);
        self.command(&[b"REPLICAOF", b"NO", b"ONE"]);
    }
}

impl Connection {
    fn open(server: &Server) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", server.port())).expect("a connection");
        stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a read timeout");
        Self { stream, unread: Vec::new() }
    }

    fn request(&mut self, bytes: &[u8]) -> Reply {
        self.stream.write_all(bytes).expect("a server that listens");
        loop {
            if let Some((reply, length)) = parse(&self.unread).expect("the protocol") {
                self.unread.drain(..length);
                assert!(self.unread.is_empty(), "one reply to one request");
                return reply;
            }
            let mut bytes = [0; 4096];
            let count = self.stream.read(&mut bytes).expect("a reply");
            assert!(count > 0, "the server closed the connection");
            self.unread.extend_from_slice(&bytes[..count]);
        }
    }
}

fn form(as_text: bool) -> ScriptForm {
    if as_text { ScriptForm::Source } else { ScriptForm::Sha }
}

fn key(location: Location) -> Vec<u8> {
    match location {
        Location::Lock => KEY.into(),
        Location::Fence => format!("quorlock:fence:{KEY}").into(),
        Location::Marker => "quorlock:node".into(),
        Location::Record => "quorlock:roster".into(),
        Location::Absences => "quorlock:absent".into(),
        Location::Clock => "quorlock:clock".into(),
        Location::HighestAheadOfClock => "quorlock:high".into(),
    }
}
