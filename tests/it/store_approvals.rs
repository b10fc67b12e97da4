//! Approvals in the queue: which jobs they cover, what a run that is bound to one finds, and
//! that they come and go with the import that they belong to.

use deskbatch::job::Status;
use deskbatch::verdict::Verdict;

use crate::support_core::{APP, NOW_MS, Queue, is_fenced, questions};
use crate::support_turn::AtOnce as _;

const DIGEST: &str = "00000000000000000000000000000000000000000000000000000000000000d1";

/// Approves everything that waits.
async fn approve(queue: &Queue) -> i64 {
    let mut review = queue.store.begin_review(APP, NOW_MS).await.unwrap();
    let approval = review.approve(&queue.lock, DIGEST, "terms").await.unwrap();
    review.end_without_batch().await.unwrap();
    approval
}

#[tokio::test]
async fn a_bound_run_finds_the_approved_jobs_and_no_others() {
    let mut queue = Queue::idle().await;
    queue.import("old enable").await;
    queue.run = queue.begin_run().await;
    queue.fail(&queue.claim(1).await, -7).await;
    queue.import("a enable, b delete, c enable").await;
    let approval = approve(&queue).await;
    // Newer than the approval, and older but back again.
    queue.import("d enable, c disable").await;
    queue.store.retry_failed(&[-7], None).await.unwrap();
    let run = queue.begin_run().await;
    queue.store.bind_run(run, approval).await.unwrap();
    queue.run = run;
    assert_eq!(questions(&queue.claim(9).await), "a");
    assert_eq!(queue.store.next_due_ms(run, true).await.unwrap(), Some(0));
    assert_eq!(queue.store.next_due_ms(run, false).await.unwrap(), None);
    let deletes = queue.claim(9).await;
    assert_eq!((questions(&deletes).as_str(), deletes.status()), ("b", Status::Delete));
    assert_eq!(queue.try_claim(9).await, None);
    let mut review = queue.store.begin_review(APP, NOW_MS).await.unwrap();
    let survey = review.survey(0).await.unwrap();
    assert_eq!((survey.in_flight, survey.open.total()), (2, 5));
    review.end_without_batch().await.unwrap();
    assert_eq!(queue.store.next_due_ms(run, true).await.unwrap(), None);
    assert_eq!(queue.store.open_of(APP, Some(approval)).await.unwrap(), 2);
    queue.fail(&deletes, -7).await;
    let found = queue.store.find_approval(APP, DIGEST).await.unwrap().unwrap();
    assert_eq!((found.id, found.left, found.failed), (approval, 1, 1));
    assert_eq!(queue.store.failed_of(approval).await.unwrap(), 1);
    queue.check().await;
}

#[tokio::test]
async fn an_approval_comes_and_goes_with_its_import() {
    let queue = Queue::idle().await;
    queue.import("a enable").await;
    let (mut import, totals) = queue.begin_import(7, "b delete").await;
    import.preview(&totals.digest, deskbatch::store::SameManifest::Continues).await.unwrap();
    let survey = import.survey(9).await.unwrap();
    assert_eq!((survey.open.counts, survey.waiting.counts), ([1, 0, 1], [1, 0, 0]));
    assert_eq!(survey.deletes, ["b"]);
    import.approve(&queue.lock, DIGEST, "terms").await.unwrap();
    drop(import);
    assert_eq!(queue.store.find_approval(APP, DIGEST).await.unwrap(), None);

    // The same manifest once more leaves no batch, and its approval stays.
    let batch = queue.figure("SELECT max(id) FROM batches").await;
    let number = batch - 1;
    let (mut import, totals) = queue.begin_import(number, "a enable").await;
    import.preview(&totals.digest, deskbatch::store::SameManifest::Continues).await.unwrap();
    assert_eq!(import.open_of_known().await.unwrap(), 1);
    import.approve(&queue.lock, DIGEST, "terms").await.unwrap();
    import.commit(&totals).await.unwrap();
    let found = queue.store.find_approval(APP, DIGEST).await.unwrap().unwrap();
    assert_eq!((found.terms.as_str(), found.left, found.failed), ("terms", 1, 0));
    assert_eq!(queue.figure("SELECT max(id) FROM batches").await, batch);
    queue.check().await;
}

#[tokio::test]
async fn a_look_at_the_queue_changes_nothing() {
    let queue = Queue::idle().await;
    queue.import("a enable, b disable").await;
    let before = queue.states().await;
    let mut review = queue.store.begin_review(APP, NOW_MS).await.unwrap();
    let first = review.survey(9).await.unwrap();
    review.end_without_batch().await.unwrap();
    let mut review = queue.store.begin_review(APP, NOW_MS).await.unwrap();
    assert_eq!(review.survey(9).await.unwrap(), first);
    assert_eq!(first.open, first.waiting);
    review.end_without_batch().await.unwrap();
    assert_eq!(queue.states().await, before);
    assert_eq!(queue.figure("SELECT count(*) FROM batches").await, 3);
    queue.check().await;
}

#[tokio::test]
async fn an_answer_that_an_approval_has_overtaken_changes_nothing() {
    let mut queue = Queue::idle().await;
    queue.import("a enable, b enable").await;
    queue.run = queue.begin_run().await;
    let claimed = queue.claim(1).await;
    approve(&queue).await;
    let late = queue.answer(&claimed, Verdict::Applied, Some(0));
    queue
        .store
        .settle_succeeded(&late, &deskbatch::store::Conclusions::default())
        .await
        .unwrap_err();
    assert_eq!(queue.states().await, "a:in_flight b:pending");
    queue.check_figures().await;

    // The run that has the lock now asks again, whatever comes of the old request.
    let taken = queue.store.begin_run(&queue.lock, APP, NOW_MS).await.unwrap();
    assert!(is_fenced(
        &queue.store.settle_succeeded(&late, &deskbatch::store::Conclusions::default()).await
    ));
    assert_eq!((taken.orphans, queue.states().await.as_str()), (1, "a:pending b:pending"));
    queue.check_figures().await;
}
