//! Notifications from a node: this process is the next for a key.

use redis::{PushKind, Value};

use super::reply::Reply;
use quorlock_proto::request::Key;

/// A message that this process has waited longest for a key, which is free.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Notification {
    pub(crate) key: Key,
    /// Whether other processes wait for the key too.
    pub(crate) has_others: bool,
    /// Whether a waiter found the key free and caused the notification, not a release.
    pub(crate) is_from_waiter: bool,
}

impl Notification {
    /// The notification in a message on this client's channel; `None` for any other push.
    pub(super) fn of(reply: &Reply) -> Option<Self> {
        let Reply::Other(Value::Push { kind: PushKind::Message, data }) = reply else { return None };
        let [_, Value::BulkString(message)] = &data[..] else { return None };
        // Keys are any bytes.
        let (prefix, key) = message.split_at(message.iter().position(|byte| *byte == b' ')?);
        Some(Self { key: Key::new(&key[1..]), has_others: prefix != b"0", is_from_waiter: prefix == b"2" })
    }
}

#[cfg(test)]
mod tests {
    use super::super::reply::parse;
    use super::*;

    #[test]
    fn only_messages_of_quorlock_are_notifications() {
        let notification_in = |text: &str| {
            let (reply, length) = parse(text.as_bytes()).expect("well-formed").expect("whole");
            assert_eq!(length, text.len());
            Notification::of(&reply)
        };
        let message = |text: &str| {
            notification_in(&format!(">3\r\n$7\r\nmessage\r\n$1\r\nc\r\n${}\r\n{text}\r\n", text.len()))
        };
        let expected = |key, has_others, is_from_waiter| {
            Some(Notification { key: Key::new(key), has_others, is_from_waiter })
        };
        assert_eq!(message("1 a key"), expected("a key", true, false));
        assert_eq!(message("0 k"), expected("k", false, false));
        assert_eq!(message("2 k"), expected("k", true, true));
        assert_eq!(message(""), None);
        assert_eq!(notification_in(">3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n"), None);
        assert_eq!(notification_in(">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\nk\r\n"), None);
    }
}
