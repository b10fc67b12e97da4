//! The exit codes of a run through the binary. Cron jobs depend on them.

use std::process::Stdio;
use std::time::Duration;

use deskbatch::desk::make_usersig;
use deskbatch::sandbox::{SANDBOX_IDENTIFIER, SANDBOX_KEY, SANDBOX_SDKAPPID, SandboxSettings};
use rustix::process::Signal;
use secrecy::{ExposeSecret as _, SecretString};

use crate::support::binary::{Going, ends, has, sandbox, sandbox_with};
use crate::support::place::{Place, manifest, question, said};

/// `count` questions to be enabled.
fn enabling(count: usize) -> String {
    let ids: Vec<String> = (0..count).map(|n| question(&format!("q{n}"))).collect();
    manifest(ids.iter().map(|id| (id.as_str(), "enable")))
}

#[tokio::test(flavor = "multi_thread")]
async fn drained_run_and_empty_run_exit_0() {
    let (place, sandbox) = (Place::new(), sandbox().await);
    place.write("jobs.csv", enabling(3));
    has(&said(&ends(place.fast(&sandbox, &["run", "jobs.csv"]), 0)), &["Finished: 3 succeeded."]);
    assert_eq!(place.counts(), [0, 0, 3, 0, 0, 0]);
    for args in [&["run", "jobs.csv"][..], &["run"]] {
        has(&said(&ends(place.fast(&sandbox, args), 0)), &["nothing to do"]);
    }
    assert_eq!(sandbox.ledger().total, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn header_only_manifest_exits_0_without_batch() {
    let (place, sandbox) = (Place::new(), sandbox().await);
    place.write("jobs.csv", "question_id,status\n");
    let text = said(&ends(place.fast(&sandbox, &["run", "jobs.csv"]), 0));
    has(&text, &["jobs.csv has no rows to import"]);
    assert_eq!(place.status()["batches"], serde_json::json!([]));
    assert_eq!(sandbox.ledger().total, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn quiet_prints_only_failures() {
    let (place, sandbox) = (Place::new(), sandbox().await);
    place.write("good.csv", enabling(3));
    assert_eq!(said(&ends(place.fast(&sandbox, &["run", "good.csv", "--quiet"]), 0)), "");
    place.write("bad.csv", manifest([(question("missing1").as_str(), "5")]));
    let output = ends(place.fast(&sandbox, &["run", "bad.csv", "--quiet"]), 1);
    has(&said(&output), &["Finished: 0 succeeded, 1 failed.", "-50003"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn rejected_jobs_exit_1_and_are_listed_with_reason() {
    let (place, sandbox) = (Place::new(), sandbox().await);
    let (good, bad) = (question("good"), question("missing1"));
    place.write("jobs.csv", manifest([(good.as_str(), "4"), (bad.as_str(), "4")]));
    let output = ends(place.fast(&sandbox, &["run", "jobs.csv"]), 1);
    has(&said(&output), &[&bad, "-50003", "no question has this id", "report --state failed"]);
    assert_eq!(place.counts(), [0, 0, 1, 1, 0, 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn signal_exits_3_and_next_run_finishes() {
    let sandbox = sandbox_with(|s| s.latency = Duration::from_millis(100)).await;
    let place = Place::new();
    place.write("jobs.csv", enabling(200));
    let run = Going::start(place.fast(&sandbox, &["run", "jobs.csv", "--chunk", "1"]));
    sandbox.seen(3).await;
    run.signal(Signal::TERM);
    has(&run.ends(3), &["Stopped by a signal.", "stay pending", "deskbatch run"]);
    let [pending, in_flight, succeeded, ..] = place.counts();
    assert_eq!((in_flight, succeeded), (0, sandbox.ledger().total));
    assert_eq!(pending, 200 - succeeded);
    ends(place.fast(&sandbox, &["run"]), 0);
    assert_eq!(place.counts(), [0, 0, 200, 0, 0, 0]);
}

/// The service rejects the account: one request, exit 4, all jobs pending.
async fn refused(change: impl FnOnce(&mut SandboxSettings), env: (&str, &str), parts: &[&str]) {
    let (place, sandbox) = (Place::new(), sandbox_with(change).await);
    place.write("jobs.csv", enabling(500));
    let mut command = place.fast(&sandbox, &["run", "jobs.csv"]);
    command.env(env.0, env.1);
    has(&said(&ends(command, 4)), parts);
    assert_eq!(sandbox.ledger().total, 1);
    assert_eq!(place.counts(), [500, 0, 0, 0, 0, 0]);
    assert!(place.report(&[]).iter().all(|row| row["error_code"].is_empty()));
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_key_exits_4_and_leaves_all_pending() {
    let wrong = ("DESKBATCH_SECRET_KEY", "another key");
    refused(|_| {}, wrong, &["70009", "What to do: check DESKBATCH_SECRET_KEY"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn app_without_desk_exits_4_and_leaves_all_pending() {
    let off = |s: &mut SandboxSettings| s.desk_off.extend([SANDBOX_SDKAPPID]);
    refused(off, ("DESKBATCH_CHUNK", "10"), &["-50040", "What to do: activate Desk"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn non_admin_identifier_exits_4_after_one_request() {
    let other = ("DESKBATCH_IDENTIFIER", "somebody");
    refused(|_| {}, other, &["60010", "What to do: check the identifier"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn expired_given_usersig_exits_4_with_remedy() {
    let (place, sandbox) = (Place::new(), sandbox().await);
    place.write("jobs.csv", enabling(3));
    let key = SecretString::from(SANDBOX_KEY);
    let old = make_usersig(SANDBOX_IDENTIFIER, SANDBOX_SDKAPPID, &key, 1_700_000_000, 600);
    let mut command = place.fast(&sandbox, &["run", "jobs.csv"]);
    command.env_remove("DESKBATCH_SECRET_KEY").env("DESKBATCH_USERSIG", old.expose_secret());
    has(&said(&ends(command, 4)), &["70001", "set DESKBATCH_USERSIG to a new one"]);
    assert_eq!(sandbox.ledger().total, 1);
    assert_eq!(place.counts(), [3, 0, 0, 0, 0, 0]);
}

#[test]
fn outage_exits_3_and_leaves_all_pending() {
    let place = Place::new();
    place.write("jobs.csv", enabling(3));
    // No program listens on this port any more.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut command = place.deskbatch(&["run", "jobs.csv", "--outage-timeout", "0s"]);
    command
        .args(["--sdkappid", "1400000000", "--identifier", "administrator"])
        .env("DESKBATCH_ENDPOINT", format!("http://{free}"))
        .env("DESKBATCH_SECRET_KEY", SANDBOX_KEY);
    let text = said(&ends(command, 3));
    has(&text, &["Stopped: no request succeeded within --outage-timeout.", "pending     3"]);
    assert_eq!(place.counts(), [3, 0, 0, 0, 0, 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn second_run_exits_5_and_names_the_first() {
    let sandbox = sandbox_with(|s| s.latency = Duration::from_hours(1)).await;
    let place = Place::new();
    place.write("jobs.csv", enabling(3));
    place.write("more.csv", manifest([(question("more").as_str(), "6")]));
    let first = Going::start(place.fast(&sandbox, &["run", "jobs.csv"]));
    sandbox.seen(1).await;
    let host = gethostname::gethostname().into_string().unwrap();
    let holder = format!("process {} on {host}, since 2", first.pid());
    for args in [&["run"][..], &["run", "more.csv", "--yes"], &["run", "more.csv"]] {
        has(
            &said(&ends(place.fast(&sandbox, args), 5)),
            &["another run holds the lock of this queue", &holder],
        );
    }
    assert_eq!(place.status()["total"], 3);
    assert_eq!(sandbox.ledger().total, 1);
    // Commands that change the queue without sending work during a run.
    ends(place.fast(&sandbox, &["import", "more.csv"]), 0);
    assert_eq!(place.status()["total"], 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn queue_creation_failure_exits_2_and_names_path() {
    let (place, sandbox) = (Place::new(), sandbox().await);
    place.write("jobs.csv", enabling(1));
    // No folder can exist below a file. A missing permission would not stop root.
    for args in [&["run", "jobs.csv"][..], &["import", "jobs.csv"], &["status"]] {
        let mut command = place.fast(&sandbox, args);
        command.args(["--database", "jobs.csv/queue.db"]);
        has(
            &said(&ends(command, 2)),
            &["cannot open the queue file jobs.csv/queue.db", "Not a directory", "--database"],
        );
    }
    assert_eq!(sandbox.ledger().total, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn unwritable_report_names_file_and_exits_2_or_70() {
    let (place, sandbox) = (Place::new(), sandbox().await);
    place.write("jobs.csv", enabling(1));
    ends(place.fast(&sandbox, &["import", "jobs.csv"]), 0);
    for (path, code, reason) in [
        ("no/such/folder/r.csv", 2, "No such file"),
        (".", 2, "directory"),
        ("/dev/full", 70, "No space"),
    ] {
        let output = ends(place.deskbatch(&["report", "-o", path]), code);
        has(&said(&output), &[&format!("cannot write {path}: "), reason]);
    }
    for args in [&["report"][..], &["report", "--format", "json"], &["status"]] {
        let mut command = place.deskbatch(args);
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        command.stdout(full).stderr(Stdio::piped());
        let output = command.spawn().unwrap().wait_with_output().unwrap();
        has(&said(&output), &["cannot write to stdout: No space"]);
        assert_eq!(output.status.code(), Some(70));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn max_failures_exits_3_and_stops_sending() {
    let (place, sandbox) = (Place::new(), sandbox().await);
    let ids: Vec<String> = (0..50).map(|n| question(&format!("missing{n}"))).collect();
    place.write("jobs.csv", manifest(ids.iter().map(|id| (id.as_str(), "4"))));
    let args = ["run", "jobs.csv", "--chunk", "1", "--max-in-flight", "1", "--max-failures", "6%"];
    let output = ends(place.fast(&sandbox, &args), 3);
    has(
        &said(&output),
        &[
            "Stopped: 3 jobs failed in this run, and the limit of --max-failures is 3.",
            "omit --max-failures",
        ],
    );
    // One read shows that the app is alive.
    let sent = || sandbox.ledger().total;
    assert_eq!((sent(), sandbox.ledger().reads), (3, 1));
    assert_eq!(place.counts(), [47, 0, 0, 3, 0, 0]);
    assert_eq!(place.status()["last_run"]["ending"], "failure_limit");
    // The last job reaches the limit, so there is nothing left to stop.
    let output = ends(place.fast(&sandbox, &["run", "--chunk", "1", "--max-failures", "47"]), 1);
    has(&said(&output), &["Finished: 0 succeeded, 47 failed, 3 failed in an earlier run."]);
    for (limit, part) in [("0", "write 1"), ("0.0%", "write 1"), ("some", "e.g. 2.5%")] {
        let mut command = place.fast(&sandbox, &["run", "jobs.csv"]);
        command.env("DESKBATCH_MAX_FAILURES", limit);
        has(&said(&ends(command, 2)), &[part]);
        assert_eq!(sent(), 50);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rerun_of_manifest_with_failures_exits_1() {
    let (place, sandbox) = (Place::new(), sandbox().await);
    let (good, bad) = (question("a"), question("missing"));
    place.write("jobs.csv", manifest([(good.as_str(), "4"), (bad.as_str(), "5")]));
    place.write("other.csv", manifest([(good.as_str(), "5")]));
    ends(place.fast(&sandbox, &["run", "jobs.csv"]), 1);
    for _ in 0..2 {
        let said = said(&ends(place.fast(&sandbox, &["run", "jobs.csv", "--quiet"]), 1));
        has(&said, &["as batch 1, which is not complete: 1 failed", "report --state failed"]);
    }
    // Other pending jobs are sent and do not hide the failure.
    ends(place.fast(&sandbox, &["import", "other.csv"]), 0);
    ends(place.fast(&sandbox, &["run", "jobs.csv", "--quiet"]), 1);
    assert_eq!(place.status()["pending"], 0);
    // A run without the file name ignores that batch. A later import then covers its question.
    ends(place.fast(&sandbox, &["run"]), 0);
    place.write("mended.csv", manifest([(bad.as_str(), "4")]));
    ends(place.fast(&sandbox, &["import", "mended.csv"]), 0);
    ends(place.fast(&sandbox, &["cancel", "--batch", "3"]), 0);
    // A later import asks for another status for both questions.
    let said = said(&ends(place.fast(&sandbox, &["run", "jobs.csv"]), 1));
    has(&said, &["is not complete: 2 superseded by a later import"]);
}
