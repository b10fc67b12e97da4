//! How a run ends: sent requests are recorded, unsent jobs stay pending, and a queue failure is
//! reported.

use std::time::Duration;

use deskbatch::domain::clock::Clock as _;
use deskbatch::domain::job::TargetStatus;
use deskbatch::queue::{QueueError, RunEnding};
use deskbatch::runner::{Event, RunReport, ShutdownHandle, Totals, shutdown};

use crate::support::manifest::many;
use crate::support::queue::NOW_MS;
use crate::support::service::{Bench, Step, code, http, lost, ok};

/// Forty jobs in chunks of ten, a successful probe, and then `steps`.
async fn bench(steps: Vec<Step>) -> Bench {
    let mut bench = Bench::new(&many(40, TargetStatus::Delete)).await;
    (bench.settings.chunk_jobs_max, bench.settings.in_flight_max) = (10, 3);
    bench.service.responds_with([ok()]);
    bench.service.responds_with(steps);
    bench
}

/// Runs until three responses are held, and then calls `then`.
async fn stopped(bench: &Bench, then: impl AsyncFnOnce(&ShutdownHandle)) -> RunReport {
    let (stopper, shutdown) = shutdown();
    let meanwhile = async {
        bench.service.arrived(4).await;
        then(&stopper).await;
    };
    bench.run_with(shutdown, meanwhile).await.unwrap()
}

#[tokio::test]
async fn graceful_shutdown_settles_requests_in_flight() {
    let held = vec![Step::Hold(ok()), Step::Hold(code(-50_003)), Step::Hold(code(-14))];
    let bench = bench(held).await;
    let report = stopped(&bench, async |stopper| {
        stopper.signal();
        bench.service.let_go(3);
    })
    .await;
    assert_eq!(report.ending, RunEnding::Signal);
    let totals = Totals { requests: 4, throttled: 1, succeeded: 20, ..Totals::default() };
    assert_eq!(report.totals, totals);
    assert_eq!(bench.queue.state_counts().await, "pending 20, succeeded 20");
    assert_eq!(bench.queue.job("q0021").await, "pending request=4 attempts=1");
    assert_eq!(bench.queue.job("q0031").await, "pending request=5");
    assert_eq!(bench.happened(|event| *event == Event::Stopping { in_flight: 3 }), 1);
    // Nothing is in doubt, and the next run sends the rest.
    bench.service.responds_by(|_| ok());
    let report = bench.run().await;
    assert_eq!(
        (report.ending, report.recovery.orphans, report.totals.succeeded),
        (RunEnding::Drained, 0, 20)
    );
    assert_eq!(bench.queue.figure("SELECT sum(response_lost) FROM jobs").await, 0);
}

#[tokio::test]
async fn transient_response_in_shutdown_requeues_jobs() {
    let bench =
        bench(vec![Step::Hold(lost()), Step::Hold(http(502)), Step::Hold(code(60_009))]).await;
    let report = stopped(&bench, async |stopper| {
        stopper.signal();
        bench.service.let_go(3);
    })
    .await;
    assert_eq!((report.ending, report.totals.failed), (RunEnding::Signal, 0));
    assert_eq!(bench.queue.state_counts().await, "pending 30, succeeded 10");
    assert_eq!(bench.queue.figure("SELECT count(*) FROM jobs WHERE response_lost = 1").await, 20);
    bench.service.responds_by(|_| ok());
    assert_eq!(bench.run().await.totals.succeeded, 30);
}

#[tokio::test]
async fn requests_beyond_grace_stay_in_flight() {
    let bench = bench(vec![Step::Hold(ok()), Step::Hold(ok()), Step::Hold(ok())]).await;
    let mut stopped_at = None;
    let report = stopped(&bench, async |stopper| {
        stopped_at = Some(bench.clock.now());
        stopper.signal();
        bench.service.let_go(1);
    })
    .await;
    assert_eq!(report.ending, RunEnding::Signal);
    assert_eq!(bench.clock.now().since(stopped_at.unwrap()), Duration::from_secs(10));
    assert_eq!(bench.queue.state_counts().await, "in_flight 20, succeeded 20");
    bench.service.responds_by(|_| ok());
    let report = bench.run().await;
    assert_eq!((report.recovery.orphans, report.totals.succeeded), (20, 20));
    assert_eq!(bench.queue.figure("SELECT count(*) FROM jobs WHERE response_lost = 1").await, 20);
    assert_eq!(bench.queue.status().await.unwrap().orphaned, 2);
}

#[tokio::test]
async fn second_stop_request_ends_run_at_once() {
    let bench = bench(vec![Step::Hold(ok()), Step::Hold(ok()), Step::Hold(ok())]).await;
    let mut stopped_at = None;
    let report = stopped(&bench, async |stopper| {
        stopped_at = Some(bench.clock.now());
        stopper.signal();
        stopper.signal();
    })
    .await;
    assert_eq!((report.ending, bench.clock.now()), (RunEnding::Signal, stopped_at.unwrap()));
    assert_eq!(bench.queue.state_counts().await, "in_flight 30, succeeded 10");
    let ending = bench.queue.status().await.unwrap().last_run.unwrap().ending;
    assert_eq!(ending.as_deref(), Some("signal"));
    bench.service.responds_by(|_| ok());
    assert_eq!(bench.run().await.recovery.orphans, 30);
    assert_eq!(bench.queue.state_counts().await, "succeeded 40");
}

#[tokio::test]
async fn shutdown_before_start_sends_nothing() {
    let bench = Bench::new("a enable").await;
    let (stopper, shutdown) = shutdown();
    stopper.signal();
    let report = bench.run_with(shutdown, async {}).await.unwrap();
    assert_eq!((report.ending, report.totals), (RunEnding::Signal, Totals::default()));
    assert_eq!(bench.queue.states().await, "a:pending");
}

#[tokio::test]
async fn shutdown_interrupts_closed_breaker_and_back_off() {
    for response in [code(-14), http(502)] {
        let bench = Bench::new("a enable").await;
        let (stopper, shutdown) = shutdown();
        let stopper = &stopper;
        let mut count = 0;
        let (report_line, mut reported) = tokio::sync::watch::channel(0);
        bench.service.reads_by(|_| http(502));
        bench.service.responds_by(move |_| {
            count += 1;
            report_line.send_replace(count);
            response.clone()
        });
        let meanwhile = async {
            reported.wait_for(|count| *count == 6).await.unwrap();
            stopper.signal();
        };
        let report = bench.run_with(shutdown, meanwhile).await.unwrap();
        assert_eq!(report.ending, RunEnding::Signal);
        assert!((6..=7).contains(&report.totals.requests), "{:?}", report.totals);
        assert_eq!(bench.queue.states().await, "a:pending");
    }
}

#[tokio::test]
async fn dropped_shutdown_handle_lets_run_drain() {
    let bench = Bench::new("a enable").await;
    bench.service.responds_with([ok()]);
    let (stopper, shutdown) = shutdown();
    drop(stopper);
    let report = bench.run_with(shutdown, async {}).await.unwrap();
    assert_eq!((report.ending, report.totals.succeeded), (RunEnding::Drained, 1));
}

/// A run in which `sql` changes the row of the second request while its response is held.
async fn undermined(bench: &Bench, sql: &str) -> Result<RunReport, QueueError> {
    let (_stopper, shutdown) = shutdown();
    let meanwhile = async {
        bench.service.arrived(4).await;
        bench.queue.sql(sql).await;
        bench.service.let_go(3);
    };
    bench.run_with(shutdown, meanwhile).await
}

#[tokio::test]
async fn fenced_run_reports_error_and_records_nothing() {
    let bench = bench(vec![Step::Hold(ok()), Step::Hold(ok()), Step::Hold(ok())]).await;
    let taken = format!(
        "UPDATE requests SET verdict = 'orphaned', responded_ms = {NOW_MS} WHERE verdict IS NULL;
         UPDATE jobs SET state = 'pending', response_lost = 1 WHERE state = 'in_flight'"
    );
    let fenced = undermined(&bench, &taken).await.unwrap_err();
    assert!(matches!(fenced, QueueError::Fenced { request: 3 }), "{fenced}");
    assert_eq!(bench.queue.state_counts().await, "pending 30, succeeded 10");
    let ending = bench.queue.status().await.unwrap().last_run.unwrap().ending;
    assert_eq!(ending.as_deref(), Some("error"));
    assert_eq!(bench.happened(|event| *event == Event::Ended { ending: RunEnding::Error }), 1);
}

#[tokio::test]
async fn queue_failure_ends_run_and_next_run_resumes() {
    let bench = bench(vec![Step::Hold(ok()), Step::Hold(ok()), Step::Hold(ok())]).await;
    let broken = "CREATE TRIGGER full BEFORE UPDATE OF verdict ON requests BEGIN SELECT RAISE(FAIL, 'disk is full'); END";
    let error = undermined(&bench, broken).await.unwrap_err();
    assert_eq!(error.to_string(), "cannot settle a request: SQLite: disk is full (code 1811)");
    assert_eq!(bench.queue.state_counts().await, "in_flight 30, succeeded 10");
    bench.queue.sql("DROP TRIGGER full").await;
    bench.service.responds_by(|_| ok());
    let report = bench.run().await;
    assert_eq!((report.recovery.orphans, report.totals.succeeded), (30, 30));
}

#[tokio::test]
async fn queue_failure_during_shutdown_is_reported() {
    let bench = bench(vec![Step::Hold(ok()), Step::Hold(ok()), Step::Hold(ok())]).await;
    let (stopper, shutdown) = shutdown();
    let meanwhile = async {
        bench.service.arrived(4).await;
        let taken = format!(
            "UPDATE requests SET verdict = 'orphaned', responded_ms = {NOW_MS} WHERE id = 4"
        );
        bench.queue.sql(&taken).await;
        stopper.signal();
        bench.service.let_go(3);
    };
    let fenced = bench.run_with(shutdown, meanwhile).await.unwrap_err();
    assert!(matches!(fenced, QueueError::Fenced { request: 4 }), "{fenced}");
    let state_counts = bench.queue.state_counts().await;
    assert!(state_counts.starts_with("in_flight "), "{state_counts}");
}
