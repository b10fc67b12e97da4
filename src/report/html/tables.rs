//! The lower half of the page: failed questions, batches, runs, learned limits, settings and footer.

use maud::{Markup, html};

use super::format::{counted, figure, length, number, per_second, rate, time};
use super::overview::run_state;
use crate::queue::{AppChunkSize, AppRate, BatchStats, Record, RunStats, Truncated};
use crate::report::page_data::{PageData, PageInfo};
use crate::util::escape::visible;

/// The queue or the batch of the page.
pub(super) fn scope(info: &PageInfo) -> String {
    let queue = visible(&info.database);
    info.batch.map_or_else(|| queue.to_string(), |batch| format!("batch {batch} of {queue}"))
}

/// The search field for failed questions. It is hidden until the script shows it, because it needs the
/// script.
pub(super) fn search() -> Markup {
    html! {
        div #search hidden {
            label for="filter" { "Find" }
            input #filter type="search" autocomplete="off" spellcheck="false"
                placeholder="an id, a status, a code";
            output #filtered for="filter" aria-live="polite" {}
        }
    }
}

/// The failed questions.
pub(super) fn refused(data: &PageData, info: &PageInfo) -> Markup {
    let total = data.overview.counts().failed;
    let listed = data.failed.len() as u64;
    html! {
        div #refused {
            @if total == 0 { p { "None." } } @else {
                p {
                    @if listed < total {
                        "The first " (number(listed)) " of " (number(total)) "; the CSV has all: "
                    } @else {
                        (counted(total, "question", "questions")) "; as a manifest that can be mended and imported: "
                    }
                    code {
                        "deskbatch report --only failed"
                        @if let Some(batch) = info.batch { " --batch " (batch) }
                        " -o failed.csv" (visible(&info.flags))
                    }
                }
                div.scroll #refused-scroll tabindex="0" role="group" aria-labelledby="refused-title" {
                    table.refused {
                        thead { tr {
                            th scope="col" { "Question" } th scope="col" { "Status" }
                            th.n scope="col" { "Code" } th scope="col" { "The service said" }
                            th.n scope="col" { "Tries" } th scope="col" { "Batch" } th.n scope="col" { "Row" }
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
            td { (record.status) }
            td.n { @if let Some(code) = record.error_code { (code) } }
            td.said { @if let Some(info) = &record.error_info { (visible(info)) } }
            td.n { (figure(record.attempts)) @if record.in_doubt { span.quiet { " in doubt" } } }
            td { (visible(&record.batch)) }
            td.n { (figure(record.line)) }
        }
    }
}

/// The number of rows that a truncated list omits.
fn older<T>(list: &Truncated<T>, what: &str) -> Markup {
    let more = list.total.saturating_sub(list.rows.len() as u64);
    html! { @if more > 0 { p.note { (number(more)) " older " (what) " not shown." } } }
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
                        @if several_apps { th scope="col" { "Application" } }
                        th.n scope="col" { "Jobs" } th.n scope="col" { "As asked" }
                        th.n scope="col" { "Refused" } th.n scope="col" { "Open" }
                    } }
                    tbody { @for row in &batches.rows { (batch(row, several_apps)) } }
                }
            }
            (older(batches, "batches"))
        }
    }
}

fn batch(batch: &BatchStats, several_apps: bool) -> Markup {
    html! {
        tr {
            th.n scope="row" { (batch.id) }
            td {
                (visible(&batch.name))
                @if batch.source != batch.name { span.quiet { " from " (visible(&batch.source)) } }
                @if batch.duplicates > 0 { span.quiet { ", " (figure(batch.duplicates)) " rows said twice" } }
                @if batch.rejected > 0 { span.quiet { ", " (figure(batch.rejected)) " rows left out" } }
                @if batch.cancelled_ms.is_some() { span.quiet { ", cancelled" } }
            }
            td { (time(batch.created_ms)) }
            @if several_apps { td { (batch.app.sdkappid) ", " (batch.app.library) } }
            td.n { (number(batch.counts.total())) }
            td.n { (number(batch.counts.succeeded)) }
            td.n { (number(batch.counts.failed)) }
            td.n { (number(batch.counts.open())) }
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
                        th.n scope="col" { "No." } th scope="col" { "Began, UTC" } th.n scope="col" { "Lasted" }
                        th.n scope="col" { "Requests" } th.n scope="col" { "A second" }
                        th.n scope="col" { "Too fast" } th.n scope="col" { "No answer" } th scope="col" { "How it ended" }
                    } }
                    tbody { @for row in &runs.rows { (run(row, data)) } }
                }
            }
            (older(runs, "runs"))
        }
    }
}

fn run(run: &RunStats, data: &PageData) -> Markup {
    let sent = &run.requests;
    let spread_ms = run.last_ms.zip(run.first_ms).map(|(last, first)| last - first);
    html! {
        tr {
            th.n scope="row" { (run.id) }
            td { (time(run.started_ms)) }
            td.n { (length(run.finished_ms.or(run.last_ms).unwrap_or(run.started_ms) - run.started_ms)) }
            td.n { (number(sent.total)) }
            td.n {
                @match spread_ms {
                    Some(ms) if ms > 0 => { (rate(per_second(sent.total - 1, ms))) }
                    _ => { "–" }
                }
            }
            td.n { (number(sent.throttled)) }
            td.n { (number(sent.transient + sent.orphaned)) }
            td { (run_state(run, data)) }
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
            h2 #learned-title { "What was learned of the service" }
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
        "Application " (app.sdkappid) ", " (app.library) ": it bears "
        strong { (format!("{:.2}", learned.rate)) " requests a second" }
        @match learned.refused_rate {
            Some(refused) => { ", and refused some at about " (format!("{refused:.1}")) }
            None => { ", and refused none" }
        }
        ". Learned " (time(*learned_ms)) " UTC."
    }
}

fn learned_chunk_size(kept: &AppChunkSize) -> Markup {
    let AppChunkSize { app, limit, learned_ms } = kept;
    html! {
        "Application " (app.sdkappid) ", " (app.library) ": it takes "
        strong { (number(limit.accepted as u64)) " questions a request" }
        "; " (number(limit.rejected as u64)) " were too many. Learned " (time(*learned_ms)) " UTC."
    }
}

/// The settings.
pub(super) fn settings(info: &PageInfo) -> Markup {
    html! {
        section #settings aria-labelledby="settings-title" {
            h2 #settings-title { "Settings" }
            p.note { "As they are where this page was made; keys and tokens are never shown." }
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
            "Made " (time(data.now_ms)) " UTC from " (visible(&info.database)) " by deskbatch " (info.version)
            ". All times are UTC."
        }
    }
}
