//! What a run does about responses with more than a code: a list beside OK, a wait time, a fault on the
//! way to the service.

use std::collections::BTreeSet;
use std::time::Duration;

use deskbatch::desk::Response;
use deskbatch::domain::job::TargetStatus;
use deskbatch::domain::verdict::ResponseKind;
use deskbatch::queue::RunEnding;

use crate::support::manifest::many;
use crate::support::service::{Bench, code, http, ok, unreachable};

fn names_questions() -> Response {
    let info = "the response is OK, but its field FailedIds may name rejected questions".to_owned();
    Response { kind: ResponseKind::NamesQuestions, info, ..ok() }
}

#[tokio::test]
async fn question_in_a_list_beside_ok_fails_alone() {
    let bench = Bench::new(&many(200, TargetStatus::Enable)).await;
    bench.service.responds_by(|seen| {
        if seen.ids.iter().any(|id| id == "q0042") { names_questions() } else { ok() }
    });
    let report = bench.run().await;
    assert_eq!(report.ending, RunEnding::Drained);
    for (question, (state, code)) in bench.queue.outcomes().await {
        let expected = if question == "q0042" { "failed" } else { "succeeded" };
        assert_eq!((state.as_str(), code), (expected, None), "{question}");
    }
}

#[tokio::test]
async fn named_delete_is_never_recorded_as_succeeded() {
    // The first request deletes all but one, so later requests find them missing.
    let bench = Bench::new(&many(12, TargetStatus::Delete)).await;
    let mut deleted = BTreeSet::new();
    bench.service.responds_by(move |seen| {
        let is_bad = |id: &String| id == "q0007";
        let are_gone = seen.ids.iter().any(|id| deleted.contains(id));
        deleted.extend(seen.ids.iter().filter(|id| !is_bad(id)).cloned());
        match seen.ids.iter().any(is_bad) {
            _ if are_gone => code(-50_003),
            true => names_questions(),
            false => ok(),
        }
    });
    bench.run().await;
    let outcomes = bench.queue.outcomes().await;
    assert_ne!(outcomes["q0007"].0, "succeeded", "{outcomes:?}");
}

#[tokio::test]
async fn lists_beside_every_ok_end_the_run() {
    let bench = Bench::new(&many(500, TargetStatus::Enable)).await;
    bench.service.responds_by(|_| names_questions());
    let report = bench.run().await;
    assert_eq!(report.ending, RunEnding::Suspicious);
    assert_eq!(report.last_error.unwrap().0, ResponseKind::NamesQuestions);
    assert!(report.totals.requests <= 8, "{}", report.totals.requests);
    assert_eq!(report.totals.succeeded, 0);
}

#[tokio::test]
async fn retry_after_closes_breaker_for_all_requests() {
    for (status, asked_s, wait_s) in [(429, 20, 20), (503, 20, 20), (429, 900, 60), (503, 900, 60)]
    {
        let mut bench = Bench::new(&many(400, TargetStatus::Enable)).await;
        bench.settings.in_flight_max = 4;
        let mut requests = 0;
        bench.service.responds_by(move |_| {
            requests += 1;
            let asked = Some(Duration::from_secs(asked_s));
            if requests == 3 { Response { retry_after: asked, ..http(status) } } else { ok() }
        });
        let report = bench.run().await;
        assert_eq!(report.totals.succeeded, 400, "{status}");
        let seen = bench.service.seen();
        let waits = seen.windows(2).map(|two| two[1].at.since(two[0].at));
        let longest = waits.max().unwrap();
        let wait = Duration::from_secs(wait_s);
        assert!(longest >= wait && longest < wait + Duration::from_secs(1), "{status} {longest:?}");
    }
}

#[tokio::test]
async fn certificate_or_proxy_fault_ends_run_at_once() {
    for response in [ResponseKind::Certificate, ResponseKind::Proxy] {
        let bench = Bench::new(&many(40, TargetStatus::Delete)).await;
        bench.service.responds_by(move |_| Response { kind: response, ..unreachable() });
        let report = bench.run().await;
        assert_eq!((report.ending, report.totals.requests), (RunEnding::Outage, 1));
        assert_eq!(report.last_error.unwrap().0, response);
        assert_eq!(bench.queue.state_counts().await, "pending 40");
    }
}
