//! Settings in a TOML file. An unknown setting is an error, because it is probably misspelt. Errors show the
//! line's number and nothing of its text, which may contain a password.

use std::ffi::OsString;
use std::path::Path;
use std::sync::Arc;

use toml::de::{DeFloat, DeInteger, DeTable, DeValue};

use super::origin::Origin;
use super::sources::names;
use super::values;
use crate::args::{NODE_FLAGS, NodeArgs};
use crate::exit::{self, Failure};

/// Adds the settings in a file with this text.
pub(super) fn read(args: &mut NodeArgs, file: &Path, text: &str) -> Result<(), Failure> {
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
    for (name, value) in fields {
        let offset = name.span().start;
        let field = fields_known().find(|field| *field == name.get_ref());
        let Some(field) = field else { return Err(error_at(offset, &unknown(name.get_ref()))) };
        let origin = Origin::Line { file: Arc::clone(&file), line: line_at(offset), field };
        let value = flag_value(field, value.get_ref(), &file).map_err(|cause| origin.invalid(cause))?;
        args.set(origin, &value)?;
    }
    Ok(())
}

/// The names of all settings that a file may contain.
pub(super) fn fields_known() -> impl Iterator<Item = &'static str> {
    names().filter(|name| *name != "config")
}

/// The value as the text of the setting's flag, if its type fits what the flag's help shows as its value.
fn flag_value(field: &str, value: &DeValue<'_>, file: &Path) -> Result<OsString, &'static str> {
    let arg = NODE_FLAGS.get_arguments().find(|arg| arg.get_id() == field);
    let kind = arg.and_then(|arg| arg.get_value_names()?.first()).map_or("", |name| name.as_str());
    Ok(match kind {
        "URLS" => list(value, URLS)?.into(),
        "NAMES" => list(value, NAMES)?.into(),
        "N" => number(value).ok_or(values::COUNT)?.into(),
        "SHARE" => number(value).ok_or(values::SHARE)?.into(),
        "DUR" => number(value).or(value.as_str()).ok_or(values::SPAN)?.into(),
        "fenced|plain" => value.as_str().ok_or(values::MODE)?.into(),
        "USER" | "COMMAND" => non_empty(value)?.into(),
        // Relative to the file's own folder, because the working directory varies.
        "FILE" => file.with_file_name("").join(non_empty(value)?).into(),
        _ => text(value)?.into(),
    })
}

/// A list of strings, or one string with commas, as in the environment.
fn list(value: &DeValue<'_>, error: &'static str) -> Result<String, &'static str> {
    if let Some(list) = value.as_str() {
        return Ok(list.to_owned());
    }
    let items = value.as_array().ok_or(error)?.iter().map(|item| item.get_ref().as_str().ok_or(error));
    Ok(items.collect::<Result<Vec<_>, _>>()?.join(","))
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
    match fields_known().find(is_similar) {
        _ if name == "password" => {
            "no password is allowed here; write it to a file, and give its path as password_file".to_owned()
        }
        Some(field) => format!("unknown setting; did you mean {field}?"),
        None => format!("unknown setting; known are {}", fields_known().collect::<Vec<_>>().join(", ")),
    }
}

const URLS: &str = "expected strings in quotes, as in [\"redis://10.0.0.1\", \"redis://10.0.0.2\"]";
const NAMES: &str = "expected strings in quotes, as in [\"a\", \"b\", \"c\"]";
