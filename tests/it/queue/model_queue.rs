//! A model of the queue as a few vectors: it repeats what each operation must do in the simplest way,
//! without SQL, index or transaction.

use std::collections::BTreeMap;

use deskbatch::domain::job::JobId;

use crate::queue::model_doubts::{Doubt, TIMEOUT_MAX_MS, UNDER_WAY_MAX_MS};

/// The status of jobs that need an approval.
const DELETE: i64 = 6;

/// The result that a settle records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Succeeded,
    Failed,
    /// Requeued: free or reserved, counted as an attempt or not, in doubt or not.
    Returned {
        held: bool,
        counts: bool,
        in_doubt: bool,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a column")]
pub struct ModelJob {
    pub id: JobId,
    pub batch: i64,
    pub question: String,
    pub status: i64,
    pub state: &'static str,
    pub newest: bool,
    /// Whether the approval of the latest run covers it.
    pub approved: bool,
    pub reserved_by: Option<i64>,
    pub request: Option<i64>,
    pub attempts: i64,
    pub lost: bool,
    /// Whether a chunk with it was rejected as a whole.
    pub rejected: bool,
    /// Whether its batch was cancelled while it was in flight.
    pub cancelling: bool,
    pub not_before_ms: i64,
    pub code: Option<i64>,
    pub finished_ms: Option<i64>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelBatch {
    pub id: i64,
    pub digest: i64,
    pub created_ms: i64,
    pub cancelled: bool,
    pub pruned: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelRequest {
    pub id: i64,
    pub run: i64,
    pub scheduled_ms: i64,
    pub verdict: Option<&'static str>,
    pub responded_ms: Option<i64>,
    pub code: Option<i64>,
}

/// The whole queue of one app.
#[derive(Debug, Clone, Default)]
pub struct Model {
    pub jobs: Vec<ModelJob>,
    pub batches: Vec<ModelBatch>,
    pub requests: Vec<ModelRequest>,
    /// By question and target status.
    pub doubts: BTreeMap<(String, i64), Doubt>,
    pub run: i64,
    run_is_open: bool,
    next_job: JobId,
    next_batch: i64,
    next_request: i64,
    next_run: i64,
}

pub fn is_open(job: &ModelJob) -> bool {
    matches!(job.state, "pending" | "in_flight")
}

impl Model {
    /// An empty queue with these next numbers.
    pub fn new(next_job: JobId, next_batch: i64, next_request: i64, next_run: i64) -> Self {
        Self { next_job, next_batch, next_request, next_run, ..Self::default() }
    }

    /// Begins a run whose approval covers the pending deletes.
    pub fn begin_run(&mut self, now_ms: i64) {
        for job in &mut self.jobs {
            let waits = is_open(job) && !job.cancelling;
            job.approved = job.status == DELETE && job.newest && waits;
        }
        let lost: Vec<ModelJob> =
            self.jobs.iter().filter(|job| job.state == "in_flight").cloned().collect();
        for job in &lost {
            let row = self.requests.iter().find(|row| Some(row.id) == job.request);
            let scheduled_ms = row.expect("its request").scheduled_ms;
            let late_ms = now_ms.min(scheduled_ms + TIMEOUT_MAX_MS) + UNDER_WAY_MAX_MS;
            self.doubt(&job.question, job.status, late_ms);
        }
        let mut withdrawn = Vec::new();
        for job in self.jobs.iter_mut().filter(|job| job.state == "in_flight") {
            job.state = "pending";
            job.not_before_ms = 0;
            job.lost = true;
            job.attempts += 1;
            withdrawn.extend(withdraw_if_asked(job, now_ms));
        }
        self.doubt_withdrawn(withdrawn);
        for job in self.jobs.iter_mut().filter(|job| job.reserved_by.is_some()) {
            job.reserved_by = None;
            job.not_before_ms = 0;
        }
        self.doubts.retain(|_, doubt| doubt.open || doubt.late_ms > now_ms);
        self.hold_back(now_ms);
        for request in self.requests.iter_mut().filter(|request| request.verdict.is_none()) {
            request.verdict = Some("orphaned");
            request.responded_ms = Some(now_ms);
        }
        self.run = self.next_run;
        self.run_is_open = true;
        self.next_run += 1;
    }

    /// Returns whether the run was still active.
    pub fn end_run(&mut self) -> bool {
        for job in self.jobs.iter_mut().filter(|job| job.reserved_by == Some(self.run)) {
            job.reserved_by = None;
        }
        std::mem::replace(&mut self.run_is_open, false)
    }

    /// `None` if the same manifest is already imported.
    pub fn import(
        &mut self,
        digest: i64,
        again: bool,
        rows: &[(String, i64)],
        now_ms: i64,
    ) -> Option<u64> {
        let batch = self.next_batch;
        if !again && self.batches.iter().any(|batch| batch.digest == digest) {
            return None;
        }
        self.next_batch += 1;
        self.batches.push(ModelBatch {
            id: batch,
            digest,
            created_ms: now_ms,
            cancelled: false,
            pruned: false,
        });
        let mut superseded = 0;
        let mut withdrawn = Vec::new();
        for (question, status) in rows {
            for job in self.jobs.iter_mut().filter(|job| job.question == *question && job.newest) {
                job.newest = false;
                if job.state == "pending" {
                    job.state = "superseded";
                    job.reserved_by = None;
                    job.finished_ms = Some(now_ms);
                    withdrawn.extend(job.rejected.then(|| (job.question.clone(), job.status)));
                    superseded += 1;
                }
            }
            self.jobs.push(ModelJob {
                id: self.next_job,
                batch,
                question: question.clone(),
                status: *status,
                state: "pending",
                newest: true,
                approved: false,
                reserved_by: None,
                request: None,
                attempts: 0,
                lost: false,
                rejected: false,
                cancelling: false,
                not_before_ms: 0,
                code: None,
                finished_ms: None,
            });
            self.next_job += 1;
        }
        self.doubt_withdrawn(withdrawn);
        self.hold_back(now_ms);
        Some(superseded)
    }

    /// Claims the first free job and the next ones of its target status whose questions are not in
    /// flight; `None` if the run is over.
    pub fn claim_free(&mut self, most: usize, now_ms: i64) -> Option<Vec<JobId>> {
        let busy: Vec<String> = self
            .jobs
            .iter()
            .filter(|job| job.state == "in_flight" && !job.newest)
            .map(|job| job.question.clone())
            .collect();
        let free = |job: &&ModelJob| {
            job.state == "pending"
                && job.reserved_by.is_none()
                && (job.approved || job.status != DELETE)
                && job.not_before_ms <= now_ms
                && !busy.contains(&job.question)
        };
        let mut due: Vec<&ModelJob> = self.jobs.iter().filter(free).collect();
        due.sort_by_key(|job| (job.not_before_ms, job.id));
        let Some(status) = due.first().map(|job| job.status) else {
            return self.run_is_open.then(Vec::new);
        };
        let of_status = due.iter().filter(|job| job.status == status);
        let ids: Vec<JobId> = of_status.take(most).map(|job| job.id).collect();
        self.claim(ids, now_ms)
    }

    /// Claims those of `ids` that the run still reserves and whose target status is `status`.
    pub fn claim_reserved(
        &mut self,
        ids: &[JobId],
        status: i64,
        now_ms: i64,
    ) -> Option<Vec<JobId>> {
        let held = self.jobs.iter().filter(|job| {
            ids.contains(&job.id)
                && job.state == "pending"
                && job.reserved_by == Some(self.run)
                && job.status == status
        });
        let ids: Vec<JobId> = held.map(|job| job.id).collect();
        self.claim(ids, now_ms)
    }

    fn claim(&mut self, mut ids: Vec<JobId>, now_ms: i64) -> Option<Vec<JobId>> {
        if !self.run_is_open {
            return None;
        }
        if ids.is_empty() {
            return Some(ids);
        }
        ids.sort_unstable();
        let request = self.next_request;
        self.next_request += 1;
        self.requests.push(ModelRequest {
            id: request,
            run: self.run,
            scheduled_ms: now_ms,
            verdict: None,
            responded_ms: None,
            code: None,
        });
        for job in self.jobs.iter_mut().filter(|job| ids.contains(&job.id)) {
            job.state = "in_flight";
            job.request = Some(request);
            job.reserved_by = None;
        }
        Some(ids)
    }

    pub fn release(&mut self, ids: &[JobId]) {
        for job in &mut self.jobs {
            if ids.contains(&job.id) && job.state == "pending" && job.reserved_by == Some(self.run)
            {
                job.reserved_by = None;
                job.not_before_ms = 0;
            }
        }
    }

    /// `false` if the request is not open. `bad` is a job that isolation found without a request of its
    /// own, and the request that has its code.
    pub fn settle(
        &mut self,
        request: i64,
        verdict: Verdict,
        code: i64,
        freed: &[JobId],
        bad: Option<(JobId, i64)>,
        now_ms: i64,
    ) -> bool {
        let Some(row) = self.requests.iter_mut().find(|row| row.id == request) else {
            return false;
        };
        if row.verdict.is_some() {
            return false;
        }
        let succeeded = verdict == Verdict::Succeeded;
        row.verdict = Some(if succeeded { "applied" } else { "rejected" });
        row.responded_ms = Some(now_ms);
        row.code = Some(code);
        let run = self.run;
        let (mut carried_jobs, mut withdrawn) = (Vec::new(), Vec::new());
        let carried =
            |job: &&mut ModelJob| job.state == "in_flight" && job.request == Some(request);
        let is_chunk = self.jobs.iter_mut().filter(carried).count() > 1;
        for job in self.jobs.iter_mut().filter(carried) {
            carried_jobs.push((job.question.clone(), job.status));
            match verdict {
                Verdict::Succeeded | Verdict::Failed => {
                    job.state = if succeeded { "succeeded" } else { "failed" };
                    job.finished_ms = Some(now_ms);
                    job.attempts += 1;
                    job.not_before_ms = 0;
                    job.cancelling = false;
                    job.code = (!succeeded).then_some(code);
                }
                Verdict::Returned { held, counts, in_doubt } => {
                    job.state = "pending";
                    job.reserved_by = held.then_some(run);
                    job.not_before_ms = 0;
                    job.attempts += i64::from(counts);
                    job.lost |= in_doubt;
                    job.rejected |= is_chunk;
                    withdrawn.extend(withdraw_if_asked(job, now_ms));
                }
            }
        }
        self.doubt_withdrawn(withdrawn);
        for (question, status) in carried_jobs {
            if matches!(verdict, Verdict::Returned { in_doubt: true, .. }) {
                self.doubt(&question, status, now_ms + UNDER_WAY_MAX_MS);
                self.hold_back(now_ms);
            } else if succeeded {
                self.settle_doubts(&question, now_ms);
            }
        }
        self.release(freed);
        if let Some((id, refusal)) = bad {
            self.conclude(id, refusal, now_ms);
        }
        true
    }

    /// Fails a job that no request has carried alone, with the code of a request that carried it.
    fn conclude(&mut self, id: JobId, refusal: i64, now_ms: i64) {
        let code = self.requests.iter().find(|row| row.id == refusal).and_then(|row| row.code);
        let doubts = Model { doubts: self.doubts.clone(), ..Model::default() };
        let run = self.run;
        for job in self.jobs.iter_mut().filter(|job| job.id == id) {
            if job.state == "pending"
                && job.reserved_by == Some(run)
                && !doubts.in_doubt(&job.question)
            {
                job.state = "failed";
                job.reserved_by = None;
                job.not_before_ms = 0;
                job.finished_ms = Some(now_ms);
                job.request = Some(refusal);
                job.code = code;
            }
        }
        self.release(&[id]);
    }
}

/// A requeued job becomes superseded or cancelled if a later import or a cancel requires it. Returns
/// its question and target status if that leaves a doubt.
pub fn withdraw_if_asked(job: &mut ModelJob, now_ms: i64) -> Option<(String, i64)> {
    let state = match (job.newest, job.cancelling) {
        (false, _) => "superseded",
        (true, true) => "cancelled",
        (true, false) => return None,
    };
    job.state = state;
    job.reserved_by = None;
    job.not_before_ms = 0;
    job.cancelling = false;
    job.finished_ms = Some(now_ms);
    job.rejected.then(|| (job.question.clone(), job.status))
}
