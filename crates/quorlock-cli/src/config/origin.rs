//! The source of a setting, for errors. They never show its value, which may be a password.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use crate::exit::{self, Failure};

/// A flag, a variable or a line of the file. Fields have the names of the
/// file; flags and variables derive from them.
#[derive(Clone, Debug)]
pub(crate) enum Origin {
    Flag(&'static str),
    Variable(&'static str),
    Line { file: Arc<Path>, line: usize, field: &'static str },
}

impl Origin {
    /// The name of the setting.
    pub(super) const fn name(&self) -> &'static str {
        match self {
            Self::Flag(name) | Self::Variable(name) | Self::Line { field: name, .. } => name,
        }
    }

    /// Whether both are flags, both are variables, or both are lines of the file.
    pub(super) fn is_same_source(&self, other: &Self) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other)
    }

    /// The error for an invalid value: a usage error if it is from a flag.
    pub(crate) fn invalid(&self, cause: impl fmt::Display) -> Failure {
        let code = if matches!(self, Self::Flag(_)) { exit::USAGE } else { exit::CONFIG };
        Failure::new(code, format!("{self}: {cause}"))
    }

    /// The name of another field in the same source.
    pub(super) fn relative_to_origin(&self, other: &'static str) -> String {
        match self {
            Self::Flag(_) => Self::Flag(other).to_string(),
            Self::Variable(_) => Self::Variable(other).to_string(),
            Self::Line { .. } => other.to_owned(),
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(field) => write!(f, "--{}", field.replace('_', "-")),
            Self::Variable(field) => f.write_str(&variable(field)),
            Self::Line { file, line, field } => write!(f, "{}: line {line}: {field}", file.display()),
        }
    }
}

/// The environment variable of a field.
pub(crate) fn variable(field: &str) -> String {
    format!("QUORLOCK_{}", field.to_uppercase())
}
