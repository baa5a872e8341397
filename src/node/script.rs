//! Encodes requests to a node: Lua scripts and three plain commands.

mod adopt;
mod probes;
#[cfg(test)]
mod tests;

use std::sync::LazyLock;
use std::time::Duration;

use redis::{Cmd, Script};

use super::resp_encode::{Decimal, digits, millis, put_command, put_length, put_word, put_words};
pub(super) use probes::{permission_probes, probe_cleanup, wait_queue_probe};
use quorlock_proto::fence::Fence;
use quorlock_proto::marker::{Incarnation, LockClusterConfig};
use quorlock_proto::membership::{ExpectedMarker, MarkerWrite, NodeWrite};
use quorlock_proto::quorum::NodeId;
use quorlock_proto::request::{Key, OwnerToken, Request, RequestKind};
use quorlock_proto::roster::voting_time::MarkerTime;

/// Whether a script is sent by its hash, or as source to a node that has not loaded it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ScriptForm {
    Sha,
    Source,
}

/// Encodes requests, one at a time, into buffers that are reused.
pub(crate) struct RequestEncoder {
    bytes: Vec<u8>,
    /// For how long a fence is kept, in milliseconds: usually, and after its name is forgotten.
    retention_millis: u64,
    forget_millis: u64,
    fence_key: Vec<u8>,
    waiters_key: Vec<u8>,
    /// The last encoded token and its digits. Consecutive requests often belong to one lock.
    token: (OwnerToken, [u8; 32]),
    /// This process's name in wait queues.
    process_id: [u8; 32],
    /// The last encoded marker of each node. It is part of every fenced request and stays the same for hours.
    markers: Vec<EncodedMarker>,
}

#[derive(Default)]
struct EncodedMarker {
    expected: Option<ExpectedMarker>,
    bytes: Vec<u8>,
}

impl RequestEncoder {
    /// Follows other settings of the lock cluster.
    pub(crate) fn follow_config(&mut self, config: LockClusterConfig) {
        self.retention_millis = config.retention().as_millis() as u64;
        self.forget_millis = config.forget_after().as_millis() as u64;
    }

    /// An encoder for a client of this lock cluster.
    pub(crate) fn new(config: LockClusterConfig, process_id: OwnerToken) -> Self {
        Self {
            bytes: Vec::with_capacity(512),
            retention_millis: config.retention().as_millis() as u64,
            forget_millis: config.forget_after().as_millis() as u64,
            fence_key: Vec::new(),
            waiters_key: Vec::new(),
            token: (process_id, process_id.digits()),
            process_id: process_id.digits(),
            markers: Vec::new(),
        }
    }

    /// Encodes a request. If it [needs a marker](needs_marker), it is incomplete without
    /// [`marker_args`](Self::marker_args).
    pub(crate) fn encode(&mut self, request: &Request, form: ScriptForm) {
        self.bytes.clear();
        if self.token.0 != request.token {
            self.token = (request.token, request.token.digits());
        }
        if let Some(previous_owner) = &request.previous_owner {
            self.encode_adopt(request, previous_owner);
            return;
        }
        if let Some(fence) = request.fence.filter(|_| is_fenced_script(request)) {
            self.encode_fenced(request, fence, form);
            return;
        }
        if request.kind == RequestKind::Forget {
            self.set_fence_key(&request.key);
        }
        let (bytes, key, token) = (&mut self.bytes, request.key.as_bytes(), &self.token.1);
        match request.kind {
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
                let retention = digits(if request.fence.is_some() { self.retention_millis } else { 0 });
                let owner_hash = if let RequestKind::BreakOf(owner_hash) = request.kind {
                    owner_hash.to_string()
                } else {
                    String::new()
                };
                let words = [key, &fence, HIGH_KEY.as_bytes(), retention.digits(), owner_hash.as_bytes()];
                // It is rare, so nodes need not keep it loaded.
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
                let (waiters_key, process_id) = (&mut self.waiters_key, &self.process_id);
                waiters_key.clear();
                waiters_key.extend_from_slice(WAITERS_PREFIX.as_bytes());
                waiters_key.extend_from_slice(key);
                match request.kind {
                    RequestKind::Enqueue => {
                        let durations = [
                            digits(request.ttl.as_micros() as u64),
                            millis(WAITER_TTL),
                            digits(NOTIFY_GRACE.as_micros() as u64),
                        ];
                        let [elapsed, ttl, grace] = durations.each_ref().map(Decimal::digits);
                        put_script_call(
                            bytes,
                            &ENQUEUE,
                            form,
                            &[key, waiters_key, process_id, elapsed, ttl, grace],
                        );
                    }
                    RequestKind::Dequeue => {
                        put_script_call(bytes, &DEQUEUE, form, &[key, waiters_key, process_id]);
                    }
                    kind => {
                        let notifies: &[u8] = if kind == RequestKind::ReleaseAndNotify { b"1" } else { b"0" };
                        put_script_call(
                            bytes,
                            &RELEASE_NOTIFY,
                            form,
                            &[key, waiters_key, token, process_id, notifies],
                        );
                    }
                }
            }
            RequestKind::Inspect => put_script_call(bytes, &INSPECT, form, &[key]),
            RequestKind::Forget => {
                // The word count includes the three marker arguments.
                put_length(bytes, b'*', 10);
                FORGET.put_prefix(bytes, form);
                put_words(bytes, &[key, &self.fence_key, MARKER_KEY.as_bytes()]);
                put_word(bytes, digits(self.forget_millis).digits());
            }
            // A raise always has a fence and an adoption a previous owner, which are handled above; a marker
            // reading has its own function.
            RequestKind::RaiseFence | RequestKind::Adopt | RequestKind::ReadMarker => {}
        }
    }

    /// Encodes a marker reading, which may also write the marker.
    pub(crate) fn encode_read_marker(&mut self, write: Option<&NodeWrite>, form: ScriptForm) {
        self.bytes.clear();
        read_marker_command(form, write).write_packed_command(&mut self.bytes);
    }

    /// The last encoded request, without the marker arguments.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The last arguments of a fenced request: the node's expected marker; without one, a text that matches
    /// no marker.
    pub(crate) fn marker_args(&mut self, node: NodeId, expected: Option<&ExpectedMarker>) -> &[u8] {
        if self.markers.len() <= node.index() {
            self.markers.resize_with(node.index() + 1, EncodedMarker::default);
        }
        let encoded = &mut self.markers[node.index()];
        if encoded.bytes.is_empty() || encoded.expected.as_ref() != expected {
            let (marker, votes_from, base) = expected.map_or((NO_MARKER, 0, 0), |expected| {
                (&*expected.marker, expected.votes_from_micros, expected.fencing_numbers_above)
            });
            encoded.bytes.clear();
            let numbers = [digits(votes_from), digits(base)];
            put_words(&mut encoded.bytes, &[marker.as_bytes(), numbers[0].digits(), numbers[1].digits()]);
            encoded.expected = expected.cloned();
        }
        &encoded.bytes
    }

    fn set_fence_key(&mut self, key: &Key) {
        self.fence_key.clear();
        self.fence_key.extend_from_slice(FENCE_PREFIX.as_bytes());
        self.fence_key.extend_from_slice(key.as_bytes());
    }

    fn encode_fenced(&mut self, request: &Request, fence: Fence, form: ScriptForm) {
        self.set_fence_key(&request.key);
        let script = match request.kind {
            RequestKind::Acquire => &ACQUIRE_FENCED,
            RequestKind::Reacquire => &REACQUIRE_FENCED,
            _ => &RENEW_FENCED,
        };
        // A raise does not change the key's time to live.
        let ttl = if request.kind == RequestKind::RaiseFence { Duration::ZERO } else { request.ttl };
        let (ttl, retention) = (millis(ttl), digits(self.retention_millis));
        let (number, min_number) = match fence {
            Fence::Hint { hint, min_fencing_number: min_number } => (hint, Some(digits(min_number))),
            Fence::Number(number) => (number, None),
            // Only a force release has this, and it is encoded elsewhere.
            Fence::Next => return,
        };
        // The word count includes the three marker arguments, so that the rest is encoded once for all nodes.
        put_length(&mut self.bytes, b'*', if min_number.is_some() { 15 } else { 14 });
        script.put_prefix(&mut self.bytes, form);
        let (key, fence_key) = (request.key.as_bytes(), &self.fence_key);
        put_words(
            &mut self.bytes,
            &[key, fence_key, MARKER_KEY.as_bytes(), HIGH_KEY.as_bytes(), &self.token.1],
        );
        put_words(&mut self.bytes, &[ttl.digits(), retention.digits(), digits(number).digits()]);
        if let Some(min_number) = min_number {
            put_word(&mut self.bytes, min_number.digits());
        }
    }
}

/// Whether the reply to this request depends on the node's marker.
pub(crate) fn needs_marker(request: &Request) -> bool {
    is_fenced_script(request) || request.kind == RequestKind::Forget
}

fn is_fenced_script(request: &Request) -> bool {
    let may_have_fence = matches!(
        request.kind,
        RequestKind::Acquire
            | RequestKind::Adopt
            | RequestKind::RaiseFence
            | RequestKind::Renew
            | RequestKind::Reacquire
    );
    may_have_fence && request.fence.is_some()
}

/// The marker reading of the handshake, as source, so that no script need be loaded.
pub(super) fn first_read_marker() -> Cmd {
    read_marker_command(ScriptForm::Source, None)
}

/// The scripts of wait queues, for nodes that support them.
pub(super) const QUEUE_SOURCES: &[&str] = &[RELEASE_NOTIFY_SOURCE, ENQUEUE_SOURCE, DEQUEUE_SOURCE];

/// The scripts that the handshake loads.
pub(super) fn sources(is_fenced: bool) -> &'static [&'static str] {
    if is_fenced {
        &[
            RELEASE_SOURCE,
            INSPECT_SOURCE,
            ACQUIRE_FENCED_SOURCE,
            RENEW_FENCED_SOURCE,
            REACQUIRE_FENCED_SOURCE,
            READ_MARKER_SOURCE,
        ]
    } else {
        &[RELEASE_SOURCE, INSPECT_SOURCE, RENEW_SOURCE]
    }
}

fn read_marker_command(form: ScriptForm, write: Option<&NodeWrite>) -> Cmd {
    let mut command = Cmd::new();
    match form {
        ScriptForm::Sha => command.arg("EVALSHA").arg(&READ_MARKER.hash),
        ScriptForm::Source => command.arg("EVAL").arg(READ_MARKER.source),
    };
    command.arg(5).arg(MARKER_KEY).arg(CLOCK_KEY).arg(RECORD_KEY).arg(ABSENCES_KEY).arg(HIGH_KEY);
    match write {
        Some(NodeWrite::Marker(write)) => {
            let MarkerWrite { replaces, incarnation, identity, record, time, written_micros, base_micros } =
                &**write;
            let (micros, is_relative) = match time {
                MarkerTime::After(span) => (span.as_micros() as u64, 1),
                MarkerTime::At(micros) => (*micros, 0),
            };
            command.arg("m").arg(replaces.as_deref().unwrap_or_default());
            command.arg(incarnation.as_ref().map_or("", Incarnation::as_str));
            command.arg(&**identity).arg(&**record).arg(micros).arg(is_relative);
            command.arg(format!("{written_micros} {base_micros}"));
        }
        Some(NodeWrite::Absences { replaces, text }) => {
            command.arg("a").arg(replaces.as_deref().unwrap_or_default()).arg(&**text);
        }
        None => drop(command.arg("")),
    }
    command
}

/// A script with its hash and the encoded start of a call.
struct PreparedScript {
    source: &'static str,
    key_count: &'static [u8],
    hash: String,
    /// The encoded start of a call: command, hash and number of keys.
    call_prefix: Vec<u8>,
}

impl PreparedScript {
    fn new(text: &'static str, keys: &'static [u8]) -> Self {
        let (hash, mut call_prefix) = (Script::new(text).get_hash().to_owned(), Vec::new());
        put_words(&mut call_prefix, &[b"EVALSHA", hash.as_bytes(), keys]);
        Self { source: text, key_count: keys, hash, call_prefix }
    }

    /// Encodes the start of a call: three words.
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

/// The keys of a node's marker, its record, the absence reports, its recorded clock, and its largest number that
/// was ahead of the clock.
/// `FENCE_PREFIX` and a lock's key are the key of its fence.
const MARKER_KEY: &str = "quorlock:node";
const RECORD_KEY: &str = "quorlock:roster";
const ABSENCES_KEY: &str = "quorlock:absent";
const CLOCK_KEY: &str = "quorlock:clock";
const HIGH_KEY: &str = "quorlock:high";
/// Matches no node's marker.
const NO_MARKER: &str = "nothing";
const FENCE_PREFIX: &str = "quorlock:fence:";
const WAITERS_PREFIX: &str = "quorlock:waiters:";
/// The time to live of a wait queue that no process renews. Waiters enqueue again much sooner.
const WAITER_TTL: Duration = Duration::from_secs(10);
/// For how long a free key is reserved for a notified waiter.
const NOTIFY_GRACE: Duration = Duration::from_millis(100);

const RENEW_SOURCE: &str = include_str!("lua/renew.lua");
const RELEASE_SOURCE: &str = include_str!("lua/release.lua");
const INSPECT_SOURCE: &str = include_str!("lua/inspect.lua");
const ACQUIRE_FENCED_SOURCE: &str = include_str!("lua/acquire_fenced.lua");
const RENEW_FENCED_SOURCE: &str = include_str!("lua/renew_fenced.lua");
const REACQUIRE_FENCED_SOURCE: &str = include_str!("lua/reacquire_fenced.lua");
const READ_MARKER_SOURCE: &str = include_str!("lua/read_marker.lua");
const FORGET_SOURCE: &str = include_str!("lua/forget.lua");
const RELEASE_NOTIFY_SOURCE: &str =
    concat!(include_str!("lua/notify_next.lua"), include_str!("lua/release_notify.lua"));
const ENQUEUE_SOURCE: &str = concat!(include_str!("lua/notify_next.lua"), include_str!("lua/enqueue.lua"));
const FORCE_RELEASE_SOURCE: &str = include_str!("lua/force_release.lua");
const DEQUEUE_SOURCE: &str = concat!(include_str!("lua/notify_next.lua"), include_str!("lua/dequeue.lua"));

static RENEW: LazyLock<PreparedScript> = LazyLock::new(|| PreparedScript::new(RENEW_SOURCE, b"1"));
static RELEASE: LazyLock<PreparedScript> = LazyLock::new(|| PreparedScript::new(RELEASE_SOURCE, b"1"));
static INSPECT: LazyLock<PreparedScript> = LazyLock::new(|| PreparedScript::new(INSPECT_SOURCE, b"1"));
static ACQUIRE_FENCED: LazyLock<PreparedScript> =
    LazyLock::new(|| PreparedScript::new(ACQUIRE_FENCED_SOURCE, b"4"));
static RENEW_FENCED: LazyLock<PreparedScript> =
    LazyLock::new(|| PreparedScript::new(RENEW_FENCED_SOURCE, b"4"));
static REACQUIRE_FENCED: LazyLock<PreparedScript> =
    LazyLock::new(|| PreparedScript::new(REACQUIRE_FENCED_SOURCE, b"4"));
static READ_MARKER: LazyLock<PreparedScript> =
    LazyLock::new(|| PreparedScript::new(READ_MARKER_SOURCE, b"5"));
static FORGET: LazyLock<PreparedScript> = LazyLock::new(|| PreparedScript::new(FORGET_SOURCE, b"3"));
static RELEASE_NOTIFY: LazyLock<PreparedScript> =
    LazyLock::new(|| PreparedScript::new(RELEASE_NOTIFY_SOURCE, b"2"));
static FORCE_RELEASE: LazyLock<PreparedScript> =
    LazyLock::new(|| PreparedScript::new(FORCE_RELEASE_SOURCE, b"3"));
static ENQUEUE: LazyLock<PreparedScript> = LazyLock::new(|| PreparedScript::new(ENQUEUE_SOURCE, b"2"));
static DEQUEUE: LazyLock<PreparedScript> = LazyLock::new(|| PreparedScript::new(DEQUEUE_SOURCE, b"2"));
