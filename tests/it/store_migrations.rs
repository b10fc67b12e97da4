//! Queue files of older versions are brought up to date with all that is in them.

use std::path::Path;

use deskbatch::store::{RunEnding, RunLock, Store};
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::sqlite::{SqliteConnectOptions, SqlitePool};
use sqlx::{AssertSqlSafe, Row as _, SqlSafeStr as _};

use crate::support::Place;
use crate::support_core::{APP, NOW_MS, OTHER_APP};

/// Two runs, one of them cut short with a job in its request and one that it holds.
const ROWS: &str = "
    INSERT INTO apps (id, sdkappid, library) VALUES (1, 1400000001, 'chitchat');
    INSERT INTO batches (id, app_id, name, source, digest, created_ms, rows, jobs, duplicates, rejected)
      VALUES (1, 1, 'b', 'b.csv', printf('%064d', 1), 1, 4, 4, 0, 0);
    INSERT INTO runs (id, app_id, host, pid, started_ms, finished_ms, ending)
      VALUES (1, 1, 'h', 1, 1, 2, 'drained'), (2, 1, 'h', 2, 3, NULL, NULL);
    INSERT INTO requests (id, run_id, status, jobs, job_count, slot_ms, answered_ms, verdict)
      VALUES (1, 1, 4, '1', 1, 1, 2, 'applied'), (2, 2, 4, '2', 1, 3, NULL, NULL);
    INSERT INTO jobs (batch_id, app_id, line, question_id, status, state, request_id, attempts, finished_ms, held_by)
      VALUES (1, 1, 2, 'a', 4, 'succeeded', 1, 1, 2, NULL), (1, 1, 3, 'b', 4, 'in_flight', 2, 0, NULL, NULL),
             (1, 1, 4, 'c', 4, 'pending', NULL, 0, NULL, 2), (1, 1, 5, 'd', 6, 'pending', NULL, 0, NULL, NULL);";

/// A queue file as the first version made it.
async fn first_version(path: &Path) -> SqlitePool {
    let options = SqliteConnectOptions::new().filename(path).create_if_missing(true);
    let pool = SqlitePool::connect_with(options).await.unwrap();
    let sql = AssertSqlSafe(include_str!("../../migrations/0001_queue.sql")).into_sql_str();
    let first = Migration::new(1, "queue".into(), MigrationType::Simple, sql, false);
    Migrator::with_migrations(vec![first]).run(&pool).await.unwrap();
    sqlx::raw_sql(ROWS).execute(&pool).await.unwrap();
    pool
}

async fn texts(pool: &SqlitePool, sql: &str) -> Vec<String> {
    let rows = sqlx::query(AssertSqlSafe(sql.to_owned())).fetch_all(pool).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

#[tokio::test]
async fn a_queue_of_the_first_version_keeps_its_rows_and_takes_the_new_ending() {
    let place = Place::new();
    let path = place.path("queue.db");
    // Open all the time, as another process may have it.
    let other = first_version(&path).await;
    let jobs = "SELECT id || question_id || state || coalesce(held_by, '-') FROM jobs ORDER BY id";
    let runs = "SELECT id || host || coalesce(ending, '-') FROM runs ORDER BY id";
    let before = (texts(&other, jobs).await, texts(&other, runs).await);

    let store = Store::open(&path).await.unwrap();
    assert_eq!((texts(&other, jobs).await, texts(&other, runs).await), before);
    assert_eq!(texts(&other, "PRAGMA integrity_check").await, ["ok"]);
    assert_eq!(texts(&other, "PRAGMA foreign_key_check").await, Vec::<String>::new());

    let lock = RunLock::take(store.path(), NOW_MS).unwrap();
    let taken = store.begin_run(&lock, APP, NOW_MS).await.unwrap();
    assert_eq!((taken.run, taken.orphans), (3, 1));
    // The connection that made the change knows it, and so does the other one.
    store.end_run(taken.run, RunEnding::TooManyFailures, NOW_MS).await.unwrap();
    sqlx::query("UPDATE runs SET ending = 'failures' WHERE id = 2").execute(&other).await.unwrap();
    for wrong in ["UPDATE runs SET ending = 'well'", "DELETE FROM runs"] {
        let refused = sqlx::query(wrong).execute(&other).await.unwrap_err().to_string();
        assert!(refused.contains("constraint failed"), "{wrong}: {refused}");
    }
    assert_eq!(texts(&other, runs).await, ["1hdrained", "2hfailures", &runs_third(&lock)]);
    let fresh = Store::open(&place.path("fresh.db")).await.unwrap();
    let lock = RunLock::take(fresh.path(), NOW_MS).unwrap();
    let run = fresh.begin_run(&lock, OTHER_APP, NOW_MS).await.unwrap().run;
    fresh.end_run(run, RunEnding::TooManyFailures, NOW_MS).await.unwrap();
}

fn runs_third(lock: &RunLock) -> String {
    format!("3{}failures", lock.holder().host)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_may_bring_the_same_old_queue_up_to_date_at_once() {
    for _ in 0..5 {
        let place = Place::new();
        let path = place.path("queue.db");
        let other = first_version(&path).await;
        let open = |path: std::path::PathBuf| async move { Store::open(&path).await };
        let opens: Vec<_> = (0..4).map(|_| tokio::spawn(open(path.clone()))).collect();
        let mut stores = Vec::new();
        for opened in opens {
            stores.push(opened.await.unwrap().unwrap());
        }
        let table = "SELECT sql FROM sqlite_schema WHERE name = 'runs'";
        assert_eq!(texts(&other, table).await[0].matches("'failures'").count(), 1);
        assert_eq!(texts(&other, "PRAGMA integrity_check").await, ["ok"]);
        let lock = RunLock::take(stores[0].path(), NOW_MS).unwrap();
        for store in stores {
            let run = store.begin_run(&lock, APP, NOW_MS).await.unwrap().run;
            store.end_run(run, RunEnding::TooManyFailures, NOW_MS).await.unwrap();
        }
    }
}
