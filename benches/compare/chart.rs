//! A metric as a picture: a group of bars per case, a bar per candidate, with the spread of the
//! rounds drawn on it. On white, so that it can be read on a dark page, too.

use std::error::Error;
use std::path::Path;

use plotters::coord::Shift;
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::chapters::Metric;
use crate::figure::Figure;
use crate::report::number;
use crate::samples::Samples;

const SIZE: (u32, u32) = (960, 400);
/// What the names of the candidates take, on the right.
const LEGEND: u32 = 200;
/// A line of text.
const LINE: i32 = 17;
/// Of a group's width, what its bars take; of a bar's width, what is filled.
const GROUP_FILLED: f64 = 0.85;
const BAR_FILLED: f64 = 0.92;
/// Colours that people tell apart who see few of them.
const COLOURS: [RGBColor; 9] = [
    RGBColor(0, 114, 178),
    RGBColor(230, 159, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(213, 94, 0),
    RGBColor(240, 228, 66),
    RGBColor(130, 130, 130),
    RGBColor(0, 0, 0),
];

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Chart<'a> = ChartContext<'a, SVGBackend<'a>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;
type Drawn = Result<(), Box<dyn Error>>;

/// What is drawn: the figures of a candidate, one for each case.
struct Series<'a> {
    candidate: &'a str,
    figures: Vec<Option<Figure>>,
}

pub fn draw(path: &Path, workload: &str, metric: &Metric, samples: &Samples) {
    let cases = samples.cases(workload, metric.name);
    let series: Vec<Series> = samples
        .candidates(workload, metric.name)
        .into_iter()
        .filter(|candidate| !metric.not_drawn.contains(candidate))
        .map(|candidate| Series {
            candidate,
            figures: cases
                .iter()
                .map(|case| samples.of(workload, metric.name, case, candidate))
                .map(|rounds| Figure::of(rounds.into_values()))
                .collect(),
        })
        .collect();
    try_draw(path, metric.title, &cases, &series).expect("the picture can be drawn");
}

fn try_draw(path: &Path, title: &str, cases: &[&str], series: &[Series]) -> Drawn {
    let area = SVGBackend::new(path, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let (left, right) = area.split_horizontally(SIZE.0 - LEGEND);
    let figures = series
        .iter()
        .flat_map(|series| series.figures.iter().flatten());
    let top = figures.map(|figure| figure.max).fold(0.0, f64::max);
    let lines = cases.iter().map(|case| case.split(' ').count()).max();

    let mut chart = ChartBuilder::on(&left)
        .caption(title, ("sans-serif", 20))
        .margin(12)
        .x_label_area_size(LINE * lines.unwrap_or(1) as i32 + 8)
        .y_label_area_size(70)
        .build_cartesian_2d(0.0..cases.len() as f64, 0.0..top * 1.05)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .disable_x_axis()
        .light_line_style(TRANSPARENT)
        .bold_line_style(BLACK.mix(0.15))
        .y_label_formatter(&|value| number(*value))
        .label_style(("sans-serif", 13))
        .draw()?;
    bars(&mut chart, series)?;
    name_groups(&left, &chart, cases)?;
    name_colours(&right, series)?;
    area.present()?;
    Ok(())
}

fn bars(chart: &mut Chart, series: &[Series]) -> Drawn {
    let width = GROUP_FILLED / series.len() as f64;
    for (place, (series, colour)) in series.iter().zip(COLOURS).enumerate() {
        for (group, figure) in series.figures.iter().enumerate() {
            let Some(Figure { median, min, max }) = *figure else {
                continue;
            };
            let left = group as f64 + (1.0 - GROUP_FILLED) / 2.0 + place as f64 * width;
            let right = left + width * BAR_FILLED;
            let middle = (left + right) / 2.0;
            let bar = Rectangle::new([(left, 0.0), (right, median)], colour.filled());
            let spread = PathElement::new([(middle, min), (middle, max)], BLACK);
            chart.draw_series([bar])?;
            chart.draw_series([spread])?;
        }
    }
    Ok(())
}

/// The names of the cases, a word a line, each under the middle of its group.
fn name_groups(area: &Area, chart: &Chart, cases: &[&str]) -> Drawn {
    let style = TextStyle::from(("sans-serif", 13)).pos(Pos::new(HPos::Center, VPos::Top));
    for (group, case) in cases.iter().enumerate() {
        let (x, y) = chart.backend_coord(&(group as f64 + 0.5, 0.0));
        for (line, word) in (0..).zip(case.split(' ')) {
            area.draw(&Text::new(word, (x, y + 6 + line * LINE), style.clone()))?;
        }
    }
    Ok(())
}

fn name_colours(area: &Area, series: &[Series]) -> Drawn {
    let style = TextStyle::from(("sans-serif", 13)).pos(Pos::new(HPos::Left, VPos::Center));
    for (line, (series, colour)) in (0..).zip(series.iter().zip(COLOURS)) {
        let y = 60 + line * (LINE + 5);
        area.draw(&Rectangle::new([(4, y - 6), (16, y + 6)], colour.filled()))?;
        area.draw(&Text::new(series.candidate, (24, y), style.clone()))?;
    }
    Ok(())
}
