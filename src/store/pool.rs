//! Where a run finds free jobs: deletes among those of its approval and nowhere else, other jobs
//! among those of its app, or of its approval too where that is of a plan. Each by an index of its
//! own. Only reads.

use std::sync::{Arc, LazyLock, PoisonError};

use sqlx::Row as _;

use super::doubts::DOUBT_OF_JOB;
use super::write::Text;
use super::{ApprovalId, Covers, Doing as _, RunId, Store, StoreError};
use crate::domain::job::Status;

impl Store {
    /// Where `run` finds free jobs. Looked for once: it stays as it is while the run goes on.
    pub(super) async fn pool_of(&self, run: RunId) -> Result<Pool, StoreError> {
        let known = self.pool.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match known {
            Some((of, pool)) if of == run => Ok(pool),
            _ => {
                let pool = self.find_pool(run).await?;
                let kept = Some((run, pool.clone()));
                *self.pool.lock().unwrap_or_else(PoisonError::into_inner) = kept;
                Ok(pool)
            }
        }
    }

    /// Has the next claim look again where its run finds its jobs.
    pub(super) fn forget_pool(&self) {
        *self.pool.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    async fn find_pool(&self, run: RunId) -> Result<Pool, StoreError> {
        const DOING: &str = "look at its run";
        let row = sqlx::query(
            "SELECT runs.app_id, approval_id, covers FROM runs LEFT JOIN approvals ON approvals.id = approval_id
             WHERE runs.id = ? AND ending IS NULL",
        )
        .bind(run)
        .fetch_optional(&self.readers)
        .await
        .doing(DOING)?;
        let row = row.ok_or(StoreError::TakenOver { run })?;
        let app_id: i64 = row.try_get(0).doing(DOING)?;
        let approval: Option<ApprovalId> = row.try_get(1).doing(DOING)?;
        let covers: Option<&str> = row.try_get(2).doing(DOING)?;
        Ok(Pool::new(app_id, approval.map(|id| (id, covers == Some(Covers::Plan.name())))))
    }
}

/// Which jobs those are, and the statements that ask for them.
#[derive(Debug, Clone)]
pub(super) struct Pool {
    pub(super) app_id: i64,
    pub(super) approval: Option<ApprovalId>,
    /// The status of the first jobs that are due, and those of it. Asks for the app, the approval,
    /// the time of the slot, and the most jobs of each status.
    pub(super) free: Text,
    /// The same from the other end.
    pub(super) last: Text,
    /// When the next one is due, by the app and the approval.
    pub(super) next_due: Arc<str>,
}

/// Where jobs of a status are found: the condition on which, and the statuses.
struct Source {
    which: &'static str,
    statuses: Vec<Status>,
}

impl Pool {
    /// Jobs of an app. Deletes, and with a plan all other jobs too, are found by their approval
    /// alone: without one a run has none of them.
    pub(super) fn new(app_id: i64, approval: Option<(ApprovalId, bool)>) -> Self {
        let is_plan = approval.is_some_and(|(_, is_plan)| is_plan);
        let needs_approval = |status: &Status| is_plan || *status == Status::Delete;
        let (approved, free): (Vec<_>, Vec<_>) = Status::ALL.into_iter().partition(needs_approval);
        let sources: Vec<Source> = [
            Source { which: "app_id = ?1", statuses: free },
            Source {
                which: "approval_id = ?2",
                statuses: if approval.is_some() { approved } else { Vec::new() },
            },
        ]
        .into_iter()
        .filter(|source| !source.statuses.is_empty())
        .collect();
        let free = free_sql(&sources);
        Self {
            app_id,
            approval: approval.map(|(id, _)| id),
            last: Text::new(&free.replace("ORDER BY due_ms, id", "ORDER BY due_ms DESC, id DESC")),
            free: Text::new(&free),
            next_due: next_due_sql(&sources).into(),
        }
    }
}

impl Source {
    fn pending(&self, status: &str) -> String {
        let which = self.which;
        format!(
            "jobs AS job WHERE job.{which} AND status = {status} AND state = 'pending' AND held_by IS NULL"
        )
    }

    fn each(&self, text: impl Fn(Status) -> String) -> String {
        self.statuses.iter().map(|status| text(*status)).collect::<Vec<_>>().join(UNION)
    }
}

const UNION: &str = " UNION ALL ";

fn join(sources: &[Source], text: impl Fn(&Source) -> String) -> String {
    sources.iter().map(text).collect::<Vec<_>>().join(UNION)
}

fn free_sql(sources: &[Source]) -> String {
    let first = join(sources, |source| {
        source.each(|status| {
            // The limits are bound in the order of the statuses.
            let most = 4 + status as usize;
            let pending = source.pending(&status.code().to_string());
            format!(
                "SELECT * FROM (SELECT status, due_ms, id, ?{most} AS most
                 FROM {pending} AND ?{most} > 0 {DUE} LIMIT 1)"
            )
        })
    });
    let chunk = join(sources, |source| {
        let statuses: Vec<String> =
            source.statuses.iter().map(|status| status.code().to_string()).collect();
        // NULL, which no job has, where the first one is of the other source.
        let status =
            format!("(SELECT status FROM first WHERE status IN ({}))", statuses.join(", "));
        let pending = source.pending(&status);
        format!(
            "SELECT * FROM (SELECT * FROM {pending} {DUE} LIMIT coalesce((SELECT most FROM first), 0))"
        )
    });
    format!(
        "WITH first AS MATERIALIZED (SELECT status, most FROM ({first}) ORDER BY due_ms, id LIMIT 1)
         SELECT (SELECT status FROM first), {} ({chunk}) AS job)",
        *FOUND
    )
}

fn next_due_sql(sources: &[Source]) -> String {
    let each = join(sources, |source| {
        source.each(|status| {
            let pending = source.pending(&status.code().to_string());
            format!("SELECT min(due_ms) AS due FROM {pending}")
        })
    });
    format!("SELECT min(due) FROM ({each})")
}

/// Number, question, [what is in doubt about it](DOUBT_OF_JOB), batch and approval (0: none) of the
/// jobs of a table and the conditions that follow, up to a bracket. All come in one row, as JSON:
/// each row of its own wakes two threads.
pub(super) static FOUND: LazyLock<String> = LazyLock::new(|| {
    format!(
        "json_group_array(json_array(id, question_id, doubt, batch_id, approval)) FROM (
           SELECT id, question_id, {DOUBT_OF_JOB} AS doubt, batch_id, coalesce(approval_id, 0) AS approval FROM"
    )
});

/// Those that are due and whose question is not in flight for an older job, the oldest first.
const DUE: &str = "AND due_ms <= ?3
    AND NOT EXISTS (SELECT 1 FROM jobs AS other WHERE other.state = 'in_flight' AND other.newest = 0
        AND other.app_id = job.app_id AND other.question_id = job.question_id)
    ORDER BY due_ms, id";
