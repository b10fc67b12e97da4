//! Precedence of settings: flags, then the environment, then the file. The environment alone is enough,
//! and a sandbox run never touches the real queue.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::time::Duration;

use deskbatch::sandbox::{SANDBOX_IDENTIFIER, SANDBOX_KEY, Sandbox, SandboxSettings};
use secrecy::SecretString;

use crate::support::binary::{ends, has, sandbox, sandbox_with};
use crate::support::place::{Place, data, manifest, question, said};

fn jobs(place: &Place, count: usize) {
    let ids: Vec<String> = (0..count).map(|n| question(&format!("q{n}"))).collect();
    place.write("jobs.csv", manifest(ids.iter().map(|id| (id.as_str(), "enable"))));
}

/// A `deskbatch.toml` with the account of `sandbox`, and `more`.
fn config(place: &Place, sandbox: &Sandbox, more: &str) {
    let path = place.write(
        "deskbatch.toml",
        format!(
            "sdkappid = 1400000000\nidentifier = \"{SANDBOX_IDENTIFIER}\"\n\
             secret_key = \"{SANDBOX_KEY}\"\nendpoint = \"{}\"\nrate = 200\n{more}",
            sandbox.endpoint()
        ),
    );
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

/// The number of ids in each request.
fn sizes(sandbox: &Sandbox) -> Vec<usize> {
    sandbox.ledger().requests.iter().map(|request| request.ids.len()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn environment_alone_configures_run() {
    let sandbox = sandbox_with(|s| s.latency = Duration::from_millis(20)).await;
    let place = Place::new();
    jobs(&place, 20);
    let mut command = place.fast(&sandbox, &["run", "jobs.csv"]);
    command
        .env("DESKBATCH_DATABASE", "sqlite:queue.db")
        .env("DESKBATCH_RATE", "150")
        .env("DESKBATCH_CHUNK", "3")
        .env("DESKBATCH_MAX_IN_FLIGHT", "1");
    ends(command, 0);
    assert_eq!(place.files(), ["jobs.csv", "queue.db", "queue.db.lock"]);
    assert_eq!(sizes(&sandbox), [3, 3, 3, 3, 3, 3, 2]);
    // One request in flight: the service decides each one after it has sent the response before it.
    let requests = sandbox.ledger().requests;
    for pair in requests.windows(2) {
        assert!(pair[1].arrived.since(pair[0].counted) >= Duration::from_millis(20));
    }
    let mut command = place.deskbatch(&["status"]);
    has(&data(&ends(with_database(&mut command, "queue.db"), 0)), &["20: 20 succeeded"]);
}

fn with_database(command: &mut Command, path: &str) -> Command {
    let mut again = Command::new(command.get_program());
    again.args(command.get_args()).current_dir(command.get_current_dir().unwrap());
    again.env("DESKBATCH_DATABASE", path);
    again
}

#[test]
fn every_setting_has_its_variable() {
    let place = Place::new();
    for (name, value, part) in [
        ("SDKAPPID", "many", "--sdkappid"),
        ("REGION", "atlantis", "--region"),
        ("ENDPOINT", "http://gateway.example", "endpoint: "),
        ("LIBRARY", "books", "--library"),
        ("DATABASE", "postgres://host/db", "database: postgres"),
        ("METRICS_FILE", "deskbatch.txt", "metrics_file: deskbatch.txt does not end in .prom"),
        ("RATE", "0", "rate: 0"),
        ("CHUNK", "10001", "chunk: 10001"),
        ("MAX_IN_FLIGHT", "65", "max_in_flight: 65"),
        ("MAX_ATTEMPTS", "0", "max_attempts: 0"),
        ("MAX_REJECTIONS", "x", "--max-rejections"),
        ("OUTAGE_TIMEOUT", "721h", "outage_timeout: 721h is not between 0s and 720h: "),
        ("GRACE_PERIOD", "3601s", "grace_period: 1h 1s is not between 0s and 1h: "),
        ("CONNECT_TIMEOUT", "0s", "connect_timeout: 0s is not between 1ms and 10m: "),
        ("TIMEOUT", "0", "timeout: 0s is not between 1ms and 10m: "),
        ("USERSIG_LIFETIME", "599s", "usersig_lifetime: 9m 59s is not between 10m and 87600h: "),
        ("QUIET", "perhaps", "--quiet"),
        ("LOG", "deskbatch=loud", "log: deskbatch=loud"),
        ("LOG_FORMAT", "xml", "--log-format"),
        ("CONFIG", "absent.toml", "cannot read absent.toml"),
    ] {
        let mut command = place.deskbatch(&["status"]);
        command.env(format!("DESKBATCH_{name}"), value);
        has(&said(&ends(command, 2)), &[part]);
    }
    let mut command = place.deskbatch(&["run", "--sdkappid", "1", "--region", "china"]);
    command.env("DESKBATCH_IDENTIFIER", "x".repeat(33)).env("DESKBATCH_SECRET_KEY", "k");
    has(&said(&ends(command, 2)), &["identifier: ", "33 bytes"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn flags_override_environment_and_it_overrides_file() {
    for (variable, flag, size) in
        [(None, None, 2), (Some("3"), None, 3), (None, Some("4"), 4), (Some("3"), Some("4"), 4)]
    {
        let (place, sandbox) = (Place::new(), sandbox().await);
        jobs(&place, 12);
        config(&place, &sandbox, "chunk = 2\ndatabase = \"mine.db\"\n");
        let mut command = place.deskbatch(&["run", "jobs.csv"]);
        command.envs(variable.map(|n| ("DESKBATCH_CHUNK", n)));
        command.args(flag.map(|n| format!("--chunk={n}")));
        ends(command, 0);
        assert_eq!(sizes(&sandbox), vec![size; 12 / size]);
        assert_eq!(place.counts(), [0, 0, 12, 0, 0, 0]);
        assert!(place.files().contains(&"mine.db".to_owned()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn region_flag_overrides_endpoint_in_file() {
    let (place, sandbox) = (Place::new(), sandbox().await);
    jobs(&place, 1);
    config(&place, &sandbox, "");
    // The file's rate of 200 is too high for a region, so the error shows that the region is used.
    let output = ends(place.deskbatch(&["run", "jobs.csv", "--region", "tokyo"]), 2);
    has(&said(&output), &["allows 5 requests per second"]);
    assert_eq!(sandbox.ledger().total, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn config_flag_replaces_default_file() {
    let (place, sandbox) = (Place::new(), sandbox().await);
    jobs(&place, 4);
    config(&place, &sandbox, "chunk = 1\n");
    fs::rename(place.path("deskbatch.toml"), place.path("other.toml")).unwrap();
    place.write("deskbatch.toml", "sdkappid = \"this is not read\"\n");
    ends(place.deskbatch(&["run", "jobs.csv", "--config", "other.toml"]), 0);
    assert_eq!(sizes(&sandbox), [1; 4]);
}

#[tokio::test(flavor = "multi_thread")]
async fn sandbox_run_uses_own_queue_and_no_other_host() {
    let (place, sandbox) = (Place::new(), sandbox().await);
    place.write(
        "jobs.csv",
        manifest([(question("a").as_str(), "delete"), (&question("missing1"), "4")]),
    );
    ends(place.fast(&sandbox, &["import", "jobs.csv"]), 0);
    let real = fs::read(place.path("deskbatch.db")).unwrap();
    let output = ends(place.fast(&sandbox, &["run", "jobs.csv", "--sandbox"]), 1);
    has(&said(&output), &["sandbox run", "deskbatch.sandbox.db", "deskbatch retry --sandbox"]);
    assert_eq!(sandbox.ledger().total, 0);
    assert_eq!(fs::read(place.path("deskbatch.db")).unwrap(), real);
    assert_eq!(place.counts(), [2, 0, 0, 0, 0, 0]);
    let output = ends(place.deskbatch(&["--sandbox", "status"]), 0);
    has(&data(&output), &["2: 1 succeeded, 1 failed"]);
}

#[test]
fn sandbox_run_needs_no_account_and_reads_faults() {
    let place = Place::new();
    jobs(&place, 6);
    place.write(
        "deskbatch.toml",
        "rate = 200\nchunk = 2\n[sandbox]\nrate_limit = 0\nmax_ids = 1\nunknown_ids = \"ok\"\n",
    );
    let output = ends(place.deskbatch(&["run", "jobs.csv", "--sandbox"]), 0);
    has(&said(&output), &["succeeded   6\n"]);
    // The first chunk of two was too large, so no other one was sent.
    has(&said(&output), &["requests    7 "]);
    assert_eq!(place.files().iter().filter(|name| name.starts_with("deskbatch.db")).count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn separate_sandbox_accepts_configured_account() {
    let place = Place::new();
    jobs(&place, 3);
    let settings = SandboxSettings {
        apps: deskbatch::sandbox::Apps::Any(SecretString::from("a key of one's own")),
        rate_limit: 0,
        ..SandboxSettings::default()
    };
    let sandbox = Sandbox::start(settings).await.unwrap();
    let mut command = place.fast(&sandbox, &["run", "jobs.csv"]);
    command.env("DESKBATCH_SECRET_KEY", " a key of one's own ");
    ends(command, 0);
}
