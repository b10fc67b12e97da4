//! Queue files of every shape, made once by the real binary and copied for each run.
//!
//! Jobs are finished by direct SQL, without the queue. Then `doctor --repair-counters` recomputes the counters.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use deskbatch::domain::clock::Clock as _;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteSynchronous};
use sqlx::{AssertSqlSafe, Connection as _};

use crate::manifest;
use crate::measure::{Ground, on_runtime};
use crate::support::deskbatch;

/// Jobs in one request.
pub const CHUNK: usize = 100;

/// The content of a queue file.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// All pending, three target statuses in turn.
    Pending,
    /// All pending and to be disabled.
    OneStatus,
    /// All succeeded, plus one pending job.
    Finished,
    /// All failed.
    Failed,
}

impl Shape {
    fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::OneStatus => "one-status",
            Self::Finished => "finished",
            Self::Failed => "failed",
        }
    }

    /// The queue file of this shape, which exists as long as `ground`.
    pub fn made(self, ground: &Ground, rows: usize) -> PathBuf {
        let path = ground.path(&format!("{}-{rows}.db", self.name()));
        if path.exists() {
            return path;
        }
        let file = ground.path("shape.csv");
        let rows_all = if self == Self::Finished { rows + 1 } else { rows };
        let status = (self == Self::OneStatus).then_some("disable");
        manifest::write(&file, 0..rows_all, status);
        ground.child(
            deskbatch(ground.folder.path(), &["import", "shape.csv", "--quiet"])
                .env("DESKBATCH_DATABASE", &path),
        );
        fs::remove_file(file).expect("removed");
        let now_ms = ground.clock.wall_ms();
        match self {
            Self::Pending | Self::OneStatus => {}
            Self::Finished => finish(&path, rows, now_ms, "succeeded"),
            Self::Failed => finish(&path, rows, now_ms, "failed"),
        }
        if matches!(self, Self::Finished | Self::Failed) {
            recount(ground, &path);
            assert_eq!(figure(ground, &path, "pending"), rows_all - rows);
        }
        path
    }

    /// A copy of it in `folder`, flushed to disk.
    pub fn copied(self, ground: &Ground, rows: usize, folder: &Path) -> PathBuf {
        let copy = folder.join("deskbatch.db");
        fs::copy(self.made(ground, rows), &copy).expect("copied");
        File::open(&copy).and_then(|file| file.sync_all()).expect("synced");
        copy
    }
}

/// A separate connection to a queue file, for statements that need not be durable.
pub async fn connect(path: &Path) -> SqliteConnection {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .foreign_keys(false)
        .synchronous(SqliteSynchronous::Off)
        .pragma("cache_size", "-262144");
    SqliteConnection::connect_with(&options).await.expect("a queue file")
}

pub async fn sql(connection: &mut SqliteConnection, sql: String) {
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(connection).await.expect("statements");
}

/// Adds one run an hour ago that settled every chunk of jobs as `state`.
fn finish(path: &Path, rows: usize, now_ms: i64, state: &str) {
    let then_ms = now_ms - 3_600_000;
    let (code, info, verdict, reported) = match state {
        "failed" => ("-50003", "'no such question'", "rejected", "error_code = -50003,"),
        _ => ("0", "''", "applied", ""),
    };
    let chunks = rows.div_ceil(CHUNK);
    let statements = format!(
        "BEGIN;
         INSERT INTO runs (id, app_id, host, pid, started_ms, finished_ms, ending)
           VALUES (1, 1, 'bench', 1, {then_ms}, {then_ms}, 'drained');
         WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {chunks})
         INSERT INTO requests (id, run_id, target_status, job_ids, job_count, scheduled_ms, responded_ms, latency_ms, http_status,
                               code, info, verdict)
           SELECT i, 1, 4, printf('%d-%d', i * {CHUNK} - {CHUNK} + 1, i * {CHUNK}), {CHUNK}, {then_ms}, {then_ms}, 50,
                  200, {code}, {info}, '{verdict}' FROM n;
         UPDATE jobs SET state = '{state}', request_id = (id - 1) / {CHUNK} + 1, attempts = 1, {reported}
                         finished_ms = {then_ms} WHERE id <= {rows};
         COMMIT;"
    );
    on_runtime(async {
        let mut connection = connect(path).await;
        sql(&mut connection, statements).await;
        connection.close().await.expect("closed");
    });
}

/// Recomputes the counters of the queue.
pub fn recount(ground: &Ground, path: &Path) {
    let args = ["doctor", "--offline", "--repair-counters"];
    let mut command = deskbatch(ground.folder.path(), &args);
    command.env("DESKBATCH_DATABASE", path).env("DESKBATCH_ENDPOINT", "http://127.0.0.1:9");
    let output = command.output().expect("doctor");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "doctor ended with {}: {said}", output.status);
}

/// A figure of `status --json`.
pub fn figure(ground: &Ground, path: &Path, name: &str) -> usize {
    let mut command = deskbatch(ground.folder.path(), &["status", "--json"]);
    let output = command.env("DESKBATCH_DATABASE", path).stdout(std::process::Stdio::piped());
    let output = output.output().expect("status");
    let status: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    status[name].as_u64().and_then(|n| n.try_into().ok()).expect("a figure")
}
