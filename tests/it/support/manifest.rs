//! Manifests of one line, such as `a enable, b delete`, and what an import reads from them.

#![allow(dead_code, reason = "each test takes what it needs")]

use deskbatch::domain::job::{NewJob, QuestionId, TargetStatus};
use deskbatch::queue::{Claimed, ImportTotals, QueueError};

/// Parses `"a enable, b delete"` as manifest rows.
pub fn parse(manifest: &str) -> Vec<NewJob> {
    let rows = manifest.split(',').map(str::trim).filter(|row| !row.is_empty());
    rows.zip(2..)
        .map(|(row, line)| {
            let (id, status) = row.split_once(' ').unwrap();
            NewJob {
                question_id: QuestionId::parse(id.as_bytes()).unwrap(),
                status: status.parse().unwrap(),
                line,
            }
        })
        .collect()
}

/// A manifest of `count` questions: `q0001`, `q0002`, …
pub fn many(count: usize, status: TargetStatus) -> String {
    (1..=count).map(|n| format!("q{n:04} {status}")).collect::<Vec<_>>().join(", ")
}

/// Distinct questions: `a1` to `aN`.
pub fn names(letter: &str, count: usize) -> Vec<String> {
    (1..=count).map(|n| format!("{letter}{n}")).collect()
}

/// A manifest of these questions.
pub fn listed(names: &[String], status: TargetStatus) -> String {
    names.iter().map(|name| format!("{name} {status}")).collect::<Vec<_>>().join(", ")
}

/// The totals of a manifest of `rows` good rows.
pub fn totals(number: i64, rows: u64) -> ImportTotals {
    ImportTotals {
        name: format!("manifest-{number}"),
        source: format!("manifest-{number}.csv"),
        digest: format!("{number:064}"),
        rows,
        duplicates: 0,
        rejected: 0,
    }
}

/// The questions of a claim: `a b c`.
pub fn questions(claimed: &Claimed) -> String {
    claimed.jobs.iter().map(|job| job.question_id.as_str()).collect::<Vec<_>>().join(" ")
}

/// Whether a late write was rejected.
pub fn is_fenced<T>(outcome: &Result<T, QueueError>) -> bool {
    matches!(outcome, Err(QueueError::Fenced { .. }))
}
