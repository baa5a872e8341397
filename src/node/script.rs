//! Our questions as bytes: three Lua scripts and three plain commands.

use std::sync::LazyLock;

use redis::{Cmd, Script};

use crate::protocol::claim::{Ask, Phase};

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
}

impl Packer {
    pub(crate) fn new() -> Self {
        Self { command: Cmd::new(), bytes: Vec::with_capacity(256) }
    }

    /// Packs this question.
    pub(crate) fn pack(&mut self, ask: &Ask, form: Form) {
        self.command.clear();
        self.bytes.clear();
        let (command, key, token) = (&mut self.command, ask.key.as_str(), ask.token.digits());
        let ttl_millis = ask.ttl.as_millis() as u64;
        match ask.phase {
            Phase::Grant | Phase::Retake => {
                command.arg("SET").arg(key).arg(&token[..]).arg("NX").arg("PX").arg(ttl_millis);
            }
            Phase::Remaining => drop(command.arg("PTTL").arg(key)),
            Phase::Break => drop(command.arg("DEL").arg(key)),
            Phase::Renew => drop(call(command, &RENEW, form, key).arg(&token[..]).arg(ttl_millis)),
            Phase::Release => drop(call(command, &RELEASE, form, key).arg(&token[..])),
            Phase::Inspect => drop(call(command, &INSPECT, form, key)),
        }
        self.command.write_packed_command(&mut self.bytes);
    }

    /// What was packed last.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// Every script, to be loaded in the handshake.
pub(super) fn texts() -> [&'static str; 3] {
    [RENEW_TEXT, RELEASE_TEXT, INSPECT_TEXT]
}

fn call<'a>(command: &'a mut Cmd, (script, text): &(Script, &str), form: Form, key: &str) -> &'a mut Cmd {
    match form {
        Form::Hash => command.arg("EVALSHA").arg(script.get_hash()),
        Form::Text => command.arg("EVAL").arg(*text),
    };
    command.arg(1).arg(key)
}

const RENEW_TEXT: &str = include_str!("lua/renew.lua");
const RELEASE_TEXT: &str = include_str!("lua/release.lua");
const INSPECT_TEXT: &str = include_str!("lua/inspect.lua");

static RENEW: LazyLock<(Script, &str)> = LazyLock::new(|| (Script::new(RENEW_TEXT), RENEW_TEXT));
static RELEASE: LazyLock<(Script, &str)> = LazyLock::new(|| (Script::new(RELEASE_TEXT), RELEASE_TEXT));
static INSPECT: LazyLock<(Script, &str)> = LazyLock::new(|| (Script::new(INSPECT_TEXT), INSPECT_TEXT));

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::protocol::claim::{Key, Token};

    #[test]
    fn a_grant_is_literally_set_nx_px() {
        let ask = Ask {
            phase: Phase::Grant,
            key: Key::new("orders:42"),
            token: Token::new(0xab),
            ttl: Duration::from_secs(10),
        };
        let mut packer = Packer::new();
        packer.pack(&ask, Form::Hash);
        let expected = "*6\r\n$3\r\nSET\r\n$9\r\norders:42\r\n$32\r\n000000000000000000000000000000ab\r\n\
                        $2\r\nNX\r\n$2\r\nPX\r\n$5\r\n10000\r\n";
        assert_eq!(String::from_utf8_lossy(packer.bytes()), expected);
    }
}
