//! The runner with faults: transient errors, outages, chunks that never succeed.

use std::collections::BTreeSet;
use std::time::Duration;

use deskbatch::domain::job::TargetStatus;
use deskbatch::domain::verdict::ResponseKind;
use deskbatch::queue::{RunEnding, WaitReason};
use deskbatch::runner::{Event, Totals};

use crate::support::auto_commit::AutoCommit as _;
use crate::support::manifest::many;
use crate::support::service::{Bench, Step, code, http, lost, ok, unreachable};

/// The interval before each request.
fn gaps(bench: &Bench) -> Vec<Duration> {
    bench.service.seen().windows(2).map(|two| two[1].at.since(two[0].at)).collect()
}

#[tokio::test]
async fn transient_response_resends_same_chunk_after_wait() {
    let bench = Bench::new("a enable, b enable").await;
    bench.service.responds_with([http(502), ok()]);
    let report = bench.run().await;
    assert_eq!(
        report.totals,
        Totals { requests: 2, transient: 1, succeeded: 2, ..Totals::default() }
    );
    assert_eq!(bench.service.chunks(), [["a", "b"], ["a", "b"]]);
    let gap = gaps(&bench)[0];
    assert!(gap >= Duration::from_secs(1) && gap <= Duration::from_millis(1_250), "{gap:?}");
    assert!(bench.queue.job("a").await.contains("attempts=2 lost"));
}

#[tokio::test]
async fn unsent_request_leaves_no_doubt() {
    let bench = Bench::new("a enable").await;
    bench.service.responds_with([unreachable(), ok()]);
    bench.run().await;
    let job = bench.queue.job("a").await;
    assert!(job.contains("attempts=2 finished="), "{job}");
}

#[tokio::test]
async fn outage_grows_back_off_and_fails_no_job() {
    let bench = Bench::new("a enable, b delete").await;
    bench.service.reads_by(|_| lost());
    bench.service.responds_with(vec![code(60_008); 20]);
    bench.service.responds_with([ok(), ok()]);
    let report = bench.run().await;
    assert_eq!(report.ending, RunEnding::Drained);
    assert_eq!(
        report.totals,
        Totals { requests: 22, transient: 20, succeeded: 2, ..Totals::default() }
    );
    let gaps = gaps(&bench);
    assert!(gaps[..20].iter().all(|gap| *gap <= Duration::from_millis(37_500)), "{gaps:?}");
    assert!(gaps[19] >= Duration::from_secs(15), "{gaps:?}");
    assert_eq!(
        bench.happened(|event| matches!(
            event,
            Event::Waiting { reason: WaitReason::Throttled, .. }
        )),
        0
    );
    assert!(
        bench.happened(|event| matches!(event, Event::Waiting { reason: WaitReason::Outage, .. }))
            > 10
    );
}

#[tokio::test]
async fn outage_ends_run_and_leaves_all_pending() {
    let mut bench = Bench::new(&many(500, TargetStatus::Delete)).await;
    (bench.settings.in_flight_max, bench.settings.outage_max) = (4, Duration::from_mins(5));
    bench.service.responds_by(|_| unreachable());
    let report = bench.run().await;
    assert_eq!(report.ending, RunEnding::Outage);
    assert_eq!(report.totals.done(), 0);
    assert_eq!(bench.queue.state_counts().await, "pending 500");
    let took = report.took;
    assert!(took > Duration::from_mins(5) && took < Duration::from_secs(345), "{took:?}");
    assert!(report.totals.requests < 30, "{} requests into nothing", report.totals.requests);
    assert_eq!(
        bench.queue.figure("SELECT count(*) FROM jobs WHERE reserved_by_run_id IS NOT NULL").await,
        0
    );
    let ending = bench.queue.status().await.unwrap().last_run.unwrap().ending;
    assert_eq!(ending.as_deref(), Some("outage"));
    // The next run resumes where this one stopped.
    bench.service.responds_by(|_| ok());
    assert_eq!(bench.run().await.totals.succeeded, 500);
}

#[tokio::test]
async fn short_outage_only_delays_run() {
    let mut bench = Bench::new(&many(400, TargetStatus::Enable)).await;
    (bench.settings.chunk_jobs_max, bench.settings.in_flight_max) = (10, 3);
    let mut requests = 0;
    bench.service.responds_by(move |_| {
        requests += 1;
        if (11..=25).contains(&requests) { http(503) } else { ok() }
    });
    let report = bench.run().await;
    assert_eq!(
        (report.ending, report.totals.succeeded, report.totals.failed),
        (RunEnding::Drained, 400, 0)
    );
    assert_eq!(report.totals.transient, 15);
    assert_eq!(
        bench
            .queue
            .figure("SELECT count(*) FROM jobs WHERE not_before_ms > 0 AND batch_id = 3")
            .await,
        0
    );
}

#[tokio::test]
async fn poison_job_is_isolated_and_fails_alone() {
    let mut bench = Bench::new(&many(2_000, TargetStatus::Enable)).await;
    (bench.settings.chunk_jobs_max, bench.settings.in_flight_max) = (10, 4);
    bench.service.responds_by(|seen| {
        if seen.ids.iter().any(|id| id == "q0105") { code(60_008) } else { ok() }
    });
    let report = bench.run().await;
    assert_eq!(report.ending, RunEnding::Drained);
    assert_eq!((report.totals.succeeded, report.totals.failed), (1_999, 1));
    let poison = bench.queue.job("q0105").await;
    assert!(
        poison.starts_with("failed") && poison.contains("lost in_doubt code=60008"),
        "{poison}"
    );
    assert!(
        poison.contains(
            "given up after 5 attempts while the app responded to other requests: text of 60008"
        ),
        "{poison}"
    );
    let alone = bench.service.chunks().iter().filter(|ids| **ids == ["q0105"]).count();
    assert_eq!(alone, 2, "the chunks that it was in before count too");
    assert_eq!(
        bench.queue.outcomes().await.values().filter(|(state, _)| state == "failed").count(),
        1
    );
}

#[tokio::test]
async fn in_doubt_delete_of_missing_question_succeeds() {
    for first in [lost(), http(502), code(60_008)] {
        let bench = Bench::new("a delete").await;
        bench.service.responds_with([first, code(-50_003)]);
        let report = bench.run().await;
        assert_eq!(
            (report.totals.succeeded, report.totals.succeeded_in_doubt, report.totals.failed),
            (1, 1, 0)
        );
        let job = bench.queue.job("a").await;
        assert!(job.starts_with("succeeded") && job.contains("lost code=-50003"), "{job}");
    }
}

#[tokio::test]
async fn other_rejection_of_in_doubt_job_fails() {
    for (manifest, refusal) in
        [("a disable", -50_003), ("a enable", -50_003), ("a delete", -50_011)]
    {
        let bench = Bench::new(manifest).await;
        bench.service.responds_with([lost(), code(refusal)]);
        let report = bench.run().await;
        assert_eq!((report.totals.failed, report.totals.succeeded), (1, 0), "{manifest}");
        let job = bench.queue.job("a").await;
        let reported = format!("lost in_doubt code={refusal} info=text of {refusal}");
        assert!(job.starts_with("failed") && job.contains(&reported), "{job}");
    }
}

#[tokio::test]
async fn rejected_delete_without_doubt_fails() {
    for first in [unreachable(), code(-14)] {
        let bench = Bench::new("a delete").await;
        bench.service.responds_with([first, code(-50_003)]);
        assert_eq!(bench.run().await.totals.failed, 1);
        assert!(bench.queue.job("a").await.starts_with("failed"));
    }
}

#[tokio::test]
async fn in_doubt_deletes_are_sent_one_by_one() {
    let bench = Bench::new(&many(12, TargetStatus::Delete)).await;
    let mut applied_unseen = false;
    let mut done: BTreeSet<String> = BTreeSet::new();
    bench.service.responds_by(move |seen| {
        if !applied_unseen {
            applied_unseen = true;
            done.extend(seen.ids[..4].iter().cloned());
            return lost();
        }
        if seen.ids.iter().any(|id| done.contains(id)) { code(-50_003) } else { ok() }
    });
    let report = bench.run().await;
    assert_eq!((report.ending, report.totals.failed), (RunEnding::Drained, 0));
    assert_eq!((report.totals.succeeded, report.totals.succeeded_in_doubt), (12, 4));
    assert_eq!(bench.queue.status().await.unwrap().succeeded_in_doubt, 4);
}

#[tokio::test]
async fn orphaned_deletes_of_missing_questions_succeed() {
    let bench = Bench::new("a delete, b delete").await;
    let dead = bench.queue.start_run().await;
    bench.queue.claim_free(dead, |_, _| 9, crate::support::queue::NOW_MS).await.unwrap();
    bench.service.refuses(&[("a", -50_003), ("b", -50_003)]);
    let report = bench.run().await;
    assert_eq!((report.totals.succeeded_in_doubt, report.totals.failed), (2, 0));
}

#[tokio::test]
async fn unreliable_service_receives_every_good_id() {
    let mut bench = Bench::new(&many(1_000, TargetStatus::Disable)).await;
    (bench.settings.in_flight_max, bench.settings.attempts_max) = (4, 10);
    let bad: Vec<String> = (1..=7).map(|n| format!("q{:04}", n * 131)).collect();
    let known = bad.clone();
    let mut random = fastrand::Rng::with_seed(11);
    bench.service.responds_by(move |seen| match random.u32(0..100) {
        0..20 => code(-14),
        20..25 => http(502),
        25..30 => lost(),
        _ => code(if seen.ids.iter().any(|id| known.contains(id)) { -50_003 } else { 0 }),
    });
    let report = bench.run().await;
    assert_eq!(report.ending, RunEnding::Drained);
    assert_eq!((report.totals.succeeded, report.totals.failed), (993, 7));
    for (question, (state, code)) in bench.queue.outcomes().await {
        let expected =
            if bad.contains(&question) { ("failed", Some(-50_003)) } else { ("succeeded", None) };
        assert_eq!((state.as_str(), code), expected, "{question}");
    }
}

#[tokio::test]
async fn garbled_response_is_transient() {
    let bench = Bench::new("a enable").await;
    let garbled = deskbatch::desk::Response {
        kind: ResponseKind::Unreadable,
        info: "cut off".to_owned(),
        http_status: Some(200),
        retry_after: None,
    };
    bench.service.responds_with([Step::Say(garbled), Step::Say(ok())]);
    let report = bench.run().await;
    assert_eq!((report.totals.transient, report.totals.succeeded), (1, 1));
}
