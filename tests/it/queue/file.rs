//! The queue file: its owner, its permissions, and the records for a report.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::Stdio;

use deskbatch::domain::job::{JobState, TargetStatus};
use deskbatch::queue::{Queue, QueueCounts, QueueError, Record, RecordFilter};
use futures_util::TryStreamExt as _;

use crate::support::place::{Place, said};
use crate::support::queue::{APP, NOW_MS, OTHER_APP, TestQueue};

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[tokio::test]
async fn files_beside_queue_are_owner_only() {
    let queue = TestQueue::idle().await;
    queue.import("a enable").await;
    for name in ["queue.db", "queue.db-wal", "queue.db-shm", "queue.db.lock"] {
        assert_eq!(mode(&queue.path_of(name)), 0o600, "{name}");
    }
    queue.check_invariants().await;
}

/// Opens `path`, which must fail without a change to its bytes.
async fn refused(path: &Path) -> QueueError {
    let before = fs::read(path).ok();
    let error = Queue::open(path).await.unwrap_err();
    assert_eq!(fs::read(path).ok(), before, "the file was changed");
    error
}

#[tokio::test]
async fn non_database_file_is_refused_and_unchanged() {
    let place = Place::new();
    for (name, bytes) in [("a.csv", b"question_id,status\n".repeat(900)), ("b.csv", b"x".to_vec())]
    {
        let error = refused(&place.write(name, bytes)).await;
        assert!(
            matches!(&error, QueueError::Foreign { reason, .. } if reason == "it is not a SQLite database"),
            "{error}"
        );
        assert!(!place.path(&format!("{name}-wal")).exists());
    }
}

#[tokio::test]
async fn foreign_database_is_refused_and_unchanged() {
    let place = Place::new();
    for (name, sql) in [
        ("theirs.db", "CREATE TABLE jobs (id INTEGER)"),
        ("marked.db", "PRAGMA application_id = 77; CREATE TABLE t (id INTEGER)"),
    ] {
        let path = place.path(name);
        let options =
            sqlx::sqlite::SqliteConnectOptions::new().filename(&path).create_if_missing(true);
        let pool = sqlx::SqlitePool::connect_with(options).await.unwrap();
        sqlx::raw_sql(sql).execute(&pool).await.unwrap();
        pool.close().await;
        let error = refused(&path).await;
        assert!(error.to_string().contains("a database of another program"), "{error}");
    }
}

#[tokio::test]
async fn newer_queue_version_is_refused_and_unchanged() {
    let queue = TestQueue::idle().await;
    queue
        .sql(
            "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
             VALUES (9999, 'later', 1, x'00', 1)",
        )
        .await;
    let error = Queue::open(queue.path()).await.unwrap_err();
    assert!(matches!(&error, QueueError::Newer(path) if path == queue.path()), "{error}");
    queue.check_invariants().await;
}

#[tokio::test]
async fn folder_or_missing_parent_is_refused_as_queue() {
    let place = Place::new();
    for path in [place.folder.path().to_owned(), place.path("none/queue.db")] {
        assert!(matches!(Queue::open(&path).await, Err(QueueError::Unusable { .. })));
    }
}

#[tokio::test]
async fn open_existing_creates_no_queue() {
    let place = Place::new();
    let path = place.path("queue.db");
    let missing = Queue::open_existing(&path).await.unwrap_err();
    assert!(matches!(&missing, QueueError::Missing(at) if *at == path), "{missing}");
    assert!(!path.exists());
    Queue::open(&path).await.unwrap().close().await;
    Queue::open_existing(&path).await.unwrap().close().await;
}

#[tokio::test]
async fn empty_file_becomes_a_queue() {
    let place = Place::new();
    let path = place.write("queue.db", "");
    let opened = Queue::open(&path).await.unwrap();
    let status = opened.status().await.unwrap();
    assert_eq!(status.counts, QueueCounts::default());
    assert_eq!((status.requests, status.throttled, status.orphaned), (0, 0, 0));
    assert_eq!((status.succeeded_in_doubt, status.last_run), (0, None));
    assert_eq!(opened.counts_of_app(APP).await.unwrap().total(), 0);
    assert_eq!(opened.open_by_status(APP).await.unwrap(), [0; 3]);
    assert_eq!(opened.batches().await.unwrap(), []);
    assert_eq!(opened.last_batch().await.unwrap(), 0);
}

#[tokio::test]
async fn reopened_queue_is_unchanged() {
    let queue = TestQueue::begun().await;
    queue.import("a enable, b delete").await;
    queue.succeed(&queue.claim(1).await).await;
    let before = queue.status().await.unwrap();
    let again = Queue::open(queue.path()).await.unwrap();
    assert_eq!(again.status().await.unwrap(), before);
    assert_eq!(again.counts_of_app(OTHER_APP).await.unwrap().pending, 3);
    again.close().await;
    assert_eq!(queue.states().await, "a:succeeded b:pending");
}

#[tokio::test]
async fn lock_error_names_holder_even_through_symlink() {
    let queue = TestQueue::idle().await;
    let other_name = queue.path_of("other.db");
    symlink(queue.path(), &other_name).unwrap();
    let opened = Queue::open(&other_name).await.unwrap();
    assert_eq!(opened.path(), queue.path());
    let held = opened.acquire(APP, NOW_MS + 5).await.unwrap_err();
    let text = held.to_string();
    let expected = format!("process {} on ", std::process::id());
    assert!(text.contains(&expected) && text.contains("2025-01-01T00:00:00.000Z"), "{text}");
    let written = fs::read_to_string(queue.path_of("queue.db.lock")).unwrap();
    assert!(written.contains(&format!("\"pid\":{}", std::process::id())), "{written}");
}

#[tokio::test]
async fn dangling_symlink_creates_owner_only_queue() {
    let place = Place::new();
    symlink(place.path("real.db"), place.path("link.db")).unwrap();
    let opened = Queue::open(&place.path("link.db")).await.unwrap();
    assert_eq!(opened.path().file_name().unwrap(), "real.db");
    assert_eq!(mode(&place.path("real.db")), 0o600);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_tasks_can_create_one_queue() {
    for _ in 0..5 {
        let place = Place::new();
        let path = place.path("queue.db");
        let opens = (0..4).map(|_| {
            let path = path.clone();
            tokio::spawn(async move { Queue::open(&path).await.map(drop) })
        });
        for open in opens.collect::<Vec<_>>() {
            open.await.unwrap().unwrap();
        }
    }
}

#[test]
fn concurrent_processes_can_create_one_queue() {
    for _ in 0..8 {
        let place = Place::new();
        let children: Vec<_> = (0..4)
            .map(|n| {
                let name = format!("m{n}.csv");
                place.write(&name, format!("question_id,status\nq-{n},enable\n"));
                let mut command = place.deskbatch(&["import", &name, "--quiet"]);
                command.env("DESKBATCH_SDKAPPID", "1400000001");
                command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
            })
            .collect();
        for child in children {
            let output = child.wait_with_output().unwrap();
            assert_eq!(output.status.code(), Some(0), "{}", said(&output));
        }
        assert_eq!(place.status()["pending"], 4);
    }
}

/// 2,501 jobs. The last one of each thousand has failed, and the first one is in doubt.
async fn long_queue() -> TestQueue {
    let queue = TestQueue::begun().await;
    queue.import_many(2_501, TargetStatus::Enable).await;
    queue
        .sql(
            "UPDATE jobs SET state = 'in_flight', request_id = 2 WHERE batch_id = 3 AND line % 1000 = 2;
             UPDATE jobs SET state = 'failed', request_id = 1, attempts = 1, error_code = -7, error_info = 'no', finished_ms = 5
               WHERE batch_id = 3 AND line % 1000 = 2;
             UPDATE jobs SET response_lost = 1 WHERE batch_id = 3 AND line % 1000 = 3;
             INSERT INTO doubts SELECT question_id, app_id, target_status, 1, 1, 0 FROM jobs WHERE batch_id = 3 AND line % 1000 = 3",
        )
        .await;
    queue.import("q0002 delete").await;
    queue
}

async fn read(queue: &TestQueue, filter: RecordFilter) -> Vec<Record> {
    queue.records(filter).try_collect().await.unwrap()
}

#[tokio::test]
async fn records_are_complete_and_ordered_across_pages() {
    let queue = long_queue().await;
    let all = read(&queue, RecordFilter::default()).await;
    assert_eq!(all.len(), 2_501 + 1 + 10);
    assert!(all.windows(2).all(|two| two[0].id < two[1].id));
    let of_batch = read(&queue, RecordFilter { batch: Some(3), ..Default::default() }).await;
    let lines: Vec<i64> = of_batch.iter().map(|record| record.line).collect();
    assert_eq!(lines, (2..=2_502).collect::<Vec<_>>());
    assert_eq!(of_batch[1_500].question_id, "q1501");
    for limit in [0, 1, 999, 1_000, 1_001, 2_000, 9_999] {
        let some =
            read(&queue, RecordFilter { batch: Some(3), limit: Some(limit), ..Default::default() })
                .await;
        assert_eq!(some[..], of_batch[..(limit as usize).min(2_501)], "{limit}");
    }
}

#[tokio::test]
async fn records_are_chosen_by_state_doubt_batch_and_run() {
    let queue = long_queue().await;
    let ids = |records: Vec<Record>| -> Vec<String> {
        records.into_iter().map(|record| record.question_id).collect()
    };
    let failed = RecordFilter { state: Some(JobState::Failed), ..Default::default() };
    assert_eq!(ids(read(&queue, failed).await), ["by-2", "q0001", "q1001", "q2001"]);
    let failed_here = RecordFilter { batch: Some(3), limit: Some(2), ..failed };
    assert_eq!(ids(read(&queue, failed_here).await), ["q0001", "q1001"]);
    let in_doubt = RecordFilter { in_doubt: true, ..Default::default() };
    // The job of a later batch has inherited the doubt.
    assert_eq!(ids(read(&queue, in_doubt).await), ["q1002", "q2002", "q0002"]);
    let lost = RecordFilter { response_lost: true, ..Default::default() };
    assert_eq!(ids(read(&queue, lost).await), ["q0002", "q1002", "q2002"]);
    let superseded = RecordFilter { state: Some(JobState::Superseded), batch: Some(3), ..lost };
    assert_eq!(ids(read(&queue, superseded).await), ["q0002"]);
    let of_run = RecordFilter { run: Some(1), ..failed };
    assert_eq!(ids(read(&queue, of_run).await).len(), 4);
    let of_none = RecordFilter { run: Some(queue.run), ..Default::default() };
    assert_eq!(ids(read(&queue, of_none).await), Vec::<String>::new());
}

#[tokio::test]
async fn record_contains_all_fields_of_its_job() {
    let queue = long_queue().await;
    let failed = RecordFilter {
        state: Some(JobState::Failed),
        batch: Some(3),
        limit: Some(1),
        ..Default::default()
    };
    let record = read(&queue, failed).await.remove(0);
    let id = queue.id("q0001").await;
    assert_eq!(
        record,
        Record {
            id,
            question_id: "q0001".to_owned(),
            status: TargetStatus::Enable,
            state: JobState::Failed,
            error_code: Some(-7),
            error_info: Some("no".to_owned()),
            attempts: 1,
            response_lost: false,
            in_doubt: false,
            batch: "manifest-2".into(),
            line: 2,
            finished_ms: Some(5),
        }
    );
}

#[tokio::test]
async fn counters_match_jobs_and_requests() {
    let queue = long_queue().await;
    let counts = QueueCounts {
        pending: 2_498 - 1 + 1,
        in_flight: 0,
        succeeded: 0,
        failed: 3,
        cancelled: 0,
        superseded: 1,
    };
    let by = QueueCounts {
        pending: 2,
        in_flight: 1,
        succeeded: 1,
        failed: 1,
        cancelled: 1,
        superseded: 1,
    };
    let of_app = queue.counts_of_app(APP).await.unwrap();
    assert_eq!(of_app.total(), counts.total() + by.total());
    assert_eq!((of_app.pending, of_app.failed, of_app.open()), (2_500, 4, 2_501));
    let status = queue.status().await.unwrap();
    assert_eq!(status.counts.total(), of_app.total() + 3);
    assert_eq!(status.requests, 2);
    let last = status.last_run.unwrap();
    assert_eq!((last.id, last.totals.requests, last.finished_ms), (queue.run, 0, None));
    assert_eq!(queue.open_by_status(APP).await.unwrap(), [2_500, 0, 1]);
}
