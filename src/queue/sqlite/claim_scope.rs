//! The jobs that a run may claim.
//!
//! A run claims only those deletes that its approval covers. It claims all other jobs of its app, or,
//! if its approval is of a plan, only the jobs of that plan. This module only reads.

use std::sync::PoisonError;

use sqlx::Row as _;

use crate::domain::job::TargetStatus;
use crate::queue::sqlite::SqliteQueue;
use crate::queue::{ApprovalId, Context as _, Covers, QueueError, RunId};

/// The jobs that a run may claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::queue) struct ClaimScope {
    pub(in crate::queue) app_id: i64,
    pub(in crate::queue) approval: Option<(ApprovalId, Covers)>,
}

impl ClaimScope {
    /// The condition on `jobs` that selects jobs of `status` through its index, and the value to bind.
    /// `None` if the run may claim no such job.
    pub(in crate::queue) fn condition(self, status: TargetStatus) -> Option<(&'static str, i64)> {
        match self.approval {
            Some((approval, covers)) if covers.is_about(status) => {
                Some(("approval_id = ?1", approval))
            }
            None if status == TargetStatus::Delete => None,
            _ => Some(("app_id = ?1", self.app_id)),
        }
    }
}

impl SqliteQueue {
    /// The scope of `run`. Read once, since it does not change while the run lives.
    pub(in crate::queue) async fn claim_scope(&self, run: RunId) -> Result<ClaimScope, QueueError> {
        let known = *self.scope.lock().unwrap_or_else(PoisonError::into_inner);
        match known {
            Some((of, scope)) if of == run => Ok(scope),
            _ => {
                let scope = self.read_claim_scope(run).await?;
                *self.scope.lock().unwrap_or_else(PoisonError::into_inner) = Some((run, scope));
                Ok(scope)
            }
        }
    }

    /// Makes the next claim read the scope again.
    pub(in crate::queue) fn forget_claim_scope(&self) {
        *self.scope.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    async fn read_claim_scope(&self, run: RunId) -> Result<ClaimScope, QueueError> {
        const CONTEXT: &str = "read the run";
        let row = sqlx::query(
            "SELECT runs.app_id, approval_id, covers
             FROM runs LEFT JOIN approvals ON approvals.id = approval_id
             WHERE runs.id = ? AND ending IS NULL",
        )
        .bind(run)
        .fetch_optional(&self.readers)
        .await
        .context(CONTEXT)?
        .ok_or(QueueError::TakenOver { run })?;
        let approval: Option<ApprovalId> = row.try_get(1).context(CONTEXT)?;
        let covers: Option<&str> = row.try_get(2).context(CONTEXT)?;
        let covers =
            if covers == Some(Covers::Plan.name()) { Covers::Plan } else { Covers::Deletes };
        Ok(ClaimScope {
            app_id: row.try_get(0).context(CONTEXT)?,
            approval: approval.map(|approval| (approval, covers)),
        })
    }
}
