//! Isolating the bad ids in a rejected chunk, and concurrent changes to the queue.

use std::collections::BTreeMap;

use deskbatch::domain::job::TargetStatus;
use deskbatch::domain::verdict::ResponseKind;
use deskbatch::queue::RunEnding;
use deskbatch::runner::Totals;

use crate::support::manifest::many;
use crate::support::queue::NOW_MS;
use crate::support::service::{Bench, Step, code, ok};

#[tokio::test]
async fn isolation_fails_each_bad_id_with_its_own_code() {
    let mut bench = Bench::new(&many(1_000, TargetStatus::Enable)).await;
    bench.settings.in_flight_max = 4;
    let bad = [
        ("q0001", -50_003),
        ("q0002", -50_011),
        ("q0137", -50_003),
        ("q0138", -7),
        ("q0500", -50_011),
        ("q0999", 70_402),
        ("q1000", -50_003),
    ];
    bench.service.refuses(&bad);
    let report = bench.run().await;
    assert_eq!(report.ending, RunEnding::Drained);
    assert_eq!((report.totals.succeeded, report.totals.failed), (993, 7));
    let bad: BTreeMap<&str, i64> = bad.into_iter().collect();
    for (question, (state, code)) in bench.queue.outcomes().await {
        let own = bad.get(question.as_str()).copied();
        let expected = if own.is_some() { "failed" } else { "succeeded" };
        assert_eq!((state.as_str(), code), (expected, own), "{question}");
    }
    assert!(report.totals.requests < 100, "{}", report.totals.requests);
}

#[tokio::test]
async fn manifest_of_only_bad_ids_fails_completely() {
    let bench = Bench::new(&many(40, TargetStatus::Delete)).await;
    bench.service.responds_by(|_| code(-50_003));
    let report = bench.run().await;
    assert_eq!((report.ending, report.totals.failed), (RunEnding::Drained, 40));
    assert_eq!(bench.queue.state_counts().await, "failed 40");
}

#[tokio::test]
async fn too_many_ids_code_splits_chunk() {
    for refusal in [70_113, 70_206, -7] {
        let bench = Bench::new(&many(500, TargetStatus::Enable)).await;
        bench.service.responds_by(move |seen| code(if seen.ids.len() > 30 { refusal } else { 0 }));
        let report = bench.run().await;
        assert_eq!((report.totals.succeeded, report.totals.failed), (500, 0), "{refusal}");
        assert_eq!(bench.queue.state_counts().await, "succeeded 500");
        let refused = bench.service.chunks().iter().filter(|ids| ids.len() > 30).count();
        assert!(refused < 12, "{refused} chunks were too large");
    }
}

#[tokio::test]
async fn http_413_splits_chunk() {
    let bench = Bench::new(&many(200, TargetStatus::Enable)).await;
    bench.service.responds_by(|seen| {
        if seen.ids.len() > 30 { crate::support::service::http(413) } else { ok() }
    });
    let report = bench.run().await;
    assert_eq!((report.totals.succeeded, report.totals.failed), (200, 0));
}

#[tokio::test]
async fn single_id_limit_sends_ids_one_by_one() {
    let bench = Bench::new(&many(30, TargetStatus::Enable)).await;
    bench.service.responds_by(|seen| code(if seen.ids.len() > 1 { 70_113 } else { 0 }));
    let report = bench.run().await;
    assert_eq!((report.totals.succeeded, report.totals.failed), (30, 0));
}

#[tokio::test]
async fn unknown_code_for_every_delete_ends_the_run() {
    let mut bench = Bench::new(&many(500, TargetStatus::Delete)).await;
    bench.settings.in_flight_max = 4;
    bench.service.responds_by(|_| code(-99_999));
    let report = bench.run().await;
    assert_eq!(report.ending, RunEnding::Suspicious);
    assert_eq!(report.last_error, Some((ResponseKind::Code(-99_999), "text of -99999".to_owned())));
    assert!(report.totals.requests <= 8, "{}", report.totals.requests);
    assert_eq!(bench.queue.state_counts().await, "pending 500");
}

#[tokio::test]
async fn mixed_unknown_rejections_do_not_end_run() {
    let bench = Bench::new(&many(60, TargetStatus::Enable)).await;
    let mut requests = 0;
    bench.service.responds_by(move |seen| {
        requests += 1;
        let bad = seen.ids.iter().any(|id| id.ends_with('5'));
        code(if bad { -90_000 - requests % 2 } else { 0 })
    });
    let report = bench.run().await;
    assert_eq!(
        (report.ending, report.totals.failed, report.totals.succeeded),
        (RunEnding::Drained, 6, 54)
    );
}

#[tokio::test]
async fn disabled_rejection_limit_lets_run_drain() {
    let mut bench = Bench::new(&many(25, TargetStatus::Enable)).await;
    bench.settings.rejections_max = 0;
    bench.service.responds_by(|_| code(-99_999));
    let report = bench.run().await;
    assert_eq!((report.ending, report.totals.failed), (RunEnding::Drained, 25));
}

#[tokio::test]
async fn known_rejections_never_end_run() {
    let bench = Bench::new(&many(30, TargetStatus::Enable)).await;
    bench.service.responds_by(|_| code(-50_011));
    let report = bench.run().await;
    assert_eq!((report.ending, report.totals.failed), (RunEnding::Drained, 30));
}

/// Runs ten jobs of which `q0003` is bad, and changes the queue while the second group is in flight.
/// Returns the outcome of each job.
async fn disturbed(disturb: impl AsyncFnOnce(&Bench)) -> (Totals, String) {
    let bench = Bench::new(&many(10, TargetStatus::Delete)).await;
    bench.service.responds_with([Step::Say(code(-50_003)), Step::Hold(code(-50_003))]);
    bench.service.refuses(&[("q0003", -50_003)]);
    let report = bench
        .run_while(async {
            bench.service.arrived(2).await;
            assert!(bench.service.chunks()[1].contains(&"q0003".to_owned()));
            disturb(&bench).await;
            bench.service.let_go(1);
        })
        .await;
    assert_eq!(report.ending, RunEnding::Drained);
    let left =
        "SELECT count(*) FROM jobs WHERE reserved_by_run_id IS NOT NULL OR state = 'in_flight'";
    assert_eq!(bench.queue.figure(left).await, 0);
    (report.totals, bench.queue.state_counts().await)
}

#[tokio::test]
async fn cancel_during_isolation_cancels_every_job() {
    let (totals, state_counts) = disturbed(async |bench| {
        let cancelled = bench.queue.cancel_batch(3, NOW_MS).await.unwrap();
        let cancelled = cancelled.map(|done| (done.pending, done.in_flight));
        assert_eq!(cancelled, Some((5, 5)), "what is not in flight, held jobs too");
    })
    .await;
    assert_eq!(state_counts, "cancelled 10");
    assert_eq!((totals.requests, totals.withdrawn), (2, 5));
}

#[tokio::test]
async fn import_during_isolation_removes_its_questions() {
    let (totals, state_counts) = disturbed(async |bench| {
        // A question in flight, the bad one, and one that is reserved for its group.
        bench.queue.import("q0001 enable, q0003 enable, q0009 enable").await;
    })
    .await;
    assert_eq!(state_counts, "failed 1, succeeded 9, superseded 3");
    assert_eq!((totals.succeeded, totals.failed), (9, 1));
}

#[tokio::test]
async fn import_superseding_all_suspects_fails_no_job() {
    let bench = Bench::new(&many(10, TargetStatus::Delete)).await;
    bench.service.responds_with([Step::Say(code(-50_003)), Step::Hold(ok())]);
    bench.service.responds_by(|_| ok());
    let report = bench
        .run_while(async {
            bench.service.arrived(2).await;
            let asked = bench.service.chunks()[1].clone();
            let rest = (1..=10).map(|n| format!("q{n:04}")).filter(|id| !asked.contains(id));
            let newer: Vec<String> = rest.map(|id| format!("{id} enable")).collect();
            bench.queue.import(&newer.join(", ")).await;
            bench.service.let_go(1);
        })
        .await;
    assert_eq!((report.ending, report.totals.failed), (RunEnding::Drained, 0));
    assert_eq!(bench.queue.state_counts().await, "succeeded 10, superseded 5");
}

#[tokio::test]
async fn faults_during_isolation_lose_no_job() {
    let mut bench = Bench::new(&many(100, TargetStatus::Enable)).await;
    bench.settings.in_flight_max = 3;
    let mut requests = 0;
    bench.service.responds_by(move |seen| {
        requests += 1;
        let bad = seen.ids.iter().any(|id| ["q0033", "q0034", "q0077"].contains(&id.as_str()));
        code(match requests % 4 {
            2 => -14,
            3 => 60_008,
            _ if bad => -50_003,
            _ => 0,
        })
    });
    let report = bench.run().await;
    assert_eq!(
        (report.ending, report.totals.failed, report.totals.succeeded),
        (RunEnding::Drained, 3, 97)
    );
    let outcomes = bench.queue.outcomes().await;
    assert!(
        ["q0033", "q0034", "q0077"].iter().all(|id| outcomes[*id].0 == "failed"),
        "{outcomes:?}"
    );
}
