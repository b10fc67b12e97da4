//! Importing: all of a manifest or nothing, and the latest import of a question wins.

use std::collections::BTreeSet;

use deskbatch::domain::job::TargetStatus;
use deskbatch::domain::verdict::Verdict;
use deskbatch::queue::{Conclusions, Imported, RequeueOptions, SameManifest};
use sqlx::Row as _;

use crate::support::auto_commit::AutoCommit as _;
use crate::support::engine::{Engine, on_each_engine};
use crate::support::manifest::{many, parse, questions, totals};
use crate::support::queue::{NOW_MS, OTHER_APP, TestQueue};

async fn dropped_import_rolls_back(engine: Engine) {
    let queue = TestQueue::begun_on(engine).await;
    queue.import("a enable, b delete").await;
    let before = queue.job("a").await;
    // More rows than one insert takes, so that some are written before the drop.
    let (import, _) =
        queue.begin_manifest(7, &format!("a delete, {}", many(450, TargetStatus::Enable))).await;
    drop(import);
    // The next writer waits for the single connection, and so for the rollback.
    let again = queue.begin_import(OTHER_APP, NOW_MS).await.unwrap();
    again.rollback().await.unwrap();
    assert_eq!(queue.states().await, "a:pending b:pending");
    assert_eq!(queue.job("a").await, before);
    assert_eq!(queue.figure("SELECT count(*) FROM batches").await, 3);
}

async fn undone_import_unlocks_file_at_once(engine: Engine) {
    let queue = TestQueue::begun_on(engine).await;
    let (import, _) = queue.begin_manifest(7, &many(450, TargetStatus::Enable)).await;
    import.rollback().await.unwrap();
    queue.sql("UPDATE batches SET name = 'by' WHERE id = 1").await;
    assert_eq!(queue.states().await, "");
}

async fn import_is_invisible_before_commit(engine: Engine) {
    let queue = TestQueue::begun_on(engine).await;
    let (mut import, totals) = queue.begin_manifest(7, &many(450, TargetStatus::Delete)).await;
    let preview = import.preview(&totals.digest, SameManifest::Continues).await.unwrap();
    assert_eq!(preview.open, [3, 0, 450]);
    assert_eq!(queue.state_counts().await, "");
    import.commit(&totals).await.unwrap();
    assert_eq!(queue.state_counts().await, "pending 450");
}

async fn later_import_supersedes_only_its_pending_jobs(engine: Engine) {
    let queue = TestQueue::begun_on(engine).await;
    queue.import("a enable, b enable, c enable").await;
    let (mut import, totals) = queue.begin_manifest(7, "b delete, d delete").await;
    let preview = import.preview(&totals.digest, SameManifest::Continues).await.unwrap();
    assert_eq!(preview.superseded, 1);
    let imported = import.commit(&totals).await.unwrap();
    assert_eq!(imported, Imported::New { batch: 4, superseded: 1 });
    assert_eq!(queue.states().await, "a:pending b:superseded c:pending b:pending d:pending");
    assert_eq!(
        queue
            .figure("SELECT is_latest FROM jobs WHERE question_id = 'b' AND state = 'superseded'")
            .await,
        0
    );
}

/// The queue and its counters after a large import that names questions of every job state.
async fn superseded_by_many(engine: Engine, names_questions: bool) -> (u64, String, Vec<String>) {
    let queue = TestQueue::begun_on(engine).await;
    queue.import("a enable, b enable, c enable, d enable, e enable, stays enable").await;
    queue.succeed(&queue.claim(1).await).await;
    queue.fail(&queue.claim(1).await, -7).await;
    let held = queue.claim(1).await;
    queue.hold(&held).await;
    queue.claim(1).await;
    let manifest = format!(
        "a delete, b delete, c delete, d delete, e delete, {}",
        many(20_000, TargetStatus::Enable)
    );
    let (mut import, totals) = queue.begin_manifest(7, &manifest).await;
    if names_questions {
        let named: BTreeSet<String> =
            parse(&manifest).iter().map(|job| job.question_id.to_string()).collect();
        import.set_membership_test(move |id| named.contains(id));
    }
    let preview = import.preview(&totals.digest, SameManifest::Continues).await.unwrap();
    import.commit(&totals).await.unwrap();
    let older = "SELECT printf('%s:%s:%d', question_id, state, is_latest) AS job FROM jobs WHERE batch_id = 3 ORDER BY id";
    let older = queue.ask(older).await.iter().map(|row| row.get(0)).collect();
    (preview.superseded, queue.state_counts().await, older)
}

async fn index_and_scan_find_same_superseded_jobs(engine: Engine) {
    let by_index = superseded_by_many(engine, false).await;
    let expected = [
        "a:succeeded:0",
        "b:failed:0",
        "c:superseded:0",
        "d:in_flight:0",
        "e:superseded:0",
        "stays:pending:1",
    ];
    assert_eq!((by_index.0, &by_index.2[..]), (2, &expected.map(str::to_owned)[..]));
    assert_eq!(superseded_by_many(engine, true).await, by_index);
}

async fn reserved_job_can_be_superseded(engine: Engine) {
    let queue = TestQueue::begun_on(engine).await;
    queue.import("a enable, b enable").await;
    let claimed = queue.claim(9).await;
    queue.hold(&claimed).await;
    queue.import("a delete").await;
    assert_eq!(queue.states().await, "a:superseded b:pending a:pending");
    let again = queue
        .claim_reserved(queue.run, TargetStatus::Enable, &claimed.ids(), NOW_MS)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(questions(&again), "b");
}

async fn job_in_flight_is_superseded_on_requeue(engine: Engine) {
    let queue = TestQueue::begun_on(engine).await;
    queue.import("a enable, b enable").await;
    let claimed = queue.claim(9).await;
    let newer = queue.import_as(7, "a delete", SameManifest::Continues).await;
    assert_eq!(newer, Imported::New { batch: 4, superseded: 0 });
    assert_eq!(queue.states().await, "a:in_flight b:in_flight a:pending");
    let how = RequeueOptions {
        reserved_by: Some(queue.run),
        counts_as_attempt: true,
        ..RequeueOptions::default()
    };
    let settled = queue.response(&claimed, Verdict::Rejected, Some(-50_003));
    assert_eq!(queue.requeue(&settled, how, &Conclusions::default()).await.unwrap(), 1);
    assert_eq!(queue.states().await, "a:superseded b:pending a:pending");
}

async fn job_in_flight_keeps_success_after_later_import(engine: Engine) {
    let queue = TestQueue::begun_on(engine).await;
    queue.import("a enable").await;
    let claimed = queue.claim(9).await;
    queue.import("a delete").await;
    queue.succeed(&claimed).await;
    assert_eq!(queue.states().await, "a:succeeded a:pending");
}

async fn three_imports_of_one_question_leave_one_newest(engine: Engine) {
    let queue = TestQueue::begun_on(engine).await;
    queue.import("a enable").await;
    let claimed = queue.claim(9).await;
    queue.import("a disable").await;
    queue.import("a delete").await;
    assert_eq!(queue.states().await, "a:in_flight a:superseded a:pending");
    queue.hold(&claimed).await;
    assert_eq!(queue.states().await, "a:superseded a:superseded a:pending");
    assert_eq!(queue.claim(9).await.status, TargetStatus::Delete);
}

async fn known_manifest_creates_no_new_batch(engine: Engine) {
    let queue = TestQueue::begun_on(engine).await;
    queue.import_as(7, "a enable, b enable", SameManifest::Continues).await;
    let claimed = queue.claim(1).await;
    queue.succeed(&claimed).await;
    let known = Imported::Known { batch: 3 };
    assert_eq!(queue.import_as(7, "a enable, b enable", SameManifest::Continues).await, known);
    assert_eq!(queue.states().await, "a:succeeded b:pending");
    let claimed = queue.claim(1).await;
    queue.succeed(&claimed).await;
    assert_eq!(queue.import_as(7, "a enable, b enable", SameManifest::Continues).await, known);
    assert_eq!(queue.states().await, "a:succeeded b:succeeded");
}

async fn known_manifest_creates_batch_with_again(engine: Engine) {
    let queue = TestQueue::begun_on(engine).await;
    queue.import_as(7, "a enable, b enable", SameManifest::Continues).await;
    let claimed = queue.claim(1).await;
    queue.succeed(&claimed).await;
    let again = queue.import_as(7, "a enable, b enable", SameManifest::Again).await;
    assert_eq!(again, Imported::New { batch: 4, superseded: 1 });
    assert_eq!(queue.states().await, "a:succeeded b:superseded a:pending b:pending");
}

async fn same_manifest_of_another_app_is_new_batch(engine: Engine) {
    let queue = TestQueue::begun_on(engine).await;
    queue.import_as(7, "a enable", SameManifest::Continues).await;
    let mut import = queue.begin_import(OTHER_APP, NOW_MS).await.unwrap();
    import.add_row(parse("z enable").remove(0)).await.unwrap();
    let preview = import.preview(&totals(7, 1).digest, SameManifest::Continues).await.unwrap();
    assert_eq!((preview.known, preview.superseded, preview.open), (None, 0, [2, 1, 1]));
    import.rollback().await.unwrap();
    assert_eq!(queue.states().await, "a:pending");
}

async fn known_manifest_supersedes_nothing(engine: Engine) {
    let queue = TestQueue::begun_on(engine).await;
    let rows = many(450, TargetStatus::Enable);
    queue.import_as(7, &rows, SameManifest::Continues).await;
    queue.import_as(8, "q0001 delete", SameManifest::Continues).await;
    let (mut import, totals) = queue.begin_manifest(7, &rows).await;
    let preview = import.preview(&totals.digest, SameManifest::Continues).await.unwrap();
    // The jobs by-6 and by-7 are pending, by-5 is in flight.
    assert_eq!((preview.known, preview.superseded, preview.open), (Some(3), 0, [449 + 3, 0, 1]));
    assert_eq!(import.commit(&totals).await.unwrap(), Imported::Known { batch: 3 });
    assert_eq!(queue.state_counts().await, "pending 450, superseded 1");
}

async fn later_row_replaces_earlier_row_of_same_manifest(engine: Engine) {
    let queue = TestQueue::begun_on(engine).await;
    queue.import("a enable").await;
    let (mut import, _) = queue.begin_manifest(7, "a enable, b enable").await;
    import.replace_row(parse("a delete").remove(0)).await.unwrap();
    let mut totals = totals(7, 3);
    totals.duplicates = 1;
    import.commit(&totals).await.unwrap();
    assert_eq!(queue.states().await, "a:superseded a:pending b:pending");
    let statuses = "SELECT group_concat(target_status, ' ') FROM jobs WHERE batch_id IN (3, 4)";
    let statuses: String = sqlx::Row::get(&queue.ask(statuses).await[0], 0);
    assert_eq!(statuses, "4 6 4");
}

async fn rows_that_make_no_job_are_counted_with_their_batch(engine: Engine) {
    let queue = TestQueue::begun_on(engine).await;
    let (import, mut totals) = queue.begin_manifest(7, "a enable, b enable").await;
    (totals.rows, totals.duplicates, totals.rejected) = (10, 5, 3);
    import.commit(&totals).await.unwrap();
    let row = &queue.ask("SELECT rows || ' ' || jobs || ' ' || duplicates || ' ' || rejected FROM batches WHERE id = 3").await[0];
    assert_eq!(sqlx::Row::get::<String, _>(row, 0), "10 2 5 3");
    let summary = queue.batch(3).await.unwrap().unwrap();
    assert_eq!((summary.jobs, summary.unfinished, summary.failed), (2, 2, 0));
}

async fn import_with_inconsistent_totals_is_refused(engine: Engine) {
    let queue = TestQueue::begun_on(engine).await;
    let (import, mut totals) = queue.begin_manifest(7, "a enable, b enable").await;
    totals.duplicates = 5;
    assert!(import.commit(&totals).await.is_err());
    assert_eq!(queue.states().await, "");
    queue.import("a enable").await;
    assert_eq!(queue.states().await, "a:pending");
}

on_each_engine! {
    dropped_import_rolls_back,
    undone_import_unlocks_file_at_once,
    import_is_invisible_before_commit,
    later_import_supersedes_only_its_pending_jobs,
    index_and_scan_find_same_superseded_jobs,
    reserved_job_can_be_superseded,
    job_in_flight_is_superseded_on_requeue,
    job_in_flight_keeps_success_after_later_import,
    three_imports_of_one_question_leave_one_newest,
    known_manifest_creates_no_new_batch,
    known_manifest_creates_batch_with_again,
    same_manifest_of_another_app_is_new_batch,
    known_manifest_supersedes_nothing,
    later_row_replaces_earlier_row_of_same_manifest,
    rows_that_make_no_job_are_counted_with_their_batch,
    import_with_inconsistent_totals_is_refused,
}
