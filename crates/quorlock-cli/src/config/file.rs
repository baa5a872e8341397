//! Settings in a TOML file. An unknown setting is an error, because it is probably misspelt. Errors show the
//! line's number and nothing of its text, which may contain a password.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use toml::de::{DeFloat, DeInteger, DeTable, DeValue};

use super::origin::{Found, Origin};
use super::values::{self, Mode, Urls};
use crate::exit::{self, Failure};

#[derive(Debug, Default)]
pub(super) struct Settings {
    pub(super) nodes: Option<Found<Urls>>,
    pub(super) username: Option<Found<String>>,
    pub(super) password_file: Option<Found<PathBuf>>,
    pub(super) key_prefix: Option<Found<String>>,
    pub(super) quorum: Option<Found<usize>>,
    pub(super) mode: Option<Found<Mode>>,
    pub(super) max_ttl: Option<Found<Duration>>,
    pub(super) fencing_retention: Option<Found<Duration>>,
    pub(super) clock_drift: Option<Found<f64>>,
    pub(super) reply_timeout: Option<Found<Duration>>,
    pub(super) dial_timeout: Option<Found<Duration>>,
    pub(super) tls_ca: Option<Found<PathBuf>>,
    pub(super) tls_cert: Option<Found<PathBuf>>,
    pub(super) tls_key: Option<Found<PathBuf>>,
}

impl Settings {
    pub(super) fn read(config: &Found<PathBuf>) -> Result<Self, Failure> {
        let text = fs::read_to_string(&config.value).map_err(|error| config.origin.invalid(error))?;
        Self::parse(&config.value, &text)
    }

    pub(super) fn parse(file: &Path, text: &str) -> Result<Self, Failure> {
        let file: Arc<Path> = file.into();
        let line_at = |offset: usize| text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1;
        let error_at = |offset: usize, cause: &str| {
            Failure::new(exit::CONFIG, format!("{}: line {}: {cause}", file.display(), line_at(offset)))
        };
        let (table, errors) = DeTable::parse_recoverable(text);
        if let Some(error) = errors.first() {
            // Only the message: the whole error would show the line.
            let offset = error.span().map_or(0, |span| span.start);
            return Err(error_at(offset, &format!("not valid TOML: {}", error.message())));
        }
        let mut fields: Vec<_> = table.get_ref().iter().collect();
        fields.sort_unstable_by_key(|(name, _)| name.span().start);
        let mut settings = Self::default();
        for (name, value) in fields {
            let offset = name.span().start;
            let field = FIELDS.into_iter().find(|field| *field == name.get_ref());
            let Some(field) = field else { return Err(error_at(offset, &unknown(name.get_ref()))) };
            let origin = Origin::Line { file: Arc::clone(&file), line: line_at(offset), field };
            let stored = settings.set_field(value.get_ref(), origin.clone(), &file);
            stored.map_err(|cause| origin.invalid(cause))?;
        }
        Ok(settings)
    }

    /// Stores a value, if its type is right.
    fn set_field(&mut self, value: &DeValue<'_>, origin: Origin, file: &Path) -> Result<(), &'static str> {
        let Origin::Line { field, .. } = origin else { return Ok(()) };
        // Relative to the file's own folder, because the working directory varies.
        let path = || non_empty(value).map(|path| file.with_file_name("").join(path));
        match field {
            "nodes" => self.nodes = Some(origin.found(urls(value)?)),
            "username" => self.username = Some(origin.found(non_empty(value)?.to_owned())),
            "password_file" => self.password_file = Some(origin.found(path()?)),
            "key_prefix" => self.key_prefix = Some(origin.found(text(value)?.to_owned())),
            "quorum" => {
                self.quorum = Some(origin.found(number(value).map_or(Err(values::COUNT), values::count)?));
            }
            "mode" => self.mode = Some(origin.found(values::mode(value.as_str().ok_or(values::MODE)?)?)),
            "max_ttl" => self.max_ttl = Some(origin.found(span(value)?)),
            "fencing_retention" => self.fencing_retention = Some(origin.found(span(value)?)),
            "clock_drift" => {
                self.clock_drift =
                    Some(origin.found(number(value).map_or(Err(values::SHARE), values::share)?));
            }
            "reply_timeout" => self.reply_timeout = Some(origin.found(span(value)?)),
            "dial_timeout" => self.dial_timeout = Some(origin.found(span(value)?)),
            "tls_ca" => self.tls_ca = Some(origin.found(path()?)),
            "tls_cert" => self.tls_cert = Some(origin.found(path()?)),
            _ => self.tls_key = Some(origin.found(path()?)),
        }
        Ok(())
    }
}

/// A list of URLs, or one string with commas, as in the environment.
fn urls(value: &DeValue<'_>) -> Result<Urls, &'static str> {
    const URLS: &str = "expected strings in quotes, as in [\"redis://10.0.0.1\", \"redis://10.0.0.2\"]";
    if let Some(list) = value.as_str() {
        return Urls::read(list);
    }
    let mut all = Urls::default();
    for url in value.as_array().ok_or(URLS)? {
        all.0.extend(Urls::read(url.get_ref().as_str().ok_or(URLS)?)?.0);
    }
    if all.0.is_empty() { Err(values::NO_URLS) } else { Ok(all) }
}

fn text<'a>(value: &'a DeValue<'_>) -> Result<&'a str, &'static str> {
    value.as_str().ok_or("expected a string in quotes")
}

/// A string that is not blank. A blank one in a file is a mistake.
fn non_empty<'a>(value: &'a DeValue<'_>) -> Result<&'a str, &'static str> {
    text(value).and_then(|text| {
        if text.trim().is_empty() { Err("it is empty; leave it out if it is not needed") } else { Ok(text) }
    })
}

/// The number's text.
fn number<'a>(value: &'a DeValue<'_>) -> Option<&'a str> {
    let whole = value.as_integer().filter(|number| number.radix() == 10).map(DeInteger::as_str);
    whole.or_else(|| value.as_float().map(DeFloat::as_str))
}

fn span(value: &DeValue<'_>) -> Result<Duration, &'static str> {
    values::span(number(value).or(value.as_str()).ok_or(values::SPAN)?)
}

/// The error for an unknown setting, with a suggestion.
fn unknown(name: &str) -> String {
    let is_similar = |field: &&str| {
        let letters = |name: &str| {
            let mut letters: Vec<char> = name.chars().filter(char::is_ascii_alphanumeric).collect();
            letters.sort_unstable();
            letters
        };
        letters(field) == letters(&name.to_ascii_lowercase())
    };
    let all = || FIELDS.join(", ");
    match FIELDS.into_iter().find(is_similar) {
        _ if name == "password" => {
            "no password is allowed here; write it to a file, and give its path as password_file".to_owned()
        }
        Some(field) => format!("unknown setting; did you mean {field}?"),
        None => format!("unknown setting; known are {}", all()),
    }
}

pub(super) const FIELDS: [&str; 14] = [
    "nodes",
    "username",
    "password_file",
    "key_prefix",
    "quorum",
    "mode",
    "max_ttl",
    "fencing_retention",
    "clock_drift",
    "reply_timeout",
    "dial_timeout",
    "tls_ca",
    "tls_cert",
    "tls_key",
];
