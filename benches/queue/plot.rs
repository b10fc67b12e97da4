//! A chart of how each cost grows: seconds by rows, both on logarithmic axes.

use std::error::Error;
use std::fs;
use std::path::Path;

use plotters::prelude::*;

use crate::measure::Points;

const SIZE: (u32, u32) = (860, 560);

/// Colours that people with colour blindness can distinguish.
const COLOURS: [RGBColor; 7] = [
    RGBColor(0, 90, 181),
    RGBColor(220, 50, 32),
    RGBColor(230, 159, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(90, 90, 90),
];

/// Draws `queue.svg`.
pub fn costs(folder: &Path, points: &Points) -> Result<(), Box<dyn Error>> {
    if points.is_empty() {
        return Err("none of these sections grows with rows".into());
    }
    fs::create_dir_all(folder)?;
    let path = folder.join("queue.svg");
    let (rows, seconds): (Vec<f64>, Vec<f64>) = points.values().flatten().copied().unzip();
    // The free space on the right is for the names.
    let x = least(&rows)..most(&rows) * (most(&rows) / least(&rows)).max(10.0).powf(0.45);
    let y = power_below(least(&seconds))..most(&seconds) * 2.0;
    let area = SVGBackend::new(&path, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .caption("Time by the number of rows in a queue", ("sans-serif", 18))
        .margin(12)
        .margin_right(28)
        .x_label_area_size(44)
        .y_label_area_size(60)
        .build_cartesian_2d(x.log_scale(), y.log_scale())?;
    chart
        .configure_mesh()
        .x_desc("rows")
        .y_desc("seconds")
        .x_label_formatter(&|rows| power_text(*rows))
        .y_label_formatter(&ToString::to_string)
        .light_line_style(WHITE)
        .draw()?;
    let mut lines: Vec<_> = points.iter().collect();
    let last = |points: &[(f64, f64)]| points.last().map_or(0.0, |point| point.1);
    lines.sort_by(|one, other| last(other.1).total_cmp(&last(one.1)));
    for (at, (name, points)) in lines.into_iter().enumerate() {
        let colour = COLOURS[at % COLOURS.len()];
        // Lines that reuse a colour are thin.
        let style = colour.stroke_width(if at < COLOURS.len() { 3 } else { 1 });
        chart
            .draw_series(LineSeries::new(points.iter().copied(), style).point_size(3))?
            .label(*name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], style));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::MiddleRight)
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK.mix(0.3))
        .draw()?;
    area.present()?;
    Ok(())
}

/// A power of ten as a number; an empty text for other values.
fn power_text(value: f64) -> String {
    let is_power = (value.log10() - value.log10().round()).abs() < 1e-9;
    if is_power { format!("{value:.0}") } else { String::new() }
}

/// The greatest power of ten that is at most `value`.
fn power_below(value: f64) -> f64 {
    10.0_f64.powf(value.log10().floor())
}

fn least(values: &[f64]) -> f64 {
    values.iter().copied().fold(f64::INFINITY, f64::min)
}

fn most(values: &[f64]) -> f64 {
    values.iter().copied().fold(0.0, f64::max)
}
