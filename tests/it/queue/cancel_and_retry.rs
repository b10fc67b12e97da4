//! `retry` and `cancel`, and the jobs that they must not change.

use deskbatch::queue::Retried;

use crate::support::engine::{Engine, on_each_engine};
use crate::support::manifest::questions;
use crate::support::queue::{NOW_MS, TestQueue};

async fn with_failures(engine: Engine) -> TestQueue {
    let queue = TestQueue::begun_on(engine).await;
    queue.import("a enable, b enable, c enable").await;
    for code in [-50_003, -50_011, -50_003] {
        queue.fail(&queue.claim(1).await, code).await;
    }
    queue.import("d enable, e enable").await;
    queue.fail(&queue.claim(1).await, -50_003).await;
    queue
}

async fn retry_selects_failed_jobs_by_code(engine: Engine) {
    let queue = with_failures(engine).await;
    let retried = queue.retry_failed(&[-50_003], None).await.unwrap();
    assert_eq!(retried, Retried { pending: 3, superseded: 0, cancelled: 1 });
    assert_eq!(queue.states().await, "a:pending b:failed c:pending d:pending e:pending");
    assert_eq!(queue.job("a").await, "pending request=3 attempts=1");
}

async fn retry_selects_failed_jobs_by_batch(engine: Engine) {
    let queue = with_failures(engine).await;
    let retried = queue.retry_failed(&[], Some(3)).await.unwrap();
    assert_eq!(retried, Retried { pending: 3, superseded: 0, cancelled: 0 });
    assert_eq!(queue.states().await, "a:pending b:pending c:pending d:failed e:pending");
}

async fn retry_combines_code_and_batch(engine: Engine) {
    let queue = with_failures(engine).await;
    let retried = queue.retry_failed(&[-50_011, -7], Some(3)).await.unwrap();
    assert_eq!(retried, Retried { pending: 1, superseded: 0, cancelled: 0 });
    assert_eq!(queue.states().await, "a:failed b:pending c:failed d:failed e:pending");
    let none = queue.retry_failed(&[-50_011], Some(4)).await.unwrap();
    assert_eq!(none, Retried { pending: 0, superseded: 0, cancelled: 0 });
}

async fn retry_never_revives_a_job_that_has_a_newer_one(engine: Engine) {
    let queue = with_failures(engine).await;
    queue.import("a delete").await;
    let retried = queue.retry_failed(&[-50_003], Some(3)).await.unwrap();
    assert_eq!(retried, Retried { pending: 1, superseded: 1, cancelled: 0 });
    assert_eq!(queue.states().await, "a:failed b:failed c:pending d:failed e:pending a:pending");
    // The same after the later job is cancelled.
    queue.cancel_batch(5, NOW_MS).await.unwrap();
    let retried = queue.retry_failed(&[-50_003], Some(3)).await.unwrap();
    assert_eq!(retried, Retried { pending: 0, superseded: 1, cancelled: 0 });
    assert_eq!(queue.states().await, "a:failed b:failed c:pending d:failed e:pending a:cancelled");
}

async fn retried_job_can_fail_and_be_retried_again(engine: Engine) {
    let queue = with_failures(engine).await;
    for attempts in [2, 3] {
        queue.retry_failed(&[-50_011], None).await.unwrap();
        let claimed = queue.claim(1).await;
        assert_eq!(questions(&claimed), "b");
        queue.fail(&claimed, -50_011).await;
        assert!(queue.job("b").await.contains(&format!("attempts={attempts} ")));
    }
    queue.check_invariants().await;
}

async fn cancel_ends_only_pending_and_reserved_jobs(engine: Engine) {
    let queue = TestQueue::begun_on(engine).await;
    queue.import("a enable, b enable, c enable, d enable").await;
    queue.import("x enable").await;
    queue.succeed(&queue.claim(1).await).await;
    let held = queue.claim(1).await;
    queue.hold(&held).await;
    let flying = queue.claim(1).await;
    let cancelled = queue.cancel_batch(3, NOW_MS + 9).await.unwrap().unwrap();
    assert_eq!((cancelled.pending, cancelled.in_doubt), (2, 0));
    assert_eq!(queue.states().await, "a:succeeded b:cancelled c:in_flight d:cancelled x:pending");
    assert_eq!(
        queue.job("b").await,
        format!("cancelled request={} attempts=1 finished=9", held.request.id)
    );
    // Jobs that are requeued are cancelled at that time.
    assert_eq!(queue.hold(&flying).await, 1);
    assert_eq!(queue.states().await, "a:succeeded b:cancelled c:cancelled d:cancelled x:pending");
    assert_eq!(questions(&queue.claim(9).await), "x");
}

async fn applied_job_in_flight_succeeds_despite_cancel(engine: Engine) {
    let queue = TestQueue::begun_on(engine).await;
    queue.import("a enable, b enable").await;
    let flying = queue.claim(1).await;
    queue.cancel_batch(3, NOW_MS).await.unwrap();
    queue.succeed(&flying).await;
    assert_eq!(queue.states().await, "a:succeeded b:cancelled");
}

async fn cancel_is_idempotent_and_needs_existing_batch(engine: Engine) {
    let queue = TestQueue::begun_on(engine).await;
    queue.import("a enable").await;
    assert_eq!(queue.cancel_batch(77, NOW_MS).await.unwrap(), None);
    for pending in [1, 0] {
        let cancelled = queue.cancel_batch(3, NOW_MS).await.unwrap().unwrap();
        assert_eq!(cancelled.pending, pending);
    }
    assert_eq!(queue.job("a").await, "cancelled finished=0");
    queue.check_invariants().await;
}

async fn retried_job_ignores_earlier_batch_cancel(engine: Engine) {
    let queue = TestQueue::begun_on(engine).await;
    queue.import("a enable, b enable").await;
    queue.fail(&queue.claim(1).await, -50_003).await;
    queue.cancel_batch(3, NOW_MS).await.unwrap();
    queue.retry_failed(&[-50_003], None).await.unwrap();
    queue.hold(&queue.claim(1).await).await;
    assert_eq!(queue.states().await, "a:pending b:cancelled");
}

async fn failures_are_counted_in_named_and_later_batches(engine: Engine) {
    let queue = with_failures(engine).await;
    assert_eq!(queue.count_failed(&[3], 4).await.unwrap(), 3);
    assert_eq!(queue.count_failed(&[3], 3).await.unwrap(), 4);
    assert_eq!(queue.count_failed(&[], 4).await.unwrap(), 0);
    assert_eq!(queue.last_batch().await.unwrap(), 4);
    let batches = queue.batches().await.unwrap();
    let figures: Vec<_> = batches.iter().map(|b| (b.id, b.jobs, b.unfinished, b.failed)).collect();
    assert_eq!(figures, [(1, 5, 3, 1), (2, 3, 3, 0), (3, 3, 0, 3), (4, 2, 1, 1)]);
}

on_each_engine! {
    retry_selects_failed_jobs_by_code,
    retry_selects_failed_jobs_by_batch,
    retry_combines_code_and_batch,
    retry_never_revives_a_job_that_has_a_newer_one,
    retried_job_can_fail_and_be_retried_again,
    cancel_ends_only_pending_and_reserved_jobs,
    applied_job_in_flight_succeeds_despite_cancel,
    cancel_is_idempotent_and_needs_existing_batch,
    retried_job_ignores_earlier_batch_cancel,
    failures_are_counted_in_named_and_later_batches,
}
