//! The name of a lock in a message.

use quorlock_proto::request::Key as LockName;

/// Formats a lock's key for messages: quoted, and cut if it is longer than `MAX_SHOWN` characters.
pub(super) fn lock(key: &LockName) -> String {
    let text = key.to_string();
    match text.char_indices().nth(MAX_SHOWN) {
        Some((end, _)) => format!("lock \"{}\"… ({} bytes)", &text[..end], key.as_bytes().len()),
        None => format!("lock \"{text}\""),
    }
}

/// The limit, in characters.
const MAX_SHOWN: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_names_are_truncated_in_messages() {
        assert_eq!(lock(&LockName::new("nightly")), "lock \"nightly\"");
        let long = "é".repeat(30_000);
        let shown = lock(&LockName::new(&long));
        assert!(shown.len() < 500 && shown.ends_with("é\"… (60000 bytes)"), "{shown}");
        assert_eq!(lock(&LockName::new("é".repeat(200))).matches('é').count(), 200);
    }
}
