//! Settings in environment variables.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use super::origin::{Found, Origin, variable};
use crate::exit::Failure;

/// Environment variables, read by a lookup function.
#[derive(Clone, Copy)]
pub(super) struct Environment<'a>(pub(super) &'a dyn Fn(&str) -> Option<OsString>);

impl Environment<'_> {
    pub(super) fn text(self, field: &'static str) -> Result<Option<Found<String>>, Failure> {
        let origin = Origin::Variable(field);
        match self.set(field).map(OsString::into_string) {
            None => Ok(None),
            Some(Ok(value)) => Ok(Some(origin.found(value))),
            Some(Err(_)) => Err(origin.invalid("not valid UTF-8")),
        }
    }

    pub(super) fn parse<T>(
        self,
        field: &'static str,
        parse: impl FnOnce(&str) -> Result<T, &'static str>,
    ) -> Result<Option<Found<T>>, Failure> {
        let Some(Found { value, origin }) = self.text(field)? else { return Ok(None) };
        let value = parse(&value).map_err(|cause| origin.invalid(cause))?;
        Ok(Some(origin.found(value)))
    }

    pub(super) fn path(self, field: &'static str) -> Option<Found<PathBuf>> {
        Some(Origin::Variable(field).found(self.set(field)?.into()))
    }

    /// The variable's value. Empty or blank counts as unset, because compose files and Kubernetes manifests
    /// set missing values so. Only a password and a prefix may be blanks.
    fn set(self, field: &'static str) -> Option<OsString> {
        let is_unset = |value: &OsStr| {
            let bytes = value.as_encoded_bytes();
            let is_blank = bytes.iter().all(u8::is_ascii_whitespace);
            bytes.is_empty() || is_blank && !BLANKS_ALLOWED.contains(&field)
        };
        (self.0)(&variable(field)).filter(|value| !is_unset(value))
    }
}

const BLANKS_ALLOWED: [&str; 2] = ["password", "key_prefix"];
