//! Messages of usage errors. They name the flag and never show its value, which may be a password.

use std::ffi::OsString;

use clap::CommandFactory as _;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use super::Args;
use crate::config::values::COUNT;

pub(super) fn message_of(error: clap::Error, typed: &[OsString]) -> String {
    if error.kind() == ErrorKind::InvalidUtf8 {
        return not_utf8(typed);
    }
    let typed: Vec<_> = typed.iter().map(|arg_text| arg_text.to_string_lossy()).collect();
    let typed: Vec<&str> = typed.iter().map(AsRef::as_ref).collect();
    let command = typed.get(1).copied().unwrap_or_default();
    let arg = text_in(&error, ContextKind::InvalidArg);
    let specific_message = match error.kind() {
        ErrorKind::UnknownArgument if command.starts_with('-') => after_its_command(&arg),
        ErrorKind::UnknownArgument => after_dashes(command, &arg, &typed),
        ErrorKind::MissingRequiredArgument => missing_value(command, &arg, &typed),
        ErrorKind::ArgumentConflict => Some(conflicting_flags(&error, &arg)),
        ErrorKind::InvalidValue | ErrorKind::ValueValidation => Some(wrong_value(&error, &arg)),
        _ => None,
    };
    specific_message.unwrap_or_else(|| clap_message(error, command))
}

/// The hint for a command given without `--`, as flock takes it.
fn after_dashes(command: &str, arg: &str, typed: &[&str]) -> Option<String> {
    if !["run", "dev"].contains(&command) || arg.starts_with('-') && arg != "-" || typed.contains(&"--") {
        return None;
    }
    let index = typed.iter().skip(2).position(|arg_text| *arg_text == arg)? + 2;
    let after = match leading_args(&typed[1..index]) {
        before if before.contains(HIDDEN) => format!("{before}-- COMMAND"),
        before if index + 1 < typed.len() => format!("{before}-- {} …", quoted(arg)),
        before => format!("{before}-- {}", quoted(arg)),
    };
    Some(format!("the command goes behind --: quorlock {after}"))
}

/// The hint for a flag before its subcommand.
fn after_its_command(arg: &str) -> Option<String> {
    let name = arg.strip_prefix("--")?;
    let parser = Args::command();
    let has_flag = |command: &&clap::Command| command.get_arguments().any(|it| it.get_long() == Some(name));
    let command = parser.get_subcommands().filter(|it| !it.is_hide_set()).find(has_flag)?.get_name();
    Some(format!("{arg} goes behind the command that it is for: quorlock {command} {arg} …"))
}

fn missing_value(command: &str, what: &str, typed: &[&str]) -> Option<String> {
    if command != "run" {
        return None;
    }
    if what.contains("<NAME>") {
        return Some("the lock's name is missing: quorlock run NAME -- COMMAND".to_owned());
    }
    let after = typed.iter().position(|arg_text| *arg_text == "--").unwrap_or(typed.len());
    what.contains("<CMD>")
        .then(|| format!("the command is missing: quorlock {}-- COMMAND", leading_args(&typed[1..after])))
}

/// The message for two flags that exclude each other, or for a repeated one. Names come from clap, so no
/// value is shown.
fn conflicting_flags(error: &clap::Error, arg: &str) -> String {
    let (flag, other) = (name_of(arg), text_in(error, ContextKind::PriorArg));
    match name_of(&other) {
        other if other == flag => format!("{flag}: given more than once"),
        other => format!("{flag}: cannot be used with {other}; leave one out"),
    }
}

/// The message for an argument that is not UTF-8, with its flag or position.
fn not_utf8(typed: &[OsString]) -> String {
    let Some(index) = typed.iter().position(|arg_text| arg_text.to_str().is_none()) else {
        return NOT_UTF8.to_owned();
    };
    let arg_text = typed[index].to_string_lossy();
    let before = index.checked_sub(1).and_then(|index| typed[index].to_str()).unwrap_or_default();
    match arg_text.split_once('=') {
        Some((flag, _)) if is_flag(flag) => format!("{flag}: {NOT_UTF8}"),
        _ if is_flag(before) => format!("{before}: {NOT_UTF8}"),
        _ => format!("argument {index}: {NOT_UTF8}"),
    }
}

/// The flag's name, without its value.
fn name_of(arg: &str) -> &str {
    arg.split([' ', '[']).next().unwrap_or_default()
}

fn wrong_value(error: &clap::Error, arg: &str) -> String {
    format!("{}: {}", name_of(arg), cause_of(error))
}

/// Why a value is invalid, without the value.
pub(crate) fn cause_of(error: &clap::Error) -> String {
    if error.kind() == ErrorKind::InvalidUtf8 {
        return NOT_UTF8.to_owned();
    }
    let choice = match error.get(ContextKind::ValidValue) {
        Some(ContextValue::Strings(all)) if !all.is_empty() => format!("expected one of {}", all.join(", ")),
        _ => "a value is missing".to_owned(),
    };
    let cause = std::error::Error::source(error).map_or(choice, ToString::to_string);
    let is_no_number = cause.contains("invalid digit") || cause.contains("empty string");
    let is_too_large = cause.contains("number too large");
    if is_no_number {
        COUNT.to_owned()
    } else if is_too_large {
        "the number is too large".to_owned()
    } else {
        cause
    }
}

fn clap_message(mut error: clap::Error, command: &str) -> String {
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        return format!("no subcommand given\n\n{}", error.render().to_string().trim_end());
    }
    let mut parser = Args::command();
    // clap's own usage line shows the given flags as if they were required.
    let usage =
        parser.find_subcommand_mut(command).map(|it| it.clone().bin_name(format!("quorlock {command}")));
    if let Some(mut it) = usage {
        error.insert(ContextKind::Usage, ContextValue::StyledStr(it.render_usage()));
    }
    // clap suggests `-- VALUE`, but after `--` there is a command.
    if !["status", "force-release", "break", "forget"].contains(&command) {
        error.remove(ContextKind::Suggested);
    }
    for kind in [ContextKind::InvalidArg, ContextKind::InvalidSubcommand] {
        // An argument that is not a flag may be meant as the value of one.
        if let Some(ContextValue::String(text)) = error.get(kind)
            && (is_secret(text) || kind == ContextKind::InvalidArg && !is_flag(text))
        {
            error.remove(ContextKind::Suggested);
            error.insert(kind, ContextValue::String(HIDDEN.to_owned()));
        }
    }
    error.remove(ContextKind::InvalidValue);
    let text = error.render().to_string();
    text.strip_prefix("error: ").unwrap_or(&text).trim_end().to_owned()
}

fn text_in(error: &clap::Error, kind: ContextKind) -> String {
    match error.get(kind) {
        Some(ContextValue::String(text)) => text.clone(),
        Some(ContextValue::Strings(all)) => all.join(" "),
        _ => String::new(),
    }
}

/// The arguments before a position. Flags are hidden, because they may have values.
fn leading_args(args: &[&str]) -> String {
    match args {
        [command] => format!("{command} "),
        [command, name] if !name.starts_with('-') => format!("{command} {} ", quoted(name)),
        [command, ..] => format!("{command} {HIDDEN} "),
        [] => String::new(),
    }
}

/// An argument, quoted for a shell.
fn quoted(arg_text: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:=+%,".contains(&byte);
    match arg_text {
        arg_text if is_secret(arg_text) => HIDDEN.to_owned(),
        arg_text if !arg_text.is_empty() && arg_text.bytes().all(is_plain) => arg_text.to_owned(),
        arg_text => format!("'{}'", arg_text.replace('\'', r"'\''")),
    }
}

/// Whether it can be a flag. A private key in PEM format begins with dashes, too.
fn is_flag(arg_text: &str) -> bool {
    let name = arg_text.trim_start_matches('-');
    let count = arg_text.len() - name.len();
    (1..=2).contains(&count) && name.bytes().all(|byte| byte.is_ascii_alphabetic() || byte == b'-')
}

/// Whether it may be a URL, or part of one.
fn is_secret(arg_text: &str) -> bool {
    ["://", "@", "unix:"].into_iter().any(|part| arg_text.contains(part))
}

const HIDDEN: &str = "…";
const NOT_UTF8: &str = "not valid UTF-8";
