//! The statements that only read: SQLite finds their rows by an index, and PostgreSQL takes the same text.

use std::fs;
use std::path::Path;

use crate::queue::schema::{plan, statements};
use crate::support::queue::TestQueue;

#[tokio::test]
async fn metrics_queries_use_only_indexes() {
    let queue = TestQueue::idle().await;
    queue.sql("CREATE TEMP TABLE unused (id INTEGER PRIMARY KEY)").await;
    let mut counted = 0;
    for sql in statements("read/metrics.rs") {
        for step in plan(&queue, &sql).await {
            let rows_are_many = ["SCAN jobs", "SCAN requests"].iter().any(|s| step.starts_with(s));
            counted += usize::from(rows_are_many);
            assert!(!rows_are_many || step.contains("INDEX"), "{step}:\n{sql}");
            let sorts = step.contains("B-TREE") && sql.contains("FROM requests GROUP BY");
            assert!(!sorts, "{step}:\n{sql}");
        }
    }
    // Failed jobs and requests are counted from rows; all other metrics come from counters.
    assert!(counted >= 2, "{counted}");
}

#[tokio::test]
async fn latest_jobs_are_read_by_question_index() {
    let queue = TestQueue::idle().await;
    let mut seen = 0;
    for file in ["sqlite/doubts.rs", "read/doubts.rs", "read/unfinished.rs"] {
        for sql in statements(file).iter().filter(|sql| sql.contains("is_latest")) {
            seen += 1;
            let plan = plan(&queue, sql).await.join("\n");
            assert!(
                plan.contains("INDEX jobs_latest (question_id=? AND app_id=?)"),
                "{plan}:\n{sql}"
            );
            assert!(!plan.contains("SCAN jobs"), "{plan}:\n{sql}");
        }
    }
    assert_eq!(seen, 3);
}

#[test]
fn shared_reads_name_columns_and_number_values() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/queue/read");
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        let by_position = text
            .split("try_get(")
            .skip(1)
            .any(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
        assert!(!by_position, "{} reads a column by its position", path.display());
        let file = format!("read/{}", path.file_name().unwrap().to_str().unwrap());
        for sql in statements(&file).iter().filter(|sql| !sql.starts_with("INSERT")) {
            assert!(!sql.contains('?'), "not PostgreSQL's form of a value: {sql}");
            assert!(!sql.contains("is_latest ="), "a flag is a condition by itself: {sql}");
        }
    }
}
