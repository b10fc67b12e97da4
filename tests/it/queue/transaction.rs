//! A write transaction: its changes commit together or not at all, and events follow the commit.

use std::time::Duration;

use deskbatch::domain::job::TargetStatus;
use deskbatch::domain::verdict::Verdict;
use deskbatch::queue::{Conclusions, QueueError, RequeueOptions, RunEnding};
use deskbatch::runner::{Event, shutdown};

use crate::support::engine::{Engine, on_each_engine};
use crate::support::queue::{NOW_MS, TestQueue};
use crate::support::service::{Bench, Step, ok};

/// Longer than the time between slots, so that a settle and a claim share one transaction.
const LATE: Duration = Duration::from_secs(5);

/// After this, no transaction that contains `what` can commit.
async fn no_commit_after(queue: &TestQueue, what: &str) {
    queue
        .sql(&format!(
            "CREATE TABLE one (id INTEGER PRIMARY KEY);
             CREATE TABLE many (one_id INTEGER REFERENCES one (id) DEFERRABLE INITIALLY DEFERRED);
             CREATE TRIGGER no_commit {what} BEGIN INSERT INTO many VALUES (1); END"
        ))
        .await;
}

async fn settle_and_claim_commit_atomically(engine: Engine) {
    let queue = TestQueue::begun_on(engine).await;
    queue.import("a enable, b enable, c enable").await;
    let first = queue.claim(1).await;
    let settled = queue.response(&first, Verdict::Applied, Some(0));
    let mut turn = queue.begin_transaction();
    turn.settle_succeeded(&settled, &Conclusions::default()).await.unwrap();
    let second = turn.claim_free(queue.run, |_, _| 1, NOW_MS).await.unwrap().unwrap();
    assert_eq!(second.jobs[0].question_id.as_str(), "b");
    assert_eq!(queue.states().await, "a:in_flight b:pending c:pending");
    turn.commit().await.unwrap();
    assert_eq!(queue.states().await, "a:succeeded b:in_flight c:pending");
    // The next operation begins a new transaction.
    let third = turn.claim_free(queue.run, |_, _| 1, NOW_MS).await.unwrap().unwrap();
    turn.commit().await.unwrap();
    turn.commit().await.unwrap();
    assert_eq!(third.request.id, second.request.id + 1);
    assert_eq!(queue.states().await, "a:succeeded b:in_flight c:in_flight");
}

async fn dropped_or_failed_transaction_rolls_back(engine: Engine) {
    let queue = TestQueue::begun_on(engine).await;
    queue.import("o enable").await;
    let before = queue.claim(1).await;
    queue.succeed(&before).await;
    let settled_before = queue.response(&before, Verdict::Applied, Some(0));
    queue.import("a enable, b enable").await;
    let first = queue.claim(1).await;
    let settled = queue.response(&first, Verdict::Applied, Some(0));
    let mut turn = queue.begin_transaction();
    turn.settle_succeeded(&settled, &Conclusions::default()).await.unwrap();
    drop(turn);
    assert_eq!(queue.states().await, "o:succeeded a:in_flight b:pending");

    // A failed operation rolls back the earlier operations of its transaction.
    let mut turn = queue.begin_transaction();
    turn.claim_free(queue.run, |_, _| 1, NOW_MS).await.unwrap().unwrap();
    let fenced = turn.settle_succeeded(&settled_before, &Conclusions::default()).await.unwrap_err();
    let settled_before = before.request.id;
    assert!(
        matches!(fenced, QueueError::Fenced { request } if request == settled_before),
        "{fenced}"
    );
    turn.commit().await.unwrap();
    assert_eq!(queue.states().await, "o:succeeded a:in_flight b:pending");

    // The writer is usable for the next transaction.
    turn.settle_succeeded(&settled, &Conclusions::default()).await.unwrap();
    turn.commit().await.unwrap();
    assert_eq!(queue.states().await, "o:succeeded a:succeeded b:pending");
}

async fn missing_counters_error_names_batch(engine: Engine) {
    let queue = TestQueue::begun_on(engine).await;
    queue.import("a enable, b enable").await;
    let gone = queue.import("c enable, d enable").await;
    let claimed = queue.claim(3).await;
    queue.try_sql(&format!("DELETE FROM job_counters WHERE batch_id = {gone}")).await.unwrap();
    let named = format!("job_counters row {gone} is invalid");
    let settled = queue.response(&claimed, Verdict::Applied, Some(0));
    let mut turn = queue.begin_transaction();
    let error = turn.settle_succeeded(&settled, &Conclusions::default()).await.unwrap_err();
    assert!(error.to_string().starts_with(&named), "{error}");
    let error = turn.claim_free(queue.run, |_, _| 9, NOW_MS).await.unwrap_err();
    assert!(error.to_string().starts_with(&named), "{error}");
    let open = queue.figure("SELECT count(*) FROM requests WHERE verdict IS NULL").await;
    assert_eq!(open, 2, "the one that was there, and a bystander");
}

async fn externally_changed_job_is_named_and_blocks_settle(engine: Engine) {
    let queue = TestQueue::begun_on(engine).await;
    queue.import("a enable, b enable").await;
    let claimed = queue.claim(2).await;
    let changed = "UPDATE jobs SET state = 'pending' WHERE app_id = 1 AND question_id = 'b'";
    queue.try_sql(changed).await.unwrap();
    let settled = queue.response(&claimed, Verdict::Applied, Some(0));
    let how = RequeueOptions { counts_as_attempt: true, ..RequeueOptions::default() };
    let none = Conclusions::default();
    let mut turn = queue.begin_transaction();
    let errors = [
        turn.settle_succeeded(&settled, &none).await.unwrap_err(),
        turn.settle_failed(&settled, false, &none).await.unwrap_err(),
        turn.requeue(&settled, how, &Conclusions::default()).await.unwrap_err(),
    ];
    let named = format!("requests row {} is invalid: its jobs were changed", claimed.request.id);
    for error in errors {
        assert!(error.to_string().starts_with(&named), "{error}");
    }
    let open = "SELECT count(*) FROM requests WHERE verdict IS NULL AND id > 2";
    assert_eq!(queue.figure(open).await, 1);
    let in_flight = "SELECT in_flight FROM job_counts WHERE batch_id = 3";
    assert_eq!(queue.figure(in_flight).await, 2, "as the claim left it");
}

/// Jobs in requests of their own with late responses. After the first response the breaker reopens,
/// which is a transaction of its own.
async fn three_requests() -> Bench {
    let mut bench = Bench::new("a enable, b enable, c enable").await;
    bench.settings.chunk_jobs_max = 1;
    bench.service.responds_by(|_| Step::After(LATE, ok()));
    bench
}

#[tokio::test]
async fn response_is_recorded_though_next_claim_fails() {
    let bench = three_requests().await;
    bench
        .queue
        .sql("UPDATE jobs SET question_id = 'c c' WHERE app_id = 1 AND question_id = 'c'")
        .await;
    let error = bench.run_with(shutdown().1, async {}).await.unwrap_err();
    assert!(error.to_string().contains("contains a blank"), "{error}");
    assert_eq!(bench.queue.states().await, "a:succeeded b:succeeded c c:pending");
    assert_eq!(bench.happened(|event| matches!(event, Event::Settled { .. })), 2);
    assert_eq!(bench.happened(|event| *event == Event::Ended { ending: RunEnding::Error }), 1);
}

#[tokio::test]
async fn failed_commit_emits_no_settled_event() {
    let bench = three_requests().await;
    no_commit_after(&bench.queue, "AFTER UPDATE OF verdict ON requests").await;
    let error = bench.run_with(shutdown().1, async {}).await.unwrap_err();
    assert!(error.to_string().contains("FOREIGN KEY"), "{error}");
    assert_eq!(bench.queue.states().await, "a:in_flight b:pending c:pending");
    assert_eq!(bench.service.seen().len(), 1);
    assert_eq!(bench.happened(|event| matches!(event, Event::Settled { .. })), 0);
}

#[tokio::test]
async fn uncommitted_claim_sends_no_request() {
    let bench = three_requests().await;
    no_commit_after(&bench.queue, "AFTER UPDATE OF state ON jobs WHEN NEW.question_id = 'c'").await;
    let error = bench.run_with(shutdown().1, async {}).await.unwrap_err();
    assert!(error.to_string().contains("FOREIGN KEY"), "{error}");
    assert_eq!(bench.service.seen().len(), 2, "the third one is not out");
    assert_eq!(bench.happened(|event| matches!(event, Event::Sent { .. })), 2);
    assert_eq!(bench.happened(|event| matches!(event, Event::Settled { .. })), 1, "of the first");
    // The response was settled in the failed transaction, so the next run finds its job in flight and
    // sends it again.
    assert_eq!(bench.queue.states().await, "a:succeeded b:in_flight c:pending");
    bench.queue.sql("DROP TRIGGER no_commit").await;
    let report = bench.run().await;
    assert_eq!((report.recovery.orphans, report.totals.succeeded), (1, 2));
    assert_eq!(bench.service.seen()[2].status, TargetStatus::Enable);
}

#[tokio::test]
async fn response_is_kept_though_the_claim_after_it_fails() {
    let bench = three_requests().await;
    let broken = "CREATE TRIGGER broken AFTER UPDATE OF state ON jobs
                    WHEN NEW.question_id = 'c' AND NEW.state = 'in_flight'
                  BEGIN SELECT RAISE(FAIL, 'no more'); END";
    bench.queue.sql(broken).await;
    let error = bench.run_with(shutdown().1, async {}).await.unwrap_err();
    assert!(error.to_string().contains("no more"), "{error}");
    assert_eq!(bench.queue.states().await, "a:succeeded b:succeeded c:pending");
    assert_eq!(bench.happened(|event| matches!(event, Event::Settled { .. })), 2);
}

on_each_engine! {
    settle_and_claim_commit_atomically,
    dropped_or_failed_transaction_rolls_back,
    missing_counters_error_names_batch,
    externally_changed_job_is_named_and_blocks_settle,
}
