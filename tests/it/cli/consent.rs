//! Consent covers fixed jobs: a run does not send deletes that another process imports or retries while
//! the question is open or the run is active.

use std::process::Command;
use std::time::Duration;

use deskbatch::sandbox::{QuestionStatus, Sandbox};
use rexpect::session::PtySession;
use rustix::process::Signal;

use crate::support::binary::{Going, ends, has, sandbox, sandbox_with};
use crate::support::place::{Place, manifest, question, said};
use crate::support::terminal::{closes, on_terminal};

/// `count` questions to be deleted; the last part of each id is `name` and a number.
fn deletes(name: &str, count: usize) -> String {
    let ids: Vec<String> = (0..count).map(|n| question(&format!("{name}{n}"))).collect();
    manifest(ids.iter().map(|id| (id.as_str(), "delete")))
}

/// A sandbox with a latency that leaves time for other commands during a run.
async fn slow() -> Sandbox {
    sandbox_with(|s| s.latency = Duration::from_millis(80)).await
}

/// A run with one question per request and one request in flight.
fn slow_run(place: &Place, sandbox: &Sandbox, args: &[&str]) -> Command {
    let one_by_one = ["--chunk", "1", "--max-in-flight", "1"];
    place.fast(sandbox, &[&["run"], args, &one_by_one].concat())
}

fn import(place: &Place, sandbox: &Sandbox, name: &str, text: String) {
    place.write(name, text);
    ends(place.fast(sandbox, &["import", name]), 0);
}

/// Waits for the question about `count` deletes and returns the text above it.
fn asked(terminal: &mut PtySession, count: usize) -> String {
    terminal.exp_string(&format!("Delete {count} questions? [y/N] ")).unwrap()
}

/// How many questions the service has deleted.
fn deleted(sandbox: &Sandbox, name: &str, count: usize) -> usize {
    let is_deleted = |n: &usize| {
        let question = sandbox.question(&question(&format!("{name}{n}")));
        question.is_some_and(|question| question.status == QuestionStatus::Deleted)
    };
    (0..count).filter(is_deleted).count()
}

const LEFT: &str = "deletions were imported or retried during the run: not confirmed, and not sent";

#[tokio::test(flavor = "multi_thread")]
async fn import_beside_run_leaves_its_deletes_pending() {
    for flags in [&[][..], &["--yes"]] {
        let (place, sandbox) = (Place::new(), slow().await);
        place.write("a.csv", deletes("a", 30));
        let run = slow_run(&place, &sandbox, &[&["a.csv"], flags].concat());
        let late = async || {
            sandbox.seen(3).await;
            let on = question("on") + ",enable\n";
            import(&place, &sandbox, "late.csv", deletes("late", 5) + &on);
        };
        let text = if flags.is_empty() {
            let mut terminal = on_terminal(run);
            asked(&mut terminal, 30);
            terminal.send_line("y").unwrap();
            late().await;
            closes(terminal, 3)
        } else {
            let going = Going::start(run);
            late().await;
            going.ends(3)
        };
        has(&text, &["Stopped: 5 deletions are pending and not confirmed."]);
        has(&text, &[&format!("5 {LEFT}"), "succeeded   31", "pending     5", "deskbatch plan"]);
        assert_eq!(place.counts(), [5, 0, 31, 0, 0, 0]);
        assert_eq!((deleted(&sandbox, "a", 30), deleted(&sandbox, "late", 5)), (30, 0));
        // The next run asks only about these deletes.
        let mut terminal = on_terminal(place.fast(&sandbox, &["run"]));
        asked(&mut terminal, 5);
        terminal.send_line("y").unwrap();
        closes(terminal, 0);
        assert_eq!(deleted(&sandbox, "late", 5), 5);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn retry_beside_run_leaves_its_deletes_pending() {
    let (place, sandbox) = (Place::new(), slow().await);
    // Some jobs failed before the run, and one fails early in it.
    place.write("old.csv", deletes("missingold", 4));
    ends(place.fast(&sandbox, &["run", "old.csv", "--yes"]), 1);
    let rows = |name, count| deletes(name, count).split_once('\n').unwrap().1.to_owned();
    place.write("a.csv", deletes("a", 3) + &rows("missingnew", 1) + &rows("b", 40));
    let before = sandbox.ledger().total;
    let mut terminal = on_terminal(slow_run(&place, &sandbox, &["a.csv"]));
    asked(&mut terminal, 44);
    terminal.send_line("y").unwrap();
    sandbox.seen(before + 15).await;
    ends(place.fast(&sandbox, &["retry"]), 0);
    has(&closes(terminal, 3), &[&format!("5 {LEFT}"), "succeeded   43"]);
    assert_eq!(place.counts(), [5, 0, 43, 0, 0, 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn superseding_delete_beside_run_needs_approval() {
    let (place, sandbox) = (Place::new(), slow().await);
    place.write("a.csv", deletes("a", 30));
    let going = Going::start(slow_run(&place, &sandbox, &["a.csv", "--yes"]));
    sandbox.seen(3).await;
    ends(place.fast(&sandbox, &["import", "a.csv", "--reimport"]), 0);
    has(&going.ends(3), &[&format!("30 {LEFT}")]);
    let [pending, in_flight, succeeded, failed, _, superseded] = place.counts();
    assert_eq!((pending, in_flight, succeeded + superseded, failed), (30, 0, 30, 0));
    assert_eq!(deleted(&sandbox, "a", 30) as u64, succeeded);
}

#[tokio::test(flavor = "multi_thread")]
async fn sandbox_run_sends_only_deletes_queued_at_its_start() {
    let place = Place::new();
    place.write("a.csv", deletes("a", 20));
    place.write("late.csv", deletes("late", 3));
    let args = ["run", "a.csv", "--sandbox", "--rate-limit", "0", "--latency", "150ms"];
    let one_by_one = ["--chunk", "1", "--max-in-flight", "1", "--rate", "200"];
    let mut going = Going::start(place.deskbatch(&[&args[..], &one_by_one].concat()));
    going.says("sandbox run: sending to the local sandbox at http://");
    ends(place.deskbatch(&["import", "late.csv", "--sandbox"]), 0);
    has(&going.ends(3), &[&format!("3 {LEFT}"), "succeeded   20", "deskbatch run --sandbox"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn queue_change_during_confirmation_aborts_run() {
    let (place, sandbox) = (Place::new(), sandbox().await);
    place.write("failed.csv", deletes("missing", 2));
    ends(place.fast(&sandbox, &["run", "failed.csv", "--yes"]), 1);
    let sent = sandbox.ledger().total;
    import(&place, &sandbox, "a.csv", deletes("a", 3));
    place.write("b.csv", deletes("b", 1));
    place.write("more.csv", deletes("more", 50));
    for (change, shown, left) in [
        (&["import", "more.csv"][..], 3, 53),
        (&["retry"], 53, 55),
        (&["cancel", "--batch", "2"], 55, 52),
    ] {
        // With a file: its import is rolled back while the question is open, so nothing is imported.
        let run = if shown == 53 { &["run", "b.csv"][..] } else { &["run"] };
        let mut terminal = on_terminal(place.fast(&sandbox, run));
        asked(&mut terminal, shown + run.len() - 1);
        ends(place.fast(&sandbox, change), 0);
        terminal.send_line("y").unwrap();
        has(
            &closes(terminal, 2),
            &[
                "the manifest or the queue has changed since the plan was shown",
                "Nothing was imported or sent. Run again.",
            ],
        );
        assert_eq!(place.counts()[0], left, "{change:?}");
    }
    assert_eq!(sandbox.ledger().total, sent);
}

#[tokio::test(flavor = "multi_thread")]
async fn orphaned_deletes_are_confirmed_as_already_sent() {
    let sandbox = sandbox_with(|s| {
        s.script = Some("ok,late*2".parse().unwrap());
        s.late_delay = Duration::from_hours(1);
        s.repeated_delete_ok = true;
    })
    .await;
    let place = Place::new();
    place.write("a.csv", deletes("a", 12));
    let args = ["run", "a.csv", "--yes", "--chunk", "2", "--max-in-flight", "2"];
    let mut going = Going::start(place.fast(&sandbox, &args));
    sandbox.seen(3).await;
    going.signal(Signal::KILL);
    going.waits();
    assert_eq!(place.counts(), [6, 4, 2, 0, 0, 0]);
    // Another import changes one job in flight to the same status and one pending job to another.
    let rows = [(question("a2"), "delete"), (question("a9"), "disable")];
    let text = manifest(rows.iter().map(|(id, status)| (id.as_str(), *status)));
    import(&place, &sandbox, "b.csv", text);
    let mut terminal = on_terminal(place.fast(&sandbox, &["run"]));
    has(
        &asked(&mut terminal, 9),
        &[
            "delete           9 questions",
            "4 of these jobs are in flight or in doubt: a request may have applied them already",
        ],
    );
    terminal.send_line("y").unwrap();
    closes(terminal, 0);
    assert_eq!(place.counts(), [0, 0, 12, 0, 0, 2]);
    assert_eq!(deleted(&sandbox, "a", 12), 11);
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelled_deletes_in_flight_are_not_asked_about() {
    let sandbox = sandbox_with(|s| {
        s.script = Some("late".parse().unwrap());
        s.late_delay = Duration::from_hours(1);
    })
    .await;
    let place = Place::new();
    place.write("a.csv", deletes("a", 4));
    let mut going = Going::start(place.fast(&sandbox, &["run", "a.csv", "--yes", "--chunk", "2"]));
    sandbox.seen(1).await;
    going.signal(Signal::KILL);
    going.waits();
    ends(place.fast(&sandbox, &["cancel", "--batch", "1"]), 0);
    let output = ends(place.fast(&sandbox, &["run"]), 0);
    assert!(!said(&output).contains("Delete"), "{}", said(&output));
    assert_eq!((place.counts(), deleted(&sandbox, "a", 4)), ([0, 0, 0, 0, 4, 0], 2));
}
