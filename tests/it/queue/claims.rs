//! Claiming: which jobs go into the next request, and which must not.

use deskbatch::domain::job::TargetStatus;

use crate::support::auto_commit::AutoCommit as _;
use crate::support::engine::{Engine, on_each_engine};
use crate::support::manifest::questions;
use crate::support::queue::{LATER_MS, NOW_MS, OTHER_APP, TestQueue};

async fn claim_takes_oldest_jobs_of_one_status(engine: Engine) {
    let queue = TestQueue::begun_on(engine).await;
    queue.import("a enable, b delete, c enable, d enable, e delete").await;
    let first = queue.claim(2).await;
    assert_eq!((questions(&first).as_str(), first.status), ("a c", TargetStatus::Enable));
    assert_eq!(queue.states().await, "a:in_flight b:pending c:in_flight d:pending e:pending");
    let second = queue.claim(2).await;
    assert_eq!((questions(&second).as_str(), second.status), ("b e", TargetStatus::Delete));
    let third = queue.claim(2).await;
    assert_eq!((questions(&third).as_str(), third.status), ("d", TargetStatus::Enable));
    assert_eq!(queue.try_claim(2).await, None);
}

async fn claim_writes_request_row_before_sending(engine: Engine) {
    let queue = TestQueue::begun_on(engine).await;
    queue.import("a enable, b delete, c enable").await;
    let claimed = queue.claim(9).await;
    let ids = claimed.ids();
    let row = &queue
        .ask(&format!(
            "SELECT run_id || ' ' || target_status || ' ' || job_ids || ' ' || job_count || ' ' || (scheduled_ms - {NOW_MS})
               || ' ' || coalesce(verdict, 'open') FROM requests WHERE id = {}",
            claimed.request.id
        ))
        .await[0];
    let expected = format!("{} 4 {},{} 2 0 open", queue.run, ids[0], ids[1]);
    assert_eq!(sqlx::Row::get::<String, _>(row, 0), expected);
    assert_eq!(queue.job("a").await, format!("in_flight request={}", claimed.request.id));
    queue.check_invariants().await;
}

async fn claim_passes_first_job_to_size_callback(engine: Engine) {
    let queue = TestQueue::begun_on(engine).await;
    queue.import("a delete, b delete, c delete").await;
    let mut reported = None;
    let size = |status, first| {
        reported = Some((status, first));
        2
    };
    let claimed = queue.claim_free(queue.run, size, NOW_MS).await.unwrap().unwrap();
    assert_eq!(reported, Some((TargetStatus::Delete, claimed.jobs[0].id)));
    assert_eq!(questions(&claimed), "a b");
}

async fn claim_respects_and_orders_by_due_time(engine: Engine) {
    let queue = TestQueue::begun_on(engine).await;
    queue.import("a enable, b enable, c enable").await;
    queue
        .sql(&format!(
            "UPDATE jobs SET not_before_ms = {NOW_MS} + 1000 WHERE question_id = 'a' AND app_id = 1"
        ))
        .await;
    queue
        .sql(&format!(
            "UPDATE jobs SET not_before_ms = {NOW_MS} WHERE question_id = 'b' AND app_id = 1"
        ))
        .await;
    assert_eq!(questions(&queue.claim(1).await), "c");
    assert_eq!(questions(&queue.claim(9).await), "b");
    assert_eq!(queue.try_claim(9).await, None);
    assert_eq!(queue.next_due_ms(queue.run).await.unwrap(), Some(NOW_MS + 1000));
    let size = |_, _| 9;
    let late = queue.claim_free(queue.run, size, NOW_MS + 999).await.unwrap();
    assert_eq!(late, None);
    let due = queue.claim_free(queue.run, size, NOW_MS + 1000).await.unwrap().unwrap();
    assert_eq!(questions(&due), "a");
    assert_eq!(queue.next_due_ms(queue.run).await.unwrap(), Some(LATER_MS), "by-6 waits");
    queue.check_invariants().await;
}

async fn reserved_jobs_are_claimed_only_by_id_and_own_run(engine: Engine) {
    let queue = TestQueue::begun_on(engine).await;
    queue.import("a enable, b enable, c enable").await;
    let claimed = queue.claim(9).await;
    queue.hold(&claimed).await;
    assert_eq!(queue.try_claim(9).await, None);
    let (queue, ids) = (&queue, claimed.ids());
    let other_run = queue.claim_reserved(1, TargetStatus::Enable, &ids, NOW_MS).await.unwrap();
    assert_eq!(other_run, None);
    let other_status =
        queue.claim_reserved(queue.run, TargetStatus::Delete, &ids, NOW_MS).await.unwrap();
    assert_eq!(other_status, None);
    let own = queue
        .claim_reserved(queue.run, TargetStatus::Enable, &ids[..2], NOW_MS)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(questions(&own), "a b");
    let twice =
        queue.claim_reserved(queue.run, TargetStatus::Enable, &ids[..2], NOW_MS).await.unwrap();
    assert_eq!(twice, None);
    assert_eq!(queue.states().await, "a:in_flight b:in_flight c:pending");
}

async fn only_released_jobs_become_claimable(engine: Engine) {
    let queue = TestQueue::begun_on(engine).await;
    queue.import("a enable, b enable, c enable").await;
    let claimed = queue.claim(9).await;
    queue.hold(&claimed).await;
    let ids = claimed.ids();
    let held_by_another = queue.id("by-7").await;
    queue.release(queue.run, &[ids[0], ids[2], held_by_another]).await.unwrap();
    queue.release(queue.run, &[]).await.unwrap();
    assert_eq!(questions(&queue.claim(9).await), "a c");
    assert!(queue.job("b").await.contains("held="));
    queue.check_invariants().await;
}

async fn only_jobs_of_the_runs_own_app_are_claimed(engine: Engine) {
    let queue = TestQueue::begun_on(engine).await;
    queue.import("x enable").await;
    assert_eq!(questions(&queue.claim(9).await), "x");
    assert_eq!(queue.try_claim(9).await, None);
    assert_eq!(queue.next_due_ms(queue.run).await.unwrap(), Some(LATER_MS));
    let lease = queue.reacquire(OTHER_APP, NOW_MS).await;
    let other = queue.begin_run(&lease, NOW_MS).await.unwrap();
    let size = |_, _| 9;
    let claimed = queue.claim_free(other, size, NOW_MS).await.unwrap().unwrap();
    assert_eq!(questions(&claimed), "a");
    assert_eq!(queue.unfinished_batches(OTHER_APP).await.unwrap(), [2]);
}

async fn question_in_flight_is_not_claimed_until_settled(engine: Engine) {
    let queue = TestQueue::begun_on(engine).await;
    queue.import("a enable, b enable").await;
    let older = queue.claim(1).await;
    queue.import("a delete, c delete").await;
    assert_eq!(questions(&queue.claim(9).await), "b");
    assert_eq!(questions(&queue.claim(9).await), "c");
    assert_eq!(queue.try_claim(9).await, None);
    let due = queue.next_due_ms(queue.run).await.unwrap();
    assert_eq!(due, Some(0), "it is due, and still not to be had");
    queue.succeed(&older).await;
    let newer = queue.claim(9).await;
    assert_eq!((questions(&newer).as_str(), newer.status), ("a", TargetStatus::Delete));
    queue.check_invariants().await;
}

async fn same_question_in_another_app_blocks_no_claim(engine: Engine) {
    let queue = TestQueue::begun_on(engine).await;
    // The other app has an older job for `a` in flight.
    queue.sql("UPDATE jobs SET state = 'in_flight', is_latest = 0, request_id = 2 WHERE app_id = 2 AND question_id = 'a'").await;
    queue.import("a enable").await;
    assert_eq!(questions(&queue.claim(9).await), "a");
}

async fn claim_of_invalid_row_fails_and_names_row(engine: Engine) {
    let queue = TestQueue::begun_on(engine).await;
    queue.import("a enable, b enable").await;
    queue.sql("UPDATE jobs SET question_id = 'b b' WHERE app_id = 1 AND question_id = 'b'").await;
    let refused = queue.claim_free(queue.run, |_, _| 9, NOW_MS).await.unwrap_err();
    let id = queue.id("b b").await;
    assert_eq!(
        refused.to_string(),
        format!(
            "jobs row {id} is invalid: question_id: contains a blank. Check the queue file with `deskbatch doctor`."
        )
    );
    assert_eq!(queue.state_counts().await, "pending 2");
    let open = queue.figure("SELECT count(*) FROM requests WHERE verdict IS NULL").await;
    assert_eq!(open, 1, "the bystander's alone");
}

async fn large_queue_is_claimed_and_settled_correctly(engine: Engine) {
    let mut queue = TestQueue::idle_on(engine).await;
    queue
        .sql(
            "INSERT INTO batches (id, app_id, name, source, digest, created_ms, rows, jobs, duplicates, rejected)
               VALUES (3, 1, 'large', '-', printf('%064d', 3), 1, 50000, 50000, 0, 0);
             WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 50000)
             INSERT INTO jobs (batch_id, app_id, line, question_id, target_status)
               SELECT 3, 1, i + 1, printf('q%05d', i), 4 + i / 30000 FROM n",
        )
        .await;
    queue.run = queue.begin_run(&queue.lease(), NOW_MS).await.unwrap();
    for _ in 0..30 {
        let claimed = queue.claim(100).await;
        assert_eq!(claimed.jobs.len(), 100);
        queue.succeed(&claimed).await;
    }
    assert_eq!(queue.state_counts().await, "pending 47000, succeeded 3000");
}

on_each_engine! {
    claim_takes_oldest_jobs_of_one_status,
    claim_writes_request_row_before_sending,
    claim_passes_first_job_to_size_callback,
    claim_respects_and_orders_by_due_time,
    reserved_jobs_are_claimed_only_by_id_and_own_run,
    only_released_jobs_become_claimable,
    only_jobs_of_the_runs_own_app_are_claimed,
    question_in_flight_is_not_claimed_until_settled,
    same_question_in_another_app_blocks_no_claim,
    claim_of_invalid_row_fails_and_names_row,
    large_queue_is_claimed_and_settled_correctly,
}
