//! The lower half of the page: failed questions, batches, runs, learned limits, settings and footer.

use std::path::Path;

use maud::{Markup, html};

use super::format::{counted, figure, figures, length, number, per_second, rate, time};
use super::overview::run_state;
use crate::queue::{AppChunkSize, AppRate, BatchStats, Record, RunStats, Truncated};
use crate::report::page_data::{PageData, PageInfo};
use crate::util::escape::visible;

/// The queue file without its folder, or the batch of the page.
pub(super) fn scope(info: &PageInfo) -> String {
    let name = Path::new(&info.database).file_name().and_then(|name| name.to_str());
    let queue = visible(name.unwrap_or(&info.database));
    info.batch.map_or_else(|| queue.to_string(), |batch| format!("batch {batch} of {queue}"))
}

/// The search field for failed questions. It is hidden until the script shows it, because it needs the
/// script.
pub(super) fn search() -> Markup {
    html! {
        div #search hidden {
            label for="filter" { "Find" }
            input #filter type="search" autocomplete="off" spellcheck="false"
                placeholder="id, status or error code";
            output #filtered for="filter" aria-live="polite" {}
        }
    }
}

/// The failed questions.
pub(super) fn failed(data: &PageData, info: &PageInfo) -> Markup {
    let total = data.overview.counts().failed;
    let listed = data.failed.len() as u64;
    html! {
        div #failed {
            @if total == 0 { p { "None." } } @else {
                p {
                    @if listed < total {
                        "The first " (number(listed)) " of " (number(total)) ". Export all as CSV: "
                    } @else {
                        (counted(total, "question", "questions")) ". Export as a manifest to correct and import: "
                    }
                    code {
                        "deskbatch report --state failed"
                        @if let Some(batch) = info.batch { " --batch " (batch) }
                        " -o failed.csv" (visible(&info.flags))
                    }
                }
                div.scroll #failed-scroll tabindex="0" role="group" aria-labelledby="failed-title" {
                    table.failed {
                        thead { tr {
                            th scope="col" { "Question id" } th scope="col" { "Target status" }
                            th.n scope="col" { "Error code" } th scope="col" { "Message of the service" }
                            th.n scope="col" { "Attempts" } th scope="col" { "Batch" } th.n scope="col" { "Row" }
                        } }
                        tbody { @for record in &data.failed { (question(record)) } }
                    }
                }
            }
        }
    }
}

fn question(record: &Record) -> Markup {
    html! {
        tr {
            th.id scope="row" { (visible(&record.question_id)) }
            td data-label="Target status" { (record.status) }
            td.n data-label="Error code" { @if let Some(code) = record.error_code { (code) } }
            td.said data-label="Message" { @if let Some(info) = &record.error_info { (visible(info)) } }
            td.n data-label="Attempts" { (figure(record.attempts)) @if record.in_doubt { span.quiet { " in doubt" } } }
            td data-label="Batch" { (visible(&record.batch)) }
            td.n data-label="Row" { (figure(record.line)) }
        }
    }
}

/// The number of rows that a truncated list omits.
fn older<T>(list: &Truncated<T>, one: &str, many: &str) -> Markup {
    let more = list.total.saturating_sub(list.rows.len() as u64);
    html! { @if more > 0 { p.note { (counted(more, one, many)) " not shown." } } }
}

/// The table of batches.
pub(super) fn batches(data: &PageData) -> Markup {
    let batches = &data.overview.batches;
    if batches.rows.is_empty() {
        return html! { section #batches hidden {} };
    }
    let several_apps = batches.rows.iter().any(|batch| batch.app != batches.rows[0].app);
    html! {
        section #batches aria-labelledby="batches-title" {
            h2 #batches-title { "Batches" }
            div.scroll #batches-scroll tabindex="0" role="group" aria-labelledby="batches-title" {
                table {
                    thead { tr {
                        th.n scope="col" { "No." } th scope="col" { "Manifest" } th scope="col" { "Imported, UTC" }
                        @if several_apps { th scope="col" { "App" } }
                        th.n scope="col" { "Jobs" } th.n scope="col" { "Succeeded" }
                        th.n scope="col" { "Failed" } th.n scope="col" { "Pending, in flight" }
                    } }
                    tbody { @for row in &batches.rows { (batch(row, several_apps)) } }
                }
            }
            (older(batches, "older batch", "older batches"))
        }
    }
}

fn batch(batch: &BatchStats, several_apps: bool) -> Markup {
    html! {
        tr {
            th.n scope="row" { (batch.id) }
            td data-label="Manifest" {
                (visible(&batch.name))
                @if batch.source != batch.name { span.quiet { " from " (visible(&batch.source)) } }
                @if batch.duplicates > 0 { span.quiet { ", " (figures(batch.duplicates, "duplicate row", "duplicate rows")) } }
                @if batch.rejected > 0 { span.quiet { ", " (figures(batch.rejected, "invalid row", "invalid rows")) " skipped" } }
                @if batch.cancelled_ms.is_some() { span.quiet { ", cancelled" } }
            }
            td data-label="Imported, UTC" { (time(batch.created_ms)) }
            @if several_apps { td data-label="App" { (batch.app.sdkappid) " (" (batch.app.library) ")" } }
            td.n data-label="Jobs" { (number(batch.counts.total())) }
            td.n data-label="Succeeded" { (number(batch.counts.succeeded)) }
            td.n data-label="Failed" { (number(batch.counts.failed)) }
            td.n data-label="Pending, in flight" { (number(batch.counts.open())) }
        }
    }
}

/// The table of runs.
pub(super) fn runs(data: &PageData) -> Markup {
    let runs = &data.overview.runs;
    if runs.rows.is_empty() {
        return html! { section #runs hidden {} };
    }
    html! {
        section #runs aria-labelledby="runs-title" {
            h2 #runs-title { "Runs" }
            div.scroll #runs-scroll tabindex="0" role="group" aria-labelledby="runs-title" {
                table {
                    thead { tr {
                        th.n scope="col" { "No." } th scope="col" { "Started, UTC" } th.n scope="col" { "Duration" }
                        th.n scope="col" { "Requests" } th.n scope="col" { "Per second" }
                        th.n scope="col" { "Throttled" } th.n scope="col" { "No valid response" }
                        th scope="col" { "State" }
                    } }
                    tbody { @for row in &runs.rows { (run(row, data)) } }
                }
            }
            (older(runs, "older run", "older runs"))
        }
    }
}

fn run(run: &RunStats, data: &PageData) -> Markup {
    let sent = &run.requests;
    let spread_ms = run.last_ms.zip(run.first_ms).map(|(last, first)| last - first);
    html! {
        tr {
            th.n scope="row" { (run.id) }
            td data-label="Started, UTC" { (time(run.started_ms)) }
            td.n data-label="Duration" { (length(run.finished_ms.or(run.last_ms).unwrap_or(run.started_ms) - run.started_ms)) }
            td.n data-label="Requests" { (number(sent.total)) }
            td.n data-label="Per second" {
                @match spread_ms {
                    Some(ms) if ms > 0 => { (rate(per_second(sent.total - 1, ms))) }
                    _ => { "–" }
                }
            }
            td.n data-label="Throttled" { (number(sent.throttled)) }
            td.n data-label="No valid response" { (number(sent.transient + sent.orphaned)) }
            td data-label="State" { (run_state(run, data)) }
        }
    }
}

/// The learned limits.
pub(super) fn learned(data: &PageData) -> Markup {
    if data.learned_rates.is_empty() && data.learned_sizes.is_empty() {
        return html! { section #learned hidden {} };
    }
    html! {
        section #learned aria-labelledby="learned-title" {
            h2 #learned-title { "Measured limits of the service" }
            ul {
                @for kept in &data.learned_rates { li { (learned_rate(kept)) } }
                @for kept in &data.learned_sizes { li { (learned_chunk_size(kept)) } }
            }
        }
    }
}

fn learned_rate(kept: &AppRate) -> Markup {
    let AppRate { app, learned, learned_ms } = kept;
    html! {
        "App " (app.sdkappid) " (" (app.library) "): "
        strong { (format!("{:.2}", learned.rate)) " requests per second" }
        @match learned.throttled_rate {
            Some(throttled) => { " sustained, throttled at about " (format!("{throttled:.1}")) }
            None => { " sustained, never throttled" }
        }
        ". Measured " (time(*learned_ms)) " UTC."
    }
}

fn learned_chunk_size(kept: &AppChunkSize) -> Markup {
    let AppChunkSize { app, limit, learned_ms } = kept;
    html! {
        "App " (app.sdkappid) " (" (app.library) "): "
        strong { (counted(limit.accepted as u64, "question", "questions")) " per request" }
        " accepted, " (number(limit.rejected as u64)) " rejected as too many. Measured " (time(*learned_ms)) " UTC."
    }
}

/// The settings.
pub(super) fn settings(info: &PageInfo) -> Markup {
    html! {
        section #settings aria-labelledby="settings-title" {
            h2 #settings-title { "Settings" }
            p.note { "The settings of the command that created this page. Keys and tokens are never shown." }
            dl.settings {
                @for (name, value) in &info.settings {
                    div { dt { (name) } dd { (visible(value)) } }
                }
            }
        }
    }
}

/// The creation time and the source of the page.
pub(super) fn made(data: &PageData, info: &PageInfo) -> Markup {
    html! {
        p #made {
            "Created " (time(data.now_ms)) " UTC from " (visible(&info.database)) " by deskbatch " (info.version)
            ". All times are UTC."
        }
    }
}
