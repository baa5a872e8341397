//! Our questions as bytes: Lua scripts and three plain commands.

use std::io::Write as _;
use std::sync::LazyLock;
use std::time::Duration;

use redis::{Cmd, Script};

use crate::protocol::claim::{Ask, Phase};
use crate::protocol::fence::Fence;
use crate::protocol::membership::{Badge, Write};

/// Whether a script is sent by its hash, or in full to a node that does not know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Hash,
    Text,
}

/// Packs questions, one at a time, into buffers that are used again.
pub(crate) struct Packer {
    command: Cmd,
    bytes: Vec<u8>,
    /// For how long a fence is kept past the last grant or renewal, in milliseconds.
    keep_millis: u64,
    fence_key: String,
    badge: Vec<u8>,
}

impl Packer {
    /// A packer that asks nodes to keep their fences for this long.
    pub(crate) fn new(keep: Duration) -> Self {
        Self {
            command: Cmd::new(),
            bytes: Vec::with_capacity(512),
            keep_millis: keep.as_millis() as u64,
            fence_key: String::new(),
            badge: Vec::with_capacity(192),
        }
    }

    /// Packs this question. If it [needs a badge](needs_badge), what is packed is not whole without one.
    pub(crate) fn pack(&mut self, ask: &Ask, form: Form) {
        self.command.clear();
        self.bytes.clear();
        let (command, key, token) = (&mut self.command, ask.key.as_str(), ask.token.digits());
        let ttl_millis = ask.ttl.as_millis() as u64;
        if let Some(fence) = ask.fence.filter(|_| needs_badge(ask)) {
            self.pack_ballot(ask, fence, form);
            return;
        }
        match ask.phase {
            Phase::Grant | Phase::Retake => {
                command.arg("SET").arg(key).arg(&token[..]).arg("NX").arg("PX").arg(ttl_millis);
            }
            Phase::Remaining => drop(command.arg("PTTL").arg(key)),
            Phase::Break => drop(command.arg("DEL").arg(key)),
            Phase::Renew => drop(call(command, &RENEW, form, &[key]).arg(&token[..]).arg(ttl_millis)),
            Phase::Release => drop(call(command, &RELEASE, form, &[key]).arg(&token[..])),
            Phase::Inspect => drop(call(command, &INSPECT, form, &[key])),
            // A number belongs to every raise, and a look has a packing of its own.
            Phase::Raise | Phase::Look => return,
        }
        self.command.write_packed_command(&mut self.bytes);
    }

    /// Packs the question what a node remembers, after it was told what to remember.
    pub(crate) fn pack_look(&mut self, write: Option<&Write>, form: Form) {
        self.command.clear();
        self.bytes.clear();
        look(&mut self.command, form, write);
        self.command.write_packed_command(&mut self.bytes);
    }

    /// What was packed last, but for the badge.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The end of a ballot: what this node is expected to remember. Without a badge, what no node remembers.
    pub(crate) fn badge(&mut self, badge: Option<&Badge>) -> &[u8] {
        let (marker, votes_from) =
            badge.map_or((NO_MARKER, 0), |badge| (&*badge.marker, badge.votes_from_micros));
        self.badge.clear();
        let digits = votes_from.checked_ilog10().unwrap_or(0) + 1;
        // Writing to memory cannot fail.
        let _ = write!(self.badge, "${}\r\n{marker}\r\n${digits}\r\n{votes_from}\r\n", marker.len());
        &self.badge
    }

    fn pack_ballot(&mut self, ask: &Ask, fence: Fence, form: Form) {
        self.fence_key.clear();
        self.fence_key.push_str(FENCE_PREFIX);
        self.fence_key.push_str(ask.key.as_str());
        let keys = [ask.key.as_str(), &self.fence_key, MARKER_KEY];
        let script = match ask.phase {
            Phase::Grant => &GRANT,
            Phase::Retake => &RETAKE,
            _ => &HOLD,
        };
        // A raise leaves the key's life as it is.
        let ttl = if ask.phase == Phase::Raise { Duration::ZERO } else { ask.ttl };
        let command = call(&mut self.command, script, form, &keys);
        command.arg(&ask.token.digits()[..]).arg(ttl.as_millis() as u64).arg(self.keep_millis);
        let args = match fence {
            Fence::Hint { hint, floor } => {
                command.arg(hint).arg(floor);
                13
            }
            Fence::Number(number) => {
                command.arg(number);
                12
            }
        };
        self.command.write_packed_command(&mut self.bytes);
        // The head counts the two that each node's badge adds, so that all else is packed once for all nodes.
        let _ = write!(&mut self.bytes[..], "*{args}");
    }
}

/// Whether this question is a vote that hangs on what the node remembers.
pub(crate) fn needs_badge(ask: &Ask) -> bool {
    let is_ballot = matches!(ask.phase, Phase::Grant | Phase::Raise | Phase::Renew | Phase::Retake);
    ask.fence.is_some() && is_ballot
}

/// The question what a node remembers, for the handshake: in full, so that it needs nothing loaded.
pub(super) fn first_look() -> Cmd {
    let mut command = Cmd::new();
    look(&mut command, Form::Text, None);
    command
}

/// Every script, to be loaded in the handshake.
pub(super) fn texts(is_guarded: bool) -> &'static [&'static str] {
    if is_guarded {
        &[RELEASE_TEXT, INSPECT_TEXT, GRANT_TEXT, HOLD_TEXT, RETAKE_TEXT, LOOK_TEXT]
    } else {
        &[RELEASE_TEXT, INSPECT_TEXT, RENEW_TEXT]
    }
}

fn look(command: &mut Cmd, form: Form, write: Option<&Write>) {
    let command = call(command, &LOOK, form, &[MARKER_KEY]);
    match write {
        Some(Write { replaces, identity, backdate }) => {
            command.arg(&**identity).arg(replaces.as_deref().unwrap_or_default());
            command.arg(backdate.as_micros() as u64);
        }
        None => drop(command.arg("").arg("").arg(0)),
    }
}

fn call<'a>(command: &'a mut Cmd, (script, text): &(Script, &str), form: Form, keys: &[&str]) -> &'a mut Cmd {
    match form {
        Form::Hash => command.arg("EVALSHA").arg(script.get_hash()),
        Form::Text => command.arg("EVAL").arg(*text),
    };
    command.arg(keys.len()).arg(keys)
}

/// What each node remembers of its cluster, and the prefix of the largest number given out for a key.
const MARKER_KEY: &str = "quorlock:node";
/// What no node remembers.
const NO_MARKER: &str = "nothing";
const FENCE_PREFIX: &str = "quorlock:fence:";

const RENEW_TEXT: &str = include_str!("lua/renew.lua");
const RELEASE_TEXT: &str = include_str!("lua/release.lua");
const INSPECT_TEXT: &str = include_str!("lua/inspect.lua");
const GRANT_TEXT: &str = include_str!("lua/grant.lua");
const HOLD_TEXT: &str = include_str!("lua/hold.lua");
const RETAKE_TEXT: &str = include_str!("lua/retake.lua");
const LOOK_TEXT: &str = include_str!("lua/look.lua");

static RENEW: LazyLock<(Script, &str)> = LazyLock::new(|| (Script::new(RENEW_TEXT), RENEW_TEXT));
static RELEASE: LazyLock<(Script, &str)> = LazyLock::new(|| (Script::new(RELEASE_TEXT), RELEASE_TEXT));
static INSPECT: LazyLock<(Script, &str)> = LazyLock::new(|| (Script::new(INSPECT_TEXT), INSPECT_TEXT));
static GRANT: LazyLock<(Script, &str)> = LazyLock::new(|| (Script::new(GRANT_TEXT), GRANT_TEXT));
static HOLD: LazyLock<(Script, &str)> = LazyLock::new(|| (Script::new(HOLD_TEXT), HOLD_TEXT));
static RETAKE: LazyLock<(Script, &str)> = LazyLock::new(|| (Script::new(RETAKE_TEXT), RETAKE_TEXT));
static LOOK: LazyLock<(Script, &str)> = LazyLock::new(|| (Script::new(LOOK_TEXT), LOOK_TEXT));

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::claim::{Key, Token};
    use crate::protocol::fence::TOLERANCE_MICROS;

    #[test]
    fn a_grant_is_literally_set_nx_px() {
        let ask = Ask {
            phase: Phase::Grant,
            key: Key::new("orders:42"),
            token: Token::new(0xab),
            ttl: Duration::from_secs(10),
            fence: None,
        };
        let mut packer = Packer::new(Duration::from_secs(60));
        packer.pack(&ask, Form::Hash);
        let expected = "*6\r\n$3\r\nSET\r\n$9\r\norders:42\r\n$32\r\n000000000000000000000000000000ab\r\n\
                        $2\r\nNX\r\n$2\r\nPX\r\n$5\r\n10000\r\n";
        assert_eq!(String::from_utf8_lossy(packer.bytes()), expected);
    }

    #[test]
    fn the_grant_knows_the_tolerance_that_the_protocol_states() {
        assert_eq!(GRANT_TEXT.matches(&TOLERANCE_MICROS.to_string()).count(), 2);
    }

    #[test]
    fn a_ballot_and_its_badge_are_one_command() {
        let keep = Duration::from_secs(60);
        for (phase, fence, args) in [
            (Phase::Grant, Fence::Hint { hint: 7, floor: 3 }, 13),
            (Phase::Raise, Fence::Number(7), 12),
            (Phase::Renew, Fence::Number(7), 12),
            (Phase::Retake, Fence::Number(7), 12),
        ] {
            let ask = Ask {
                phase,
                key: Key::new("orders:42"),
                token: Token::new(0xab),
                ttl: Duration::from_secs(10),
                fence: Some(fence),
            };
            for votes_from_micros in [0, 9, 10, 1_700_000_000_000_000] {
                let badge = Badge { marker: "a marker".into(), votes_from_micros };
                let mut packer = Packer::new(keep);
                packer.pack(&ask, Form::Hash);
                let mut bytes = packer.bytes().to_vec();
                bytes.extend_from_slice(packer.badge(Some(&badge)));
                let whole = redis::parse_redis_value(&bytes).expect("one whole command");
                let redis::Value::Array(words) = whole else { panic!("{whole:?}") };
                assert_eq!(words.len(), args);
                let votes_from = votes_from_micros.to_string().into_bytes();
                assert_eq!(words[args - 1], redis::Value::BulkString(votes_from));
                assert_eq!(words[4], redis::Value::BulkString(b"quorlock:fence:orders:42".to_vec()));
            }
        }
    }
}
