//! Adds to the flags what the environment and the file set. A flag overrides the environment, which overrides the
//! file.

use std::ffi::{OsStr, OsString};
use std::fs;

use clap::{ArgMatches, FromArgMatches as _};

use super::file;
use super::origin::{Origin, variable};
use crate::args::{NODE_FLAGS, NodeArgs, cause_of};
use crate::exit::Failure;
use crate::password::{Password, without_line_end};

/// Reads an environment variable.
pub(super) type Lookup<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// The names of all settings, as in the file. Flags and variables derive from them.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    NODE_FLAGS.get_arguments().map(|arg| arg.get_id().as_str())
}

/// All variables with settings of nodes.
pub(crate) fn variables() -> impl Iterator<Item = String> {
    names().chain(["password"]).map(variable)
}

impl NodeArgs {
    /// Records which flags the command line gives.
    pub(crate) fn record_flags(&mut self, given: &ArgMatches) {
        self.origins =
            names().filter(|name| given.contains_id(name)).map(|name| (name, Origin::Flag(name))).collect();
    }

    /// Adds what the environment and the file set and no flag does. Returns the password, if there is one.
    pub(super) fn complete(&mut self, lookup: Lookup<'_>) -> Result<Option<Password>, Failure> {
        for name in names() {
            // A variable that a flag overrides is not read, so it may be invalid.
            if !self.is_overridden(&Origin::Variable(name))
                && let Some(value) = value_of(lookup, name)
            {
                self.set(Origin::Variable(name), &value)?;
            }
        }
        let has_source = self.password_file.is_some() || self.password_command.is_some();
        let password = if has_source { None } else { password(lookup)? };
        if let Some(config) = self.config.clone() {
            let text = fs::read_to_string(&config).map_err(|error| self.origins["config"].invalid(error))?;
            file::read(self, &config, &text)?;
        }
        let origin = |name| &self.origins[name];
        Ok(match (password, &self.password_file, &self.password_command) {
            (Some(password), ..) => Some(Password::Fixed(password)),
            (None, Some(path), _) => Some(Password::in_file(path, origin("password_file"))?),
            (None, None, Some(command)) => Some(Password::of_command(command, origin("password_command"))),
            (None, None, None) => None,
        })
    }

    /// Whether a setting from here has no effect, because an earlier source has set it, or the other setting for the
    /// password.
    fn is_overridden(&self, origin: &Origin) -> bool {
        let is_earlier = |it: &Origin| !it.is_same_source(origin);
        self.origins.contains_key(origin.name())
            || rival_of(origin.name()).and_then(|it| self.origins.get(it)).is_some_and(is_earlier)
    }

    /// Parses a value as that of its flag, and stores it if no earlier source has set it.
    pub(super) fn set(&mut self, origin: Origin, value: &OsStr) -> Result<(), Failure> {
        let name = origin.name();
        let mut flag = OsString::from(format!("{}=", Origin::Flag(name)));
        flag.push(value);
        let invalid = |error: clap::Error| origin.invalid(cause_of(&error));
        let parsed = NODE_FLAGS.clone().try_get_matches_from([flag]).map_err(invalid)?;
        if !self.is_overridden(&origin) {
            if let Some(rival) = rival_of(name).filter(|it| self.origins.contains_key(it)) {
                let rival = origin.relative_to_origin(rival);
                return Err(origin.invalid(format_args!("cannot be used with {rival}; leave one out")));
            }
            self.update_from_arg_matches(&parsed).map_err(invalid)?;
            self.origins.insert(name, origin);
        }
        Ok(())
    }
}

/// The variable's value. Empty or blank counts as unset, because compose files and Kubernetes manifests set missing
/// values so. Only a password and a prefix may be blanks.
fn value_of(lookup: Lookup<'_>, name: &str) -> Option<OsString> {
    let is_unset = |value: &OsStr| {
        let bytes = value.as_encoded_bytes();
        let is_blank = bytes.iter().all(u8::is_ascii_whitespace);
        bytes.is_empty() || is_blank && !["password", "key_prefix"].contains(&name)
    };
    lookup(&variable(name)).filter(|value| !is_unset(value))
}

fn password(lookup: Lookup<'_>) -> Result<Option<String>, Failure> {
    let Some(value) = value_of(lookup, "password") else { return Ok(None) };
    let value = value.to_str().ok_or_else(|| Origin::Variable("password").invalid("not valid UTF-8"))?;
    Ok(Some(without_line_end(value).to_owned()).filter(|password| !password.is_empty()))
}

/// The setting that this one excludes.
fn rival_of(name: &str) -> Option<&'static str> {
    match name {
        "password_file" => Some("password_command"),
        "password_command" => Some("password_file"),
        _ => None,
    }
}
