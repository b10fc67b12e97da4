//! Settling: one recorded outcome per job, and no late writes.

use deskbatch::domain::job::TargetStatus;
use deskbatch::domain::verdict::Verdict;
use deskbatch::queue::{Concluded, Conclusion, Conclusions, RequeueOptions, SettleCounts};

use crate::support::auto_commit::{AutoCommit as _, inferred};
use crate::support::engine::{Engine, on_each_engine};
use crate::support::manifest::is_fenced;
use crate::support::queue::{NOW_MS, TestQueue};

fn none() -> Conclusions {
    Conclusions::default()
}

async fn applied_request_settles_only_its_own_jobs(engine: Engine) {
    let queue = TestQueue::begun_on(engine).await;
    queue.import("a enable, b enable, c enable").await;
    let (first, second) = (queue.claim(2).await, queue.claim(1).await);
    let settled = queue.response(&first, Verdict::Applied, Some(0));
    let done = queue.settle_succeeded(&settled, &none()).await.unwrap();
    assert_eq!(done, SettleCounts { jobs: 2, concluded: Concluded::default() });
    assert_eq!(queue.states().await, "a:succeeded b:succeeded c:in_flight");
    assert_eq!(
        queue.job("a").await,
        format!("succeeded request={} attempts=1 finished=50", first.request.id)
    );
    assert_eq!(queue.job("c").await, format!("in_flight request={}", second.request.id));
}

async fn rejection_is_stored_with_code_text_and_request(engine: Engine) {
    let queue = TestQueue::begun_on(engine).await;
    queue.import("a delete, b enable").await;
    let claimed = queue.claim(1).await;
    let settled = queue.response(&claimed, Verdict::Rejected, Some(-50_003));
    let done = queue.settle_failed(&settled, false, &none()).await.unwrap();
    assert_eq!(done, SettleCounts { jobs: 1, concluded: Concluded::default() });
    let job = queue.job("a").await;
    let expected = "failed request=3 attempts=1 code=-50003 info=it said finished=50";
    assert_eq!(job, expected);
    let row = &queue
        .ask("SELECT verdict || ' ' || code || ' ' || http_status || ' ' || latency_ms || ' ' || info FROM requests WHERE id = 3")
        .await[0];
    assert_eq!(sqlx::Row::get::<String, _>(row, 0), "rejected -50003 200 50 it said");
    assert_eq!(queue.states().await, "a:failed b:pending");
}

async fn requeue_counts_attempt_only_if_flagged(engine: Engine) {
    let queue = TestQueue::begun_on(engine).await;
    queue.import("a enable").await;
    for (counts, attempts) in
        [(false, ""), (true, " attempts=1"), (false, " attempts=1"), (true, " attempts=2")]
    {
        let claimed = queue.claim(9).await;
        let how = RequeueOptions { counts_as_attempt: counts, ..RequeueOptions::default() };
        let settled = queue.response(&claimed, Verdict::Throttled, Some(-14));
        queue.requeue(&settled, how, &Conclusions::default()).await.unwrap();
        assert_eq!(
            queue.job("a").await,
            format!("pending request={}{attempts}", claimed.request.id)
        );
    }
    queue.check_invariants().await;
}

async fn in_doubt_flag_persists_until_settled(engine: Engine) {
    let queue = TestQueue::begun_on(engine).await;
    queue.import("a enable, b enable").await;
    let claimed = queue.claim(9).await;
    assert!(claimed.jobs.iter().all(|job| !job.in_doubt));
    let how = RequeueOptions {
        not_before_ms: NOW_MS,
        counts_as_attempt: true,
        in_doubt: true,
        ..RequeueOptions::default()
    };
    let lost = queue.response(&claimed, Verdict::Transient, None);
    queue.requeue(&lost, how, &Conclusions::default()).await.unwrap();
    assert_eq!(queue.job("a").await, "pending due=0 request=3 attempts=1 lost in_doubt");
    let claimed = queue.claim(9).await;
    assert!(claimed.jobs.iter().all(|job| job.in_doubt));
    let how = RequeueOptions { in_doubt: false, not_before_ms: 0, ..how };
    let refused = queue.response(&claimed, Verdict::Rejected, Some(-50_003));
    queue.requeue(&refused, how, &Conclusions::default()).await.unwrap();
    queue.succeed(&queue.claim(1).await).await;
    assert_eq!(queue.job("a").await, "succeeded request=5 attempts=3 lost finished=50");
    queue.fail(&queue.claim(1).await, -7).await;
    assert_eq!(
        queue.job("b").await,
        "failed request=6 attempts=3 lost in_doubt code=-7 info=it said finished=50"
    );
    queue.check_invariants().await;
}

async fn failure_of_possibly_applied_job_is_in_doubt(engine: Engine) {
    let queue = TestQueue::begun_on(engine).await;
    queue.import("a enable, b enable").await;
    let claimed = queue.claim(1).await;
    let settled = queue.response(&claimed, Verdict::Transient, None);
    queue.settle_failed(&settled, true, &none()).await.unwrap();
    assert_eq!(
        queue.job("a").await,
        "failed request=3 attempts=1 lost in_doubt info=it said finished=50"
    );
    assert_eq!(queue.states().await, "a:failed b:pending");
}

async fn delete_found_applied_succeeds_and_keeps_code(engine: Engine) {
    let queue = TestQueue::begun_on(engine).await;
    queue.import("a delete, b delete").await;
    let claimed = queue.claim(1).await;
    let settled = queue.response(&claimed, Verdict::Rejected, Some(-50_003));
    queue.settle_succeeded(&settled, &none()).await.unwrap();
    assert_eq!(
        queue.job("a").await,
        "succeeded request=3 attempts=1 code=-50003 info=it said finished=50"
    );
    assert_eq!(queue.status().await.unwrap().succeeded_in_doubt, 1);
    assert_eq!(queue.states().await, "a:succeeded b:pending");
}

async fn second_settle_fails_and_changes_nothing(engine: Engine) {
    let queue = TestQueue::begun_on(engine).await;
    queue.import("a enable, b enable").await;
    let claimed = queue.claim(9).await;
    queue.hold(&claimed).await;
    let again = queue
        .claim_reserved(queue.run, TargetStatus::Enable, &claimed.ids(), NOW_MS)
        .await
        .unwrap()
        .unwrap();
    let before = (queue.job("a").await, queue.job("b").await);
    let late = queue.response(&claimed, Verdict::Applied, Some(0));
    let how = RequeueOptions {
        not_before_ms: 9,
        counts_as_attempt: true,
        in_doubt: true,
        ..RequeueOptions::default()
    };
    assert!(is_fenced(&queue.settle_succeeded(&late, &none()).await));
    assert!(is_fenced(&queue.settle_failed(&late, true, &none()).await));
    assert!(is_fenced(&queue.requeue(&late, how, &Conclusions::default()).await));
    assert_eq!((queue.job("a").await, queue.job("b").await), before);
    queue.succeed(&again).await;
    assert_eq!(queue.states().await, "a:succeeded b:succeeded");
}

async fn settle_after_takeover_is_fenced(engine: Engine) {
    let queue = TestQueue::idle_on(engine).await;
    queue.import("a enable, b enable").await;
    let mut queue = queue;
    queue.run = queue.start_run().await;
    let claimed = queue.claim(9).await;
    let late = queue.response(&claimed, Verdict::Applied, Some(0));
    queue.run = queue.start_run().await;
    let conclusions =
        Conclusions { released: claimed.ids(), jobs: vec![inferred(claimed.ids()[0], 1)] };
    assert!(is_fenced(&queue.settle_succeeded(&late, &conclusions).await));
    assert_eq!(queue.states().await, "a:pending b:pending");
    assert_eq!(queue.job("a").await, "pending request=2 attempts=1 lost in_doubt");
}

async fn conclusion_fails_reserved_job_with_rejection_code(engine: Engine) {
    let queue = TestQueue::begun_on(engine).await;
    queue.import("a enable, b enable, c enable").await;
    let together = queue.claim(9).await;
    queue.hold(&together).await;
    let ids = together.ids();
    let part = queue
        .claim_reserved(queue.run, TargetStatus::Enable, &ids[..1], NOW_MS)
        .await
        .unwrap()
        .unwrap();
    let settled = queue.response(&part, Verdict::Applied, Some(0));
    let jobs = vec![inferred(ids[1], together.request.id)];
    let conclusions = Conclusions { released: vec![ids[2]], jobs };
    let done = queue.settle_succeeded(&settled, &conclusions).await.unwrap();
    let concluded = Concluded { failed: 1, succeeded: 0 };
    assert_eq!(done, SettleCounts { jobs: 1, concluded });
    assert_eq!(
        queue.job("b").await,
        "failed request=3 attempts=1 code=-50003 info=it said finished=50"
    );
    assert_eq!(queue.job("c").await, "pending request=3 attempts=1");
    assert_eq!(queue.states().await, "a:succeeded b:failed c:pending");
}

async fn conclusion_skips_in_doubt_and_superseded_jobs(engine: Engine) {
    let queue = TestQueue::begun_on(engine).await;
    queue.import("a delete, b delete, c delete").await;
    let together = queue.claim(9).await;
    queue.hold(&together).await;
    let ids = together.ids();
    let doubt = "INSERT INTO doubts SELECT question_id, app_id, target_status, 1, 1, 0 FROM jobs WHERE id =";
    queue.sql(&format!("{doubt} {}", ids[1])).await;
    queue.import("c enable").await;
    for (asked, bad) in [(0, 1), (1, 2)] {
        let part = queue
            .claim_reserved(queue.run, TargetStatus::Delete, &[ids[asked]], NOW_MS)
            .await
            .unwrap();
        let part = match part {
            Some(part) => part,
            None => queue.claim(1).await,
        };
        let settled = queue.response(&part, Verdict::Applied, Some(0));
        let jobs = vec![inferred(ids[bad], together.request.id)];
        let conclusions = Conclusions { jobs, ..none() };
        let done = queue.settle_succeeded(&settled, &conclusions).await.unwrap();
        assert_eq!(done.concluded, Concluded::default());
    }
    assert_eq!(queue.states().await, "a:succeeded b:succeeded c:superseded c:pending");
}

async fn job_rejected_alone_keeps_code_and_doubt(engine: Engine) {
    let queue = TestQueue::begun_on(engine).await;
    queue.import("a delete, b delete, c delete").await;
    let alone = queue.claim(1).await;
    let ids = alone.ids();
    let doubt = "INSERT INTO doubts SELECT question_id, app_id, target_status, 1, 1, 0 FROM jobs WHERE id =";
    queue.sql(&format!("{doubt} {}", ids[0])).await;
    let settled = queue.response(&alone, Verdict::Rejected, Some(-50_003));
    let how = RequeueOptions {
        reserved_by: Some(queue.run),
        counts_as_attempt: true,
        ..RequeueOptions::default()
    };
    queue.requeue(&settled, how, &none()).await.unwrap();
    let gone = Conclusion {
        job: ids[0],
        request: alone.request.id,
        is_done: true,
        was_alone: true,
        in_doubt: false,
        rejections: 9,
    };
    let mut turn = queue.begin_transaction();
    let jobs = vec![gone, Conclusion { job: ids[0] + 1, ..gone }];
    let conclusions = Conclusions { jobs, ..none() };
    let done = turn.conclude(queue.run, &conclusions, NOW_MS).await.unwrap();
    turn.commit().await.unwrap();
    // The run does not reserve the second job.
    assert_eq!(done, Concluded { succeeded: 1, failed: 0 });
    assert_eq!(queue.states().await, "a:succeeded b:pending c:pending");
    let job = queue.job("a").await;
    assert!(job.contains("code=-50003") && !job.contains("in_doubt"), "{job}");
    queue.check_invariants().await;
}

on_each_engine! {
    applied_request_settles_only_its_own_jobs,
    rejection_is_stored_with_code_text_and_request,
    requeue_counts_attempt_only_if_flagged,
    in_doubt_flag_persists_until_settled,
    failure_of_possibly_applied_job_is_in_doubt,
    delete_found_applied_succeeds_and_keeps_code,
    second_settle_fails_and_changes_nothing,
    settle_after_takeover_is_fenced,
    conclusion_fails_reserved_job_with_rejection_code,
    conclusion_skips_in_doubt_and_superseded_jobs,
    job_rejected_alone_keeps_code_and_doubt,
}
