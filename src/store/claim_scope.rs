//! Which jobs a run may claim: deletes that its approval covers and no others; other jobs of its app,
//! or those of its approval where that is a plan's. Only reads.

use std::sync::PoisonError;

use sqlx::Row as _;

use super::{ApprovalId, Covers, Doing as _, RunId, Store, StoreError};
use crate::domain::job::Status;

/// The jobs that a run may claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ClaimScope {
    pub(super) app_id: i64,
    pub(super) approval: Option<(ApprovalId, Covers)>,
}

impl ClaimScope {
    /// The condition on `jobs` for jobs of `status`, by the index that is for it, and its value.
    /// `None`: the run may claim none.
    pub(super) fn condition(self, status: Status) -> Option<(&'static str, i64)> {
        match self.approval {
            Some((approval, covers)) if covers.is_about(status) => {
                Some(("approval_id = ?1", approval))
            }
            None if status == Status::Delete => None,
            _ => Some(("app_id = ?1", self.app_id)),
        }
    }
}

impl Store {
    /// The scope of `run`. Read once: it stays as it is while the run lives.
    pub(super) async fn claim_scope(&self, run: RunId) -> Result<ClaimScope, StoreError> {
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

    /// Has the next claim read the scope again.
    pub(super) fn forget_claim_scope(&self) {
        *self.scope.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    async fn read_claim_scope(&self, run: RunId) -> Result<ClaimScope, StoreError> {
        const DOING: &str = "look at its run";
        let row = sqlx::query(
            "SELECT runs.app_id, approval_id, covers
             FROM runs LEFT JOIN approvals ON approvals.id = approval_id
             WHERE runs.id = ? AND ending IS NULL",
        )
        .bind(run)
        .fetch_optional(&self.readers)
        .await
        .doing(DOING)?
        .ok_or(StoreError::TakenOver { run })?;
        let approval: Option<ApprovalId> = row.try_get(1).doing(DOING)?;
        let covers: Option<&str> = row.try_get(2).doing(DOING)?;
        let covers =
            if covers == Some(Covers::Plan.name()) { Covers::Plan } else { Covers::Deletes };
        Ok(ClaimScope {
            app_id: row.try_get(0).doing(DOING)?,
            approval: approval.map(|approval| (approval, covers)),
        })
    }
}
