//! A metric as a picture: a group of bars per case, a bar per candidate, with the spread of the
//! rounds drawn on it. On white, so that it can be read on a dark page, too.

use std::path::Path;

use plotters::coord::Shift;
use plotters::prelude::*;

use crate::chapters::Metric;
use crate::figure::Figure;
use crate::report::number;
use crate::samples::Samples;

const SIZE: (u32, u32) = (900, 420);
/// Colours that people tell apart who see few of them; softlock's, always the first candidate, first.
const COLOURS: [RGBColor; 8] = [
    RGBColor(0, 114, 178),
    RGBColor(230, 159, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(213, 94, 0),
    RGBColor(240, 228, 66),
    RGBColor(130, 130, 130),
];
/// Of a group's width, what its bars take.
const FILLED: f64 = 0.85;

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

pub fn draw(path: &Path, workload: &str, metric: &Metric, samples: &Samples) {
    let area = SVGBackend::new(path, SIZE).into_drawing_area();
    area.fill(&WHITE).expect("the picture can be drawn");
    try_draw(&area, workload, metric, samples).expect("the picture can be drawn");
    area.present().expect("the picture can be written");
}

fn try_draw(
    area: &Area,
    workload: &str,
    metric: &Metric,
    samples: &Samples,
) -> Result<(), Box<dyn std::error::Error>> {
    let cases = samples.cases(workload, metric.name);
    let candidates = samples.candidates(workload, metric.name);
    let figure = |case: &str, candidate: &str| {
        Figure::of(
            samples
                .of(workload, metric.name, case, candidate)
                .into_values(),
        )
    };
    let top = cases
        .iter()
        .flat_map(|case| candidates.iter().filter_map(|c| figure(case, c)))
        .map(|figure| figure.max)
        .fold(0.0, f64::max);

    let mut chart = ChartBuilder::on(area)
        .caption(metric.title, ("sans-serif", 20))
        .margin(12)
        .x_label_area_size(30)
        .y_label_area_size(70)
        .build_cartesian_2d(0.0..cases.len() as f64, 0.0..top * 1.25)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .disable_x_axis()
        .light_line_style(TRANSPARENT)
        .bold_line_style(BLACK.mix(0.15))
        .y_label_formatter(&|value| number(*value))
        .label_style(("sans-serif", 13))
        .draw()?;

    let width = FILLED / candidates.len() as f64;
    for (place, candidate) in candidates.iter().enumerate() {
        let colour = COLOURS[place % COLOURS.len()];
        let bars = cases.iter().enumerate().filter_map(|(group, case)| {
            let left = group as f64 + (1.0 - FILLED) / 2.0 + place as f64 * width;
            Some((left, figure(case, candidate)?))
        });
        let bars: Vec<(f64, Figure)> = bars.collect();
        chart
            .draw_series(bars.iter().map(|(left, figure)| {
                let corners = [(*left, 0.0), (left + width * 0.92, figure.median)];
                Rectangle::new(corners, colour.filled())
            }))?
            .label(*candidate)
            .legend(move |(x, y)| Rectangle::new([(x, y - 5), (x + 12, y + 5)], colour.filled()));
        chart.draw_series(bars.iter().map(|(left, figure)| {
            let middle = left + width * 0.46;
            PathElement::new(vec![(middle, figure.min), (middle, figure.max)], BLACK)
        }))?;
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.85))
        .border_style(BLACK.mix(0.3))
        .label_font(("sans-serif", 13))
        .draw()?;
    under_groups(area, &chart, &cases)
}

/// The names of the cases, each under the middle of its group.
fn under_groups(
    area: &Area,
    chart: &ChartContext<
        SVGBackend,
        Cartesian2d<plotters::coord::types::RangedCoordf64, plotters::coord::types::RangedCoordf64>,
    >,
    cases: &[&str],
) -> Result<(), Box<dyn std::error::Error>> {
    use plotters::style::text_anchor::{HPos, Pos, VPos};
    let style =
        TextStyle::from(("sans-serif", 14).into_font()).pos(Pos::new(HPos::Center, VPos::Top));
    for (group, case) in cases.iter().enumerate() {
        let (x, y) = chart.backend_coord(&(group as f64 + 0.5, 0.0));
        area.draw(&Text::new(*case, (x, y + 8), style.clone()))?;
    }
    Ok(())
}
