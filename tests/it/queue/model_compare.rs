//! Comparison of the real queue with its model.

use deskbatch::queue::RecordFilter;
use futures_util::TryStreamExt as _;
use sqlx::Row as _;

use crate::queue::model_doubts::Doubt;
use crate::queue::model_queue::{Model, ModelJob};
use crate::support::queue::{APP, TestQueue};

/// Fails if they differ.
pub async fn compare(queue: &TestQueue, model: &Model, now_ms: i64) {
    let rows = queue
            .ask(
                "SELECT id, batch_id, question_id, target_status, state, is_latest, reserved_by_run_id, request_id, attempts,
                        response_lost, error_code, finished_ms, not_before_ms,
                    ifnull(approval_id = (SELECT approval_id FROM runs ORDER BY id DESC LIMIT 1), 0)
                 FROM jobs WHERE batch_id > 2 ORDER BY id",
            )
            .await;
    assert_eq!(rows.len(), model.jobs.len(), "jobs");
    for (row, job) in rows.iter().zip(&model.jobs) {
        let real = (
            (
                row.get::<i64, _>(0),
                row.get::<i64, _>(1),
                row.get::<String, _>(2),
                row.get::<i64, _>(3),
            ),
            (row.get::<String, _>(4), row.get::<bool, _>(5), row.get::<Option<i64>, _>(6)),
            (row.get::<Option<i64>, _>(7), row.get::<i64, _>(8), row.get::<bool, _>(9)),
            (row.get::<Option<i64>, _>(10), row.get::<Option<i64>, _>(11), row.get::<i64, _>(12)),
            row.get::<bool, _>(13),
        );
        let expected = (
            (job.id, job.batch, job.question.clone(), job.status),
            (job.state.to_owned(), job.newest, job.reserved_by),
            (job.request, job.attempts, job.lost),
            (job.code, job.finished_ms, job.not_before_ms),
            job.approved,
        );
        assert_eq!(real, expected, "job {}", job.id);
    }
    let rows = queue
            .ask("SELECT id, run_id, verdict, responded_ms, code FROM requests WHERE run_id > 1 ORDER BY id")
            .await;
    let real: Vec<_> = rows
        .iter()
        .map(|row| {
            (row.get(0), row.get(1), row.get::<Option<String>, _>(2), row.get(3), row.get(4))
        })
        .collect();
    let expected: Vec<_> = model
        .requests
        .iter()
        .map(|row| (row.id, row.run, row.verdict.map(str::to_owned), row.responded_ms, row.code))
        .collect();
    assert_eq!(real, expected, "requests");
    let rows = queue
            .ask("SELECT id, cancelled_ms IS NOT NULL, pruned_ms IS NOT NULL FROM batches WHERE id > 2 ORDER BY id")
            .await;
    let real: Vec<(i64, bool, bool)> =
        rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect();
    let expected: Vec<_> =
        model.batches.iter().map(|row| (row.id, row.cancelled, row.pruned)).collect();
    assert_eq!(real, expected, "batches");
    compare_doubts(queue, model, now_ms).await;
    queue.check_counters().await;
}

async fn compare_doubts(queue: &TestQueue, model: &Model, now_ms: i64) {
    // The real queue deletes settled and expired doubts lazily, so the query leaves them out.
    let sql = format!(
        "SELECT question_id, target_status, open, lost, late_ms FROM doubts
         WHERE app_id = 1 AND (open = 1 OR late_ms > {now_ms}) ORDER BY 1, 2"
    );
    let rows = queue.ask(&sql).await;
    let real: Vec<_> = rows
        .iter()
        .map(|row| {
            let doubt = Doubt { open: row.get(2), lost: row.get(3), late_ms: row.get(4) };
            ((row.get::<String, _>(0), row.get::<i64, _>(1)), doubt)
        })
        .collect();
    let expected: Vec<_> = model
        .doubts
        .iter()
        .filter(|(_, doubt)| doubt.open || doubt.late_ms > now_ms)
        .map(|(of, doubt)| (of.clone(), *doubt))
        .collect();
    assert_eq!(real, expected, "doubts");
    // Commands show only the latest job of each question in doubt.
    let shown = RecordFilter { in_doubt: true, ..RecordFilter::default() };
    let shown: Vec<_> = queue.records(shown).try_collect().await.unwrap();
    let of_model = |job: &&ModelJob| job.newest && model.in_doubt(&job.question);
    let expected: Vec<i64> = model.jobs.iter().filter(of_model).map(|job| job.id).collect();
    assert_eq!(shown.iter().map(|record| record.id).collect::<Vec<_>>(), expected, "in doubt");
    assert_eq!(queue.count_in_doubt(APP).await.unwrap(), expected.len() as u64);
}
