//! A plan as text, for the user who approves it.

use std::fmt::Write as _;

use super::range_text;
use crate::domain::job::TargetStatus;
use crate::domain::plan_digest::{Effect, FilePlan, JobSetDigest, Plan};
use crate::eta::Eta;
use crate::util::escape::visible;

/// Destination, jobs by status, ETA, effect of the file, deletes and warnings of a plan. `all_line` is the
/// command line that lists every delete.
pub fn plan_text(plan: &Plan, estimate: &Eta, all_line: &str) -> String {
    let mut text = format!(
        "This run sends to {}, for application {}, library {}:",
        plan.endpoint, plan.app.sdkappid, plan.app.library
    );
    for (status, count) in by_status(plan.open.counts) {
        let note = if status == TargetStatus::Delete { "   there is no way back" } else { "" };
        let _ = write!(text, "\n  {status:8} {count:>9} questions{note}");
    }
    if plan.open.total() == 0 {
        text.push_str("\n  nothing");
    } else {
        let (fewest, most) = (estimate.requests.start(), estimate.requests.end());
        let _ = write!(text, "\n  {fewest} to {most} requests, {}", range_text(&estimate.time));
    }
    if let Some(file) = &plan.file {
        write_file(&mut text, file);
    }
    write_waiting(&mut text, plan);
    write_in_doubt(&mut text, plan);
    write_deletes(&mut text, plan, all_line);
    write_warnings(&mut text, plan);
    text
}

fn by_status(counts: [u64; 3]) -> impl Iterator<Item = (TargetStatus, u64)> {
    TargetStatus::ALL.into_iter().zip(counts).filter(|(_, count)| *count > 0)
}

fn write_file(text: &mut String, file: &FilePlan) {
    let jobs: u64 = file.jobs.iter().sum();
    let _ = write!(text, "\n\n{}: {} rows, {jobs} jobs", visible(&file.name), file.rows);
    if file.duplicates > 0 {
        let _ = write!(text, ", {} rows say the same again", file.duplicates);
    }
    if file.rejected > 0 {
        let _ = write!(text, ", {} bad rows are left out", file.rejected);
    }
    let batch = file.known.map_or(0, |(batch, _)| batch);
    let _ = match (file.effect, file.known) {
        (Effect::New, _) => write!(text, "\n  it becomes a new batch"),
        (Effect::Continues, Some((_, open))) => write!(
            text,
            "\n  it is in the queue already, as batch {batch}: {open} of its jobs are still to be done"
        ),
        (Effect::Finished, _) if !file.missing.is_empty() => write!(
            text,
            "\n  it was imported before, as batch {batch}, and is not finished: {}; nothing of it is done unless --again",
            file.missing
        ),
        (Effect::Continues | Effect::Finished, _) => write!(
            text,
            "\n  it was imported before, as batch {batch}, and is finished: nothing of it is done unless --again"
        ),
        (Effect::Empty, _) => write!(text, "\n  it has no rows: there is nothing to import"),
    };
    if file.superseded > 0 {
        let _ = write!(text, "\n  it supersedes {} jobs that wait in the queue", file.superseded);
    }
    for row in &file.rejected_shown {
        let _ = write!(text, "\n  left out: {}", visible(row));
    }
    let more = file.rejected.saturating_sub(file.rejected_shown.len() as u64);
    if file.rejected > 0 && more > 0 {
        let _ = write!(text, "\n  and {more} more");
    }
}

fn write_waiting(text: &mut String, plan: &Plan) {
    let JobSetDigest { counts, .. } = &plan.waiting;
    if plan.waiting.total() == 0 {
        return;
    }
    let counts: Vec<String> =
        by_status(*counts).map(|(status, count)| format!("{count} {status}")).collect();
    let _ = write!(
        text,
        "\n\nin the queue already, sent by this run too: {} jobs ({})",
        plan.waiting.total(),
        counts.join(", ")
    );
}

fn write_in_doubt(text: &mut String, plan: &Plan) {
    if plan.in_doubt > 0 {
        let _ = write!(
            text,
            "\n\n{} of these jobs may have been applied already: they are in flight or in doubt",
            plan.in_doubt
        );
    }
}

fn write_deletes(text: &mut String, plan: &Plan, all_line: &str) {
    if plan.deletes.is_empty() {
        return;
    }
    let _ = write!(text, "\n\ndeleted, {} questions:", plan.open.deletes());
    for id in &plan.deletes {
        let _ = write!(text, "\n  {id}");
    }
    let more = plan.open.deletes().saturating_sub(plan.deletes.len() as u64);
    if more > 0 {
        let _ = write!(text, "\n  and {more} more: {all_line} names them");
    }
}

/// The warnings come last, so that they are directly above the question.
fn write_warnings(text: &mut String, plan: &Plan) {
    let warnings = plan.file.iter().flat_map(|file| &file.warnings);
    for (warning, start) in warnings.zip(std::iter::once("\n\n").chain(std::iter::repeat("\n"))) {
        let _ = write!(text, "{start}warning: {warning}");
    }
}
