//! Only the owner can access the files: written ones whatever the umask, and the settings file with a
//! secret when it is read.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;

use crate::support::binary::{Going, ends, has, sandbox_with};
use crate::support::place::{Place, manifest, question};

fn mode(place: &Place, name: &str) -> u32 {
    fs::metadata(place.path(name)).unwrap().permissions().mode() & 0o777
}

/// The same command with a umask that gives everybody access to new files.
fn open_to_all(command: &Command) -> Command {
    let mut shell = Command::new("sh");
    shell.args(["-c", "umask 000 && exec \"$0\" \"$@\""]).arg(command.get_program());
    shell.args(command.get_args()).current_dir(command.get_current_dir().unwrap());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    shell.stdin(Stdio::null());
    shell
}

#[tokio::test(flavor = "multi_thread")]
async fn created_files_are_private_for_any_umask() {
    let sandbox = sandbox_with(|s| s.latency = Duration::from_hours(1)).await;
    let place = Place::new();
    place.write("jobs.csv", manifest([(question("a").as_str(), "4")]));
    place.write("bad.csv", "question_id,status\nq,4\na b,4\n");
    let given: BTreeSet<String> = place.files().into_iter().collect();
    let made = |place: &Place| -> Vec<String> {
        place.files().into_iter().filter(|name| !given.contains(name)).collect()
    };
    // During a run the write-ahead log and the lock file are beside the queue.
    let mut run = Going::start(open_to_all(&place.fast(&sandbox, &["run", "jobs.csv"])));
    sandbox.seen(1).await;
    let beside = ["deskbatch.db", "deskbatch.db-shm", "deskbatch.db-wal", "deskbatch.db.lock"];
    assert_eq!(made(&place), beside);
    for name in beside {
        assert_eq!(mode(&place, name), 0o600, "{name}");
    }
    run.signal(Signal::TERM);
    run.says("stopping");
    run.signal(Signal::TERM);
    run.ends(3);
    for args in [
        &["import", "bad.csv", "--rejects", "rejects.csv"][..],
        &["report", "-o", "report.csv"],
        &["report", "-o", "report.json", "--format", "json"],
        &["import", "jobs.csv", "--sandbox", "--database", "another"],
    ] {
        ends(open_to_all(&place.fast(&sandbox, args)), 0);
    }
    let made = made(&place);
    for name in ["rejects.csv", "report.csv", "report.json", "another.sandbox"] {
        assert!(made.contains(&name.to_owned()), "{made:?}");
    }
    for name in made {
        assert_eq!(mode(&place, &name), 0o600, "{name}");
    }
}

#[test]
fn existing_output_files_become_owner_only() {
    let place = Place::new();
    place.write("jobs.csv", "question_id,status\nq,4\na b,4\n");
    let import = ["import", "jobs.csv", "--sdkappid", "1", "--reimport", "--rejects", "bad.csv"];
    ends(place.deskbatch(&import), 0);
    ends(place.deskbatch(&["report", "-o", "report.csv"]), 0);
    // Also when the output replaces a file that others could read.
    for name in ["report.csv", "bad.csv"] {
        fs::set_permissions(place.path(name), fs::Permissions::from_mode(0o644)).unwrap();
    }
    ends(place.deskbatch(&import), 0);
    ends(place.deskbatch(&["report", "-o", "report.csv"]), 0);
    ends(place.deskbatch(&["report", "-o", "report.json", "--format", "json"]), 0);
    for name in ["deskbatch.db", "bad.csv", "report.csv", "report.json"] {
        let mode = fs::metadata(place.path(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    has(&place.read("report.csv"), &["question_id,status,state"]);
    // Special files keep their mode.
    let mode = || fs::metadata("/dev/null").unwrap().permissions().mode();
    let before = mode();
    ends(place.deskbatch(&["report", "-o", "/dev/null"]), 0);
    assert_eq!(mode(), before);
}

#[test]
fn secret_permissions_are_checked_on_open_file() {
    let place = Place::new();
    // The pipe keeps the program between opening and reading for as long as the test needs.
    assert!(
        Command::new("mkfifo").args(["-m", "604"]).arg(place.path("c")).status().unwrap().success()
    );
    fs::set_permissions(place.path("c"), fs::Permissions::from_mode(0o604)).unwrap();
    let command = place.deskbatch(&["status", "--config", "c"]);
    let run = Going::start(command);
    // Returns once the program has opened the pipe.
    let mut pipe = fs::OpenOptions::new().write(true).open(place.path("c")).unwrap();
    fs::remove_file(place.path("c")).unwrap();
    place.write("c", "");
    fs::set_permissions(place.path("c"), fs::Permissions::from_mode(0o600)).unwrap();
    std::io::Write::write_all(&mut pipe, b"secret_key = 'k'\n").unwrap();
    drop(pipe);
    has(&run.ends(2), &["c contains a secret", "`chmod 600 c`"]);
}
