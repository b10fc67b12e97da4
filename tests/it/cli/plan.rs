//! Plans through the binary: a plan sends nothing, and a run with its digest does exactly what the plan
//! shows, even after interruptions.

use std::process::Command;
use std::time::Duration;

use deskbatch::sandbox::{QuestionStatus, Sandbox};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::binary::{Going, ends, has, sandbox, sandbox_with};
use crate::support::place::{Place, data, manifest, question, said};

/// The error of a run whose plan has changed.
const CHANGED: &str =
    "the plan has changed since its digest was made. Nothing was imported or sent.\n";

/// The message of a run whose plan has no job left to send.
const EXECUTED: &str = "nothing to do: this plan was executed before";

/// Questions whose ids end with `names`, all with one target status.
fn rows(status: &str, names: &[&str]) -> String {
    let ids: Vec<String> = names.iter().map(|name| question(name)).collect();
    manifest(ids.iter().map(|id| (id.as_str(), status)))
}

/// `count` questions to be deleted.
fn deleting(count: usize) -> String {
    let names: Vec<String> = (0..count).map(|n| format!("q{n}")).collect();
    rows("delete", &names.iter().map(String::as_str).collect::<Vec<_>>())
}

/// The JSON output of `plan` with `args`.
#[track_caller]
fn plan(place: &Place, sandbox: &Sandbox, args: &[&str]) -> Value {
    let args = [&["plan"], args, &["--json"]].concat();
    serde_json::from_slice(&ends(place.fast(sandbox, &args), 0).stdout).unwrap()
}

#[track_caller]
fn digest(place: &Place, sandbox: &Sandbox, args: &[&str]) -> String {
    plan(place, sandbox, args)["digest"].as_str().unwrap().to_owned()
}

/// `run` with `args` and a digest.
fn run(place: &Place, sandbox: &Sandbox, args: &[&str], digest: &str) -> Command {
    place.fast(sandbox, &[&["run"], args, &["--plan", digest]].concat())
}

fn deleted(sandbox: &Sandbox, name: &str) -> bool {
    sandbox.question(&question(name)).is_some_and(|q| q.status == QuestionStatus::Deleted)
}

#[tokio::test(flavor = "multi_thread")]
async fn plan_sends_nothing_and_creates_no_queue() {
    let (place, sandbox) = (Place::new(), sandbox().await);
    place.write("jobs.csv", deleting(12));
    let mut command = place.fast(&sandbox, &["plan", "jobs.csv"]);
    // An approval must not need the secret key.
    command.env_remove("DESKBATCH_SECRET_KEY");
    let text = data(&ends(command, 0));
    let first = question("q0");
    let host = sandbox.endpoint().replace("http://", "");
    has(
        &text,
        &[
            &format!("This run sends to {host} for app 1400000000, library chitchat:"),
            "delete          12 questions (cannot be undone)",
            "1 to 20 requests, about 1 s",
            "jobs.csv: 12 rows, 12 jobs\n  becomes a new batch",
            &format!("to be deleted (12):\n  {first}\n"),
            "and 2 more; list them with: deskbatch plan jobs.csv --all\n",
        ],
    );
    assert!(text.trim_end().lines().last().unwrap().starts_with("deskbatch run jobs.csv --plan "));
    let all = data(&ends(place.fast(&sandbox, &["plan", "jobs.csv", "--all"]), 0));
    has(&all, &[&question("q9")]);
    assert_eq!(all.lines().last(), text.lines().last());
    has(&data(&ends(place.fast(&sandbox, &["plan"]), 0)), &["\n  nothing to do\n"]);
    assert_eq!(place.files(), ["jobs.csv"]);
    assert_eq!(sandbox.ledger().total, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn json_plan_is_complete_and_queue_unchanged() {
    let (place, sandbox) = (Place::new(), sandbox().await);
    place.write("old.csv", rows("delete", &["both", "waits"]));
    ends(place.fast(&sandbox, &["import", "old.csv"]), 0);
    let before = place.status();
    let mut text = rows("4", &["both", "a", "a"]);
    text.push_str("a b,4\n");
    place.write("new.csv", text);
    let bad = ends(place.fast(&sandbox, &["plan", "new.csv"]), 2);
    has(&said(&bad), &["1 of 4 rows is invalid. Nothing was imported."]);
    let args = ["new.csv", "--rejects", "bad.csv", "--chunk", "1"];
    let plan = plan(&place, &sandbox, &args);
    let file = &plan["file"];
    for (value, expected) in [
        (&plan["schema"], json!(1)),
        (&plan["jobs"], json!({"total": 3, "enable": 2, "disable": 0, "delete": 1})),
        (&plan["pending"], json!({"total": 1, "enable": 0, "disable": 0, "delete": 1})),
        (&plan["requests"]["from"], json!(3)),
        (&plan["deletes"], json!([question("waits")])),
        (&plan["chunk"], json!(1)),
        (&file["path"], json!("new.csv")),
        (&file["rows"], json!(4)),
        (&file["duplicates"], json!(1)),
        (&file["rejected"], json!(1)),
        (&file["superseded"], json!(1)),
        (&file["effect"], json!("new")),
        (&file["jobs"]["enable"], json!(2)),
    ] {
        assert_eq!(*value, expected, "{plan}");
    }
    let text = data(&ends(place.fast(&sandbox, &[&["plan"], &args[..]].concat()), 0));
    has(
        &text,
        &[
            "new.csv: 4 rows, 2 jobs, 1 duplicate row, 1 invalid row skipped\n",
            "\n  skipped: ",
            "\n  supersedes 1 pending job\n",
            "included above: 1 pending job from earlier imports (1 delete)\n",
        ],
    );
    assert_eq!(place.status(), before);
    assert!(!place.files().contains(&"bad.csv".to_owned()));
    let command: Vec<&str> = plan["command"].as_str().unwrap().split(' ').collect();
    assert_eq!(
        command[..7],
        ["deskbatch", "run", "new.csv", "--rejects", "bad.csv", "--chunk", "1"]
    );
    // The suggested command line does what the plan showed, deletes included, without a question.
    has(&said(&ends(place.fast(&sandbox, &command[1..]), 0)), &["Finished: 3 succeeded.\n"]);
    assert_eq!(sandbox.ledger().total, 3);
    assert!(deleted(&sandbox, "waits") && !deleted(&sandbox, "both"));
}

#[tokio::test(flavor = "multi_thread")]
async fn changed_plan_is_refused_without_import_or_request() {
    let (place, sandbox) = (Place::new(), sandbox().await);
    let other = crate::support::binary::sandbox().await;
    place.write("jobs.csv", deleting(3));
    place.write("more.csv", rows("4", &["more"]));
    let digest = digest(&place, &sandbox, &["jobs.csv"]);
    assert_eq!(plan(&place, &sandbox, &["jobs.csv"])["digest"], digest.as_str());
    let refused = |command: Command, parts: &[&str]| {
        let text = said(&ends(command, 2));
        has(&text, &[CHANGED]);
        has(&text, parts);
    };
    let with = |args: &[&str]| run(&place, &sandbox, &[&["jobs.csv"], args].concat(), &digest);
    refused(with(&["--chunk", "2"]), &["changed: the chunk size or --reimport\n"]);
    refused(with(&["--reimport"]), &["changed: the chunk size or --reimport\n"]);
    let destination = ["changed: the destination (app, library or endpoint)\n"];
    refused(with(&["--library", "faq"]), &destination);
    let elsewhere = ["--sdkappid", "1400000001", "--allow-foreign-ids"];
    refused(with(&elsewhere), &destination);
    refused(with(&["--status", "5"]), &["changed: the file", "0 enable, 3 disable, 0 delete"]);
    refused(run(&place, &other, &["jobs.csv"], &digest), &destination);
    refused(run(&place, &sandbox, &["more.csv"], &digest), &["changed: the file\n"]);
    refused(run(&place, &sandbox, &[], &digest), &["changed: the file\n"]);
    assert_eq!(place.status()["total"], 0);
    ends(place.fast(&sandbox, &["import", "more.csv"]), 0);
    refused(
        with(&[]),
        &["changed: the pending jobs of the queue\n", "), 1 of them from earlier imports\n"],
    );
    place.write("jobs.csv", deleting(4));
    refused(with(&[]), &["changed: the file; the pending jobs of the queue\n"]);
    for wrong in ["", "abc", &"g".repeat(64), &digest[1..]] {
        let output = ends(run(&place, &sandbox, &["jobs.csv"], wrong), 2);
        has(&said(&output), &["is not a digest", "64 hex digits"]);
    }
    assert_eq!(place.counts(), [1, 0, 0, 0, 0, 0]);
    assert_eq!((sandbox.ledger().total, other.ledger().total), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn cron_runs_only_approved_jobs() {
    let sandbox = sandbox_with(|s| s.latency = Duration::from_millis(50)).await;
    let place = Place::new();
    // A job that failed earlier has a lower number than those of the plan.
    place.write("failed.csv", rows("4", &["missingold"]));
    ends(place.fast(&sandbox, &["run", "failed.csv"]), 1);
    place.write("jobs.csv", deleting(40));
    let args = ["jobs.csv", "--chunk", "1", "--max-in-flight", "1", "--quiet"];
    let digest = digest(&place, &sandbox, &args);
    let going = Going::start(run(&place, &sandbox, &args, &digest));
    sandbox.seen(4).await;
    place.write("late.csv", rows("delete", &["late"]));
    ends(place.fast(&sandbox, &["import", "late.csv"]), 0);
    ends(place.deskbatch(&["retry"]), 0);
    // A plan made during a run has the jobs of that run too.
    let meanwhile = data(&ends(place.fast(&sandbox, &["plan"]), 0));
    has(&meanwhile, &["included above: ", " pending jobs from earlier imports (1 enable, "]);
    // All approved jobs are done. The output still mentions the pending ones.
    let text = going.ends(0);
    has(
        &text,
        &[
            "2 other jobs are pending: not part of the approved plan, and not sent\n",
            "show the other pending jobs:             deskbatch plan\n",
        ],
    );
    assert_eq!(place.counts(), [2, 0, 40, 0, 0, 0]);
    assert!(deleted(&sandbox, "q39") && !deleted(&sandbox, "late"));
    let sent = sandbox.ledger().total;
    has(&said(&ends(run(&place, &sandbox, &args[..5], &digest), 0)), &[EXECUTED]);
    assert_eq!((sandbox.ledger().total, place.counts()[0]), (sent, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn interrupted_plan_resumes_with_same_command_line() {
    let sandbox = sandbox_with(|s| s.latency = Duration::from_millis(100)).await;
    let place = Place::new();
    place.write("jobs.csv", deleting(150));
    place.write("other.csv", rows("delete", &["other"]));
    let args = ["jobs.csv", "--chunk", "1", "--reimport"];
    let digest = digest(&place, &sandbox, &args);
    for (seen, signal) in [(5, Signal::KILL), (10, Signal::TERM)] {
        let mut going = Going::start(run(&place, &sandbox, &args, &digest));
        sandbox.seen(sandbox.ledger().total + seen).await;
        going.signal(signal);
        if signal == Signal::TERM {
            has(
                &going.ends(3),
                &[
                    "resuming this plan: ",
                    "Stopped by a signal. ",
                    "to resume the plan, run the same command again\n",
                ],
            );
        } else {
            going.waits();
            ends(place.fast(&sandbox, &["import", "other.csv"]), 0);
        }
    }
    // A resumed run compares the fixed settings too.
    let elsewhere = ["jobs.csv", "--chunk", "2", "--reimport"];
    has(&said(&ends(run(&place, &sandbox, &elsewhere, &digest), 2)), &["changed: the chunk size"]);
    place.write("jobs.csv", deleting(151));
    has(&said(&ends(run(&place, &sandbox, &args, &digest), 2)), &["changed: the file"]);
    place.write("jobs.csv", deleting(150));
    let succeeded = place.counts()[2];
    let text = said(&ends(run(&place, &sandbox, &args, &digest), 0));
    has(&text, &[&format!("Finished: {} succeeded.\n", 150 - succeeded)]);
    has(&text, &["1 other job is pending: not part of the approved plan, and not sent\n"]);
    assert_eq!(place.counts(), [1, 0, 150, 0, 0, 0]);
    assert_eq!(place.status()["batches"].as_array().unwrap().len(), 2);
    assert!(!deleted(&sandbox, "other"));
}

#[tokio::test(flavor = "multi_thread")]
async fn approval_is_reusable_for_same_rows() {
    let (place, sandbox) = (Place::new(), sandbox().await);
    place.write("cleanup.csv", rows("disable", &["a", "missing1"]));
    let args = ["cleanup.csv", "--reimport"];
    let digest = digest(&place, &sandbox, &args);
    for night in 1..=3 {
        let text = said(&ends(run(&place, &sandbox, &args, &digest), 1));
        has(&text, &["Finished: 1 succeeded, 1 failed.\n"]);
        assert_eq!(place.counts(), [0, 0, night, night, 0, 0]);
    }
    // Without `--reimport` the file is done after one run.
    let once = self::digest(&place, &sandbox, &args[..1]);
    let text = said(&ends(run(&place, &sandbox, &args[..1], &once), 1));
    has(&text, &["which is not complete: 1 failed. Nothing was imported."]);
    place.write("waits.csv", rows("delete", &["waits"]));
    ends(place.fast(&sandbox, &["import", "waits.csv"]), 0);
    let sent = sandbox.ledger().total;
    let text = said(&ends(run(&place, &sandbox, &args, &digest), 2));
    has(&text, &[CHANGED, "changed: the pending jobs of the queue\n"]);
    assert_eq!((sandbox.ledger().total, place.counts()), (sent, [1, 0, 3, 3, 0, 0]));
}

#[tokio::test(flavor = "multi_thread")]
async fn pending_jobs_can_be_approved_without_file() {
    let (place, sandbox) = (Place::new(), sandbox().await);
    place.write("jobs.csv", rows("delete", &["a", "b", "missing1"]));
    ends(place.fast(&sandbox, &["import", "jobs.csv"]), 0);
    let text = data(&ends(place.fast(&sandbox, &["plan", "jobs.csv"]), 0));
    has(
        &text,
        &["was imported before as batch 1, which has 3 unfinished jobs: the run resumes it\n"],
    );
    assert_eq!(plan(&place, &sandbox, &["jobs.csv"])["file"]["effect"], "continues");
    let text = data(&ends(place.fast(&sandbox, &["plan"]), 0));
    let line: Vec<&str> = text.trim_end().lines().last().unwrap().split(' ').collect();
    assert_eq!(line[..3], ["deskbatch", "run", "--plan"]);
    let text = said(&ends(place.fast(&sandbox, &line[1..]), 1));
    has(&text, &["Finished: 2 succeeded, 1 failed.\n"]);
    assert_eq!(place.counts(), [0, 0, 2, 1, 0, 0]);
    // Its failures remain until they are corrected.
    let text = said(&ends(place.fast(&sandbox, &line[1..]), 1));
    has(&text, &[&format!("{EXECUTED}; 1 job of it failed\n")]);
    let finished = plan(&place, &sandbox, &["jobs.csv"]);
    assert_eq!(
        (&finished["file"]["effect"], &finished["jobs"]["total"]),
        (&json!("finished"), &json!(0))
    );
    let text = data(&ends(place.fast(&sandbox, &["plan", "jobs.csv"]), 0));
    has(
        &text,
        &[
            "was imported before as batch 1, which is not complete (1 failed): ",
            "it is not imported again without --reimport\n",
        ],
    );
    // Jobs that `retry` makes pending need a new approval.
    ends(place.deskbatch(&["retry"]), 0);
    let sent = sandbox.ledger().total;
    let refused = said(&ends(place.fast(&sandbox, &line[1..]), 2));
    has(&refused, &["changed: jobs of it were retried or approved again since then\n"]);
    has(&refused, &["it now has 1 job (0 enable, 0 disable, 1 delete)"]);
    assert_eq!((place.counts(), sandbox.ledger().total), ([1, 0, 2, 0, 0, 0], sent));
    let digest = digest(&place, &sandbox, &[]);
    let text = said(&ends(run(&place, &sandbox, &[], &digest), 1));
    has(&text, &["Finished: 0 succeeded, 1 failed.\n"]);
    // With no pending job at all, the first plan is done.
    has(&said(&ends(place.fast(&sandbox, &line[1..]), 0)), &[&format!("{EXECUTED}\n")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn retry_beside_planned_run_stays_pending() {
    let sandbox = sandbox_with(|s| s.latency = Duration::from_millis(80)).await;
    let place = Place::new();
    let mut text = rows("disable", &["a", "b", "missing1"]);
    text.push_str(deleting(40).split_once('\n').unwrap().1);
    place.write("jobs.csv", text);
    let args = ["jobs.csv", "--chunk", "1", "--max-in-flight", "1"];
    let digest = digest(&place, &sandbox, &args);
    let going = Going::start(run(&place, &sandbox, &args, &digest));
    sandbox.seen(15).await;
    ends(place.deskbatch(&["retry"]), 0);
    let text = going.ends(3);
    has(
        &text,
        &[
            "Stopped: 1 failed job of the plan was retried during the run. \
             It is pending and no longer part of the plan.\n",
            "1 other job is pending: not part of the approved plan, and not sent\n",
        ],
    );
    assert_eq!(place.counts(), [1, 0, 42, 0, 0, 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn confirmation_prompt_is_no_plan_approval() {
    let (place, sandbox) = (Place::new(), sandbox().await);
    place.write("jobs.csv", rows("delete", &["a", "missing1"]));
    let digest = digest(&place, &sandbox, &["jobs.csv"]);
    // The digest is the same, but no `--plan` run has approved it.
    ends(place.fast(&sandbox, &["run", "jobs.csv", "--yes"]), 1);
    let text = said(&ends(run(&place, &sandbox, &["jobs.csv"], &digest), 2));
    has(&text, &[CHANGED]);
}

/// The jobs in flight of the run that died are pending for the run of the plan, and were not for the plan.
#[tokio::test(flavor = "multi_thread")]
async fn plan_made_after_a_kill_is_run() {
    let sandbox = sandbox_with(|s| {
        s.script = Some("late".parse().unwrap());
        s.late_delay = Duration::from_hours(1);
    })
    .await;
    let place = Place::new();
    place.write("old.csv", rows("disable", &["a", "b"]));
    let mut going = Going::start(place.fast(&sandbox, &["run", "old.csv"]));
    sandbox.seen(1).await;
    going.signal(Signal::KILL);
    going.waits();
    place.write("new.csv", rows("enable", &["a", "b"]));
    let digest = digest(&place, &sandbox, &["new.csv"]);
    ends(run(&place, &sandbox, &["new.csv"], &digest), 0);
    assert_eq!(place.counts(), [0, 0, 2, 0, 0, 2]);
}
