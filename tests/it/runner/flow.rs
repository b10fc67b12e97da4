//! The effect of each response on a run, its jobs and its rate.

use std::collections::BTreeSet;
use std::time::Duration;

use deskbatch::desk::Response;
use deskbatch::domain::job::{JobState, TargetStatus};
use deskbatch::domain::verdict::{ResponseKind, Verdict};
use deskbatch::queue::RunEnding;
use deskbatch::runner::Event;

use crate::support::manifest::{listed, many, names};
use crate::support::queue::NOW_MS;
use crate::support::service::{Bench, Seen, Step, code, http, lost, ok, refuse_bad, unreachable};

const BAD: i64 = -50_003;
const TOO_FAST: i64 = -14;
const UNKNOWN: i64 = -99_999;

#[tokio::test]
async fn chunks_have_one_status_and_are_fifo() {
    let bench = Bench::with_four_in_flight("a enable, b enable").await;
    bench.queue.import("c delete").await;
    bench.service.responds_with([ok(), ok()]);
    let report = bench.run().await;
    assert_eq!((report.ending, report.totals.succeeded), (RunEnding::Drained, 3));
    let seen = bench.service.seen();
    assert_eq!((seen[0].status, seen[0].ids.join(",")), (TargetStatus::Enable, "a,b".to_owned()));
    assert_eq!((seen[1].status, seen[1].ids.join(",")), (TargetStatus::Delete, "c".to_owned()));
    assert_eq!(bench.queue.record("a").await.attempts, 1);
}

#[tokio::test]
async fn push_back_costs_no_attempt_and_probe_reopens() {
    let bench = Bench::with_four_in_flight(&many(40, TargetStatus::Enable)).await;
    bench.service.responds_with([ok(), code(TOO_FAST), code(TOO_FAST)]);
    bench.service.responds_by(|_| ok());
    let report = bench.run().await;
    assert_eq!((report.totals.throttled, report.totals.succeeded), (2, 40));
    let seen = bench.service.seen();
    assert_eq!(seen[1].ids, seen[2].ids, "the same chunk again");
    assert_eq!(seen[2].ids, seen[3].ids);
    assert!(seen[2].at.since(seen[1].at) >= Duration::from_secs(1));
    assert!(seen[3].at.since(seen[2].at) >= Duration::from_secs(2), "longer each time");
    assert!(bench.queue.own_records().await.iter().all(|record| record.attempts == 1));
    assert_eq!(bench.happened(|event| matches!(event, Event::Waiting { .. })), 2);
}

#[tokio::test]
async fn hours_of_push_backs_cost_no_attempt() {
    let bench = Bench::with_four_in_flight("a enable").await;
    bench.service.responds_with(vec![code(TOO_FAST); 500]);
    bench.service.responds_by(|_| ok());
    let report = bench.run().await;
    assert_eq!((report.totals.throttled, report.totals.succeeded), (500, 1));
    assert_eq!(bench.queue.record("a").await.attempts, 1);
}

#[tokio::test]
async fn transient_responses_resend_chunk_in_doubt() {
    let bench = Bench::with_four_in_flight("a disable, b disable").await;
    let unreadable = Response { kind: ResponseKind::Unreadable, ..ok() };
    bench.service.responds_with([http(502), lost(), unreadable, code(60_008)]);
    bench.service.responds_by(|_| ok());
    let report = bench.run().await;
    assert_eq!((report.totals.transient, report.totals.succeeded), (4, 2));
    // The chunk is sent twice as it is and then in halves, because no other job is left.
    let sizes: Vec<usize> = bench.service.chunks().iter().map(Vec::len).collect();
    assert_eq!(sizes, [2, 2, 1, 1, 1, 1]);
    let record = bench.queue.record("a").await;
    assert_eq!((record.attempts, record.response_lost), (4, true));
}

#[tokio::test]
async fn failed_connection_leaves_no_doubt() {
    let bench = Bench::with_four_in_flight("a disable").await;
    bench.service.responds_with([unreachable(), ok()]);
    bench.run().await;
    assert!(!bench.queue.record("a").await.response_lost);
}

#[tokio::test]
async fn lasting_outage_ends_run_with_all_pending() {
    let bench = Bench::with_four_in_flight(&many(50, TargetStatus::Enable)).await;
    bench.service.responds_by(|_| http(502));
    let report = bench.run().await;
    assert_eq!(report.ending, RunEnding::Outage);
    assert!(report.took >= Duration::from_mins(10) && report.took < Duration::from_mins(12));
    assert_eq!(bench.queue.state_counts().await, "pending 50");
    // The next run resumes at once.
    bench.service.responds_by(|_| ok());
    assert_eq!(bench.run().await.totals.succeeded, 50);
}

#[tokio::test]
async fn job_with_repeated_http_500_fails_alone() {
    let mut jobs = names("a", 2_000);
    jobs.insert(33, "poison".to_owned());
    let bench = Bench::with_four_in_flight(&listed(&jobs, TargetStatus::Enable)).await;
    let has_poison = |seen: &Seen| seen.ids.iter().any(|id| id == "poison");
    bench.service.responds_by(move |seen| if has_poison(seen) { http(500) } else { ok() });
    let report = bench.run().await;
    assert_eq!((report.totals.succeeded, report.totals.failed), (2_000, 1));
    let record = bench.queue.record("poison").await;
    assert_eq!((record.state, record.error_code), (JobState::Failed, None));
    assert!(record.error_info.unwrap().contains("while the app responded to other requests"));
    assert_eq!(bench.queue.count(JobState::Failed).await, 1);
}

#[tokio::test]
async fn bad_questions_fail_with_own_code_and_rest_succeeds() {
    let mut jobs = names("a", 95);
    jobs.insert(17, "bad1".to_owned());
    jobs.insert(18, "preset".to_owned());
    jobs.insert(90, "bad2".to_owned());
    let bench = Bench::with_four_in_flight(&listed(&jobs, TargetStatus::Delete)).await;
    // A service stops at the first bad question, so that one decides the code.
    let bad = [("bad1", BAD), ("preset", -50_011), ("bad2", BAD)];
    bench.service.refuses(&bad);
    let report = bench.run().await;
    assert_eq!((report.totals.succeeded, report.totals.failed), (95, 3));
    for (name, code) in bad {
        let record = bench.queue.record(name).await;
        assert_eq!((record.state, record.error_code), (JobState::Failed, Some(code)), "{name}");
        assert!(record.attempts > 0 && record.finished_ms.is_some());
    }
    let requests = bench.service.seen().len();
    assert!(requests < 40, "{requests}");
}

#[tokio::test]
async fn oversized_chunk_fails_no_job() {
    for too_large in [-7, 70_206, BAD] {
        let mut bench = Bench::with_four_in_flight(&many(300, TargetStatus::Enable)).await;
        bench.settings.chunk_jobs_max = 100;
        bench
            .service
            .responds_by(move |seen| code(if seen.ids.len() > 30 { too_large } else { 0 }));
        let report = bench.run().await;
        assert_eq!((report.totals.succeeded, report.totals.failed), (300, 0), "{too_large}");
        // A code that is about questions must come twice before the runner takes it as a size limit.
        let most = if too_large == BAD { 60 } else { 40 };
        let requests = bench.service.seen().len();
        assert!(requests < most, "{requests}");
    }
}

#[tokio::test]
async fn stop_code_ends_run_after_one_request() {
    for stop in [-20, -50_040, 70_009, 60_009, 141_000] {
        let bench = Bench::with_four_in_flight(&many(50, TargetStatus::Enable)).await;
        // No other request leaves before the first response, however late that is.
        bench.service.responds_with([Step::After(Duration::from_secs(2), code(stop))]);
        let report = bench.run().await;
        assert_eq!(report.ending, RunEnding::Rejected);
        assert_eq!(report.last_error.unwrap().0, ResponseKind::Code(stop));
        assert_eq!(bench.service.seen().len(), 1);
        assert_eq!(bench.queue.state_counts().await, "pending 50");
        let records = bench.queue.own_records().await;
        assert!(records.iter().all(|record| record.attempts == 0 && !record.response_lost));
    }
}

#[tokio::test]
async fn rejected_usersig_is_renewed_once_then_ends_run() {
    let expired = || code(70_001);
    let mut bench = Bench::with_four_in_flight("a enable").await;
    bench.service.responds_with([expired(), expired()]);
    assert_eq!(bench.run().await.ending, RunEnding::Rejected);
    assert_eq!(bench.queue.state_counts().await, "pending 1");
    bench.service.responds_with([expired(), ok()]);
    assert_eq!(bench.run().await.ending, RunEnding::Drained);

    bench.queue.import("b enable").await;
    bench.ready_made = true;
    bench.service.responds_with([expired()]);
    assert_eq!(bench.run().await.ending, RunEnding::Rejected, "a ready-made one cannot be renewed");
}

#[tokio::test]
async fn unknown_code_for_everything_leaves_all_pending() {
    let mut bench = Bench::with_four_in_flight(&many(200, TargetStatus::Enable)).await;
    bench.service.responds_by(|_| code(UNKNOWN));
    let report = bench.run().await;
    assert_eq!(report.ending, RunEnding::Suspicious);
    assert_eq!(report.last_error.unwrap().0, ResponseKind::Code(UNKNOWN));
    let requests = bench.service.seen().len();
    assert!(requests <= 8, "{requests}");
    assert_eq!(bench.queue.state_counts().await, "pending 200");

    bench.settings.rejections_max = 0;
    assert_eq!(bench.run().await.ending, RunEnding::Drained);
    assert_eq!(bench.queue.state_counts().await, "failed 200");
}

#[tokio::test]
async fn one_question_with_unknown_code_does_not_end_run() {
    for bad in ["a1", "a10", "a37", "a100"] {
        let jobs = listed(&names("a", 100), TargetStatus::Enable);
        let bench = Bench::with_four_in_flight(&jobs).await;
        bench.service.refuses(&[(bad, UNKNOWN)]);
        let report = bench.run().await;
        assert_eq!((report.ending, report.totals.succeeded), (RunEnding::Drained, 99), "{bad}");
    }
}

#[tokio::test]
async fn in_doubt_delete_rejected_as_missing_succeeds() {
    let bench = Bench::with_four_in_flight("a delete").await;
    bench.service.responds_with([lost(), code(BAD)]);
    let report = bench.run().await;
    assert_eq!((report.totals.succeeded, report.totals.succeeded_in_doubt), (1, 1));
    let record = bench.queue.record("a").await;
    assert_eq!(record.state, JobState::Succeeded);
    assert_eq!((record.error_code, record.response_lost), (Some(BAD), true));
    assert!(!record.in_doubt);

    // A rejection after a lost response proves only a delete: a disable fails.
    bench.queue.import("b disable").await;
    bench.service.responds_with([lost(), code(BAD)]);
    bench.run().await;
    assert_eq!(bench.queue.record("b").await.state, JobState::Failed);
}

#[tokio::test]
async fn lost_deletes_are_resent_before_being_settled() {
    let bench = Bench::with_four_in_flight(&many(30, TargetStatus::Delete)).await;
    let mut deleted = BTreeSet::new();
    let mut asked = 0;
    bench.service.responds_by(move |seen| {
        asked += 1;
        if seen.ids.iter().any(|id| deleted.contains(id)) {
            return code(BAD);
        }
        deleted.extend(seen.ids.clone());
        if asked == 2 { lost() } else { ok() }
    });
    let report = bench.run().await;
    assert_eq!((report.totals.succeeded, report.totals.failed), (30, 0));
    assert_eq!(report.totals.succeeded_in_doubt, 10);
}

#[tokio::test]
async fn requests_in_flight_reach_and_respect_maximum() {
    let bench = Bench::with_four_in_flight(&many(170, TargetStatus::Enable)).await;
    bench.service.responds_by(|_| Step::Hold(ok()));
    let report = bench
        .run_while(async {
            bench.service.arrived(1).await;
            bench.service.let_go(1);
            // With fewer than four in flight no response ever comes.
            for round in 1..=4 {
                bench.service.arrived(1 + 4 * round).await;
                bench.service.let_go(4);
            }
        })
        .await;
    assert_eq!((report.totals.succeeded, report.totals.requests), (170, 17));
    assert_eq!(bench.service.in_flight_most(), 4);
}

#[tokio::test]
async fn import_during_run_is_drained_and_latest_wins() {
    let mut jobs = names("a", 60);
    jobs.push("bad".to_owned());
    let bench = Bench::with_four_in_flight(&listed(&jobs, TargetStatus::Enable)).await;
    bench.service.responds_by(|seen| Step::Hold(refuse_bad(seen)));
    let newer = "a1 disable, a25 disable, a60 disable, new disable, bad disable";
    let report = bench
        .run_while(async {
            bench.service.arrived(1).await;
            bench.service.let_go(1);
            bench.service.arrived(3).await;
            bench.queue.import(newer).await;
            bench.service.let_go(1_000);
        })
        .await;
    assert_eq!(report.ending, RunEnding::Drained);
    let (seen, disabled) = (bench.service.seen(), TargetStatus::Disable);
    for name in ["a1", "a25", "a60", "new"] {
        let record = bench.queue.record(name).await;
        assert_eq!((record.status, record.state), (disabled, JobState::Succeeded), "{name}");
        let last = seen.iter().rev().find(|seen| seen.ids.iter().any(|id| id == name));
        assert_eq!(last.unwrap().status, disabled, "{name}");
    }
    assert_eq!(bench.queue.record("bad").await.state, JobState::Failed);
    for open in [JobState::Pending, JobState::InFlight] {
        assert_eq!(bench.queue.count(open).await, 0);
    }
}

#[tokio::test]
async fn batch_cancelled_during_isolation_is_not_sent() {
    let mut jobs = names("a", 9);
    jobs.insert(4, "bad".to_owned());
    let bench = Bench::new(&listed(&jobs, TargetStatus::Enable)).await;
    let batch = bench.queue.figure("SELECT max(id) FROM batches").await;
    bench.service.responds_by(|seen| Step::Hold(refuse_bad(seen)));
    let report = bench
        .run_while(async {
            bench.service.arrived(1).await;
            bench.service.let_go(1);
            bench.service.arrived(2).await;
            bench.queue.cancel_batch(batch, NOW_MS).await.unwrap();
            bench.service.let_go(1);
        })
        .await;
    assert_eq!(report.ending, RunEnding::Drained);
    assert_eq!(bench.service.seen().len(), 2);
    for open in [JobState::Pending, JobState::InFlight] {
        assert_eq!(bench.queue.count(open).await, 0);
    }
    assert_eq!(bench.queue.own_records().await.len(), 10);
    let cancelled = bench.queue.count(JobState::Cancelled).await;
    assert!(cancelled >= 5, "{cancelled}");
}

#[tokio::test]
async fn events_are_ordered_and_match_totals() {
    let bench = Bench::with_four_in_flight("a enable, b enable, bad enable").await;
    bench.service.responds_with([code(TOO_FAST)]);
    bench.service.responds_by(refuse_bad);
    let report = bench.run().await;
    let story = bench.events.lock().unwrap();
    assert!(matches!(story[0], Event::Began { open: 3, .. }), "{story:?}");
    assert!(matches!(story[1], Event::Sent { jobs: 3, .. }), "{story:?}");
    assert!(matches!(story[2], Event::Settled { verdict: Verdict::Throttled, .. }), "{story:?}");
    assert!(matches!(story[3], Event::Waiting { .. }), "{story:?}");
    assert!(matches!(story.last(), Some(Event::Ended { ending: RunEnding::Drained })));
    let last = story.iter().rev().find_map(|event| match event {
        Event::Settled { totals, .. } | Event::Concluded { totals } => Some(*totals),
        _ => None,
    });
    assert_eq!(last, Some(report.totals));
    assert_eq!((report.totals.succeeded, report.totals.failed), (2, 1));
}
