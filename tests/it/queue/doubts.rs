//! Doubt belongs to the question: it survives imports, cancel, prune and retry.

use deskbatch::domain::job::TargetStatus;
use deskbatch::domain::verdict::Verdict;
use deskbatch::queue::{Cancelled, Conclusions, RecordFilter, RequeueOptions, SameManifest};
use futures_util::TryStreamExt as _;

use crate::support::auto_commit::AutoCommit as _;
use crate::support::engine::{Engine, on_each_engine};
use crate::support::queue::{APP, NOW_MS, TestQueue};
use crate::support::service::{Bench, code, lost, ok};

/// How long a request can still be applied after its slot, or after the run stopped waiting for it.
const UNDER_WAY_MAX_MS: i64 = 30_000;

/// A request whose response was lost: its jobs are pending again.
async fn lose(queue: &TestQueue, jobs: usize) {
    let claimed = queue.claim(jobs).await;
    let how =
        RequeueOptions { counts_as_attempt: true, in_doubt: true, ..RequeueOptions::default() };
    let settled = queue.response(&claimed, Verdict::Transient, None);
    queue.requeue(&settled, how, &Conclusions::default()).await.unwrap();
}

/// Whether the next claim is in doubt, once no request can still be applied.
async fn claim_is_in_doubt(queue: &TestQueue) -> bool {
    let scheduled_ms = NOW_MS + 2 * UNDER_WAY_MAX_MS;
    loop {
        let claimed = queue.claim_free(queue.run, |_, _| 9, scheduled_ms).await.unwrap();
        let jobs = claimed.expect("a is claimed").jobs;
        if let Some(job) = jobs.iter().find(|job| job.question_id.as_str() == "a") {
            return job.in_doubt;
        }
    }
}

/// The states of the jobs in doubt, with their questions.
async fn in_doubt(queue: &TestQueue) -> Vec<String> {
    let filter = RecordFilter { in_doubt: true, ..RecordFilter::default() };
    let records: Vec<_> = queue.records(filter).try_collect().await.unwrap();
    let status = queue.status().await.unwrap();
    assert_eq!(status.in_doubt, records.len() as u64);
    let own = records.iter().filter(|record| !record.question_id.starts_with("by-"));
    own.map(|record| format!("{} {}", record.question_id, record.state)).collect()
}

/// A run dies with all jobs in flight, `manifest` is imported, and the next run begins.
async fn dies_in_flight(bench: &Bench, manifest: &str) {
    let queue = &bench.queue;
    let dead = queue.start_run().await;
    let claimed = queue.claim_free(dead, |_, _| 9, NOW_MS).await.unwrap().unwrap();
    queue.import(manifest).await;
    let recovery = queue.reacquire(APP, NOW_MS).await.recovery();
    let jobs = claimed.jobs.len() as u64;
    assert_eq!((recovery.orphans, recovery.orphans_withdrawn), (jobs, jobs));
}

async fn cancelled_job_stays_in_doubt(engine: Engine) {
    let queue = TestQueue::begun_on(engine).await;
    queue.import("a delete, b delete").await;
    lose(&queue, 1).await;
    let cancelled = queue.cancel_batch(3, NOW_MS).await.unwrap();
    assert_eq!(cancelled, Some(Cancelled { pending: 2, in_doubt: 1, in_flight: 0 }));
    assert_eq!(in_doubt(&queue).await, ["a cancelled"]);
    queue.import("a delete").await;
    assert_eq!(in_doubt(&queue).await, ["a pending"]);
    assert!(claim_is_in_doubt(&queue).await);
}

/// A rejected chunk may have been applied all the same. That is too weak to take a later rejection as
/// proof that the delete was applied.
async fn job_withdrawn_after_rejection_is_in_doubt(engine: Engine) {
    for is_cancelled in [true, false] {
        let queue = TestQueue::begun_on(engine).await;
        queue.import("a delete, b delete").await;
        let claimed = queue.claim(2).await;
        let how = RequeueOptions {
            reserved_by: Some(queue.run),
            counts_as_attempt: true,
            ..RequeueOptions::default()
        };
        let settled = queue.response(&claimed, Verdict::Rejected, Some(-50_003));
        queue.requeue(&settled, how, &Conclusions::default()).await.unwrap();
        assert_eq!(in_doubt(&queue).await, [""; 0]);
        let left = if is_cancelled {
            let cancelled = queue.cancel_batch(3, NOW_MS).await.unwrap();
            assert_eq!(cancelled, Some(Cancelled { pending: 2, in_doubt: 2, in_flight: 0 }));
            ["a cancelled", "b cancelled"]
        } else {
            queue.import("a delete, b delete").await;
            ["a pending", "b pending"]
        };
        assert_eq!(in_doubt(&queue).await, left);
        if !is_cancelled {
            assert!(!claim_is_in_doubt(&queue).await);
        }
    }
}

async fn superseding_job_inherits_doubt(engine: Engine) {
    for (older, newer, same) in [
        ("a delete", "a delete", true),
        ("a enable", "a delete", false),
        ("a delete", "a enable", false),
    ] {
        for dies in [false, true] {
            let mut queue = TestQueue::begun_on(engine).await;
            queue.import(older).await;
            if dies {
                queue.claim(1).await;
            } else {
                lose(&queue, 1).await;
            }
            queue.import(newer).await;
            queue.run = queue.start_run().await;
            assert_eq!(in_doubt(&queue).await, ["a pending"], "{older}, {newer}");
            assert_eq!(claim_is_in_doubt(&queue).await, same, "{older}, {newer}");
        }
    }
}

async fn retried_job_keeps_doubt(engine: Engine) {
    let mut queue = TestQueue::begun_on(engine).await;
    queue.import("a delete").await;
    lose(&queue, 1).await;
    queue.fail(&queue.claim(1).await, -50_011).await;
    assert_eq!(in_doubt(&queue).await, ["a failed"]);
    queue.retry_failed(&[], Some(3)).await.unwrap();
    queue.run = queue.start_run().await;
    assert!(claim_is_in_doubt(&queue).await);
}

async fn prune_keeps_doubt_of_later_job(engine: Engine) {
    let queue = TestQueue::begun_on(engine).await;
    queue.import("a delete").await;
    lose(&queue, 1).await;
    queue.cancel_batch(3, NOW_MS).await.unwrap();
    queue.import("a delete").await;
    let later_ms = NOW_MS + 1_000;
    assert_eq!(queue.prune(later_ms, later_ms).await.unwrap().jobs, 1);
    assert!(claim_is_in_doubt(&queue).await);
}

async fn doubt_outlives_the_prune_of_its_last_job(engine: Engine) {
    let queue = TestQueue::begun_on(engine).await;
    queue.import("a delete").await;
    lose(&queue, 1).await;
    queue.cancel_batch(3, NOW_MS).await.unwrap();
    queue.prune(NOW_MS + 1_000, NOW_MS + 1_000).await.unwrap();
    assert_eq!(in_doubt(&queue).await, [""; 0]);
    queue.import("a delete").await;
    assert_eq!(in_doubt(&queue).await, ["a pending"]);
    assert!(claim_is_in_doubt(&queue).await);
}

/// A retry covers only failed jobs: it does not revive a job that was cancelled in flight.
async fn retry_revives_no_job_cancelled_in_flight(engine: Engine) {
    let mut queue = TestQueue::begun_on(engine).await;
    queue.import("a delete, b delete").await;
    queue.fail(&queue.claim(1).await, -7).await;
    queue.claim(1).await;
    queue.cancel_batch(3, NOW_MS).await.unwrap();
    queue.retry_failed(&[], Some(3)).await.unwrap();
    queue.run = queue.start_run().await;
    assert!(queue.job("a").await.starts_with("pending "));
    assert!(queue.job("b").await.starts_with("cancelled "));
    assert_eq!(in_doubt(&queue).await, ["b cancelled"]);
}

/// A refused connection counts as an attempt but cannot have changed anything.
async fn attempt_that_never_left_leaves_no_doubt(engine: Engine) {
    let queue = TestQueue::begun_on(engine).await;
    queue.import("a delete, b delete").await;
    let how = RequeueOptions { counts_as_attempt: true, ..RequeueOptions::default() };
    let settled = queue.response(&queue.claim(2).await, Verdict::Transient, None);
    queue.requeue(&settled, how, &Conclusions::default()).await.unwrap();
    // The job is rejected alone for good, and then retried.
    queue.fail(&queue.claim(1).await, -50_011).await;
    queue.retry_failed(&[], Some(3)).await.unwrap();
    let cancelled = queue.cancel_batch(3, NOW_MS).await.unwrap();
    assert_eq!(cancelled, Some(Cancelled { pending: 2, in_doubt: 0, in_flight: 0 }));
}

async fn applied_request_settles_doubt(engine: Engine) {
    let queue = TestQueue::begun_on(engine).await;
    queue.import("a enable").await;
    lose(&queue, 1).await;
    assert_eq!(in_doubt(&queue).await, ["a pending"]);
    queue.succeed(&queue.claim(1).await).await;
    assert_eq!(in_doubt(&queue).await, [""; 0]);
    let lost = RecordFilter { response_lost: true, ..RecordFilter::default() };
    let lost: Vec<_> = queue.records(lost).try_collect().await.unwrap();
    assert_eq!(lost.iter().map(|r| r.question_id.as_str()).collect::<Vec<_>>(), ["a"]);
    // This request can still be applied after later ones.
    queue.import("a disable").await;
    let due = format!("pending due={}", 50 + UNDER_WAY_MAX_MS);
    assert_eq!(queue.job("a").await, due);
}

#[tokio::test]
async fn other_status_waits_for_lost_request() {
    let bench = Bench::new("a enable").await;
    dies_in_flight(&bench, "a disable, b enable").await;
    bench.service.responds_with([ok(), ok()]);
    assert_eq!(bench.run().await.totals.succeeded, 2);
    let left = "SELECT max(scheduled_ms) FROM requests WHERE target_status = 5";
    assert!(bench.queue.figure(left).await >= NOW_MS + UNDER_WAY_MAX_MS);
    let left = "SELECT max(scheduled_ms) FROM requests WHERE target_status = 4";
    assert!(bench.queue.figure(left).await < NOW_MS + UNDER_WAY_MAX_MS);
}

#[tokio::test]
async fn nightly_delete_explains_last_nights_doubt() {
    let bench = Bench::new("a delete, b delete").await;
    dies_in_flight(&bench, "a delete, b delete").await;
    bench.service.refuses(&[("a", -50_003), ("b", -50_003)]);
    let report = bench.run().await;
    assert_eq!((report.totals.succeeded_in_doubt, report.totals.failed), (2, 0));
    assert_eq!(in_doubt(&bench.queue).await, [""; 0]);
}

#[tokio::test]
async fn lost_enable_explains_no_rejected_delete() {
    let bench = Bench::new("a enable").await;
    dies_in_flight(&bench, "a delete").await;
    bench.service.responds_with([code(-50_003)]);
    assert_eq!(bench.run().await.totals.failed, 1);
    assert_eq!(in_doubt(&bench.queue).await, ["a failed"]);
}

#[tokio::test]
async fn lost_responses_are_counted_by_request() {
    let bench = Bench::new("a enable, b enable").await;
    bench.service.responds_with([lost(), ok()]);
    bench.run().await;
    let status = bench.queue.status().await.unwrap();
    assert_eq!((status.responses_lost, status.orphaned, status.in_doubt), (1, 0, 0));
}

async fn batch_state_uses_latest_job_of_each_question(engine: Engine) {
    let queue = TestQueue::begun_on(engine).await;
    queue.import("a enable, b enable, c enable, d enable").await;
    queue.succeed(&queue.claim(1).await).await;
    queue.fail(&queue.claim(1).await, -7).await;
    let unfinished = queue.unfinished_jobs(3).await.unwrap();
    assert_eq!((unfinished.open, unfinished.failed, unfinished.superseded), (2, 1, 0));
    // Another target status for a, the same for b and c. The job of b succeeds.
    queue.import("a disable, b enable, c enable").await;
    let b = queue.id("b").await;
    queue.sql(&format!("UPDATE jobs SET reserved_by_run_id = {} WHERE id = {b}", queue.run)).await;
    let claimed =
        queue.claim_reserved(queue.run, TargetStatus::Enable, &[b], NOW_MS).await.unwrap();
    queue.succeed(&claimed.unwrap()).await;
    queue.cancel_batch(4, NOW_MS).await.unwrap();
    queue.cancel_batch(3, NOW_MS).await.unwrap();
    let unfinished = queue.unfinished_jobs(3).await.unwrap();
    assert_eq!(
        (unfinished.open, unfinished.failed, unfinished.cancelled, unfinished.superseded),
        (0, 0, 2, 1)
    );
    let pruned = queue.prune(NOW_MS + 1_000, NOW_MS + 1_000).await.unwrap();
    assert!(pruned.batches > 1 && queue.unfinished_jobs(3).await.unwrap().is_pruned);
    let again = queue.import_as(1, "a enable", SameManifest::Continues).await;
    assert!(matches!(again, deskbatch::queue::Imported::New { .. }), "{again:?}");
}

on_each_engine! {
    cancelled_job_stays_in_doubt,
    job_withdrawn_after_rejection_is_in_doubt,
    superseding_job_inherits_doubt,
    retried_job_keeps_doubt,
    prune_keeps_doubt_of_later_job,
    doubt_outlives_the_prune_of_its_last_job,
    retry_revives_no_job_cancelled_in_flight,
    attempt_that_never_left_leaves_no_doubt,
    applied_request_settles_doubt,
    batch_state_uses_latest_job_of_each_question,
}
