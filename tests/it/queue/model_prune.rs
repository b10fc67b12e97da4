//! `prune` in the model of the queue.

use crate::queue::model_queue::{Model, ModelBatch, is_open};

impl Model {
    /// The number of deleted batches and jobs.
    pub fn prune(&mut self, before_ms: i64) -> (u64, u64) {
        let kept = |batch: &ModelBatch| {
            batch.created_ms >= before_ms
                || self.jobs.iter().any(|job| {
                    job.batch == batch.id
                        && (is_open(job) || job.finished_ms.is_none_or(|at| at >= before_ms))
                })
        };
        let gone: Vec<i64> = self
            .batches
            .iter()
            .filter(|batch| !batch.pruned && !kept(batch))
            .map(|batch| batch.id)
            .collect();
        let jobs = self.jobs.len();
        self.jobs.retain(|job| !gone.contains(&job.batch));
        for batch in self.batches.iter_mut().filter(|batch| gone.contains(&batch.id)) {
            batch.pruned = true;
        }
        let used: Vec<i64> = self.jobs.iter().filter_map(|job| job.request).collect();
        let newest = self.requests.last().map(|row| row.id);
        let run = self.run;
        self.requests.retain(|row| {
            row.run == run
                || Some(row.id) == newest
                || used.contains(&row.id)
                || row.responded_ms.is_none_or(|at| at >= before_ms)
        });
        (gone.len() as u64, (jobs - self.jobs.len()) as u64)
    }
}
