//! The schema rejects impossible rows. The statements make only legal transitions and find their rows
//! by an index, however large the queue is.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use deskbatch::domain::job::{JobState, TargetStatus};
use deskbatch::domain::verdict::Verdict;
use deskbatch::queue::{Conclusion, Conclusions, Imported, Queue, RequeueOptions};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{Connection as _, Row as _};

use crate::support::auto_commit::{AutoCommit as _, inferred};
use crate::support::manifest::{many, parse, totals};
use crate::support::queue::{APP, NOW_MS, TestQueue};

/// A job of the bystanders' batch with changed `(columns, values)`.
fn job(columns: &str, values: &str) -> String {
    format!(
        "INSERT INTO jobs (batch_id, app_id, line, question_id, target_status{}{columns}) VALUES (1, 1, 9, 'new', 4{}{values})",
        if columns.is_empty() { "" } else { ", " },
        if values.is_empty() { "" } else { ", " },
    )
}

fn impossible_jobs() -> Vec<String> {
    vec![
        job("state", "'done'"),
        job("state, finished_ms", "'pending', 1"),
        job("state", "'cancelled'"),
        job("state", "'superseded'"),
        job("state", "'in_flight'"),
        job("state, request_id, finished_ms", "'in_flight', 1, 1"),
        job("state, attempts, finished_ms", "'succeeded', 1, 1"),
        job("state, request_id, finished_ms", "'succeeded', 1, 1"),
        job("state, request_id, finished_ms", "'failed', 1, 1"),
        job("state, request_id, attempts", "'failed', 1, 1"),
        job("state, reserved_by_run_id, request_id", "'in_flight', 1, 1"),
        job("state, reserved_by_run_id, finished_ms", "'cancelled', 1, 1"),
        job("error_code", "-7"),
        job("state, error_code, finished_ms", "'cancelled', -7, 1"),
        job("is_latest", "2"),
        job("not_before_ms", "-1"),
        job("not_before_ms", "'soon'"),
        job("attempts", "-1"),
        job("response_lost", "2"),
        "INSERT INTO doubts VALUES ('a', 1, 7, 1, 1, 0)".to_owned(),
        "INSERT INTO doubts VALUES ('a', 1, 4, 2, 1, 0)".to_owned(),
        "INSERT INTO doubts VALUES ('a', 1, 4, 1, 2, 0)".to_owned(),
        "INSERT INTO doubts VALUES ('a', 99, 4, 1, 1, 0)".to_owned(),
        "INSERT INTO doubts VALUES ('a', 1, 4, 1, 1, -1)".to_owned(),
        "INSERT INTO job_counters VALUES (1, 4, 0, 'done', 1)".to_owned(),
        "INSERT INTO job_counters VALUES (1, 4, 9, 'pending', -1)".to_owned(),
        "INSERT INTO job_counters VALUES (99, 4, 0, 'pending', 1)".to_owned(),
        "UPDATE requests SET response_lost = 2".to_owned(),
        job("reserved_by_run_id", "99"),
        job("request_id", "99"),
        job("", "").replace("'new'", "''"),
        job("", "").replace("'new'", &format!("'{}'", "x".repeat(257))),
        job("", "").replace("'new', 4", "'new', 7"),
        job("", "").replace("(1, 1, 9", "(1, 1, 0"),
        job("", "").replace("(1, 1, 9", "(99, 1, 9"),
        job("", "").replace("(1, 1, 9", "(1, 99, 9"),
        job("", "").replace("'new'", "'by-1'"),
    ]
}

fn impossible_others() -> Vec<String> {
    vec![
        "INSERT INTO apps (sdkappid, library) VALUES (0, 'faq')".to_owned(),
        "INSERT INTO apps (sdkappid, library) VALUES (1, 'other')".to_owned(),
        "INSERT INTO apps (sdkappid, library) VALUES (1400000001, 'faq')".to_owned(),
        "UPDATE batches SET jobs = jobs + 1".to_owned(),
        "UPDATE batches SET digest = 'short'".to_owned(),
        "UPDATE batches SET created_ms = -1".to_owned(),
        "UPDATE batches SET rejected = -1, rows = rows - 1".to_owned(),
        "UPDATE runs SET ending = NULL".to_owned(),
        "UPDATE runs SET finished_ms = NULL".to_owned(),
        "UPDATE runs SET ending = 'well'".to_owned(),
        "UPDATE requests SET verdict = NULL".to_owned(),
        "UPDATE requests SET responded_ms = NULL".to_owned(),
        "UPDATE requests SET verdict = 'fine'".to_owned(),
        "UPDATE requests SET job_count = 0".to_owned(),
        "UPDATE requests SET target_status = 1".to_owned(),
        "UPDATE requests SET run_id = 99".to_owned(),
        "UPDATE requests SET latency_ms = -1".to_owned(),
        "DELETE FROM runs".to_owned(),
        "DELETE FROM batches".to_owned(),
    ]
}

#[tokio::test]
async fn constraints_reject_impossible_rows() {
    let queue = TestQueue::idle().await;
    for sql in impossible_jobs().into_iter().chain(impossible_others()) {
        let refused = queue.try_sql(&sql).await;
        let text = refused.err().unwrap_or_else(|| panic!("taken: {sql}")).to_string();
        assert!(
            text.contains("constraint failed") || text.contains("cannot store"),
            "{sql}: {text}"
        );
    }
    queue.sql(&job("", "")).await;
    queue.check_invariants().await;
}

#[tokio::test]
async fn constraints_enforce_columns_of_each_job_state() {
    let queue = TestQueue::begun().await;
    let holder = queue.run;
    for state in ["pending", "in_flight", "succeeded", "failed", "cancelled", "superseded", "done"]
    {
        let is_open = ["pending", "in_flight"].contains(&state);
        let is_reported = ["succeeded", "failed"].contains(&state);
        for has in 0..1 << 5 {
            let [finished, held, sent, tried, coded] =
                [0, 1, 2, 3, 4].map(|bit| has >> bit & 1 == 1);
            let possible = state != "done"
                && finished != is_open
                && (!held || state == "pending")
                && (sent || state != "in_flight" && !is_reported)
                && (tried || !is_reported)
                && (!coded || is_reported);
            let values = [
                if finished { "1" } else { "NULL" }.to_owned(),
                if held { holder.to_string() } else { "NULL".to_owned() },
                if sent { "1" } else { "NULL" }.to_owned(),
                i32::from(tried).to_string(),
                if coded { "-7" } else { "NULL" }.to_owned(),
            ];
            let values = format!("'{state}', {}", values.join(", "));
            let sql = job(
                "state, finished_ms, reserved_by_run_id, request_id, attempts, error_code",
                &values,
            );
            let taken = queue.try_sql(&format!("SAVEPOINT one; {sql}")).await.is_ok();
            queue.try_sql("ROLLBACK TO one; RELEASE one").await.unwrap();
            assert_eq!(taken, possible, "{sql}");
        }
    }
}

/// Illegal transitions that the schema cannot detect from the row of a job alone: both states have an
/// outcome, or neither has.
const UNSEEN_BY_THE_SCHEMA: [(JobState, JobState); 7] = [
    (JobState::Succeeded, JobState::Failed),
    (JobState::Succeeded, JobState::Cancelled),
    (JobState::Succeeded, JobState::Superseded),
    (JobState::Failed, JobState::Succeeded),
    (JobState::Failed, JobState::Cancelled),
    (JobState::Failed, JobState::Superseded),
    (JobState::Cancelled, JobState::Superseded),
];

#[tokio::test]
async fn constraints_reject_bare_open_to_final_change() {
    let queue = TestQueue::begun().await;
    queue.sql("UPDATE jobs SET error_code = NULL WHERE question_id = 'by-2'").await;
    let rows =
        queue.ask("SELECT id, state FROM jobs WHERE question_id LIKE 'by-%' ORDER BY id").await;
    let mut taken = BTreeSet::new();
    for row in &rows {
        let (id, from): (i64, JobState) = (row.get(0), row.get::<String, _>(1).parse().unwrap());
        for to in JobState::ALL.into_iter().filter(|to| *to != from) {
            let sql = format!("SAVEPOINT move; UPDATE jobs SET state = '{to}' WHERE id = {id}");
            if queue.try_sql(&sql).await.is_ok() && !from.may_become(to) {
                taken.insert((from.name(), to.name()));
            }
            queue.try_sql("ROLLBACK TO move; RELEASE move").await.unwrap();
        }
    }
    let known = UNSEEN_BY_THE_SCHEMA.map(|(from, to)| (from.name(), to.name()));
    let known = known.into_iter().chain([("superseded", "cancelled")]).collect::<BTreeSet<_>>();
    assert_eq!(taken, known, "the statements' guards alone hold these");
}

#[tokio::test]
async fn queue_makes_exactly_the_legal_transitions() {
    let queue = TestQueue::begun().await;
    let none = Conclusions::default();
    queue.import("a enable, b enable, c enable, d enable, e enable").await;
    queue.succeed(&queue.claim(1).await).await;
    queue.fail(&queue.claim(1).await, -7).await;
    queue.retry_failed(&[-7], Some(3)).await.unwrap();
    let together = queue.claim(2).await;
    queue.hold(&together).await;
    let ids = together.ids();
    let alone = queue.claim_reserved(queue.run, TargetStatus::Enable, &ids[..1], NOW_MS).await;
    let alone = alone.unwrap().unwrap();
    let conclusions =
        Conclusions { jobs: vec![inferred(ids[1], together.request.id)], ..none.clone() };
    let settled = queue.response(&alone, Verdict::Applied, Some(0));
    queue.settle_succeeded(&settled, &conclusions).await.unwrap();
    // The delete is rejected alone, and counts as done once the app is known to be alive.
    queue.import("z delete").await;
    let gone = queue.claim(1).await;
    queue.hold(&gone).await;
    let (job, request) = (gone.ids()[0], gone.request.id);
    let is_done = Conclusion { is_done: true, was_alone: true, ..inferred(job, request) };
    let mut turn = queue.begin_transaction();
    let done = Conclusions { jobs: vec![is_done], ..none.clone() };
    turn.conclude(queue.run, &done, NOW_MS).await.unwrap();
    turn.commit().await.unwrap();
    // A superseded and a cancelled job are requeued first: two transitions each.
    queue.import("f delete, g delete, h delete, i delete").await;
    let flying = queue.claim(2).await;
    queue.import("f enable, h enable").await;
    queue.cancel_batch(4, NOW_MS).await.unwrap();
    queue.hold(&flying).await;

    let legal: BTreeSet<(String, String)> = JobState::ALL
        .into_iter()
        .flat_map(|from| JobState::ALL.map(|to| (from, to)))
        .filter(|(from, to)| from.may_become(*to))
        .map(|(from, to)| (from.name().to_owned(), to.name().to_owned()))
        .collect();
    assert_eq!(queue.transitions().await, legal);
}

#[tokio::test]
async fn no_queue_call_changes_a_final_job_state() {
    let queue = TestQueue::begun().await;
    queue.import("a enable, b enable, c enable, d enable").await;
    queue.succeed(&queue.claim(1).await).await;
    let failed = queue.claim(1).await;
    queue.fail(&failed, -7).await;
    queue.cancel_batch(3, NOW_MS).await.unwrap();
    let before = queue.states().await;
    assert_eq!(before, "a:succeeded b:failed c:cancelled d:cancelled");
    let ids = [queue.id("a").await, queue.id("b").await, queue.id("c").await];
    // Every operation that could change them, with their job numbers and their request.
    assert_eq!(queue.try_claim(9).await, None);
    let held = queue.claim_reserved(queue.run, TargetStatus::Enable, &ids, NOW_MS).await.unwrap();
    assert_eq!(held, None);
    queue.release(queue.run, &ids).await.unwrap();
    queue.cancel_batch(3, NOW_MS).await.unwrap();
    queue.import("x enable").await;
    let other = queue.claim(1).await;
    let how =
        RequeueOptions { counts_as_attempt: true, in_doubt: true, ..RequeueOptions::default() };
    let conclusions =
        Conclusions { released: ids.to_vec(), jobs: vec![inferred(ids[0], failed.request.id)] };
    let settled = queue.response(&other, Verdict::Transient, None);
    queue.requeue(&settled, how, &conclusions).await.unwrap();
    assert_eq!(queue.states().await, format!("{before} x:pending"));
}

/// Every statement that is a single literal in a file of the queue.
pub(super) fn statements(file: &str) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/queue").join(file);
    let text = fs::read_to_string(path).unwrap();
    let is_comment = |line: &&str| line.trim_start().starts_with("//");
    let program: String =
        text.lines().filter(|line| !is_comment(line)).collect::<Vec<_>>().join("\n");
    // No statement contains a double quote.
    let literals = program.split('"').skip(1).step_by(2).map(str::trim);
    let is_statement = |text: &&str| {
        let verbs = ["SELECT ", "UPDATE ", "INSERT ", "DELETE ", "WITH "];
        verbs.iter().any(|verb| text.starts_with(verb)) && !text.contains(['{', ';'])
    };
    literals.filter(is_statement).map(str::to_owned).collect()
}

/// The engine's query plan for `sql`, step by step.
pub(super) async fn plan(queue: &TestQueue, sql: &str) -> Vec<String> {
    let rows = queue.ask(&format!("EXPLAIN QUERY PLAN {sql}")).await;
    rows.iter().map(|row| row.get("detail")).collect()
}

#[tokio::test]
async fn no_statement_of_a_run_scans_all_jobs() {
    let queue = TestQueue::idle().await;
    let mut seen = 0;
    let files = [
        "read/approvals",
        "sqlite/approvals",
        "sqlite/approved_jobs",
        "sqlite/claim",
        "sqlite/import/mod",
        "sqlite/recovery",
        "sqlite/runs",
        "sqlite/settle",
    ];
    for file in files {
        for sql in statements(&format!("{file}.rs")) {
            for step in plan(&queue, &sql).await {
                seen += 1;
                let whole = ["SCAN jobs", "SCAN job ", "SCAN other"]
                    .iter()
                    .any(|scan| step.starts_with(scan));
                assert!(!step.contains("AUTOMATIC"), "{file}: {step}:\n{sql}");
                // This partial index holds only reserved jobs, and the statement needs all of them.
                let partial = step.contains("jobs_reserved");
                assert!(!whole || partial, "{file}: {step}:\n{sql}");
                assert!(!step.contains("TEMP B-TREE"), "{file}: {step}:\n{sql}");
            }
        }
    }
    assert!(seen > 40, "{seen} steps of plans");
}

#[tokio::test]
async fn superseded_jobs_are_found_by_question_index() {
    let queue = TestQueue::idle().await;
    let staging =
        "CREATE TEMP TABLE staged (line INTEGER, question_id TEXT, target_status INTEGER);
                   CREATE INDEX temp.staged_question ON staged (question_id);
                   CREATE TEMP TABLE older (id INTEGER PRIMARY KEY)";
    queue.try_sql(staging).await.unwrap();
    let found = statements("sqlite/import/apply.rs");
    let [find] = &found
        .iter()
        .filter(|sql| sql.contains("CROSS JOIN jobs AS job ON job.question_id"))
        .collect::<Vec<_>>()[..]
    else {
        panic!("{found:?}")
    };
    let plan = plan(&queue, find).await.join("\n");
    let search = "SEARCH job USING INDEX jobs_latest (question_id=? AND app_id=?)";
    assert!(
        plan.contains(search) || plan.contains(&search.replace("INDEX", "COVERING INDEX")),
        "{plan}"
    );
}

const INDEXES: &str = "SELECT sql FROM sqlite_schema WHERE type = 'index' ORDER BY name";

#[tokio::test]
async fn import_rebuilds_indexes_as_migrated() {
    let queue = TestQueue::begun().await;
    let texts =
        async || -> Vec<String> { queue.ask(INDEXES).await.iter().map(|row| row.get(0)).collect() };
    let before = texts().await;
    queue.import_many(20_000, TargetStatus::Enable).await;
    queue.import("q0001 delete").await;
    assert_eq!(texts().await, before);
    let duplicate = "INSERT INTO jobs (batch_id, app_id, line, question_id, target_status) VALUES (3, 1, 9, 'q0002', 4)";
    let refused = queue.try_sql(duplicate).await.unwrap_err().to_string();
    assert!(refused.contains("UNIQUE constraint failed"), "{refused}");
}

#[tokio::test]
async fn large_import_commits_with_its_unique_index() {
    let folder = tempfile::tempdir().unwrap();
    let queue = Queue::open(&folder.path().join("queue.db")).await.unwrap();
    let options = SqliteConnectOptions::new().filename(queue.path());
    let mut raw = SqliteConnection::connect_with(&options).await.unwrap();
    let mut indexes =
        async || -> Vec<String> { sqlx::query_scalar(INDEXES).fetch_all(&mut raw).await.unwrap() };
    let import = async |number, manifest: &str| {
        let jobs = parse(manifest);
        let totals = totals(number, jobs.len() as u64);
        let mut import = queue.begin_import(APP, NOW_MS).await.unwrap();
        for job in jobs {
            import.add_row(job).await.unwrap();
        }
        import.commit(&totals).await.unwrap()
    };
    let before = indexes().await;
    import(1, &many(20_000, TargetStatus::Enable)).await;
    assert_eq!(indexes().await, before);
    let imported = import(2, "q0001 delete, new enable").await;
    assert_eq!(imported, Imported::New { batch: 2, superseded: 1 });
    assert_eq!(indexes().await, before);
    assert_eq!(queue.check().await.unwrap(), Vec::<String>::new());
}
