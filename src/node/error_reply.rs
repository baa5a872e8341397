//! What a server says in an error reply, made fit for logs.

use std::fmt;
use std::sync::Arc;

/// An error reply in the server's own words, less anything that could be a secret.
///
/// Servers echo arguments: `ERR unknown command 'SET', with args beginning with: 'k' 'TOKEN'`. A token opens a lock
/// and a password a server, so echoes are cut off here, where the words come in, and nowhere else.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct ErrorReply {
    /// Tells the kind of the error. Never shown: the credentials may be in it.
    raw: Arc<str>,
    redacted: Arc<str>,
}

impl ErrorReply {
    /// The complaint in the text of an error reply, where there is no login.
    #[cfg(test)]
    pub(super) fn new(text: &[u8]) -> Self {
        Self::redacting(text, None)
    }

    /// The complaint in the text of an error reply, which may be any bytes at all, less this secret.
    pub(super) fn redacting(text: &[u8], secret: Option<&str>) -> Self {
        let secret = secret.filter(|secret| !secret.is_empty());
        // Whatever lies behind is cut off anyway; a reply of a megabyte is not worth walking.
        let length = 4 * MAX_CHARS + secret.map_or(0, str::len);
        let text = String::from_utf8_lossy(&text[..text.len().min(length)]);
        let said = sanitize(&text);
        let shown = secret.map_or_else(|| Arc::clone(&said), |secret| sanitize(&redact(&text, secret)));
        Self { raw: said, redacted: shown }
    }

    /// Whether it is of this class: its first word, or the word in the error of a script that failed
    /// (`ERR Error running script ...: -READONLY You can't ...` on 6.2).
    pub(super) fn has_code(&self, code: &str) -> bool {
        self.raw.split(' ').next() == Some(code) || self.raw.contains(&format!(" -{code} "))
    }

    /// Whether the user lacks a right, also when a script found that out: that has no code of its own.
    pub(super) fn is_permission_denied(&self) -> bool {
        // The words of 7.0, and those of 8 and of Valkey.
        self.has_code("NOPERM")
            || self.raw.contains("The user executing the script can't")
            || self.raw.contains("ACL failure in script")
    }

    /// Whether the login is missing or wrong.
    pub(super) fn is_auth_failure(&self) -> bool {
        self.has_code("NOAUTH") || self.has_code("WRONGPASS")
    }

    /// Whether the user may run the command, and may not touch the key that it came with.
    pub(super) fn is_key_denied(&self) -> bool {
        // "… to access one of the keys used as arguments", "… to access a key"; but not "User monkey has no permissions to
        // run the 'eval' command".
        self.is_permission_denied() && self.raw.contains("key") && !self.raw.contains(" command")
    }

    /// Whether the server has no such command, renamed it, or lets no user run it: that is permanent.
    pub(super) fn is_no_such_command(&self) -> bool {
        let words = self.raw.to_ascii_lowercase();
        NO_SUCH_COMMAND.iter().any(|said| words.contains(said)) || self.is_not_for_scripts()
    }

    /// Whether scripts may not run the command, though clients may.
    pub(super) fn is_not_for_scripts(&self) -> bool {
        self.raw.contains("not allowed from script")
    }

    /// Whether it takes no writes now: it is full, cannot save, or has too few replicas.
    pub(crate) fn is_write_rejected(&self) -> bool {
        ["OOM", "MISCONF", "NOREPLICAS"].iter().any(|code| self.has_code(code))
    }

    /// What is said of a server that does not pass by itself, and needs no login or right that it names.
    pub(super) fn unsupported_reason(&self) -> Option<Arc<str>> {
        let words = &self.redacted;
        if let Some(why) = words.strip_prefix("UNFIT ") {
            return Some(format!("{why}; use plain mode").into());
        }
        if self.is_not_for_scripts() {
            return Some(format!("scripts may not run what fencing needs: {words}; use plain mode").into());
        }
        self.is_no_such_command()
            .then(|| format!("a command is missing that locks need: {words}; was it renamed?").into())
    }

    /// The words, fit for logs.
    pub(super) fn text(&self) -> Arc<str> {
        Arc::clone(&self.redacted)
    }

    /// Whether the server has no room for another client.
    pub(super) fn is_too_many_clients(&self) -> bool {
        self.raw.contains("max number of clients")
    }
}

impl fmt::Debug for ErrorReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Complaint").field(&self.redacted).finish()
    }
}

/// On one line, without echoes and tokens, and not too long.
fn sanitize(text: &str) -> Arc<str> {
    let text = text.split(", with args").next().unwrap_or_default();
    let words: Vec<&str> =
        text.split_whitespace().map(|word| if looks_secret(word) { "…" } else { word }).collect();
    truncate(words.join(" ").chars().filter(|char| !char.is_control()).collect()).into()
}

/// The text, with "…" wherever the secret stands; a short one only where it is a word.
fn redact(text: &str, secret: &str) -> String {
    let is_short = secret.chars().count() < SHORT_SECRET_CHARS;
    let mut kept = String::new();
    let mut rest = text;
    while let Some(place) = rest.find(secret) {
        let (before, behind) = (&rest[..place], &rest[place + secret.len()..]);
        let is_in_word = kept.chars().chain(before.chars()).next_back().is_some_and(char::is_alphanumeric)
            || behind.starts_with(char::is_alphanumeric);
        kept += before;
        kept += if is_short && is_in_word { secret } else { "…" };
        rest = behind;
    }
    kept + rest
}

/// All of it, or as many whole words as there is room for.
fn truncate(text: String) -> String {
    let Some((end, _)) = text.char_indices().nth(MAX_CHARS - 1) else { return text };
    if text[end..].chars().nth(1).is_none() {
        return text;
    }
    // The "…" takes the last place, so what stands before it may be as long as what lies before `end`.
    let kept = text[..end].rfind(' ').map_or(&text[..end], |space| &text[..=space]);
    format!("{kept}…")
}

/// A run of hexadecimal digits as long as a token, or longer.
fn looks_secret(word: &str) -> bool {
    let mut run = 0;
    word.bytes().any(|byte| {
        run = if byte.is_ascii_hexdigit() { run + 1 } else { 0 };
        run >= 32
    })
}

/// What servers and proxies say of a command that they do not have.
const NO_SUCH_COMMAND: [&str; 5] = [
    "unknown command",
    // In a script.
    "unknown redis command",
    "unsupported command",
    "command is not available",
    "command not supported",
];

/// A secret of fewer characters may be in any word.
const SHORT_SECRET_CHARS: usize = 4;

/// So that the longest that Redis says (`MISCONF`) keeps the setting that it names.
const MAX_CHARS: usize = 300;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn echoed_arguments_are_removed() {
        let echo =
            b"ERR unknown command 'SET', with args beginning with: 'k' '0123456789abcdef0123456789abcdef'";
        assert_eq!(&*ErrorReply::new(echo).text(), "ERR unknown command 'SET'");
        let quoted = b"ERR odd '0123456789abcdef0123456789abcdef' here";
        assert_eq!(&*ErrorReply::new(quoted).text(), "ERR odd … here");
    }

    #[test]
    fn an_echoed_secret_is_redacted_and_the_error_class_is_still_known() {
        let of = |text: &str, secret: &str| ErrorReply::redacting(text.as_bytes(), Some(secret));
        let echo = of("ERR bad AUTH ann s cr/et!x and again 's cr/et!'", "s cr/et!");
        assert_eq!(&*echo.text(), "ERR bad AUTH ann …x and again '…'");
        assert_eq!(format!("{echo:?}"), "Complaint(\"ERR bad AUTH ann …x and again '…'\")");
        // A short one is found where it is a word; else the words could not be read any more.
        assert_eq!(&*of("ERR bad AUTH ann a", "a").text(), "ERR bad AUTH ann …");
        let class = of("WRONGPASS invalid username-password pair", "WRONGPASS");
        assert!(class.is_auth_failure() && !class.text().contains("WRONGPASS"), "{class:?}");
        // Where the text is cut, no part of it is left.
        let long = of(&format!("{}{}", "é".repeat(MAX_CHARS * 2 - 2), "secret"), "secret");
        assert!(!long.text().contains('s'), "{long:?}");
        assert_eq!(&*of("ERR nothing of it", "").text(), "ERR nothing of it");
    }

    #[test]
    fn long_texts_are_truncated_between_words() {
        let misconf = "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk. \
                       Commands that may modify the data set are disabled, because this instance is configured to \
                       report errors during writes if RDB snapshotting fails (stop-writes-on-bgsave-error option). \
                       Please check the Redis logs for details about the RDB error.";
        let words = ErrorReply::new(misconf.as_bytes()).text();
        assert!(words.ends_with("(stop-writes-on-bgsave-error option). Please check the …"), "{words}");
        assert!(words.chars().count() <= MAX_CHARS);
        let one = ErrorReply::new("é".repeat(500).as_bytes()).text();
        assert!(one.ends_with("é…") && one.chars().count() == MAX_CHARS, "{one}");
        for length in [MAX_CHARS - 1, MAX_CHARS] {
            let fits = "x".repeat(length);
            assert_eq!(*ErrorReply::new(fits.as_bytes()).text(), fits);
        }
    }

    #[test]
    fn permanent_errors_differ_from_transient_ones() {
        let of = |text: &str| ErrorReply::new(text.as_bytes());
        for text in [
            "ERR unknown command 'EVAL', with args beginning with: 'return 1' ",
            "ERR unknown command `INFO`, with args beginning with: ",
            "ERR Unknown Redis command called from script script: f_0, on @user_script:14.",
            "ERR Error running script (call to f_0): @user_script:9: @user_script: 9: Unknown Redis command called from Lua script",
            "ERR This Redis command is not allowed from script script: f_0, on @user_script:16.",
            "unsupported command 'info'",
        ] {
            assert!(of(text).is_no_such_command() && of(text).unsupported_reason().is_some(), "{text}");
        }
        for text in [
            "OOM command not allowed when used memory > 'maxmemory'.",
            "BUSY Redis is busy",
            "ERR DB index is out of range",
        ] {
            assert!(of(text).unsupported_reason().is_none(), "{text}");
        }
    }

    #[test]
    fn denied_keys_differ_from_denied_commands() {
        let of = |text: &str| ErrorReply::new(text.as_bytes()).is_key_denied();
        assert!(of("NOPERM this user has no permissions to access one of the keys used as arguments"));
        assert!(of("NOPERM No permissions to access a key"));
        assert!(!of("NOPERM User monkey has no permissions to run the 'eval' command"));
        assert!(!of("NOPERM this user has no permissions to access one of the channels used as arguments"));
    }

    #[test]
    fn the_code_in_a_script_failure_is_found() {
        let complaint =
            ErrorReply::new(b"ERR Error running script (call to f_1): @user_script:3: -READONLY You can't");
        assert!(complaint.has_code("READONLY") && !complaint.has_code("LOADING"));
    }
}
