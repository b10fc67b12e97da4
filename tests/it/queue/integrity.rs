//! The integrity check: a sound file has no findings, and each damage is named.

use std::fs;
use std::os::unix::fs::FileExt as _;

use deskbatch::domain::job::TargetStatus;
use deskbatch::queue::Queue;

use crate::support::auto_commit::AutoCommit as _;
use crate::support::queue::{APP, NOW_MS, TestQueue};

#[tokio::test]
async fn check_of_intact_queue_reports_nothing() {
    let queue = TestQueue::begun().await;
    queue.import_many(300, TargetStatus::Enable).await;
    queue.succeed(&queue.claim(100).await).await;
    assert_eq!(queue.check().await.unwrap(), Vec::<String>::new());
}

#[tokio::test]
async fn check_names_row_with_dangling_reference() {
    let queue = TestQueue::begun().await;
    queue.sql("PRAGMA foreign_keys = OFF; DELETE FROM batches WHERE id = 2").await;
    let wrong = queue.check().await.unwrap();
    let figures = "a row of job_counters refers to a row of batches that does not exist";
    let (counters, jobs): (Vec<_>, Vec<_>) = wrong.iter().partition(|line| *line == figures);
    assert_eq!((counters.len(), jobs.len()), (3, 3), "{wrong:?}");
    let first = "jobs row 5 refers to a row of batches that does not exist";
    assert!(wrong.contains(&first.to_owned()), "{wrong:?}");
}

#[tokio::test]
async fn check_names_question_with_two_newest_jobs() {
    let queue = TestQueue::begun().await;
    queue.import("a enable").await;
    queue.sql("DROP INDEX jobs_latest").await;
    let missing = "the index jobs_latest is missing".to_owned();
    assert_eq!(queue.check().await.unwrap(), std::slice::from_ref(&missing));
    let older = queue.id("a").await;
    queue
        .sql(
            "INSERT INTO jobs (batch_id, app_id, line, question_id, target_status)
             SELECT batch_id, app_id, 9, question_id, 6 FROM jobs WHERE question_id = 'a' AND app_id = 1",
        )
        .await;
    let newer = queue.id("a").await;
    assert_eq!(
        queue.check().await.unwrap(),
        [missing, format!("jobs row {newer} is as new as row {older} for the same question")]
    );
}

#[tokio::test]
async fn check_names_job_in_flight_without_request() {
    let queue = TestQueue::begun().await;
    queue.import_many(5, TargetStatus::Enable).await;
    let all = queue.claim(5).await;
    queue.hold(&all).await;
    // One request has job numbers with gaps, the other has a single one.
    let ids = all.ids();
    let odd = [ids[0], ids[2], ids[4]];
    let odd = queue.claim_reserved(queue.run, TargetStatus::Enable, &odd, NOW_MS).await.unwrap();
    let even =
        queue.claim_reserved(queue.run, TargetStatus::Enable, &ids[1..2], NOW_MS).await.unwrap();
    assert_eq!(queue.check().await.unwrap(), Vec::<String>::new());
    let (odd, even) = (odd.unwrap().request.id, even.unwrap().request.id);
    queue.sql(&format!("UPDATE jobs SET request_id = 1 WHERE id = {}", ids[4])).await;
    assert_eq!(
        (odd + 1, queue.check().await.unwrap()),
        (even, vec![format!("jobs row {} is in flight, but no open request has it", ids[4])])
    );
}

#[tokio::test]
async fn check_finds_overwritten_page() {
    let queue = TestQueue::idle().await;
    queue.import_many(2_000, TargetStatus::Enable).await;
    let (path, copy) = (queue.path().to_owned(), queue.path_of("copy.db"));
    queue.clone().close().await;
    queue.sql("PRAGMA wal_checkpoint(TRUNCATE)").await;
    fs::copy(&path, &copy).unwrap();
    // The root page of the table is intact, and one of its leaf pages is not.
    let page = queue.figure("SELECT max(pageno) FROM dbstat WHERE name = 'jobs'").await;
    let size = queue.figure("PRAGMA page_size").await;
    let at = u64::try_from((page - 1) * size).unwrap();
    let file = fs::OpenOptions::new().write(true).open(&copy).unwrap();
    file.write_all_at(&[0xa5; 4_096], at).unwrap();

    let copied = Queue::open(&copy).await.unwrap();
    let wrong = copied.check().await.unwrap();
    assert!(wrong.iter().any(|line| line.contains(&format!("page {page}"))), "{wrong:?}");
    // Undamaged data is still readable: the row of the app is on another page.
    copied.learned_rate(APP).await.unwrap();
}

#[tokio::test]
async fn check_reports_counter_drift_and_recount_repairs_it() {
    let queue = TestQueue::begun().await;
    queue.import("a enable, b delete").await;
    queue.fail(&queue.claim(1).await, -7).await;
    for wrong in [
        "UPDATE job_counters SET jobs = jobs + 1 WHERE batch_id = 3 AND job_state = 'pending'",
        "INSERT INTO job_counters VALUES (3, 4, 0, 'failed_superseded', 1)",
        "UPDATE batches SET finished_ms = 0 WHERE id = 3",
        "DELETE FROM job_counters WHERE batch_id = 3 AND target_status = 6",
        "INSERT INTO job_counters VALUES (3, 5, 0, 'superseded', 1)",
        "UPDATE batches SET last_job = last_job - 1 WHERE id = 3",
    ] {
        queue.try_sql(wrong).await.unwrap();
        let reported = queue.check().await.unwrap();
        assert!(
            reported.len() == 1 && reported[0].starts_with("counters: batch 3 has "),
            "{wrong}: {reported:?}"
        );
        assert_eq!(queue.recount().await.unwrap(), reported, "{wrong}");
        queue.check_invariants().await;
        assert_eq!(queue.check().await.unwrap(), Vec::<String>::new(), "{wrong}");
    }
    for column in ["requests", "throttled", "evaluated_requests", "orphaned"] {
        queue
            .try_sql(&format!("UPDATE runs SET {column} = {column} + 1 WHERE id = 1"))
            .await
            .unwrap();
        let reported = queue.check().await.unwrap();
        assert_eq!(reported, ["counters: run 1 has wrong request counters"], "{column}");
        queue.recount().await.unwrap();
        queue.check_invariants().await;
    }
    assert_eq!(queue.states().await, "a:failed b:pending");
}
