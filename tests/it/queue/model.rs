//! Random operations on the real queue and on its model. Both must be equal after every step.

use std::collections::BTreeMap;

use deskbatch::domain::job::{JobId, TargetStatus};
use deskbatch::domain::verdict::Verdict as Meaning;
use deskbatch::queue::{
    Claimed, ClaimedRequest, Conclusions, Imported, QueueError, RequestId, RequestResult,
    RequeueOptions, RunEnding, SameManifest,
};
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};

use crate::queue::model_compare::compare;
use crate::queue::model_ops::{Op, op};
use crate::queue::model_queue::{Model, ModelJob, Verdict};
use crate::support::approvals::begin_run;
use crate::support::auto_commit::{AutoCommit as _, inferred};
use crate::support::manifest::{is_fenced, parse, totals};
use crate::support::queue::{APP, NOW_MS, TestQueue};
use crate::support::scale::cases;

/// How often each kind of operation had an effect.
type Done = BTreeMap<&'static str, u64>;

/// The time between operations. A request whose response was lost ends after a few of them.
const STEP_MS: i64 = 9_000;

/// Queue, model, and the time, which advances with every step.
struct Both {
    queue: TestQueue,
    model: Model,
    now_ms: i64,
    /// The content of each request, from its claim.
    requests: BTreeMap<RequestId, ClaimedRequest>,
}

impl Both {
    async fn new() -> Self {
        let mut queue = TestQueue::idle().await;
        // No bystanders of the same app, since the operations here concern all of its jobs.
        queue.sql("DELETE FROM jobs WHERE app_id = 1; DELETE FROM job_counters WHERE batch_id = 1; DELETE FROM batches WHERE app_id = 1").await;
        let next = async |table: &str| {
            let sql = format!("SELECT seq + 1 FROM sqlite_sequence WHERE name = '{table}'");
            queue.figure(&sql).await
        };
        let (job, batch) = (next("jobs").await, next("batches").await);
        let (request, run) = (next("requests").await, next("runs").await);
        let mut model = Model::new(job, batch, request, run);
        queue.run = queue.start_run().await;
        model.begin_run(NOW_MS);
        Self { queue, model, now_ms: NOW_MS, requests: BTreeMap::new() }
    }

    fn jobs(&self, which: &[Index]) -> Vec<JobId> {
        let jobs = &self.model.jobs;
        which.iter().filter(|_| !jobs.is_empty()).map(|at| at.get(jobs).id).collect()
    }

    fn batch(&self, which: Index) -> i64 {
        // One number beyond the last batch, which does not exist.
        let batches = &self.model.batches;
        batches.get(which.index(batches.len() + 1)).map_or(999_999, |batch| batch.id)
    }

    /// Applies one operation to both, and names it if it had an effect.
    async fn step(&mut self, op: &Op) -> Option<&'static str> {
        self.now_ms += STEP_MS;
        let now_ms = self.now_ms;
        match op {
            Op::Import { digest, again, rows } => self.import(*digest, *again, rows).await,
            Op::ClaimFree { most } => {
                let run = self.queue.run;
                let claimed = self.queue.claim_free(run, |_, _| *most, now_ms).await;
                let expected = self.model.claim_free(*most, now_ms);
                self.claimed_as(claimed, expected, "claim free")
            }
            Op::ClaimHeld { which, status } => self.claim_reserved(which, i64::from(*status)).await,
            Op::Settle { which, verdict, code, freed, bad } => {
                self.settle(*which, *verdict, *code, freed, *bad).await
            }
            Op::FreeHeld { which } => {
                let ids = self.jobs(which);
                let before = self.model.jobs.clone();
                self.queue.release(self.queue.run, &ids).await.unwrap();
                self.model.release(&ids);
                (before != self.model.jobs).then_some("free held")
            }
            Op::Cancel { which } => {
                let batch = self.batch(*which);
                let cancelled = self.queue.cancel_batch(batch, now_ms).await.unwrap();
                let figures = cancelled.map(|done| (done.pending, done.in_doubt, done.in_flight));
                assert_eq!(figures, self.model.cancel(batch, now_ms), "cancelled");
                figures.filter(|(jobs, ..)| *jobs > 0).map(|(_, in_doubt, _)| match in_doubt {
                    0 => "cancel",
                    _ => "cancel in doubt",
                })
            }
            Op::Retry { code, batch } => {
                let (codes, batch): (Vec<i64>, _) =
                    (code.iter().copied().collect(), batch.map(|at| self.batch(at)));
                let retried = self.queue.retry_failed(&codes, batch).await.unwrap();
                let expected = self.model.retry(*code, batch);
                assert_eq!((retried.pending, retried.superseded), expected, "retried");
                (retried.pending > 0).then_some("retry")
            }
            Op::BeginRun => {
                let orphans = self.model.jobs.iter().any(|job| job.state == "in_flight");
                let lease = self.queue.reacquire(APP, now_ms).await;
                self.queue.run = begin_run(&self.queue, &lease, now_ms).await;
                self.model.begin_run(now_ms);
                assert_eq!(self.queue.run, self.model.run);
                Some(if orphans { "orphan return" } else { "begin run" })
            }
            Op::EndRun => {
                let run = self.queue.run;
                let ended = self.queue.end_run(run, RunEnding::Signal, now_ms).await;
                let was_open = self.model.end_run();
                assert_eq!(ended.is_ok(), was_open, "{ended:?}");
                was_open.then_some("end run")
            }
            Op::Prune { age } => {
                let before_ms = now_ms - age * STEP_MS;
                let pruned = self.queue.prune(before_ms, now_ms).await.unwrap();
                assert_eq!((pruned.batches, pruned.jobs), self.model.prune(before_ms), "pruned");
                (pruned.jobs > 0).then_some("prune")
            }
        }
    }

    async fn claim_reserved(&mut self, which: &[Index], code: i64) -> Option<&'static str> {
        let (ids, status) = (self.jobs(which), TargetStatus::from_code(code).unwrap());
        let claimed = self.queue.claim_reserved(self.queue.run, status, &ids, self.now_ms).await;
        let expected = self.model.claim_reserved(&ids, code, self.now_ms);
        self.claimed_as(claimed, expected, "claim held")
    }

    async fn import(
        &mut self,
        digest: i64,
        again: bool,
        rows: &[(usize, u8)],
    ) -> Option<&'static str> {
        // A manifest reader yields each question once.
        let rows: BTreeMap<usize, u8> = rows.iter().copied().collect();
        let rows: Vec<(String, i64)> =
            rows.iter().map(|(n, status)| (format!("q{n}"), i64::from(*status))).collect();
        let text: Vec<String> = rows.iter().map(|(id, status)| format!("{id} {status}")).collect();
        let totals = totals(digest, rows.len() as u64);
        let mut import = self.queue.begin_import(APP, self.now_ms).await.unwrap();
        for job in parse(&text.join(", ")) {
            import.add_row(job).await.unwrap();
        }
        let same = if again { SameManifest::Again } else { SameManifest::Continues };
        import.preview(&totals.digest, same).await.unwrap();
        let imported = import.commit(&totals).await.unwrap();
        let expected = self.model.import(digest, again, &rows, self.now_ms);
        match imported {
            Imported::New { superseded, .. } => {
                assert_eq!(Some(superseded), expected, "superseded");
                Some(if superseded > 0 { "supersede" } else { "import" })
            }
            Imported::Known { .. } => {
                assert_eq!(expected, None, "known");
                Some("import known")
            }
        }
    }

    async fn settle(
        &mut self,
        which: Index,
        verdict: Verdict,
        code: i64,
        freed: &[Index],
        bad: Option<(Index, Index)>,
    ) -> Option<&'static str> {
        if self.model.requests.is_empty() {
            return None;
        }
        // Mostly an open request; the others are late responses.
        let requests = self.model.requests.iter();
        let open: Vec<i64> =
            requests.filter(|row| row.verdict.is_none()).map(|row| row.id).collect();
        let request =
            if open.is_empty() { which.get(&self.model.requests).id } else { *which.get(&open) };
        let freed = self.jobs(freed);
        let bad = bad.and_then(|(job, refusal)| {
            let job = *self.jobs(&[job]).first()?;
            // Only a job that was in a counted request can be found bad.
            let asked = |row: &&ModelJob| row.id == job && row.attempts > 0;
            self.model.jobs.iter().find(asked)?;
            Some((job, refusal.get(&self.model.requests).id))
        });
        let jobs = bad.into_iter().map(|(job, request)| inferred(job, request)).collect();
        let conclusions = Conclusions { released: freed.clone(), jobs };
        let meaning =
            if verdict == Verdict::Succeeded { Meaning::Applied } else { Meaning::Rejected };
        let settled = RequestResult {
            request: self.requests[&request],
            run: self.queue.run,
            verdict: meaning,
            responded_ms: self.now_ms,
            latency_ms: 1,
            http_status: Some(200),
            code: Some(code),
            info: "it said".to_owned(),
        };
        let queue = &self.queue;
        let (name, fenced) = match verdict {
            Verdict::Succeeded => {
                ("settle succeeded", refused(&queue.settle_succeeded(&settled, &conclusions).await))
            }
            Verdict::Failed => (
                "settle failed",
                refused(&queue.settle_failed(&settled, false, &conclusions).await),
            ),
            Verdict::Returned { held, counts, in_doubt } => {
                let how = RequeueOptions {
                    reserved_by: held.then_some(queue.run),
                    counts_as_attempt: counts,
                    in_doubt,
                    ..RequeueOptions::default()
                };
                let done = queue.requeue(&settled, how, &conclusions).await;
                ("settle returned", refused(&done))
            }
        };
        let failed = |model: &Model| model.jobs.iter().filter(|job| job.state == "failed").count();
        let before = failed(&self.model);
        let open = self.model.settle(request, verdict, code, &freed, bad, self.now_ms);
        assert_eq!(open, !fenced, "fenced");
        match (fenced, verdict) {
            (true, _) => Some("fenced"),
            (false, Verdict::Failed) => Some(name),
            (false, _) if failed(&self.model) > before => Some("conclude"),
            (false, _) => Some(name),
        }
    }

    /// Both claimed the same jobs, or none if the run is over.
    fn claimed_as(
        &mut self,
        claimed: Result<Option<Claimed>, QueueError>,
        expected: Option<Vec<JobId>>,
        name: &'static str,
    ) -> Option<&'static str> {
        match (claimed, expected) {
            // A claim without jobs does not check whether the run is still the latest.
            (Err(QueueError::TakenOver { .. }) | Ok(None), None) => None,
            (Ok(claimed), Some(expected)) => {
                let ids = claimed.as_ref().map(Claimed::ids).unwrap_or_default();
                assert_eq!(ids, expected, "{name}");
                for job in claimed.iter().flat_map(|claimed| &claimed.jobs) {
                    let status = claimed.as_ref().map_or(0, |claimed| claimed.status.code());
                    let in_doubt = self.model.is_lost(job.question_id.as_str(), status);
                    assert_eq!(job.in_doubt, in_doubt, "job {} in doubt", job.id);
                }
                self.requests.extend(claimed.map(|claimed| (claimed.request.id, claimed.request)));
                (!expected.is_empty()).then_some(name)
            }
            (claimed, expected) => panic!("{name}: {claimed:?}, not {expected:?}"),
        }
    }
}

/// Whether the write came too late; any other error fails the test.
fn refused<T: std::fmt::Debug>(settled: &Result<T, QueueError>) -> bool {
    assert!(settled.is_ok() || is_fenced(settled), "{settled:?}");
    is_fenced(settled)
}

async fn follow(ops: &[Op]) -> Done {
    let mut both = Both::new().await;
    let mut done = Done::new();
    for op in ops {
        if let Some(name) = both.step(op).await {
            *done.entry(name).or_default() += 1;
        }
        compare(&both.queue, &both.model, both.now_ms).await;
    }
    assert!(both.queue.ask("PRAGMA foreign_key_check").await.is_empty(), "a row refers to nothing");
    done
}

const KINDS: [&str; 18] = [
    "begin run",
    "cancel",
    "cancel in doubt",
    "claim free",
    "claim held",
    "conclude",
    "end run",
    "fenced",
    "free held",
    "import",
    "import known",
    "orphan return",
    "prune",
    "retry",
    "settle failed",
    "settle returned",
    "settle succeeded",
    "supersede",
];

/// Runs until `operations` are done and each kind has succeeded at least once.
fn queue_and_model_agree(operations: usize, seed: u8) {
    const OPS: usize = 100;
    const CASES: u32 = 10;
    let mut done = Done::new();
    let mut did = 0;
    let mut round: u8 = 0;
    while did < operations || KINDS.iter().any(|kind| !done.contains_key(kind)) {
        let config = Config { cases: CASES, failure_persistence: None, ..Config::default() };
        let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[seed.wrapping_add(round); 32]);
        let collected = std::cell::RefCell::new(Done::new());
        let ran =
            TestRunner::new_with_rng(config, rng).run(&prop::collection::vec(op(), OPS), |ops| {
                let reported = std::panic::catch_unwind(|| {
                    let runtime =
                        tokio::runtime::Builder::new_current_thread().enable_all().build();
                    runtime.unwrap().block_on(follow(&ops))
                });
                let reported = reported.map_err(|_| TestCaseError::fail("they differ"))?;
                for (kind, times) in reported {
                    *collected.borrow_mut().entry(kind).or_default() += times;
                }
                Ok(())
            });
        assert!(ran.is_ok(), "seed {}: {ran:?}", seed.wrapping_add(round));
        for (kind, times) in collected.into_inner() {
            *done.entry(kind).or_default() += times;
        }
        did += CASES as usize * OPS;
        round = round.wrapping_add(1);
    }
}

#[test]
fn queue_matches_model_after_random_operations() {
    queue_and_model_agree(cases(1_000, 50_000), 1);
}
