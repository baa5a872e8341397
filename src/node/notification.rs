//! Notifications of a node: this process is the next for a key.

use redis::{PushKind, Value};

use super::reply::Reply;
use quorlock_proto::request::Key;

/// This process has waited longest for a key, which was released or found free.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Notification {
    pub(crate) key: Key,
    /// Whether other processes want it too, as far as the wait queue shows.
    pub(crate) has_others: bool,
    /// Whether another process found it free, without a release.
    pub(crate) was_found_free: bool,
}

impl Notification {
    /// The call in a message on our channel; none in anything else that a server says by itself.
    pub(super) fn of(reply: &Reply) -> Option<Self> {
        let Reply::Other(Value::Push { kind: PushKind::Message, data }) = reply else { return None };
        let [_, Value::BulkString(message)] = &data[..] else { return None };
        let (word, key) = std::str::from_utf8(message).ok()?.split_once(' ')?;
        Some(Self { key: Key::new(key), has_others: word != "0", was_found_free: word == "2" })
    }
}

#[cfg(test)]
mod tests {
    use super::super::reply::parse;
    use super::*;

    #[test]
    fn only_messages_of_quorlock_are_notifications() {
        let of = |text: &str| {
            let (reply, length) = parse(text.as_bytes()).expect("well-formed").expect("whole");
            assert_eq!(length, text.len());
            Notification::of(&reply)
        };
        let message =
            |text: &str| of(&format!(">3\r\n$7\r\nmessage\r\n$1\r\nc\r\n${}\r\n{text}\r\n", text.len()));
        let call =
            |key, has_others, is_found| Some(Notification { key: Key::new(key), has_others, was_found_free: is_found });
        assert_eq!(message("1 a key"), call("a key", true, false));
        assert_eq!(message("0 k"), call("k", false, false));
        assert_eq!(message("2 k"), call("k", true, true));
        assert_eq!(message(""), None);
        assert_eq!(of(">3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n"), None);
        assert_eq!(of(">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\nk\r\n"), None);
    }
}
