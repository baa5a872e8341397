//! Serializes times of a node status.

use std::time::SystemTime;

use super::LeaseDeadline;

/// Writes how much longer it takes, because few readers of JSON know this host's boot clock.
pub(super) fn remaining_millis<S: serde::Serializer>(
    until: &LeaseDeadline,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    quorlock_proto::serialize_duration::millis(&until.remaining_on_boot_clock(), serializer)
}

#[expect(clippy::ref_option, reason = "serde passes a reference to the field")]
pub(super) fn optional_remaining_millis<S: serde::Serializer>(
    until: &Option<LeaseDeadline>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let remaining = until.map(LeaseDeadline::remaining_on_boot_clock);
    quorlock_proto::serialize_duration::optional_millis(&remaining, serializer)
}

#[expect(clippy::ref_option, reason = "serde passes a reference to the field")]
pub(super) fn unix_seconds<S: serde::Serializer>(
    time: &Option<SystemTime>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let since = time.and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok());
    serde::Serialize::serialize(&since.map(|since| since.as_secs()), serializer)
}
