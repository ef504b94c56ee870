//! The samples as tables, in Markdown.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use crate::bars;
use crate::chapters::{CHAPTERS, Chapter, Metric};
use crate::chart;
use crate::figure::Figure;
use crate::machine;
use crate::samples::Samples;

/// Writes results.md and the charts, and prints the table of bars.
pub fn write(directory: &Path) {
    let samples = Samples::read(directory);
    let measured = |chapter: &&Chapter| !rows(chapter, &samples).is_empty();
    let mut text = String::from(
        "# What was measured\n\n\
         Written by `make bench`; [benches/README.md](../README.md) says what each line means. Every figure is the \
         median of the rounds, with the smallest and the largest in brackets; a ratio is made within each round. \
         The raw samples are in [samples.tsv](samples.tsv).\n\n",
    );
    text += &machine(directory);
    for chapter in CHAPTERS.iter().filter(measured) {
        write!(text, "\n## {}\n\n{}\n", chapter.title, chapter.text).unwrap();
        for (metric, candidates) in rows(chapter, &samples) {
            text += &table(chapter, metric, &candidates, &samples);
            if let Some(file) = metric.chart {
                chart::draw(&directory.join(file), chapter.workload, metric, &samples);
                write!(text, "\n![{}]({file})\n", metric.title).unwrap();
            }
        }
    }
    let bars = bars(&samples);
    text += &bars;
    fs::write(directory.join("results.md"), text).expect("results.md can be written");
    print!("{bars}");
}

/// The chapter's metrics that were measured, and of whom.
fn rows<'a>(chapter: &Chapter, samples: &'a Samples) -> Vec<(&'static Metric, Vec<&'a str>)> {
    chapter
        .metrics
        .iter()
        .map(|metric| (metric, samples.candidates(chapter.workload, metric.name)))
        .filter(|(_, candidates)| !candidates.is_empty())
        .collect()
}

fn machine(directory: &Path) -> String {
    let mut text = String::from("| where and on what | |\n|---|---|\n");
    for (name, value) in machine::read(directory) {
        writeln!(text, "| {name} | {value} |").unwrap();
    }
    text
}

/// A row per candidate and a column per case; then, the same of ratios.
fn table(chapter: &Chapter, metric: &Metric, candidates: &[&str], samples: &Samples) -> String {
    let cases = samples.cases(chapter.workload, metric.name);
    let of =
        |case: &str, candidate: &str| samples.of(chapter.workload, metric.name, case, candidate);
    let mut text = head(metric.title, &cases);
    for candidate in candidates {
        let cells = cases
            .iter()
            .map(|case| cell(Figure::of(of(case, candidate).into_values()), number));
        text += &row(candidate, cells);
    }
    let Some(ours) = metric.compared else {
        return text;
    };
    text += &head(&format!("The same: {ours} ÷ the other"), &cases);
    for candidate in candidates.iter().filter(|candidate| **candidate != ours) {
        let cells = cases.iter().map(|case| {
            let ratio = Figure::of_ratios(&of(case, ours), &of(case, candidate));
            cell(ratio, ratio_text)
        });
        text += &row(candidate, cells);
    }
    text
}

fn head(title: &str, cases: &[&str]) -> String {
    format!(
        "\n| {title} | {} |\n|---|{}\n",
        cases.join(" | "),
        "---:|".repeat(cases.len())
    )
}

fn row(name: &str, cells: impl Iterator<Item = String>) -> String {
    format!("| {name} | {} |\n", cells.collect::<Vec<_>>().join(" | "))
}

fn bars(samples: &Samples) -> String {
    let mut text = String::from("\n## Bars\n\n| what | bar | measured | |\n|---|---:|---:|---|\n");
    for verdict in bars::verdicts(samples) {
        let word = match (verdict.measured, verdict.met) {
            (None, _) => "",
            (_, true) => "met",
            (_, false) => "**not met**",
        };
        let (what, bound, measured) = (
            verdict.what,
            verdict.bound,
            cell(verdict.measured, ratio_text),
        );
        writeln!(text, "| {what} | {bound} | {measured} | {word} |").unwrap();
    }
    text
}

fn cell(figure: Option<Figure>, write: fn(f64) -> String) -> String {
    match figure {
        None => "–".into(),
        Some(Figure { median, min, max }) if min == max => write(median),
        Some(Figure { median, min, max }) => {
            format!("{} ({}–{})", write(median), write(min), write(max))
        }
    }
}

fn ratio_text(ratio: f64) -> String {
    match ratio {
        0.0 => "0".into(),
        r if r < 0.01 => format!("{r:.4}"),
        r if r < 100.0 => format!("{r:.2}"),
        r => number(r),
    }
}

/// With thousands set apart, and digits behind the point only where they matter.
pub fn number(value: f64) -> String {
    match value.abs() {
        0.0 => return "0".into(),
        v if v < 0.01 => return format!("{value:.4}"),
        v if v < 100.0 => return format!("{value:.2}"),
        _ => {}
    }
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) && !text.ends_with('-') {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}
