//! What a sweep answers, and adopting a table.

use crate::adopted::{self, Declaration};
use crate::pg::{Json, Object, Part};
use crate::text::Text;
use crate::verbs::sweep::Report;

/// What a sweep did.
pub fn swept(report: &Report, adopted: &[adopted::Report]) -> Json {
    let lapsed = &report.lapsed;
    let names = lapsed.listed.iter().map(|(resource, _)| resource.into());
    Object::default()
        .with("released_count", lapsed.count as i64)
        .with("affected", Part::array(names))
        .with(
            "affected_truncated",
            lapsed.count > lapsed.listed.len() as u64,
        )
        .with("timestamp", report.started)
        .with(
            "duration_ms",
            (report.duration_ms * 1000.0).round() / 1000.0,
        )
        .with("adopted", Part::array(adopted.iter().map(swept_table)))
        .into()
}

/// What a sweep did to an adopted table.
fn swept_table(report: &adopted::Report) -> Part<'_> {
    let named = report.listed.iter().filter_map(|(label, _)| label.as_ref());
    let labels: Vec<_> = named.collect();
    let answer = Object::default()
        .with("table", &report.table)
        .with("released_count", report.released as i64)
        .with("affected_truncated", report.released > labels.len() as u64)
        .with("affected", Part::array(labels.into_iter().map(Into::into)));
    match &report.error {
        Some(error) => answer.with("error", error).into(),
        None => answer.into(),
    }
}

/// A table is to be swept from now on.
pub fn adopted(table: &Text, declaration: &Declaration, is_new: bool, indexed: bool) -> Json {
    let Declaration {
        expires,
        clears,
        condition,
        label,
        time_zone,
    } = declaration;
    Object::default()
        .with("adopted", true)
        .with("outcome", if is_new { "adopted" } else { "changed" })
        .with("table", table)
        .with("expires_column", expires)
        .with("clears", Part::array(clears.iter().map(Into::into)))
        .with("condition", condition.as_ref())
        .with("label", label.as_ref())
        .with("time_zone", time_zone.as_ref())
        .with("indexed", indexed)
        .into()
}

/// A table is not to be swept, and whether it was.
pub fn disowned(table: &Text, was_adopted: bool) -> Json {
    Object::default()
        .with("disowned", was_adopted)
        .with("table", table)
        .into()
}
