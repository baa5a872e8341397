//! Our questions as bytes: Lua scripts and three plain commands.

mod probes;

use std::sync::LazyLock;
use std::time::Duration;

use redis::{Cmd, Script};

use super::resp_encode::{DecimalLine, digits, millis, put_command, put_length, put_word, put_words};
pub(super) use probes::{permission_probes, probe_cleanup, wait_queue_probe};
use quorlock_proto::fence::Fence;
use quorlock_proto::marker::LockClusterConfig;
use quorlock_proto::membership::{ExpectedMarker, MarkerWrite};
use quorlock_proto::quorum::NodeId;
use quorlock_proto::request::{Key, OwnerToken, Request, RequestKind};

/// Whether a script is sent by its hash, or in full to a node that does not know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ScriptForm {
    Sha,
    Source,
}

/// Packs questions, one at a time, into buffers that are used again.
pub(crate) struct RequestEncoder {
    bytes: Vec<u8>,
    /// For how long a fence is kept, and one of a name that is to be forgotten, in milliseconds.
    retention_millis: u64,
    forget_millis: u64,
    fence_key: String,
    waiters_key: Vec<u8>,
    /// The token that was packed last, and its digits: a lock's questions come in a row.
    token: (OwnerToken, [u8; 32]),
    /// Our name in lines.
    waiter: [u8; 32],
    /// Each node's badge as it was packed last: it stays the same for hours, and goes with every vote.
    markers: Vec<EncodedMarker>,
}

#[derive(Default)]
struct EncodedMarker {
    expected: Option<ExpectedMarker>,
    bytes: Vec<u8>,
}

impl RequestEncoder {
    /// A packer for a client on these terms.
    pub(crate) fn new(config: LockClusterConfig, waiter: OwnerToken) -> Self {
        Self {
            bytes: Vec::with_capacity(512),
            retention_millis: config.retention().as_millis() as u64,
            forget_millis: config.forget_after().as_millis() as u64,
            fence_key: String::new(),
            waiters_key: Vec::new(),
            token: (waiter, waiter.digits()),
            waiter: waiter.digits(),
            markers: Vec::new(),
        }
    }

    /// Packs this question. If it [needs a badge](needs_badge), what is packed is not whole without one.
    pub(crate) fn encode(&mut self, request: &Request, form: ScriptForm) {
        self.bytes.clear();
        if self.token.0 != request.token {
            self.token = (request.token, request.token.digits());
        }
        if let Some(fence) = request.fence.filter(|_| is_fenced_script(request)) {
            self.encode_fenced(request, fence, form);
            return;
        }
        if request.phase == RequestKind::Forget {
            self.set_fence_key(&request.key);
        }
        let (bytes, key, token) = (&mut self.bytes, request.key.as_str().as_bytes(), &self.token.1);
        match request.phase {
            RequestKind::Acquire | RequestKind::Reacquire => {
                bytes.extend_from_slice(b"*6\r\n$3\r\nSET\r\n");
                put_words(bytes, &[key, token]);
                bytes.extend_from_slice(b"$2\r\nNX\r\n$2\r\nPX\r\n");
                put_word(bytes, millis(request.ttl).digits());
            }
            RequestKind::QueryTtl => put_command(bytes, &[b"PTTL", key]),
            RequestKind::ForceRelease if request.fence.is_none() => put_command(bytes, &[b"DEL", key]),
            RequestKind::ForceRelease | RequestKind::BreakOf(_) => {
                let fence = [FENCE_PREFIX.as_bytes(), key].concat();
                // Plain locks have no fence.
                let keep = digits(if request.fence.is_some() { self.retention_millis } else { 0 });
                let mark = if let RequestKind::BreakOf(mark) = request.phase {
                    mark.to_string()
                } else {
                    String::new()
                };
                let words = [key, &fence, HIGH_KEY.as_bytes(), keep.digits(), mark.as_bytes()];
                // It is rare, so no node is made to keep it loaded.
                put_script_call(bytes, &FORCE_RELEASE, ScriptForm::Source, &words);
            }
            RequestKind::Renew => {
                put_script_call(bytes, &RENEW, form, &[key, token, millis(request.ttl).digits()]);
            }
            RequestKind::Release => put_script_call(bytes, &RELEASE, form, &[key, token]),
            RequestKind::ReleaseAndNotify
            | RequestKind::ReleaseLocal
            | RequestKind::Enqueue
            | RequestKind::Dequeue => {
                let (line, waiter) = (&mut self.waiters_key, &self.waiter);
                line.clear();
                line.extend_from_slice(WAITERS_PREFIX.as_bytes());
                line.extend_from_slice(key);
                match request.phase {
                    RequestKind::Enqueue => {
                        let spans = [
                            digits(request.ttl.as_micros() as u64),
                            millis(WAITER_TTL),
                            digits(NOTIFY_GRACE.as_micros() as u64),
                        ];
                        let [since, lasts, grace] = spans.each_ref().map(DecimalLine::digits);
                        put_script_call(bytes, &ENQUEUE, form, &[key, line, waiter, since, lasts, grace]);
                    }
                    RequestKind::Dequeue => put_script_call(bytes, &DEQUEUE, form, &[key, line, waiter]),
                    phase => {
                        let calls: &[u8] = if phase == RequestKind::ReleaseAndNotify { b"1" } else { b"0" };
                        put_script_call(bytes, &RELEASE_NOTIFY, form, &[key, line, token, waiter, calls]);
                    }
                }
            }
            RequestKind::Inspect => put_script_call(bytes, &INSPECT, form, &[key]),
            RequestKind::Forget => {
                // The head counts the three that each node's badge adds.
                put_length(bytes, b'*', 10);
                FORGET.put_prefix(bytes, form);
                put_words(bytes, &[key, self.fence_key.as_bytes(), MARKER_KEY.as_bytes()]);
                put_word(bytes, digits(self.forget_millis).digits());
            }
            // A number belongs to every raise, and a look has a packing of its own.
            RequestKind::RaiseFence | RequestKind::ReadMarker => {}
        }
    }

    /// Packs the question what a node remembers, after it was told what to remember.
    pub(crate) fn encode_read_marker(&mut self, write: Option<&MarkerWrite>, form: ScriptForm) {
        self.bytes.clear();
        read_marker_command(form, write).write_packed_command(&mut self.bytes);
    }

    /// What was packed last, but for the badge.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The end of a ballot: what this node is expected to remember. Without a badge, what no node remembers.
    pub(crate) fn marker_args(&mut self, node: NodeId, badge: Option<&ExpectedMarker>) -> &[u8] {
        if self.markers.len() <= node.index() {
            self.markers.resize_with(node.index() + 1, EncodedMarker::default);
        }
        let packed = &mut self.markers[node.index()];
        if packed.bytes.is_empty() || packed.expected.as_ref() != badge {
            let (marker, votes_from, above) = badge.map_or((NO_MARKER, 0, 0), |badge| {
                (&*badge.marker, badge.votes_from_micros, badge.numbers_above)
            });
            packed.bytes.clear();
            let spans = [digits(votes_from), digits(above)];
            put_words(&mut packed.bytes, &[marker.as_bytes(), spans[0].digits(), spans[1].digits()]);
            packed.expected = badge.cloned();
        }
        &packed.bytes
    }

    fn set_fence_key(&mut self, key: &Key) {
        self.fence_key.clear();
        self.fence_key.push_str(FENCE_PREFIX);
        self.fence_key.push_str(key.as_str());
    }

    fn encode_fenced(&mut self, request: &Request, fence: Fence, form: ScriptForm) {
        self.set_fence_key(&request.key);
        let script = match request.phase {
            RequestKind::Acquire => &ACQUIRE_FENCED,
            RequestKind::Reacquire => &REACQUIRE_FENCED,
            _ => &RENEW_FENCED,
        };
        // A raise leaves the key's life as it is.
        let ttl = if request.phase == RequestKind::RaiseFence { Duration::ZERO } else { request.ttl };
        let (ttl, keep) = (millis(ttl), digits(self.retention_millis));
        let (number, floor) = match fence {
            Fence::Hint { hint, floor } => (hint, Some(digits(floor))),
            Fence::Number(number) => (number, None),
            // A break is no ballot.
            Fence::Next => return,
        };
        // The head counts the three that each node's badge adds, so that all else is packed once for all nodes.
        put_length(&mut self.bytes, b'*', if floor.is_some() { 15 } else { 14 });
        script.put_prefix(&mut self.bytes, form);
        let (key, fence_key) = (request.key.as_str().as_bytes(), self.fence_key.as_bytes());
        put_words(
            &mut self.bytes,
            &[key, fence_key, MARKER_KEY.as_bytes(), HIGH_KEY.as_bytes(), &self.token.1],
        );
        put_words(&mut self.bytes, &[ttl.digits(), keep.digits(), digits(number).digits()]);
        if let Some(floor) = floor {
            put_word(&mut self.bytes, floor.digits());
        }
    }
}

/// Whether the answer to this question hangs on what the node remembers of its cluster.
pub(crate) fn needs_marker(request: &Request) -> bool {
    is_fenced_script(request) || request.phase == RequestKind::Forget
}

fn is_fenced_script(request: &Request) -> bool {
    let may_be = matches!(
        request.phase,
        RequestKind::Acquire | RequestKind::RaiseFence | RequestKind::Renew | RequestKind::Reacquire
    );
    may_be && request.fence.is_some()
}

/// The question what a node remembers, for the handshake: in full, so that it needs nothing loaded.
pub(super) fn first_read_marker() -> Cmd {
    read_marker_command(ScriptForm::Source, None)
}

/// The scripts of lines, for nodes that keep them.
pub(super) const QUEUE_SOURCES: &[&str] = &[RELEASE_NOTIFY_TEXT, ENQUEUE_TEXT, DEQUEUE_TEXT];

/// Every script, to be loaded in the handshake.
pub(super) fn sources(is_fenced: bool) -> &'static [&'static str] {
    if is_fenced {
        &[
            RELEASE_TEXT,
            INSPECT_TEXT,
            ACQUIRE_FENCED_TEXT,
            RENEW_FENCED_TEXT,
            REACQUIRE_FENCED_TEXT,
            READ_MARKER_TEXT,
        ]
    } else {
        &[RELEASE_TEXT, INSPECT_TEXT, RENEW_TEXT]
    }
}

fn read_marker_command(form: ScriptForm, write: Option<&MarkerWrite>) -> Cmd {
    let mut command = Cmd::new();
    match form {
        ScriptForm::Sha => command.arg("EVALSHA").arg(&READ_MARKER.hash),
        ScriptForm::Source => command.arg("EVAL").arg(READ_MARKER.source),
    };
    command.arg(2).arg(MARKER_KEY).arg(CLOCK_KEY);
    match write {
        Some(MarkerWrite { replaces, identity, backdate, written_micros, base_micros }) => {
            command.arg(&**identity).arg(replaces.as_deref().unwrap_or_default());
            command.arg(backdate.as_micros() as u64).arg(format!("{written_micros} {base_micros}"));
        }
        None => drop(command.arg("").arg("").arg(0).arg(0)),
    }
    command
}

/// One of our scripts, of which each node is asked by its hash.
struct PreparedScript {
    source: &'static str,
    key_count: &'static [u8],
    hash: String,
    /// How a call begins, packed: the command, the hash and the number of keys.
    call_prefix: Vec<u8>,
}

impl PreparedScript {
    fn new(text: &'static str, keys: &'static [u8]) -> Self {
        let (hash, mut call_prefix) = (Script::new(text).get_hash().to_owned(), Vec::new());
        put_words(&mut call_prefix, &[b"EVALSHA", hash.as_bytes(), keys]);
        Self { source: text, key_count: keys, hash, call_prefix }
    }

    /// Packs how a call begins: three words.
    fn put_prefix(&self, bytes: &mut Vec<u8>, form: ScriptForm) {
        match form {
            ScriptForm::Sha => bytes.extend_from_slice(&self.call_prefix),
            ScriptForm::Source => put_words(bytes, &[b"EVAL", self.source.as_bytes(), self.key_count]),
        }
    }
}

fn put_script_call(bytes: &mut Vec<u8>, script: &PreparedScript, form: ScriptForm, words: &[&[u8]]) {
    put_length(bytes, b'*', 3 + words.len());
    script.put_prefix(bytes, form);
    put_words(bytes, words);
}

/// What each node remembers of its cluster, how far its clock has come, the largest number that was ahead of it, and the
/// prefix of the largest number given out for a key.
const MARKER_KEY: &str = "quorlock:node";
const CLOCK_KEY: &str = "quorlock:clock";
const HIGH_KEY: &str = "quorlock:high";
/// What no node remembers.
const NO_MARKER: &str = "nothing";
const FENCE_PREFIX: &str = "quorlock:fence:";
const WAITERS_PREFIX: &str = "quorlock:waiters:";
/// How long a wait queue lasts that no process renews. Waiters ask again much sooner.
const WAITER_TTL: Duration = Duration::from_secs(10);
/// For how long those who come by leave a free key to the one who was called.
const NOTIFY_GRACE: Duration = Duration::from_millis(100);

const RENEW_TEXT: &str = include_str!("lua/renew.lua");
const RELEASE_TEXT: &str = include_str!("lua/release.lua");
const INSPECT_TEXT: &str = include_str!("lua/inspect.lua");
const ACQUIRE_FENCED_TEXT: &str = include_str!("lua/acquire_fenced.lua");
const RENEW_FENCED_TEXT: &str = include_str!("lua/renew_fenced.lua");
const REACQUIRE_FENCED_TEXT: &str = include_str!("lua/reacquire_fenced.lua");
const READ_MARKER_TEXT: &str = include_str!("lua/read_marker.lua");
const FORGET_TEXT: &str = include_str!("lua/forget.lua");
const RELEASE_NOTIFY_TEXT: &str =
    concat!(include_str!("lua/notify_next.lua"), include_str!("lua/release_notify.lua"));
const ENQUEUE_TEXT: &str = concat!(include_str!("lua/notify_next.lua"), include_str!("lua/enqueue.lua"));
const FORCE_RELEASE_TEXT: &str = include_str!("lua/force_release.lua");
const DEQUEUE_TEXT: &str = concat!(include_str!("lua/notify_next.lua"), include_str!("lua/dequeue.lua"));

static RENEW: LazyLock<PreparedScript> = LazyLock::new(|| PreparedScript::new(RENEW_TEXT, b"1"));
static RELEASE: LazyLock<PreparedScript> = LazyLock::new(|| PreparedScript::new(RELEASE_TEXT, b"1"));
static INSPECT: LazyLock<PreparedScript> = LazyLock::new(|| PreparedScript::new(INSPECT_TEXT, b"1"));
static ACQUIRE_FENCED: LazyLock<PreparedScript> =
    LazyLock::new(|| PreparedScript::new(ACQUIRE_FENCED_TEXT, b"4"));
static RENEW_FENCED: LazyLock<PreparedScript> =
    LazyLock::new(|| PreparedScript::new(RENEW_FENCED_TEXT, b"4"));
static REACQUIRE_FENCED: LazyLock<PreparedScript> =
    LazyLock::new(|| PreparedScript::new(REACQUIRE_FENCED_TEXT, b"4"));
static READ_MARKER: LazyLock<PreparedScript> = LazyLock::new(|| PreparedScript::new(READ_MARKER_TEXT, b"2"));
static FORGET: LazyLock<PreparedScript> = LazyLock::new(|| PreparedScript::new(FORGET_TEXT, b"3"));
static RELEASE_NOTIFY: LazyLock<PreparedScript> =
    LazyLock::new(|| PreparedScript::new(RELEASE_NOTIFY_TEXT, b"2"));
static FORCE_RELEASE: LazyLock<PreparedScript> =
    LazyLock::new(|| PreparedScript::new(FORCE_RELEASE_TEXT, b"3"));
static ENQUEUE: LazyLock<PreparedScript> = LazyLock::new(|| PreparedScript::new(ENQUEUE_TEXT, b"2"));
static DEQUEUE: LazyLock<PreparedScript> = LazyLock::new(|| PreparedScript::new(DEQUEUE_TEXT, b"2"));

#[cfg(test)]
mod tests {
    use super::*;
    use quorlock_proto::fence::TOLERANCE_MICROS;
    use quorlock_proto::quorum::Quorum;

    fn encoder() -> RequestEncoder {
        let quorum = Quorum::new(3, None).expect("a usual quorum");
        RequestEncoder::new(LockClusterConfig::new(quorum, Duration::from_secs(30)), OwnerToken::new(7))
    }

    #[test]
    fn a_plain_acquire_is_literally_set_nx_px() {
        let request = Request {
            phase: RequestKind::Acquire,
            key: Key::new("orders:42"),
            token: OwnerToken::new(0xab),
            ttl: Duration::from_secs(10),
            fence: None,
        };
        let mut packer = encoder();
        packer.encode(&request, ScriptForm::Sha);
        let expected = "*6\r\n$3\r\nSET\r\n$9\r\norders:42\r\n$32\r\n000000000000000000000000000000ab\r\n\
                        $2\r\nNX\r\n$2\r\nPX\r\n$5\r\n10000\r\n";
        assert_eq!(String::from_utf8_lossy(packer.bytes()), expected);
    }

    #[test]
    fn acquire_fenced_uses_the_tolerance_of_the_protocol() {
        assert_eq!(ACQUIRE_FENCED_TEXT.matches(&TOLERANCE_MICROS.to_string()).count(), 3);
    }

    #[test]
    fn a_fenced_script_and_its_marker_are_one_command() {
        for (phase, fence, args) in [
            (RequestKind::Acquire, Fence::Hint { hint: 7, floor: 3 }, 15),
            (RequestKind::RaiseFence, Fence::Number(7), 14),
            (RequestKind::Renew, Fence::Number(7), 14),
            (RequestKind::Reacquire, Fence::Number(7), 14),
        ] {
            let request = Request {
                phase,
                key: Key::new("orders:42"),
                token: OwnerToken::new(0xab),
                ttl: Duration::from_secs(10),
                fence: Some(fence),
            };
            let mut packer = encoder();
            for votes_from_micros in [0, 9, 10, 1_700_000_000_000_000] {
                let badge = ExpectedMarker { marker: "a marker".into(), votes_from_micros, numbers_above: 5 };
                packer.encode(&request, ScriptForm::Sha);
                let mut bytes = packer.bytes().to_vec();
                bytes.extend_from_slice(packer.marker_args(NodeId(1), Some(&badge)));
                let whole = redis::parse_redis_value(&bytes).expect("one whole command");
                let redis::Value::Array(words) = whole else { panic!("{whole:?}") };
                assert_eq!(words.len(), args);
                let votes_from = votes_from_micros.to_string().into_bytes();
                assert_eq!(words[args - 2], redis::Value::BulkString(votes_from));
                assert_eq!(words[args - 1], redis::Value::BulkString(b"5".to_vec()));
                assert_eq!(words[4], redis::Value::BulkString(b"quorlock:fence:orders:42".to_vec()));
            }
        }
    }
}
