//! Error replies of a server: their class, and their text without secrets for logs and messages.

use std::fmt;
use std::sync::Arc;

/// An error reply. The text that it shows contains nothing that could be a secret.
///
/// Servers echo arguments: `ERR unknown command 'SET', with args beginning with: 'k' 'TOKEN'`. An owner token
/// releases a lock and a password opens a server. Therefore echoes are removed here, on receipt, and nowhere
/// else.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct ErrorReply {
    /// Determines the error class. Never shown, because it may contain credentials.
    raw: Arc<str>,
    redacted: Arc<str>,
}

impl ErrorReply {
    /// Parses an error reply; there is no secret to redact.
    #[cfg(test)]
    pub(super) fn new(text: &[u8]) -> Self {
        Self::redacting(text, None)
    }

    /// Parses an error reply, which may be any bytes, and redacts this secret.
    pub(super) fn redacting(text: &[u8], secret: Option<&str>) -> Self {
        let secret = secret.filter(|secret| !secret.is_empty());
        // The rest is truncated anyway, so do not scan a reply of a megabyte.
        let length = 4 * MAX_CHARS + secret.map_or(0, str::len);
        let text = String::from_utf8_lossy(&text[..text.len().min(length)]);
        let raw = sanitize(&text);
        let redacted = secret.map_or_else(|| Arc::clone(&raw), |secret| sanitize(&redact(&text, secret)));
        Self { raw, redacted }
    }

    /// Whether it has this error code: as its first word, or inside the error of a failed script
    /// (`ERR Error running script ...: -READONLY You can't ...` on Redis 6.2).
    pub(super) fn has_code(&self, code: &str) -> bool {
        self.raw.split(' ').next() == Some(code) || self.raw.contains(&format!(" -{code} "))
    }

    /// Whether the user lacks a permission, also if a script detected it, which has no error code.
    pub(super) fn is_permission_denied(&self) -> bool {
        // The texts of Redis 7.0, and of Redis 8 and Valkey.
        self.has_code("NOPERM")
            || self.raw.contains("The user executing the script can't")
            || self.raw.contains("ACL failure in script")
    }

    /// Whether credentials are missing or wrong.
    pub(super) fn is_auth_failure(&self) -> bool {
        self.has_code("NOAUTH") || self.has_code("WRONGPASS")
    }

    /// Whether the user may run the command, but not with this key.
    pub(super) fn is_key_denied(&self) -> bool {
        // "… to access one of the keys used as arguments", "… to access a key"; but not "User monkey has no
        // permissions to run the 'eval' command".
        self.is_permission_denied() && self.raw.contains("key") && !self.raw.contains(" command")
    }

    /// Whether the server does not have, has renamed, or forbids the command for every user: a permanent
    /// error.
    pub(super) fn is_no_such_command(&self) -> bool {
        let text = self.raw.to_ascii_lowercase();
        NO_SUCH_COMMAND.iter().any(|known| text.contains(known)) || self.is_not_for_scripts()
    }

    /// Whether clients may run the command, but scripts may not.
    pub(super) fn is_not_for_scripts(&self) -> bool {
        self.raw.contains("not allowed from script")
    }

    /// Whether the server rejects writes at the moment: out of memory, cannot save, or too few replicas.
    pub(crate) fn is_write_rejected(&self) -> bool {
        ["OOM", "MISCONF", "NOREPLICAS"].iter().any(|code| self.has_code(code))
    }

    /// The reason for excluding the server, if the error is permanent and not about credentials or
    /// permissions.
    pub(super) fn unsupported_reason(&self) -> Option<Arc<str>> {
        let text = &self.redacted;
        if let Some(fields) = text.strip_prefix("UNSUPPORTED ") {
            return Some(
                format!(
                    "fenced mode cannot detect that it was restarted or promoted: its INFO lacks {fields}; {USE_PLAIN}"
                )
                .into(),
            );
        }
        if self.is_not_for_scripts() {
            return Some(
                format!("its scripts may not run what fencing needs, such as INFO: {text}; {USE_PLAIN}")
                    .into(),
            );
        }
        self.is_no_such_command()
            .then(|| format!("a command is missing that locks need: {text}; was it renamed?").into())
    }

    /// The redacted text, for logs and messages.
    pub(super) fn text(&self) -> Arc<str> {
        Arc::clone(&self.redacted)
    }

    /// Whether the server accepts no more clients.
    pub(super) fn is_too_many_clients(&self) -> bool {
        self.raw.contains("max number of clients")
    }
}

/// What to do about a server that cannot serve fenced mode.
pub(super) const USE_PLAIN: &str = "use another server, or plain mode (`Mode::Plain`, `--mode plain`), which \
                                    has neither fencing nor probation";

impl fmt::Debug for ErrorReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ErrorReply").field(&self.redacted).finish()
    }
}

/// Makes a text safe to show: one line, without echoed arguments and tokens, and not too long.
pub(super) fn sanitize(text: &str) -> Arc<str> {
    let text = text.split(", with args").next().unwrap_or_default();
    let words: Vec<&str> =
        text.split_whitespace().map(|word| if looks_secret(word) { "…" } else { word }).collect();
    truncate(words.join(" ").chars().filter(|char| !char.is_control()).collect()).into()
}

/// Replaces the secret by "…": a short secret only where it is a whole word.
fn redact(text: &str, secret: &str) -> String {
    let is_short = secret.chars().count() < SHORT_SECRET_CHARS;
    let mut kept = String::new();
    let mut rest = text;
    while let Some(index) = rest.find(secret) {
        let (before, behind) = (&rest[..index], &rest[index + secret.len()..]);
        let is_in_word = kept.chars().chain(before.chars()).next_back().is_some_and(char::is_alphanumeric)
            || behind.starts_with(char::is_alphanumeric);
        kept += before;
        kept += if is_short && is_in_word { secret } else { "…" };
        rest = behind;
    }
    kept + rest
}

/// Truncates a long text between words.
fn truncate(text: String) -> String {
    let Some((end, _)) = text.char_indices().nth(MAX_CHARS - 1) else { return text };
    if text[end..].chars().nth(1).is_none() {
        return text;
    }
    // The "…" is the last character, so the text before it may end at `end`.
    let kept = text[..end].rfind(' ').map_or(&text[..end], |space| &text[..=space]);
    format!("{kept}…")
}

/// Whether it contains a run of hexadecimal digits at least as long as an owner token.
fn looks_secret(word: &str) -> bool {
    let mut run = 0;
    word.bytes().any(|byte| {
        run = if byte.is_ascii_hexdigit() { run + 1 } else { 0 };
        run >= 32
    })
}

/// Texts of servers and proxies about a command that they do not have.
const NO_SUCH_COMMAND: [&str; 5] = [
    "unknown command",
    // From a script.
    "unknown redis command",
    "unsupported command",
    "command is not available",
    "command not supported",
];

/// Shorter secrets may be part of any word.
const SHORT_SECRET_CHARS: usize = 4;

/// Enough to keep the setting named in the longest error of Redis (`MISCONF`).
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
        assert_eq!(format!("{echo:?}"), "ErrorReply(\"ERR bad AUTH ann …x and again '…'\")");
        // A short secret is redacted only as a whole word, to keep the text readable.
        assert_eq!(&*of("ERR bad AUTH ann a", "a").text(), "ERR bad AUTH ann …");
        let class = of("WRONGPASS invalid username-password pair", "WRONGPASS");
        assert!(class.is_auth_failure() && !class.text().contains("WRONGPASS"), "{class:?}");
        // Truncation leaves no part of the secret.
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
        let text = ErrorReply::new(misconf.as_bytes()).text();
        assert!(text.ends_with("(stop-writes-on-bgsave-error option). Please check the …"), "{text}");
        assert!(text.chars().count() <= MAX_CHARS);
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
        let error =
            ErrorReply::new(b"ERR Error running script (call to f_1): @user_script:3: -READONLY You can't");
        assert!(error.has_code("READONLY") && !error.has_code("LOADING"));
    }
}
