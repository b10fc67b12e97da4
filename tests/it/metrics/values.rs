//! The metrics match the queue after real runs against the sandbox.

#![allow(clippy::float_cmp, reason = "a value is told exactly or it is wrong")]

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use deskbatch::domain::job::JobState;
use deskbatch::metrics;
use deskbatch::queue::Queue;
use deskbatch::sandbox::SANDBOX_SDKAPPID;
use rustix::process::Signal;

use crate::support::binary::{Going, ends, sandbox, sandbox_with};
use crate::support::metrics::{Metrics, has_promtool, number, promtool};
use crate::support::place::{Place, manifest, question};
use crate::support::queue::TestQueue;

/// A manifest of `count` questions whose names begin with `name`.
fn asking(count: usize, name: &str, status: &str) -> String {
    let ids: Vec<String> = (0..count).map(|n| question(&format!("{name}{n}"))).collect();
    manifest(ids.iter().map(|id| (id.as_str(), status)))
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_agree_with_status_and_report() {
    let (place, sandbox) = (Place::new(), sandbox().await);
    let (good, bad) = (asking(120, "a", "disable"), asking(3, "missing", "enable"));
    let preset = asking(2, "preset", "delete");
    let rows = [&bad, &preset].map(|text| text.split_once('\n').unwrap().1).concat();
    place.write("jobs.csv", format!("{good}{rows}"));
    place.write("left.csv", asking(7, "b", "delete"));
    place.write("cancelled.csv", asking(4, "c", "enable"));
    ends(place.fast(&sandbox, &["run", "jobs.csv", "--yes", "--chunk", "10"]), 1);
    ends(place.fast(&sandbox, &["import", "left.csv"]), 0);
    ends(place.fast(&sandbox, &["import", "cancelled.csv"]), 0);
    ends(place.deskbatch(&["cancel", "--batch", "3"]), 0);

    let metrics = Metrics::of(&place.path("deskbatch.db")).await;
    let mut jobs = BTreeMap::<(String, String), u64>::new();
    let mut codes = BTreeMap::<String, u64>::new();
    for row in place.report(&[]) {
        *jobs.entry((row["status"].clone(), row["state"].clone())).or_default() += 1;
        if row["state"] == "failed" {
            *codes.entry(row["error_code"].clone()).or_default() += 1;
        }
    }
    assert_eq!(jobs.len(), 5, "{jobs:?}");
    for (number_of, status) in [("4", "enable"), ("5", "disable"), ("6", "delete")] {
        for state in JobState::ALL {
            let count =
                [number_of, status].map(|s| jobs.get(&(s.to_owned(), state.name().to_owned())));
            let count = count.into_iter().flatten().sum();
            let labels = [("status", status), ("state", state.name())];
            assert_eq!(metrics.one("deskbatch_jobs", &labels), number(count), "{labels:?}");
        }
    }
    assert_eq!(codes.keys().collect::<Vec<_>>(), ["-50003", "-50011"]);
    for (code, count) in &codes {
        assert_eq!(metrics.one("deskbatch_failed_jobs", &[("code", code)]), number(*count));
    }
    let status = place.status();
    assert_eq!(metrics.sum("deskbatch_requests_total", &[]), number(sandbox.ledger().total));
    let run = &status["last_run"];
    assert_eq!(number(run["requests"].as_u64().unwrap()), number(sandbox.ledger().total));
    let applied = [("verdict", "applied")];
    assert_eq!(metrics.one("deskbatch_request_jobs_total", &applied), 120.0);
    assert!(metrics.one("deskbatch_requests_total", &[("verdict", "rejected")]) >= 2.0);
    assert_eq!(
        metrics.one("deskbatch_request_duration_seconds_count", &[]),
        number(sandbox.ledger().total)
    );
    let ms = |key: &str| run[key].as_f64().unwrap() / 1_000.0;
    assert_eq!(metrics.one("deskbatch_last_run_start_timestamp_seconds", &[]), ms("started_ms"));
    assert_eq!(metrics.one("deskbatch_last_run_end_timestamp_seconds", &[]), ms("finished_ms"));
    assert_eq!(metrics.values("deskbatch_last_run_ending", "ending"), ["drained"]);
    assert_eq!(metrics.one("deskbatch_run_active", &[]), 0.0);
    let responded = metrics.one("deskbatch_last_response_timestamp_seconds", &[]);
    assert!((ms("started_ms")..=ms("finished_ms")).contains(&responded));
    assert_eq!(metrics.one("deskbatch_unfinished_batches", &[]), 1.0);
    let imported = status["batches"][1]["created_ms"].as_f64().unwrap() / 1_000.0;
    assert_eq!(metrics.one("deskbatch_oldest_unfinished_job_timestamp_seconds", &[]), imported);
    let learned = status["learned_rates"][0]["rate"].as_f64().unwrap();
    let reported = metrics.one("deskbatch_learned_rate_requests_per_second", &[]);
    // The JSON parser can be off by one bit.
    assert!((reported - learned).abs() < 1e-9, "{reported} {learned}");
    assert_eq!(metrics.one("deskbatch_rate_limit_requests_per_second", &[]), 200.0);
    let size = fs::metadata(place.path("deskbatch.db")).unwrap().len();
    assert_eq!(metrics.one("deskbatch_queue_file_bytes", &[("file", "queue")]), number(size));
    let app = SANDBOX_SDKAPPID.to_string();
    assert!(metrics.values("deskbatch_jobs", "sdkappid").iter().all(|found| *found == app));
    let queue = place.path("deskbatch.db").canonicalize().unwrap().display().to_string();
    assert_eq!(metrics.values("deskbatch_build_info", "queue"), [queue]);
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_show_live_run_and_count_orphaned_request() {
    let sandbox = sandbox_with(|s| s.latency = Duration::from_hours(1)).await;
    let place = Place::new();
    place.write("jobs.csv", asking(30, "a", "enable"));
    let args = ["run", "jobs.csv", "--chunk", "10", "--max-in-flight", "1", "--timeout", "10m"];
    let mut going = Going::start(place.fast(&sandbox, &args));
    sandbox.seen(1).await;
    let metrics = Metrics::of(&place.path("deskbatch.db")).await;
    assert_eq!(metrics.one("deskbatch_run_active", &[]), 1.0);
    assert_eq!(metrics.one("deskbatch_requests_in_flight", &[]), 1.0);
    let flying = [("status", "enable"), ("state", "in_flight")];
    assert_eq!(metrics.one("deskbatch_jobs", &flying), 10.0);
    assert_eq!(metrics.one("deskbatch_unfinished_batches", &[]), 1.0);
    assert_eq!(metrics.sum("deskbatch_requests_total", &[]), 0.0);
    for absent in ["deskbatch_last_run_end_timestamp_seconds", "deskbatch_last_run_ending"] {
        assert_eq!(metrics.all(absent, &[]), [0.0; 0], "{absent}");
    }
    going.signal(Signal::KILL);
    going.waits();

    let quick = crate::support::binary::sandbox().await;
    ends(place.fast(&quick, &["run", "--same-service"]), 0);
    let metrics = Metrics::of(&place.path("deskbatch.db")).await;
    assert_eq!(metrics.one("deskbatch_run_active", &[]), 0.0);
    assert_eq!(metrics.one("deskbatch_requests_total", &[("verdict", "orphaned")]), 1.0);
    assert_eq!(metrics.one("deskbatch_request_jobs_total", &[("verdict", "orphaned")]), 10.0);
    // The duration of the orphaned request is unknown.
    let responded = number(quick.ledger().total);
    assert_eq!(metrics.one("deskbatch_request_duration_seconds_count", &[]), responded);
}

#[tokio::test(flavor = "multi_thread")]
async fn prune_keeps_counters_monotonic() {
    let sandbox = sandbox_with(|s| s.latency = Duration::from_millis(30)).await;
    let place = Place::new();
    let counters = |metrics: &Metrics| {
        ["applied", "rejected", "throttled"].map(|verdict| {
            let labels = [("verdict", verdict)];
            let names = ["deskbatch_requests_total", "deskbatch_request_jobs_total"];
            names.map(|name| metrics.one(name, &labels))
        })
    };
    let durations = |metrics: &Metrics| {
        ["bucket", "count", "sum"]
            .map(|part| metrics.all(&format!("deskbatch_request_duration_seconds_{part}"), &[]))
    };
    let queue = place.path("deskbatch.db");
    for round in ["a", "b", "c"] {
        let rows = [asking(20, round, "enable"), asking(1, &format!("missing{round}"), "enable")];
        place.write("jobs.csv", rows.concat().replace("\nquestion_id,status", ""));
        ends(place.fast(&sandbox, &["run", "jobs.csv", "--chunk", "5"]), 1);
        let before = Metrics::of(&queue).await;
        let requests = place.status()["requests"].as_u64().unwrap();
        ends(place.deskbatch(&["prune", "--older-than", "0s"]), 0);
        let after = Metrics::of(&queue).await;
        assert_eq!(counters(&after), counters(&before), "{round}");
        assert_eq!(durations(&after), durations(&before), "{round}");
        assert_eq!(after.sum("deskbatch_requests_total", &[]), number(sandbox.ledger().total));
        assert_eq!(after.sum("deskbatch_jobs", &[]), 0.0, "{round}");
        assert_eq!(after.all("deskbatch_failed_jobs", &[]), [0.0; 0]);
        // Only requests of the latest run are left in the queue.
        let left = place.status()["requests"].as_u64().unwrap();
        assert!(round == "a" || left < requests, "{left} of {requests}");
    }
}

#[tokio::test]
async fn unknown_codes_share_one_metric_series() {
    let queue = TestQueue::begun().await;
    queue.import("a enable, b enable, c enable, d enable").await;
    for code in [-50_003, 70_105, -99_999, 123_456] {
        queue.fail(&queue.claim(1).await, code).await;
    }
    let metrics = Metrics::read(&metrics::text(&queue, 5.0).await.unwrap());
    let mut codes = metrics.values("deskbatch_failed_jobs", "code");
    codes.sort_unstable();
    // The bystander's -1 is a listed code.
    assert_eq!(codes, ["-1", "-50003", "70105", "other"]);
    assert_eq!(metrics.one("deskbatch_failed_jobs", &[("code", "other")]), 2.0);
    // The other library of the same app has series of its own, with its own oldest job.
    let other = [("library", "faq"), ("status", "delete"), ("state", "pending")];
    assert_eq!(metrics.one("deskbatch_jobs", &other), 1.0);
    let oldest = "deskbatch_oldest_unfinished_job_timestamp_seconds";
    assert_eq!(metrics.one(oldest, &[("library", "faq")]), 0.001);
    // Reserved jobs and jobs that wait for their due time are pending too.
    let pending = [("library", "chitchat"), ("status", "enable"), ("state", "pending")];
    assert_eq!(metrics.one("deskbatch_jobs", &pending), 2.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn exposition_is_valid_for_any_queue_name() {
    let (place, sandbox) = (Place::new(), sandbox().await);
    place.write(
        "jobs.csv",
        format!("{}{}", asking(20, "a", "enable"), question("missing1") + ",4\n"),
    );
    for name in ["deskbatch.db", "a \"b\" \\ c.db"] {
        let mut command = place.fast(&sandbox, &["run", "jobs.csv", "--chunk", "5"]);
        command.args(["--database", name]);
        ends(command, 1);
        let queue = Queue::open_existing(&place.path(name)).await.unwrap();
        let text = metrics::text(&queue, 5.0).await.unwrap();
        assert!(
            text.contains("_bucket{") && text.contains("# TYPE deskbatch_requests_total counter")
        );
        if has_promtool() {
            promtool(place.folder.path(), &["check", "metrics"], &text);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn empty_queue_has_metrics() {
    let place = Place::new();
    let queue = Queue::open(&place.path("queue.db")).await.unwrap();
    let metrics = Metrics::read(&metrics::text(&queue, 5.0).await.unwrap());
    assert_eq!(metrics.one("deskbatch_build_info", &[("version", env!("CARGO_PKG_VERSION"))]), 1.0);
    assert_eq!(metrics.all("deskbatch_jobs", &[]), [0.0; 0]);
}
