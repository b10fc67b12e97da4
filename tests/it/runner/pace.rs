//! Rate: requests leave evenly, a push-back closes the breaker for all of them, and jobs imported
//! during a run are sent.

use std::time::Duration;

use deskbatch::domain::clock::{Clock as _, Moment};
use deskbatch::domain::job::TargetStatus;
use deskbatch::queue::{RunEnding, WaitReason};
use deskbatch::runner::{Event, Totals};

use crate::support::auto_commit::AutoCommit as _;
use crate::support::manifest::many;
use crate::support::queue::{APP, NOW_MS};
use crate::support::service::{Bench, Step, code, ok};

#[tokio::test]
async fn every_job_is_sent_once_with_its_target_status() {
    let bench = Bench::new("a enable, b delete, c enable, d disable").await;
    bench.service.responds_with([ok(), ok(), ok()]);
    let report = bench.run().await;
    assert_eq!(report.ending, RunEnding::Drained);
    let totals = Totals { requests: 3, succeeded: 4, ..Totals::default() };
    assert_eq!((report.totals, report.recovery.orphans, report.last_error), (totals, 0, None));
    let seen: Vec<_> =
        bench.service.seen().into_iter().map(|seen| (seen.status, seen.ids.join(" "))).collect();
    assert_eq!(
        seen,
        [
            (TargetStatus::Enable, "a c".to_owned()),
            (TargetStatus::Delete, "b".to_owned()),
            (TargetStatus::Disable, "d".to_owned())
        ]
    );
    assert_eq!(bench.queue.job("a").await, "succeeded request=2 attempts=1 finished=0");
    assert_eq!(bench.queue.states().await, "a:succeeded b:succeeded c:succeeded d:succeeded");
}

#[tokio::test]
async fn run_without_pending_jobs_ends_at_first_slot() {
    let bench = Bench::new("a enable").await;
    bench.service.responds_with([ok()]);
    bench.run().await;
    let report = bench.run().await;
    assert_eq!((report.ending, report.totals), (RunEnding::Drained, Totals::default()));
    // A second after the only request. The queue stores whole milliseconds.
    let late = bench.clock.now().since(Moment(Duration::from_secs(1)));
    assert!(late < Duration::from_millis(1), "{late:?}");
}

#[tokio::test]
async fn requests_are_evenly_spaced_within_rate_limit() {
    let mut bench = Bench::new(&many(400, TargetStatus::Enable)).await;
    (bench.settings.chunk_jobs_max, bench.settings.in_flight_max) = (10, 4);
    bench.service.responds_by(|_| ok());
    let report = bench.run().await;
    assert_eq!(report.totals, Totals { requests: 40, succeeded: 400, ..Totals::default() });
    let seen = bench.service.seen();
    let gaps: Vec<Duration> = seen.windows(2).map(|two| two[1].at.since(two[0].at)).collect();
    let even = Duration::from_millis(200)..Duration::from_millis(260);
    assert!(gaps.iter().all(|gap| even.contains(gap)), "{gaps:?}");
    let (first, last) = (gaps[0], gaps[gaps.len() - 1]);
    assert!(last < Duration::from_millis(205) && first > last, "{gaps:?}");
    // The run detects the empty queue at the next slot.
    let last = seen.last().map(|seen| report.took.saturating_sub(seen.at.0));
    assert!(last.is_some_and(|last| even.contains(&last)), "{last:?}");
}

#[tokio::test]
async fn slow_responses_do_not_slow_pacer() {
    let mut bench = Bench::new(&many(400, TargetStatus::Enable)).await;
    (bench.settings.chunk_jobs_max, bench.settings.in_flight_max) = (10, 8);
    bench.service.responds_with([ok()]);
    bench.service.responds_by(|_| Step::Hold(ok()));
    let service = &bench.service;
    let report = bench
        .run_while(async {
            // Each response takes until four more requests have left.
            for arrived in 6..=40 {
                service.arrived(arrived).await;
                service.let_go(1);
            }
            service.let_go(4);
        })
        .await;
    assert_eq!(report.totals.succeeded, 400);
    assert!(report.took < Duration::from_millis(40 * 260), "{:?}", report.took);
    assert_eq!(service.in_flight_most(), 5);
}

#[tokio::test]
async fn slow_responses_respect_in_flight_maximum() {
    let mut bench = Bench::new(&many(200, TargetStatus::Enable)).await;
    (bench.settings.chunk_jobs_max, bench.settings.in_flight_max) = (10, 3);
    bench.service.responds_with([ok()]);
    bench.service.responds_by(|_| Step::Hold(ok()));
    let service = &bench.service;
    let report = bench
        .run_while(async {
            for arrived in 4..=20 {
                service.arrived(arrived).await;
                bench.clock.advance(Duration::from_secs(5));
                assert_eq!(service.seen().len(), arrived);
                service.let_go(1);
            }
            service.let_go(2);
        })
        .await;
    assert_eq!((report.totals.succeeded, service.in_flight_most()), (200, 3));
}

#[tokio::test]
async fn push_back_closes_breaker_until_probe_succeeds() {
    let mut bench = Bench::new(&many(200, TargetStatus::Enable)).await;
    (bench.settings.chunk_jobs_max, bench.settings.in_flight_max) = (10, 4);
    bench.service.responds_with([
        Step::Say(ok()),
        Step::Hold(code(-14)),
        Step::Hold(ok()),
        Step::Hold(ok()),
    ]);
    bench.service.responds_by(|_| Step::Hold(ok()));
    let service = &bench.service;
    let report = bench
        .run_while(async {
            service.arrived(4).await;
            let closed_at = bench.clock.now();
            service.let_go(3);
            // The probe is the throttled chunk, and no other request leaves until its response.
            service.arrived(5).await;
            let seen = service.seen();
            assert!(seen[4].at.since(closed_at) >= Duration::from_secs(1));
            assert_eq!(seen[4].ids, seen[1].ids);
            bench.clock.advance(Duration::from_mins(1));
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
            assert_eq!(service.seen().len(), 5);
            service.let_go(100);
        })
        .await;
    assert_eq!(
        report.totals,
        Totals { requests: 21, throttled: 1, succeeded: 200, ..Totals::default() }
    );
    let frequency =
        |event: &Event| matches!(event, Event::Waiting { reason: WaitReason::Throttled, .. });
    assert_eq!(
        (bench.happened(frequency), bench.happened(|event| *event == Event::Resumed)),
        (1, 2)
    );
    let attempts = bench.queue.figure("SELECT max(attempts) FROM jobs WHERE batch_id = 3").await;
    assert_eq!(attempts, 1, "a refusal for frequency is no attempt");
}

#[tokio::test]
async fn repeated_push_backs_fail_no_job() {
    let bench = Bench::new("a enable, b delete").await;
    bench.service.responds_with(vec![code(-14); 60]);
    bench.service.responds_with([ok(), ok()]);
    let report = bench.run().await;
    assert_eq!(
        report.totals,
        Totals { requests: 62, throttled: 60, succeeded: 2, ..Totals::default() }
    );
    assert!(bench.queue.job("a").await.contains("attempts=1 "));
    let gaps: Vec<u64> =
        bench.service.seen().windows(2).map(|two| two[1].at.since(two[0].at).as_secs()).collect();
    assert!(gaps[..60].iter().all(|gap| (1..=38).contains(gap)), "{gaps:?}");
    assert!(gaps[10] >= 30, "{gaps:?}");
}

#[tokio::test]
async fn http_429_is_a_push_back() {
    let bench = Bench::new("a enable").await;
    bench.service.responds_with([crate::support::service::http(429), ok()]);
    let report = bench.run().await;
    assert_eq!((report.totals.throttled, report.totals.succeeded), (1, 1));
    assert!(!bench.queue.job("a").await.contains("lost"));
}

#[tokio::test]
async fn import_during_run_is_drained_except_deletes() {
    let bench = Bench::new("a enable").await;
    bench.service.responds_with([Step::Hold(ok())]);
    bench.service.responds_with([ok(), ok()]);
    let report = bench
        .run_while(async {
            bench.service.arrived(1).await;
            bench.queue.import("b enable, c disable, d delete").await;
            bench.service.let_go(1);
        })
        .await;
    assert_eq!((report.ending, report.totals.succeeded), (RunEnding::Drained, 3));
    // No plan of this run has shown the delete, so it is not approved.
    assert_eq!(bench.queue.states().await, "a:succeeded b:succeeded c:succeeded d:pending");
}

#[tokio::test]
async fn superseding_job_is_sent_after_request_in_flight() {
    for first in [ok(), code(-14), code(60_008), code(-50_003)] {
        let bench = Bench::new("a enable").await;
        // A rejection fails no job that is no longer the latest one for its question.
        let settled = first.kind == ok().kind;
        bench.service.responds_with([Step::Hold(first), Step::Say(ok())]);
        let report = bench
            .run_while(async {
                bench.service.arrived(1).await;
                bench.queue.import("a disable").await;
                bench.service.let_go(1);
            })
            .await;
        assert_eq!((report.ending, report.totals.requests), (RunEnding::Drained, 2));
        let statuses: Vec<TargetStatus> =
            bench.service.seen().iter().map(|seen| seen.status).collect();
        assert_eq!(statuses, [TargetStatus::Enable, TargetStatus::Disable]);
        let states = bench.queue.states().await;
        assert!(states.ends_with(" a:succeeded"), "{states}");
        assert_eq!(states.starts_with("a:superseded"), !settled, "{states}");
        assert_eq!(report.totals.withdrawn, u64::from(!settled));
    }
}

#[tokio::test]
async fn orphaned_requests_are_resent_after_one_second() {
    let bench = Bench::new("a delete, b delete").await;
    let dead = bench.queue.start_run().await;
    bench.queue.claim_free(dead, |_, _| 1, NOW_MS).await.unwrap().unwrap();
    bench.clock.advance(Duration::from_millis(300));
    bench.service.responds_with([ok()]);
    let report = bench.run().await;
    assert_eq!((report.recovery.orphans, report.totals.succeeded), (1, 2));
    let seen = bench.service.seen();
    assert_eq!(
        (seen[0].at, seen[0].ids.join(" ").as_str()),
        (Moment(Duration::from_millis(1_300)), "a b")
    );
    assert!(bench.queue.job("a").await.contains("attempts=2 lost"));
    assert!(bench.queue.job("b").await.contains("attempts=1 "));
}

/// A claim may have waited for the write lock, so its request left later than its slot.
#[tokio::test]
async fn new_run_waits_one_second_after_last_send() {
    let bench = Bench::new("a delete, b delete").await;
    let earlier = bench.queue.start_run().await;
    let claimed = bench.queue.claim_free(earlier, |_, _| 1, NOW_MS).await.unwrap().unwrap();
    let mut response =
        bench.queue.response(&claimed, deskbatch::domain::verdict::Verdict::Applied, Some(0));
    (response.run, response.responded_ms, response.latency_ms) = (earlier, NOW_MS + 2_900, 300);
    bench
        .queue
        .settle_succeeded(&response, &deskbatch::queue::Conclusions::default())
        .await
        .unwrap();
    bench.queue.end_run(earlier, RunEnding::Signal, NOW_MS + 2_900).await.unwrap();
    bench.clock.advance(Duration::from_secs(3));
    bench.service.responds_with([ok()]);
    assert_eq!(bench.run().await.totals.succeeded, 1);
    // The earlier request left 2.6 s after the beginning.
    assert_eq!(bench.service.seen()[0].at, Moment(Duration::from_millis(3_600)));
}

#[tokio::test]
async fn new_run_waits_one_second_after_clock_set_back() {
    let bench = Bench::new("a delete").await;
    let dead = bench.queue.start_run().await;
    bench.queue.claim_free(dead, |_, _| 1, NOW_MS + 3_600_000).await.unwrap().unwrap();
    bench.service.responds_with([ok()]);
    let report = bench.run().await;
    assert_eq!(report.ending, RunEnding::Drained);
    assert_eq!(bench.service.seen()[0].at, Moment(Duration::from_secs(1)));
    assert_eq!(bench.queue.counts_of_app(APP).await.unwrap().open(), 0);
}

#[tokio::test]
async fn run_waits_for_jobs_not_yet_due() {
    let bench = Bench::new("a enable, b enable").await;
    bench
        .queue
        .sql(&format!(
            "UPDATE jobs SET not_before_ms = {NOW_MS} + 30000 WHERE app_id = 1 AND question_id = 'b'"
        ))
        .await;
    bench.service.responds_with([ok(), ok()]);
    let report = bench.run().await;
    assert_eq!((report.ending, report.totals.succeeded), (RunEnding::Drained, 2));
    // The queue stores whole milliseconds.
    let late = bench.service.seen()[1].at.since(Moment(Duration::from_secs(30)));
    assert!(late < Duration::from_millis(1), "{late:?}");
    let not_due =
        |event: &Event| matches!(event, Event::Waiting { reason: WaitReason::NotDue, .. });
    assert_eq!((bench.happened(not_due), bench.happened(|event| *event == Event::Resumed)), (1, 2));
}
