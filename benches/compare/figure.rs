//! What many rounds say together: the median, and how far they spread.

use std::collections::BTreeMap;

#[derive(Clone, Copy)]
pub struct Figure {
    pub median: f64,
    pub min: f64,
    pub max: f64,
}

impl Figure {
    /// `None` when nothing was measured.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Figure> {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        Some(Figure {
            median: median(&values)?,
            min: *values.first()?,
            max: *values.last()?,
        })
    }

    /// Ratios of what was measured in the same round, so that what slows a whole round down drops out.
    pub fn of_ratios(ours: &BTreeMap<usize, f64>, theirs: &BTreeMap<usize, f64>) -> Option<Figure> {
        Figure::of(
            ours.iter()
                .filter_map(|(round, value)| Some(value / theirs.get(round)?)),
        )
    }
}

fn median(sorted: &[f64]) -> Option<f64> {
    let middle = sorted.len() / 2;
    Some(match sorted.len() {
        0 => return None,
        n if n % 2 == 1 => sorted[middle],
        _ => (sorted[middle - 1] + sorted[middle]) / 2.0,
    })
}

/// The value that a share of all values, as 0.99, does not exceed.
pub fn percentile(mut values: Vec<f64>, share: f64) -> f64 {
    assert!(!values.is_empty(), "a percentile of nothing");
    values.sort_by(f64::total_cmp);
    let rank = (values.len() as f64 * share).ceil() as usize;
    values[rank.clamp(1, values.len()) - 1]
}
