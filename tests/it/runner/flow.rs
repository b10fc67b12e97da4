//! The effect of each response on a run, its jobs and its rate.

use std::sync::atomic::Ordering;
use std::time::Duration;

use deskbatch::desk::Signer;
use deskbatch::domain::job::{JobState, TargetStatus};
use deskbatch::domain::verdict::{ResponseKind, Verdict};
use deskbatch::queue::RunEnding;
use deskbatch::runner::{Event, Events, shutdown};

use crate::support::runner::{OK, Service, TestQueue, names, strs};

const BAD: ResponseKind = ResponseKind::Code(-50_003);
const TOO_FAST: ResponseKind = ResponseKind::Code(-14);

/// Rejects chunks that contain an id which begins with `bad`.
fn refusing(sent: &crate::support::runner::Sent) -> ResponseKind {
    if sent.ids.iter().any(|id| id.starts_with("bad")) { BAD } else { OK }
}

#[tokio::test]
async fn chunks_have_one_status_and_are_fifo() {
    let queue = TestQueue::new().await;
    queue.import(TargetStatus::Enable, &["a", "b"]).await;
    queue.import(TargetStatus::Delete, &["c"]).await;
    let service = Service::new(&queue.clock).script([OK, OK]);
    let report = queue.run(&service).await;
    assert_eq!((report.ending, report.totals.succeeded), (RunEnding::Drained, 3));
    let sent = service.sent();
    assert_eq!((sent[0].status, sent[0].ids.join(",")), (TargetStatus::Enable, "a,b".to_owned()));
    assert_eq!((sent[1].status, sent[1].ids.join(",")), (TargetStatus::Delete, "c".to_owned()));
    assert_eq!(queue.record("a").await.attempts, 1);
}

#[tokio::test]
async fn push_back_costs_no_attempt_and_probe_reopens() {
    let queue = TestQueue::new().await;
    let jobs = names("a", 40);
    queue.import(TargetStatus::Enable, &strs(&jobs)).await;
    let service = Service::new(&queue.clock).script([OK, TOO_FAST, TOO_FAST]).play(|_| OK);
    let events = Events::new();
    let mut heard = events.listen();
    let (_stopper, listening) = shutdown();
    let report =
        queue.run_with(&service, TestQueue::signer(), listening, events.clone()).await.unwrap();
    assert_eq!((report.totals.throttled, report.totals.succeeded), (2, 40));
    let sent = service.sent();
    assert_eq!(sent[1].ids, sent[2].ids, "the same chunk again");
    assert_eq!(sent[2].ids, sent[3].ids);
    assert!(sent[2].at.since(sent[1].at) >= Duration::from_secs(1));
    assert!(sent[3].at.since(sent[2].at) >= Duration::from_secs(2), "longer each time");
    assert!(queue.records().await.iter().all(|record| record.attempts == 1));
    let mut closed = 0;
    while let Ok(event) = heard.try_recv() {
        closed += u32::from(matches!(event, Event::Waiting { .. }));
    }
    assert_eq!(closed, 2);
}

#[tokio::test]
async fn hours_of_push_backs_cost_no_attempt() {
    let queue = TestQueue::new().await;
    queue.import(TargetStatus::Enable, &["a"]).await;
    let service = Service::new(&queue.clock).script([TOO_FAST; 500]).play(|_| OK);
    let report = queue.run(&service).await;
    assert_eq!((report.totals.throttled, report.totals.succeeded), (500, 1));
    assert_eq!(queue.record("a").await.attempts, 1);
}

#[tokio::test]
async fn transient_responses_resend_chunk_in_doubt() {
    let queue = TestQueue::new().await;
    queue.import(TargetStatus::Disable, &["a", "b"]).await;
    let trouble = [
        ResponseKind::HttpStatus(502),
        ResponseKind::NoResponse,
        ResponseKind::Unreadable,
        ResponseKind::Code(60_008),
    ];
    let service = Service::new(&queue.clock).script(trouble).play(|_| OK);
    let report = queue.run(&service).await;
    assert_eq!((report.totals.transient, report.totals.succeeded), (4, 2));
    // The chunk is sent twice as it is and then in halves, because no other job is left.
    assert_eq!(
        service.sent().iter().map(|sent| sent.ids.len()).collect::<Vec<_>>(),
        [2, 2, 1, 1, 1, 1]
    );
    let record = queue.record("a").await;
    assert_eq!((record.attempts, record.response_lost), (4, true));
}

#[tokio::test]
async fn failed_connection_leaves_no_doubt() {
    let queue = TestQueue::new().await;
    queue.import(TargetStatus::Disable, &["a"]).await;
    let service = Service::new(&queue.clock).script([ResponseKind::NotConnected, OK]);
    queue.run(&service).await;
    assert!(!queue.record("a").await.response_lost);
}

#[tokio::test]
async fn lasting_outage_ends_run_with_all_pending() {
    let queue = TestQueue::new().await;
    let jobs = names("a", 50);
    queue.import(TargetStatus::Enable, &strs(&jobs)).await;
    let service = Service::new(&queue.clock).play(|_| ResponseKind::HttpStatus(502));
    let report = queue.run(&service).await;
    assert_eq!(report.ending, RunEnding::Outage);
    assert!(report.took >= Duration::from_mins(10) && report.took < Duration::from_mins(12));
    let counts = queue.counts().await;
    assert_eq!((counts.pending, counts.total()), (50, 50));
    // The next run resumes at once.
    let service = Service::new(&queue.clock).play(|_| OK);
    assert_eq!(queue.run(&service).await.totals.succeeded, 50);
}

#[tokio::test]
async fn job_with_repeated_http_500_fails_alone() {
    let queue = TestQueue::new().await;
    let mut jobs = names("a", 2_000);
    jobs.insert(33, "poison".to_owned());
    queue.import(TargetStatus::Enable, &strs(&jobs)).await;
    let service = Service::new(&queue.clock).play(|sent| {
        if sent.ids.iter().any(|id| id == "poison") { ResponseKind::HttpStatus(500) } else { OK }
    });
    let report = queue.run(&service).await;
    assert_eq!((report.totals.succeeded, report.totals.failed), (2_000, 1));
    let record = queue.record("poison").await;
    assert_eq!((record.state, record.error_code), (JobState::Failed, None));
    assert!(record.error_info.unwrap().contains("while other requests got through"));
    assert_eq!(queue.counts().await.failed, 1);
}

#[tokio::test]
async fn bad_questions_fail_with_own_code_and_rest_succeeds() {
    let queue = TestQueue::new().await;
    let mut jobs = names("a", 95);
    jobs.insert(17, "bad1".to_owned());
    jobs.insert(18, "preset".to_owned());
    jobs.insert(90, "bad2".to_owned());
    queue.import(TargetStatus::Delete, &strs(&jobs)).await;
    let service = Service::new(&queue.clock).play(|sent| {
        // A service stops at the first bad question, so that one decides the code.
        match sent.ids.iter().find(|id| id.starts_with("bad") || *id == "preset") {
            Some(id) if id == "preset" => ResponseKind::Code(-50_011),
            Some(_) => BAD,
            None => OK,
        }
    });
    let report = queue.run(&service).await;
    assert_eq!((report.totals.succeeded, report.totals.failed), (95, 3));
    for (name, code) in [("bad1", -50_003), ("preset", -50_011), ("bad2", -50_003)] {
        let record = queue.record(name).await;
        assert_eq!((record.state, record.error_code), (JobState::Failed, Some(code)), "{name}");
        assert!(record.attempts > 0 && record.finished_ms.is_some());
    }
    assert!(service.sent().len() < 40, "{}", service.sent().len());
}

#[tokio::test]
async fn oversized_chunk_fails_no_job() {
    for code in [-7, 70_206, -50_003] {
        let mut queue = TestQueue::new().await;
        queue.settings.chunk_jobs_max = 100;
        let jobs = names("a", 300);
        queue.import(TargetStatus::Enable, &strs(&jobs)).await;
        let service = Service::new(&queue.clock)
            .play(move |sent| if sent.ids.len() > 30 { ResponseKind::Code(code) } else { OK });
        let report = queue.run(&service).await;
        assert_eq!((report.totals.succeeded, report.totals.failed), (300, 0), "{code}");
        // A code that is about questions must come twice before the runner takes it as a size limit.
        let most = if code == -50_003 { 60 } else { 40 };
        assert!(service.sent().len() < most, "{}", service.sent().len());
    }
}

#[tokio::test]
async fn stop_code_ends_run_after_one_request() {
    for code in [-20, -50_040, 70_009, 60_009, 141_000] {
        let queue = TestQueue::new().await;
        let jobs = names("a", 50);
        queue.import(TargetStatus::Enable, &strs(&jobs)).await;
        let latency = Duration::from_secs(2);
        let service =
            Service::new(&queue.clock).script([ResponseKind::Code(code)]).latency(latency);
        let report = queue.run(&service).await;
        assert_eq!(report.ending, RunEnding::Refused);
        assert_eq!(report.last_error.unwrap().0, ResponseKind::Code(code));
        assert_eq!(service.sent().len(), 1);
        assert_eq!(queue.counts().await.pending, 50);
        assert!(queue.records().await.iter().all(|r| r.attempts == 0 && !r.response_lost));
    }
}

#[tokio::test]
async fn rejected_usersig_is_renewed_once_then_ends_run() {
    let expired = ResponseKind::Code(70_001);
    let queue = TestQueue::new().await;
    queue.import(TargetStatus::Enable, &["a"]).await;
    let service = Service::new(&queue.clock).script([expired, expired]);
    assert_eq!(queue.run(&service).await.ending, RunEnding::Refused);
    assert_eq!(queue.counts().await.pending, 1);
    let service = Service::new(&queue.clock).script([expired, OK]);
    assert_eq!(queue.run(&service).await.ending, RunEnding::Drained);

    queue.import(TargetStatus::Enable, &["b"]).await;
    let service = Service::new(&queue.clock).script([expired]);
    let (_stopper, listening) = shutdown();
    let signer = Signer::ready_made("made elsewhere".into());
    let report = queue.run_with(&service, signer, listening, Events::new()).await.unwrap();
    assert_eq!(report.ending, RunEnding::Refused, "a ready-made one cannot be renewed");
}

#[tokio::test]
async fn unknown_code_for_everything_leaves_all_pending() {
    let mut queue = TestQueue::new().await;
    let jobs = names("a", 200);
    queue.import(TargetStatus::Enable, &strs(&jobs)).await;
    let unknown = ResponseKind::Code(-99_999);
    let service = Service::new(&queue.clock).play(move |_| unknown);
    let report = queue.run(&service).await;
    assert_eq!(report.ending, RunEnding::Suspicious);
    assert_eq!(report.last_error.unwrap().0, unknown);
    assert!(service.sent().len() <= 8, "{}", service.sent().len());
    assert_eq!(queue.counts().await.pending, 200);

    queue.settings.rejections_max = 0;
    let service = Service::new(&queue.clock).play(move |_| unknown);
    assert_eq!(queue.run(&service).await.ending, RunEnding::Drained);
    assert_eq!(queue.counts().await.failed, 200);
}

#[tokio::test]
async fn one_question_with_unknown_code_does_not_end_run() {
    for bad in ["a1", "a10", "a37", "a100"] {
        let queue = TestQueue::new().await;
        let jobs = names("a", 100);
        queue.import(TargetStatus::Enable, &strs(&jobs)).await;
        let service = Service::new(&queue.clock).play(move |sent| {
            if sent.ids.iter().any(|id| id == bad) { ResponseKind::Code(-99_999) } else { OK }
        });
        let report = queue.run(&service).await;
        assert_eq!((report.ending, report.totals.succeeded), (RunEnding::Drained, 99), "{bad}");
    }
}

#[tokio::test]
async fn in_doubt_delete_rejected_as_missing_succeeds() {
    let queue = TestQueue::new().await;
    queue.import(TargetStatus::Delete, &["a"]).await;
    let service = Service::new(&queue.clock).script([ResponseKind::NoResponse, BAD]);
    let report = queue.run(&service).await;
    assert_eq!((report.totals.succeeded, report.totals.succeeded_in_doubt), (1, 1));
    let record = queue.record("a").await;
    assert_eq!(record.state, JobState::Succeeded);
    assert_eq!((record.error_code, record.response_lost), (Some(-50_003), true));
    assert!(!record.in_doubt);

    // A rejection after a lost response proves only a delete: a disable fails.
    queue.import(TargetStatus::Disable, &["b"]).await;
    let service = Service::new(&queue.clock).script([ResponseKind::NoResponse, BAD]);
    queue.run(&service).await;
    assert_eq!(queue.record("b").await.state, JobState::Failed);
}

#[tokio::test]
async fn lost_deletes_are_resent_before_being_settled() {
    let queue = TestQueue::new().await;
    let jobs = names("a", 30);
    queue.import(TargetStatus::Delete, &strs(&jobs)).await;
    let mut deleted = std::collections::BTreeSet::new();
    let mut asked = 0;
    let service = Service::new(&queue.clock).play(move |sent| {
        asked += 1;
        if sent.ids.iter().any(|id| deleted.contains(id)) {
            return BAD;
        }
        deleted.extend(sent.ids.clone());
        if asked == 2 { ResponseKind::NoResponse } else { OK }
    });
    let report = queue.run(&service).await;
    assert_eq!((report.totals.succeeded, report.totals.failed), (30, 0));
    assert_eq!(report.totals.succeeded_in_doubt, 10);
}

#[tokio::test]
async fn requests_in_flight_reach_and_respect_maximum() {
    let queue = TestQueue::new().await;
    let jobs = names("a", 170);
    queue.import(TargetStatus::Enable, &strs(&jobs)).await;
    // With fewer than four in flight no response ever comes.
    let service = Service::new(&queue.clock).play(|_| OK).answers_together(4);
    let report = queue.run(&service).await;
    assert_eq!((report.totals.succeeded, report.totals.requests), (170, 17));
    assert_eq!(service.most_in_flight(), 4);
}

#[tokio::test]
async fn import_during_run_is_drained_and_latest_wins() {
    let queue = TestQueue::new().await;
    let mut jobs = names("a", 60);
    jobs.push("bad".to_owned());
    queue.import(TargetStatus::Enable, &strs(&jobs)).await;
    let service = Service::new(&queue.clock).play(refusing).latency(Duration::from_millis(700));
    let newer = async {
        while service.sent().len() < 3 {
            tokio::task::yield_now().await;
        }
        queue.time_stands.store(true, Ordering::Relaxed);
        queue.import(TargetStatus::Disable, &["a1", "a25", "a60", "new", "bad"]).await;
        queue.time_stands.store(false, Ordering::Relaxed);
        std::future::pending::<()>().await;
    };
    tokio::select! {
        report = queue.run(&service) => assert_eq!(report.ending, RunEnding::Drained),
        () = newer => unreachable!(),
    }
    for name in ["a1", "a25", "a60", "new"] {
        let record = queue.record(name).await;
        assert_eq!(
            (record.status, record.state),
            (TargetStatus::Disable, JobState::Succeeded),
            "{name}"
        );
        let last = service.sent().into_iter().rev().find(|s| s.ids.iter().any(|id| id == name));
        assert_eq!(last.unwrap().status, TargetStatus::Disable, "{name}");
    }
    assert_eq!(queue.record("bad").await.state, JobState::Failed);
    assert_eq!(queue.counts().await.open(), 0);
}

#[tokio::test]
async fn batch_cancelled_during_isolation_is_not_sent() {
    let queue = TestQueue::new().await;
    let mut jobs = names("a", 9);
    jobs.insert(4, "bad".to_owned());
    let batch = queue.import(TargetStatus::Enable, &strs(&jobs)).await;
    let service = Service::new(&queue.clock).play(refusing).latency(Duration::from_millis(500));
    let cancel = async {
        while service.sent().len() < 2 {
            tokio::task::yield_now().await;
        }
        queue.queue.cancel_batch(batch, 1).await.unwrap();
        std::future::pending::<()>().await;
    };
    tokio::select! {
        report = queue.run(&service) => assert_eq!(report.ending, RunEnding::Drained),
        () = cancel => unreachable!(),
    }
    let counts = queue.counts().await;
    assert_eq!(service.sent().len(), 2);
    assert_eq!((counts.open(), counts.total()), (0, 10));
    assert!(counts.cancelled >= 5, "{counts:?}");
}

#[tokio::test]
async fn events_are_ordered_and_match_totals() {
    let queue = TestQueue::new().await;
    queue.import(TargetStatus::Enable, &["a", "b", "bad"]).await;
    let service = Service::new(&queue.clock).script([TOO_FAST]).play(refusing);
    let events = Events::new();
    let mut heard = events.listen();
    let (_stopper, listening) = shutdown();
    let report =
        queue.run_with(&service, TestQueue::signer(), listening, events.clone()).await.unwrap();
    let mut story = Vec::new();
    while let Ok(event) = heard.try_recv() {
        story.push(event);
    }
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
