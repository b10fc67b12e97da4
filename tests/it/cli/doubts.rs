//! Jobs in doubt and jobs not done are reported alike by every command.

use std::time::Duration;

use rustix::process::Signal;

use crate::support::binary::{Going, ends, has, sandbox, sandbox_with};
use crate::support::place::{Place, data, manifest, question, said};

#[tokio::test(flavor = "multi_thread")]
async fn cancelled_in_flight_is_said_to_be_in_doubt() {
    let sandbox = sandbox_with(|s| {
        s.script = Some("cut-after,late".parse().unwrap());
        s.late_delay = Duration::from_hours(1);
    })
    .await;
    let place = Place::new();
    place.write("jobs.csv", manifest([(question("a").as_str(), "6")]));
    let run = Going::start(place.fast(&sandbox, &["run", "jobs.csv", "--yes"]));
    sandbox.seen(2).await;
    run.signal(Signal::KILL);
    drop(run);
    let cancelled = said(&ends(place.deskbatch(&["cancel", "--batch", "1"]), 0));
    has(&cancelled, &["0 pending jobs of batch 1 cancelled", "1 job in flight not cancelled"]);
    let next = said(&ends(place.fast(&sandbox, &["run", "--yes"]), 0));
    has(
        &next,
        &[
            "1 job had no response when an earlier run ended: in doubt, and cancelled or superseded since",
        ],
    );
    has(
        &next,
        &["in doubt, and cancelled or superseded since", "nothing to do", "1 job is in doubt"],
    );
    assert!(!next.contains("set back to pending"), "{next}");
    let status = place.status();
    let figures = ["cancelled", "in_doubt", "responses_lost"].map(|key| status[key].as_u64());
    assert_eq!(figures, [Some(1), Some(1), Some(2)]);
    let text = data(&ends(place.deskbatch(&["status"]), 0));
    has(&text, &["1: 1 cancelled", "2 lost responses", "in doubt   1 job is in doubt"]);
    for only in ["in-doubt", "response-lost", "cancelled"] {
        let rows = place.report(&["--state", only]);
        assert_eq!(rows.len(), 1, "{only}");
        assert_eq!((rows[0]["state"].as_str(), rows[0]["in_doubt"].as_str()), ("cancelled", "1"));
    }
    let nothing = said(&ends(place.fast(&sandbox, &["run"]), 0));
    has(&nothing, &["nothing to do", "1 job is in doubt"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn cancel_says_how_many_are_in_doubt() {
    let sandbox = sandbox_with(|s| s.script = Some("cut-after*50".parse().unwrap())).await;
    let place = Place::new();
    let ids = ["a", "b"].map(question);
    place.write("jobs.csv", manifest(ids.iter().map(|id| (id.as_str(), "4"))));
    ends(place.fast(&sandbox, &["run", "jobs.csv", "--outage-timeout", "1s"]), 3);
    let cancelled = said(&ends(place.deskbatch(&["cancel", "--batch", "1"]), 0));
    has(&cancelled, &["2 pending jobs of batch 1 cancelled", "2 of them are in doubt"]);
    has(&cancelled, &["report --state in-doubt"]);
    assert_eq!(place.report(&["--state", "in-doubt"]).len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn deletes_of_killed_run_succeed_when_repeated() {
    let sandbox = sandbox_with(|s| {
        s.script = Some("late".parse().unwrap());
        s.late_delay = Duration::from_hours(1);
    })
    .await;
    let place = Place::new();
    let ids = ["a", "b", "c", "d"].map(question);
    place.write("cleanup.csv", manifest(ids.iter().map(|id| (id.as_str(), "delete"))));
    let nightly = ["run", "cleanup.csv", "--reimport", "--yes"];
    let run = Going::start(place.fast(&sandbox, &nightly));
    sandbox.seen(1).await;
    run.signal(Signal::KILL);
    drop(run);
    assert_eq!(place.counts(), [0, 4, 0, 0, 0, 0]);
    // The service has deleted the questions, and responds -50003 to every request for them.
    let text = said(&ends(place.fast(&sandbox, &nightly), 0));
    has(&text, &["4 jobs had no response when an earlier run ended: in doubt"]);
    has(&text, &["set back to pending", "Finished: 4 succeeded."]);
    assert_eq!(place.counts(), [0, 0, 4, 0, 0, 4]);
    let status = place.status();
    let figures = ["succeeded_in_doubt", "in_doubt"].map(|key| status[key].as_u64());
    assert_eq!(figures, [Some(4), Some(0)], "{status}");
    let applied = sandbox.ledger().requests.iter().filter(|request| request.applied).count();
    assert_eq!(applied, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn confirmed_job_is_not_in_doubt() {
    let sandbox = sandbox_with(|s| s.script = Some("cut-after,ok".parse().unwrap())).await;
    let place = Place::new();
    place.write("jobs.csv", manifest([(question("a").as_str(), "4")]));
    ends(place.fast(&sandbox, &["run", "jobs.csv"]), 0);
    assert_eq!(place.report(&["--state", "in-doubt"]).len(), 0);
    let rows = place.report(&["--state", "response-lost"]);
    assert_eq!((rows.len(), rows[0]["in_doubt"].as_str()), (1, "0"));
    let text = data(&ends(place.deskbatch(&["status"]), 0));
    assert!(text.contains("1 lost response)") && !text.contains("in doubt"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn summary_has_one_figure_of_failures() {
    let (place, sandbox) = (Place::new(), sandbox().await);
    let ids = ["missing1", "missing2", "missing3"].map(question);
    place.write("jobs.csv", manifest(ids.iter().map(|id| (id.as_str(), "4"))));
    let one = ["run", "jobs.csv", "--chunk", "1", "--max-in-flight", "1", "--max-failures", "1"];
    ends(place.fast(&sandbox, &one), 3);
    let text = said(&ends(place.fast(&sandbox, &["run"]), 1));
    has(&text, &["Finished: 0 succeeded, 2 failed, 1 failed in an earlier run.", "failed      2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn report_names_its_omitted_rows() {
    let (place, sandbox) = (Place::new(), sandbox().await);
    let ids = ["missing1", "missing2"].map(question);
    place.write("1.csv", manifest(ids.iter().map(|id| (id.as_str(), "4"))));
    ends(place.fast(&sandbox, &["run", "1.csv"]), 1);
    place.write("2.csv", manifest([(ids[0].as_str(), "5")]));
    ends(place.fast(&sandbox, &["import", "2.csv"]), 0);
    let output = ends(place.deskbatch(&["report", "--state", "failed"]), 0);
    has(&said(&output), &["1 failed job is not in the report", "--state failed-superseded"]);
    let rows = place.report(&["--state", "failed-superseded"]);
    assert_eq!((rows.len(), rows[0]["question_id"].as_str()), (1, ids[0].as_str()));
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelled_manifest_is_not_finished() {
    let (place, sandbox) = (Place::new(), sandbox().await);
    let ids = ["a", "b"].map(question);
    place.write("jobs.csv", manifest(ids.iter().map(|id| (id.as_str(), "4"))));
    ends(place.fast(&sandbox, &["import", "jobs.csv"]), 0);
    ends(place.deskbatch(&["cancel", "--batch", "1"]), 0);
    for command in ["run", "import"] {
        let text = said(&ends(place.fast(&sandbox, &[command, "jobs.csv"]), 1));
        has(&text, &["as batch 1, which is not complete: 2 cancelled", "--reimport"]);
    }
    let plan = data(&ends(place.fast(&sandbox, &["plan", "jobs.csv"]), 0));
    has(&plan, &["was imported before as batch 1, which is not complete (2 cancelled)"]);
    let text = data(&ends(place.deskbatch(&["status"]), 0));
    has(&text, &["cancelled  imported"]);
    assert_eq!(place.status()["batches"][0]["cancelled"], 2);
    let retried = said(&ends(place.deskbatch(&["retry"]), 0));
    has(&retried, &["2 cancelled jobs skipped: ", "deskbatch import FILE --reimport"]);
    ends(place.fast(&sandbox, &["run", "jobs.csv", "--reimport"]), 0);
    ends(place.fast(&sandbox, &["run", "jobs.csv"]), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn superseded_manifest_is_not_finished() {
    let (place, sandbox) = (Place::new(), sandbox().await);
    let id = question("a");
    place.write("a.csv", manifest([(id.as_str(), "5")]));
    place.write("b.csv", manifest([(id.as_str(), "4")]));
    place.write("other.csv", manifest([(question("c").as_str(), "4")]));
    for file in ["a.csv", "a.csv", "b.csv"] {
        ends(place.fast(&sandbox, &["run", file]), 0);
    }
    let text = said(&ends(place.fast(&sandbox, &["run", "a.csv"]), 1));
    has(&text, &["is not complete: 1 superseded by a later import"]);
    // Also when the run has other jobs to send.
    ends(place.fast(&sandbox, &["import", "other.csv"]), 0);
    let text = said(&ends(place.fast(&sandbox, &["run", "a.csv"]), 1));
    has(&text, &["succeeded   1", "is not complete: 1 superseded by a later import"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn queue_of_another_service_is_refused() {
    let (place, first, second) = (Place::new(), sandbox().await, sandbox().await);
    place.write("jobs.csv", manifest([(question("a").as_str(), "4")]));
    ends(place.fast(&first, &["run", "jobs.csv"]), 0);
    let text = said(&ends(place.fast(&second, &["run", "jobs.csv"]), 2));
    has(&text, &["were sent to 127.0.0.1:", "--database", "--same-service"]);
    let text = said(&ends(place.fast(&second, &["plan", "jobs.csv"]), 0));
    has(&text, &["a run of this plan would end with exit code 2: ", "were sent to 127.0.0.1:"]);
    assert_eq!(second.ledger().total, 0);
    let again = ["run", "jobs.csv", "--reimport", "--same-service"];
    ends(place.fast(&second, &again), 0);
    assert_eq!(second.ledger().total, 1);
    // The queue belongs to the second service now.
    ends(place.fast(&second, &["run", "jobs.csv"]), 0);
    ends(place.fast(&first, &["run", "jobs.csv"]), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn unreached_service_binds_no_queue() {
    let (place, wrong, right) = (Place::new(), sandbox().await, sandbox().await);
    place.write("jobs.csv", manifest([(question("a").as_str(), "4")]));
    let mut refused = place.fast(&wrong, &["run", "jobs.csv"]);
    refused.env("DESKBATCH_SECRET_KEY", "another key");
    ends(refused, 4);
    ends(place.fast(&right, &["run", "jobs.csv"]), 0);
}
