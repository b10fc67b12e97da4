//! A damaged queue file: changed bytes, truncation, a foreign log, or another file in its place. The
//! result is a clear error or a correct outcome and never a panic. A rejected file is not changed.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::Command;

use futures_util::{StreamExt as _, stream};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _};

use crate::support::binary::{ends, has, sandbox};
use crate::support::crash::Disk;
use crate::support::migration::ended;
use crate::support::place::{Place, data, manifest, question, report_line, said};
use crate::support::scale::cases;

const PAGE_BYTES: usize = 4_096;

/// The short form damages every seventh page, the long form each one.
fn pages_step() -> usize {
    cases(7, 1)
}

/// The file of a queue with jobs in several states, after its last command.
async fn real_queue() -> Vec<u8> {
    let (place, sandbox) = (Place::in_memory(), sandbox().await);
    let ids: Vec<String> = (0..60).map(|n| question(&format!("q{n}"))).collect();
    let missing = question("missing");
    let done = ids[..30].iter().chain([&missing]).map(|id| (id.as_str(), "enable"));
    place.write("done.csv", manifest(done));
    place.write("jobs.csv", manifest(ids.iter().map(|id| (id.as_str(), "disable"))));
    ends(place.fast(&sandbox, &["run", "done.csv"]), 1);
    ends(place.fast(&sandbox, &["import", "jobs.csv"]), 0);
    assert_eq!(place.files(), ["deskbatch.db", "deskbatch.db.lock", "done.csv", "jobs.csv"]);
    fs::read(place.path("deskbatch.db")).unwrap()
}

/// Uses a queue made of `files` and returns the exit code of each command.
async fn use_queue(what: String, files: Vec<(&'static str, Vec<u8>)>) -> [i32; 3] {
    // One app for each queue: two queues of one app would wait for each other.
    let (place, sandbox) = (Place::in_memory(), sandbox().await);
    for (name, bytes) in &files {
        place.write(name, bytes);
    }
    let mut codes = [0; 3];
    for (args, code) in
        [&["status"][..], &["report"], &["run", "--same-service"]].into_iter().zip(&mut codes)
    {
        let run = ended(place.fast(&sandbox, args)).await;
        *code = run.code.unwrap_or_else(|| panic!("{what}: {args:?} was ended by a signal"));
        let said = &run.stderr;
        assert!([0, 1, 2, 70].contains(code), "{what}: {args:?} {code}: {said}");
        assert!(!said.contains("panicked") && !said.contains("locked"), "{what}: {said}");
        assert!(*code < 2 || said.contains("error: "), "{what}: {args:?}: {said}");
        if *code == 2 {
            for (name, bytes) in &files {
                assert_eq!(
                    fs::read(place.path(name)).unwrap(),
                    *bytes,
                    "{what}: {name} was changed"
                );
            }
        }
    }
    codes
}

type Story = (String, Vec<(&'static str, Vec<u8>)>);

/// Uses each of these queues and counts the rejected commands.
async fn use_all(what: &str, stories: Vec<Story>) -> usize {
    let count = stories.len();
    let refused: usize = stream::iter(stories)
        .map(|(what, files)| tokio::spawn(use_queue(what, files)))
        .buffer_unordered(16)
        .map(|codes| codes.unwrap().into_iter().filter(|code| *code > 1).count())
        .fold(0, |sum, one| std::future::ready(sum + one))
        .await;
    report_line(&format!(
        "{what}: {count} files, {} commands, {refused} refused, none panicked",
        3 * count
    ));
    refused
}

#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
async fn corrupted_page_is_clear_error_or_harmless() {
    let whole = real_queue().await;
    let mut stories: Vec<Story> = Vec::new();
    let step = pages_step();
    for page in (0..whole.len() / PAGE_BYTES).step_by(step) {
        let (from, to) = (page * PAGE_BYTES, (page + 1) * PAGE_BYTES);
        // The header, which identifies the file; a sample of the whole file; the whole file.
        let damages: [(usize, usize); 3] = [(from + 16, 1), (to, 61), (to, 1)];
        for (end, step) in damages {
            let mut bytes = whole.clone();
            bytes[from..end].iter_mut().step_by(step).for_each(|byte| *byte ^= 0xa5);
            stories
                .push((format!("page {page} to {end} by {step}"), vec![("deskbatch.db", bytes)]));
        }
    }
    let refused = use_all("bytes changed", stories).await;
    assert!(refused * step > 30, "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
async fn truncated_queue_is_clear_error_or_harmless() {
    let whole = real_queue().await;
    let step = pages_step();
    let pages = (1..whole.len() / PAGE_BYTES).step_by(step);
    let cuts = pages.flat_map(|n| [n * PAGE_BYTES, n * PAGE_BYTES - 1_000]);
    let cut = |at: usize| (format!("cut at {at}"), vec![("deskbatch.db", whole[..at].to_vec())]);
    let refused = use_all("cut short", cuts.map(cut).collect()).await;
    assert!(refused * step > 30, "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
async fn foreign_or_empty_wal_is_clear_error_or_harmless() {
    let whole = real_queue().await;
    let wal = {
        // A reader of an older state prevents the checkpoint of the log.
        let (place, sandbox) = (Place::in_memory(), sandbox().await);
        place.write("jobs.csv", manifest([(question("other").as_str(), "enable")]));
        ends(place.fast(&sandbox, &["import", "jobs.csv"]), 0);
        let options = SqliteConnectOptions::new().filename(place.path("deskbatch.db"));
        let mut reader = options.connect().await.unwrap();
        sqlx::raw_sql("BEGIN; SELECT count(*) FROM jobs").execute(&mut reader).await.unwrap();
        ends(place.fast(&sandbox, &["import", "jobs.csv", "--reimport"]), 0);
        let wal = fs::read(place.path("deskbatch.db-wal")).unwrap();
        reader.close().await.unwrap();
        wal
    };
    assert!(wal.len() > PAGE_BYTES);
    let torn = wal[..wal.len() - 1_000].to_vec();
    let logs = [Vec::new(), b"no log at all".repeat(9_000), vec![0; 50_000], torn, wal];
    let story = |log: Vec<u8>| {
        let what = format!("a log of {} bytes", log.len());
        (what, vec![("deskbatch.db", whole.clone()), ("deskbatch.db-wal", log)])
    };
    use_all("logs", logs.map(story).to_vec()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn special_file_as_queue_is_refused_at_once() {
    let (place, sandbox) = (Place::new(), sandbox().await);
    place.write("jobs.csv", manifest([(question("q").as_str(), "enable")]));
    assert!(Command::new("mkfifo").arg(place.path("pipe")).status().unwrap().success());
    fs::create_dir(place.path("folder")).unwrap();
    symlink("/dev/zero", place.path("zero")).unwrap();
    symlink("/dev/null", place.path("null")).unwrap();
    for (name, code, why) in [
        ("pipe", 2, "a pipe or a device"),
        ("zero", 2, "a pipe or a device"),
        ("null", 2, "a pipe or a device"),
        ("folder", 2, "directory"),
    ] {
        for args in [&["status"][..], &["report"], &["import", "jobs.csv"], &["run", "jobs.csv"]] {
            let mut command = place.fast(&sandbox, args);
            command.args(["--database", name]);
            let refused = ended(command).await;
            assert_eq!(refused.code, Some(code), "{name} {args:?}: {}", refused.stderr);
            has(&refused.stderr, &[name, why, "--database"]);
        }
    }
    assert_eq!(place.files(), ["folder", "jobs.csv", "null", "pipe", "zero"]);
    assert_eq!(sandbox.ledger().total, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn read_only_queue_is_clear_error_and_unchanged() {
    let (whole, sandbox) = (real_queue().await, sandbox().await);
    let place = Place::new();
    let folder: PathBuf = place.path("disk");
    fs::create_dir(&folder).unwrap();
    let Some(disk) = Disk::mount(&folder, "10m") else {
        return;
    };
    fs::write(folder.join("queue.db"), &whole).unwrap();
    place.write("jobs.csv", manifest([(question("q").as_str(), "enable")]));
    disk.becomes("ro");
    for name in ["queue.db", "new.db"] {
        for args in [&["import", "jobs.csv"][..], &["run", "jobs.csv"], &["run"]] {
            let mut command = place.fast(&sandbox, args);
            command.args(["--database", &format!("disk/{name}")]);
            let output = command.output().unwrap();
            assert_eq!(output.status.code(), Some(70), "{}{}", data(&output), said(&output));
            has(
                &said(&output),
                &[name, "cannot open the queue file", "must be able to write", "--database"],
            );
        }
    }
    assert_eq!(fs::read(folder.join("queue.db")).unwrap(), whole);
    assert_eq!(sandbox.ledger().total, 0);
}
