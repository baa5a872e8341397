//! Numbers, and what they come to.

/// Their median, and the lowest and highest.
#[must_use]
pub fn cell(figures: &[f64]) -> String {
    if figures.is_empty() {
        return "-".to_owned();
    }
    let (low, high) = (percentile(figures.to_vec(), 0.0), percentile(figures.to_vec(), 1.0));
    let middle = short(median(figures.to_vec()));
    if figures.len() == 1 { middle } else { format!("{middle} ({}-{})", short(low), short(high)) }
}

/// Three digits are more than the noise leaves.
#[must_use]
pub fn short(figure: f64) -> String {
    match figure.abs() {
        size if size.is_nan() => "error".to_owned(),
        size if size.is_infinite() => "∞".to_owned(),
        size if size >= 100.0 || size == 0.0 => format!("{figure:.0}"),
        size if size >= 10.0 => format!("{figure:.1}"),
        _ => format!("{figure:.2}"),
    }
}

/// The middle one; not a number if there is none.
#[must_use]
pub fn median(figures: Vec<f64>) -> f64 {
    percentile(figures, 0.5)
}

/// The figure at this share of the sorted list; not a number if there is none.
#[must_use]
pub fn percentile(mut figures: Vec<f64>, share: f64) -> f64 {
    figures.sort_by(f64::total_cmp);
    let last = figures.len().saturating_sub(1) as f64;
    figures.get((last * share).round() as usize).copied().unwrap_or(f64::NAN)
}
