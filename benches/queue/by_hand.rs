//! A minimal hand-written loop for comparison: claim a hundred rows, post them, record the outcome; one
//! row per job, every step durable.
//!
//! It sends one request at a time, without limits, rejections or a second run. Its writes survive a
//! crash like those of deskbatch (a write-ahead log, `synchronous = FULL`).

use std::path::Path;

use deskbatch::desk::Signer;
use deskbatch::domain::clock::{Clock as _, SystemClock};
use deskbatch::sandbox::{SANDBOX_IDENTIFIER, SANDBOX_KEY, SANDBOX_SDKAPPID};
use reqwest::{Client, Url};
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous};
use sqlx::{Connection as _, Row as _};

use crate::manifest::question;
use crate::shapes::CHUNK;
use crate::support::real;

const SCHEMA: &str = "
    CREATE TABLE jobs (
      id INTEGER PRIMARY KEY, question_id TEXT NOT NULL UNIQUE, target_status INTEGER NOT NULL,
      state INTEGER NOT NULL DEFAULT 0, request_id INTEGER, code INTEGER, finished_ms INTEGER);
    CREATE INDEX pending ON jobs (id) WHERE state = 0;
    CREATE TABLE requests (
      id INTEGER PRIMARY KEY, jobs INTEGER NOT NULL, left_ms INTEGER NOT NULL, responded_ms INTEGER, code INTEGER);";

/// The time of each step of the loop, in microseconds per request.
#[derive(Debug, Default, Clone, Copy)]
pub struct Steps {
    pub claim: f64,
    pub http: f64,
    pub outcome: f64,
    /// The commits of claim and outcome.
    pub commit: f64,
}

impl Steps {
    /// Converts total seconds into microseconds per request.
    pub fn of_one(self, requests: usize) -> Self {
        let of_one = |seconds: f64| seconds * 1e6 / real(requests);
        Self {
            claim: of_one(self.claim),
            http: of_one(self.http),
            outcome: of_one(self.outcome),
            commit: of_one(self.commit),
        }
    }
}

async fn open(path: &Path) -> SqliteConnection {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full);
    SqliteConnection::connect_with(&options).await.expect("a database")
}

/// Fills a file with jobs.
pub async fn fill(path: &Path, rows: usize) {
    let mut db = open(path).await;
    sqlx::raw_sql(SCHEMA).execute(&mut db).await.expect("a schema");
    let mut tx = db.begin().await.expect("a transaction");
    for from in (0..rows).step_by(10_000) {
        let ids: Vec<String> = (from..rows.min(from + 10_000)).map(question).collect();
        sqlx::query(
            "INSERT INTO jobs (question_id, target_status) SELECT value, 5 FROM json_each(?)",
        )
        .bind(serde_json::to_string(&ids).expect("JSON"))
        .execute(&mut *tx)
        .await
        .expect("rows");
    }
    tx.commit().await.expect("a commit");
    db.close().await.expect("closed");
}

/// Sends every job of the file, and returns the time of each step.
pub async fn drain(path: &Path, endpoint: &str) -> Steps {
    let clock = SystemClock::new();
    let mut db = open(path).await;
    let desk = Desk::new(endpoint, clock.wall_ms());
    let mut steps = Steps::default();
    let mut requests = 0;
    loop {
        let began = clock.now();
        let mut tx = db.begin_with("BEGIN IMMEDIATE").await.expect("a transaction");
        let Some((request, ids)) = claim(&mut tx, clock.wall_ms()).await else { break };
        let claimed = clock.now();
        tx.commit().await.expect("a commit");
        let durable = clock.now();
        let code = desk.post(&ids).await;
        let responded = clock.now();
        let mut tx = db.begin_with("BEGIN IMMEDIATE").await.expect("a transaction");
        note(&mut tx, request, code, clock.wall_ms()).await;
        let noted = clock.now();
        tx.commit().await.expect("a commit");
        requests += 1;
        steps.claim += claimed.since(began).as_secs_f64();
        steps.http += responded.since(durable).as_secs_f64();
        steps.outcome += noted.since(responded).as_secs_f64();
        let commits = durable.since(claimed) + clock.now().since(noted);
        steps.commit += commits.as_secs_f64();
    }
    let left = sqlx::query("SELECT count(*) FROM jobs WHERE state <> 2").fetch_one(&mut db).await;
    assert_eq!(left.expect("a count").get::<i64, _>(0), 0);
    db.close().await.expect("closed");
    steps.of_one(requests)
}

/// Claims the next jobs for one request.
async fn claim(tx: &mut SqliteConnection, now_ms: i64) -> Option<(i64, Vec<String>)> {
    let chunk = i64::try_from(CHUNK).expect("small");
    let noted = sqlx::query("INSERT INTO requests (jobs, left_ms) VALUES (?, ?)")
        .bind(chunk)
        .bind(now_ms)
        .execute(&mut *tx)
        .await
        .expect("a request");
    let request = noted.last_insert_rowid();
    let rows = sqlx::query(
        "UPDATE jobs SET state = 1, request_id = ?
         WHERE id IN (SELECT id FROM jobs WHERE state = 0 ORDER BY id LIMIT ?) RETURNING question_id",
    )
    .bind(request)
    .bind(chunk)
    .fetch_all(&mut *tx)
    .await
    .expect("jobs");
    if rows.is_empty() {
        return None;
    }
    Some((request, rows.iter().map(|row| row.get(0)).collect()))
}

/// Records the outcome of a request. Its job numbers are consecutive, which only a loop for one purpose
/// may assume.
async fn note(tx: &mut SqliteConnection, request: i64, code: i64, now_ms: i64) {
    let chunk = i64::try_from(CHUNK).expect("small");
    sqlx::query("UPDATE requests SET responded_ms = ?, code = ? WHERE id = ?")
        .bind(now_ms)
        .bind(code)
        .bind(request)
        .execute(&mut *tx)
        .await
        .expect("a request");
    sqlx::query(
        "UPDATE jobs SET state = 2, code = ?, finished_ms = ?
         WHERE id BETWEEN ? AND ? AND request_id = ? AND state = 1",
    )
    .bind(code)
    .bind(now_ms)
    .bind((request - 1) * chunk + 1)
    .bind(request * chunk)
    .bind(request)
    .execute(&mut *tx)
    .await
    .expect("jobs");
}

/// The HTTP client with a persistent connection.
struct Desk {
    client: Client,
    url: Url,
}

impl Desk {
    fn new(endpoint: &str, now_ms: i64) -> Self {
        // The only possible error is that another part of the process has installed the same provider.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder().no_proxy().http1_only().tls_certs_only([]).build();
        let mut signer =
            Signer::with_key(SANDBOX_IDENTIFIER, SANDBOX_SDKAPPID, SANDBOX_KEY.into(), 86_400);
        let usersig = signer.current(now_ms);
        let url = format!(
            "{endpoint}/v4/openim_console_http_svc/batch_set_chitchat?sdkappid={SANDBOX_SDKAPPID}\
             &identifier={SANDBOX_IDENTIFIER}&usersig={}&random=1&contenttype=json",
            usersig.expose_secret()
        );
        Self { client: client.expect("a client"), url: Url::parse(&url).expect("an address") }
    }

    async fn post(&self, ids: &[String]) -> i64 {
        let body = json!({ "StandardQuestionIds": ids, "Status": 5 }).to_string();
        let request = self.client.post(self.url.clone());
        let request = request.header("Content-Type", "application/json").body(body);
        let response = request.send().await.expect("a response").bytes().await.expect("a body");
        let response: Value = serde_json::from_slice(&response).expect("JSON");
        let code = response["ErrorCode"].as_i64().expect("a code");
        assert_eq!(code, 0, "{response}");
        code
    }
}
