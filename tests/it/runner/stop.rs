//! How a run ends on shutdown, and after it has lost its queue.

use std::time::Duration;

use deskbatch::domain::clock::Clock as _;
use deskbatch::domain::failure_limit::FailureLimit;
use deskbatch::domain::job::{JobState, TargetStatus};
use deskbatch::domain::verdict::ResponseKind;
use deskbatch::queue::{QueueError, RunEnding};
use deskbatch::runner::{Event, Events, ShutdownMode, shutdown};

use crate::support::queue::APP;
use crate::support::runner::{OK, Sent, Service, TestQueue, names, strs};
use crate::support::service::{Bench, Step, ok};

/// Signals this many times once the service has seen `seen` requests.
async fn press(
    service: &Service,
    stopper: &deskbatch::runner::ShutdownHandle,
    seen: usize,
    times: u32,
) {
    while service.sent().len() < seen {
        tokio::task::yield_now().await;
    }
    for _ in 0..times {
        stopper.signal();
    }
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn stop_settles_in_flight_and_leaves_rest_pending() {
    let queue = TestQueue::new().await;
    let jobs = names("a", 100);
    queue.import(TargetStatus::Enable, &strs(&jobs)).await;
    let service = Service::new(&queue.clock).play(|_| OK).latency(Duration::from_secs(2));
    let (stopper, listening) = shutdown();
    let events = Events::new();
    let mut heard = events.listen();
    tokio::select! {
        report = queue.run_with(&service, TestQueue::signer(), listening, events.clone()) => {
            let report = report.unwrap();
            assert_eq!(report.ending, RunEnding::Signal);
            let sent: u64 = service.sent().iter().map(|sent| sent.ids.len() as u64).sum();
            assert_eq!(report.totals.succeeded, sent);
        }
        () = press(&service, &stopper, 3, 1) => unreachable!(),
    }
    let counts = queue.counts().await;
    assert_eq!((counts.in_flight, counts.pending + counts.succeeded), (0, 100));
    assert!(counts.pending > 0);
    let mut stopping = 0;
    while let Ok(event) = heard.try_recv() {
        stopping += u32::from(matches!(event, Event::Stopping { .. }));
    }
    assert_eq!(stopping, 1);
    let service = Service::new(&queue.clock).play(|_| OK);
    assert_eq!(queue.run(&service).await.ending, RunEnding::Drained);
    assert_eq!(queue.counts().await.succeeded, 100);
}

#[tokio::test]
async fn breaker_changes_during_shutdown_emit_no_event() {
    let mut queue = TestQueue::new().await;
    queue.settings.chunk_jobs_max = 1;
    queue.import(TargetStatus::Enable, &strs(&names("a", 20))).await;
    let service = Service::new(&queue.clock).latency(Duration::from_secs(2));
    let mut requests = 0;
    // The third request and the later ones are throttled.
    let service = service.play(move |_| {
        requests += 1;
        if requests < 3 { OK } else { ResponseKind::Code(-14) }
    });
    let (stopper, listening) = shutdown();
    let events = Events::new();
    let mut heard = events.listen();
    tokio::select! {
        report = queue.run_with(&service, TestQueue::signer(), listening, events.clone()) => {
            let report = report.unwrap();
            assert_eq!((report.ending, report.totals.throttled), (RunEnding::Signal, 1));
        }
        () = press(&service, &stopper, 3, 1) => unreachable!(),
    }
    let (mut stopping, mut after) = (false, Vec::new());
    while let Ok(event) = heard.try_recv() {
        stopping |= matches!(event, Event::Stopping { .. });
        if stopping {
            after.push(event);
        }
    }
    assert!(stopping);
    let of_the_gate = |event: &Event| matches!(event, Event::Waiting { .. } | Event::Resumed);
    assert!(!after.iter().any(of_the_gate), "{after:?}");
}

/// Stops a run whose first response never comes; the job is then in flight in the queue.
async fn abandoned(presses: u32) -> TestQueue {
    let queue = TestQueue::new().await;
    queue.import(TargetStatus::Delete, &["a", "b"]).await;
    let service = Service::new(&queue.clock).play(|_| OK).silent();
    let (stopper, listening) = shutdown();
    tokio::select! {
        report = queue.run_with(&service, TestQueue::signer(), listening, Events::new()) => {
            assert_eq!(report.unwrap().ending, RunEnding::Signal);
        }
        () = press(&service, &stopper, 1, presses) => unreachable!(),
    }
    let grace = Duration::from_secs(10);
    assert_eq!(queue.clock.now().0 >= grace, presses == 1, "{:?}", queue.clock.now());
    queue
}

#[tokio::test]
async fn unanswered_jobs_are_requeued_in_doubt_by_next_run() {
    for presses in [1, 2] {
        let queue = abandoned(presses).await;
        assert_eq!(queue.counts().await.in_flight, 2);
        let service = Service::new(&queue.clock).script([OK]);
        let report = queue.run(&service).await;
        assert_eq!((report.orphans, report.totals.succeeded), (2, 2));
        assert_eq!(queue.queue.status().await.unwrap().orphaned, 1);
        let record = queue.record("a").await;
        assert_eq!((record.attempts, record.response_lost), (2, true));
    }
}

#[tokio::test]
async fn runs_are_separated_by_one_second() {
    let queue = TestQueue::new().await;
    queue.import(TargetStatus::Enable, &["a"]).await;
    let first = Service::new(&queue.clock).script([OK]);
    queue.run(&first).await;
    queue.import(TargetStatus::Enable, &["b"]).await;
    let second = Service::new(&queue.clock).script([OK]);
    queue.run(&second).await;
    let between = second.sent()[0].at.since(first.sent()[0].at);
    assert!(between >= Duration::from_secs(1), "{between:?}");
    // A wall clock that was set back does not show when the last request left.
    queue.clock.jump_wall(-86_400_000);
    let before = queue.clock.now();
    queue.import(TargetStatus::Enable, &["c"]).await;
    let third = Service::new(&queue.clock).script([OK]);
    queue.run(&third).await;
    assert!(third.sent()[0].at.since(before) >= Duration::from_secs(1));
}

#[tokio::test]
async fn clock_set_back_delays_no_job_beyond_its_wait() {
    for (before_ms, during_ms) in [(-240_000, 0), (-20_000, -240_000), (0, -86_400_000)] {
        let mut queue = TestQueue::new().await;
        queue.settings.outage_max = Duration::from_mins(1);
        queue.import(TargetStatus::Enable, &["a"]).await;
        let gone = ResponseKind::HttpStatus(503);
        let away = Service::new(&queue.clock).play(move |_| gone).reads(gone);
        assert_eq!(queue.run(&away).await.ending, RunEnding::Outage);
        queue.clock.jump_wall(before_ms);
        let (began, clock) = (queue.clock.now(), queue.clock.clone());
        let jump = async {
            clock.next_sleeper().await;
            clock.jump_wall(during_ms);
            std::future::pending::<()>().await;
        };
        let back = Service::new(&queue.clock).script([OK]);
        tokio::select! {
            biased;
            () = jump => unreachable!(),
            report = queue.run(&back) => assert_eq!(report.totals.succeeded, 1),
        }
        let idle = back.sent()[0].at.since(began);
        assert!(idle <= Duration::from_secs(40), "{before_ms} {during_ms}: {idle:?}");
    }
}

#[tokio::test]
async fn response_after_takeover_is_fenced_and_reported() {
    let queue = TestQueue::new().await;
    queue.import(TargetStatus::Enable, &["a", "bystander"]).await;
    let service = Service::new(&queue.clock).play(|_| OK).latency(Duration::from_secs(5));
    let (_stopper, listening) = shutdown();
    let takeover = async {
        while service.sent().is_empty() {
            tokio::task::yield_now().await;
        }
        // The queue was copied past its lock, and another run uses the copy.
        let (path, app) = (queue.queue.path(), crate::support::runner::APP);
        crate::support::lease::take_over(path, app, queue.clock.wall_ms()).await;
        std::future::pending::<()>().await;
    };
    tokio::select! {
        ended = queue.run_with(&service, TestQueue::signer(), listening, Events::new()) => {
            assert!(matches!(ended, Err(QueueError::Fenced { request: 1 })), "{ended:?}");
        }
        () = takeover => unreachable!(),
    }
    let record = queue.record("a").await;
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
    let mut queue = TestQueue::new().await;
    queue.approves = false;
    queue.import(TargetStatus::Delete, &["gone"]).await;
    queue.import(TargetStatus::Enable, &["a", "b"]).await;
    let service = Service::new(&queue.clock).script([OK]);
    let report = queue.run(&service).await;
    assert_eq!((report.ending, report.totals.succeeded), (RunEnding::Drained, 2));
    assert_eq!(queue.record("gone").await.state, JobState::Pending);
}

/// The service rejects every question whose name begins with `bad`.
fn some_bad(sent: &Sent) -> ResponseKind {
    if sent.ids.iter().any(|id| id.starts_with("bad")) { ResponseKind::Code(-50_003) } else { OK }
}

#[tokio::test]
async fn max_failures_ends_run_and_leaves_rest_pending() {
    for (limit, stops) in [(FailureLimit::Jobs(2), 2), (FailureLimit::Percent(2_400_000), 3)] {
        let mut queue = TestQueue::new().await;
        queue.settings.chunk_jobs_max = 1;
        queue.settings.failures_max = Some(limit);
        queue.import(TargetStatus::Enable, &strs(&names("bad", 20))).await;
        queue.import(TargetStatus::Enable, &strs(&names("a", 80))).await;
        // Several requests are in flight when the limit is reached.
        let latency = Duration::from_millis(700);
        let service = Service::new(&queue.clock).play(some_bad).latency(latency);
        let report = queue.run(&service).await;
        assert_eq!(report.ending, RunEnding::TooManyFailures);
        assert_eq!(report.failures_max, Some(stops));
        let (sent, counts) = (service.sent().len() as u64, queue.counts().await);
        // Requests in flight are recorded, and nothing leaves after the limit is reached.
        assert!((stops..stops + 4).contains(&sent), "{sent}");
        assert_eq!((counts.failed, counts.in_flight, counts.pending), (sent, 0, 100 - sent));
        assert_eq!(
            queue.queue.status().await.unwrap().last_run.unwrap().ending.unwrap(),
            "failures"
        );
    }
}

#[tokio::test]
async fn max_failures_at_last_response_still_drains() {
    let mut queue = TestQueue::new().await;
    queue.settings.failures_max = Some(FailureLimit::Percent(100_000_000));
    queue.import(TargetStatus::Enable, &["bad1", "bad2"]).await;
    let service = Service::new(&queue.clock).play(some_bad);
    let report = queue.run(&service).await;
    assert_eq!((report.ending, report.totals.failed), (RunEnding::Drained, 2));
    // The limit applies to each run and not to the queue.
    queue.settings.failures_max = Some(FailureLimit::Jobs(1));
    queue.import(TargetStatus::Enable, &["a"]).await;
    let report = queue.run(&Service::new(&queue.clock).play(some_bad)).await;
    assert_eq!(report.ending, RunEnding::Drained);
}

#[tokio::test]
async fn max_failures_during_isolation_releases_jobs() {
    let mut queue = TestQueue::new().await;
    queue.settings.failures_max = Some(FailureLimit::Jobs(1));
    queue.settings.in_flight_max = 1;
    queue.import(TargetStatus::Enable, &strs(&names("bad", 4))).await;
    let report = queue.run(&Service::new(&queue.clock).play(some_bad)).await;
    assert_eq!(report.ending, RunEnding::TooManyFailures);
    let counts = queue.counts().await;
    assert_eq!((counts.failed, counts.pending), (1, 3));
    queue.settings.failures_max = None;
    let report = queue.run(&Service::new(&queue.clock).play(some_bad)).await;
    assert_eq!((report.ending, report.totals.failed), (RunEnding::Drained, 3));
}

#[tokio::test]
async fn first_stop_reason_decides_run_ending() {
    let queue = TestQueue::new().await;
    queue.import(TargetStatus::Enable, &["a", "b"]).await;
    let service = Service::new(&queue.clock).play(|_| OK);
    let (stopper, listening) = shutdown();
    stopper.deadline_reached();
    let (signalled, heard) = shutdown();
    signalled.signal();
    for (stopper, listening, ending) in
        [(stopper, listening, RunEnding::TimeOver), (signalled, heard, RunEnding::Signal)]
    {
        stopper.signal();
        stopper.deadline_reached();
        let report = queue.run_with(&service, TestQueue::signer(), listening, Events::new()).await;
        assert_eq!(report.unwrap().ending, ending);
    }
    assert_eq!((queue.counts().await.pending, service.sent().len()), (2, 0));
}

#[tokio::test]
async fn responses_during_a_pause_of_the_drain_are_read() {
    let bench = Bench::new("a enable, b enable").await;
    bench.service.answers([Step::Hold(ok())]);
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
    assert_eq!(bench.queue.counts_of(APP).await.unwrap().in_flight, 0);
}
