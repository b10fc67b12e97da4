//! Importing: all of a manifest or nothing, and the newest intent wins.

use std::collections::BTreeSet;

use deskbatch::domain::job::Status;
use deskbatch::domain::verdict::Verdict;
use deskbatch::queue::{Imported, Return, SameManifest};
use sqlx::Row as _;

use crate::support_core::{NOW_MS, OTHER_APP, TestQueue, many, parse, questions, totals};
use crate::support_turn::AtOnce as _;

#[tokio::test]
async fn a_dropped_import_leaves_nothing_behind() {
    let queue = TestQueue::begun().await;
    queue.import("a enable, b delete").await;
    let before = queue.job("a").await;
    // More than one group of rows, so that some are written before the drop.
    let (import, _) =
        queue.begin_import(7, &format!("a delete, {}", many(450, Status::Enable))).await;
    drop(import);
    // The next writer waits for the one connection, and so for the rollback.
    let again = queue.store.begin_import(OTHER_APP, NOW_MS).await.unwrap();
    again.undo().await.unwrap();
    assert_eq!(queue.states().await, "a:pending b:pending");
    assert_eq!(queue.job("a").await, before);
    assert_eq!(queue.figure("SELECT count(*) FROM batches").await, 3);
}

#[tokio::test]
async fn an_import_that_is_undone_frees_the_file_for_others_at_once() {
    let queue = TestQueue::begun().await;
    let (import, _) = queue.begin_import(7, &many(450, Status::Enable)).await;
    import.undo().await.unwrap();
    queue.sql("UPDATE batches SET name = 'by' WHERE id = 1").await;
    assert_eq!(queue.states().await, "");
}

#[tokio::test]
async fn nobody_sees_an_import_before_it_is_committed() {
    let queue = TestQueue::begun().await;
    let (mut import, totals) = queue.begin_import(7, &many(450, Status::Delete)).await;
    let preview = import.preview(&totals.digest, SameManifest::Continues).await.unwrap();
    assert_eq!(preview.open, [3, 0, 450]);
    assert_eq!(queue.tally().await, "");
    import.commit(&totals).await.unwrap();
    assert_eq!(queue.tally().await, "pending 450");
}

#[tokio::test]
async fn a_newer_import_supersedes_what_waits_and_leaves_the_rest() {
    let queue = TestQueue::begun().await;
    queue.import("a enable, b enable, c enable").await;
    let (mut import, totals) = queue.begin_import(7, "b delete, d delete").await;
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

/// What becomes of a queue whose every kind of job a large import names, and of its figures.
async fn superseded_by_many(names_questions: bool) -> (u64, String, Vec<String>) {
    let queue = TestQueue::begun().await;
    queue.import("a enable, b enable, c enable, d enable, e enable, stays enable").await;
    queue.succeed(&queue.claim(1).await).await;
    queue.fail(&queue.claim(1).await, -7).await;
    let held = queue.claim(1).await;
    queue.hold(&held).await;
    queue.claim(1).await;
    let manifest = format!(
        "a delete, b delete, c delete, d delete, e delete, {}",
        many(20_000, Status::Enable)
    );
    let (mut import, totals) = queue.begin_import(7, &manifest).await;
    if names_questions {
        let named: BTreeSet<String> =
            parse(&manifest).iter().map(|job| job.question_id.to_string()).collect();
        import.set_membership_test(move |id| named.contains(id));
    }
    let preview = import.preview(&totals.digest, SameManifest::Continues).await.unwrap();
    import.commit(&totals).await.unwrap();
    let older = "SELECT printf('%s:%s:%d', question_id, state, is_latest) AS job FROM jobs WHERE batch_id = 3 ORDER BY id";
    let older = queue.ask(older).await.iter().map(|row| row.get(0)).collect();
    (preview.superseded, queue.tally().await, older)
}

#[tokio::test]
async fn older_jobs_are_found_alike_by_their_index_and_by_a_look_at_each() {
    let by_index = superseded_by_many(false).await;
    let expected = [
        "a:succeeded:0",
        "b:failed:0",
        "c:superseded:0",
        "d:in_flight:0",
        "e:superseded:0",
        "stays:pending:1",
    ];
    assert_eq!((by_index.0, &by_index.2[..]), (2, &expected.map(str::to_owned)[..]));
    assert_eq!(superseded_by_many(true).await, by_index);
}

#[tokio::test]
async fn a_held_job_is_superseded_too_and_its_run_finds_it_gone() {
    let queue = TestQueue::begun().await;
    queue.import("a enable, b enable").await;
    let claimed = queue.claim(9).await;
    queue.hold(&claimed).await;
    queue.import("a delete").await;
    assert_eq!(queue.states().await, "a:superseded b:pending a:pending");
    let again = queue
        .store
        .claim_reserved(queue.run, Status::Enable, &claimed.ids(), NOW_MS)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(questions(&again), "b");
}

#[tokio::test]
async fn a_job_in_flight_is_superseded_when_it_returns_and_not_before() {
    let queue = TestQueue::begun().await;
    queue.import("a enable, b enable").await;
    let claimed = queue.claim(9).await;
    let newer = queue.import_as(7, "a delete", SameManifest::Continues).await;
    assert_eq!(newer, Imported::New { batch: 4, superseded: 0 });
    assert_eq!(queue.states().await, "a:in_flight b:in_flight a:pending");
    let how =
        Return { reserved_by: Some(queue.run), not_before_ms: 0, counts: true, in_doubt: false };
    let settled = queue.answer(&claimed, Verdict::Rejected, Some(-50_003));
    assert_eq!(queue.store.requeue(&settled, how).await.unwrap(), 1);
    assert_eq!(queue.states().await, "a:superseded b:pending a:pending");
}

#[tokio::test]
async fn a_job_in_flight_that_succeeds_keeps_its_outcome_beside_the_newer_one() {
    let queue = TestQueue::begun().await;
    queue.import("a enable").await;
    let claimed = queue.claim(9).await;
    queue.import("a delete").await;
    queue.succeed(&claimed).await;
    assert_eq!(queue.states().await, "a:succeeded a:pending");
}

#[tokio::test]
async fn three_imports_of_one_question_leave_one_newest() {
    let queue = TestQueue::begun().await;
    queue.import("a enable").await;
    let claimed = queue.claim(9).await;
    queue.import("a disable").await;
    queue.import("a delete").await;
    assert_eq!(queue.states().await, "a:in_flight a:superseded a:pending");
    queue.hold(&claimed).await;
    assert_eq!(queue.states().await, "a:superseded a:superseded a:pending");
    assert_eq!(queue.claim(9).await.status, Status::Delete);
}

#[tokio::test]
async fn the_same_manifest_goes_on_while_unfinished_and_does_nothing_once_finished() {
    let queue = TestQueue::begun().await;
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

#[tokio::test]
async fn the_same_manifest_makes_a_new_batch_when_that_is_asked_for() {
    let queue = TestQueue::begun().await;
    queue.import_as(7, "a enable, b enable", SameManifest::Continues).await;
    let claimed = queue.claim(1).await;
    queue.succeed(&claimed).await;
    let again = queue.import_as(7, "a enable, b enable", SameManifest::Again).await;
    assert_eq!(again, Imported::New { batch: 4, superseded: 1 });
    assert_eq!(queue.states().await, "a:succeeded b:superseded a:pending b:pending");
}

#[tokio::test]
async fn the_same_manifest_of_another_app_is_another_batch() {
    let queue = TestQueue::begun().await;
    queue.import_as(7, "a enable", SameManifest::Continues).await;
    let mut import = queue.store.begin_import(OTHER_APP, NOW_MS).await.unwrap();
    import.add(parse("z enable").remove(0)).await.unwrap();
    let preview = import.preview(&totals(7, 1).digest, SameManifest::Continues).await.unwrap();
    assert_eq!((preview.known, preview.superseded, preview.open), (None, 0, [2, 1, 1]));
    import.undo().await.unwrap();
    assert_eq!(queue.states().await, "a:pending");
}

#[tokio::test]
async fn a_known_manifest_supersedes_nothing_although_its_rows_were_written() {
    let queue = TestQueue::begun().await;
    let rows = many(450, Status::Enable);
    queue.import_as(7, &rows, SameManifest::Continues).await;
    queue.import_as(8, "q0001 delete", SameManifest::Continues).await;
    let (mut import, totals) = queue.begin_import(7, &rows).await;
    let preview = import.preview(&totals.digest, SameManifest::Continues).await.unwrap();
    // by-6 and by-7 wait and by-5 is in flight.
    assert_eq!((preview.known, preview.superseded, preview.open), (Some(3), 0, [449 + 3, 0, 1]));
    assert_eq!(import.commit(&totals).await.unwrap(), Imported::Known { batch: 3 });
    assert_eq!(queue.tally().await, "pending 450, superseded 1");
}

#[tokio::test]
async fn a_later_row_replaces_an_earlier_one_of_the_same_manifest_alone() {
    let queue = TestQueue::begun().await;
    queue.import("a enable").await;
    let (mut import, _) = queue.begin_import(7, "a enable, b enable").await;
    import.replace(parse("a delete").remove(0)).await.unwrap();
    let mut totals = totals(7, 3);
    totals.duplicates = 1;
    import.commit(&totals).await.unwrap();
    assert_eq!(queue.states().await, "a:superseded a:pending b:pending");
    let statuses = "SELECT group_concat(target_status, ' ') FROM jobs WHERE batch_id IN (3, 4)";
    let statuses: String = sqlx::Row::get(&queue.ask(statuses).await[0], 0);
    assert_eq!(statuses, "4 6 4");
}

#[tokio::test]
async fn rows_that_make_no_job_are_counted_with_their_batch() {
    let queue = TestQueue::begun().await;
    let (import, mut totals) = queue.begin_import(7, "a enable, b enable").await;
    (totals.rows, totals.duplicates, totals.rejected) = (10, 5, 3);
    import.commit(&totals).await.unwrap();
    let row = &queue.ask("SELECT rows || ' ' || jobs || ' ' || duplicates || ' ' || rejected FROM batches WHERE id = 3").await[0];
    assert_eq!(sqlx::Row::get::<String, _>(row, 0), "10 2 5 3");
    let summary = queue.store.batch(3).await.unwrap().unwrap();
    assert_eq!((summary.jobs, summary.open, summary.failed), (2, 2, 0));
}

#[tokio::test]
async fn an_import_whose_figures_cannot_be_true_is_refused_and_leaves_nothing() {
    let queue = TestQueue::begun().await;
    let (import, mut totals) = queue.begin_import(7, "a enable, b enable").await;
    totals.duplicates = 5;
    assert!(import.commit(&totals).await.is_err());
    assert_eq!(queue.states().await, "");
    queue.import("a enable").await;
    assert_eq!(queue.states().await, "a:pending");
}
