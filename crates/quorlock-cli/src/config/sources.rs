//! Adds to the flags what the environment and the file set. A flag overrides the environment, which overrides the
//! file.

use std::ffi::{OsStr, OsString};
use std::fs;

use clap::{ArgMatches, FromArgMatches as _};

use super::file;
use super::origin::{Origin, variable};
use crate::args::{NODE_FLAGS, NodeArgs, cause_of};
use crate::exit::Failure;

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
    pub(super) fn complete(&mut self, lookup: Lookup<'_>) -> Result<Option<String>, Failure> {
        for name in names() {
            // A variable that a flag overrides is not read, so it may be invalid.
            if !self.origins.contains_key(name)
                && let Some(value) = value_of(lookup, name)
            {
                self.set(Origin::Variable(name), &value)?;
            }
        }
        let password = if self.password_file.is_none() { password(lookup)? } else { None };
        if let Some(config) = self.config.clone() {
            let text = fs::read_to_string(&config).map_err(|error| self.origins["config"].invalid(error))?;
            file::read(self, &config, &text)?;
        }
        match &self.password_file {
            Some(path) if password.is_none() => {
                let origin = &self.origins["password_file"];
                let text = fs::read_to_string(path).map_err(|error| origin.invalid(error))?;
                match without_line_end(&text) {
                    "" => Err(origin.invalid("the file is empty; leave this out if no password is needed")),
                    password => Ok(Some(password.to_owned())),
                }
            }
            _ => Ok(password),
        }
    }

    /// Parses a value as that of its flag, and stores it if no earlier source has set it.
    pub(super) fn set(&mut self, origin: Origin, value: &OsStr) -> Result<(), Failure> {
        let name = origin.name();
        let mut flag = OsString::from(format!("{}=", Origin::Flag(name)));
        flag.push(value);
        let invalid = |error: clap::Error| origin.invalid(cause_of(&error));
        let parsed = NODE_FLAGS.clone().try_get_matches_from([flag]).map_err(invalid)?;
        if !self.origins.contains_key(name) {
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

/// Removes the line end that editors and `echo` add to a password, also if a file becomes a variable.
fn without_line_end(password: &str) -> &str {
    password.trim_end_matches(['\r', '\n'])
}
