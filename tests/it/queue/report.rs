//! The queue as the report reads it, from the real engine.

use deskbatch::domain::job::TargetStatus;
use deskbatch::queue::{PauseReason, QueueCounts};

use crate::support::engine::{Engine, on_each_engine};
use crate::support::queue::{NOW_MS, TestQueue};

/// Inserts requests of run `run`: when each left after [`NOW_MS`], and its verdict.
async fn sent(queue: &TestQueue, run: i64, requests: &[(i64, &str)]) {
    for (at, verdict) in requests {
        let left = NOW_MS + at;
        queue
            .sql(&format!(
                "INSERT INTO requests (run_id, target_status, job_ids, job_count, scheduled_ms, responded_ms, latency_ms, verdict)
                 VALUES ({run}, 4, '1', 1, {left}, {left} + 50, 50, '{verdict}')"
            ))
            .await;
    }
}

async fn jobs_are_counted_by_status_state_code_and_batch(engine: Engine) {
    let mut queue = TestQueue::idle_on(engine).await;
    queue.import("a enable, b enable, c delete, d disable").await;
    queue.run = queue.start_run().await;
    let claimed = queue.claim(1).await;
    queue.fail(&claimed, -50_003).await;
    let claimed = queue.claim(1).await;
    queue.succeed(&claimed).await;
    let all = queue.overview(None, 1_000).await.unwrap();
    let of_batch = queue.overview(Some(3), 1_000).await.unwrap();
    let counts = |succeeded, failed, pending| QueueCounts {
        pending,
        succeeded,
        failed,
        ..QueueCounts::default()
    };
    assert_eq!(of_batch.by_target_status, [counts(1, 1, 0), counts(0, 0, 1), counts(0, 0, 1)]);
    assert_eq!(of_batch.counts(), counts(1, 1, 2));
    let codes: Vec<_> = of_batch.codes.rows.iter().map(|code| (code.code, code.failed)).collect();
    assert_eq!(codes, [(Some(-50_003), [1, 0, 0])]);
    assert_eq!(of_batch.newest_run, (1, 1));
    assert_eq!((of_batch.batches.total, of_batch.batches.rows[0].counts), (1, counts(1, 1, 2)));
    // The sum includes the bystanders of every queue.
    assert_eq!(all.counts(), queue.status().await.unwrap().counts);
    assert_eq!(all.batches.rows.iter().map(|batch| batch.id).collect::<Vec<_>>(), [3, 2, 1]);
    assert_eq!(all.codes.total, 2);
}

async fn more_rows_than_one_statement_sums_are_all_counted(engine: Engine) {
    let queue = TestQueue::idle_on(engine).await;
    queue.import_many(3, TargetStatus::Delete).await;
    // Job numbers far apart, as after a prune.
    queue.sql("UPDATE jobs SET id = id + 250000 WHERE batch_id = 3").await;
    let overview = queue.overview(Some(3), 1_000).await.unwrap();
    assert_eq!(overview.by_target_status[2].pending, 3);
    assert_eq!(overview.batches.rows[0].counts.pending, 3);
}

async fn request_timeline_shows_pause_reasons(engine: Engine) {
    let mut queue = TestQueue::idle_on(engine).await;
    queue.run = queue.start_run().await;
    let went = [
        (0, "applied"),
        (200, "throttled"),
        (400, "applied"),
        (3_400, "applied"),
        (3_600, "transient"),
        (9_600, "rejected"),
        (12_000, "applied"),
    ];
    sent(&queue, queue.run, &went).await;
    let traffic = queue.overview(None, 1_000).await.unwrap().traffic;
    assert_eq!(traffic.session, Some((queue.run, queue.run)));
    assert_eq!((traffic.bucket_ms, traffic.buckets.len()), (1_000, 13));
    let first = traffic.buckets[0];
    assert_eq!((first.at_ms, first.requests.total, first.requests.throttled), (NOW_MS, 3, 1));
    assert_eq!(traffic.buckets.iter().map(|bucket| bucket.requests.total).sum::<u64>(), 7);
    // The bystanders have one more request.
    assert_eq!(
        (traffic.requests.total, traffic.requests.applied, traffic.requests.rejected),
        (8, 4, 2)
    );
    assert_eq!((traffic.requests.latency_ms_max, traffic.requests.responded), (50, 7));
    let pauses: Vec<_> = traffic
        .pauses
        .iter()
        .map(|pauses| (pauses.reason, pauses.count, pauses.total_ms))
        .collect();
    // Requests that left before the "too fast" response do not cause the first pause.
    assert_eq!(pauses, [(PauseReason::Transient, 1, 6_000), (PauseReason::Other, 2, 5_400)]);
}

async fn push_back_within_pause_is_its_reason(engine: Engine) {
    let mut queue = TestQueue::idle_on(engine).await;
    queue.run = queue.start_run().await;
    sent(&queue, queue.run, &[(0, "throttled"), (20, "applied"), (2_000, "applied")]).await;
    let pauses = queue.overview(None, 1_000).await.unwrap().traffic.pauses;
    assert_eq!(pauses.len(), 1);
    assert_eq!(
        (pauses[0].reason, pauses[0].count, pauses[0].longest_ms),
        (PauseReason::Throttled, 1, 1_980)
    );
}

async fn change_from_any_connection_is_detected_once(engine: Engine) {
    let queue = TestQueue::idle_on(engine).await;
    let mut changes = queue.changes().await.unwrap();
    assert!(changes.any().await.unwrap());
    assert!(!changes.any().await.unwrap());
    // A change by this process, and one by another connection as from another process.
    queue.import("a enable").await;
    assert!(changes.any().await.unwrap() && !changes.any().await.unwrap());
    queue.sql("UPDATE batches SET name = 'other' WHERE id = 3").await;
    assert!(changes.any().await.unwrap() && !changes.any().await.unwrap());
    queue.probe().await.unwrap();
}

async fn batch_report_lists_only_runs_since_its_import(engine: Engine) {
    let mut queue = TestQueue::idle_on(engine).await;
    queue.import("a enable").await;
    queue.run = queue.start_run().await;
    let claimed = queue.claim(1).await;
    queue.succeed(&claimed).await;
    let runs = queue.overview(Some(3), 1_000).await.unwrap().runs;
    assert_eq!(runs.rows.iter().map(|run| run.id).collect::<Vec<_>>(), [queue.run]);
    assert_eq!(queue.overview(None, 1_000).await.unwrap().runs.total, 2);
}

async fn watcher_does_not_prevent_closing_queue(engine: Engine) {
    let queue = TestQueue::idle_on(engine).await;
    let mut changes = queue.changes().await.unwrap();
    let apart = queue.separate_connections();
    let mut others = apart.changes().await.unwrap();
    assert!(changes.any().await.unwrap() && others.any().await.unwrap());
    let counts = queue.status().await.unwrap().counts;
    queue.clone().close().await;
    // Separate connections remain usable.
    assert_eq!(apart.status().await.unwrap().counts, counts);
    assert!(!others.any().await.unwrap());
    others.close().await;
    apart.close().await;
    drop(changes);
}

async fn pause_at_statement_boundary_is_counted_once(engine: Engine) {
    let mut queue = TestQueue::idle_on(engine).await;
    queue.run = queue.start_run().await;
    let went = [(0, "applied"), (200, "applied"), (3_200, "applied"), (3_400, "applied")];
    sent(&queue, queue.run, &went).await;
    // Request numbers far apart, as after a prune.
    let far = format!("UPDATE requests SET id = id + 250000 WHERE scheduled_ms >= {NOW_MS} + 3200");
    queue.sql(&far).await;
    let traffic = queue.overview(None, 1_000).await.unwrap().traffic;
    let pauses: Vec<_> = traffic
        .pauses
        .iter()
        .map(|pauses| (pauses.reason, pauses.count, pauses.total_ms))
        .collect();
    assert_eq!(pauses, [(PauseReason::Other, 1, 3_000)]);
    let sent: Vec<u64> = traffic.buckets.iter().map(|bucket| bucket.requests.total).collect();
    assert_eq!(sent, [2, 0, 0, 2]);
}

on_each_engine! {
    jobs_are_counted_by_status_state_code_and_batch,
    more_rows_than_one_statement_sums_are_all_counted,
    request_timeline_shows_pause_reasons,
    push_back_within_pause_is_its_reason,
    change_from_any_connection_is_detected_once,
    batch_report_lists_only_runs_since_its_import,
    watcher_does_not_prevent_closing_queue,
    pause_at_statement_boundary_is_counted_once,
}
