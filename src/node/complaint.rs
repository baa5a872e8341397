//! What a server says in an error reply, made fit for logs.

use std::sync::Arc;

/// An error reply in the server's own words, less anything that could be a secret.
///
/// Servers echo arguments: `ERR unknown command 'SET', with args beginning with: 'k' 'TOKEN'`. A token opens a lock
/// and a password a server, so echoes are cut off here, where the words come in, and nowhere else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Complaint(Arc<str>);

impl Complaint {
    /// The complaint in the text of an error reply, which may be any bytes at all.
    pub(super) fn new(text: &[u8]) -> Self {
        // Whatever lies behind is cut off anyway; a reply of a megabyte is not worth walking.
        let text = String::from_utf8_lossy(&text[..text.len().min(4 * MAX_CHARS)]);
        let text = text.split(", with args").next().unwrap_or_default();
        let words: Vec<&str> =
            text.split_whitespace().map(|word| if looks_secret(word) { "…" } else { word }).collect();
        let words = words.join(" ");
        Self(words.chars().filter(|char| !char.is_control()).take(MAX_CHARS).collect::<String>().into())
    }

    /// Whether it is of this class: its first word, or the word in the error of a script that failed
    /// (`ERR Error running script ...: -READONLY You can't ...` on 6.2).
    pub(super) fn is(&self, code: &str) -> bool {
        self.0.split(' ').next() == Some(code) || self.0.contains(&format!(" -{code} "))
    }

    /// Whether the user lacks a right, also when a script found that out: that has no code of its own.
    pub(super) fn is_no_permission(&self) -> bool {
        // The words of 7.0, and those of 8 and of Valkey.
        self.is("NOPERM")
            || self.0.contains("The user executing the script can't")
            || self.0.contains("ACL failure in script")
    }

    /// Whether the login is missing or wrong.
    pub(super) fn is_login(&self) -> bool {
        self.is("NOAUTH") || self.is("WRONGPASS")
    }

    /// The words, fit for logs.
    pub(super) fn words(&self) -> Arc<str> {
        Arc::clone(&self.0)
    }
}

/// A run of hexadecimal digits as long as a token, or longer.
fn looks_secret(word: &str) -> bool {
    let mut run = 0;
    word.bytes().any(|byte| {
        run = if byte.is_ascii_hexdigit() { run + 1 } else { 0 };
        run >= 32
    })
}

const MAX_CHARS: usize = 160;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn echoed_arguments_never_show() {
        let echo =
            b"ERR unknown command 'SET', with args beginning with: 'k' '0123456789abcdef0123456789abcdef'";
        assert_eq!(&*Complaint::new(echo).words(), "ERR unknown command 'SET'");
        let quoted = b"ERR odd '0123456789abcdef0123456789abcdef' here";
        assert_eq!(&*Complaint::new(quoted).words(), "ERR odd … here");
    }

    #[test]
    fn a_code_is_found_inside_a_failed_script() {
        let complaint =
            Complaint::new(b"ERR Error running script (call to f_1): @user_script:3: -READONLY You can't");
        assert!(complaint.is("READONLY") && !complaint.is("LOADING"));
    }
}
