//! How the engine would run the statements of a run that are put together of parts: from the
//! indexes that are for them, whatever the queue has. Tests alone.

use sqlx::{AssertSqlSafe, Row as _};

use super::Store;
use super::claim::CLAIM;
use super::covered::survey;
use super::overtaken::overtaken_sql;
use super::pool::Pool;
use super::settle::{FAILED, RETURNED, SUCCEEDED};

/// The steps of each statement in `sql`.
async fn plan(sql: &str) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("queue.db")).await.unwrap();
    let mut tx = store.write("look at plans").await.unwrap();
    let mut steps = Vec::new();
    for statement in sql.split(';').filter(|text| !text.trim().is_empty()) {
        let explain = sqlx::query(AssertSqlSafe(format!("EXPLAIN QUERY PLAN {statement}")));
        let rows = explain.fetch_all(&mut *tx).await.unwrap();
        steps.extend(rows.iter().map(|row| row.get::<String, _>("detail")));
    }
    steps
}

#[tokio::test]
async fn a_claim_reads_its_jobs_in_order_from_the_index_that_is_for_it() {
    // The first job of each status, and the chunk, from each index that has any.
    for (approval, by_app, by_approval) in [(None, 3, 0), (Some(false), 3, 2), (Some(true), 0, 4)] {
        let pool = Pool::new(1, approval.map(|is_plan| (1, is_plan)));
        let steps = plan(&pool.free.first()).await;
        let plan = steps.join("\n");
        for (column, index, count) in
            [("app_id", "jobs_claim", by_app), ("approval_id", "jobs_claim_approved", by_approval)]
        {
            let search =
                format!("SEARCH job USING INDEX {index} ({column}=? AND status=? AND due_ms<?)");
            assert_eq!(plan.matches(&search).count(), count, "{plan}");
        }
        let others = plan.matches("SEARCH other USING COVERING INDEX jobs_overtaken").count();
        assert_eq!(others, by_app + by_approval, "{plan}");
        // The three first ones are put in order, and nothing else is.
        assert_eq!(plan.matches("B-TREE").count(), 1, "{plan}");
        let sort = steps.iter().position(|step| step.contains("B-TREE")).unwrap();
        assert_eq!(steps[sort + 1], "SCAN first", "{plan}");
    }
}

#[tokio::test]
async fn no_statement_of_a_request_looks_at_every_job() {
    let pool = Pool::new(1, Some((1, false)));
    let mut seen = 0;
    let texts = [&CLAIM, &SUCCEEDED, &FAILED, &RETURNED].map(|text| text.forms());
    let texts = texts.as_flattened().iter().map(|text| text.first());
    for sql in texts.chain([pool.next_due]) {
        for step in plan(&sql).await {
            seen += 1;
            assert!(
                !step.starts_with("SCAN job") && !step.starts_with("SCAN other"),
                "{step}: {sql}"
            );
            // The jobs of one request are put in order for that, and nothing else is.
            let of_a_request = sql.contains("newest = 0 GROUP BY");
            assert!(!step.contains("TEMP B-TREE") || of_a_request, "{step}: {sql}");
            assert!(!step.contains("AUTOMATIC"), "{step}: {sql}");
        }
    }
    assert!(seen > 20, "{seen} steps of plans");
}

#[tokio::test]
async fn what_is_in_flight_is_found_by_open_requests_and_the_numbers_of_their_jobs() {
    let texts = [
        "SELECT job FROM in_flight".to_owned(),
        overtaken_sql("id IN (SELECT job FROM in_flight)"),
        survey(),
    ];
    for sql in texts {
        let steps = plan(&sql).await.join("\n");
        let found = "SCAN requests USING INDEX requests_open";
        let jobs = "SEARCH jobs USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)";
        assert!(steps.contains(found) && steps.contains(jobs), "{steps}: {sql}");
        assert!(!steps.contains("AUTOMATIC") && !steps.contains("SCAN jobs"), "{steps}: {sql}");
    }
}
