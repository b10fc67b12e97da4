//! The life of a queue through the binary: import, status, run, repeated runs; corrected rejects; the
//! latest import wins; retry and cancel.

use std::fs;
use std::io::Write as _;

use deskbatch::sandbox::{Command as Called, QuestionStatus, Sandbox};
use flate2::Compression;
use flate2::write::GzEncoder;

use crate::support::binary::{ends, ends_with_input, has, sandbox};
use crate::support::place::{Place, manifest, question, said};

fn state_of(sandbox: &Sandbox, last: &str) -> Option<QuestionStatus> {
    sandbox.question(&question(last)).map(|question| question.status)
}

#[tokio::test(flavor = "multi_thread")]
async fn status_follows_the_queue_from_import_to_outcome() {
    let (place, sandbox) = (Place::new(), sandbox().await);
    let ids = ["a", "b", "c", "missing1"].map(question);
    let statuses = ["enable", "5", "DELETE", "4"];
    place.write("jobs.csv", manifest(ids.iter().map(String::as_str).zip(statuses)));
    let output = ends(place.fast(&sandbox, &["import", "jobs.csv"]), 0);
    has(&said(&output), &["as batch 1: 4 jobs (2 enable, 1 disable, 1 delete)"]);

    let figures = |status: &serde_json::Value| {
        let keys = ["pending", "in_flight", "succeeded", "failed", "cancelled", "superseded"];
        let more = ["total", "requests", "throttled", "schema"];
        keys.iter().chain(&more).map(|key| status[*key].as_u64().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(figures(&place.status()), [4, 0, 0, 0, 0, 0, 4, 0, 0, 1]);
    let left = |status: &serde_json::Value| {
        ["requests_min", "requests_max", "s_min", "s_max"]
            .map(|key| status[format!("remaining_{key}")].as_u64().unwrap())
    };
    // The ETA range covers the case that all four are rejected.
    let [fewest, most, ..] = left(&place.status());
    assert!(fewest == 1 && (4..15).contains(&most), "{fewest} to {most}");
    let text = crate::support::place::data(&ends(place.deskbatch(&["status"]), 0));
    has(&text, &[&format!("\nETA        1 to {most} requests, 1 to ")]);
    ends(place.fast(&sandbox, &["run", "--yes"]), 1);
    // One chunk per target status, and the two halves of the rejected one.
    let status = place.status();
    assert_eq!(figures(&status), [0, 0, 3, 1, 0, 0, 4, 5, 0, 1]);
    assert_eq!(left(&status), [0; 4]);
    let of_run = ["evaluated_requests", "succeeded", "failed"].map(|key| &status["last_run"][key]);
    assert_eq!(of_run, [5, 3, 1]);
    assert_eq!(state_of(&sandbox, "a"), Some(QuestionStatus::Enabled));
    assert_eq!(state_of(&sandbox, "b"), Some(QuestionStatus::Disabled));
    assert_eq!(state_of(&sandbox, "c"), Some(QuestionStatus::Deleted));
    let text = ends(place.deskbatch(&["status"]), 0);
    has(&crate::support::place::data(&text), &["4: 3 succeeded, 1 failed", " (drained)", "jobs\n"]);
    // At most 200 per second. No request was throttled, and the learned values are dated.
    has(
        &crate::support::place::data(&text),
        &["\nrate       ", " requests per second; never throttled; measured 20"],
    );
    let learned = &status["learned_rates"][0];
    assert_eq!(learned["library"], "chitchat");
    assert!(learned["rate"].as_f64().is_some_and(|rate| (1.0..200.0).contains(&rate)), "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn corrected_rejects_can_be_imported() {
    let (place, sandbox) = (Place::new(), sandbox().await);
    let (good, bad) = (question("good"), question("bad"));
    place.write("jobs.csv", format!("note;id;status\nfirst;{good};4\nsecond;{bad};off\n"));
    let output = ends(place.fast(&sandbox, &["import", "jobs.csv", "--rejects", "bad.csv"]), 0);
    has(&said(&output), &["1 invalid row was skipped and written to bad.csv", "1 job ("]);
    let rejects = place.read("bad.csv");
    has(&rejects, &["note,id,status,reason\n", &format!("second,{bad},off,")]);
    // The uncorrected file is rejected and the corrected one is imported.
    ends(place.fast(&sandbox, &["import", "bad.csv"]), 2);
    place.write("bad.csv", rejects.replace(",off,", ",disable,"));
    ends(place.fast(&sandbox, &["run", "bad.csv"]), 0);
    assert_eq!(place.counts(), [0, 0, 2, 0, 0, 0]);
    assert_eq!(state_of(&sandbox, "bad"), Some(QuestionStatus::Disabled));
}

#[tokio::test(flavor = "multi_thread")]
async fn outputs_never_overwrite_manifest_or_queue() {
    let (place, sandbox) = (Place::new(), sandbox().await);
    let path = place.write("jobs.csv", manifest([("a b", "4")]));
    fs::hard_link(path, place.path("other.csv")).unwrap();
    for rejects in ["jobs.csv", "./jobs.csv", "other.csv"] {
        let output = ends(place.fast(&sandbox, &["import", "jobs.csv", "--rejects", rejects]), 2);
        has(&said(&output), &["--rejects", "is the manifest: "]);
    }
    assert_eq!(place.read("jobs.csv"), manifest([("a b", "4")]));
    let queue = ["import", "jobs.csv", "--rejects", "deskbatch.db"];
    let output = ends(place.fast(&sandbox, &queue), 2);
    has(&said(&output), &["--rejects", "is the queue file: "]);
    let output = ends(place.deskbatch(&["report", "-o", "deskbatch.db"]), 2);
    has(&said(&output), &["-o: deskbatch.db is the queue file: "]);
    assert_eq!(place.status()["total"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn known_manifest_resumes_unless_again_is_given() {
    let (place, sandbox) = (Place::new(), sandbox().await);
    place.write("jobs.csv", manifest([(question("a").as_str(), "4"), (&question("b"), "4")]));
    fs::copy(place.path("jobs.csv"), place.path("copy.csv")).unwrap();
    let import =
        |args: &[&str]| said(&ends(place.fast(&sandbox, &[&["import"], args].concat()), 0));
    has(&import(&["jobs.csv"]), &["as batch 1: 2 jobs"]);
    has(
        &import(&["copy.csv"]),
        &["was imported before as batch 1: resuming its 2 unfinished jobs"],
    );
    ends(place.fast(&sandbox, &["run", "jobs.csv"]), 0);
    has(
        &import(&["copy.csv"]),
        &["as batch 1, which is finished. Nothing was imported.", "--reimport"],
    );
    has(&import(&["copy.csv", "--reimport"]), &["as batch 2: 2 jobs"]);
    // The same bytes with another target status are another manifest.
    has(&import(&["jobs.csv", "--status", "5"]), &["as batch 3: 2 jobs (0 enable, 2 disable"]);
    assert_eq!(place.counts(), [2, 0, 2, 0, 0, 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn latest_import_wins_and_retry_keeps_superseded() {
    let (place, sandbox) = (Place::new(), sandbox().await);
    let (both, missing) = (question("both"), question("missing1"));
    place.write("1.csv", manifest([(both.as_str(), "4"), (missing.as_str(), "4")]));
    ends(place.fast(&sandbox, &["import", "1.csv"]), 0);
    place.write("2.csv", manifest([(both.as_str(), "5")]));
    let output = ends(place.fast(&sandbox, &["run", "2.csv"]), 1);
    has(&said(&output), &["1 older job superseded"]);
    assert_eq!(state_of(&sandbox, "both"), Some(QuestionStatus::Disabled));
    assert_eq!(place.report(&["--state", "superseded"])[0]["batch"], "1");

    place.write("3.csv", manifest([(missing.as_str(), "5")]));
    ends(place.fast(&sandbox, &["import", "3.csv"]), 0);
    let output = ends(place.deskbatch(&["retry"]), 0);
    has(
        &said(&output),
        &[
            "0 failed jobs set back to pending\n",
            "1 failed job skipped: superseded by a later import of the same questions\n",
        ],
    );
    assert_eq!(place.counts(), [1, 0, 1, 1, 0, 1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn retry_selects_by_code_and_batch() {
    let (place, sandbox) = (Place::new(), sandbox().await);
    let (missing, preset, other) =
        (question("missing1"), question("preset1"), question("missing2"));
    place.write("1.csv", manifest([(missing.as_str(), "6"), (preset.as_str(), "6")]));
    place.write("2.csv", manifest([(other.as_str(), "4")]));
    ends(place.fast(&sandbox, &["import", "1.csv"]), 0);
    ends(place.fast(&sandbox, &["run", "2.csv", "--yes"]), 1);
    let pending = |args: &[&str]| {
        ends(place.deskbatch(&[&["retry"], args].concat()), 0);
        let rows = place.report(&["--state", "pending"]);
        rows.into_iter().map(|row| row["question_id"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(pending(&["--code", "12345"]), Vec::<String>::new());
    assert_eq!(pending(&["--code", "-50011", "--code", "-14"]), [preset.as_str()]);
    assert_eq!(pending(&["--code", "-50003", "--batch", "2"]), [preset, other]);
    assert_eq!(place.counts(), [2, 0, 0, 1, 0, 0]);
    let row = &place.report(&["--state", "pending"])[0];
    assert_eq!((row["error_code"].as_str(), row["finished_at"].as_str()), ("", ""));
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelled_batch_is_not_sent() {
    let (place, sandbox) = (Place::new(), sandbox().await);
    place.write("1.csv", manifest([(question("a").as_str(), "6"), (&question("b"), "6")]));
    place.write("2.csv", manifest([(question("c").as_str(), "4")]));
    ends(place.fast(&sandbox, &["import", "1.csv"]), 0);
    let output = ends(place.deskbatch(&["cancel", "--batch", "1"]), 0);
    has(&said(&output), &["2 pending jobs of batch 1 cancelled\n"]);
    // No delete is pending, so no question is asked.
    ends(place.fast(&sandbox, &["run", "2.csv"]), 0);
    assert_eq!(place.counts(), [0, 0, 1, 0, 2, 0]);
    assert_eq!(sandbox.ledger().requests.iter().map(|r| r.ids.len()).sum::<usize>(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn stdin_manifest_may_be_gzip_with_default_status() {
    let sandbox = sandbox().await;
    let plain = format!("id,name\n{},\"one, two\"\n{},three\n", question("a"), question("b"));
    let mut gz = GzEncoder::new(Vec::new(), Compression::fast());
    gz.write_all(plain.as_bytes()).unwrap();
    let packed = gz.finish().unwrap();
    for (bytes, status, ended) in [
        (plain.as_bytes(), "disable", QuestionStatus::Disabled),
        (&packed, "4", QuestionStatus::Enabled),
    ] {
        let place = Place::new();
        let command = place.fast(&sandbox, &["run", "-", "--status", status]);
        let output = ends_with_input(command, bytes, 0);
        has(&said(&output), &["2 jobs"]);
        assert_eq!(place.counts(), [0, 0, 2, 0, 0, 0]);
        assert_eq!(place.report(&[])[0]["batch"], "stdin");
        assert_eq!(state_of(&sandbox, "b"), Some(ended));
    }
    let place = Place::new();
    place.write("jobs.csv.gz", &packed);
    ends(place.fast(&sandbox, &["run", "jobs.csv.gz", "--status", "delete", "--yes"]), 0);
    assert_eq!(state_of(&sandbox, "a"), Some(QuestionStatus::Deleted));
    assert_eq!(place.status()["batches"][0]["name"], "jobs");
}

#[tokio::test(flavor = "multi_thread")]
async fn on_conflict_selects_first_or_last_row() {
    for (which, ended) in [("first", QuestionStatus::Enabled), ("last", QuestionStatus::Disabled)] {
        let (place, sandbox) = (Place::new(), sandbox().await);
        let (id, other) = (question("a"), question("b"));
        let rows = [(id.as_str(), "4"), (&other, "4"), (&id, "5"), (&other, "4")];
        place.write("jobs.csv", manifest(rows));
        let output = ends(place.fast(&sandbox, &["run", "jobs.csv", "--on-conflict", which]), 0);
        has(&said(&output), &["2 jobs", "2 duplicate rows"]);
        assert_eq!(state_of(&sandbox, "a"), Some(ended));
        assert_eq!(place.status()["total"], 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_library_has_its_own_endpoint_and_jobs() {
    let (place, sandbox) = (Place::new(), sandbox().await);
    place.write("jobs.csv", manifest([(question("a").as_str(), "4")]));
    ends(place.fast(&sandbox, &["import", "jobs.csv"]), 0);
    ends(place.fast(&sandbox, &["run", "jobs.csv", "--library", "faq"]), 0);
    let called = |at: usize| sandbox.ledger().requests[at].command;
    assert_eq!(called(0), Some(Called::BatchSetFaq));
    assert_eq!(place.counts(), [1, 0, 1, 0, 0, 0]);
    let output = ends(place.fast(&sandbox, &["run", "--library", "faq"]), 0);
    has(&said(&output), &["deskbatch.db has no pending job of app 1400000000, library faq\n"]);
    ends(place.fast(&sandbox, &["run"]), 0);
    assert_eq!(called(1), Some(Called::BatchSetChitchat));
    assert_eq!(place.counts(), [0, 0, 2, 0, 0, 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn ids_of_another_app_are_warned_about_once() {
    let (place, sandbox) = (Place::new(), sandbox().await);
    let ids = ["1400000009-@RBT#x-1", "1400000009-@RBT#x-2", "free-form"];
    place.write("jobs.csv", manifest(ids.map(|id| (id, "4"))));
    let said = said(&ends(place.fast(&sandbox, &["import", "jobs.csv"]), 0));
    has(&said, &["warning: 2 ids do not begin with the SDKAppID 1400000000", ids[0]]);
    assert_eq!(said.matches("warning").count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn prune_removes_finished_and_keeps_open_batches() {
    let (place, sandbox) = (Place::new(), sandbox().await);
    let ids = ["a", "b", "missing1"].map(question);
    place.write("old.csv", manifest(ids.iter().map(|id| (id.as_str(), "enable"))));
    ends(place.fast(&sandbox, &["run", "old.csv"]), 1);
    place.write("open.csv", manifest([(question("c").as_str(), "enable")]));
    ends(place.fast(&sandbox, &["import", "open.csv"]), 0);

    let kept = ends(place.deskbatch(&["prune", "--older-than", "1d"]), 0);
    has(&said(&kept), &["deleted 0 jobs of 0 finished batches and 0 requests\n"]);
    let shown = ends(place.deskbatch(&["prune", "--older-than", "0s", "--dry-run"]), 0);
    has(&said(&shown), &["would delete 3 jobs of 1 finished batch\n"]);
    assert_eq!(place.counts(), [1, 0, 2, 1, 0, 0]);
    let done = ends(place.deskbatch(&["prune", "--older-than", "0s"]), 0);
    has(&said(&done), &["deleted 3 jobs of 1 finished batch and "]);
    assert_eq!(place.counts(), [1, 0, 0, 0, 0, 0]);
    // The manifest is still known, so the nightly command line does not import it again. It only sends
    // the pending jobs.
    let again = ends(place.fast(&sandbox, &["run", "old.csv"]), 1);
    has(&said(&again), &["batch 1, which is not complete: its jobs were pruned", "--reimport"]);
    assert_eq!(place.counts(), [0, 0, 1, 0, 0, 0]);
    ends(place.fast(&sandbox, &["run", "old.csv", "--reimport"]), 1);
    assert_eq!(place.counts(), [0, 0, 3, 1, 0, 0]);
    ends(place.deskbatch(&["cancel", "--batch", "1"]), 2);
    ends(place.deskbatch(&["prune", "--older-than", "soon"]), 2);
}
