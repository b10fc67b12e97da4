//! A run that is stopped, declared dead, and resumed after another run has finished: its late writes
//! are rejected, it reports the reason, and nothing changes.

use std::fs;
use std::path::Path;
use std::time::Duration;

use deskbatch::domain::clock::{Clock as _, SystemClock};
use deskbatch::domain::job::{App, Library};
use deskbatch::sandbox::{SANDBOX_SDKAPPID, Sandbox, SandboxSettings};
use rustix::process::{Pid, Signal, WaitOptions, waitpid};

use crate::support::binary::{Going, ends, has, sandbox_with};
use crate::support::crash::{Mode, Moment, each_moment, small};
use crate::support::lease::take_over;
use crate::support::migration::{ALL, Migration, patiently, rows, unlimited};
use crate::support::place::{Place, data, manifest, question, report_line};

/// The messages of a run that has lost its queue: another run took it over, or its files are gone.
#[track_caller]
fn has_lost_it(said: &str) {
    let words = ["another process has taken over this queue", "replaced during this run"];
    assert!(words.iter().any(|words| said.contains(words)), "{said}");
    assert!(said.contains("error: ") && !said.contains("panicked"), "{said}");
    assert!(!said.contains("Finished"), "{said}");
}

/// Each reported row with all its columns.
fn whole_report(place: &Place) -> String {
    data(&ends(place.deskbatch(&["report"]), 0))
}

/// Returns `true` once `going` is stopped; `false` if it has exited.
async fn is_stopped(going: &Going) -> bool {
    let pid = Pid::from_raw(i32::try_from(going.pid()).unwrap());
    let stopped = move || {
        let (_, status) = waitpid(pid, WaitOptions::UNTRACED).unwrap().unwrap();
        status.stopped()
    };
    patiently(tokio::task::spawn_blocking(stopped)).await.unwrap()
}

/// Removes the lock of the app, which would make the next run wait for the stopped one.
fn remove_app_lock(sandbox: &Sandbox) {
    let address = sandbox.endpoint().replace("http://", "").replace(':', "_");
    let name = format!("deskbatch-{SANDBOX_SDKAPPID}-chitchat-{address}.lock");
    for folder in ["/run/lock", "/tmp"] {
        let _ = fs::remove_file(Path::new(folder).join(&name));
    }
}

/// Ways in which an operator can break the lock of a run that is still alive.
#[derive(Debug, Clone, Copy)]
enum Broken {
    LockDeleted,
    QueueCopiedAndMovedBack,
    /// A network drive whose locks other hosts do not see.
    LockUnseen,
}

fn break_lock(place: &Place, sandbox: &Sandbox, how: Broken) {
    remove_app_lock(sandbox);
    match how {
        Broken::LockUnseen => {
            let app = App { sdkappid: SANDBOX_SDKAPPID, library: Library::Chitchat };
            take_over(&place.path("deskbatch.db"), app, SystemClock::new().wall_ms());
        }
        Broken::LockDeleted => fs::remove_file(place.path("deskbatch.db.lock")).unwrap(),
        Broken::QueueCopiedAndMovedBack => {
            for end in ["", "-wal", "-shm"] {
                let name = format!("deskbatch.db{end}");
                fs::copy(place.path(&name), place.path("copy")).unwrap();
                fs::rename(place.path("copy"), place.path(&name)).unwrap();
            }
            fs::remove_file(place.path("deskbatch.db.lock")).unwrap();
        }
    }
}

async fn stopped_in_flight(how: Broken) {
    let settings = SandboxSettings { latency: Duration::from_millis(400), ..unlimited() };
    let sandbox = Sandbox::start(settings).await.unwrap();
    let args = &["--rate", "200", "--chunk", "4", "--max-in-flight", "4"];
    let migration = Migration::at(Place::new(), sandbox, rows(24, ALL), args);
    let first = Going::start(migration.command());
    patiently(migration.sandbox.seen(2)).await;
    first.signal(Signal::STOP);
    assert!(is_stopped(&first).await);
    break_lock(&migration.place, &migration.sandbox, how);
    if !matches!(how, Broken::LockUnseen) {
        migration.finish().await;
    }
    let (before, status) = (whole_report(&migration.place), migration.place.status());
    assert!(status["orphaned"].as_u64().unwrap() > 0, "{status}");

    first.signal(Signal::CONT);
    let said = first.ends(70);
    has_lost_it(&said);
    assert_eq!(whole_report(&migration.place), before, "{how:?}");
    assert_eq!(migration.place.status()["last_run"], status["last_run"], "{how:?}");
    if matches!(how, Broken::LockUnseen) {
        has(&said, &["was already ", "another process has taken over this queue"]);
        migration.finish().await;
    }
    migration.check();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn late_response_is_fenced_when_lock_was_unseen() {
    stopped_in_flight(Broken::LockUnseen).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn resumed_run_with_deleted_lock_records_nothing() {
    stopped_in_flight(Broken::LockDeleted).await;
}

/// Its connections still have the old file, which has no name any more.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn resumed_run_does_not_change_copied_queue() {
    stopped_in_flight(Broken::QueueCopiedAndMovedBack).await;
}

/// The result of a run that was stopped between the claim of its n-th request and its sending.
async fn stopped_before_sending(moment: Moment) -> Option<()> {
    let migration = small(9).await;
    let first = Going::start(moment.befalls(migration.command(), &migration.place));
    if !is_stopped(&first).await {
        return None;
    }
    break_lock(&migration.place, &migration.sandbox, Broken::LockDeleted);
    migration.finish().await;
    let before = whole_report(&migration.place);
    first.signal(Signal::CONT);
    has_lost_it(&first.ends(70));
    assert_eq!(whole_report(&migration.place), before, "{moment:?}");
    migration.check();
    Some(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 12)]
async fn run_paused_after_claim_records_nothing_on_resume() {
    let stops = each_moment(Mode::Stop, 1, stopped_before_sending).await.len();
    report_line(&format!("stopped before each of {stops} requests"));
    assert!(stops >= 5, "{stops}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn run_paused_while_idle_sends_nothing_on_resume() {
    let (place, sandbox) = (Place::new(), sandbox_with(|_| {}).await);
    let ids: Vec<String> = (0..6).map(|n| question(&format!("q{n}"))).collect();
    place.write("jobs.csv", manifest(ids.iter().map(|id| (id.as_str(), "enable"))));
    let args = ["run", "jobs.csv", "--chunk", "1", "--rate", "0.5"];
    let first = Going::start(place.deskbatch_toward(&sandbox, &args));
    patiently(sandbox.seen(1)).await;
    while place.counts()[2] < 1 {}
    first.signal(Signal::STOP);
    assert!(is_stopped(&first).await);
    break_lock(&place, &sandbox, Broken::LockDeleted);
    ends(place.fast(&sandbox, &["run"]), 0);
    let (before, seen) = (whole_report(&place), sandbox.ledger().total);
    first.signal(Signal::CONT);
    has_lost_it(&first.ends(70));
    assert_eq!((whole_report(&place), sandbox.ledger().total), (before, seen));
}
