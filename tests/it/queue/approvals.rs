//! Approvals in the queue: the jobs that they cover, what a run bound to one may claim, and that they
//! live as long as their import.

use deskbatch::domain::job::TargetStatus;
use deskbatch::queue::{Covers, SameManifest};

use crate::support::approvals::approve_deletes;
use crate::support::auto_commit::AutoCommit as _;
use crate::support::engine::{Engine, on_each_engine};
use crate::support::manifest::questions;
use crate::support::queue::{APP, NOW_MS, TestQueue};

const DIGEST: &str = "00000000000000000000000000000000000000000000000000000000000000d1";

/// Approves all pending jobs.
async fn approve(queue: &TestQueue) -> i64 {
    let mut review = queue.begin_review(APP, NOW_MS).await.unwrap();
    let approval = review.approve(&queue.lease(), Covers::Plan, DIGEST, "terms").await.unwrap();
    review.end_without_batch().await.unwrap();
    approval
}

async fn run_with_approval_claims_only_approved_jobs(engine: Engine) {
    let mut queue = TestQueue::idle_on(engine).await;
    queue.import("old enable").await;
    queue.run = queue.start_run().await;
    queue.fail(&queue.claim(1).await, -7).await;
    queue.import("a enable, b delete, c enable").await;
    let approval = approve(&queue).await;
    // One job is newer than the approval, the other is older and pending again after a retry.
    queue.import("d enable, c disable").await;
    queue.retry_failed(&[-7], None).await.unwrap();
    let lease = queue.reacquire(APP, NOW_MS).await;
    queue.run = queue.begin_run(&lease, NOW_MS).await.unwrap();
    queue.bind_run(queue.run, approval).await.unwrap();
    let run = queue.run;
    assert_eq!(questions(&queue.claim(9).await), "a");
    assert_eq!(queue.next_due_ms(run).await.unwrap(), Some(0));
    let deletes = queue.claim(9).await;
    assert_eq!((questions(&deletes).as_str(), deletes.status), ("b", TargetStatus::Delete));
    assert_eq!(queue.try_claim(9).await, None);
    let mut review = queue.begin_review(APP, NOW_MS).await.unwrap();
    let survey = review.survey(0).await.unwrap();
    assert_eq!((survey.in_doubt, survey.open.total()), (2, 5));
    review.end_without_batch().await.unwrap();
    assert_eq!(queue.next_due_ms(run).await.unwrap(), None);
    let open = queue.open_jobs(APP, Some(approval)).await.unwrap();
    assert_eq!((open.to_send, open.unapproved), (2, 3));
    queue.fail(&deletes, -7).await;
    let found = queue.find_approval(APP, DIGEST).await.unwrap().unwrap();
    assert_eq!((found.id, found.open, found.failed), (approval, 1, 1));
    assert_eq!(queue.failed_of_approval(approval).await.unwrap(), 1);
    queue.check_invariants().await;
}

async fn approval_of_deletes_does_not_restrict_other_jobs(engine: Engine) {
    let mut queue = TestQueue::idle_on(engine).await;
    queue.import("a enable, b delete, c delete").await;
    let approval = approve_deletes(&queue, &queue.lease(), NOW_MS).await;
    queue.import("d disable, e delete, c delete").await;
    let lease = queue.reacquire(APP, NOW_MS).await;
    queue.run = queue.begin_run(&lease, NOW_MS).await.unwrap();
    // Without an approval no delete is claimed.
    assert_eq!(questions(&queue.claim(9).await), "a");
    assert_eq!(questions(&queue.claim(9).await), "d");
    assert_eq!(queue.try_claim(9).await, None);
    let none = queue.open_jobs(APP, None).await.unwrap();
    assert_eq!((none.to_send, none.unapproved), (2, 3));
    queue.bind_run(queue.run, approval).await.unwrap();
    let open = queue.open_jobs(APP, Some(approval)).await.unwrap();
    assert_eq!((open.to_send, open.unapproved), (3, 2));
    assert_eq!(queue.next_due_ms(queue.run).await.unwrap(), Some(0));
    let claimed = queue.claim(9).await;
    assert_eq!(questions(&claimed), "b");
    queue.fail(&claimed, -7).await;
    // An approval does not cover a retry.
    queue.retry_failed(&[-7], None).await.unwrap();
    assert_eq!(queue.try_claim(9).await, None);
    assert_eq!(queue.next_due_ms(queue.run).await.unwrap(), None);
    assert_eq!(queue.uncovered_by_approval(approval).await.unwrap(), 1);
    assert_eq!(queue.find_approval(APP, &"0".repeat(64)).await.unwrap(), None);
    queue.check_invariants().await;
}

async fn cancelled_or_superseded_in_flight_is_unapproved(engine: Engine) {
    let mut queue = TestQueue::idle_on(engine).await;
    let batch = queue.import("a delete, b delete").await;
    queue.import("c delete, d delete").await;
    queue.run = queue.start_run().await;
    queue.claim(9).await;
    queue.cancel_batch(batch, NOW_MS).await.unwrap();
    queue.import_as(77, "c disable", SameManifest::Again).await;
    let mut review = queue.begin_review(APP, NOW_MS).await.unwrap();
    assert_eq!(review.open_by_status().await.unwrap(), [0, 1, 4]);
    let survey = review.survey(9).await.unwrap();
    assert_eq!((survey.open.counts, survey.deletes), ([0, 1, 1], vec!["d".to_owned()]));
    review.end_without_batch().await.unwrap();
    // The next run sends the jobs that the survey lists.
    queue.run = queue.start_run().await;
    assert_eq!(questions(&queue.claim(9).await), "d");
    // The delete of c can still be applied, so the disable of c waits.
    assert_eq!(queue.try_claim(9).await, None);
    let later = queue.claim_free(queue.run, |_, _| 9, NOW_MS + 60_000).await.unwrap();
    assert_eq!(questions(&later.unwrap()), "c");
    assert_eq!(queue.try_claim(9).await, None);
}

async fn approval_commits_atomically_with_its_import(engine: Engine) {
    let queue = TestQueue::idle_on(engine).await;
    queue.import("a enable").await;
    let (mut import, totals) = queue.begin_manifest(7, "b delete").await;
    import.preview(&totals.digest, deskbatch::queue::SameManifest::Continues).await.unwrap();
    let survey = import.survey(9).await.unwrap();
    assert_eq!((survey.open.counts, survey.pending.counts), ([1, 0, 1], [1, 0, 0]));
    assert_eq!(survey.deletes, ["b"]);
    import.approve(&queue.lease(), Covers::Plan, DIGEST, "terms").await.unwrap();
    drop(import);
    assert_eq!(queue.find_approval(APP, DIGEST).await.unwrap(), None);

    // The same manifest makes no second batch, and its approval remains.
    let batch = queue.figure("SELECT max(id) FROM batches").await;
    let number = batch - 1;
    let (mut import, totals) = queue.begin_manifest(number, "a enable").await;
    import.preview(&totals.digest, deskbatch::queue::SameManifest::Continues).await.unwrap();
    assert_eq!(import.open_jobs_of_known().await.unwrap(), 1);
    import.approve(&queue.lease(), Covers::Plan, DIGEST, "terms").await.unwrap();
    import.commit(&totals).await.unwrap();
    let found = queue.find_approval(APP, DIGEST).await.unwrap().unwrap();
    assert_eq!((found.terms.as_str(), found.open, found.failed), ("terms", 1, 0));
    assert_eq!(queue.figure("SELECT max(id) FROM batches").await, batch);
    queue.check_invariants().await;
}

async fn review_of_queue_changes_nothing(engine: Engine) {
    let queue = TestQueue::idle_on(engine).await;
    queue.import("a enable, b disable").await;
    let before = queue.states().await;
    let mut review = queue.begin_review(APP, NOW_MS).await.unwrap();
    let first = review.survey(9).await.unwrap();
    review.end_without_batch().await.unwrap();
    let mut review = queue.begin_review(APP, NOW_MS).await.unwrap();
    assert_eq!(review.survey(9).await.unwrap(), first);
    assert_eq!(first.open, first.pending);
    review.end_without_batch().await.unwrap();
    assert_eq!(queue.states().await, before);
    assert_eq!(queue.figure("SELECT count(*) FROM batches").await, 3);
    queue.check_invariants().await;
}

async fn response_after_an_approval_moves_its_counters(engine: Engine) {
    let mut queue = TestQueue::idle_on(engine).await;
    queue.import("a enable, b enable").await;
    queue.run = queue.start_run().await;
    let claimed = queue.claim(1).await;
    approve(&queue).await;
    queue.succeed(&claimed).await;
    assert_eq!(queue.states().await, "a:succeeded b:pending");
    queue.check_counters().await;
}

on_each_engine! {
    run_with_approval_claims_only_approved_jobs,
    approval_of_deletes_does_not_restrict_other_jobs,
    cancelled_or_superseded_in_flight_is_unapproved,
    approval_commits_atomically_with_its_import,
    review_of_queue_changes_nothing,
    response_after_an_approval_moves_its_counters,
}
