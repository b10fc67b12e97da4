//! Options of unattended runs: the time limit, how long to wait for the lock, and the command to run at
//! the end.

use std::io::Write as _;
use std::time::Duration;

use deskbatch::sandbox::SANDBOX_KEY;

use crate::support::binary::{Going, ends, ends_with_input, has, sandbox, sandbox_with};
use crate::support::lease::acquire;
use crate::support::place::{Place, manifest, question, said};

fn enabling(count: usize) -> String {
    let ids: Vec<String> = (0..count).map(|n| question(&format!("q{n}"))).collect();
    manifest(ids.iter().map(|id| (id.as_str(), "4")))
}

/// What the `--on-finish` command received in `name`.
fn summary(place: &Place, name: &str) -> serde_json::Value {
    serde_json::from_str(&place.read(name)).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn elapsed_max_duration_exits_3_with_rest_pending() {
    let (place, sandbox) = (Place::new(), sandbox().await);
    place.write("jobs.csv", enabling(3));
    // The second request would leave in an hour.
    let args = ["run", "jobs.csv", "--chunk", "2", "--rate", "0.0003", "--max-duration", "1s"];
    let output = ends(place.deskbatch_toward(&sandbox, &args), 3);
    has(
        &said(&output),
        &["Stopped: the time of --max-duration is over.", "stay pending", "deskbatch run"],
    );
    assert_eq!(place.status()["last_run"]["ending"], "time_limit");
    assert_eq!(place.counts(), [1, 0, 2, 0, 0, 0]);
    ends(place.fast(&sandbox, &["run"]), 0);
    assert_eq!(place.counts(), [0, 0, 3, 0, 0, 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn max_duration_in_import_exits_3_and_rolls_back() {
    let (place, sandbox) = (Place::new(), sandbox().await);
    let mut command = place.fast(&sandbox, &["run", "-", "--max-duration", "500ms", "--yes"]);
    command.args(["--on-finish", "cat >told.json"]);
    // The writer stays open, so the manifest never ends.
    let (reader, mut writer) = std::io::pipe().unwrap();
    writer.write_all(enabling(1).as_bytes()).unwrap();
    command.stdin(reader);
    has(&Going::start(command).ends(3), &["stopped before anything was imported or sent"]);
    assert_eq!(summary(&place, "told.json")["exit"], 3);
    assert_eq!((place.status()["total"].as_u64(), sandbox.ledger().total), (Some(0), 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn run_waits_for_lock() {
    let (place, sandbox) = (Place::new(), sandbox().await);
    place.write("jobs.csv", enabling(3));
    let lease = acquire(&place.path("deskbatch.db")).await;
    let args = ["run", "jobs.csv", "--lock-timeout", "10m"];
    let mut going = Going::start(place.fast(&sandbox, &args));
    let holder = format!(
        "waiting for another run to end: it holds the lock of this queue ({})",
        lease.holder()
    );
    going.says(&holder);
    assert_eq!(sandbox.ledger().total, 0);
    drop(lease);
    going.says("Finished: 3 succeeded.");
    going.ends(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn wait_for_lock_times_out_with_exit_5() {
    let (place, sandbox) = (Place::new(), sandbox().await);
    place.write("jobs.csv", enabling(3));
    let _lease = acquire(&place.path("deskbatch.db")).await;
    for more in [
        &["--lock-timeout", "500ms"][..],
        &["--lock-timeout", "1h", "--max-duration", "500ms"],
        &[],
    ] {
        let mut command = place.fast(&sandbox, &["run", "jobs.csv"]);
        command.args(more);
        has(&said(&ends(command, 5)), &["another run holds the lock of this queue"]);
    }
    assert_eq!((place.status()["total"].as_u64(), sandbox.ledger().total), (Some(0), 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn on_finish_gets_json_summary_and_exit_code() {
    let (place, sandbox) = (Place::new(), sandbox().await);
    let bad = question("missing1");
    place.write("jobs.csv", format!("{}{bad},delete\n", enabling(3)));
    let reported = "cat > told.json; echo $1 > exit; env > environment";
    let run = ["run", "jobs.csv", "--yes", "--quiet", "--on-finish", reported];
    ends(place.fast(&sandbox, &run), 1);
    let reported = summary(&place, "told.json");
    assert_eq!((&reported["schema"], &reported["exit"]), (&1.into(), &1.into()), "{reported}");
    assert_eq!(reported["meaning"], "finished; some jobs failed");
    assert_eq!(
        (&reported["run"]["id"], &reported["run"]["ending"]),
        (&1.into(), &"drained".into())
    );
    assert_eq!(
        (&reported["run"]["succeeded"], &reported["jobs"]["failed"]),
        (&3.into(), &1.into())
    );
    assert_eq!((&reported["failed"], &reported["error"]), (&1.into(), &serde_json::Value::Null));
    assert_eq!(
        (&reported["sdkappid"], &reported["library"]),
        (&1_400_000_000.into(), &"chitchat".into())
    );
    let failed = &reported["failed_jobs"][0];
    assert_eq!((&failed["question_id"], &failed["code"]), (&bad.into(), &(-50_003).into()));
    has(
        reported["text"].as_str().unwrap(),
        &["Finished: 3 succeeded, 1 failed.", "deskbatch retry"],
    );
    assert_eq!(place.read("exit"), "1\n");
    let environment = place.read("environment");
    has(&environment, &["DESKBATCH_SDKAPPID="]);
    assert!(!environment.contains(SANDBOX_KEY) && !environment.contains("SECRET"), "{environment}");
}

#[tokio::test(flavor = "multi_thread")]
async fn on_finish_runs_for_every_exit_code() {
    let (place, sandbox) = (Place::new(), sandbox().await);
    place.write("jobs.csv", enabling(2));
    place.write("bad.csv", "question_id,status\nq1,9\n");
    let reported = "cat > told.json";
    let end = |args: &[&str], code| {
        let mut command = place.fast(&sandbox, args);
        ends(
            {
                command.args(["--on-finish", reported, "--quiet"]);
                command
            },
            code,
        );
        summary(&place, "told.json")
    };
    let wrong = end(&["run", "bad.csv"], 2);
    has(wrong["error"].as_str().unwrap(), &["bad.csv"]);
    assert_eq!((&wrong["exit"], &wrong["run"]), (&2.into(), &serde_json::Value::Null));
    assert_eq!(end(&["run", "jobs.csv"], 0)["run"]["succeeded"], 2);
    has(end(&["run"], 0)["text"].as_str().unwrap(), &["nothing to do"]);
    let lease = acquire(&place.path("deskbatch.db")).await;
    has(end(&["run"], 5)["error"].as_str().unwrap(), &["another run holds the lock of this queue"]);
    drop(lease);
    // The run releases its lock before `--on-finish` starts, so that command can begin the next run.
    let bin = env!("CARGO_BIN_EXE_deskbatch");
    let next = format!("cat > /dev/null; {bin} run more.csv --on-finish true --sandbox >/dev/null");
    place.write("more.csv", enabling(4));
    ends(
        place.fast(&sandbox, &["run", "jobs.csv", "--reimport", "--sandbox", "--on-finish", &next]),
        0,
    );
    let status = place.deskbatch(&["status", "--sandbox", "--json"]).output().unwrap();
    let status: serde_json::Value = serde_json::from_slice(&status.stdout).unwrap();
    assert_eq!((&status["succeeded"], &status["last_run"]["id"]), (&6.into(), &2.into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn on_finish_reports_completed_plan() {
    let (place, sandbox) = (Place::new(), sandbox().await);
    place.write("bad.csv", format!("question_id,status\n{},4\n", question("missing1")));
    let plan = ends(place.fast(&sandbox, &["plan", "bad.csv", "--json"]), 0);
    let plan: serde_json::Value = serde_json::from_slice(&plan.stdout).unwrap();
    let digest = plan["digest"].as_str().unwrap();
    let run = ["run", "bad.csv", "--plan", digest, "--on-finish", "cat >told.json", "--quiet"];
    for _ in 0..2 {
        ends(place.fast(&sandbox, &run), 1);
    }
    let reported = summary(&place, "told.json");
    assert_eq!((&reported["failed"], &reported["run"]), (&1.into(), &serde_json::Value::Null));
    assert_eq!(
        reported["text"],
        "nothing to do: this plan was executed before; 1 job of it failed"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_cancelled_during_run_are_not_reported_as_done() {
    let sandbox = sandbox_with(|s| {
        s.script = Some("ok,late".parse().unwrap());
        s.late_delay = Duration::from_secs(1);
    })
    .await;
    let place = Place::new();
    place.write("jobs.csv", enabling(9));
    let mut command = place.fast(&sandbox, &["run", "jobs.csv", "--chunk", "1"]);
    command.args(["--max-in-flight", "1", "--timeout", "10m"]);
    let going = Going::start(command);
    sandbox.seen(2).await;
    ends(place.fast(&sandbox, &["cancel", "--batch", "1"]), 0);
    let talk = going.ends(1);
    has(&talk, &["jobs.csv (batch 1) is not complete: ", " cancelled. Use --reimport"]);
    let headline = talk.lines().find(|line| line.starts_with("Finished: ")).unwrap();
    assert!(headline.ends_with(" cancelled during the run."), "{talk}");
}

#[tokio::test(flavor = "multi_thread")]
async fn on_finish_failure_does_not_affect_run() {
    let (place, sandbox) = (Place::new(), sandbox().await);
    place.write("jobs.csv", enabling(2));
    let end = |on_finish: &str| {
        let args = ["run", "jobs.csv", "--reimport", "--quiet", "--on-finish", on_finish];
        said(&ends(place.fast(&sandbox, &args), 0))
    };
    has(&end("exit 7"), &["warning: the --on-finish command failed: exit status: 7"]);
    has(&end("no-such-program"), &["warning: the --on-finish command failed: exit status: 127"]);
    assert_eq!(end("true"), "");
    assert_eq!(end("exec <&-; true"), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn run_reads_manifest_from_stdin_and_config_file() {
    let (place, sandbox) = (Place::new(), sandbox().await);
    let file = "max_duration = \"1h\"\nlock_timeout = \"1s\"\non_finish = \"cat > told.json\"\nquiet = true\n";
    place.write("deskbatch.toml", file);
    let output = ends_with_input(place.fast(&sandbox, &["run", "-"]), enabling(3).as_bytes(), 0);
    assert_eq!(said(&output), "");
    assert_eq!(summary(&place, "told.json")["run"]["succeeded"], 3);
    for (wrong, words) in [
        ("max_duration = \"0s\"", "0s is too short for a run"),
        (
            "max_duration = \"soon\"",
            "line 1: \"soon\" is not a duration: write it with units, e.g. 30s, 90m, 12h or 7d",
        ),
        ("lock_timeout = 5", "the value has the wrong type: expected text in quotes"),
        ("on_finish = \" \"", "the command is empty"),
    ] {
        place.write("deskbatch.toml", wrong);
        has(&said(&ends(place.fast(&sandbox, &["run", "-"]), 2)), &[words]);
    }
}
