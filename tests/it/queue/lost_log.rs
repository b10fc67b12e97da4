//! A queue file whose write-ahead log is lost, and files that are no queue yet. The loss is reported,
//! and no job that may have been sent counts as unsent.

use std::fs;
use std::time::Duration;

use deskbatch::queue::Queue;
use rustix::process::Signal;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _};

use crate::support::binary::{Going, ends, has, sandbox, sandbox_with};
use crate::support::migration::patiently;
use crate::support::place::{Place, manifest, question, said};
use crate::support::queue::{APP, NOW_MS, TestQueue};

fn write_jobs(place: &Place, names: &[&str], status: &str) {
    let ids: Vec<String> = names.iter().map(|name| question(name)).collect();
    place.write("jobs.csv", manifest(ids.iter().map(|id| (id.as_str(), status))));
}

#[tokio::test(flavor = "multi_thread")]
async fn queue_copied_without_its_log_has_every_import() {
    let place = Place::new();
    write_jobs(&place, &["a", "b", "c"], "enable");
    // An open connection of another process prevents the checkpoint at the end of a command.
    let open = Queue::open(&place.path("deskbatch.db")).await.unwrap();
    open.status().await.unwrap();
    ends(place.deskbatch(&["import", "jobs.csv", "--sdkappid", "1400000000"]), 0);
    fs::copy(place.path("deskbatch.db"), place.path("copy.db")).unwrap();
    assert_eq!(place.report(&["--database", "copy.db"]).len(), 3);
    open.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn empty_database_is_refused_as_queue() {
    let (place, sandbox) = (Place::new(), sandbox().await);
    write_jobs(&place, &["a"], "enable");
    let options = SqliteConnectOptions::new().filename(place.path("header.db"));
    let mut header = options.create_if_missing(true).connect().await.unwrap();
    sqlx::raw_sql("PRAGMA journal_mode = WAL").execute(&mut header).await.unwrap();
    header.close().await.unwrap();
    assert_eq!(fs::metadata(place.path("header.db")).unwrap().len(), 4_096);
    place.write("zeros.db", vec![0; 4_096]);
    for name in ["header.db", "zeros.db"] {
        let before = fs::read(place.path(name)).unwrap();
        for args in [&["run", "jobs.csv"][..], &["import", "jobs.csv"], &["status"]] {
            let mut command = place.fast(&sandbox, args);
            command.args(["--database", name]);
            has(&said(&ends(command, 2)), &[name, "Nothing was changed", "--database"]);
        }
        assert_eq!(fs::read(place.path(name)).unwrap(), before, "{name}");
    }
    assert_eq!(sandbox.ledger().total, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn run_whose_log_is_removed_sends_nothing_more() {
    for end in ["-wal", "-shm"] {
        let (place, sandbox) = (Place::new(), sandbox().await);
        write_jobs(&place, &["a", "b", "c"], "enable");
        let args = ["run", "jobs.csv", "--chunk", "1", "--rate", "0.5"];
        let going = Going::start(place.deskbatch_toward(&sandbox, &args));
        patiently(sandbox.seen(1)).await;
        fs::remove_file(place.path(&format!("deskbatch.db{end}"))).unwrap();
        let said = going.ends(70);
        let name = format!("deskbatch.db{end}");
        has(&said, &[&name, "removed or replaced during this run", "nothing more was sent"]);
        assert_eq!(sandbox.ledger().total, 1, "{end}");
    }
}

/// A run of deletes that was killed after the first one was recorded as applied, with another request
/// open.
async fn killed_run(place: &Place) -> deskbatch::sandbox::Sandbox {
    let sandbox = sandbox_with(|s| s.latency = Duration::from_millis(300)).await;
    write_jobs(place, &["a", "b", "c"], "delete");
    let args = ["run", "jobs.csv", "--yes", "--chunk", "1", "--max-in-flight", "1"];
    let mut going = Going::start(place.fast(&sandbox, &args));
    patiently(sandbox.seen(2)).await;
    going.signal(Signal::KILL);
    going.waits();
    assert!(fs::metadata(place.path("deskbatch.db-wal")).unwrap().len() > 0);
    sandbox
}

#[tokio::test(flavor = "multi_thread")]
async fn run_after_lost_log_marks_pending_jobs_in_doubt() {
    let place = Place::new();
    let sandbox = killed_run(&place).await;
    for end in ["-wal", "-shm"] {
        fs::remove_file(place.path(&format!("deskbatch.db{end}"))).unwrap();
    }
    has(
        &crate::support::place::data(&ends(place.fast(&sandbox, &["doctor", "--offline"]), 0)),
        &["deskbatch.db-wal was lost"],
    );
    let again = said(&ends(place.fast(&sandbox, &["run", "--yes"]), 0));
    has(&again, &["deskbatch.db-wal", "lost", "in doubt"]);
    assert_eq!(place.counts(), [0, 0, 3, 0, 0, 0]);
}

/// A run that recovers and ends before it begins to send, since its deletes are not approved.
#[tokio::test(flavor = "multi_thread")]
async fn lost_log_is_found_only_once() {
    let place = Place::new();
    let sandbox = killed_run(&place).await;
    for end in ["-wal", "-shm"] {
        fs::remove_file(place.path(&format!("deskbatch.db{end}"))).unwrap();
    }
    has(&said(&ends(place.fast(&sandbox, &["run"]), 2)), &["deskbatch.db-wal", "lost"]);
    write_jobs(&place, &["later"], "delete");
    ends(place.fast(&sandbox, &["import", "jobs.csv"]), 0);
    let again = said(&ends(place.fast(&sandbox, &["run"]), 2));
    assert!(!again.contains("-wal"), "{again}");
    let in_doubt = place.report(&["--state", "in-doubt"]);
    assert_eq!(in_doubt.len(), 3, "{in_doubt:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn run_on_copy_without_log_marks_jobs_in_doubt() {
    let (place, copy) = (Place::new(), Place::new());
    let sandbox = killed_run(&place).await;
    fs::copy(place.path("deskbatch.db"), copy.path("deskbatch.db")).unwrap();
    // An existing log is read, even after a kill.
    let whole = said(&ends(place.fast(&sandbox, &["run", "--yes"]), 0));
    assert!(!whole.contains("-wal"), "{whole}");
    let again = said(&ends(copy.fast(&sandbox, &["run", "--yes"]), 0));
    has(&again, &["deskbatch.db-wal", "lost", "in doubt"]);
    assert_eq!(copy.counts(), [0, 0, 3, 0, 0, 0]);
}

/// The check belongs to the lease: the second run under it must not doubt jobs that came since.
#[tokio::test]
async fn second_run_of_a_lease_finds_no_lost_log() {
    let queue = TestQueue::idle().await;
    queue.start_run().await;
    queue.import("a delete").await;
    let lock = queue.path_of("queue.db.lock");
    let text = fs::read_to_string(&lock).unwrap();
    assert!(text.contains("\"request\":0"), "{text}");
    fs::write(&lock, text.replace("\"request\":0", "\"request\":999")).unwrap();
    let lease = queue.reacquire(APP, NOW_MS).await;
    assert_eq!(queue.job("a").await, "pending lost in_doubt");
    queue.begin_run(&lease, NOW_MS).await.unwrap();
    queue.import("later delete").await;
    queue.begin_run(&lease, NOW_MS).await.unwrap();
    assert_eq!(queue.job("later").await, "pending");
}
