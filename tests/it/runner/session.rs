//! Responses about the caller: expired UserSigs, and rejections that end the run.

use std::time::Duration;

use deskbatch::domain::job::TargetStatus;
use deskbatch::domain::verdict::ResponseKind;
use deskbatch::queue::RunEnding;
use deskbatch::runner::Totals;

use crate::support::manifest::many;
use crate::support::service::{Bench, Step, code, ok};

/// A rejection that takes long enough for a new UserSig to differ from the old one.
fn expired() -> Step {
    Step::After(Duration::from_secs(2), code(70_001))
}

#[tokio::test]
async fn expired_usersig_is_renewed_and_chunk_resent() {
    let bench = Bench::new("a enable, b delete").await;
    bench.service.responds_with([expired(), ok().into(), ok().into()]);
    let report = bench.run().await;
    assert_eq!(report.ending, RunEnding::Drained);
    assert_eq!(report.totals, Totals { requests: 3, succeeded: 2, ..Totals::default() });
    let seen = bench.service.seen();
    assert_eq!((&seen[0].ids, seen[0].usersig == seen[1].usersig), (&seen[1].ids, false));
    assert_eq!(seen[1].usersig, seen[2].usersig);
    assert!(bench.queue.job("a").await.contains("attempts=1 "), "it costs no attempt");
}

#[tokio::test]
async fn rejected_renewed_usersig_leaves_all_pending() {
    let bench = Bench::new(&many(300, TargetStatus::Delete)).await;
    bench.service.responds_with([expired(), expired()]);
    let report = bench.run().await;
    assert_eq!((report.ending, report.totals.requests), (RunEnding::Rejected, 2));
    assert_eq!(report.last_error, Some((ResponseKind::Code(70_001), "text of 70001".to_owned())));
    assert_eq!(bench.queue.state_counts().await, "pending 300");
    assert_eq!(bench.queue.job("q0001").await, "pending request=3");
}

#[tokio::test]
async fn usersig_is_renewed_again_after_accepted_request() {
    let bench = Bench::new("a enable, b disable, c delete").await;
    bench.service.responds_with([
        expired(),
        ok().into(),
        expired(),
        ok().into(),
        expired(),
        ok().into(),
    ]);
    let report = bench.run().await;
    assert_eq!((report.ending, report.totals.succeeded), (RunEnding::Drained, 3));
}

#[tokio::test]
async fn response_to_old_usersig_does_not_confirm_renewal() {
    let mut bench = Bench::new(&many(60, TargetStatus::Enable)).await;
    (bench.settings.chunk_jobs_max, bench.settings.in_flight_max) = (10, 3);
    let hold = |reply| Step::Hold(reply);
    bench.service.responds_with([ok().into(), hold(code(70_001)), hold(code(70_001)), hold(ok())]);
    bench.service.responds_by(|_| Step::Hold(code(70_001)));
    let service = &bench.service;
    let report = bench
        .run_while(async {
            service.arrived(4).await;
            // Two rejections of the same old UserSig are one reason to renew it.
            service.let_go(4);
            service.arrived(5).await;
            service.let_go(9);
        })
        .await;
    assert_eq!((report.ending, report.totals.requests), (RunEnding::Rejected, 5));
    assert_eq!(report.totals.succeeded, 20);
    assert_eq!(bench.queue.state_counts().await, "pending 40, succeeded 20");
}

#[tokio::test]
async fn rejected_given_usersig_ends_run_at_once() {
    let mut bench = Bench::new(&many(300, TargetStatus::Enable)).await;
    bench.ready_made = true;
    bench.settings.in_flight_max = 4;
    bench.service.responds_with([code(70_001)]);
    let report = bench.run().await;
    assert_eq!((report.ending, report.totals.requests), (RunEnding::Rejected, 1));
    assert_eq!(bench.service.seen()[0].usersig, "a-usersig");
    assert_eq!(bench.queue.state_counts().await, "pending 300");
}

#[tokio::test]
async fn caller_rejection_ends_run_after_one_request() {
    for refusal in [-50_040, -20, 60_006, 60_021, 70_009, 70_050, 60_002] {
        let mut bench = Bench::new(&many(300, TargetStatus::Delete)).await;
        bench.settings.in_flight_max = 4;
        bench.service.responds_with([code(refusal)]);
        let report = bench.run().await;
        assert_eq!((report.ending, report.totals.requests), (RunEnding::Rejected, 1), "{refusal}");
        assert_eq!(report.last_error.unwrap().0, ResponseKind::Code(refusal));
        assert_eq!(bench.queue.state_counts().await, "pending 300");
        assert_eq!(
            bench.queue.figure("SELECT sum(attempts) FROM jobs WHERE batch_id = 3").await,
            0
        );
        assert_eq!(bench.queue.job("q0001").await, "pending request=2");
    }
}

#[tokio::test]
async fn stop_code_settles_other_requests_in_flight() {
    let mut bench = Bench::new(&many(100, TargetStatus::Enable)).await;
    (bench.settings.chunk_jobs_max, bench.settings.in_flight_max) = (10, 3);
    bench.service.responds_with([
        ok().into(),
        Step::Hold(code(60_016)),
        Step::Hold(ok()),
        Step::Hold(code(-50_003)),
    ]);
    let service = &bench.service;
    let report = bench
        .run_while(async {
            service.arrived(4).await;
            service.let_go(3);
        })
        .await;
    assert_eq!((report.ending, report.totals.requests), (RunEnding::Rejected, 4));
    assert_eq!(bench.queue.state_counts().await, "pending 80, succeeded 20");
    assert_eq!(
        bench.queue.figure("SELECT count(*) FROM jobs WHERE reserved_by_run_id IS NOT NULL").await,
        0
    );
    let unsettled = "SELECT count(*) FROM requests WHERE verdict IS NULL";
    assert_eq!(bench.queue.figure(unsettled).await, 0);
}
