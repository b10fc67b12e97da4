//! How a run ends on shutdown, and after it has lost its queue.

use std::time::Duration;

use deskbatch::domain::clock::Clock as _;
use deskbatch::domain::failure_limit::FailureLimit;
use deskbatch::domain::job::{JobState, TargetStatus};
use deskbatch::queue::{QueueError, RunEnding};
use deskbatch::runner::{Event, RunReport, ShutdownMode, shutdown};

use crate::support::lease::take_over;
use crate::support::manifest::{listed, many, names};
use crate::support::queue::APP;
use crate::support::service::{Bench, Step, code, http, ok, refuse_bad};

/// Runs until the end. Signals this many times once the service has seen `seen` requests, of which
/// `answered` have responses by then, and releases all other responses after that.
async fn stopped_at(bench: &Bench, seen: usize, responded: usize, times: u32) -> RunReport {
    let (stopper, listening) = shutdown();
    let stop = async {
        bench.service.let_go(responded);
        bench.service.arrived(seen).await;
        for _ in 0..times {
            stopper.signal();
        }
        bench.service.let_go(1_000);
    };
    Box::pin(bench.run_with(listening, stop)).await.unwrap()
}

#[tokio::test]
async fn stop_settles_in_flight_and_leaves_rest_pending() {
    let bench = Bench::with_four_in_flight(&many(100, TargetStatus::Enable)).await;
    bench.service.responds_by(|_| Step::Hold(ok()));
    let report = stopped_at(&bench, 3, 1, 1).await;
    assert_eq!(report.ending, RunEnding::Signal);
    let sent: usize = bench.service.chunks().iter().map(Vec::len).sum();
    assert_eq!(report.totals.succeeded, sent as u64);
    let [pending, in_flight, succeeded] = counts(&bench).await;
    assert_eq!((in_flight, pending + succeeded), (0, 100));
    assert!(pending > 0);
    assert_eq!(bench.happened(|event| matches!(event, Event::Stopping { .. })), 1);
    bench.service.responds_by(|_| ok());
    assert_eq!(bench.run().await.ending, RunEnding::Drained);
    assert_eq!(bench.queue.state_counts().await, "succeeded 100");
}

/// The numbers of pending jobs, jobs in flight and succeeded jobs.
async fn counts(bench: &Bench) -> [usize; 3] {
    let mut counts = [0; 3];
    let states = [JobState::Pending, JobState::InFlight, JobState::Succeeded];
    for (count, state) in counts.iter_mut().zip(states) {
        *count = bench.queue.count(state).await;
    }
    counts
}

#[tokio::test]
async fn breaker_changes_during_shutdown_emit_no_event() {
    let mut bench = Bench::with_four_in_flight(&many(20, TargetStatus::Enable)).await;
    bench.settings.chunk_jobs_max = 1;
    let mut requests = 0;
    // The third request and the later ones are throttled.
    bench.service.responds_by(move |_| {
        requests += 1;
        Step::Hold(code(if requests < 3 { 0 } else { -14 }))
    });
    let report = stopped_at(&bench, 3, 1, 1).await;
    assert_eq!((report.ending, report.totals.throttled), (RunEnding::Signal, 1));
    let events = bench.events.lock().unwrap();
    let stopping = events.iter().position(|event| matches!(event, Event::Stopping { .. }));
    let after = &events[stopping.unwrap()..];
    let of_the_limiter = |event: &Event| matches!(event, Event::Waiting { .. } | Event::Resumed);
    assert!(!after.iter().any(of_the_limiter), "{after:?}");
}

/// Stops a run whose first response never comes; the job is then in flight in the queue.
async fn abandoned(presses: u32) -> Bench {
    let bench = Bench::with_four_in_flight("a delete, b delete").await;
    bench.service.responds_with([Step::Hold(ok())]);
    let (stopper, listening) = shutdown();
    let stop = async {
        bench.service.arrived(1).await;
        for _ in 0..presses {
            stopper.signal();
        }
    };
    let report = Box::pin(bench.run_with(listening, stop)).await.unwrap();
    assert_eq!(report.ending, RunEnding::Signal);
    let grace = Duration::from_secs(10);
    assert_eq!(bench.clock.now().0 >= grace, presses == 1, "{:?}", bench.clock.now());
    bench
}

#[tokio::test]
async fn unanswered_jobs_are_requeued_in_doubt_by_next_run() {
    for presses in [1, 2] {
        let bench = abandoned(presses).await;
        assert_eq!(bench.queue.state_counts().await, "in_flight 2");
        bench.service.responds_with([ok()]);
        let report = bench.run().await;
        assert_eq!((report.recovery.orphans, report.totals.succeeded), (2, 2));
        assert_eq!(bench.queue.status().await.unwrap().orphaned, 1);
        let record = bench.queue.record("a").await;
        assert_eq!((record.attempts, record.response_lost), (2, true));
    }
}

#[tokio::test]
async fn runs_are_separated_by_one_second() {
    let bench = Bench::with_four_in_flight("a enable").await;
    bench.service.responds_by(|_| ok());
    bench.run().await;
    bench.queue.import("b enable").await;
    bench.run().await;
    let seen = bench.service.seen();
    let between = seen[1].at.since(seen[0].at);
    assert!(between >= Duration::from_secs(1), "{between:?}");
    // A wall clock that was set back does not show when the last request left.
    bench.clock.jump_wall(-86_400_000);
    let before = bench.clock.now();
    bench.queue.import("c enable").await;
    bench.run().await;
    let seen = bench.service.seen();
    assert_eq!(seen.len(), 3);
    assert!(seen[2].at.since(before) >= Duration::from_secs(1));
}

#[tokio::test]
async fn clock_set_back_delays_no_job_beyond_its_wait() {
    for (before_ms, during_ms) in [(-240_000, 0), (-20_000, -240_000), (0, -86_400_000)] {
        let mut bench = Bench::with_four_in_flight("a enable").await;
        bench.settings.outage_max = Duration::from_mins(1);
        bench.service.responds_by(|_| http(503));
        bench.service.reads_by(|_| http(503));
        assert_eq!(bench.run().await.ending, RunEnding::Outage);
        bench.clock.jump_wall(before_ms);
        let (began, sent) = (bench.clock.now(), bench.service.seen().len());
        bench.service.responds_with([ok()]);
        bench.service.reads_by(|_| ok());
        let jump = async {
            bench.clock.next_sleeper().await;
            bench.clock.jump_wall(during_ms);
        };
        assert_eq!(bench.run_while(jump).await.totals.succeeded, 1);
        let idle = bench.service.seen()[sent].at.since(began);
        assert!(idle <= Duration::from_secs(40), "{before_ms} {during_ms}: {idle:?}");
    }
}

#[tokio::test]
async fn response_after_takeover_is_fenced_and_reported() {
    let bench = Bench::with_four_in_flight("a enable, another enable").await;
    bench.service.responds_with([Step::Hold(ok())]);
    let (_stopper, listening) = shutdown();
    let takeover = async {
        bench.service.arrived(1).await;
        // The queue was copied past its lock, and another run uses the copy.
        take_over(bench.queue.path(), APP, bench.clock.wall_ms());
        bench.service.let_go(1);
    };
    let request = bench.queue.figure("SELECT max(id) + 1 FROM requests").await;
    let ended = Box::pin(bench.run_with(listening, takeover)).await;
    assert!(
        matches!(ended, Err(QueueError::Fenced { request: fenced }) if fenced == request),
        "{ended:?}"
    );
    let record = bench.queue.record("a").await;
    assert_eq!((record.state, record.in_doubt), (JobState::Pending, true));
}

#[tokio::test]
async fn dropped_shutdown_handle_requests_no_stop() {
    let (stopper, mut listening) = shutdown();
    assert!(!listening.is_requested());
    drop(stopper);
    tokio::select! {
        () = listening.requested(ShutdownMode::Graceful) => panic!("nobody asked"),
        () = tokio::task::yield_now() => {}
    }
}

#[tokio::test]
async fn run_without_approval_sends_no_delete() {
    let mut bench = Bench::with_four_in_flight("gone delete").await;
    bench.approves = false;
    bench.queue.import("a enable, b enable").await;
    bench.service.responds_with([ok()]);
    let report = bench.run().await;
    assert_eq!((report.ending, report.totals.succeeded), (RunEnding::Drained, 2));
    assert_eq!(bench.queue.record("gone").await.state, JobState::Pending);
}

#[tokio::test]
async fn max_failures_ends_run_and_leaves_rest_pending() {
    for (limit, stops) in [(FailureLimit::Jobs(2), 2), (FailureLimit::Percent(2_400_000), 3)] {
        let jobs = [names("bad", 20), names("a", 80)].concat();
        let mut bench = Bench::with_four_in_flight(&listed(&jobs, TargetStatus::Enable)).await;
        bench.settings.chunk_jobs_max = 1;
        bench.settings.failures_max = Some(limit);
        // Several requests are in flight when the limit is reached.
        bench.service.responds_by(|seen| Step::Hold(refuse_bad(seen)));
        let report = bench
            .run_while(async {
                bench.service.arrived(1).await;
                bench.service.let_go(1);
                bench.service.arrived(4).await;
                bench.service.let_go(1_000);
            })
            .await;
        assert_eq!(report.ending, RunEnding::FailureLimit);
        assert_eq!(report.failures_max, Some(stops));
        let (sent, stops) = (bench.service.seen().len(), usize::try_from(stops).unwrap());
        // Requests in flight are recorded, and nothing leaves after the limit is reached.
        assert!((stops..stops + 4).contains(&sent), "{sent}");
        let state_counts = format!("failed {sent}, pending {}", 100 - sent);
        assert_eq!(bench.queue.state_counts().await, state_counts);
        let status = bench.queue.status().await.unwrap();
        assert_eq!(status.last_run.unwrap().ending.unwrap(), "failure_limit");
    }
}

#[tokio::test]
async fn max_failures_at_last_response_still_drains() {
    let mut bench = Bench::with_four_in_flight("bad1 enable, bad2 enable").await;
    bench.settings.failures_max = Some(FailureLimit::Percent(100_000_000));
    bench.service.responds_by(refuse_bad);
    let report = bench.run().await;
    assert_eq!((report.ending, report.totals.failed), (RunEnding::Drained, 2));
    // The limit applies to each run and not to the queue.
    bench.settings.failures_max = Some(FailureLimit::Jobs(1));
    bench.queue.import("a enable").await;
    assert_eq!(bench.run().await.ending, RunEnding::Drained);
}

#[tokio::test]
async fn max_failures_during_isolation_releases_jobs() {
    let jobs = listed(&names("bad", 4), TargetStatus::Enable);
    let mut bench = Bench::new(&jobs).await;
    bench.settings.chunk_jobs_max = 10;
    bench.settings.failures_max = Some(FailureLimit::Jobs(1));
    bench.service.responds_by(refuse_bad);
    assert_eq!(bench.run().await.ending, RunEnding::FailureLimit);
    assert_eq!(bench.queue.state_counts().await, "failed 1, pending 3");
    bench.settings.failures_max = None;
    let report = bench.run().await;
    assert_eq!((report.ending, report.totals.failed), (RunEnding::Drained, 3));
}

#[tokio::test]
async fn first_stop_reason_decides_run_ending() {
    let bench = Bench::with_four_in_flight("a enable, b enable").await;
    bench.service.responds_by(|_| ok());
    let (stopper, listening) = shutdown();
    stopper.deadline_reached();
    let (signalled, heard) = shutdown();
    signalled.signal();
    for (stopper, listening, ending) in
        [(stopper, listening, RunEnding::TimeLimit), (signalled, heard, RunEnding::Signal)]
    {
        stopper.signal();
        stopper.deadline_reached();
        let report = Box::pin(bench.run_with(listening, async {})).await;
        assert_eq!(report.unwrap().ending, ending);
    }
    assert_eq!(bench.queue.state_counts().await, "pending 2");
    assert_eq!(bench.service.seen().len(), 0);
}

#[tokio::test]
async fn responses_during_a_pause_of_the_drain_are_read() {
    let bench = Bench::new("a enable, b enable").await;
    bench.service.responds_with([Step::Hold(ok())]);
    let (handle, listening) = shutdown();
    let pause = async {
        bench.service.arrived(1).await;
        handle.signal();
        let grace_ends = bench.clock.now() + bench.settings.grace;
        while bench.clock.next_sleeper().await != grace_ends {
            tokio::task::yield_now().await;
        }
        // The process is stopped for a minute, and the response arrives meanwhile.
        bench.service.let_go(1);
        bench.clock.advance(Duration::from_mins(1));
    };
    let report = bench.run_with(listening, pause).await.unwrap();
    assert_eq!((report.ending, report.totals.succeeded), (RunEnding::Signal, 2));
    assert_eq!(bench.queue.counts_of_app(APP).await.unwrap().in_flight, 0);
}
