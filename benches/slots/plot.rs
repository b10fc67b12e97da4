//! Charts of the tables: SVG, drawn by plotters.

use std::error::Error;
use std::fs;
use std::ops::Range;
use std::path::Path;

use plotters::prelude::*;

use crate::simulated_service::Rule;
use crate::tables::{JITTERS_MS, PaceRow, SearchPoints};

const SIZE: (u32, u32) = (760, 420);
const COLOURS: [RGBColor; 4] =
    [RGBColor(0, 90, 181), RGBColor(220, 50, 32), RGBColor(230, 159, 0), RGBColor(90, 90, 90)];

/// A line: its name and its points.
type Line = (String, Vec<(f64, f64)>);

/// The share of the limit that each client uses, by arrival jitter.
pub fn pace(folder: &Path, rows: &[PaceRow]) -> Result<(), Box<dyn Error>> {
    let lines: Vec<Line> = rows
        .iter()
        .filter(|row| row.rule == Rule::Sliding)
        .map(|row| {
            let shares = row.cells.iter().map(|(share, _)| *share);
            (row.pace.to_owned(), JITTERS_MS.into_iter().zip(shares).collect())
        })
        .collect();
    let words = Words {
        file: "pace.svg",
        title: "Share of 5 requests per second that is used (sliding second)",
        x: "arrival jitter (standard deviation), in ms",
        y: "share of the limit",
        legend: SeriesLabelPosition::LowerLeft,
    };
    draw(folder, &words, 0.0..50.0, 0.3..1.0, &lines)
}

/// The cost of bad ids, by their number and placement.
pub fn search(folder: &Path, points: &SearchPoints) -> Result<(), Box<dyn Error>> {
    let lines: Vec<Line> = [(1, "anywhere"), (3, "in blocks of 3"), (10, "of 10"), (30, "of 30")]
        .into_iter()
        .map(|(stretch, name)| {
            let of_stretch = points.iter().filter(|(of, ..)| *of == stretch);
            let line = of_stretch.map(|(_, bad, requests)| (real(*bad), real(*requests)));
            (name.to_owned(), line.collect())
        })
        .collect();
    let words = Words {
        file: "search.svg",
        title: "Requests to settle 10,000 ids, 100 per request",
        x: "bad ids among them",
        y: "requests (300 per minute)",
        legend: SeriesLabelPosition::UpperLeft,
    };
    draw(folder, &words, 0.0..1_000.0, 0.0..5_000.0, &lines)
}

struct Words {
    file: &'static str,
    title: &'static str,
    x: &'static str,
    y: &'static str,
    legend: SeriesLabelPosition,
}

fn draw(
    folder: &Path,
    words: &Words,
    x: Range<f64>,
    y: Range<f64>,
    lines: &[Line],
) -> Result<(), Box<dyn Error>> {
    fs::create_dir_all(folder)?;
    let path = folder.join(words.file);
    let area = SVGBackend::new(&path, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .caption(words.title, ("sans-serif", 18))
        .margin(12)
        .margin_right(28)
        .x_label_area_size(44)
        .y_label_area_size(60)
        .build_cartesian_2d(x, y)?;
    chart
        .configure_mesh()
        .x_desc(words.x)
        .y_desc(words.y)
        .x_label_formatter(&ToString::to_string)
        .y_label_formatter(&|y| format!("{}", (y * 10.0).round() / 10.0))
        .light_line_style(WHITE)
        .draw()?;
    for ((name, points), colour) in lines.iter().zip(COLOURS) {
        chart
            .draw_series(LineSeries::new(points.iter().copied(), colour.stroke_width(2)))?
            .label(name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2)));
    }
    chart
        .configure_series_labels()
        .position(words.legend.clone())
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK.mix(0.3))
        .draw()?;
    area.present()?;
    Ok(())
}

#[allow(clippy::cast_precision_loss, reason = "small counts")]
fn real(n: usize) -> f64 {
    n as f64
}
