//! Durations for serde: whole units, which the name of the field states, as in `remaining_ms`.

use core::time::Duration;

use serde::{Serialize, Serializer};

/// Writes milliseconds.
///
/// # Errors
///
/// Those of the serializer.
pub fn millis<S: Serializer>(span: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    (span.as_millis() as u64).serialize(serializer)
}

/// Writes milliseconds, or nothing.
///
/// # Errors
///
/// Those of the serializer.
pub fn optional_millis<S: Serializer>(span: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    span.map(|span| span.as_millis() as u64).serialize(serializer)
}

/// Writes microseconds, or nothing.
///
/// # Errors
///
/// Those of the serializer.
pub fn optional_micros<S: Serializer>(span: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    span.map(|span| span.as_micros() as u64).serialize(serializer)
}
