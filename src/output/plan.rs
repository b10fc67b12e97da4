//! A plan as text, for the user who approves it.

use std::fmt::Write as _;

use super::{range_text, requests_text};
use crate::domain::job::TargetStatus;
use crate::domain::plan_digest::{Effect, FilePlan, JobSetDigest, Plan};
use crate::eta::Eta;
use crate::util::count::{choose, counted};
use crate::util::escape::visible;

/// Destination, jobs by status, ETA, effect of the file, deletes and warnings of a plan. `all_line` is the
/// command line that lists every delete.
pub fn plan_text(plan: &Plan, estimate: &Eta, all_line: Option<&str>) -> String {
    let mut text = format!(
        "This run sends to {} for app {}, library {}:",
        plan.endpoint, plan.app.sdkappid, plan.app.library
    );
    for (status, count) in by_status(plan.open.counts) {
        let note = if status == TargetStatus::Delete { " (cannot be undone)" } else { "" };
        let noun = choose(count, "question", "questions");
        let _ = write!(text, "\n  {status:8} {count:>9} {noun}{note}");
    }
    if plan.open.total() == 0 {
        text.push_str("\n  nothing to do");
    } else {
        let requests = requests_text(&estimate.requests);
        let _ = write!(text, "\n  {requests}, {}", range_text(&estimate.time));
    }
    if let Some(file) = &plan.file {
        write_file(&mut text, file);
    }
    write_pending(&mut text, plan);
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
    let _ = write!(
        text,
        "\n\n{}: {}, {}",
        visible(&file.name),
        counted(file.rows, "row"),
        counted(jobs, "job")
    );
    if file.duplicates > 0 {
        let _ = write!(text, ", {}", counted(file.duplicates, "duplicate row"));
    }
    if file.rejected > 0 {
        let _ = write!(text, ", {} skipped", counted(file.rejected, "invalid row"));
    }
    let batch = file.known.map_or(0, |(batch, _)| batch);
    let _ = match (file.effect, file.known) {
        (Effect::New, _) => write!(text, "\n  becomes a new batch"),
        (Effect::Continues, Some((_, open))) => write!(
            text,
            "\n  was imported before as batch {batch}, which has {}: the run resumes it",
            counted(open, "unfinished job")
        ),
        (Effect::Finished, _) if !file.missing.is_empty() => write!(
            text,
            "\n  was imported before as batch {batch}, which is not complete ({}): it is not imported again without --reimport",
            file.missing
        ),
        (Effect::Continues | Effect::Finished, _) => write!(
            text,
            "\n  was imported before as batch {batch}, which is finished: it is not imported again without --reimport"
        ),
        (Effect::Empty, _) => write!(text, "\n  has no rows: nothing to import"),
    };
    if file.superseded > 0 {
        let _ = write!(text, "\n  supersedes {}", counted(file.superseded, "pending job"));
    }
    for row in &file.rejected_shown {
        let _ = write!(text, "\n  skipped: {}", visible(row));
    }
    let more = file.rejected.saturating_sub(file.rejected_shown.len() as u64);
    if file.rejected > 0 && more > 0 {
        let _ = write!(text, "\n  and {more} more");
    }
}

fn write_pending(text: &mut String, plan: &Plan) {
    let JobSetDigest { counts, .. } = &plan.pending;
    if plan.pending.total() == 0 {
        return;
    }
    let counts: Vec<String> =
        by_status(*counts).map(|(status, count)| format!("{count} {status}")).collect();
    let _ = write!(
        text,
        "\n\nincluded above: {} from earlier imports ({})",
        counted(plan.pending.total(), "pending job"),
        counts.join(", ")
    );
}

fn write_in_doubt(text: &mut String, plan: &Plan) {
    if plan.in_doubt > 0 {
        let _ = write!(
            text,
            "\n\n{} of these jobs {} in flight or in doubt: a request may have applied {} already",
            plan.in_doubt,
            choose(plan.in_doubt, "is", "are"),
            choose(plan.in_doubt, "it", "them")
        );
    }
}

fn write_deletes(text: &mut String, plan: &Plan, all_line: Option<&str>) {
    if plan.deletes.is_empty() {
        return;
    }
    let _ = write!(text, "\n\nto be deleted ({}):", plan.open.deletes());
    for id in &plan.deletes {
        let _ = write!(text, "\n  {id}");
    }
    let more = plan.open.deletes().saturating_sub(plan.deletes.len() as u64);
    if more > 0 {
        let _ = write!(text, "\n  and {more} more");
        if let Some(line) = all_line {
            let _ = write!(text, "; list them with: {line}");
        }
    }
}

/// The warnings come last, so that they are directly above the question.
fn write_warnings(text: &mut String, plan: &Plan) {
    let warnings = plan.file.iter().flat_map(|file| &file.warnings);
    for (warning, start) in warnings.zip(std::iter::once("\n\n").chain(std::iter::repeat("\n"))) {
        let _ = write!(text, "{start}warning: {warning}");
    }
}
