//! Percentiles of a histogram, and its curve for a plot, in microseconds.

use hdrhistogram::Histogram;
use serde::Serialize;

use super::recorder::histogram;

/// The percentiles of many times.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Percentiles {
    pub(super) count: u64,
    pub(super) p50_us: f64,
    pub(super) p90_us: f64,
    pub(super) p99_us: f64,
    pub(super) p999_us: f64,
    pub(super) max_us: f64,
}

impl Percentiles {
    /// The percentiles of a histogram of nanoseconds; none if it is empty.
    pub(super) fn of(times: &Histogram<u64>) -> Option<Self> {
        let at = |share: f64| micros(times.value_at_quantile(share));
        (!times.is_empty()).then(|| Self {
            count: times.len(),
            p50_us: at(0.5),
            p90_us: at(0.9),
            p99_us: at(0.99),
            p999_us: at(0.999),
            max_us: micros(times.max()),
        })
    }

    /// The percentiles of a list of nanoseconds; none if it is empty.
    pub(super) fn of_list(times: impl IntoIterator<Item = u64>) -> Option<Self> {
        let mut histogram_of_times = histogram(3);
        times.into_iter().for_each(|time| histogram_of_times.saturating_record(time));
        Self::of(&histogram_of_times)
    }
}

/// Points for a plot: a percentile as its number of nines (0: none, 1: 90 %, 2: 99 %), and its value. The
/// last point is the longest time.
pub(super) fn curve(times: &Histogram<u64>) -> Vec<(f64, f64)> {
    if times.is_empty() {
        return Vec::new();
    }
    let most = (times.len() as f64).log10();
    let steps = (most * STEPS).floor() as u32;
    let at = |nines: f64| (nines, micros(times.value_at_quantile(1.0 - 10_f64.powf(-nines))));
    (0..=steps).map(|step| at(f64::from(step) / STEPS)).chain([(most, micros(times.max()))]).collect()
}

fn micros(nanos: u64) -> f64 {
    round_to_tenths(nanos as f64 / 1e3)
}

/// Microseconds, to a tenth.
pub(super) fn round_to_tenths(us: f64) -> f64 {
    (us * 10.0).round() / 10.0
}

/// A share or a number of times, to a thousandth.
pub(super) fn round_to_thousandths(times: f64) -> f64 {
    (times * 1e3).round() / 1e3
}

/// Microseconds, for people: three digits are more than the noise leaves.
pub(super) fn time_text(us: f64) -> String {
    match us {
        it if it >= 1e7 => format!("{:.1} s", it / 1e6),
        it if it >= 9.995e5 => format!("{:.2} s", it / 1e6),
        it if it >= 99_950.0 => format!("{:.0} ms", it / 1e3),
        it if it >= 9_995.0 => format!("{:.1} ms", it / 1e3),
        it if it >= 100.0 => format!("{:.2} ms", it / 1e3),
        it => format!("{:.3} ms", it / 1e3),
    }
}

/// Points in each factor of ten.
const STEPS: f64 = 12.0;

#[cfg(test)]
mod tests {
    use super::*;

    /// 1 to 10,000 µs, each once.
    fn even() -> Histogram<u64> {
        let mut times = histogram(3);
        (1..=10_000).for_each(|us| times.saturating_record(us * 1_000));
        times
    }

    #[test]
    fn percentiles_match_the_recorded_times_and_the_json() {
        let percentiles = Percentiles::of(&even()).expect("percentiles");
        let close = |got: f64, want: f64| (got - want).abs() <= want * 0.001 + 0.1;
        let all = [
            (percentiles.p50_us, 5_000.0),
            (percentiles.p90_us, 9_000.0),
            (percentiles.p99_us, 9_900.0),
            (percentiles.p999_us, 9_990.0),
            (percentiles.max_us, 10_000.0),
        ];
        assert!(all.iter().all(|(got, want)| close(*got, *want)), "{percentiles:?}");
        let json = serde_json::to_value(percentiles).expect("JSON");
        let names: Vec<&str> = json.as_object().expect("an object").keys().map(String::as_str).collect();
        assert_eq!(names, ["count", "max_us", "p50_us", "p90_us", "p999_us", "p99_us"]);
        assert_eq!((&json["count"], &json["p90_us"]), (&10_000.into(), &percentiles.p90_us.into()));
    }

    #[test]
    fn an_empty_histogram_has_no_percentiles() {
        assert_eq!(Percentiles::of(&histogram(3)), None);
        assert_eq!(serde_json::to_string(&Percentiles::of(&histogram(3))).expect("JSON"), "null");
        assert!(curve(&histogram(3)).is_empty());
    }

    #[test]
    fn a_curve_ends_at_the_longest_time_and_never_falls() {
        let points = curve(&even());
        let (first, last) = (points.first().expect("a point"), points.last().expect("a point"));
        assert!(first.0 == 0.0 && (last.0 - 4.0).abs() < 1e-9, "{points:?}");
        assert!((last.1 - 10_000.0).abs() < 10.0, "{points:?}");
        assert!(points.windows(2).all(|pair| pair[0].0 <= pair[1].0 && pair[0].1 <= pair[1].1), "{points:?}");
        let nine = points.iter().find(|point| (point.0 - 1.0).abs() < 1e-9).expect("nine tenths");
        assert!((nine.1 - 9_000.0).abs() < 9.1, "{nine:?}");
        let one = curve(&{
            let mut one = histogram(3);
            one.saturating_record(7_000);
            one
        });
        assert_eq!(one.iter().map(|point| point.1).collect::<Vec<_>>(), [7.0, 7.0]);
    }

    #[test]
    fn times_have_three_digits_and_one_unit_below_a_second() {
        let shown =
            [7.0, 83.0, 312.4, 999.0, 1_404.0, 14_230.0, 142_300.0, 1_423_000.0, 20_000_000.0].map(time_text);
        let want = [
            "0.007 ms", "0.083 ms", "0.31 ms", "1.00 ms", "1.40 ms", "14.2 ms", "142 ms", "1.42 s", "20.0 s",
        ];
        assert_eq!(shown, want);
    }
}
