//! Statistics of measured values, and their form in a table.

/// The median, with the lowest and highest value in brackets.
#[must_use]
pub fn cell(values: &[f64]) -> String {
    if values.is_empty() {
        return "-".to_owned();
    }
    let (low, high) = (percentile(values.to_vec(), 0.0), percentile(values.to_vec(), 1.0));
    let middle = short(median(values.to_vec()));
    if values.len() == 1 { middle } else { format!("{middle} ({}-{})", short(low), short(high)) }
}

/// The value with three digits: the rest is noise.
#[must_use]
pub fn short(value: f64) -> String {
    match value.abs() {
        size if size.is_nan() => "error".to_owned(),
        size if size.is_infinite() => "∞".to_owned(),
        size if size >= 100.0 || size == 0.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// The middle value; NaN if there is none.
#[must_use]
pub fn median(values: Vec<f64>) -> f64 {
    percentile(values, 0.5)
}

/// The value at this share of the sorted list; NaN if there is none.
#[must_use]
pub fn percentile(mut values: Vec<f64>, share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let last = values.len().saturating_sub(1) as f64;
    values.get((last * share).round() as usize).copied().unwrap_or(f64::NAN)
}
