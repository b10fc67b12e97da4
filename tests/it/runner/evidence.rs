//! What rejections prove: a lapsed app, codes about the request itself, and single wrong rejections.

use std::collections::BTreeSet;
use std::time::Duration;

use deskbatch::desk::Response;
use deskbatch::domain::clock::Moment;
use deskbatch::domain::job::TargetStatus;
use deskbatch::queue::RunEnding;
use deskbatch::runner::RunReport;

use crate::support::auto_commit::AutoCommit as _;
use crate::support::manifest::many;
use crate::support::queue::NOW_MS;
use crate::support::service::{Bench, Seen, code, http, lost, ok};

/// A service that responds by a rule over the number of the request, from 1.
async fn bench(
    jobs: usize,
    status: TargetStatus,
    mut rule: impl FnMut(u32, &Seen) -> Response + Send + 'static,
) -> Bench {
    let bench = Bench::new(&many(jobs, status)).await;
    let mut number = 0;
    bench.service.responds_by(move |seen| {
        number += 1;
        rule(number, seen)
    });
    bench
}

/// All jobs are pending, and the run has sent few requests.
async fn stopped(bench: &Bench, report: &RunReport, ending: RunEnding, requests: u64) {
    assert_eq!((report.ending, report.totals.done()), (ending, 0), "{report:?}");
    let spent = report.totals.requests + report.reads;
    assert!(spent <= requests, "{} requests, {} reads", report.totals.requests, report.reads);
    assert!(
        bench.queue.state_counts().await.starts_with("pending"),
        "{}",
        bench.queue.state_counts().await
    );
    let held =
        "SELECT count(*) FROM jobs WHERE reserved_by_run_id IS NOT NULL OR state = 'in_flight'";
    assert_eq!(bench.queue.figure(held).await, 0);
}

#[tokio::test]
async fn lapsed_app_ends_run_with_all_pending() {
    let mut bench = bench(3_000, TargetStatus::Delete, |_, _| code(-50_003)).await;
    bench.settings.in_flight_max = 4;
    bench.service.reads_by(|_| code(-50_003));
    let report = bench.run().await;
    stopped(&bench, &report, RunEnding::Rejected, 5).await;
    assert!(report.took < Duration::from_secs(3), "{:?}", report.took);
    assert_eq!(
        report.last_error.map(|(response, _)| response),
        Some(deskbatch::domain::verdict::ResponseKind::Code(-50_003))
    );
}

#[tokio::test]
async fn lapsed_app_without_reads_stays_pending_too() {
    for unreadable in [code(60_009), code(-20), http(404)] {
        let bench = bench(3_000, TargetStatus::Enable, |_, _| code(-50_003)).await;
        bench.service.reads_by(move |_| unreadable.clone());
        let report = bench.run().await;
        stopped(&bench, &report, RunEnding::Suspicious, 8).await;
    }
}

#[tokio::test]
async fn code_7_for_everything_ends_run_with_all_pending() {
    let bench = bench(3_000, TargetStatus::Enable, |_, _| code(-7)).await;
    let report = bench.run().await;
    stopped(&bench, &report, RunEnding::Suspicious, 8).await;
}

#[tokio::test]
async fn alternating_unknown_codes_end_run() {
    let rule = |number, _: &Seen| code(if number % 2 == 0 { -59_991 } else { -59_992 });
    let bench = bench(3_000, TargetStatus::Disable, rule).await;
    let report = bench.run().await;
    stopped(&bench, &report, RunEnding::Suspicious, 8).await;
}

/// The app responds -50003 to every request from `from` on, for `lasts`.
async fn lapse(from: Moment, lasts: Duration) -> (Bench, RunReport) {
    let mut bench = Bench::new(&many(10_000, TargetStatus::Disable)).await;
    bench.settings.in_flight_max = 4;
    let is_lapsed = move |at: Moment| at >= from && at.since(from) < lasts;
    let response = move |at| code(if is_lapsed(at) { -50_003 } else { 0 });
    bench.service.responds_by(move |seen| response(seen.at));
    bench.service.reads_by(response);
    let report = bench.run().await;
    (bench, report)
}

#[tokio::test]
async fn lapse_in_the_middle_fails_no_job() {
    let from = Moment(Duration::from_secs(8));
    let (bench, report) = lapse(from, Duration::from_hours(24)).await;
    assert_eq!((report.ending, report.totals.failed), (RunEnding::Rejected, 0));
    let after = bench.service.seen().iter().filter(|seen| seen.at >= from).count();
    let reads = report.reads;
    assert!(after <= 8 && reads <= 3, "{after} requests and {reads} reads after the lapse");
    assert!(report.took < Duration::from_mins(1), "{:?}", report.took);
    // The next run resumes where this one stopped.
    bench.service.responds_by(|_| ok());
    bench.service.reads_by(|_| ok());
    assert_eq!(bench.run().await.ending, RunEnding::Drained);
    assert_eq!(bench.queue.state_counts().await, "succeeded 10000");
}

#[tokio::test]
async fn lapse_of_30_seconds_is_waited_out() {
    let (bench, report) = lapse(Moment(Duration::from_secs(8)), Duration::from_secs(30)).await;
    assert_eq!((report.ending, report.totals.failed), (RunEnding::Drained, 0));
    assert_eq!(bench.queue.state_counts().await, "succeeded 10000");
    assert!(report.totals.requests < 125, "{}", report.totals.requests);
}

/// The response was lost: a 502, a connection that broke, a run that was killed with the request in flight.
#[tokio::test]
async fn delete_in_doubt_of_lapsed_app_stays_pending() {
    for first in [Some(http(502)), Some(lost()), None] {
        let was_killed = first.is_none();
        let mut first = first;
        let rule = move |_, _: &Seen| first.take().unwrap_or_else(|| code(-50_003));
        let bench = bench(10, TargetStatus::Delete, rule).await;
        if was_killed {
            let dead = bench.queue.start_run().await;
            bench.queue.claim_free(dead, |_, _| 10, NOW_MS).await.unwrap().unwrap();
        }
        bench.service.reads_by(|_| code(-50_003));
        let report = bench.run().await;
        stopped(&bench, &report, RunEnding::Rejected, 7).await;
    }
}

#[tokio::test]
async fn healthy_run_sends_no_read() {
    let mut bench = Bench::new(&many(3_000, TargetStatus::Enable)).await;
    bench.settings.in_flight_max = 4;
    bench.service.refuses(&[
        ("q0007", -50_003),
        ("q1500", -7),
        ("q1501", -50_011),
        ("q2900", -50_003),
    ]);
    let report = bench.run().await;
    assert_eq!((report.ending, report.totals.failed, report.reads), (RunEnding::Drained, 4, 0));
}

#[tokio::test]
async fn bad_last_question_fails_after_one_read() {
    let bench = Bench::new(&many(30, TargetStatus::Enable)).await;
    bench.service.refuses(&[("q0030", -50_003)]);
    let report = bench.run().await;
    assert_eq!((report.ending, report.totals.failed, report.reads), (RunEnding::Drained, 1, 1));
    assert!(bench.queue.job("q0030").await.contains("code=-50003 info=text of -50003"));
}

#[tokio::test]
async fn without_reads_a_recent_applied_request_counts() {
    let bench = Bench::new(&many(30, TargetStatus::Enable)).await;
    bench.service.refuses(&[("q0030", -50_003)]);
    bench.service.reads_by(|_| code(60_009));
    let report = bench.run().await;
    assert_eq!((report.ending, report.totals.failed), (RunEnding::Drained, 1));
}

/// The app was alive before the response was lost. That it lapsed since would look the same.
#[tokio::test]
async fn delete_in_doubt_needs_a_later_sign_of_life() {
    let bench = Bench::new(&format!("{}, x delete", many(30, TargetStatus::Enable))).await;
    let mut is_lost = true;
    bench.service.responds_by(move |seen| match seen.status {
        TargetStatus::Delete if std::mem::take(&mut is_lost) => http(502),
        TargetStatus::Delete => code(-50_003),
        _ => ok(),
    });
    bench.service.reads_by(|_| code(60_009));
    let report = bench.run().await;
    assert_eq!((report.ending, report.totals.succeeded), (RunEnding::Suspicious, 30));
    assert!(bench.queue.job("x").await.starts_with("pending "));
}

/// Only the delete in doubt waits for a sign of life; the rejections of other questions are recorded.
#[tokio::test]
async fn delete_in_doubt_holds_up_no_other_rejection() {
    let bench = Bench::new("a enable, b enable, c enable, x delete, bad enable").await;
    let mut is_lost = true;
    bench.service.responds_by(move |seen| match seen.status {
        TargetStatus::Delete if std::mem::take(&mut is_lost) => http(502),
        TargetStatus::Delete => code(-50_003),
        _ => code(if seen.ids.contains(&"bad".to_owned()) { -50_003 } else { 0 }),
    });
    bench.service.reads_by(|_| code(60_009));
    let report = bench.run().await;
    assert_eq!((report.totals.succeeded, report.totals.failed), (3, 1));
    assert!(bench.queue.job("bad").await.starts_with("failed "));
    assert!(bench.queue.job("x").await.starts_with("pending "));
}

#[tokio::test]
async fn bad_id_range_is_distinguished_from_bad_request() {
    // Twenty malformed ids in a row. One question from the other end shows that requests are valid.
    let mut bench = Bench::new(&many(600, TargetStatus::Enable)).await;
    bench.settings.in_flight_max = 2;
    bench.service.responds_by(|seen| {
        let is_bad = |id: &String| ("q0200".."q0220").contains(&id.as_str());
        code(if seen.ids.iter().any(is_bad) { -7 } else { 0 })
    });
    let report = bench.run().await;
    assert_eq!((report.ending, report.totals.failed), (RunEnding::Drained, 20));
    assert_eq!(bench.queue.state_counts().await, "failed 20, succeeded 580");
}

#[tokio::test]
async fn one_wrong_rejection_fails_no_job() {
    for wrong in 1..12 {
        let rule = move |number, _: &Seen| code(if number == wrong { -50_003 } else { 0 });
        let mut bench = bench(400, TargetStatus::Enable, rule).await;
        bench.settings.chunk_jobs_max = 40;
        let report = bench.run().await;
        assert_eq!((report.ending, report.totals.failed), (RunEnding::Drained, 0), "{wrong}");
        assert!(report.totals.requests < 30, "{wrong}: {}", report.totals.requests);
    }
}

#[tokio::test]
async fn shrinking_maximum_fails_no_job() {
    for refusal in [-50_003, -7, 70_206, -59_991] {
        let rule = move |number, seen: &Seen| {
            let most = match number {
                0..15 => 100,
                15..60 => 60,
                _ => 30,
            };
            code(if seen.ids.len() > most { refusal } else { 0 })
        };
        let bench = bench(4_000, TargetStatus::Enable, rule).await;
        let report = bench.run().await;
        assert_eq!((report.ending, report.totals.failed), (RunEnding::Drained, 0), "{refusal}");
    }
}

#[tokio::test]
async fn rejected_and_yet_applied_disables_succeed() {
    let rule = |number, _: &Seen| code(if [2, 14].contains(&number) { -50_003 } else { 0 });
    let mut bench = bench(200, TargetStatus::Disable, rule).await;
    bench.settings.chunk_jobs_max = 40;
    let report = bench.run().await;
    assert_eq!((report.ending, report.totals.failed), (RunEnding::Drained, 0));
}

/// The service applies the deletes of the second request and rejects it all the same.
#[tokio::test]
async fn rejected_and_yet_applied_deletes_are_in_doubt() {
    let mut gone: BTreeSet<String> = BTreeSet::new();
    let rule = move |number, seen: &Seen| {
        if number == 2 {
            gone.extend(seen.ids.iter().cloned());
            return code(-50_003);
        }
        code(if seen.ids.iter().any(|id| gone.contains(id)) { -50_003 } else { 0 })
    };
    let mut bench = bench(60, TargetStatus::Delete, rule).await;
    bench.settings.chunk_jobs_max = 10;
    let report = bench.run().await;
    assert_eq!((report.ending, report.totals.failed), (RunEnding::Drained, 10));
    let unsure = "SELECT count(*) FROM jobs JOIN doubts USING (question_id, app_id) WHERE state = 'failed' AND open = 1";
    assert_eq!(bench.queue.figure(unsure).await, 10);
}

#[tokio::test]
async fn missing_delete_among_applied_ones_is_no_doubt() {
    let bench = Bench::new(&many(60, TargetStatus::Delete)).await;
    bench.service.refuses(&[("q0005", -50_003), ("q0033", -50_003)]);
    let report = bench.run().await;
    assert_eq!(report.totals.failed, 2);
    let unsure = "SELECT count(*) FROM doubts WHERE open = 1";
    assert_eq!(bench.queue.figure(unsure).await, 0);
}

#[tokio::test]
async fn outage_during_a_read_leaves_all_pending() {
    let mut bench = bench(300, TargetStatus::Enable, |_, _| code(-50_003)).await;
    bench.settings.outage_max = Duration::from_mins(2);
    bench.service.reads_by(|_| lost());
    let report = bench.run().await;
    assert_eq!((report.ending, report.totals.done()), (RunEnding::Outage, 0));
    assert!(report.took < Duration::from_mins(4), "{:?}", report.took);
}
