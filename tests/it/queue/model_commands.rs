//! `cancel` and `retry` in the model of the queue.

use crate::queue::model_queue::{Model, ModelBatch, ModelJob};

impl Model {
    /// The number of pending jobs, those of them in doubt, and jobs in flight; `None` if there is no
    /// such batch.
    pub fn cancel(&mut self, batch: i64, now_ms: i64) -> Option<(u64, u64, u64)> {
        let live = |row: &&mut ModelBatch| row.id == batch && !row.pruned;
        self.batches.iter_mut().find(live)?.cancelled = true;
        let (mut cancelled, mut in_doubt, mut in_flight) = (0, 0, 0);
        let pending =
            |job: &&ModelJob| job.batch == batch && job.state == "pending" && job.rejected;
        let withdrawn = self.jobs.iter().filter(pending);
        let withdrawn = withdrawn.map(|job| (job.question.clone(), job.status)).collect();
        self.doubt_withdrawn(withdrawn);
        let before = self.clone();
        for job in &mut self.jobs {
            if job.batch == batch && job.state == "in_flight" {
                job.cancelling = true;
                in_flight += 1;
            }
            if job.batch == batch && job.state == "pending" {
                in_doubt += u64::from(before.in_doubt(&job.question));
                job.state = "cancelled";
                job.reserved_by = None;
                job.not_before_ms = 0;
                job.finished_ms = Some(now_ms);
                cancelled += 1;
            }
        }
        Some((cancelled, in_doubt, in_flight))
    }

    /// The number of jobs pending again, and of jobs that a later import covers.
    pub fn retry(&mut self, code: Option<i64>, batch: Option<i64>) -> (u64, u64) {
        let (mut pending, mut left) = (0, 0);
        for job in &mut self.jobs {
            let meant = job.state == "failed"
                && code.is_none_or(|code| job.code == Some(code))
                && batch.is_none_or(|batch| job.batch == batch);
            if meant && job.newest {
                job.state = "pending";
                job.approved = false;
                job.not_before_ms = 0;
                job.finished_ms = None;
                job.code = None;
                job.rejected = false;
                pending += 1;
            } else if meant {
                left += 1;
            }
        }
        (pending, left)
    }
}
