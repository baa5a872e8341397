//! Parsers of values, the same for flags, variables and the file. Errors never show the value.

use std::fmt;
use std::time::Duration;

use quorlock::Mode;

/// A list of URLs.
#[derive(Clone, Default)]
pub(crate) struct Urls(pub(crate) Vec<String>);

impl Urls {
    /// Parses URLs separated by commas or newlines.
    pub(crate) fn read(text: &str) -> Result<Self, &'static str> {
        let urls = text.split([',', '\n']).map(str::trim).filter(|url| !url.is_empty());
        let urls: Vec<String> = urls.map(ToOwned::to_owned).collect();
        if urls.is_empty() { Err(NO_URLS) } else { Ok(Self(urls)) }
    }
}

/// A list of names of nodes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Names(pub(crate) Vec<String>);

impl Names {
    /// Parses names separated by commas or newlines.
    pub(crate) fn read(text: &str) -> Result<Self, &'static str> {
        let names: Vec<String> = text.split([',', '\n']).map(|name| name.trim().to_owned()).collect();
        if names.iter().any(String::is_empty) { Err(NAMES) } else { Ok(Self(names)) }
    }
}

impl fmt::Debug for Urls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} URLs", self.0.len())
    }
}

/// A duration. A bare number is seconds, as in flock and timeout.
pub(crate) fn span(text: &str) -> Result<Duration, &'static str> {
    let text = text.trim();
    let is_bare = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') && !text.is_empty();
    let parsed = if is_bare {
        humantime::parse_duration(&format!("{text}s"))
    } else {
        humantime::parse_duration(text)
    };
    parsed.map_err(|error| match error {
        humantime::DurationError::NumberOverflow => "out of range: 1ns to some hundred years",
        _ => SPAN,
    })
}

/// A duration within these limits, inclusive.
pub(crate) fn span_within(text: &str, least: &str, most: &str) -> Result<Duration, String> {
    let value = span(text)?;
    let [from, to] = [least, most].map(|bound| span(bound).unwrap_or_default());
    if (from..=to).contains(&value) { Ok(value) } else { Err(format!("out of range: {least} to {most}")) }
}

/// A fraction of one.
pub(crate) fn share(text: &str) -> Result<f64, &'static str> {
    text.trim().parse().map_err(|_| SHARE)
}

/// A whole number.
pub(crate) fn count(text: &str) -> Result<usize, &'static str> {
    text.trim().parse().map_err(|_| COUNT)
}

/// A mode by its name.
pub(crate) fn mode(text: &str) -> Result<Mode, &'static str> {
    match text.trim().to_ascii_lowercase().as_str() {
        "fenced" => Ok(Mode::Fenced),
        "plain" => Ok(Mode::Plain),
        _ => Err(MODE),
    }
}

pub(crate) const NO_URLS: &str = "no URL given, such as redis://10.0.0.1";
pub(crate) const NAMES: &str = "expected names separated by commas, such as a,b,c";
pub(crate) const SPAN: &str = "expected a number and a unit, such as 10s";
pub(crate) const SHARE: &str = "expected a fraction, such as 0.01";
pub(crate) const COUNT: &str = "expected a whole number, such as 3";
pub(crate) const MODE: &str = "expected fenced or plain";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_number_is_seconds() {
        for (text, millis) in [
            ("30", 30_000),
            ("0", 0),
            ("0.5", 500),
            ("1.5s", 1500),
            ("2m", 120_000),
            (" 7 ", 7_000),
            ("1h 1s", 3_601_000),
        ] {
            assert_eq!(span(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", " ", "abc", "-1", "-1s", "10 parsecs", "s", ".", "1,5s", "∞", "1..5"] {
            assert_eq!(span(text), Err(SPAN), "{text}");
        }
        for text in ["99999999999999999999", "18446744073709551615years"] {
            assert!(span(text).is_err_and(|cause| cause != SPAN), "{text}");
        }
    }

    #[test]
    fn a_list_skips_empty_items_and_is_not_empty() {
        let read = |text| Urls::read(text).map(|urls| urls.0.join(" "));
        assert_eq!(
            read(" redis://a, redis://b,\n,redis://c\n").as_deref(),
            Ok("redis://a redis://b redis://c")
        );
        assert_eq!(read(" ,\n"), Err(NO_URLS));
        let names = |text| Names::read(text).map(|names| names.0.join(" "));
        assert_eq!(
            (names(" a, b,c\n d"), names("a,,b"), names("")),
            (Ok("a b c d".to_owned()), Err(NAMES), Err(NAMES))
        );
        assert_eq!(format!("{:?}", Urls::read("redis://:secret@a")), "Ok(1 URLs)");
    }

    #[test]
    fn invalid_values_have_a_message() {
        assert_eq!((share("0.01"), share("1%"), share("")), (Ok(0.01), Err(SHARE), Err(SHARE)));
        assert_eq!((count("3"), count("-1"), count("3.0")), (Ok(3), Err(COUNT), Err(COUNT)));
        assert_eq!(
            (mode("Plain"), mode("fenced"), mode("maybe")),
            (Ok(Mode::Plain), Ok(Mode::Fenced), Err(MODE))
        );
    }
}
