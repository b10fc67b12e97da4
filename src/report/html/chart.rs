//! Charts: requests over time against the limit, and jobs by state as one bar.
//!
//! plotters draws with fixed colours, and the style sheet of the page replaces them by those of the reader's
//! colour scheme. Narrow screens get a separate chart, because text scales with an image. Each chart has a
//! text alternative.

use std::ops::Range;

use maud::{Markup, PreEscaped, html};
use plotters::coord::Shift;
use plotters::prelude::*;

use super::format::{counted, length, moment, number, per_second, rate};
use crate::queue::{Bucket, QueueCounts, RequestTimeline};

/// `page.css` selects elements by these values.
mod colour {
    use plotters::style::RGBColor;

    pub(super) const GOOD: RGBColor = RGBColor(0x1a, 0x7f, 0x37);
    pub(super) const BAD: RGBColor = RGBColor(0xb3, 0x26, 0x1e);
    pub(super) const SLOW: RGBColor = RGBColor(0xbf, 0x87, 0x00);
    pub(super) const GOING: RGBColor = RGBColor(0x0b, 0x5c, 0xad);
    pub(super) const IDLE: RGBColor = RGBColor(0xc3, 0xc9, 0xd0);
    pub(super) const GRID: RGBColor = RGBColor(0xe4, 0xe7, 0xea);
    pub(super) const INK: RGBColor = RGBColor(0x57, 0x60, 0x6a);
}

/// Width and height of the chart on a wide screen, in SVG units.
const WIDE: (u32, u32) = (880, 250);
/// Width and height on a narrow screen.
const NARROW: (u32, u32) = (380, 240);
/// Width and height of the bar of jobs.
const STRIP: (u32, u32) = (880, 12);

/// The font size, in SVG units.
const TEXT: i32 = 15;

/// The width of a bar, as a share of its interval.
const BAR_WIDTH: f64 = 0.84;

/// The unit of the time axis: its name and its length in milliseconds.
type Unit = (&'static str, f64);

type Drawn = Result<(), Box<dyn std::error::Error>>;
type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// The SVG that `draw` makes. If drawing fails, the text alternative replaces it.
fn svg(size: (u32, u32), class: &str, text: &str, draw: impl FnOnce(&Area<'_>) -> Drawn) -> Markup {
    let mut drawing = String::new();
    {
        let area = SVGBackend::with_string(&mut drawing, size).into_drawing_area();
        if draw(&area).and_then(|()| Ok(area.present()?)).is_err() {
            return html! { p { (text) } };
        }
    }
    // Replaces the outer element by one with a label that fills the available width.
    let inner = drawing.split_once('>').map_or("", |(_, rest)| rest);
    let inner = inner.trim_end().trim_end_matches("</svg>");
    let (width, height) = size;
    let stretched = size == STRIP;
    html! {
        svg class=(class) role="img" aria-label=(text) viewBox=(format!("0 0 {width} {height}"))
            preserveAspectRatio=[stretched.then_some("none")] { (PreEscaped(inner)) }
    }
}

/// Requests over time; empty for a queue without requests.
pub(super) fn requests(traffic: &RequestTimeline, limit: f64) -> Markup {
    let (Some(first), Some(last)) = (traffic.buckets.first(), traffic.buckets.last()) else {
        return html! {};
    };
    let span_ms = last.at_ms + traffic.bucket_ms - first.at_ms;
    let text = requests_text(traffic, first, span_ms, limit);
    let draw = |size, class| {
        svg(size, class, &text, |area| draw_requests(area, traffic, first.at_ms, span_ms, limit))
    };
    html! {
        figure {
            (draw(WIDE, "chart wide"))
            (draw(NARROW, "chart narrow"))
            figcaption {
                ul.legend {
                    li.going { "applied or rejected" }
                    li.slow { "throttled" }
                    li.bad { "no valid response" }
                    li.limit { "limit, " (rate(limit)) " per second" }
                }
            }
        }
    }
}

fn requests_text(traffic: &RequestTimeline, first: &Bucket, span_ms: i64, limit: f64) -> String {
    let sent: u64 = traffic.buckets.iter().map(|bucket| bucket.requests.total).sum();
    let most = traffic.buckets.iter().map(|bucket| bucket.requests.total).max().unwrap_or_default();
    let slow: u64 = traffic.buckets.iter().map(|bucket| bucket.requests.throttled).sum();
    format!(
        "Requests per second over {} from {} UTC: {} in total, at most {} per second in any {}, limit {}; {} throttled.",
        length(span_ms),
        moment(first.at_ms),
        number(sent),
        rate(per_second(most, traffic.bucket_ms)),
        length(traffic.bucket_ms),
        rate(limit),
        number(slow),
    )
}

/// The largest unit that fits twice into the span.
fn unit(span_ms: i64) -> Unit {
    let units = [("days", 86_400_000.0), ("hours", 3_600_000.0), ("minutes", 60_000.0)];
    let fits = |(_, ms): &Unit| real(span_ms) >= 2.0 * ms;
    units.into_iter().find(fits).unwrap_or(("seconds", 1_000.0))
}

fn draw_requests(
    area: &Area<'_>,
    traffic: &RequestTimeline,
    from_ms: i64,
    span_ms: i64,
    limit: f64,
) -> Drawn {
    let (unit_name, unit_ms) = unit(span_ms);
    let bucket = real(traffic.bucket_ms);
    let sent = |bucket: &Bucket| per_second(bucket.requests.total, traffic.bucket_ms);
    let most = traffic.buckets.iter().map(sent).fold(limit, f64::max);
    let x = 0.0..real(span_ms) / unit_ms;
    let mut chart = ChartBuilder::on(area)
        .margin_top(10)
        .margin_right(14)
        .x_label_area_size(42)
        .y_label_area_size(38)
        .build_cartesian_2d(x.clone(), 0.0..most * 1.12)?;
    let small = TextStyle::from(("sans-serif", TEXT)).color(&colour::INK);
    chart
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(colour::GRID)
        .axis_style(colour::GRID)
        .x_labels(7)
        .y_labels(5)
        .x_label_style(small.clone())
        .y_label_style(small.clone())
        .x_label_formatter(&|at| trimmed(*at))
        .y_label_formatter(&|at| trimmed(*at))
        .x_desc(format!("{unit_name} from {} UTC", moment(from_ms)))
        .axis_desc_style(small)
        .draw()?;
    for (at, stretch) in traffic.buckets.iter().enumerate() {
        let from = real(i64::try_from(at)?) * bucket / unit_ms;
        let to = from + bucket * BAR_WIDTH / unit_ms;
        let mut foot = 0.0;
        for (count, colour) in parts(stretch) {
            let top = foot + per_second(count, traffic.bucket_ms);
            if count > 0 {
                let bar = [(from, foot), (to, top)];
                chart.draw_series([Rectangle::new(bar, colour.filled())])?;
            }
            foot = top;
        }
    }
    let line = [(x.start, limit), (x.end, limit)];
    chart.draw_series(DashedLineSeries::new(line, 6, 4, colour::INK.stroke_width(1)))?;
    Ok(())
}

/// The parts of a bar from bottom to top: count and colour.
fn parts(bucket: &Bucket) -> [(u64, RGBColor); 4] {
    let sent = &bucket.requests;
    [
        (sent.applied + sent.rejected, colour::GOING),
        (sent.throttled, colour::SLOW),
        (sent.transient + sent.refused + sent.orphaned, colour::BAD),
        (sent.in_flight, colour::IDLE),
    ]
}

/// All jobs as one bar, divided by state.
pub(super) fn strip(counts: &QueueCounts) -> Markup {
    let total = counts.total();
    if total == 0 {
        return html! {};
    }
    let parts = [
        (counts.succeeded, colour::GOOD, "succeeded"),
        (counts.failed, colour::BAD, "failed"),
        (counts.in_flight, colour::GOING, "in flight"),
        (counts.cancelled + counts.superseded, colour::INK, "cancelled or superseded"),
        (counts.pending, colour::IDLE, "pending"),
    ];
    let named: Vec<String> = parts
        .iter()
        .filter(|(jobs, ..)| *jobs > 0)
        .map(|(jobs, _, name)| format!("{} {name}", number(*jobs)))
        .collect();
    let text = format!("{}: {}", counted(total, "question", "questions"), named.join(", "));
    svg(STRIP, "strip", &text, |area| {
        // A minimum width keeps small parts visible.
        let widths = parts.map(|(jobs, ..)| match jobs {
            0 => 0.0,
            jobs => share(jobs, total).max(0.006),
        });
        let all: f64 = widths.iter().sum();
        let mut chart = ChartBuilder::on(area).build_cartesian_2d(0.0..all, 0.0..1.0)?;
        let mut from = 0.0;
        for (width, (_, colour, _)) in widths.into_iter().zip(parts) {
            let Range { start, end } = from..from + width;
            if width > 0.0 {
                let part = Rectangle::new([(start, 0.0), (end, 1.0)], colour.filled());
                chart.draw_series([part])?;
            }
            from = end;
        }
        Ok(())
    })
}

#[allow(clippy::cast_precision_loss, reason = "a share to look at")]
fn share(part: u64, whole: u64) -> f64 {
    part as f64 / whole.max(1) as f64
}

#[allow(clippy::cast_precision_loss, reason = "places in a drawing")]
fn real(ms: i64) -> f64 {
    ms as f64
}

/// `5`, `2.5`.
fn trimmed(value: f64) -> String {
    let text = format!("{value:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}
