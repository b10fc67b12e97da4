//! Which jobs' failures decide the exit code of a run, and what changed among them since it began.

use crate::commands::error::CommandError;
use crate::domain::job::App;
use crate::queue::{ApprovalId, BatchId, Covers, Queue};

/// The jobs that a run answers for, and their counts when it began.
pub(super) struct FailureScope {
    pub(super) jobs: ScopeJobs,
    /// The approval of the run's deletes, or of all that it sends.
    pub(super) approval: Option<ApprovalId>,
    /// Jobs that were cancelled and superseded already.
    withdrawn_before: [u64; 2],
    /// Jobs that the approval no longer covered.
    uncovered_before: u64,
}

/// How the jobs of a [`FailureScope`] are selected.
pub(super) enum ScopeJobs {
    /// Those of these batches (unfinished, or of the named file) and of every batch after `last`.
    Batches { named: Vec<BatchId>, last: BatchId },
    /// Those of an approved plan.
    Plan(ApprovalId),
}

impl FailureScope {
    pub(super) async fn new(
        app: App,
        approval: Option<(ApprovalId, Covers)>,
        batch: Option<BatchId>,
        queue: &Queue,
    ) -> Result<Self, CommandError> {
        let jobs = if let Some((plan, Covers::Plan)) = approval {
            ScopeJobs::Plan(plan)
        } else {
            let mut named = queue.unfinished_batches(app).await?;
            named.extend(batch);
            ScopeJobs::Batches { named, last: queue.last_batch().await? }
        };
        let approval = approval.map(|(approval, _)| approval);
        let withdrawn_before = jobs.withdrawn(app, queue).await?;
        let uncovered_before = uncovered(approval, queue).await?;
        Ok(Self { jobs, approval, withdrawn_before, uncovered_before })
    }

    pub(super) fn is_plan(&self) -> bool {
        matches!(self.jobs, ScopeJobs::Plan(_))
    }

    /// Whether the run can end at once. Without a plan, unapproved deletes are a reason to begin: the run
    /// then ends with 3 and says how many there are.
    pub(super) async fn has_nothing_to_send(
        &self,
        app: App,
        queue: &Queue,
    ) -> Result<bool, CommandError> {
        let open = queue.open_jobs(app, self.approval).await?;
        Ok(open.to_send == 0 && (self.is_plan() || open.unapproved == 0))
    }

    /// Jobs cancelled and superseded since the run began.
    pub(super) async fn withdrawn_since(
        &self,
        app: App,
        queue: &Queue,
    ) -> Result<[u64; 2], CommandError> {
        let [cancelled, superseded] = self.jobs.withdrawn(app, queue).await?;
        let [cancelled_before, superseded_before] = self.withdrawn_before;
        Ok([
            cancelled.saturating_sub(cancelled_before),
            superseded.saturating_sub(superseded_before),
        ])
    }

    /// Jobs of the plan that were retried since the run began. Without a plan a retried job is sent
    /// again, or counts as an unapproved delete.
    pub(super) async fn retried_since(&self, queue: &Queue) -> Result<u64, CommandError> {
        let plan = self.approval.filter(|_| self.is_plan());
        Ok(uncovered(plan, queue).await?.saturating_sub(self.uncovered_before))
    }
}

impl ScopeJobs {
    async fn withdrawn(&self, app: App, queue: &Queue) -> Result<[u64; 2], CommandError> {
        Ok(match self {
            Self::Plan(approval) => queue.withdrawn_of_approval(*approval).await?,
            Self::Batches { .. } => {
                let counts = queue.counts_of_app(app).await?;
                [counts.cancelled, counts.superseded]
            }
        })
    }
}

async fn uncovered(approval: Option<ApprovalId>, queue: &Queue) -> Result<u64, CommandError> {
    match approval {
        Some(approval) => Ok(queue.uncovered_by_approval(approval).await?),
        None => Ok(0),
    }
}
