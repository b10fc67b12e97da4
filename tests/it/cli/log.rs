//! The log: only JSON where JSON is selected, a separate file, and a run that continues when a log line
//! cannot be written.

use std::fs::OpenOptions;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use deskbatch::sandbox::Sandbox;
use serde_json::Value;

use crate::support::binary::{Going, ends, has, sandbox, sandbox_with};
use crate::support::lease::acquire;
use crate::support::place::{Place, data, manifest, question, said};

const JSON: [&str; 2] = ["--log-format", "json"];

/// Each line of `text` as a JSON object.
#[track_caller]
fn events(text: &str) -> Vec<Value> {
    let event = |line: &str| {
        serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}\nin:\n{text}"))
    };
    text.lines().map(event).collect()
}

/// The event whose message contains `part`.
#[track_caller]
fn with_message<'a>(events: &'a [Value], part: &str) -> &'a Value {
    let has = |event: &&Value| {
        event["fields"]["message"].as_str().is_some_and(|message| message.contains(part))
    };
    events.iter().find(has).unwrap_or_else(|| panic!("{part:?} is in none of {events:#?}"))
}

/// One job that succeeds and one that fails.
async fn two_jobs() -> (Place, Sandbox) {
    let (place, sandbox) = (Place::new(), sandbox().await);
    let (good, bad) = (question("q1"), question("missing1"));
    place.write("jobs.csv", manifest([(good.as_str(), "4"), (bad.as_str(), "4")]));
    (place, sandbox)
}

#[tokio::test(flavor = "multi_thread")]
async fn json_log_leaves_nothing_else_on_stderr() {
    let (place, sandbox) = two_jobs().await;
    let mut command = place.fast(&sandbox, &["run", "jobs.csv", "--quiet", "--log", "info"]);
    command.args(JSON).env("DESKBATCH_CHUNCK", "5");
    let events = events(&said(&ends(command, 1)));
    let summary = with_message(&events, "Finished: 1 succeeded, 1 failed.");
    assert_eq!(
        (&summary["level"], &summary["target"]),
        (&"WARN".into(), &"deskbatch::talk".into())
    );
    with_message(&events, "did you mean DESKBATCH_CHUNK?");
    let end = &with_message(&events, "run ended")["fields"];
    for (key, value) in [
        ("exit", 1.into()),
        ("ending", "drained".into()),
        ("succeeded", 1.into()),
        ("failed", 1.into()),
        ("pending", 0.into()),
        ("batch", 1.into()),
        ("manifest", Value::from("jobs.csv")),
    ] {
        assert_eq!(end[key], value, "{key}: {end}");
    }
    assert!(end["duration_ms"].is_u64() && end["requests"].is_u64(), "{end}");
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_are_events_in_a_json_log() {
    let (place, sandbox) = two_jobs().await;
    let json = |args: &[&str], code| {
        let mut command = place.fast(&sandbox, args);
        command.args(JSON);
        events(&said(&ends(command, code)))
    };
    let events = json(&["run", "gone.csv", "--log", "info"], 2);
    assert_eq!(with_message(&events, "cannot open gone.csv")["level"], "ERROR");
    assert_eq!(with_message(&events, "run ended")["fields"]["exit"], 2);
    // Invalid settings, and a command without problems.
    with_message(&json(&["status", "--chunk", "0"], 2), "chunk: 0 is not between");
    with_message(&json(&["import", "jobs.csv"], 0), "imported jobs.csv as batch 1");
    assert_eq!(json(&["import", "jobs.csv", "--reimport", "--quiet"], 0), Vec::<Value>::new());
    let _lease = acquire(&place.path("deskbatch.db")).await;
    with_message(&json(&["run", "jobs.csv"], 5), "another run holds the lock of this queue");
}

#[tokio::test(flavor = "multi_thread")]
async fn log_file_keeps_stderr_for_messages() {
    let (place, sandbox) = two_jobs().await;
    let mut command = place.fast(&sandbox, &["run", "jobs.csv", "--quiet", "--log", "info"]);
    command.args(JSON).args(["--log-file", "nightly.log"]);
    let talk = said(&ends(command, 1));
    has(&talk, &["Finished: 1 succeeded, 1 failed.", "deskbatch report --state failed"]);
    assert!(!talk.contains('{'), "{talk}");
    let first = place.read("nightly.log");
    with_message(&events(&first), "Finished: 1 succeeded, 1 failed.");
    with_message(&events(&first), "run ended");
    let mode = place.path("nightly.log").metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    // Text is appended to the file. Stderr stays empty without problems, the file does not.
    place.write("good.csv", manifest([(question("q2").as_str(), "4")]));
    let quiet = ["run", "good.csv", "--quiet", "--log-file", "nightly.log"];
    assert_eq!(said(&ends(place.fast(&sandbox, &quiet), 0)), "");
    let both = place.read("nightly.log");
    assert!(both.starts_with(&first), "{both}");
    has(&both, &["\nFinished: 1 succeeded.\n"]);
}

#[test]
fn log_file_is_no_file_that_deskbatch_reads() {
    let place = Place::new();
    place.write("jobs.csv", manifest([(question("q").as_str(), "4")]));
    place.write("deskbatch.toml", "sdkappid = 1400000000\n");
    ends(place.deskbatch(&["import", "jobs.csv"]), 0);
    let queue = std::fs::read(place.path("deskbatch.db")).unwrap();
    for file in ["deskbatch.db", "./deskbatch.toml"] {
        let talk = said(&ends(place.deskbatch(&["status", "--log-file", file]), 2));
        has(&talk, &["log_file: ", "name another file"]);
    }
    let rows = place.read("jobs.csv");
    for command in ["plan", "import", "run"] {
        let talk =
            said(&ends(place.deskbatch(&[command, "jobs.csv", "--log-file", "./jobs.csv"]), 2));
        has(&talk, &["log_file: ./jobs.csv is the manifest: ", "name another file"]);
    }
    assert_eq!(place.read("jobs.csv"), rows);
    assert!(std::fs::read(place.path("deskbatch.db")).unwrap() == queue);
    let nowhere = ["status", "--log-file", "no/such/folder.log"];
    has(&said(&ends(place.deskbatch(&nowhere), 2)), &["cannot write no/such/folder.log"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn locked_queue_is_silent_when_quiet() {
    let (place, sandbox) = two_jobs().await;
    let _lease = acquire(&place.path("deskbatch.db")).await;
    assert_eq!(said(&ends(place.fast(&sandbox, &["run", "jobs.csv", "--quiet"]), 5)), "");
    let talk = said(&ends(place.fast(&sandbox, &["run", "jobs.csv"]), 5));
    has(&talk, &["another run holds the lock of this queue"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn app_locked_by_other_queue_is_silent_when_quiet() {
    let sandbox = sandbox_with(|s| s.latency = Duration::from_hours(1)).await;
    let (first, second) = (Place::new(), Place::new());
    let rows = manifest([(question("q").as_str(), "4")]);
    for place in [&first, &second] {
        place.write("jobs.csv", &rows);
    }
    let _run = Going::start(first.fast(&sandbox, &["run", "jobs.csv"]));
    sandbox.seen(1).await;
    let quiet = second.fast(&sandbox, &["run", "jobs.csv", "--quiet"]).output().unwrap();
    assert_eq!(
        (quiet.status.code(), said(&quiet), data(&quiet)),
        (Some(5), String::new(), String::new())
    );
    let talk = said(&ends(second.fast(&sandbox, &["run", "jobs.csv"]), 5));
    has(&talk, &["another run sends for the same app"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn unwritable_log_does_not_end_a_run() {
    let full = || OpenOptions::new().write(true).open("/dev/full").unwrap();
    for more in [&[][..], &JSON] {
        let (place, sandbox) = two_jobs().await;
        let run = ["run", "jobs.csv", "--log", "trace", "--chunk", "1"];
        let mut command = place.fast(&sandbox, &run);
        command.args(more).stderr(full());
        assert_eq!(command.status().unwrap().code(), Some(1));
        assert_eq!(place.counts(), [0, 0, 1, 1, 0, 0]);
        // The reader has closed the pipe.
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command =
            place.fast(&sandbox, &["run", "jobs.csv", "--reimport", "--log", "trace"]);
        command.args(more).stderr(writer);
        assert_eq!(command.status().unwrap().code(), Some(1));
        assert_eq!(place.status()["last_run"]["ending"], "drained");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn full_log_file_is_reported_once_at_the_end() {
    for more in [&[][..], &JSON] {
        let (place, sandbox) = two_jobs().await;
        place.write("good.csv", manifest([(question("q").as_str(), "4")]));
        let run = ["run", "good.csv", "--quiet", "--log", "debug", "--log-file", "/dev/full"];
        let mut command = place.fast(&sandbox, &run);
        command.args(more);
        let talk = said(&ends(command, 0));
        let lost = "warning: cannot write to /dev/full: No space left on device";
        has(&talk, &[lost, " lines lost\n"]);
        assert_eq!(talk.lines().count(), 1, "{talk}");
    }
}
