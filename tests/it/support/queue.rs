//! A queue for tests: the real engine, one-line manifests, and bystanders.
//!
//! Every queue holds jobs that no test changes. Each inspection checks that they are unchanged and,
//! with a trigger that records transitions, that no job made one that [`JobState::may_become`] forbids.

#![allow(dead_code, reason = "each test takes what it needs")]

use std::collections::{BTreeMap, BTreeSet};
use std::future::ready;
use std::ops::Deref;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use deskbatch::domain::job::{App, JobId, JobState, Library, TargetStatus};
use deskbatch::domain::verdict::Verdict;
use deskbatch::queue::{
    BatchId, Claimed, Conclusions, Import, ImportTotals, Imported, Lease, Queue, QueueError,
    Record, RecordFilter, RequestResult, RequeueOptions, RunId, SameManifest,
};
use futures_util::TryStreamExt as _;
use sqlx::sqlite::{SqliteConnectOptions, SqlitePool, SqlitePoolOptions, SqliteRow};
use sqlx::{AssertSqlSafe, Row as _};
use tempfile::TempDir;

use crate::support::approvals::begin_run;
use crate::support::auto_commit::AutoCommit as _;
use crate::support::counters::{COUNTERS, RECOUNT, RECOUNT_LOST, RUNS};
use crate::support::engine::Engine;
use crate::support::manifest::{many, parse, totals};
use crate::support::place::folder_in_memory;

/// The app whose jobs the tests change.
pub const APP: App = App { sdkappid: 1_400_000_001, library: Library::Chitchat };
/// Its other library: the same question ids, but independent jobs.
pub const OTHER_APP: App = App { sdkappid: 1_400_000_001, library: Library::Faq };
/// The wall time when a test begins.
pub const NOW_MS: i64 = 1_735_689_600_000;
/// A due time in the future that a run does not take for a clock that was set back.
pub const LATER_MS: i64 = NOW_MS + 4 * 60_000;

/// A queue file with bystanders, its lease, and a second connection.
pub struct TestQueue {
    pub folder: TempDir,
    queue: Queue,
    /// Replaced when the next run acquires it.
    lease: Mutex<Option<Arc<Lease>>>,
    /// The run that [`Queue::begun`] has begun; 0 before that.
    pub run: RunId,
    pub raw: SqlitePool,
    bystanders: Vec<String>,
}

/// Inserts the bystanders: a request and a job for each final state in the app, and the same question
/// ids in its other library.
const BYSTANDERS: &str = "
    INSERT INTO apps (id, sdkappid, library) VALUES (1, 1400000001, 'chitchat'), (2, 1400000001, 'faq');
    INSERT INTO batches (id, app_id, name, source, digest, created_ms, rows, jobs, duplicates, rejected)
      VALUES (1, 1, 'by', 'by.csv', printf('%064d', 901), 1, 5, 5, 0, 0),
             (2, 2, 'by', 'by.csv', printf('%064d', 902), 1, 3, 3, 0, 0);
    INSERT INTO runs (id, app_id, host, pid, started_ms, finished_ms, ending) VALUES (1, 1, 'by', 1, 1, 2, 'drained');
    INSERT INTO requests (id, run_id, target_status, job_ids, job_count, scheduled_ms, responded_ms, verdict)
      VALUES (1, 1, 4, '1-2', 2, 1, 2, 'rejected');
    INSERT INTO jobs (batch_id, app_id, line, question_id, target_status, state, is_latest, request_id, attempts, error_code, finished_ms)
      VALUES (1, 1, 2, 'by-1', 4, 'succeeded', 1, 1, 1, NULL, 2),
             (1, 1, 3, 'by-2', 4, 'failed', 1, 1, 1, -1, 2),
             (1, 1, 4, 'by-3', 4, 'cancelled', 1, NULL, 0, NULL, 2),
             (1, 1, 5, 'by-4', 4, 'superseded', 0, NULL, 0, NULL, 2);
    INSERT INTO jobs (batch_id, app_id, line, question_id, target_status)
      VALUES (2, 2, 2, 'a', 4), (2, 2, 3, 'b', 5), (2, 2, 4, 'c', 6);
    CREATE TABLE transitions (old TEXT NOT NULL, new TEXT NOT NULL);
    CREATE TRIGGER transition AFTER UPDATE OF state ON jobs WHEN OLD.state <> NEW.state
      BEGIN INSERT INTO transitions VALUES (OLD.state, NEW.state); END;";

impl Deref for TestQueue {
    type Target = Queue;

    fn deref(&self) -> &Queue {
        &self.queue
    }
}

impl TestQueue {
    /// A queue without a run, with bystanders in every final state and in another app. Its file is in
    /// memory: no power is lost here, so waiting for a disk gains nothing.
    pub async fn idle_on(engine: Engine) -> Self {
        match engine {
            Engine::Sqlite => Self::idle().await,
        }
    }

    /// The same on SQLite.
    pub async fn idle() -> Self {
        let folder = folder_in_memory();
        let opened = Queue::open(&folder.path().join("queue.db")).await.unwrap();
        let lease = opened.acquire(APP, NOW_MS).await.unwrap();
        let lease = Mutex::new(Some(Arc::new(lease)));
        let options = SqliteConnectOptions::new().filename(opened.path());
        let raw = SqlitePoolOptions::new().max_connections(1).connect_with(options).await.unwrap();
        let mut queue = Self { folder, queue: opened, lease, run: 0, raw, bystanders: Vec::new() };
        queue.sql(BYSTANDERS).await;
        queue.bystanders = queue.look_at_bystanders().await;
        queue
    }

    /// [`TestQueue::begun_on`] on SQLite.
    pub async fn begun() -> Self {
        Self::begun_on(Engine::Sqlite).await
    }

    /// A queue with an active run and bystanders in every state: one waits for its due time, one is
    /// reserved by another run, one is in another request.
    pub async fn begun_on(engine: Engine) -> Self {
        let mut queue = Self::idle_on(engine).await;
        queue.run = queue.start_run().await;
        queue
            .sql(&format!(
                "INSERT INTO requests (id, run_id, target_status, job_ids, job_count, scheduled_ms) VALUES (2, 1, 4, '8', 1, 3);
                 INSERT INTO jobs (batch_id, app_id, line, question_id, target_status, state, not_before_ms, reserved_by_run_id, request_id)
                   VALUES (1, 1, 6, 'by-5', 4, 'in_flight', 0, NULL, 2),
                          (1, 1, 7, 'by-6', 4, 'pending', {LATER_MS}, NULL, NULL),
                          (1, 1, 8, 'by-7', 4, 'pending', 0, 1, NULL);"
            ))
            .await;
        queue.bystanders = queue.look_at_bystanders().await;
        queue
    }

    /// Opens the file again, as the process that follows a crash does.
    pub async fn reopen(&mut self) {
        self.queue = Queue::open(self.queue.path()).await.unwrap();
    }

    pub fn path_of(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Begins a run whose approval covers the pending deletes, and those that [`Queue::import`] adds
    /// while it is the queue's run.
    pub async fn start_run(&self) -> RunId {
        let lease = self.reacquire(APP, NOW_MS).await;
        begin_run(&self.queue, &lease, NOW_MS).await
    }

    /// The lease of the last run.
    pub fn lease(&self) -> Arc<Lease> {
        self.lease.lock().unwrap().clone().unwrap()
    }

    /// Acquires the lease again, as the process does that comes after one that died.
    pub async fn reacquire(&self, app: App, now_ms: i64) -> Arc<Lease> {
        self.lease.lock().unwrap().take();
        // A process that another test starts has the lock file open until it executes its program.
        let mut acquired = self.queue.acquire(app, now_ms).await;
        for _ in 0..100_000 {
            if !matches!(acquired, Err(QueueError::Locked(_))) {
                break;
            }
            std::thread::yield_now();
            acquired = self.queue.acquire(app, now_ms).await;
        }
        let lease = Arc::new(acquired.unwrap());
        *self.lease.lock().unwrap() = Some(Arc::clone(&lease));
        lease
    }

    /// Runs statements on a separate connection and recomputes the counters, which must have been right
    /// before.
    pub async fn sql(&self, sql: &str) {
        self.check_counters().await;
        self.try_sql(sql).await.unwrap();
        self.try_sql(&[RECOUNT, RECOUNT_LOST].concat()).await.unwrap();
    }

    pub async fn try_sql(&self, sql: &str) -> Result<(), sqlx::Error> {
        sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&self.raw).await.map(|_| ())
    }

    /// The rows of a query as columns of text.
    pub async fn ask(&self, sql: &str) -> Vec<SqliteRow> {
        sqlx::query(AssertSqlSafe(sql.to_owned())).fetch_all(&self.raw).await.unwrap()
    }

    /// The single number of a query.
    pub async fn figure(&self, sql: &str) -> i64 {
        self.ask(sql).await[0].get(0)
    }

    /// Imports a new manifest: `"a enable, b delete"`.
    pub async fn import(&self, manifest: &str) -> BatchId {
        let number = self.figure("SELECT count(*) FROM batches").await;
        match self.import_as(number, manifest, SameManifest::Continues).await {
            Imported::New { batch, .. } => {
                self.approve_batch(batch).await;
                batch
            }
            known @ Imported::Known { .. } => panic!("{known:?}"),
        }
    }

    /// Imports a manifest whose digest is `number`.
    pub async fn import_as(&self, number: i64, manifest: &str, same: SameManifest) -> Imported {
        let (mut import, totals) = self.begin_manifest(number, manifest).await;
        import.preview(&totals.digest, same).await.unwrap();
        import.commit(&totals).await.unwrap()
    }

    /// An import with all rows added and no decision yet.
    pub async fn begin_manifest(&self, number: i64, manifest: &str) -> (Import, ImportTotals) {
        let jobs = parse(manifest);
        let mut import = self.queue.begin_import(APP, NOW_MS).await.unwrap();
        let totals = totals(number, jobs.len() as u64);
        for job in jobs {
            import.add_row(job).await.unwrap();
        }
        (import, totals)
    }

    /// Imports `count` questions: `q0001`, `q0002`, …
    pub async fn import_many(&self, count: usize, status: TargetStatus) -> BatchId {
        self.import(&many(count, status)).await
    }

    /// Claims up to `jobs` free jobs at [`NOW_MS`].
    pub async fn claim(&self, jobs: usize) -> Claimed {
        self.try_claim(jobs).await.expect("something to claim")
    }

    pub async fn try_claim(&self, jobs: usize) -> Option<Claimed> {
        self.queue.claim_free(self.run, |_, _| jobs, NOW_MS).await.unwrap()
    }

    /// The result of a claim's request.
    pub fn response(
        &self,
        claimed: &Claimed,
        verdict: Verdict,
        code: Option<i64>,
    ) -> RequestResult {
        RequestResult {
            request: claimed.request,
            run: self.run,
            verdict,
            responded_ms: NOW_MS + 50,
            latency_ms: 50,
            http_status: Some(200),
            code,
            info: "it said".to_owned(),
        }
    }

    pub async fn succeed(&self, claimed: &Claimed) {
        let settled = self.response(claimed, Verdict::Applied, Some(0));
        self.queue.settle_succeeded(&settled, &Conclusions::default()).await.unwrap();
    }

    pub async fn fail(&self, claimed: &Claimed, code: i64) {
        let settled = self.response(claimed, Verdict::Rejected, Some(code));
        self.queue.settle_failed(&settled, false, &Conclusions::default()).await.unwrap();
    }

    /// Requeues a claim, reserved by the run. Returns how many jobs were superseded or cancelled.
    pub async fn hold(&self, claimed: &Claimed) -> u64 {
        let how = RequeueOptions {
            reserved_by: Some(self.run),
            counts_as_attempt: true,
            ..RequeueOptions::default()
        };
        let settled = self.response(claimed, Verdict::Rejected, Some(-50_003));
        self.queue.requeue(&settled, how, &Conclusions::default()).await.unwrap()
    }

    /// Every job except bystanders with its state, in the order of job numbers: `a:pending b:failed`.
    /// Checks the bystanders and every transition so far.
    pub async fn states(&self) -> String {
        self.check_invariants().await;
        let rows = self
            .ask("SELECT question_id || ':' || state FROM jobs WHERE app_id = 1 AND question_id NOT LIKE 'by-%' ORDER BY id")
            .await;
        rows.iter().map(|row| row.get(0)).collect::<Vec<String>>().join(" ")
    }

    /// The number of jobs by state, without bystanders: `failed 1, succeeded 9`.
    pub async fn state_counts(&self) -> String {
        self.check_invariants().await;
        let rows = self
            .ask(
                "SELECT state || ' ' || count(*) FROM jobs
                 WHERE app_id = 1 AND question_id NOT LIKE 'by-%' GROUP BY state ORDER BY state",
            )
            .await;
        rows.iter().map(|row| row.get(0)).collect::<Vec<String>>().join(", ")
    }

    /// The latest job of a question with all values that differ from a new job's: `failed request=3
    /// attempts=1 code=-50003 info=it said finished=50`.
    pub async fn job(&self, question: &str) -> String {
        let rows = self
            .ask(&format!(
                "SELECT state || iif(is_latest = 1, '', ' failed_superseded') || iif(not_before_ms = 0, '', ' due=' || (not_before_ms - {NOW_MS}))
                   || iif(reserved_by_run_id IS NULL, '', ' held=' || reserved_by_run_id) || iif(request_id IS NULL, '', ' request=' || request_id)
                   || iif(attempts = 0, '', ' attempts=' || attempts) || iif(response_lost = 0, '', ' lost')
                   || iif(is_latest AND (question_id, app_id) IN (SELECT question_id, app_id FROM doubts WHERE open), ' in_doubt', '')
                   || iif(error_code IS NULL, '', ' code=' || error_code) || iif(error_info IS NULL, '', ' info=' || error_info)
                   || iif(finished_ms IS NULL, '', ' finished=' || (finished_ms - {NOW_MS}))
                 FROM jobs WHERE app_id = 1 AND question_id = '{question}' ORDER BY id DESC LIMIT 1"
            ))
            .await;
        rows[0].get(0)
    }

    /// The number of the latest job of a question.
    pub async fn id(&self, question: &str) -> JobId {
        self.figure(&format!(
            "SELECT max(id) FROM jobs WHERE app_id = 1 AND question_id = '{question}'"
        ))
        .await
    }

    /// The records of all jobs except bystanders, in the order of job numbers.
    pub async fn own_records(&self) -> Vec<Record> {
        let all = self.queue.records(RecordFilter::default());
        let own = all.try_filter(|record| ready(&*record.batch != "by"));
        own.try_collect().await.unwrap()
    }

    /// The record of the latest job of a question.
    pub async fn record(&self, question: &str) -> Record {
        let records = self.own_records().await.into_iter();
        records.rev().find(|record| record.question_id == question).unwrap()
    }

    /// The number of jobs in `state`, without bystanders.
    pub async fn count(&self, state: JobState) -> usize {
        self.own_records().await.iter().filter(|record| record.state == state).count()
    }

    /// The number of pending deletes.
    pub async fn pending_deletes(&self) -> u64 {
        let which = "app_id = 1 AND target_status = 6 AND state = 'pending'";
        self.figure(&format!("SELECT count(*) FROM jobs WHERE {which}")).await.unsigned_abs()
    }

    /// The state and code of each question's latest job.
    pub async fn outcomes(&self) -> BTreeMap<String, (String, Option<i64>)> {
        let rows = self
            .ask(
                "SELECT question_id, state, error_code FROM jobs
                 WHERE app_id = 1 AND is_latest = 1 AND question_id NOT LIKE 'by-%'",
            )
            .await;
        rows.iter().map(|row| (row.get(0), (row.get(1), row.get(2)))).collect()
    }

    /// Every transition so far.
    pub async fn transitions(&self) -> BTreeSet<(String, String)> {
        let rows = self.ask("SELECT DISTINCT old, new FROM transitions").await;
        rows.iter().map(|row| (row.get(0), row.get(1))).collect()
    }

    /// Fails if a bystander has changed or a job made a forbidden transition.
    pub async fn check_invariants(&self) {
        assert_eq!(self.look_at_bystanders().await, self.bystanders, "a bystander has changed");
        self.check_counters().await;
        for (old, new) in self.transitions().await {
            let (from, to): (JobState, JobState) = (old.parse().unwrap(), new.parse().unwrap());
            assert!(from.may_become(to), "{from} has become {to}");
        }
    }

    /// Fails if the counters differ from the rows.
    pub async fn check_counters(&self) {
        let [counters, runs] = [COUNTERS, RUNS].map(|sql| async move {
            let rows = self.ask(sql).await;
            rows.iter().map(|row| row.get(0)).collect::<Vec<String>>()
        });
        assert_eq!(counters.await, Vec::<String>::new(), "counters that have drifted");
        assert_eq!(runs.await, Vec::<String>::new(), "runs whose figures have drifted");
    }

    async fn look_at_bystanders(&self) -> Vec<String> {
        let rows = self
            .ask(
                "SELECT json_array(id, batch_id, line, question_id, target_status, state, is_latest, not_before_ms, reserved_by_run_id, request_id,
                                   attempts, response_lost, error_code, error_info, finished_ms)
                 FROM jobs WHERE app_id = 2 OR question_id LIKE 'by-%' ORDER BY id",
            )
            .await;
        rows.iter().map(|row| row.get(0)).collect()
    }
}
