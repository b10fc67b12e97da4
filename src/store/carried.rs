//! What a request carries: which jobs, and in which tallies they are counted. Its claim finds
//! that out, and its answer, which brings the same jobs on, does not look for it again.
//!
//! Relies on the run lock: whoever has it alone claims, settles and approves, and nothing else
//! moves a job in flight, or its batch, status or approval, while its request is open. Where that
//! does not hold, the figures do not fit and nothing is written.

use std::collections::BTreeMap;

use sqlx::Sqlite;
use sqlx::query::Query;
use sqlx::sqlite::SqliteArguments;

use super::write::{Text, json};
use super::{BatchId, RequestId, StoreError};
use crate::domain::job::{JobId, Status};

/// A request, and what it carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Carried {
    pub(super) request: RequestId,
    pub(super) load: Load,
}

impl Carried {
    /// The number of the request.
    pub fn request(&self) -> RequestId {
        self.request
    }
}

/// Jobs that go together, and where they are counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Load {
    pub(super) status: Status,
    /// How many jobs.
    pub(super) jobs: u64,
    first: JobId,
    last: JobId,
    /// Their numbers as JSON, where they do not follow one another.
    listed: Option<String>,
    /// Whether a request for one of their questions has lost its response.
    pub(super) doubted: bool,
    /// How many tallies.
    pub(super) tallies: u64,
    /// Batch, approval (0: none) and number of jobs of each tally, as JSON.
    shares: String,
}

impl Load {
    /// Jobs of `status`, at least one, by their numbers, batches and approvals (0: none).
    pub(super) fn new(status: Status, jobs: impl Iterator<Item = (JobId, BatchId, i64)>) -> Self {
        let mut ids: Vec<JobId> = Vec::new();
        let mut shares: BTreeMap<(BatchId, i64), i64> = BTreeMap::new();
        for (id, batch, approval) in jobs {
            ids.push(id);
            *shares.entry((batch, approval)).or_default() += 1;
        }
        let first = ids.iter().copied().min().unwrap_or_default();
        let last = ids.iter().copied().max().unwrap_or_default();
        let by_tally: Vec<_> =
            shares.iter().map(|((batch, approval), jobs)| (batch, approval, jobs)).collect();
        let in_a_row = usize::try_from(last - first + 1) == Ok(ids.len());
        Self {
            status,
            jobs: ids.len() as u64,
            first,
            last,
            listed: (!in_a_row).then(|| json(&ids)),
            doubted: false,
            tallies: by_tally.len() as u64,
            shares: json(&by_tally),
        }
    }

    /// That its jobs are not as its claim has found them.
    pub(super) fn changed(&self) -> StoreError {
        let reason = "it, or one of those that went with it, was changed by another program while it was on its way";
        StoreError::Impossible { table: "jobs", row: self.first, reason: reason.to_owned() }
    }

    /// The form of the text that is for these jobs.
    pub(super) fn form<'t>(&self, text: &'t OfJobs) -> &'t Text {
        if self.listed.is_some() { &text.listed } else { &text.in_a_row }
    }

    /// The value, or the two, that [`OfJobs`] asks for in the place of the jobs.
    pub(super) fn bind<'q>(
        &self,
        statement: Query<'q, Sqlite, SqliteArguments>,
    ) -> Query<'q, Sqlite, SqliteArguments> {
        match &self.listed {
            Some(ids) => statement.bind(ids.clone()),
            None => statement.bind(self.first).bind(self.last),
        }
    }

    /// The values of [`SHARES`].
    pub(super) fn bind_shares<'q>(
        &self,
        statement: Query<'q, Sqlite, SqliteArguments>,
    ) -> Query<'q, Sqlite, SqliteArguments> {
        statement.bind(self.shares.clone()).bind(self.status.code())
    }
}

/// A text that names jobs, in two forms: numbers that follow one another, as they mostly do, need
/// no list.
#[derive(Debug)]
pub(super) struct OfJobs {
    in_a_row: Text,
    listed: Text,
}

impl OfJobs {
    /// `statements` with the condition that a job's number has to meet.
    pub(super) fn new(statements: impl Fn(&str) -> String) -> Self {
        Self {
            in_a_row: Text::new(&statements("id BETWEEN ? AND ?")),
            listed: Text::new(&statements("id IN (SELECT value FROM json_each(?))")),
        }
    }

    /// Both, for those who look at plans.
    #[cfg(test)]
    pub(super) fn forms(&self) -> [&Text; 2] {
        [&self.in_a_row, &self.listed]
    }
}

/// The tallies of what a request carries, beside those of the table: two values, the shares and
/// the status. Nothing where the statement before has changed nothing.
pub(super) const SHARES: &str = "
    FROM (SELECT value ->> 0 AS batch, value ->> 1 AS approval, value ->> 2 AS jobs FROM json_each(?))
    WHERE batch_id = batch AND status = ? AND approval_id = approval AND changes() > 0";
