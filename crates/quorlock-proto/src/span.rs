//! Durations in messages, in the form in which users type them.

use core::fmt;
use core::time::Duration;

/// Displays a duration: `0s` for zero, whole hours, days and years (of 365.25 days), and others as `Duration`
/// does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span(pub Duration);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        if self.0.is_zero() {
            return f.write_str("0s");
        }
        let fits = |(unit, _): &(u64, &str)| self.0.subsec_nanos() == 0 && seconds.is_multiple_of(*unit);
        match UNITS.into_iter().find(fits) {
            Some((unit, name)) => write!(f, "{}{name}", seconds / unit),
            None => write!(f, "{:?}", self.0),
        }
    }
}

const UNITS: [(u64, &str); 3] = [(31_557_600, "y"), (86_400, "d"), (3_600, "h")];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_display_as_they_are_typed() {
        let spans = [
            (Duration::ZERO, "0s"),
            (Duration::from_nanos(1), "1ns"),
            (Duration::from_millis(1500), "1.5s"),
            (Duration::from_secs(60), "60s"),
            (Duration::from_secs(7200), "2h"),
            (Duration::from_millis(7_200_001), "7200.001s"),
            (Duration::from_secs(365 * 86_400), "365d"),
            (Duration::from_secs(31_557_600), "1y"),
        ];
        for (span, shown) in spans {
            assert_eq!(Span(span).to_string(), shown);
        }
    }
}
