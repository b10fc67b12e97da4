//! Each check of `doctor` against the real condition: unreachable, unknown and self-signed hosts, wrong
//! clocks, files with open permissions, active runs.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::time::Duration;

use deskbatch::desk::make_usersig;
use rcgen::{CertificateParams, KeyPair};
use rustix::process::Signal;
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use secrecy::ExposeSecret as _;
use serde_json::Value;

use crate::support::binary::{Going, Recorder, ends, has, sandbox, sandbox_with};
use crate::support::place::{Place, data, manifest, question};

const KEY: &str = "b41f7c08d92b5e63f1078bc4a5d9203e6fb81c7d4e90a2563bd8f7104ce59a27";

/// `doctor` with an account and `endpoint`, without a proxy.
fn doctor(place: &Place, endpoint: &str, args: &[&str]) -> Command {
    let mut command = place.deskbatch(&["doctor", "--sdkappid", "1400000000"]);
    command.args(["--identifier", "administrator", "--endpoint", endpoint]).args(args);
    command.env("DESKBATCH_SECRET_KEY", KEY);
    for proxy in
        ["HTTPS_PROXY", "ALL_PROXY", "https_proxy", "all_proxy", "HTTP_PROXY", "http_proxy"]
    {
        command.env_remove(proxy);
    }
    command
}

fn response(date: &str) -> String {
    format!("HTTP/1.1 404 Not Found\r\n{date}Content-Length: 0\r\n\r\n")
}

/// The HTTP date that many seconds from now.
fn date_in(seconds: i64) -> String {
    let output = Command::new("date")
        .args(["-u", "-d", &format!("{seconds} seconds"), "+Date: %a, %d %b %Y %H:%M:%S GMT"])
        .env("LC_ALL", "C")
        .output()
        .unwrap();
    format!("{}\r\n", data(&output).trim())
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_accepts_reachable_host_and_sends_no_secret() {
    let (place, sandbox) = (Place::new(), sandbox().await);
    let recorder = Recorder::before(sandbox.addr());
    let text = data(&ends(doctor(&place, &recorder.endpoint(), &[]), 0));
    has(
        &text,
        &[
            "ok      account   SDKAppID 1400000000",
            "ok      key ",
            "ok      usersig",
            "ok      host",
        ],
    );
    has(&text, &["ok      clock", "ok      disk", "ok      lock      free", "does not exist yet"]);
    assert!(!text.contains("warning") && !text.contains("error"), "{text}");
    let sent = recorder.sent();
    assert!(sent.starts_with("HEAD / HTTP/1.1\r\n"), "{sent}");
    assert!(
        !sent.contains("usersig") && !sent.contains("1400000000") && !sent.contains(&KEY[..8]),
        "{sent}"
    );
    assert_eq!(sandbox.ledger().total, 0);
    assert_eq!(place.files(), Vec::<String>::new());
    // `--offline` sends no request.
    let text = data(&ends(doctor(&place, "https://gateway.invalid", &["--offline"]), 0));
    assert!(!text.contains("host ") && !text.contains("name "), "{text}");
}

#[test]
fn doctor_rejects_clock_skew_and_warns_without_date() {
    let place = Place::new();
    for (off_s, code, parts) in [
        (-600, 4, ["error   clock", " s ahead of the service"]),
        (600, 4, ["error   clock", " s behind the service"]),
        (0, 0, ["ok      clock", "is harmless"]),
    ] {
        let host = Recorder::responding(move |_| response(&date_in(off_s)));
        has(&data(&ends(doctor(&place, &host.endpoint(), &[]), code)), &parts);
    }
    let host = Recorder::responding(|_| response(""));
    let text = data(&ends(doctor(&place, &host.endpoint(), &[]), 0));
    has(&text, &["warning clock", "has no date", "date -u"]);
}

#[test]
fn doctor_names_each_network_fault_with_remedy() {
    let place = Place::new();
    // No program listens on a port that was just released.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let endpoint = format!("http://127.0.0.1:{port}");
    has(
        &data(&ends(doctor(&place, &endpoint, &[]), 3)),
        &["error   host", "connection refused", "port"],
    );

    let endpoint = "https://gateway.invalid";
    let text = data(&ends(doctor(&place, endpoint, &[]), 3));
    has(&text, &["error   name", "cannot resolve gateway.invalid", "DNS"]);
    assert!(!text.contains("host "), "{text}");

    // Accepts connections and never responds.
    let silent = Recorder::start(|client, _| {
        let mut client = client;
        let _ = std::io::Read::read_to_end(&mut client, &mut Vec::new());
    });
    let args = ["--timeout", "300ms"];
    let text = data(&ends(doctor(&place, &silent.endpoint(), &args), 3));
    has(&text, &["error   host", "no response from", "--timeout 300ms"]);

    let no_http = Recorder::responding(|_| "SSH-2.0-x\r\n".to_owned());
    has(
        &data(&ends(doctor(&place, &no_http.endpoint(), &[]), 3)),
        &["error   host", "cannot reach 127.0.0.1:"],
    );
}

#[test]
fn doctor_reports_untrusted_certificate_with_remedy() {
    let key = KeyPair::generate().unwrap();
    let certificate =
        CertificateParams::new(["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
    let service = |certificate: &rcgen::Certificate| {
        let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
            )
            .unwrap();
        Recorder::encrypted(config, |_| response(&date_in(0)))
    };
    let service = service(&certificate);
    let place = Place::new();
    // The machine trusts another authority.
    let other = KeyPair::generate().unwrap();
    let other = CertificateParams::new(["other".to_owned()]).unwrap().self_signed(&other).unwrap();
    let endpoint = format!("https://localhost:{}", service.port());
    for (trusted, code, parts) in [
        (other.pem(), 3, ["error   host", "the certificate of localhost:", "SSL_CERT_FILE"]),
        (certificate.pem(), 0, ["ok      host", "the certificate is valid", "ok      clock"]),
    ] {
        let trusted = place.write("believed.pem", trusted);
        let mut command = doctor(&place, &endpoint, &[]);
        command.env("SSL_CERT_FILE", trusted).env_remove("SSL_CERT_DIR");
        has(&data(&ends(command, code)), &parts);
    }
}

#[test]
fn doctor_lists_all_missing_settings_at_once() {
    let place = Place::new();
    let text = data(&ends(place.deskbatch(&["doctor"]), 2));
    let bad: Vec<&str> = text.lines().filter(|line| line.starts_with("error   account")).collect();
    assert_eq!(bad.len(), 4, "{text}");
    has(
        &text,
        &["DESKBATCH_SDKAPPID", "DESKBATCH_IDENTIFIER", "DESKBATCH_SECRET_KEY", "DESKBATCH_REGION"],
    );
    has(&text, &["no deskbatch.toml in this directory", "deskbatch init"]);
}

#[test]
fn doctor_reports_broken_config_and_mistyped_variable() {
    let place = Place::new();
    place.write("deskbatch.toml", "chunck = 5\n");
    let mut command = place.deskbatch(&["doctor", "--json"]);
    command.env("DESKBATCH_RAT", "4");
    let all: Value = serde_json::from_slice(&ends(command, 2).stdout).unwrap();
    assert_eq!((&all["schema"], &all["exit"]), (&1.into(), &2.into()));
    assert_eq!(all["checks"][0]["level"], "error");
    has(all["checks"][0]["text"].as_str().unwrap(), &["line 1", "did you mean `chunk`?"]);
    assert_eq!(all["checks"][1]["level"], "warning");
    has(all["checks"][1]["text"].as_str().unwrap(), &["did you mean DESKBATCH_RATE?"]);
}

#[test]
fn doctor_reports_open_file_modes_with_chmod_command() {
    let place = Place::new();
    place.write("jobs.csv", manifest([(question("q").as_str(), "4")]));
    ends(place.deskbatch(&["import", "jobs.csv", "--sdkappid", "1400000000"]), 0);
    let open = |name: &str, mode| {
        fs::set_permissions(place.path(name), fs::Permissions::from_mode(mode)).unwrap();
    };
    let look = |code| data(&ends(doctor(&place, "http://127.0.0.1:9", &["--offline"]), code));
    has(
        &look(0),
        &[
            "ok      files",
            "readable only by its owner",
            "ok      queue     deskbatch.db is intact, schema version",
        ],
    );
    open("deskbatch.db", 0o644);
    has(&look(0), &["warning files", "chmod 600 deskbatch.db"]);
    place.write("deskbatch.toml", "chunk = 5\n");
    open("deskbatch.toml", 0o666);
    has(&look(2), &["error   config", "other users can change it", "chmod go-w deskbatch.toml"]);
    open("deskbatch.toml", 0o644);
    let mut command = doctor(&place, "http://127.0.0.1:9", &["--offline"]);
    command.args(["--database", "absent/q.db"]);
    has(&data(&ends(command, 70)), &["error   files", "the directory absent does not exist"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_names_live_run_without_disturbing_it() {
    let sandbox = sandbox_with(|s| s.latency = Duration::from_hours(1)).await;
    let place = Place::new();
    place.write("jobs.csv", manifest([(question("a").as_str(), "4")]));
    let run = Going::start(place.fast(&sandbox, &["run", "jobs.csv"]));
    sandbox.seen(1).await;
    let text = data(&ends(place.fast(&sandbox, &["doctor"]), 0));
    has(&text, &[&format!("ok      lock      a run holds the lock: process {} on", run.pid())]);
    run.signal(Signal::KILL);
    drop(run);
    has(&data(&ends(place.fast(&sandbox, &["doctor"]), 0)), &["ok      lock      free"]);
}

#[test]
fn doctor_checks_usersig_and_key_without_showing_them() {
    let place = Place::new();
    let given = make_usersig("administrator", 1_400_000_000, &"k".into(), 1_735_689_600, 86_400);
    let mut command = doctor(&place, "http://127.0.0.1:9", &["--offline"]);
    command.env_remove("DESKBATCH_SECRET_KEY").env("DESKBATCH_USERSIG", given.expose_secret());
    let text = data(&ends(command, 4));
    has(&text, &["error   usersig", "expired at 2025-01-02T00:00:00"]);
    assert!(!text.contains(&given.expose_secret()[..16]), "{text}");
    let mut command = doctor(&place, "http://127.0.0.1:9", &["--offline"]);
    command.env("DESKBATCH_SECRET_KEY", "paste the key here");
    let text = data(&ends(command, 0));
    has(&text, &["warning key", "a blank"]);
    assert!(!text.contains("paste the key"), "{text}");
}

#[test]
fn doctor_checks_sandbox_run_by_starting_sandbox() {
    let place = Place::new();
    let text = data(&ends(place.deskbatch(&["doctor", "--sandbox"]), 0));
    has(&text, &["ok      sandbox", "responds", "deskbatch.sandbox.db does not exist yet"]);
    place.write("deskbatch.toml", "[sandbox]\nwindow = \"slidng\"\n");
    let text = data(&ends(place.deskbatch(&["doctor", "--sandbox"]), 2));
    has(&text, &["error   config", "line 2: ", "did you mean sliding?"]);
}

#[test]
#[cfg(target_os = "linux")]
fn doctor_reports_too_little_free_disk_space() {
    let place = Place::new();
    let tiny = place.path("tiny");
    fs::create_dir(&tiny).unwrap();
    let Some(_disk) = crate::support::crash::Disk::mount(&tiny, "8m") else { return };
    let mut command = doctor(&place, "http://127.0.0.1:9", &["--offline"]);
    command.args(["--database", "tiny/q.db"]);
    let text = data(&ends(command, 70));
    has(&text, &["error   disk      8.0 MiB free", "Free some space"]);
    // A prune needs free space itself, so it must not be suggested.
    assert!(!text.contains("prune"), "{text}");
}
