//! The upper half of the page: the outcome, the requests, and outcomes by status and by code.

use std::fmt::Write as _;

use maud::{Markup, html};

use super::chart;
use super::format::{counted, ending, length, number, per_second, rate, time};
use crate::domain::job::{App, TargetStatus};
use crate::domain::verdict::explain;
use crate::queue::{ErrorCodeStats, PauseReason, PauseStats, QueueCounts, RunStats};
use crate::report::page_data::{PageData, PageEta, PageInfo};
use crate::util::escape::visible;

/// The ending of a run without a recorded end whose process has exited.
const DIED: &str = "died";

/// The latest run, if it is running.
fn running_run(data: &PageData) -> Option<&RunStats> {
    data.overview.runs.rows.first().filter(|run| data.is_running(run))
}

/// Numbers and state: `307 of 312 questions updated, 5 failed`.
fn headline(data: &PageData, counts: &QueueCounts, eta: Option<&PageEta>) -> String {
    let total = counts.total();
    if total == 0 {
        return "No jobs".to_owned();
    }
    let is_running = counts.open() > 0 && running_run(data).is_some();
    let unless_running = |n: u64| if is_running { 0 } else { n };
    let questions = counted(total, "question", "questions");
    let mut text = format!("{} of {questions} updated", number(counts.succeeded));
    for (n, state) in [
        (counts.failed, "failed"),
        (counts.cancelled, "cancelled"),
        (counts.superseded, "superseded"),
        (unless_running(counts.pending), "pending"),
        (unless_running(counts.in_flight), "in flight"),
    ] {
        if n > 0 {
            let _ = write!(text, ", {} {state}", number(n));
        }
    }
    if is_running {
        text.push_str(", running");
        if let Some(eta) = eta {
            let _ = write!(text, ", ETA {}", eta.time);
        }
    }
    text
}

/// The first section.
pub(super) fn outcome(data: &PageData, info: &PageInfo) -> Markup {
    let counts = data.overview.counts();
    let eta = running_run(data).and_then(|_| (info.estimate)(data));
    let title = headline(data, &counts, eta.as_ref());
    html! {
        section #outcome aria-labelledby="headline" {
            h1 #headline { (title) }
            p.lede { (jobs_text(data, &counts)) " " (source(data, info)) }
            (chart::strip(&counts))
            dl.figures {
                (tile("good", "succeeded", counts.succeeded))
                (tile("bad", "failed", counts.failed))
                @if counts.open() > 0 { (tile("idle", "pending", counts.pending)) }
                @if counts.in_flight > 0 { (tile("going", "in flight", counts.in_flight)) }
                @if counts.cancelled > 0 { (tile("off", "cancelled", counts.cancelled)) }
                @if counts.superseded > 0 { (tile("off", "superseded", counts.superseded)) }
                @if data.overview.in_doubt > 0 { (tile("off", "of these in doubt", data.overview.in_doubt)) }
            }
            @if data.overview.in_doubt > 0 {
                p.note {
                    "In doubt: sent, and it is unknown whether it was applied. List these jobs: "
                    code { "deskbatch report --state in-doubt" (visible(&info.flags)) }
                }
            }
            @if data.overview.succeeded_in_doubt > 0 {
                p.note {
                    (counted(data.overview.succeeded_in_doubt, "deletion", "deletions"))
                    " had already been applied when sent again after a lost response. Recorded as succeeded."
                }
            }
            (next_steps(data, info, &counts, eta.as_ref()))
        }
    }
}

fn tile(kind: &str, name: &str, n: u64) -> Markup {
    html! {
        div class=(kind) { dt { (name) } dd { (number(n)) } }
    }
}

/// The jobs by target status, and their batches.
fn jobs_text(data: &PageData, counts: &QueueCounts) -> Markup {
    let overview = &data.overview;
    if counts.total() == 0 {
        return html! { "Import a manifest to see its jobs here." };
    }
    let parts: Vec<String> = TargetStatus::ALL
        .iter()
        .zip(&overview.by_target_status)
        .filter(|(_, counts)| counts.total() > 0)
        .map(|(status, counts)| format!("{} {status}", number(counts.total())))
        .collect();
    html! {
        "Jobs: " (parts.join(", "))
        @if let [batch] = overview.batches.rows.as_slice() {
            ", from " span.name { (visible(&batch.name)) } ", imported " (time(batch.created_ms)) " UTC."
        } @else if overview.batches.total > 0 {
            ", in " (counted(overview.batches.total, "batch", "batches")) "."
        } @else {
            "."
        }
    }
}

/// The apps, the host of the newest run, and the queue.
fn source(data: &PageData, info: &PageInfo) -> Markup {
    let (batches, runs) = (&data.overview.batches.rows, &data.overview.runs.rows);
    let mut apps: Vec<App> = Vec::new();
    for app in batches.iter().map(|batch| batch.app).chain(runs.iter().map(|run| run.app)) {
        if !apps.contains(&app) {
            apps.push(app);
        }
    }
    let named: Vec<String> =
        apps.iter().map(|app| format!("{} ({})", app.sdkappid, app.library)).collect();
    html! {
        @if let [app] = named.as_slice() { "App: " (app) ". " }
        @if named.len() > 1 { "Apps: " (named.join(", ")) ". " }
        @if let Some(run) = runs.first() { "Last run on host " (visible(&run.host)) ". " }
        "Queue: " (visible(&info.database)) "."
    }
}

/// The next steps for the reader.
fn next_steps(
    data: &PageData,
    info: &PageInfo,
    counts: &QueueCounts,
    eta: Option<&PageEta>,
) -> Markup {
    let flags = visible(&info.flags);
    let command = |words: &str| html! { code { "deskbatch " (words) (flags) } };
    if counts.open() > 0 && running_run(data).is_some() {
        return html! {
            @if let Some(eta) = eta { p.note { "ETA: " (eta.time) " (" (eta.requests) ")." } }
        };
    }
    let stopped = data.overview.runs.rows.first().filter(|_| counts.open() > 0);
    let why = stopped.map(|run| run.ending.as_deref().unwrap_or(DIED));
    let why = why.filter(|word| *word != "drained");
    html! {
        @if let Some(word) = why { p.note { "The last run " (ending(word)) "." } }
        @if counts.open() > 0 || counts.failed > 0 {
            ul.next {
                @if counts.open() > 0 {
                    li { span { "Send the remaining jobs" } (command("run")) }
                }
                @if counts.failed > 0 {
                    li { span { "Export the failed jobs to correct them" } (command("report --state failed -o failed.csv")) }
                    li {
                        span { "Or retry them unchanged" }
                        code { "deskbatch retry" (flags) " && deskbatch run" (flags) }
                    }
                }
            }
        }
    }
}

/// The requests: number, rate, and pauses.
pub(super) fn sending(data: &PageData, info: &PageInfo) -> Markup {
    let traffic = &data.overview.traffic;
    let sent = &traffic.requests;
    if sent.total == 0 {
        return html! { section #sending hidden {} };
    }
    html! {
        section #sending aria-labelledby="sending-title" {
            h2 #sending-title { "Requests" }
            p { (rate_text(data, info)) }
            (chart::requests(traffic, info.rate))
            dl.facts {
                (fact("applied", "Applied", sent.applied))
                (fact("rejected", "Rejected (questions)", sent.rejected))
                (fact("throttled", "Throttled", sent.throttled))
                (fact("transient", "No valid response", sent.transient))
                @if sent.refused > 0 { (fact("stop", "Rejected (app or account)", sent.refused)) }
                @if sent.orphaned > 0 { (fact("orphaned", "Response lost, run died", sent.orphaned)) }
                @if sent.in_flight > 0 { (fact("out", "In flight", sent.in_flight)) }
                @if let Some(mean_ms) = sent.latency_ms.checked_div(sent.responded) {
                    div { dt { "Mean response time" } dd { (number(mean_ms)) " ms" } }
                    div { dt { "Longest response time" } dd { (number(sent.latency_ms_max)) " ms" } }
                }
            }
            p.note { (pauses_text(&traffic.pauses)) }
        }
    }
}

fn fact(class: &str, name: &str, n: u64) -> Markup {
    html! { div class=(class) { dt { (name) } dd { (number(n)) } } }
}

/// The rate of requests in the session that the chart shows.
fn rate_text(data: &PageData, info: &PageInfo) -> String {
    let traffic = &data.overview.traffic;
    let Some((first, last)) = traffic.session else { return String::new() };
    let runs = data.overview.runs.rows.iter().filter(|run| (first..=last).contains(&run.id));
    let (mut sent, mut span_ms) = (0, 0);
    for run in runs {
        if let (Some(from_ms), Some(to_ms)) = (run.first_ms, run.last_ms) {
            sent += run.requests.total;
            span_ms += to_ms - from_ms;
        }
    }
    let which =
        if first == last { format!("Run {last}") } else { format!("Runs {first} to {last}") };
    let requests = counted(sent, "request", "requests");
    if sent < 2 || span_ms == 0 {
        return format!("{which}: {requests}.");
    }
    // The number of gaps is one less than the number of requests.
    let achieved = rate(per_second(sent - 1, span_ms));
    format!(
        "{which}: {requests} in {}, {achieved} per second. The limit is {} per second.",
        length(span_ms),
        rate(info.rate)
    )
}

/// The pauses, by reason.
fn pauses_text(all: &[PauseStats]) -> Markup {
    let why = |reason| match reason {
        PauseReason::Throttled => "because the service throttled requests",
        PauseReason::Transient => "because no request succeeded",
        PauseReason::Other => "because responses were slow or no job was due",
    };
    html! {
        @if all.is_empty() { "No pauses." }
        @for pauses in all {
            (counted(pauses.count, "pause", "pauses")) " " (why(pauses.reason)) ": "
            (length(pauses.total_ms)) " in total, the longest " (length(pauses.longest_ms)) ". "
        }
    }
}

/// Outcomes by target status.
pub(super) fn statuses(data: &PageData) -> Markup {
    let counts = data.overview.counts();
    if counts.total() == 0 {
        return html! { section #statuses hidden {} };
    }
    let off = counts.cancelled + counts.superseded > 0;
    let cells = |counts: &QueueCounts| {
        html! {
            td.n data-label="Jobs" { (number(counts.total())) }
            td.n data-label="Succeeded" { (number(counts.succeeded)) }
            td.n data-label="Failed" { (number(counts.failed)) }
            td.n data-label="Pending, in flight" { (number(counts.open())) }
            @if off { td.n data-label="Cancelled, superseded" { (number(counts.cancelled + counts.superseded)) } }
        }
    };
    html! {
        section #statuses aria-labelledby="statuses-title" {
            h2 #statuses-title { "Jobs by target status" }
            div.scroll #statuses-scroll tabindex="0" role="group" aria-labelledby="statuses-title" {
                table {
                    thead { tr {
                        th scope="col" { "Target status" } th.n scope="col" { "Jobs" }
                        th.n scope="col" { "Succeeded" } th.n scope="col" { "Failed" }
                        th.n scope="col" { "Pending, in flight" }
                        @if off { th.n scope="col" { "Cancelled, superseded" } }
                    } }
                    tbody {
                        @for (status, counts) in TargetStatus::ALL.iter().zip(&data.overview.by_target_status) {
                            tr { th scope="row" { (status) } (cells(counts)) }
                        }
                        tr.sum { th scope="row" { "all" } (cells(&counts)) }
                    }
                }
            }
        }
    }
}

/// The failed jobs by error code, with the meaning and the remedy of each code.
pub(super) fn codes(data: &PageData, info: &PageInfo) -> Markup {
    let codes = &data.overview.codes;
    if codes.rows.is_empty() {
        return html! { section #codes hidden {} };
    }
    let more = codes.total.saturating_sub(codes.rows.len() as u64);
    html! {
        section #codes aria-labelledby="codes-title" {
            h2 #codes-title { "Failed jobs by error code" }
            div.scroll #codes-scroll tabindex="0" role="group" aria-labelledby="codes-title" {
                table {
                    thead { tr {
                        th.n scope="col" { "Code" } th.n scope="col" { "Failed" }
                        th scope="col" { "Meaning and remedy" }
                    } }
                    tbody { @for stats in &codes.rows { (code(stats)) } }
                }
            }
            @if more > 0 {
                p.note { (counted(more, "more code", "more codes")) ": " code { "deskbatch report --state failed" (visible(&info.flags)) } }
            }
        }
    }
}

fn code(stats: &ErrorCodeStats) -> Markup {
    let row = stats.code.map(explain);
    html! {
        tr {
            th.n scope="row" { @match stats.code { Some(code) => { (code) }, None => { "none" } } }
            td.n data-label="Failed" { (number(stats.failed_total())) }
            td {
                @match row {
                    Some(row) => { p { (capital(row.meaning)) "." } p.quiet { "What to do: " (row.advice) "." } }
                    None => { p { "Failed without an error code." } }
                }
                @if let Some(info) = stats.info.as_deref().filter(|info| !info.is_empty()) {
                    p.quiet { "Message of the service: " q { (visible(info)) } }
                }
                @if stats.succeeded > 0 {
                    p.quiet {
                        "Also with this code: " (counted(stats.succeeded, "deletion", "deletions"))
                        " that had already been applied when sent again after a lost response. Recorded as succeeded."
                    }
                }
            }
        }
    }
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

/// The ending of a run, or its process if it is running.
pub(super) fn run_state(run: &RunStats, data: &PageData) -> String {
    match run.ending.as_deref() {
        Some(word) => ending(word).to_owned(),
        None if data.is_running(run) => format!("running ({})", process_text(run)),
        None => format!("{} ({})", ending(DIED), process_text(run)),
    }
}

fn process_text(run: &RunStats) -> String {
    format!("PID {} on {}", run.pid, visible(&run.host))
}
