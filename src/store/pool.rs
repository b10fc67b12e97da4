//! Where a run finds free jobs: among those of its app, or of the approval that it is bound to,
//! each by an index of its own. Only reads.

use std::sync::{Arc, PoisonError};

use sqlx::Row as _;

use super::write::Text;
use super::{Doing as _, RunId, Store, StoreError};
use crate::job::Status;

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

    async fn find_pool(&self, run: RunId) -> Result<Pool, StoreError> {
        const DOING: &str = "look at its run";
        let row =
            sqlx::query("SELECT app_id, approval_id FROM runs WHERE id = ? AND ending IS NULL")
                .bind(run)
                .fetch_optional(&self.readers)
                .await
                .doing(DOING)?;
        let row = row.ok_or(StoreError::TakenOver { run })?;
        let approval: Option<i64> = row.try_get(1).doing(DOING)?;
        Ok(match approval {
            Some(approval) => Pool::new("approval_id", approval),
            None => Pool::new("app_id", row.try_get(0).doing(DOING)?),
        })
    }
}

/// Which jobs those are, and the statements that ask for them.
#[derive(Debug, Clone)]
pub(super) struct Pool {
    pub(super) id: i64,
    /// The status of the first jobs that are due, and those of it.
    pub(super) free: Text,
    /// The same from the other end.
    pub(super) last: Text,
    /// When the next one is due.
    pub(super) next_due: Arc<str>,
}

impl Pool {
    pub(super) fn new(column: &str, id: i64) -> Self {
        let pending = |status: &str| {
            format!(
                "jobs AS job WHERE job.{column} = ?1 AND status = {status} AND state = 'pending' AND held_by IS NULL"
            )
        };
        let each = |text: &dyn Fn(Status) -> String| Status::ALL.map(text).join(" UNION ALL ");
        let first = each(&|status| {
            // The limits are bound in the order of the statuses.
            let most = 3 + status as usize;
            let pending = pending(&status.code().to_string());
            format!(
                "SELECT * FROM (SELECT status, due_ms, id, ?{most} AS most
                 FROM {pending} AND ?{most} > 0 {DUE} LIMIT 1)"
            )
        });
        let free = format!(
            "WITH first AS MATERIALIZED (SELECT status, most FROM ({first}) ORDER BY due_ms, id LIMIT 1)
             SELECT (SELECT status FROM first), {FOUND} {} {DUE} LIMIT coalesce((SELECT most FROM first), 0))",
            pending("(SELECT status FROM first)")
        );
        let next_due = each(&|status| {
            let and_wanted = if status == Status::Delete { "AND ?2" } else { "" };
            let pending = pending(&status.code().to_string());
            format!("SELECT min(due_ms) AS due FROM {pending} {and_wanted}")
        });
        let next_due = format!("SELECT min(due) FROM ({next_due})");
        let last = Text::new(&free.replace("ORDER BY due_ms, id", "ORDER BY due_ms DESC, id DESC"));
        Self { id, free: Text::new(&free), last, next_due: next_due.into() }
    }
}

/// Number, question, whether in doubt, batch and approval (0: none) of the jobs of a table and the
/// conditions that follow, up to a bracket. All come in one row, as JSON: each row of its own wakes
/// two threads.
pub(super) const FOUND: &str = "
    json_group_array(json_array(id, question_id, in_doubt, batch_id, approval)) FROM (
      SELECT id, question_id, in_doubt, batch_id, coalesce(approval_id, 0) AS approval FROM";

/// Those that are due and whose question is not in flight for an older job, the oldest first.
const DUE: &str = "AND due_ms <= ?2
    AND NOT EXISTS (SELECT 1 FROM jobs AS other WHERE other.state = 'in_flight' AND other.newest = 0
        AND other.app_id = job.app_id AND other.question_id = job.question_id)
    ORDER BY due_ms, id";
