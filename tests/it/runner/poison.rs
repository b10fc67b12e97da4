//! A question that never gets a usable response: isolation finds it, it fails, and good jobs are not
//! delayed.

use std::time::Duration;

use deskbatch::desk::Response;
use deskbatch::domain::job::TargetStatus;
use deskbatch::domain::verdict::ResponseKind;
use deskbatch::queue::RunEnding;
use deskbatch::runner::RunReport;

use crate::support::manifest::many;
use crate::support::scale::cases;
use crate::support::service::{Bench, Step, code, http, lost, ok, unreachable};

fn garbled() -> Response {
    Response {
        kind: ResponseKind::Unreadable,
        info: "cut off".to_owned(),
        http_status: Some(200),
        retry_after: None,
    }
}

/// A run on `jobs` questions, one of which gets `answer` whenever it is sent.
async fn run(jobs: usize, poison: Option<&'static str>, response: Step) -> (Bench, RunReport) {
    let mut bench = Bench::new(&many(jobs, TargetStatus::Enable)).await;
    bench.settings.attempts_max = 4;
    bench.service.responds_by(move |seen| {
        let is_in = poison.is_some_and(|poison| seen.ids.iter().any(|id| id == poison));
        if is_in { response.clone() } else { Step::Say(ok()) }
    });
    let report = bench.run().await;
    (bench, report)
}

#[tokio::test]
async fn poisonous_question_costs_few_requests() {
    let (_, healthy) = run(2_000, None, Step::Say(ok())).await;
    let slow = Step::After(Duration::from_secs(10), lost());
    for response in [Step::Say(http(500)), Step::Say(garbled()), Step::Say(code(60_008)), slow] {
        // At the beginning, in the middle, in the last chunk and as the very last one.
        let places = ["q2000", "q0987", "q1950", "q0003"];
        for &poison in &places[..cases(2, 4)] {
            let (bench, report) = run(2_000, Some(poison), response.clone()).await;
            assert_eq!((report.ending, report.totals.failed), (RunEnding::Drained, 1), "{poison}");
            assert_eq!(report.totals.succeeded, 1_999);
            let more = report.totals.requests - healthy.totals.requests;
            let longer = report.took.saturating_sub(healthy.took);
            assert!(
                more <= 20 && longer <= Duration::from_mins(1),
                "{poison}: {more} in {longer:?}"
            );
            let job = bench.queue.job(poison).await;
            assert!(job.starts_with("failed") && job.contains("given up after"), "{job}");
        }
    }
}

#[tokio::test]
async fn last_chunk_with_a_poisonous_question_is_halved() {
    // The bad chunk is the whole queue, so nothing else shows that the service works.
    let (bench, report) = run(100, Some("q0042"), Step::Say(http(500))).await;
    assert_eq!((report.ending, report.totals.failed), (RunEnding::Drained, 1));
    assert_eq!(bench.queue.state_counts().await, "failed 1, succeeded 99");
    assert!(report.totals.requests <= 22, "{}", report.totals.requests);
}

#[tokio::test]
async fn two_poisonous_questions_are_both_found() {
    let bench = Bench::new(&many(300, TargetStatus::Disable)).await;
    bench.service.responds_by(|seen| {
        if seen.ids.iter().any(|id| id == "q0120" || id == "q0290") { http(503) } else { ok() }
    });
    let report = bench.run().await;
    assert_eq!((report.ending, report.totals.failed), (RunEnding::Drained, 2));
    assert_eq!(report.totals.succeeded, 298);
}

#[tokio::test]
async fn lone_poisonous_question_fails_by_live_reads() {
    let bench = Bench::new("a enable, b delete").await;
    bench
        .service
        .responds_by(|seen| if seen.status == TargetStatus::Delete { code(60_008) } else { ok() });
    let report = bench.run().await;
    assert_eq!((report.ending, report.totals.failed), (RunEnding::Drained, 1));
    assert_eq!(bench.queue.states().await, "a:succeeded b:failed");
    assert!(report.reads > 0 && report.took < Duration::from_mins(1), "{report:?}");
}

#[tokio::test]
async fn lone_question_without_reads_is_an_outage() {
    let bench = Bench::new("a enable, b delete").await;
    bench
        .service
        .responds_by(|seen| if seen.status == TargetStatus::Delete { code(60_008) } else { ok() });
    bench.service.reads_by(|_| http(503));
    let report = bench.run().await;
    assert_eq!(report.ending, RunEnding::Outage);
    assert_eq!(bench.queue.states().await, "a:succeeded b:pending");
}

#[tokio::test]
async fn unsent_requests_fail_no_question() {
    let mut bench = Bench::new(&many(40, TargetStatus::Enable)).await;
    bench.settings.outage_max = Duration::from_mins(2);
    bench.service.responds_by(|seen| {
        if seen.ids.iter().any(|id| id == "q0040") { unreachable() } else { ok() }
    });
    let report = bench.run().await;
    assert_eq!((report.ending, report.totals.failed), (RunEnding::Outage, 0));
}
