//! One queue file under two names, an invalid lock file, an app with two queues: each could let two
//! runs send the same jobs or share one rate limit.

use std::fs;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::support::binary::{Going, by_way_of, ends, has, sandbox, sandbox_with};
use crate::support::place::{Place, manifest, question, said, skipped};

/// The number of a user other than root.
const OTHER_USER: u32 = 65_534;

fn some_jobs(place: &Place) {
    let ids: Vec<String> = (0..3).map(|n| question(&format!("q{n}"))).collect();
    place.write("jobs.csv", manifest(ids.iter().map(|id| (id.as_str(), "enable"))));
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[tokio::test(flavor = "multi_thread")]
async fn second_hard_link_is_refused_by_every_command() {
    let (place, sandbox) = (Place::new(), sandbox().await);
    some_jobs(&place);
    ends(place.fast(&sandbox, &["import", "jobs.csv"]), 0);
    fs::hard_link(place.path("deskbatch.db"), place.path("second.db")).unwrap();
    let before = place.files();
    for name in ["deskbatch.db", "second.db"] {
        for args in [&["run"][..], &["run", "jobs.csv"], &["import", "jobs.csv"], &["status"]] {
            let mut command = place.fast(&sandbox, args);
            command.args(["--database", name]);
            has(&said(&ends(command, 2)), &[name, "hard link", "-samefile", "Nothing was changed"]);
        }
    }
    assert_eq!((place.files(), sandbox.ledger().total), (before, 0));
    fs::remove_file(place.path("second.db")).unwrap();
    ends(place.fast(&sandbox, &["run"]), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn queue_file_that_is_a_mount_is_refused() {
    let (place, sandbox) = (Place::new(), sandbox().await);
    some_jobs(&place);
    ends(place.fast(&sandbox, &["import", "jobs.csv"]), 0);
    let mounted = place.write("mounted by itself.db", "");
    let mut mount = Command::new("mount");
    mount.arg("--bind").arg(place.path("deskbatch.db")).arg(&mounted);
    if !mount.output().is_ok_and(|output| output.status.success()) {
        return skipped("this user may not mount a file", false);
    }
    let before = place.files();
    for args in [&["run"][..], &["import", "jobs.csv"], &["report"]] {
        let mut command = place.fast(&sandbox, args);
        command.args(["--database", "mounted by itself.db"]);
        let refused = command.output().unwrap();
        has(&said(&refused), &["mounted by itself.db", "Mount its directory"]);
        assert_eq!(refused.status.code(), Some(2), "{}", said(&refused));
    }
    let after = place.files();
    assert!(Command::new("umount").arg("-l").arg(&mounted).status().unwrap().success());
    assert_eq!((after, sandbox.ledger().total), (before, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn lock_that_is_a_link_is_refused_and_untouched() {
    let (place, sandbox) = (Place::new(), sandbox().await);
    some_jobs(&place);
    let lock = place.path("deskbatch.db.lock");
    let target = place.write("target", "worth keeping");
    for make in [
        (|target: &Path, lock: &Path| symlink(target, lock)) as fn(&Path, &Path) -> _,
        |target, lock| fs::hard_link(target, lock),
    ] {
        make(&target, &lock).unwrap();
        for args in [&["run", "jobs.csv"][..], &["run"]] {
            let refused = said(&ends(place.fast(&sandbox, args), 70));
            has(&refused, &["deskbatch.db.lock", "link", "Remove it."]);
        }
        assert_eq!(place.read("target"), "worth keeping");
        fs::remove_file(&lock).unwrap();
    }
    // The file was not written by a run, so it must not be overwritten.
    fs::write(&lock, "x".repeat(70_000)).unwrap();
    has(&said(&ends(place.fast(&sandbox, &["run"]), 70)), &["deskbatch.db.lock", "remove it"]);
    assert_eq!(fs::metadata(&lock).unwrap().len(), 70_000);
    assert_eq!(sandbox.ledger().total, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn lock_made_by_root_belongs_to_the_queue_owner() {
    if !is_root() {
        return skipped("this user is not root", true);
    }
    let (place, sandbox) = (Place::new(), sandbox().await);
    some_jobs(&place);
    ends(place.fast(&sandbox, &["import", "jobs.csv"]), 0);
    for path in [place.folder.path(), &place.path("deskbatch.db")] {
        chown(path, Some(OTHER_USER), Some(OTHER_USER)).unwrap();
    }
    ends(place.fast(&sandbox, &["run"]), 0);
    let lock = fs::metadata(place.path("deskbatch.db.lock")).unwrap();
    assert_eq!((lock.uid(), lock.gid(), lock.mode() & 0o777), (OTHER_USER, OTHER_USER, 0o600));
}

#[tokio::test(flavor = "multi_thread")]
async fn lock_of_another_user_is_named_with_a_remedy() {
    let (place, sandbox) = (Place::new(), sandbox().await);
    some_jobs(&place);
    ends(place.fast(&sandbox, &["run", "jobs.csv"]), 0);
    for name in ["", "deskbatch.db", "jobs.csv"] {
        let _ = chown(place.path(name), Some(OTHER_USER), Some(OTHER_USER));
    }
    let id = OTHER_USER.to_string();
    let user = ["setpriv", "--reuid", &id, "--regid", &id, "--clear-groups"];
    let begun = by_way_of(&user, &place.deskbatch(&["status"])).output();
    if !is_root() || !begun.is_ok_and(|output| output.status.code() != Some(127)) {
        return skipped("this user cannot become another one", false);
    }
    for args in [&["run"][..], &["status"]] {
        let refused = said(&ends(by_way_of(&user, &place.fast(&sandbox, args)), 70));
        has(&refused, &["deskbatch.db.lock", "belongs to user 0", "chown --reference="]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn folder_that_is_not_utf8_gets_no_queue() {
    let (place, sandbox) = (Place::new(), sandbox().await);
    let folder = place.folder.path().join(std::ffi::OsString::from_vec(b"f\xff".to_vec()));
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("jobs.csv"), manifest([(question("q").as_str(), "enable")])).unwrap();
    for args in [&["run", "jobs.csv"][..], &["import", "jobs.csv"]] {
        let mut command = place.fast(&sandbox, args);
        command.current_dir(&folder);
        has(&said(&ends(command, 2)), &["UTF-8", "--database"]);
    }
    let left: Vec<_> = fs::read_dir(&folder).unwrap().map(|file| file.unwrap().path()).collect();
    assert_eq!(left, [folder.join("jobs.csv")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn second_queue_of_an_app_is_refused_by_name() {
    let sandbox = sandbox_with(|s| s.latency = Duration::from_hours(1)).await;
    let (first, second) = (Place::new(), Place::new());
    some_jobs(&first);
    some_jobs(&second);
    let going = Going::start(first.fast(&sandbox, &["run", "jobs.csv"]));
    sandbox.seen(1).await;
    let refused = said(&ends(second.fast(&sandbox, &["run", "jobs.csv"]), 5));
    let queue = first.path("deskbatch.db").canonicalize().unwrap();
    has(&refused, &[queue.to_str().unwrap(), &going.pid().to_string(), "--lock-timeout"]);
    assert_eq!((second.status()["total"].as_u64(), sandbox.ledger().total), (Some(0), 1));
    // Another app and a sandbox run have rate limits of their own.
    let other = crate::support::binary::sandbox().await;
    ends(second.fast(&other, &["run", "jobs.csv"]), 0);
    ends(second.fast(&sandbox, &["run", "jobs.csv", "--sandbox"]), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn second_queue_of_an_app_waits_for_the_first() {
    let slow = sandbox_with(|s| s.latency = Duration::from_hours(1)).await;
    let (first, second) = (Place::new(), Place::new());
    some_jobs(&first);
    some_jobs(&second);
    let mut going = Going::start(first.fast(&slow, &["run", "jobs.csv"]));
    slow.seen(1).await;
    let args = ["run", "jobs.csv", "--lock-timeout", "10m", "--max-duration", "10m"];
    let mut waits = Going::start(second.fast(&slow, &args));
    waits.says("waiting");
    going.signal(rustix::process::Signal::KILL);
    going.waits();
    slow.seen(2).await;
    has(&waits.said, &["deskbatch.db"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn failed_command_leaves_no_log_beside_the_queue() {
    let (place, sandbox) = (Place::new(), sandbox().await);
    some_jobs(&place);
    place.write("bad.csv", "question_id,status\nq,9\n");
    place.write("deletes.csv", manifest([(question("q").as_str(), "delete")]));
    for (args, code) in [
        (&["import", "bad.csv"][..], 2),
        (&["run", "bad.csv"], 2),
        (&["run", "deletes.csv"], 2),
        (&["run", "jobs.csv", "--plan", "0000000000000000"], 2),
        (&["report", "-o", "none/report.csv"], 2),
        (&["import", "jobs.csv", "--rejects", "none/rejects.csv"], 0),
    ] {
        ends(place.fast(&sandbox, args), code);
        let logs: Vec<String> =
            place.files().into_iter().filter(|name| name.contains("db-")).collect();
        assert_eq!(logs, Vec::<String>::new(), "{args:?}");
    }
    let mode = fs::metadata(place.path("deskbatch.db")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}
