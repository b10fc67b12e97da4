//! Nothing that a stranger may read ever holds the key or a UserSig: not what is printed
//! or logged, not a file, not the list of processes. `usersig` alone prints one.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Output;
use std::time::Duration;

use deskbatch::sandbox::{Apps, Sandbox, SandboxSettings};
use rustix::process::Signal;
use secrecy::SecretString;

use crate::support::{Place, data, manifest, question, said};
use crate::support_binary::{Going, Recorder, ends, has, sandbox_with};

const KEY: &str = "0f5c1d7e9ab24d68b3f02e6a8c1d5e7f90b1a2c3d4e5f60718293a4b5c6d7e8f";

/// A sandbox that takes [`KEY`], and a recorder before it.
async fn recorded(change: impl FnOnce(&mut SandboxSettings)) -> (Sandbox, Recorder) {
    let sandbox = sandbox_with(|s| {
        s.apps = Apps::Any(SecretString::from(KEY));
        change(s);
    })
    .await;
    let recorder = Recorder::before(sandbox.addr());
    (sandbox, recorder)
}

/// Everything that must never be seen: the key, and each UserSig as it was sent, as it was
/// made, and with every sign escaped.
fn secrets(usersigs: &[String]) -> Vec<String> {
    assert!(!usersigs.is_empty() && usersigs.iter().all(|usersig| usersig.len() > 100));
    let mut secrets = vec![KEY.to_owned()];
    for sent in usersigs {
        let made = sent.replace("%2A", "*").replace("%2D", "-").replace("%5F", "_");
        secrets.push(made.replace('*', "%2A").replace('-', "%2D").replace('_', "%5F"));
        // Half of one is as bad: a cut must not leave it.
        secrets.push(made[..made.len() / 2].to_owned());
        secrets.extend([sent.clone(), made]);
    }
    secrets
}

#[track_caller]
fn is_clean(what: &str, bytes: &[u8], secrets: &[String]) {
    for secret in secrets {
        let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
        assert!(!found, "{what} holds {secret}:\n{}", String::from_utf8_lossy(bytes));
    }
}

#[track_caller]
fn folder_is_clean(place: &Place, secrets: &[String]) {
    for name in place.files() {
        is_clean(&name, &fs::read(place.path(&name)).unwrap(), secrets);
    }
}

/// Runs every command at `--log trace` in `format`, on a day on which requests fail in
/// every way, and returns what was printed.
fn every_command(place: &Place, recorder: &Recorder, format: &str) -> Vec<Output> {
    let ids = ["a", "missing1", "b", "preset1"].map(question);
    let statuses = ["4", "4", "6", "6"];
    place.write("jobs.csv", manifest(ids.iter().map(String::as_str).zip(statuses)));
    [
        (&["import", "jobs.csv"][..], 0),
        (&["run", "--yes"], 1),
        (&["run", "absent.csv"], 2),
        (&["status"], 0),
        (&["status", "--json"], 0),
        (&["report"], 0),
        (&["report", "--format", "json", "-o", "report.json"], 0),
        (&["report", "-o", "report.csv"], 0),
        (&["retry"], 0),
        (&["cancel", "--batch", "1"], 0),
        (&["explain"], 0),
        (&["run", "--region", "china"], 2),
        (&["run", "--help"], 0),
        (&["bury"], 2),
    ]
    .into_iter()
    .map(|(args, code)| {
        let mut command = place.deskbatch(args);
        command
            .env("DESKBATCH_ENDPOINT", recorder.endpoint())
            .env("DESKBATCH_SDKAPPID", "1400000000")
            .env("DESKBATCH_IDENTIFIER", "administrator")
            .env("DESKBATCH_SECRET_KEY", KEY)
            .env("DESKBATCH_RATE", "200")
            .env("DESKBATCH_LOG", "trace")
            .env("DESKBATCH_LOG_FORMAT", format);
        ends(command, code)
    })
    .collect()
}

async fn no_command_shows_a_secret(format: &str, script: &str) {
    let (_sandbox, recorder) = recorded(|s| s.script = Some(script.parse().unwrap())).await;
    let place = Place::new();
    let printed = every_command(&place, &recorder, format);
    assert!(said(&printed[1]).contains("run began"), "{}", said(&printed[1]));
    let secrets = secrets(&recorder.usersigs());
    for output in &printed {
        is_clean("stdout", &output.stdout, &secrets);
        is_clean("stderr", &output.stderr, &secrets);
    }
    folder_is_clean(&place, &secrets);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_command_shows_a_secret_in_words() {
    no_command_shows_a_secret("text", "ok,bad-gateway,truncated,cut-after").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_command_shows_a_secret_in_json() {
    no_command_shows_a_secret("json", "throttle,ok,cut-before,garbage").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_going_run_has_no_secret_in_its_files_or_in_the_process_list() {
    let (sandbox, recorder) = recorded(|s| s.latency = Duration::from_hours(1)).await;
    let place = Place::new();
    place.write("jobs.csv", manifest([(question("a").as_str(), "4")]));
    let mut command = place.fast(&sandbox, &["run", "jobs.csv", "--log", "trace"]);
    command.env("DESKBATCH_ENDPOINT", recorder.endpoint()).env("DESKBATCH_SECRET_KEY", KEY);
    let mut run = Going::start(command);
    sandbox.seen(1).await;
    let secrets = secrets(&recorder.usersigs());
    let files = place.files();
    for name in ["deskbatch.db", "deskbatch.db-wal", "deskbatch.db-shm", "deskbatch.db.lock"] {
        assert!(files.contains(&name.to_owned()), "{files:?}");
        let mode = fs::metadata(place.path(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    folder_is_clean(&place, &secrets);
    let cmdline = fs::read(format!("/proc/{}/cmdline", run.pid())).unwrap();
    has(&String::from_utf8_lossy(&cmdline), &["jobs.csv"]);
    is_clean("the process list", &cmdline, &secrets);
    run.signal(Signal::TERM);
    run.says("stopping");
    run.signal(Signal::TERM);
    is_clean("stderr", run.ends(3).as_bytes(), &secrets);
}

/// A service, or something in front of it, that repeats the request in its answer.
fn echoing(
    status: &'static str,
    body: impl Fn(&str) -> String + Send + Sync + 'static,
) -> Recorder {
    Recorder::answering(move |request| {
        let body = body(request);
        format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
    })
}

#[test]
fn a_service_that_repeats_the_request_spreads_no_usersig() {
    let fail = |code: i64| {
        move |request: &str| {
            let filled = format!("{}{request}", "x".repeat(150));
            format!(r#"{{"ActionStatus":"FAIL","ErrorCode":{code},"ErrorInfo":"{filled}"}}"#)
        }
    };
    for (service, code) in [
        (echoing("200 OK", fail(-50_003)), 1),
        (echoing("200 OK", fail(60_010)), 4),
        (echoing("404 Not Found", |request| format!("<p>{request}</p>")), 4),
        (echoing("307 Away\r\nLocation: /elsewhere?usersig=x", ToOwned::to_owned), 4),
    ] {
        let place = Place::new();
        place.write("jobs.csv", manifest([(question("a").as_str(), "4")]));
        let mut command = place.deskbatch(&["run", "jobs.csv", "--log", "trace", "--rate", "200"]);
        command
            .env("DESKBATCH_ENDPOINT", service.endpoint())
            .args(["--sdkappid", "1400000000", "--identifier", "administrator"])
            .env("DESKBATCH_SECRET_KEY", KEY);
        let output = ends(command, code);
        let secrets = secrets(&service.usersigs());
        is_clean("stderr", &output.stderr, &secrets);
        is_clean("report", &ends(place.deskbatch(&["report"]), 0).stdout, &secrets);
        folder_is_clean(&place, &secrets);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_of_the_environment_is_not_asked_about_this_machine() {
    let (sandbox, recorder) = recorded(|_| {}).await;
    let place = Place::new();
    place.write("jobs.csv", manifest([(question("a").as_str(), "4")]));
    for proxy in ["HTTP_PROXY", "http_proxy", "ALL_PROXY"] {
        let mut command = place.fast(&sandbox, &["run", "jobs.csv", "--again"]);
        command.env(proxy, recorder.endpoint()).env("DESKBATCH_SECRET_KEY", KEY);
        ends(command, 0);
    }
    assert_eq!(recorder.usersigs(), Vec::<String>::new());
    assert_eq!(sandbox.ledger().total, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn usersig_prints_one_and_logs_nothing_of_it() {
    let place = Place::new();
    let mut command = place.deskbatch(&["usersig", "--log", "trace", "--sdkappid", "1400000000"]);
    command.env("DESKBATCH_SECRET_KEY", KEY).args(["--identifier", "administrator"]);
    let output = ends(command, 0);
    let usersig = data(&output).trim().to_owned();
    is_clean("stderr", &output.stderr, &secrets(std::slice::from_ref(&usersig)));
    is_clean("stdout", &output.stdout, &[KEY.to_owned()]);

    // Given back ready-made, it is as secret as the key.
    let (_sandbox, recorder) = recorded(|_| {}).await;
    place.write("jobs.csv", manifest([(question("missing1").as_str(), "4")]));
    let mut command = place.deskbatch(&["run", "jobs.csv", "--log", "trace", "--rate", "200"]);
    command.env("DESKBATCH_USERSIG", &usersig).env("DESKBATCH_ENDPOINT", recorder.endpoint());
    command.args(["--sdkappid", "1400000000", "--identifier", "administrator"]);
    let output = ends(command, 1);
    assert_eq!(recorder.usersigs(), [usersig]);
    let secrets = secrets(&recorder.usersigs());
    is_clean("stderr", &output.stderr, &secrets);
    folder_is_clean(&place, &secrets);
}

#[test]
fn a_sandbox_with_a_key_of_ones_own_does_not_print_it() {
    let place = Place::new();
    let mut command = place.deskbatch(&["sandbox", "--addr", "127.0.0.1:0", "--log", "trace"]);
    command.env("DESKBATCH_SECRET_KEY", KEY);
    let (mut sandbox, stdout) = Going::start_heard(command);
    sandbox.says("the sandbox listens");
    sandbox.signal(Signal::TERM);
    let talk = sandbox.ends(0);
    let data = std::io::read_to_string(stdout).unwrap();
    has(&data, &["export DESKBATCH_ENDPOINT=http://127.0.0.1:"]);
    is_clean("stdout and stderr", format!("{data}{talk}").as_bytes(), &[KEY.to_owned()]);
}

#[test]
fn reports_rejects_and_queues_are_for_their_owner_alone() {
    let place = Place::new();
    place.write("jobs.csv", "question_id,status\nq,4\na b,4\n");
    // Also where a file was before that others could read.
    for name in ["report.csv", "bad.csv"] {
        let path = place.write(name, "old");
        fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
    }
    let import = ["import", "jobs.csv", "--sdkappid", "1", "--rejects", "bad.csv"];
    ends(place.deskbatch(&import), 0);
    ends(place.deskbatch(&["report", "-o", "report.csv"]), 0);
    ends(place.deskbatch(&["report", "-o", "report.json", "--format", "json"]), 0);
    for name in ["deskbatch.db", "bad.csv", "report.csv", "report.json"] {
        let mode = fs::metadata(place.path(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    has(&place.read("report.csv"), &["question_id,status,state"]);
    // What is no file keeps the mode that it has.
    let mode = || fs::metadata("/dev/null").unwrap().permissions().mode();
    let before = mode();
    ends(place.deskbatch(&["report", "-o", "/dev/null"]), 0);
    assert_eq!(mode(), before);
}
