//! No public output contains the key or a UserSig: not stdout, stderr, logs, files or the process list.
//! Only `usersig` prints a UserSig.

use std::collections::{BTreeSet, HashSet};
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Output};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::CommandFactory as _;
use deskbatch::cli::Cli;
use deskbatch::sandbox::{Apps, Sandbox, SandboxSettings};
use flate2::read::ZlibDecoder;
use rustix::process::Signal;
use secrecy::SecretString;
use serde_json::Value;

use crate::support::binary::{Going, Recorder, ends, has, sandbox_with};
use crate::support::place::{Place, data, manifest, question, said};

const KEY: &str = "0f5c1d7e9ab24d68b3f02e6a8c1d5e7f90b1a2c3d4e5f60718293a4b5c6d7e8f";

/// The token of the dashboard.
const TOKEN: &str = "b7e0c94d1f6a4e83a25d70916c3bf8e2";

/// A sandbox that takes [`KEY`], and a recorder in front of it.
async fn recorded(change: impl FnOnce(&mut SandboxSettings)) -> (Sandbox, Recorder) {
    let sandbox = sandbox_with(|s| {
        s.apps = Apps::Any(SecretString::from(KEY));
        change(s);
    })
    .await;
    let recorder = Recorder::before(sandbox.addr());
    (sandbox, recorder)
}

/// A sequence of this many bytes of a secret counts as a leak, wherever it was cut.
const PIECE_BYTES: usize = 16;

/// Every sequence that must never appear.
type Secrets = HashSet<Vec<u8>>;

/// The sequences of the key and of each UserSig: as sent, as generated, percent-encoded, in the
/// standard alphabet, and of its signature.
fn secrets(usersigs: &[String]) -> Secrets {
    assert!(!usersigs.is_empty() && usersigs.iter().all(|usersig| usersig.len() > 100));
    let mut whole =
        vec![KEY.to_owned(), STANDARD.encode(KEY), TOKEN.to_owned(), STANDARD.encode(TOKEN)];
    for sent in usersigs {
        let made = sent.replace("%2A", "*").replace("%2D", "-").replace("%5F", "_");
        let usual = made.replace('*', "+").replace('-', "/").replace('_', "=");
        let packed = STANDARD.decode(&usual).unwrap();
        let json: Value = serde_json::from_reader(ZlibDecoder::new(&packed[..])).unwrap();
        whole.push(json["TLS.sig"].as_str().unwrap().to_owned());
        whole.push(made.replace('*', "%2A").replace('-', "%2D").replace('_', "%5F"));
        whole.extend([sent.clone(), made, usual]);
    }
    pieces(&whole)
}

fn pieces(whole: &[String]) -> Secrets {
    whole.iter().flat_map(|text| text.as_bytes().windows(PIECE_BYTES)).map(<[u8]>::to_vec).collect()
}

#[track_caller]
fn is_clean(what: &str, bytes: &[u8], secrets: &Secrets) {
    if let Some(found) = bytes.windows(PIECE_BYTES).find(|window| secrets.contains(*window)) {
        let found = String::from_utf8_lossy(found);
        panic!("{what} holds {found}:\n{}", String::from_utf8_lossy(bytes));
    }
}

#[track_caller]
fn folder_is_clean(place: &Place, secrets: &Secrets) {
    for name in place.files() {
        is_clean(&name, &fs::read(place.path(&name)).unwrap(), secrets);
    }
}

/// Command lines of every kind with their exit codes: successful ones, ones that fail during execution,
/// and invalid ones. `sandbox` and `dashboard` do not end by themselves and have tests of their own.
const COMMANDS: &[(&[&str], i32)] = &[
    (&["plan", "jobs.csv"], 0),
    (&["plan", "jobs.csv", "--json"], 0),
    (&["import", "jobs.csv"], 0),
    (&["run", "--yes"], 1),
    (&["run", "absent.csv"], 2),
    (&["status"], 0),
    (&["status", "--json"], 0),
    (&["report"], 0),
    (&["report", "--format", "json", "-o", "report.json"], 0),
    (&["report", "-o", "report.csv"], 0),
    (&["report", "--html", "page.html"], 0),
    (&["import", "bad.csv", "--rejects", "rejects.csv"], 0),
    (&["retry"], 0),
    (&["cancel", "--batch", "1"], 0),
    (&["prune", "--older-than", "0s"], 0),
    (&["init", "made.toml"], 0),
    (&["config", "show"], 0),
    (&["config", "show", "--json"], 0),
    (&["doctor"], 0),
    (&["doctor", "--json", "--offline"], 0),
    (&["completions", "bash"], 0),
    (&["man", "run"], 0),
    (&["settings"], 0),
    (&["explain"], 0),
    (&["explain", "70001"], 0),
    (&["usersig"], 0),
    (&["run", "--region", "china"], 2),
    (&["run", "--help"], 0),
    (&["bury"], 2),
];

/// `args` with the account and the log settings of these tests. `RUST_LOG` must not override them.
fn traced(place: &Place, endpoint: &str, format: &str, args: &[&str]) -> Command {
    let mut command = place.deskbatch(args);
    command
        .args(["--log", "trace", "--log-format", format])
        .env("DESKBATCH_ENDPOINT", endpoint)
        .env("DESKBATCH_SDKAPPID", "1400000000")
        .env("DESKBATCH_IDENTIFIER", "administrator")
        .env("DESKBATCH_SECRET_KEY", KEY)
        .env("DESKBATCH_RATE", "200")
        .env("DESKBATCH_DASHBOARD", "127.0.0.1:0")
        .env("DESKBATCH_DASHBOARD_TOKEN", TOKEN)
        .env("RUST_LOG", "trace,hyper=trace,reqwest=trace,rustls=trace")
        .env("RUST_BACKTRACE", "full");
    command
}

/// Runs every command at trace level while requests fail in every way, and returns its output.
fn every_command(place: &Place, recorder: &Recorder, format: &str) -> Vec<(String, Output)> {
    let ids = ["a", "missing1", "b", "preset1"].map(question);
    let statuses = ["4", "4", "6", "6"];
    place.write("jobs.csv", manifest(ids.iter().map(String::as_str).zip(statuses)));
    place.write("bad.csv", "question_id,status\nq,4\na b,4\n");
    let mut printed: Vec<(String, Output)> = COMMANDS
        .iter()
        .map(|(args, code)| {
            let command = traced(place, &recorder.endpoint(), format, args);
            (args.join(" "), ends(command, *code))
        })
        .collect();
    let args = ["sandbox", "--addr", "127.0.0.1:0"];
    let command = traced(place, &recorder.endpoint(), format, &args);
    let (mut sandbox, stdout) = Going::start_heard(command);
    sandbox.says("the sandbox is listening");
    sandbox.signal(Signal::TERM);
    let stderr = sandbox.ends(0).into_bytes();
    let stdout = std::io::read_to_string(stdout).unwrap().into_bytes();
    let status = ExitStatus::default();
    printed.push((args.join(" "), Output { status, stdout, stderr }));
    printed.push((
        "dashboard".to_owned(),
        dashboard(traced(place, &recorder.endpoint(), format, &["dashboard"])),
    ));
    printed
}

/// The output of the dashboard, and the pages that it serves to a client with its token.
fn dashboard(command: Command) -> Output {
    let mut dashboard = Going::start(command);
    dashboard.says("the dashboard is at http://");
    let addr =
        dashboard.said.split("http://").nth(1).unwrap().split('/').next().unwrap().to_owned();
    let mut stdout = Vec::new();
    for path in [&format!("/?token={TOKEN}"), "/", "/healthz", "/metrics", "/nothing"] {
        let mut stream = TcpStream::connect(&addr).unwrap();
        let head = format!("Host: x\r\nConnection: close\r\nAuthorization: Bearer {TOKEN}\r\n");
        write!(stream, "GET {path} HTTP/1.1\r\n{head}\r\n").unwrap();
        stream.read_to_end(&mut stdout).unwrap();
    }
    has(&String::from_utf8_lossy(&stdout), &["<h1", "set, not shown", "\"status\":\"ok\""]);
    dashboard.signal(Signal::TERM);
    let stderr = dashboard.ends(0).into_bytes();
    Output { status: ExitStatus::default(), stdout, stderr }
}

#[test]
fn every_command_is_tested_for_secret_leaks() {
    let mut command = Cli::command();
    command.build();
    let listed: BTreeSet<&str> = command
        .get_subcommands()
        .map(clap::Command::get_name)
        .filter(|name| *name != "help")
        .collect();
    let mut tested: BTreeSet<&str> =
        COMMANDS.iter().filter(|(_, code)| *code != 2).map(|(args, _)| args[0]).collect();
    tested.extend(["sandbox", "dashboard"]);
    assert_eq!(tested, listed, "add the new command to COMMANDS in tests/it/cli/secrets.rs");
}

async fn no_command_shows_a_secret(format: &str, script: &str) {
    let (_sandbox, recorder) = recorded(|s| s.script = Some(script.parse().unwrap())).await;
    let place = Place::new();
    let printed = every_command(&place, &recorder, format);
    let ran = printed.iter().find(|(args, _)| args == "run --yes").unwrap();
    has(&said(&ran.1), &["run began", "TRACE"]);
    let mut usersigs = recorder.usersigs();
    let made = printed.iter().find(|(args, _)| args == "usersig").unwrap();
    let made = data(&made.1).trim().to_owned();
    usersigs.push(made.clone());
    let secrets = secrets(&usersigs);
    for (args, output) in &printed {
        is_clean(args, &output.stderr, &secrets);
        // Printing a UserSig is the purpose of this command.
        let stdout = data(output);
        let stdout = if args == "usersig" { stdout.replacen(&made, "", 1) } else { stdout };
        is_clean(args, stdout.as_bytes(), &secrets);
    }
    folder_is_clean(&place, &secrets);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_command_shows_a_secret_in_text() {
    no_command_shows_a_secret("text", "ok,bad-gateway,truncated,cut-after").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_command_shows_a_secret_in_json() {
    no_command_shows_a_secret("json", "throttle,ok,cut-before,garbage").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn live_run_leaks_no_secret_to_files_or_process_list() {
    let (sandbox, recorder) = recorded(|s| s.latency = Duration::from_hours(1)).await;
    let place = Place::new();
    place.write("jobs.csv", manifest([(question("a").as_str(), "4")]));
    // For users who do not want the token in the environment either.
    let elsewhere = Place::new();
    let config = elsewhere.write("mine.toml", format!("secret_key = \"{KEY}\"\n"));
    fs::set_permissions(&config, fs::Permissions::from_mode(0o600)).unwrap();
    let mut command = place.fast(&sandbox, &["run", "jobs.csv", "--log", "trace"]);
    command.env("DESKBATCH_ENDPOINT", recorder.endpoint()).env_remove("DESKBATCH_SECRET_KEY");
    command.arg("--config").arg(config);
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
    let process = PathBuf::from(format!("/proc/{}", run.pid()));
    let cmdline = fs::read(process.join("cmdline")).unwrap();
    has(&String::from_utf8_lossy(&cmdline), &["jobs.csv"]);
    is_clean("the process list", &cmdline, &secrets);
    is_clean("the environment", &fs::read(process.join("environ")).unwrap(), &secrets);
    // No child process could have inherited the environment.
    for thread in fs::read_dir(process.join("task")).unwrap() {
        let children = fs::read_to_string(thread.unwrap().path().join("children")).unwrap();
        assert_eq!(children, "");
    }
    run.signal(Signal::TERM);
    run.says("stopping");
    run.signal(Signal::TERM);
    is_clean("stderr", run.ends(3).as_bytes(), &secrets);
}

/// A server that repeats the request in its response.
fn echoing(
    status: &'static str,
    body: impl Fn(&str) -> String + Send + Sync + 'static,
) -> Recorder {
    Recorder::responding(move |request| {
        let body = body(request);
        format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
    })
}

#[test]
fn echoed_request_leaks_no_usersig() {
    fn fail(code: i64) -> impl Fn(&str) -> String {
        move |request| {
            let filled = format!("{}{request}", "x".repeat(150));
            format!(r#"{{"ActionStatus":"FAIL","ErrorCode":{code},"ErrorInfo":"{filled}"}}"#)
        }
    }
    for (service, code) in [
        (echoing("200 OK", fail(-50_003)), 1),
        (echoing("200 OK", fail(60_010)), 4),
        // Parts of the request, as a server sends that shortens it.
        (echoing("200 OK", |request| fail(60_010)(&request[request.len() / 2..])), 4),
        (echoing("200 OK", |request| fail(-50_003)(&request[..request.len() * 2 / 3])), 1),
        (echoing("404 Not Found", |request| format!("<p>{request}</p>")), 4),
        (echoing("307 Away\r\nLocation: /elsewhere?usersig=x", ToOwned::to_owned), 4),
    ] {
        let place = Place::new();
        place.write("jobs.csv", manifest([(question("a").as_str(), "4")]));
        let mut command = place.deskbatch(&["run", "jobs.csv", "--log", "trace", "--rate", "200"]);
        command
            .env("DESKBATCH_ENDPOINT", service.endpoint())
            .args(["--sdkappid", "1400000000", "--identifier", "administrator"])
            // The server rejects reads too, so the run must not stop at its rejection limit.
            .env("DESKBATCH_MAX_REJECTIONS", "0")
            .env("DESKBATCH_SECRET_KEY", KEY);
        let output = ends(command, code);
        let secrets = secrets(&service.usersigs());
        is_clean("stderr", &output.stderr, &secrets);
        is_clean("report", &ends(place.deskbatch(&["report"]), 0).stdout, &secrets);
        folder_is_clean(&place, &secrets);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn loopback_requests_bypass_environment_proxy() {
    let (sandbox, recorder) = recorded(|_| {}).await;
    let place = Place::new();
    place.write("jobs.csv", manifest([(question("a").as_str(), "4")]));
    for proxy in ["HTTP_PROXY", "http_proxy", "ALL_PROXY"] {
        let mut command = place.fast(&sandbox, &["run", "jobs.csv", "--reimport"]);
        command.env(proxy, recorder.endpoint()).env("DESKBATCH_SECRET_KEY", KEY);
        ends(command, 0);
    }
    assert_eq!(recorder.usersigs(), Vec::<String>::new());
    assert_eq!(sandbox.ledger().total, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn usersig_command_prints_and_never_logs_usersig() {
    let place = Place::new();
    let mut command = place.deskbatch(&["usersig", "--log", "trace", "--sdkappid", "1400000000"]);
    command.env("DESKBATCH_SECRET_KEY", KEY).args(["--identifier", "administrator"]);
    let output = ends(command, 0);
    let usersig = data(&output).trim().to_owned();
    is_clean("stderr", &output.stderr, &secrets(std::slice::from_ref(&usersig)));
    is_clean("stdout", &output.stdout, &pieces(&[KEY.to_owned()]));

    // A ready-made UserSig is as secret as the key.
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
fn sandbox_does_not_print_configured_key() {
    let place = Place::new();
    let mut command = place.deskbatch(&["sandbox", "--addr", "127.0.0.1:0", "--log", "trace"]);
    command.env("DESKBATCH_SECRET_KEY", KEY);
    let (mut sandbox, stdout) = Going::start_heard(command);
    sandbox.says("the sandbox is listening");
    sandbox.signal(Signal::TERM);
    let talk = sandbox.ends(0);
    let data = std::io::read_to_string(stdout).unwrap();
    has(&data, &["export DESKBATCH_ENDPOINT=http://127.0.0.1:"]);
    let secrets = pieces(&[KEY.to_owned()]);
    is_clean("stdout and stderr", format!("{data}{talk}").as_bytes(), &secrets);
}

#[test]
fn panic_exits_70_and_shows_no_secret() {
    let place = Place::new();
    let secrets = pieces(&[KEY.to_owned()]);
    // The runtime panics when only some of the files that it needs can be opened. The settings with the
    // key are loaded by then.
    let panicked = (3..64).any(|files| {
        let inner = traced(&place, "http://127.0.0.1:9", "text", &["status"]);
        let mut command = Command::new("sh");
        let limited = format!("ulimit -n {files} && exec \"$@\"");
        command.args(["-c", &limited, "sh"]).arg(inner.get_program()).args(inner.get_args());
        command
            .current_dir(place.folder.path())
            .stdin(std::process::Stdio::null())
            .envs(inner.get_envs().filter_map(|(name, value)| value.map(|value| (name, value))));
        let output = command.output().expect("it ends");
        is_clean("a panic", &output.stderr, &secrets);
        let text = said(&output);
        text.contains("panicked at") && {
            assert_eq!(output.status.code(), Some(70), "{text}");
            has(&text, &["stack backtrace"]);
            true
        }
    });
    assert!(panicked, "no limit on files made it panic");
}
