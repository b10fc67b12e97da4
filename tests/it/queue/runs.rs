//! Runs: what a new one finds after a dead one, and how one ends.

use deskbatch::domain::job::TargetStatus;
use deskbatch::queue::{DUE_WITHIN, QueueError, Recovery, RunEnding};
use strum::VariantArray as _;

use crate::support::auto_commit::AutoCommit as _;
use crate::support::engine::{Engine, on_each_engine};
use crate::support::queue::{APP, NOW_MS, OTHER_APP, TestQueue};

/// A queue whose run has died with `a b` in flight, `c` reserved and `d` free.
async fn left_behind(engine: Engine) -> TestQueue {
    let mut queue = TestQueue::idle_on(engine).await;
    queue.import("a enable, b enable, c delete, d disable").await;
    queue.run = queue.start_run().await;
    queue.claim(2).await;
    let held = queue.claim(1).await;
    assert_eq!(held.status, TargetStatus::Delete);
    queue.hold(&held).await;
    queue
        .sql(&format!(
            "UPDATE jobs SET not_before_ms = {NOW_MS} + 2000 WHERE reserved_by_run_id IS NOT NULL"
        ))
        .await;
    queue
}

async fn run_row(queue: &TestQueue, run: i64) -> String {
    let sql = format!(
        "SELECT coalesce(ending, 'open') || ' ' || coalesce(finished_ms - {NOW_MS}, '-') FROM runs WHERE id = {run}"
    );
    sqlx::Row::get(&queue.ask(&sql).await[0], 0)
}

async fn new_run_requeues_orphans_and_clears_reservations(engine: Engine) {
    let queue = left_behind(engine).await;
    let lease = queue.reacquire(APP, NOW_MS + 70).await;
    assert_eq!(queue.begin_run(&lease, NOW_MS + 70).await.unwrap(), 3);
    assert_eq!(
        lease.recovery(),
        Recovery {
            orphans: 2,
            orphans_withdrawn: 0,
            orphaned_requests: 1,
            last_sent_ms: Some(NOW_MS + 70)
        }
    );
    assert_eq!(queue.states().await, "a:pending b:pending c:pending d:pending");
    assert_eq!(queue.job("a").await, "pending request=2 attempts=1 lost in_doubt");
    assert_eq!(queue.job("c").await, "pending request=3 attempts=1");
    assert_eq!(queue.job("d").await, "pending");
    assert_eq!(run_row(&queue, 2).await, "died 70");
    assert_eq!(run_row(&queue, 3).await, "open -");
    assert_eq!(queue.figure("SELECT count(*) FROM requests WHERE verdict = 'orphaned'").await, 1);
    assert_eq!(queue.status().await.unwrap().orphaned, 1);
}

async fn second_run_of_a_lease_recovers_the_first(engine: Engine) {
    let queue = left_behind(engine).await;
    let lease = queue.lease();
    queue.end_run(queue.run, RunEnding::Signal, NOW_MS + 9).await.unwrap();
    assert_eq!(lease.recovery().orphans, 0);
    queue.begin_run(&lease, NOW_MS + 70).await.unwrap();
    assert_eq!((lease.recovery().orphans, lease.recovery().last_sent_ms), (2, Some(NOW_MS + 70)));
    assert_eq!(queue.states().await, "a:pending b:pending c:pending d:pending");
}

async fn run_of_another_app_requeues_orphans(engine: Engine) {
    let queue = left_behind(engine).await;
    let recovery = queue.reacquire(OTHER_APP, NOW_MS).await.recovery();
    assert_eq!((recovery.orphans, recovery.last_sent_ms), (2, Some(NOW_MS)));
    assert_eq!(queue.job("a").await, "pending request=2 attempts=1 lost in_doubt");
    queue.check_invariants().await;
}

async fn superseded_or_cancelled_orphans_are_not_requeued(engine: Engine) {
    let queue = left_behind(engine).await;
    queue.import("a delete").await;
    queue.cancel_batch(3, NOW_MS).await.unwrap();
    assert_eq!(queue.states().await, "a:in_flight b:in_flight c:cancelled d:cancelled a:pending");
    queue.reacquire(APP, NOW_MS).await;
    assert_eq!(queue.states().await, "a:superseded b:cancelled c:cancelled d:cancelled a:pending");
}

async fn clock_set_back_never_puts_end_before_start(engine: Engine) {
    let queue = left_behind(engine).await;
    let lease = queue.reacquire(APP, NOW_MS - 86_400_000).await;
    assert_eq!(lease.recovery().orphaned_requests, 1);
    let run = queue.begin_run(&lease, NOW_MS - 86_400_000).await.unwrap();
    assert_eq!(run_row(&queue, 2).await, "died 0");
    let responded = format!("SELECT responded_ms - {NOW_MS} FROM requests WHERE id = 2");
    assert_eq!(queue.figure(&responded).await, 0);
    queue.end_run(run, RunEnding::Signal, NOW_MS - 2 * 86_400_000).await.unwrap();
    assert_eq!(run_row(&queue, 3).await, "signal -86400000");
}

async fn impossibly_distant_due_time_is_cleared(engine: Engine) {
    let queue = TestQueue::idle_on(engine).await;
    queue.import("a enable, b delete, c enable").await;
    let due = |question: &str, ms: i64| {
        format!(
            "UPDATE jobs SET not_before_ms = {ms} WHERE app_id = 1 AND question_id = '{question}';"
        )
    };
    let longest_ms = i64::try_from(DUE_WITHIN.as_millis()).unwrap();
    queue.sql(&due("a", NOW_MS + longest_ms)).await;
    queue.sql(&due("b", NOW_MS + longest_ms + 1)).await;
    queue.start_run().await;
    assert_eq!(queue.job("a").await, "pending due=37500");
    assert_eq!(queue.job("b").await, "pending");
    assert_eq!(queue.job("c").await, "pending");
    queue.check_invariants().await;
}

async fn ended_run_clears_reservations_and_keeps_due_times(engine: Engine) {
    let queue = left_behind(engine).await;
    queue.end_run(queue.run, RunEnding::Outage, NOW_MS + 9).await.unwrap();
    assert_eq!(queue.job("c").await, "pending due=2000 request=3 attempts=1");
    assert_eq!(queue.states().await, "a:in_flight b:in_flight c:pending d:pending");
    assert_eq!(run_row(&queue, 2).await, "outage 9");
    assert_eq!(run_row(&queue, 1).await.split(' ').next(), Some("drained"));
}

async fn run_can_end_only_once(engine: Engine) {
    let queue = left_behind(engine).await;
    queue.end_run(queue.run, RunEnding::Signal, NOW_MS + 9).await.unwrap();
    let again = queue.end_run(queue.run, RunEnding::Drained, NOW_MS + 99).await;
    assert!(matches!(again, Err(QueueError::TakenOver { run }) if run == queue.run), "{again:?}");
    assert_eq!(run_row(&queue, 2).await, "signal 9");
    queue.check_invariants().await;
}

async fn ended_run_keeps_reservations_of_other_runs(engine: Engine) {
    let queue = TestQueue::begun_on(engine).await;
    queue.import("a enable").await;
    let claimed = queue.claim(9).await;
    queue.hold(&claimed).await;
    queue.end_run(queue.run, RunEnding::Drained, NOW_MS).await.unwrap();
    assert_eq!(queue.job("a").await, "pending request=3 attempts=1");
    queue.check_invariants().await;
}

async fn every_run_ending_can_be_stored(engine: Engine) {
    let queue = TestQueue::idle_on(engine).await;
    for ending in RunEnding::VARIANTS.iter().copied() {
        let run = queue.start_run().await;
        queue.end_run(run, ending, NOW_MS).await.unwrap();
        assert_eq!(run_row(&queue, run).await, format!("{} 0", ending.name()));
    }
    queue.check_invariants().await;
}

async fn batch_is_unfinished_while_one_job_is_open(engine: Engine) {
    let queue = left_behind(engine).await;
    queue.import("x enable").await;
    assert_eq!(queue.unfinished_batches(APP).await.unwrap(), [3, 4]);
    queue.cancel_batch(3, NOW_MS).await.unwrap();
    assert_eq!(queue.unfinished_batches(APP).await.unwrap(), [3, 4], "two are in flight");
    queue.reacquire(APP, NOW_MS).await;
    assert_eq!(queue.unfinished_batches(APP).await.unwrap(), [4]);
    assert_eq!(queue.unfinished_batches(OTHER_APP).await.unwrap(), [2]);
}

async fn taken_over_run_can_claim_nothing(engine: Engine) {
    let queue = TestQueue::idle_on(engine).await;
    let older = queue.start_run().await;
    queue.import("a enable, b enable").await;
    let newer = queue.start_run().await;
    let free = queue.claim_free(older, |_, _| 9, NOW_MS).await;
    assert!(matches!(free, Err(QueueError::TakenOver { run }) if run == older), "{free:?}");
    assert_eq!(queue.states().await, "a:pending b:pending");
    let claimed = queue.claim_free(newer, |_, _| 9, NOW_MS).await.unwrap().unwrap();
    assert_eq!(claimed.jobs.len(), 2);
}

on_each_engine! {
    new_run_requeues_orphans_and_clears_reservations,
    second_run_of_a_lease_recovers_the_first,
    run_of_another_app_requeues_orphans,
    superseded_or_cancelled_orphans_are_not_requeued,
    clock_set_back_never_puts_end_before_start,
    impossibly_distant_due_time_is_cleared,
    ended_run_clears_reservations_and_keeps_due_times,
    run_can_end_only_once,
    ended_run_keeps_reservations_of_other_runs,
    every_run_ending_can_be_stored,
    batch_is_unfinished_while_one_job_is_open,
    taken_over_run_can_claim_nothing,
}
