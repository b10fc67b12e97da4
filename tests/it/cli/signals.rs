//! The question before a run that deletes, on a real terminal; Ctrl-C and SIGTERM.

use std::time::Duration;

use deskbatch::sandbox::Sandbox;
use rustix::process::Signal;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{Connection as _, SqliteConnection};

use crate::support::binary::{Going, by_way_of, ends, has, sandbox, sandbox_with};
use crate::support::lease::acquire;
use crate::support::place::{Place, manifest, question, said};
use crate::support::terminal::{closes, on_terminal};

/// Two questions to be enabled, one disabled, three deleted.
fn deleting() -> String {
    let ids: Vec<String> = (0..6).map(|n| question(&format!("q{n}"))).collect();
    let statuses = ["delete", "enable", "delete", "disable", "enable", "delete"];
    manifest(ids.iter().map(String::as_str).zip(statuses))
}

#[tokio::test(flavor = "multi_thread")]
async fn run_with_deletes_shows_plan_and_asks() {
    let (place, sandbox) = (Place::new(), sandbox().await);
    place.write("jobs.csv", deleting());
    let command = place.fast(&sandbox, &["run", "jobs.csv", "--chunk", "2"]);
    let mut terminal = on_terminal(command);
    let plan = terminal.exp_string("Delete 3 questions? [y/N] ").unwrap();
    let plan: Vec<&str> = plan.lines().map(str::trim).collect();
    let endpoint = sandbox.endpoint();
    let host = endpoint.trim_start_matches("http://");
    assert_eq!(
        plan[..5],
        [
            &format!("This run sends to {host} for app 1400000000, library chitchat:"),
            "enable           2 questions",
            "disable          1 question",
            "delete           3 questions (cannot be undone)",
            "4 to 8 requests, about 1 s",
        ]
    );
    assert_eq!(sandbox.ledger().total, 0);
    terminal.send_line("y").unwrap();
    has(&closes(terminal, 0), &["imported jobs.csv as batch 1: 6 jobs", "Finished: 6 succeeded."]);
    assert_eq!(place.counts(), [0, 0, 6, 0, 0, 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn confirmation_other_than_yes_aborts_run() {
    let (place, sandbox) = (Place::new(), sandbox().await);
    place.write("jobs.csv", deleting());
    for response in ["n\n", "\n", "yep\n", "\u{4}"] {
        let mut terminal = on_terminal(place.fast(&sandbox, &["run", "jobs.csv"]));
        terminal.exp_string("[y/N] ").unwrap();
        terminal.send(response).unwrap();
        terminal.flush().unwrap();
        has(&closes(terminal, 2), &["not confirmed: nothing was imported or sent"]);
    }
    assert_eq!(place.status()["total"], 0);
    assert_eq!(sandbox.ledger().total, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn pending_deletes_in_queue_need_confirmation() {
    let (place, sandbox) = (Place::new(), sandbox().await);
    place.write("jobs.csv", deleting());
    place.write("more.csv", manifest([(question("more").as_str(), "enable")]));
    ends(place.fast(&sandbox, &["import", "jobs.csv"]), 0);
    for args in [&["run"][..], &["run", "more.csv"]] {
        let mut terminal = on_terminal(place.fast(&sandbox, args));
        terminal.exp_string("Delete 3 questions?").unwrap();
        terminal.send_line("n").unwrap();
        closes(terminal, 2);
        assert_eq!(place.counts(), [6, 0, 0, 0, 0, 0]);
    }
    assert_eq!(sandbox.ledger().total, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn prompt_is_skipped_for_yes_sandbox_or_no_deletes() {
    let plain = manifest([(question("a").as_str(), "enable"), (question("b").as_str(), "5")]);
    for (text, flags) in [
        (&plain, &[][..]),
        (&deleting(), &["--yes"]),
        (&deleting(), &["-y"]),
        (&deleting(), &["--sandbox", "--rate-limit", "0"]),
    ] {
        let (place, sandbox) = (Place::new(), sandbox().await);
        place.write("jobs.csv", text);
        let mut command = place.fast(&sandbox, &["run", "jobs.csv"]);
        command.args(flags);
        let shown = closes(on_terminal(command), 0);
        assert!(!shown.contains('?'), "{shown}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn plan_names_host_and_duration() {
    let place = Place::new();
    let ids: Vec<String> = (0..6_000).map(|n| format!("q{n}")).collect();
    place.write("jobs.csv", manifest(ids.iter().map(|id| (id.as_str(), "6"))));
    let mut command = place.deskbatch(&["run", "jobs.csv", "--region", "singapore"]);
    command
        .args(["--sdkappid", "1", "--identifier", "a", "--chunk", "5"])
        .env("DESKBATCH_SECRET_KEY", "k");
    let mut terminal = on_terminal(command);
    let plan = terminal.exp_string("Delete 6000 questions?").unwrap();
    has(&plan, &["adminapisgp.im.qcloud.com", "1200 to 1672 requests, 4 to 6 min"]);
    terminal.send_line("").unwrap();
    closes(terminal, 2);
}

/// Runs 60 jobs of one request each. The eight responses after that of the probe are delayed, and all
/// eight requests are in flight when this returns.
async fn busy(place: &Place, late: Duration) -> (Sandbox, Going) {
    busy_by(place, late, &["env", "--default-signal=HUP"]).await
}

/// The same, started through the program `by`.
async fn busy_by(place: &Place, late: Duration, by: &[&str]) -> (Sandbox, Going) {
    let sandbox = sandbox_with(|s| {
        s.script = Some("ok,late*8".parse().unwrap());
        s.late_delay = late;
    })
    .await;
    let ids: Vec<String> = (0..60).map(|n| question(&format!("q{n}"))).collect();
    place.write("jobs.csv", manifest(ids.iter().map(|id| (id.as_str(), "disable"))));
    let mut command = place.fast(&sandbox, &["run", "jobs.csv", "--chunk", "1"]);
    command.args(["--max-in-flight", "8", "--timeout", "10m", "--grace-period", "1h"]);
    let run = Going::start(by_way_of(by, &command));
    sandbox.seen(9).await;
    (sandbox, run)
}

#[tokio::test(flavor = "multi_thread")]
async fn first_signal_waits_for_requests_in_flight() {
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let place = Place::new();
        let (sandbox, mut run) = busy(&place, Duration::from_millis(500)).await;
        run.signal(signal);
        run.says("stopping: waiting for in-flight requests (signal again to stop now)");
        has(&run.ends(3), &["Stopped by a signal.", "succeeded   9", "pending     51"]);
        assert_eq!(sandbox.ledger().total, 9);
        assert_eq!(place.counts(), [51, 0, 9, 0, 0, 0]);
        ends(place.fast(&sandbox, &["run"]), 0);
        assert_eq!(place.counts(), [0, 0, 60, 0, 0, 0]);
        assert_eq!(sandbox.ledger().requests.iter().map(|r| r.ids.len()).sum::<usize>(), 60);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn second_signal_exits_at_once_and_next_run_finishes() {
    let place = Place::new();
    // The latency is an hour: the test hangs if the second signal waits for responses.
    let (sandbox, mut run) = busy(&place, Duration::from_hours(1)).await;
    run.signal(Signal::INT);
    run.says("signal again to stop now");
    run.signal(Signal::TERM);
    has(&run.ends(3), &["in flight   8"]);
    assert_eq!(sandbox.ledger().total, 9);
    let output = ends(place.fast(&sandbox, &["run"]), 0);
    has(
        &said(&output),
        &["8 jobs had no response when an earlier run ended: in doubt, and set back to pending"],
    );
    assert_eq!(place.counts(), [0, 0, 60, 0, 0, 0]);
    let status = place.status();
    assert_eq!(
        (&status["orphaned"], &status["last_run"]["ending"]),
        (&8.into(), &"drained".into())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn next_run_finishes_after_kill() {
    let place = Place::new();
    let (sandbox, run) = busy(&place, Duration::from_hours(1)).await;
    run.signal(Signal::KILL);
    drop(run);
    let output = ends(place.fast(&sandbox, &["run", "jobs.csv"]), 0);
    has(
        &said(&output),
        &["was imported before as batch 1: resuming its ", "8 jobs had no response"],
    );
    assert_eq!(place.counts(), [0, 0, 60, 0, 0, 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn zero_grace_leaves_requests_to_next_run() {
    let sandbox = sandbox_with(|s| {
        s.script = Some("late".parse().unwrap());
        s.late_delay = Duration::from_hours(1);
    })
    .await;
    let place = Place::new();
    place.write("jobs.csv", manifest([(question("q").as_str(), "4")]));
    let run = Going::start(place.fast(&sandbox, &["run", "jobs.csv", "--grace-period", "0s"]));
    sandbox.seen(1).await;
    run.signal(Signal::TERM);
    run.ends(3);
    assert_eq!(place.counts(), [0, 1, 0, 0, 0, 0]);
    ends(place.fast(&sandbox, &["run"]), 0);
    assert_eq!(place.counts(), [0, 0, 1, 0, 0, 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn nohup_run_ignores_sighup() {
    let place = Place::new();
    let (_sandbox, mut run) = busy_by(&place, Duration::from_millis(500), &["nohup"]).await;
    run.signal(Signal::HUP);
    // If the program had handled the first signal, this one would be the second and stop it at once.
    run.signal(Signal::TERM);
    run.says("stopping: waiting for in-flight requests (signal again to stop now)");
    has(&run.ends(3), &["Stopped by a signal.", "succeeded   9"]);
    assert_eq!(place.counts(), [51, 0, 9, 0, 0, 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn signal_during_lock_wait_exits_3_and_runs_on_finish() {
    let (place, sandbox) = (Place::new(), sandbox().await);
    place.write("jobs.csv", deleting());
    let lease = acquire(&place.path("deskbatch.db")).await;
    let reported = ["--on-finish", "cat >told.json", "--yes", "--lock-timeout", "10m"];
    let mut command = place.fast(&sandbox, &["run", "jobs.csv"]);
    command.args(reported);
    let mut run = Going::start(command);
    run.says("waiting for another run to end: it holds the lock of this queue");
    run.signal(Signal::TERM);
    run.says("stopping: no longer waiting for the lock; nothing was sent");
    has(&run.ends(3), &["stopped before anything was imported or sent"]);
    let reported: serde_json::Value = serde_json::from_str(&place.read("told.json")).unwrap();
    assert_eq!((&reported["exit"], &reported["run"]), (&3.into(), &serde_json::Value::Null));
    drop(lease);
    assert_eq!((place.status()["total"].as_u64(), sandbox.ledger().total), (Some(0), 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn signal_kills_on_finish_and_its_children() {
    let (place, sandbox) = (Place::new(), sandbox().await);
    // A surviving child would keep stderr open, and the test would hang.
    let patient = "echo up >&2; sleep 3600 & sleep 3600";
    let stubborn = "trap '' TERM; echo up >&2; while :; do sleep 3600; done";
    for (command, presses) in [(patient, 1), (stubborn, 2)] {
        let mut run = Going::start(place.fast(&sandbox, &["run", "--on-finish", command]));
        run.says("up\n");
        run.signal(Signal::TERM);
        run.says("stopping: terminating the --on-finish command (signal again to kill it)");
        if presses == 2 {
            run.signal(Signal::INT);
        }
        let talk = run.ends(0);
        has(&talk, &["warning: the --on-finish command was terminated by a signal"]);
        assert!(!talk.contains("in-flight requests"), "{talk}");
    }
}

/// A connection that holds the write lock of the queue.
async fn write_lock(place: &Place) -> SqliteConnection {
    let file = SqliteConnectOptions::new().filename(place.path("deskbatch.db"));
    let mut other = SqliteConnection::connect_with(&file).await.unwrap();
    sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut other).await.unwrap();
    other
}

/// A run that waits for the queue. Another process holds its write lock as long as the connection
/// lives.
async fn waiting(place: &Place, sandbox: &Sandbox) -> (SqliteConnection, Going) {
    place.write("jobs.csv", manifest([(question("q").as_str(), "4")]));
    ends(place.fast(sandbox, &["import", "jobs.csv"]), 0);
    let other = write_lock(place).await;
    let mut run = Going::start(place.fast(sandbox, &["run", "--log", "warn"]));
    run.says("another process is writing to the queue: still waiting");
    (other, run)
}

#[tokio::test(flavor = "multi_thread")]
async fn run_waits_for_queue_writer_without_limit() {
    let (place, sandbox) = (Place::new(), sandbox().await);
    let (other, run) = waiting(&place, &sandbox).await;
    other.close().await.unwrap();
    assert!(!run.ends(0).contains("locked"));
    assert_eq!(place.counts(), [0, 0, 1, 0, 0, 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn first_signal_ends_wait_before_a_run() {
    let (place, sandbox) = (Place::new(), sandbox().await);
    let (other, run) = waiting(&place, &sandbox).await;
    run.signal(Signal::INT);
    has(&run.ends(3), &["stopped before anything was imported or sent"]);
    other.close().await.unwrap();
    ends(place.fast(&sandbox, &["run"]), 0);
    assert_eq!(place.counts(), [0, 0, 1, 0, 0, 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn time_limit_ends_wait_before_a_run() {
    let (place, sandbox) = (Place::new(), sandbox().await);
    let (other, run) = waiting(&place, &sandbox).await;
    run.signal(Signal::KILL);
    let limited = ["run", "--max-duration", "1s"];
    has(
        &said(&ends(place.fast(&sandbox, &limited), 3)),
        &["stopped before anything was imported or sent"],
    );
    other.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn second_signal_ends_wait_for_queue_writer() {
    let place = Place::new();
    let sandbox = sandbox_with(|s| s.latency = Duration::from_secs(2)).await;
    place.write("jobs.csv", manifest([(question("q").as_str(), "4")]));
    let mut run = Going::start(place.fast(&sandbox, &["run", "jobs.csv", "--log", "warn"]));
    // While the request is in flight, another process begins to write. The response then waits for it.
    sandbox.seen(1).await;
    let other = write_lock(&place).await;
    run.says("another process is writing to the queue: still waiting");
    run.signal(Signal::INT);
    run.says("signal again to stop now");
    run.signal(Signal::INT);
    has(&run.ends(3), &["stopped while the run waited for its queue"]);
    other.close().await.unwrap();
    ends(place.fast(&sandbox, &["run"]), 0);
    assert_eq!(place.counts(), [0, 0, 1, 0, 0, 0]);
}

#[test]
fn sandbox_exits_0_on_signal() {
    let place = Place::new();
    let mut sandbox = Going::start(place.deskbatch(&["sandbox", "--addr", "127.0.0.1:0"]));
    sandbox.says("the sandbox is listening. http://127.0.0.1:");
    sandbox.signal(Signal::INT);
    sandbox.ends(0);
}
