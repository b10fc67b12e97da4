//! The upper half of the page: the outcome, the requests, and outcomes by status and by code.

use maud::{Markup, html};

use super::chart;
use super::format::{counted, ending, length, number, per_second, rate, time};
use crate::domain::job::TargetStatus;
use crate::domain::verdict::explain;
use crate::queue::{ErrorCodeStats, PauseReason, PauseStats, QueueCounts, RunStats};
use crate::report::page_data::{PageData, PageInfo};
use crate::util::escape::visible;

/// The text for a run without a recorded end whose process has exited.
const DIED: &str = "died";

/// The latest run, if it is running.
fn running_run(data: &PageData) -> Option<&RunStats> {
    data.overview.runs.rows.first().filter(|run| data.is_running(run))
}

/// The outcome in one sentence.
fn headline(data: &PageData, counts: &QueueCounts) -> String {
    let total = counts.total();
    let of_all = |n: u64| format!("{} of {}", number(n), counted(total, "question", "questions"));
    let were = |n: u64| if n == 1 { "was" } else { "were" };
    let refused = match counts.failed {
        0 => String::new(),
        n => format!(", {} {} refused", number(n), were(n)),
    };
    if total == 0 {
        "Nothing has been asked for yet.".to_owned()
    } else if counts.open() > 0 && running_run(data).is_some() {
        format!("Under way: {} settled{refused}.", of_all(counts.done()))
    } else if counts.open() > 0 && counts.done() == 0 {
        let wait = if total == 1 { "waits" } else { "wait" };
        format!("{} {wait} to be sent.", counted(total, "question", "questions"))
    } else if counts.open() > 0 {
        format!("Stopped with work left: {} settled{refused}.", of_all(counts.done()))
    } else if counts.failed == 0 && counts.succeeded == total {
        match total {
            1 => "Done: the one question is as asked.".to_owned(),
            n => format!("Done: all {} questions are as asked.", number(n)),
        }
    } else if counts.failed == 0 {
        format!("Done: {} as asked, the rest was called off.", of_all(counts.succeeded))
    } else {
        format!(
            "Done, but for {}: {} as asked{refused}.",
            number(counts.failed),
            of_all(counts.succeeded)
        )
    }
}

/// The first section.
pub(super) fn outcome(data: &PageData, info: &PageInfo) -> Markup {
    let counts = data.overview.counts();
    let title = headline(data, &counts);
    html! {
        section #outcome aria-labelledby="headline" {
            h1 #headline { (title) }
            p.lede { (asked(data, &counts)) }
            (chart::strip(&counts))
            dl.figures {
                (tile("good", "as asked", counts.succeeded))
                (tile("bad", "refused", counts.failed))
                @if counts.open() > 0 { (tile("idle", "waiting", counts.pending)) }
                @if counts.in_flight > 0 { (tile("going", "in flight", counts.in_flight)) }
                @if counts.cancelled > 0 { (tile("off", "cancelled", counts.cancelled)) }
                @if counts.superseded > 0 { (tile("off", "superseded", counts.superseded)) }
                @if data.overview.in_doubt > 0 { (tile("off", "of these in doubt", data.overview.in_doubt)) }
            }
            @if data.overview.in_doubt > 0 {
                p.note {
                    "In doubt: a request may have changed the question, and nothing since says whether it did. "
                    code { "deskbatch report --only in-doubt" (visible(&info.flags)) }
                }
            }
            @if data.overview.succeeded_in_doubt > 0 {
                p.note {
                    (counted(data.overview.succeeded_in_doubt, "deletion was", "deletions were"))
                    " found done when repeated after a response was lost; they count as done."
                }
            }
            (next_steps(data, info, &counts))
        }
    }
}

fn tile(kind: &str, name: &str, n: u64) -> Markup {
    html! {
        div class=(kind) { dt { (name) } dd { (number(n)) } }
    }
}

/// The target statuses of the jobs and their batches.
fn asked(data: &PageData, counts: &QueueCounts) -> Markup {
    let overview = &data.overview;
    if counts.total() == 0 {
        return html! { "Import a manifest, and it is shown here." };
    }
    let parts: Vec<String> = TargetStatus::ALL
        .iter()
        .zip(&overview.by_target_status)
        .filter(|(_, counts)| counts.total() > 0)
        .map(|(status, counts)| format!("{} {status}", number(counts.total())))
        .collect();
    html! {
        "Asked for: " (parts.join(", "))
        @if let [batch] = overview.batches.rows.as_slice() {
            ", from " span.name { (visible(&batch.name)) } ", imported " (time(batch.created_ms)) " UTC."
        } @else if overview.batches.total > 0 {
            ", in " (counted(overview.batches.total, "batch", "batches")) "."
        } @else {
            "."
        }
    }
}

/// The next steps for the reader.
fn next_steps(data: &PageData, info: &PageInfo, counts: &QueueCounts) -> Markup {
    let command = |words: &str| html! { code { "deskbatch " (words) (visible(&info.flags)) } };
    if counts.open() > 0 && running_run(data).is_some() {
        return html! {
            @if let Some(left) = (info.estimate)(data) { p.note { "Left: " (left) "." } }
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
                    li { span { "Send what is left" } (command("run")) }
                }
                @if counts.failed > 0 {
                    li { span { "List what was refused, to mend it" } (command("report --only failed -o failed.csv")) }
                    li { span { "Or take it back as it is" } (command("retry")) }
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
                (fact("applied", "Taken", sent.applied))
                (fact("rejected", "Refused for what they carried", sent.rejected))
                (fact("throttled", "Refused as too fast", sent.throttled))
                (fact("transient", "Without a usable answer", sent.transient))
                @if sent.refused > 0 { (fact("stop", "Refused for the account", sent.refused)) }
                @if sent.orphaned > 0 { (fact("orphaned", "Response lost with its run", sent.orphaned)) }
                @if sent.in_flight > 0 { (fact("out", "Out now", sent.in_flight)) }
                @if let Some(mean_ms) = sent.latency_ms.checked_div(sent.responded) {
                    div { dt { "An answer takes" } dd { (number(mean_ms)) " ms" } }
                    div { dt { "The slowest took" } dd { (number(sent.latency_ms_max)) " ms" } }
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
    let pace = rate(per_second(sent - 1, span_ms));
    format!(
        "{which}: {requests} in {}, {pace} a second of {} allowed.",
        length(span_ms),
        rate(info.rate)
    )
}

/// The pauses, by reason.
fn pauses_text(all: &[PauseStats]) -> Markup {
    let why = |reason| match reason {
        PauseReason::Throttled => "because the service asked to slow down",
        PauseReason::Transient => "because nothing got through",
        PauseReason::Other => "for slow answers or due times",
    };
    html! {
        @if all.is_empty() { "Nothing held it up." }
        @for pauses in all {
            "Waited " (counted(pauses.count, "time", "times")) " " (why(pauses.reason)) ": "
            (length(pauses.total_ms)) " in all, " (length(pauses.longest_ms)) " the longest. "
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
            td.n { (number(counts.total())) }
            td.n { (number(counts.succeeded)) }
            td.n { (number(counts.failed)) }
            td.n { (number(counts.open())) }
            @if off { td.n { (number(counts.cancelled + counts.superseded)) } }
        }
    };
    html! {
        section #statuses aria-labelledby="statuses-title" {
            h2 #statuses-title { "By status" }
            div.scroll #statuses-scroll tabindex="0" role="group" aria-labelledby="statuses-title" {
                table {
                    thead { tr {
                        th scope="col" { "Status" } th.n scope="col" { "Asked" }
                        th.n scope="col" { "As asked" } th.n scope="col" { "Refused" }
                        th.n scope="col" { "Open" }
                        @if off { th.n scope="col" { "Called off" } }
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

/// The rejected questions by code, with the meaning and the remedy of each code.
pub(super) fn codes(data: &PageData, info: &PageInfo) -> Markup {
    let codes = &data.overview.codes;
    if codes.rows.is_empty() {
        return html! { section #codes hidden {} };
    }
    let more = codes.total.saturating_sub(codes.rows.len() as u64);
    html! {
        section #codes aria-labelledby="codes-title" {
            h2 #codes-title { "By code" }
            div.scroll #codes-scroll tabindex="0" role="group" aria-labelledby="codes-title" {
                table {
                    thead { tr {
                        th.n scope="col" { "Code" } th.n scope="col" { "Refused" }
                        th scope="col" { "Meaning, and what to do" }
                    } }
                    tbody { @for stats in &codes.rows { (code(stats)) } }
                }
            }
            @if more > 0 {
                p.note { (counted(more, "more code", "more codes")) " in " code { "deskbatch report --only failed" (visible(&info.flags)) } }
            }
        }
    }
}

fn code(stats: &ErrorCodeStats) -> Markup {
    let row = stats.code.map(explain);
    html! {
        tr {
            th.n scope="row" { @match stats.code { Some(code) => { (code) }, None => { "none" } } }
            td.n { (number(stats.failed_total())) }
            td {
                @match row {
                    Some(row) => { p { (capital(row.meaning)) "." } p.quiet { "To do: " (row.advice) "." } }
                    None => { p { "Refused without a code." } }
                }
                @if let Some(info) = stats.info.as_deref().filter(|info| !info.is_empty()) {
                    p.quiet { "The service said: " q { (visible(info)) } }
                }
                @if stats.succeeded > 0 {
                    p.quiet { (counted(stats.succeeded, "deletion", "deletions")) " counted as done although repeated in vain" }
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
        None if data.is_running(run) => format!("going on, process {}", run.pid),
        None => format!("{}, process {}", ending(DIED), run.pid),
    }
}
