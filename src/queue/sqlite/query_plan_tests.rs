//! Tests of query plans: the statements of a run use the indexes that are made for them.
//!
//! Without its index a claim would read every pending job, so the cost of each request would grow with
//! the size of the queue.

use sqlx::{AssertSqlSafe, Row as _};

use crate::queue::Queue;
use crate::queue::sqlite::approved_jobs::survey;
use crate::queue::sqlite::claim::{DUE, FREE};

/// The steps of the engine's plan for `sql`.
async fn plan(sql: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let queue = Queue::open(&folder.path().join("queue.db")).await.unwrap();
    let mut tx = queue.write("look at plans").await.unwrap();
    let explain = sqlx::query(AssertSqlSafe(format!("EXPLAIN QUERY PLAN {sql}")));
    let rows = explain.fetch_all(&mut *tx).await.unwrap();
    let steps: Vec<String> = rows.iter().map(|row| row.get("detail")).collect();
    steps.join("\n")
}

#[tokio::test]
async fn claim_reads_due_jobs_in_index_order() {
    for (column, index) in [("app_id", "jobs_claim"), ("approval_id", "jobs_claim_approved")] {
        for order in ["not_before_ms, id", "not_before_ms DESC, id DESC"] {
            let steps = plan(&format!(
                "UPDATE jobs SET state = 'in_flight', request_id = ?4, reserved_by_run_id = NULL
                 WHERE id IN (SELECT id FROM jobs AS job WHERE {column} = ?1 AND {FREE} AND {DUE} ORDER BY {order} LIMIT ?5)"
            ))
            .await;
            let search = format!(
                "SEARCH job USING INDEX {index} ({column}=? AND target_status=? AND not_before_ms<?)"
            );
            assert!(steps.contains(&search), "{steps}");
            assert!(
                steps.contains("SEARCH other USING COVERING INDEX jobs_superseded_in_flight"),
                "{steps}"
            );
            assert!(!steps.contains("B-TREE"), "{steps}");
        }
        let next = plan(&format!(
            "SELECT min(not_before_ms) FROM jobs AS job WHERE {column} = ?1 AND {FREE}"
        ))
        .await;
        let search = format!("SEARCH job USING INDEX {index} ({column}=? AND target_status=?)");
        assert!(next.contains(&search), "{next}");
    }
}

#[tokio::test]
async fn jobs_in_flight_are_found_by_their_request() {
    for sql in [
        "UPDATE jobs SET state = 'succeeded' WHERE request_id = ?1 AND state = 'in_flight'",
        "UPDATE jobs SET state = 'pending'
         WHERE state = 'in_flight' AND request_id IN (SELECT id FROM requests WHERE verdict IS NULL)",
        &survey(),
    ] {
        let steps = plan(sql).await;
        assert!(steps.contains("INDEX jobs_in_flight (request_id=?)"), "{steps}: {sql}");
        assert!(!steps.contains("AUTOMATIC") && !steps.contains("SCAN jobs"), "{steps}: {sql}");
    }
}

#[tokio::test]
async fn pages_of_jobs_are_read_in_id_order() {
    for filter in ["is_latest", "NOT is_latest", "is_latest AND batch_id = $3"] {
        let sql = format!("SELECT line FROM jobs WHERE id > $1 AND {filter} ORDER BY id LIMIT $2");
        assert_eq!(plan(&sql).await, "SEARCH jobs USING INTEGER PRIMARY KEY (rowid>?)", "{filter}");
    }
}
