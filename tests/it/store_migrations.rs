//! Queue files of older versions are brought up to date with all that is in them.

use std::path::Path;

use deskbatch::store::{RunEnding, RunLock, Store};
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::sqlite::{SqliteConnectOptions, SqlitePool};
use sqlx::{AssertSqlSafe, Row as _, SqlSafeStr as _};

use crate::support::Place;
use crate::support_core::{APP, NOW_MS, OTHER_APP, RECOUNT, questions};
use crate::support_turn::AtOnce as _;

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

/// What later versions added, by the version; only rows that were there can be lost.
const LATER_ROWS: [(i64, &str); 7] = [
    (
        2,
        "INSERT INTO approvals (id, app_id, digest, terms, created_ms) VALUES (1, 1, printf('%064d', 7), 'rows 1', 5);
         UPDATE jobs SET approval_id = 1 WHERE id = 4; UPDATE runs SET approval_id = 1 WHERE id = 1",
    ),
    (3, "INSERT INTO paces VALUES (1, 6, 4.5, 4.9, 20.0, 0.5, 0.25)"),
    (4, "INSERT INTO size_limits VALUES (1, 1735689600000, 100, 200)"),
    (7, "INSERT INTO pruned_requests VALUES (1, 'applied', 100, 2, 200, 150)"),
    (8, RECOUNT),
    (8, "INSERT INTO upkeep VALUES (1, 1735689600000)"),
    (11, "INSERT INTO doubts VALUES ('d', 1, 6, 1, 1735689600000)"),
];

/// The migrations' files, oldest first: version, name, SQL.
fn migrations() -> Vec<(i64, String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations");
    let mut files: Vec<_> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let read = |path: &std::path::PathBuf| {
        let stem = path.file_stem().unwrap().to_str().unwrap();
        let (version, name) = stem.split_once('_').unwrap();
        let sql = std::fs::read_to_string(path).unwrap();
        (version.parse().unwrap(), name.to_owned(), sql)
    };
    files.iter().map(read).collect()
}

/// A queue file as `version` made it, with rows in every table that it had.
async fn of_version(path: &Path, version: i64) -> SqlitePool {
    let options = SqliteConnectOptions::new().filename(path).create_if_missing(true);
    let pool = SqlitePool::connect_with(options).await.unwrap();
    let until = migrations().into_iter().filter(|(number, ..)| *number <= version);
    let known = until.map(|(number, name, sql)| {
        let sql = AssertSqlSafe(sql).into_sql_str();
        Migration::new(number, name.into(), MigrationType::Simple, sql, false)
    });
    Migrator::with_migrations(known.collect()).run(&pool).await.unwrap();
    sqlx::raw_sql(ROWS).execute(&pool).await.unwrap();
    for (_, rows) in LATER_ROWS.iter().filter(|(number, _)| *number <= version) {
        sqlx::raw_sql(*rows).execute(&pool).await.unwrap();
    }
    pool
}

/// A queue file as the first version made it.
async fn first_version(path: &Path) -> SqlitePool {
    of_version(path, 1).await
}

/// Columns that have another name now.
const RENAMED: [(&str, &str); 1] = [(" in_doubt", " response_lost")];

/// Every row of every table, by the columns that the tables have now.
async fn contents(pool: &SqlitePool, columns: &[(String, String)]) -> Vec<String> {
    let mut rows = Vec::new();
    for (table, columns) in columns {
        let is_renamed =
            !texts(pool, "SELECT name FROM sqlite_schema WHERE name = 'doubts'").await.is_empty();
        let renamed = RENAMED.iter().filter(|_| is_renamed);
        let columns =
            renamed.fold(columns.clone(), |columns, (old, new)| columns.replace(old, new));
        rows.extend(
            texts(pool, &format!("SELECT json_array('{table}', {columns}) FROM {table}")).await,
        );
    }
    rows
}

/// The tables that have rows of a queue, each with the names of its columns.
async fn tables(pool: &SqlitePool) -> Vec<(String, String)> {
    let sql = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name <> '_sqlx_migrations'
               AND name NOT LIKE 'sqlite%' ORDER BY name";
    let mut tables = Vec::new();
    for table in texts(pool, sql).await {
        let columns = texts(pool, &format!("SELECT name FROM pragma_table_info('{table}')")).await;
        tables.push((table, columns.join(", ")));
    }
    tables
}

#[tokio::test]
async fn a_queue_of_every_earlier_version_keeps_all_its_rows_and_goes_on() {
    let newest = migrations().last().unwrap().0;
    assert!(newest >= 4);
    for version in 1..=newest {
        let place = Place::new();
        let path = place.path("queue.db");
        let old = of_version(&path, version).await;
        let tables = tables(&old).await;
        let before = contents(&old, &tables).await;
        for (table, _) in &tables {
            let start = format!("[\"{table}\",");
            assert!(before.iter().any(|row| row.starts_with(&start)), "{table} has no rows");
        }
        old.close().await;

        let store = Store::open(&path).await.unwrap();
        let now =
            SqlitePool::connect_with(SqliteConnectOptions::new().filename(&path)).await.unwrap();
        assert_eq!(contents(&now, &tables).await, before, "version {version}");
        assert_eq!(store.check().await.unwrap(), Vec::<String>::new(), "version {version}");
        let lock = RunLock::take(store.path(), NOW_MS).unwrap();
        let app = APP;
        let run = store.begin_run(&lock, app, NOW_MS).await.unwrap();
        assert_eq!((run.orphans, run.orphaned_requests), (1, 1), "version {version}");
        let claimed = store.claim_free(run.run, |_, _| 9, NOW_MS).await.unwrap().unwrap();
        assert_eq!(questions(&claimed), "b c", "version {version}");
        store.end_run(run.run, RunEnding::TooManyFailures, NOW_MS).await.unwrap();
        assert_eq!(store.pace(app).await.unwrap().is_some(), version >= 3, "version {version}");
        assert_eq!(
            store.size(app, NOW_MS).await.unwrap().is_some(),
            version >= 4,
            "version {version}"
        );
        now.close().await;
    }
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
    for known in ["time", "failures"] {
        let set = AssertSqlSafe(format!("UPDATE runs SET ending = '{known}' WHERE id = 2"));
        sqlx::query(set).execute(&other).await.unwrap();
    }
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
        for added in ["'failures'", "'time'"] {
            assert_eq!(texts(&other, table).await[0].matches(added).count(), 1, "{added}");
        }
        assert_eq!(texts(&other, "PRAGMA integrity_check").await, ["ok"]);
        let lock = RunLock::take(stores[0].path(), NOW_MS).unwrap();
        for store in stores {
            let run = store.begin_run(&lock, APP, NOW_MS).await.unwrap().run;
            store.end_run(run, RunEnding::TooManyFailures, NOW_MS).await.unwrap();
        }
    }
}
