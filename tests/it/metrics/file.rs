//! `--metrics-file` through the binary: what a run writes for the node_exporter, however the run ends.

#![allow(clippy::float_cmp, reason = "a value is told exactly or it is wrong")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::time::Duration;

use deskbatch::metrics;
use deskbatch::queue::Queue;
use deskbatch::sandbox::{SANDBOX_KEY, Sandbox};
use rustix::process::Signal;

use crate::support::binary::{Going, by_way_of, ends, has, sandbox, sandbox_with};
use crate::support::metrics::{Metrics, has_promtool, promtool};
use crate::support::place::{Place, manifest, question, said};

const CODE: &str = "deskbatch_last_run_exit_code";
const AT: &str = "deskbatch_last_run_exit_timestamp_seconds";
const SUCCESS: &str = "deskbatch_last_success_timestamp_seconds";

/// A run with `args` against `sandbox` that writes its metrics to `m.prom`.
fn run(place: &Place, sandbox: &Sandbox, args: &[&str]) -> Command {
    let mut command = place.fast(sandbox, &["run"]);
    command.args(args).env("DESKBATCH_METRICS_FILE", "m.prom");
    command
}

/// The same command with this umask.
fn with_umask(umask: &str, command: &Command) -> Command {
    by_way_of(&["sh", "-c", &format!("umask {umask}; exec \"$0\" \"$@\"")], command)
}

fn metrics(place: &Place) -> Metrics {
    Metrics::read(&place.read("m.prom"))
}

fn one_job(place: &Place, name: &str, id: &str) {
    place.write(name, manifest([(question(id).as_str(), "enable")]));
}

#[tokio::test(flavor = "multi_thread")]
async fn run_writes_complete_world_readable_metrics() {
    let (place, sandbox) = (Place::new(), sandbox().await);
    one_job(&place, "jobs.csv", "a");
    ends(with_umask("077", &run(&place, &sandbox, &["jobs.csv"])), 0);
    assert_eq!(place.files(), ["deskbatch.db", "deskbatch.db.lock", "jobs.csv", "m.prom"]);
    let mode = fs::metadata(place.path("m.prom")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o644);
    let text = place.read("m.prom");
    if has_promtool() {
        promtool(place.folder.path(), &["check", "metrics"], &text);
    }
    assert!(!text.contains(SANDBOX_KEY));
    // The rest is identical to the metrics of the queue from another process.
    let opened = Queue::open_existing(&place.path("deskbatch.db")).await.unwrap();
    let queue = metrics::text(&opened, 200.0).await.unwrap();
    assert!(text.starts_with(&queue), "{text}\n{queue}");
    let metrics = metrics(&place);
    assert_eq!(metrics.one(CODE, &[]), 0.0);
    assert_eq!(metrics.one(AT, &[]), metrics.one(SUCCESS, &[]));
    assert!(metrics.one(AT, &[]) >= metrics.one("deskbatch_last_run_end_timestamp_seconds", &[]));
    for name in [CODE, "deskbatch_build_info"] {
        assert_eq!(metrics.values(name, "queue"), [opened.path().display().to_string()]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_file_records_every_ending_and_last_success() {
    let (place, good) = (Place::new(), sandbox().await);
    one_job(&place, "good.csv", "a");
    ends(run(&place, &good, &["good.csv"]), 0);
    let success = metrics(&place).one(SUCCESS, &[]);

    one_job(&place, "bad.csv", "missing1");
    place.write("wrong.csv", "question_id,status\n,4\n");
    one_job(&place, "more.csv", "b");
    let mut at = success;
    let mut ended = |command: Command, code: i32| {
        ends(command, code);
        let metrics = metrics(&place);
        assert_eq!(metrics.one(CODE, &[]), f64::from(code));
        assert_eq!(metrics.one(SUCCESS, &[]), success, "{code}");
        assert!(metrics.one(AT, &[]) >= at, "{code}");
        at = metrics.one(AT, &[]);
        metrics
    };
    ended(run(&place, &good, &["bad.csv"]), 1);
    ended(run(&place, &good, &["wrong.csv"]), 2);
    let mut refused = run(&place, &good, &["more.csv"]);
    refused.env("DESKBATCH_SECRET_KEY", "another key");
    let metrics = ended(refused, 4);
    assert_eq!(metrics.values("deskbatch_last_run_ending", "ending"), ["rejected"]);
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut outage = run(&place, &good, &["--outage-timeout", "0s", "--same-service"]);
    outage.env("DESKBATCH_ENDPOINT", format!("http://{free}"));
    let metrics = ended(outage, 3);
    assert_eq!(metrics.values("deskbatch_last_run_ending", "ending"), ["outage"]);
    assert!(metrics.one("deskbatch_requests_total", &[("verdict", "transient")]) >= 1.0);

    // Without an account the run fails before it takes the lock, and that is no success.
    let mut refused_run = place.deskbatch(&["run", "--metrics-file", "m.prom"]);
    refused_run.env("DESKBATCH_RATE", "200");
    ended(refused_run, 2);

    ends(run(&place, &good, &[]), 0);
    let metrics = crate::metrics::file::metrics(&place);
    assert!(metrics.one(SUCCESS, &[]) > success);
    assert_eq!(metrics.one(CODE, &[]), 0.0);
    // A run with nothing to do is a success as well.
    ends(run(&place, &good, &[]), 0);
    assert!(self::metrics(&place).one(SUCCESS, &[]) > metrics.one(SUCCESS, &[]));
}

#[tokio::test(flavor = "multi_thread")]
async fn run_without_lock_keeps_metrics_of_live_run() {
    let sandbox = sandbox_with(|s| s.latency = Duration::from_hours(1)).await;
    let place = Place::new();
    one_job(&place, "jobs.csv", "a");
    let going = Going::start(run(
        &place,
        &sandbox,
        &["jobs.csv", "--grace-period", "0s", "--timeout", "10m"],
    ));
    sandbox.seen(1).await;
    assert_eq!(metrics(&place).all(CODE, &[]), [0.0; 0], "it has not ended");
    ends(run(&place, &sandbox, &[]), 5);
    // The same for a run that fails before it opens the queue, or is stopped while it waits for it.
    ends(run(&place, &sandbox, &["no-such.csv"]), 2);
    ends(with_umask("022", &run(&place, &sandbox, &["--sdkappid", "0"])), 2);
    let mut waits = Going::start(run(&place, &sandbox, &["--lock-timeout", "10m"]));
    waits.says("waiting for another run to end");
    waits.signal(Signal::TERM);
    waits.ends(3);
    // The active run may have written the file meanwhile, but without an exit code.
    assert_eq!(metrics(&place).all(CODE, &[]), [0.0; 0]);
    going.signal(Signal::TERM);
    going.ends(3);
    assert_eq!(metrics(&place).one(CODE, &[]), 3.0);
    assert_eq!(metrics(&place).one("deskbatch_run_active", &[]), 0.0);
    assert_eq!(metrics(&place).all(SUCCESS, &[]), [0.0; 0], "there was none");
}

#[tokio::test(flavor = "multi_thread")]
async fn unwritable_metrics_file_is_reported_once() {
    let (place, sandbox) = (Place::new(), sandbox().await);
    one_job(&place, "jobs.csv", "a");
    let args = ["jobs.csv", "--quiet", "--metrics-file", "no/such/folder/m.prom"];
    let talk = said(&ends(run(&place, &sandbox, &args), 0));
    has(&talk, &["no/such/folder/m.prom cannot be written: No such file", "The run continues"]);
    assert_eq!(talk.matches("cannot be written").count(), 1, "{talk}");
    assert_eq!(place.counts(), [0, 0, 1, 0, 0, 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_replace_metrics_alone_and_follow_links() {
    let (place, sandbox) = (Place::new(), sandbox().await);
    one_job(&place, "jobs.csv", "a");
    place.write("m.prom", "node_boot_time_seconds 1\n");
    let talk = said(&ends(run(&place, &sandbox, &["jobs.csv"]), 0));
    has(
        &talk,
        &[
            "the metrics file m.prom is not replaced: it is not a metrics file of deskbatch",
            "The run continues",
        ],
    );
    assert_eq!(place.read("m.prom"), "node_boot_time_seconds 1\n");
    fs::remove_file(place.path("m.prom")).unwrap();
    std::os::unix::fs::symlink("there.prom", place.path("m.prom")).unwrap();
    for _ in 0..2 {
        ends(run(&place, &sandbox, &[]), 0);
        assert!(fs::symlink_metadata(place.path("m.prom")).unwrap().is_symlink());
        has(&place.read("there.prom"), &["deskbatch_build_info"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_file_without_prom_suffix_exits_2() {
    let (place, sandbox) = (Place::new(), sandbox().await);
    one_job(&place, "jobs.csv", "a");
    let mut command = run(&place, &sandbox, &["jobs.csv"]);
    command.env("DESKBATCH_METRICS_FILE", "metrics.txt");
    let talk = said(&ends(command, 2));
    has(&talk, &["metrics_file: metrics.txt does not end in .prom", "name it e.g. deskbatch.prom"]);
    assert_eq!(place.files(), ["jobs.csv"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn sandbox_run_writes_its_own_metrics_file() {
    let place = Place::new();
    one_job(&place, "jobs.csv", "a");
    place.write("m.prom", "what the real run left\n");
    let args = ["run", "jobs.csv", "--sandbox", "--metrics-file", "m.prom"];
    ends(place.deskbatch(&args), 0);
    assert_eq!(place.read("m.prom"), "what the real run left\n");
    let rehearsed = Metrics::read(&place.read("m.prom.sandbox"));
    assert_eq!(rehearsed.one(CODE, &[]), 0.0);
    assert!(rehearsed.values(CODE, "queue")[0].ends_with("deskbatch.sandbox.db"));
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_file_has_exit_code_for_unreadable_queue() {
    let (place, sandbox) = (Place::new(), sandbox().await);
    one_job(&place, "jobs.csv", "a");
    let queue = place.write("deskbatch.db", "not a database, and long enough to be one".repeat(20));
    for (code, prepare) in [(2, None), (70, Some(()))] {
        let mut command = run(&place, &sandbox, &["jobs.csv"]);
        if prepare.is_some() {
            // A link to itself is no typing error.
            fs::remove_file(&queue).unwrap();
            std::os::unix::fs::symlink(&queue, &queue).unwrap();
        }
        command.env("DESKBATCH_LOG", "off");
        ends(command, code);
        let metrics = metrics(&place);
        assert_eq!(metrics.one(CODE, &[]), f64::from(code));
        assert_eq!(metrics.all("deskbatch_build_info", &[]), [0.0; 0]);
    }
}
