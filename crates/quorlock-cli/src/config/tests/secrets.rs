//! Property tests: puts a secret into settings, rightly or by mistake, in well-formed and malformed files,
//! variables and flags. No output shows any part of it.

use super::*;

/// A secret of parts that occur in no other text, joined by separators that parsers treat specially.
fn secret() -> impl Strategy<Value = Secret> {
    let part = prop_oneof!["z[a-z0-9]{6}q", "[1-9][0-9]{8}", "Z[a-zA-Z0-9]{6}Q"];
    let separator = prop::sample::select(vec![
        ",", "/", "?", "#", ":", "@", "%", "%2", "\"", "'", "\\", " ", "=", "[", "]", "{", "}", "\n", ";",
        "&", "+", "é", "://", "-", "",
    ]);
    // The first part is not a number, because a valid number may be shown.
    ("z[a-z0-9]{6}q", prop::collection::vec((separator, part), 0..4)).prop_map(|(first, more)| {
        let mut parts = vec![first.clone()];
        let mut text = first;
        for (separator, part) in more {
            text += separator;
            text += &part;
            parts.push(part);
        }
        Secret { text, parts }
    })
}

#[derive(Clone, Debug)]
struct Secret {
    text: String,
    parts: Vec<String>,
}

impl Secret {
    /// Whether any part of it is in this text.
    fn is_in(&self, text: &str) -> bool {
        let text = text.to_lowercase();
        self.parts.iter().any(|part| text.contains(&part.to_lowercase()))
    }

    #[track_caller]
    fn check(&self, output: &str) -> Result<(), TestCaseError> {
        prop_assert!(!self.is_in(output), "{self:?} is in: {output}");
        Ok(())
    }

    /// Checks the outcome: messages, and the debug output of the client.
    fn check_outcome(&self, outcome: &Result<Cluster, Failure>) -> Result<(), TestCaseError> {
        match outcome {
            Ok(cluster) => {
                // Text at the place of a host, after the slashes or the last
                // @, counts as a host and is shown.
                let is_host = |url: &&String| {
                    let behind = url.rsplit('@').next().unwrap_or_default();
                    let behind = behind.rsplit("//").next().unwrap_or_default();
                    let host = behind.split([':', '/', '?']).next().unwrap_or_default();
                    // A separator may have been cut out of it.
                    !host.is_empty() && (self.text.contains(host) || self.is_in(host))
                };
                for url in cluster.urls.iter().filter(|url| !is_host(url)) {
                    // A duplicate, because that error shows the address.
                    let twice = cluster.builder.clone().nodes([url, url]).quorum(2).check();
                    let twice = twice.err().map(|invalid| invalid.to_string());
                    prop_assert!(
                        twice.as_ref().is_some_and(|message| message.contains("is named twice")),
                        "{twice:?}"
                    );
                    self.check(&twice.unwrap_or_default())?;
                }
                self.check(&format!("{:?}", cluster.builder))
            }
            Err(failure) => self.check(&format!("{failure:?} {}", failure.message)),
        }
    }
}

/// URLs and near misses, with the secret `{S}` at every place.
const URL_PATTERNS: [&str; 22] = [
    "{S}",
    "redis://{S}",
    "redis://:{S}@127.0.0.1",
    "redis://user:{S}@127.0.0.1:7001",
    "redis://{S}@127.0.0.1:7001/1",
    "redis://user:{S}",
    "redis://127.0.0.1:7001/{S}",
    "redis://127.0.0.1?protocol={S}",
    "rodis://user:{S}@127.0.0.1",
    "unix:/run/redis.sock?pass={S}&x=1",
    "user:{S}@127.0.0.1:7001",
    "unix:/user:{S}@/run/redis.sock",
    "unix:/user:{S}%40/run/redis.sock",
    "unix:/run/redis.sock&pass={S}",
    "unix:/run/redis.sock;pass={S}",
    "unix:/run/redis.sock%3Fpass={S}",
    "redis+unix:///run/redis.sock&pass={S}",
    "redis://user%3A{S}%40localhost:1",
    "redis://{S}%2F:1",
    "redis://localhost&pass={S}",
    "redis://localhost;pass={S}:1",
    "redis://a,redis://user:{S}@b,redis://c",
];

/// Lines of a file: a field F with a value U.
const LINE_PATTERNS: [&str; 24] = [
    "F = \"U\"",
    "F = 'U'",
    "F = U",
    "F = [\"U\"]",
    "F = [\"redis://a\", 'U', 3]",
    "F = [[\"U\"]]",
    "F = { a = \"U\" }",
    "F.a = \"U\"",
    "F \"U\"",
    "F = \"U",
    "F = \"\"\"U",
    "F = \"U\"\nF = \"U\"",
    "F = \"U\" U",
    "F = \"\\U\"",
    "F = 1U",
    "F = 1979-05-27TU",
    "F =\nU",
    "\"U\" = \"F\"",
    "U = 1",
    "U",
    "[U]\nF = 1",
    "[[\"U\"]]\nF = 1",
    "# U\nF = \u{1}",
    "F: U",
];

const MORE_FIELDS: [&str; 3] = ["password", "colour", "key-prefix"];

fn value() -> impl Strategy<Value = (Secret, String)> {
    (secret(), prop::sample::select(&URL_PATTERNS[..])).prop_map(|(secret, pattern)| {
        let value = pattern.replace("{S}", &secret.text);
        (secret, value)
    })
}

/// At least 6,000 cases; `PROPTEST_CASES` sets more.
fn cases() -> ProptestConfig {
    let default = ProptestConfig::default();
    ProptestConfig { cases: default.cases.max(6000), failure_persistence: None, ..default }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn no_error_of_a_malformed_file_shows_a_secret(
        (secret, value) in value(),
        shape in prop::sample::select(&LINE_PATTERNS[..]),
        field in prop::sample::select(file::fields_known().chain(MORE_FIELDS).collect::<Vec<_>>()),
        escapes in any::<bool>(),
        is_listed in any::<bool>(),
        cut in prop::option::of((any::<prop::sample::Index>(), prop::sample::select(vec!["", "\"", "=", "\n", "]"]))),
    ) {
        let value = if escapes { value.replace('\\', "\\\\").replace('"', "\\\"") } else { value };
        let mut text = shape.replace('F', field).replace('U', &value);
        if is_listed {
            // With valid nodes, so that the other line is reached.
            text = format!("nodes = '{URLS}'\n{text}");
        }
        if let Some((pattern, replacement)) = cut {
            let (pattern, char) = *pattern.get(&text.char_indices().collect::<Vec<_>>());
            text.replace_range(pattern..pattern + char.len_utf8(), replacement);
        }
        let (_folder, file) = file_of(&text);
        secret.check_outcome(&resolve_from(&[], Some(&file)))?;
    }

    #[test]
    fn no_error_of_a_variable_shows_a_secret(
        (secret, value) in value(),
        variable in prop::sample::select(variables().collect::<Vec<_>>()),
    ) {
        secret.check_outcome(&resolve_from(&[(&variable, &value), ("QUORLOCK_NODES", URLS)], None))?;
    }

    #[test]
    fn no_error_of_a_flag_shows_a_secret(
        (secret, value) in value(),
        command in prop::sample::select(vec!["run", "status", "force-release", "forget", "doctor", "init", "bench", "dev", ""]),
        field in prop::sample::select(sources::names().chain(["ttl", "wait", "pasword", "node"]).collect::<Vec<_>>()),
        is_separate_arg in any::<bool>(),
        tail in prop::sample::select(vec![&["x", "--", "true"][..], &["x"], &["x", "true"], &[], &["--"]]),
        extra in prop::option::of(prop::sample::select(&URL_PATTERNS[1..])),
    ) {
        let flag = format!("--{}", field.replace('_', "-"));
        let mut args = vec!["quorlock".to_owned(), command.to_owned()];
        args.retain(|arg| !arg.is_empty());
        args.extend(if is_separate_arg { vec![flag, value] } else { vec![format!("{flag}={value}")] });
        // A name or a command is not secret and is shown. A URL in their place is secret.
        let extra = extra.filter(|_| !["status", "force-release", "forget"].contains(&command));
        args.extend(extra.map(|pattern| pattern.replace("{S}", &secret.text)));
        args.extend(tail.iter().map(|arg| (*arg).to_owned()));
        let args: Vec<OsString> = args.into_iter().map(OsString::from).collect();
        match Args::read(&args, false) {
            Err(Stopped::Failed(failure)) => secret.check(&failure.message)?,
            Err(Stopped::Help(text)) => secret.check(&text)?,
            Ok(mut args) => {
                let Some(nodes) = args.command.nodes() else { return Ok(()) };
                secret.check_outcome(&resolve(nodes.clone(), &|_| None))?;
            }
        }
    }
}

#[test]
fn the_check_finds_a_secret_in_a_text() {
    let secret = Secret { text: "Zabc,def".to_owned(), parts: vec!["Zabc".to_owned(), "def".to_owned()] };
    assert!(
        secret.is_in("the node \"redis://u:zabc\" cannot be used")
            && secret.is_in("a DEF")
            && !secret.is_in("de")
    );
}
