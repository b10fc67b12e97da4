//! Only a valid certificate, for this host name and date and from a trusted authority, identifies the
//! service. No other server receives a UserSig: not over clear text, a redirect or a proxy.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Output};
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, date_time_ymd,
};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::support::binary::{Recorder, ends, has};
use crate::support::place::{Place, manifest, question, said};

const KEY: &str = "a41f7c08d92b5e63f1078bc4a5d9203e6fb81c7d4e90a2563bd8f7104ce59a26";
const OK: &str = r#"{"ActionStatus":"OK","ErrorInfo":"","ErrorCode":0}"#;

type Authority = CertifiedIssuer<'static, KeyPair>;

fn key() -> KeyPair {
    KeyPair::generate().unwrap()
}

/// A certificate authority called `name`.
fn authority(name: &str) -> Authority {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    CertifiedIssuer::self_signed(params, key()).unwrap()
}

/// The certificate parameters of a service called `name`.
fn for_service(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new([name.to_owned()]).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params
}

fn serving(chain: Vec<CertificateDer<'static>>, key: &KeyPair) -> ServerConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap()
}

/// The TLS settings of a service with a certificate that `authority` signed.
fn signed(params: &CertificateParams, authority: &Authority) -> ServerConfig {
    let key = key();
    let certificate = params.signed_by(&key, authority).unwrap();
    serving(vec![certificate.der().clone()], &key)
}

fn ok() -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{OK}", OK.len())
}

/// A run of one job with `endpoint` on a machine that trusts only `authority`. It stops at the first
/// failed connection.
fn run(place: &Place, authority: &Authority, endpoint: &str) -> Command {
    let mut command = patient_run(place, authority, endpoint);
    command.args(["--outage-timeout", "0s"]);
    command
}

/// The same with the usual patience for an outage.
fn patient_run(place: &Place, authority: &Authority, endpoint: &str) -> Command {
    let trusted = place.write("believed.pem", authority.pem());
    place.write("jobs.csv", manifest([(question("q").as_str(), "4")]));
    let mut command = place.deskbatch(&["run", "jobs.csv", "--log", "trace"]);
    command
        .args(["--sdkappid", "1400000000", "--identifier", "administrator"])
        .args(["--endpoint", endpoint])
        .env("DESKBATCH_SECRET_KEY", KEY)
        .env("SSL_CERT_FILE", trusted)
        .env_remove("SSL_CERT_DIR");
    for proxy in
        ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"]
    {
        command.env_remove(proxy);
    }
    command
}

/// The run stopped without a response, and its job is still pending.
#[track_caller]
fn gave_up(place: &Place, command: Command, what: &str) -> Output {
    let output = ends(command, 3);
    assert_eq!(place.counts(), [1, 0, 0, 0, 0, 0], "{what}");
    output
}

#[test]
fn service_with_trusted_certificate_is_called() {
    let authority = authority("believed");
    for name in ["localhost", "127.0.0.1"] {
        let service = Recorder::encrypted(signed(&for_service(name), &authority), |_| ok());
        let place = Place::new();
        let endpoint = format!("https://{name}:{}", service.port());
        let output = ends(run(&place, &authority, &endpoint), 0);
        assert_eq!(place.counts(), [0, 0, 1, 0, 0, 0]);
        let usersigs = service.usersigs();
        assert_eq!(usersigs.len(), 1);
        assert!(!said(&output).contains(&usersigs[0]) && !said(&output).contains(KEY));
    }
}

#[test]
fn invalid_certificate_receives_no_request() {
    let trusted = authority("believed");
    let other = authority("believed");
    let mut expired = for_service("localhost");
    expired.not_before = date_time_ymd(2019, 1, 1);
    expired.not_after = date_time_ymd(2020, 1, 1);
    let mut early = for_service("localhost");
    early.not_before = date_time_ymd(2999, 1, 1);
    let mut visitor = for_service("localhost");
    visitor.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let mut nameless = for_service("localhost");
    nameless.subject_alt_names.clear();

    let own = key();
    let self_signed = for_service("localhost").self_signed(&own).unwrap();
    // Signed with a service's certificate, which is not allowed to sign others.
    let (service_key, leaf_key) = (key(), key());
    let service = for_service("localhost");
    let service_certificate = service.signed_by(&service_key, &trusted).unwrap();
    let service = rcgen::Issuer::new(service, service_key);
    let leaf = for_service("localhost").signed_by(&leaf_key, &service).unwrap();
    let chain = vec![leaf.der().clone(), service_certificate.der().clone()];

    for (what, config, why) in [
        ("another name", signed(&for_service("gateway.example"), &trusted), "not valid for name"),
        (
            "a name around it",
            signed(&for_service("localhost.example"), &trusted),
            "not valid for name",
        ),
        ("no name but the old field", signed(&nameless, &trusted), "not valid for name"),
        ("expired", signed(&expired, &trusted), "expired"),
        ("not yet good", signed(&early, &trusted), "not valid yet"),
        ("by its own", serving(vec![self_signed.der().clone()], &own), "certificate"),
        ("by another of the same name", signed(&for_service("localhost"), &other), "certificate"),
        ("by another service", serving(chain, &leaf_key), "certificate"),
        ("for visitors", signed(&visitor, &trusted), "certificate"),
    ] {
        let service = Recorder::encrypted(config, |_| ok());
        let place = Place::new();
        let endpoint = format!("https://localhost:{}", service.port());
        let output = gave_up(&place, run(&place, &trusted, &endpoint), what);
        has(&said(&output), &["Cause: untrusted certificate: ", why]);
        assert_eq!(service.sent(), "", "{what}");
    }
}

#[test]
fn untrusted_certificate_ends_the_run_at_once() {
    let (trusted, other) = (authority("believed"), authority("other"));
    let service = Recorder::encrypted(signed(&for_service("localhost"), &other), |_| ok());
    let place = Place::new();
    let endpoint = format!("https://localhost:{}", service.port());
    let output = gave_up(&place, patient_run(&place, &trusted, &endpoint), "unknown issuer");
    has(&said(&output), &["certificate", "SSL_CERT_FILE", "the clock of this host"]);
}

#[test]
fn plain_text_peer_receives_no_request_over_tls() {
    let authority = authority("believed");
    for response in
        [ok(), "SSH-2.0-x\r\n".to_owned(), "\u{15}\u{3}\u{3}".repeat(10_000), String::new()]
    {
        let service = Recorder::start(move |mut client, sent| {
            let _ = client.write_all(response.as_bytes());
            let _ = client.shutdown(Shutdown::Write);
            let mut heard = Vec::new();
            let _ = client.read_to_end(&mut heard);
            sent.lock().unwrap().extend(heard);
        });
        let place = Place::new();
        let endpoint = format!("https://localhost:{}", service.port());
        gave_up(&place, run(&place, &authority, &endpoint), "clear text");
        assert_eq!(service.usersigs(), Vec::<String>::new());
        assert!(!service.sent().contains("openim"));
    }
}

#[test]
fn redirect_from_https_to_http_is_not_followed() {
    let authority = authority("believed");
    let elsewhere = Recorder::responding(|_| ok());
    let to = elsewhere.endpoint();
    let config = signed(&for_service("localhost"), &authority);
    let service = Recorder::encrypted(config, move |first| {
        let path = first.split(' ').nth(1).unwrap_or_default();
        format!("HTTP/1.1 307 Away\r\nLocation: {to}{path}\r\nContent-Length: 0\r\n\r\n")
    });
    let place = Place::new();
    let endpoint = format!("https://localhost:{}", service.port());
    ends(run(&place, &authority, &endpoint), 4);
    assert_eq!(service.usersigs().len(), 1);
    assert_eq!(elsewhere.sent(), "");
}

#[test]
fn environment_proxy_receives_only_host_name() {
    let authority = authority("believed");
    for variable in ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"] {
        // Accepts the tunnel and then acts as the service itself.
        let proxy = Recorder::responding(|_| format!("HTTP/1.1 200 Go\r\n\r\n{}", ok()));
        let place = Place::new();
        let mut command = run(&place, &authority, "https://gateway.example/s3cret-path");
        command.env(variable, proxy.endpoint());
        gave_up(&place, command, variable);
        assert_eq!(proxy.sent(), "CONNECT gateway.example:443 HTTP/1.1\r\n", "{variable}");
    }
}

/// Clear-text addresses that are not, or not certainly, this machine.
const ELSEWHERE: &[&str] = &[
    "http://gateway.example",
    "http://192.168.0.1",
    "http://169.254.169.254",
    "http://3232235521",
    "http://0.0.0.0",
    "http://0",
    "http://[::]",
    // The system decides how to route mapped and compatible forms.
    "http://[::ffff:127.0.0.1]",
    "http://[::ffff:7f00:1]",
    "http://[::127.0.0.1]",
    // Names that a foreign server resolves. It can change 127.0.0.1 at any time.
    "http://127.0.0.1.nip.io",
    "http://localhost.nip.io",
    "http://localtest.me",
    "http://localhost.localdomain",
    "http://localhost.",
    "http://ip6-localhost",
    "http://127.0.0.1%2eexample.com",
    // The host is after the sign that seems to end it, or the other way round.
    "http://127.0.0.1@gateway.example",
    "http://127.0.0.1:80@gateway.example",
    "http://localhost%2f@gateway.example",
    r"http://gateway.example\@127.0.0.1",
    "http://gateway.example#@127.0.0.1",
    "http://gateway.example?@127.0.0.1",
    "http://gateway.example@127.0.0.1",
    "http:gateway.example",
    "http:/gateway.example",
    r"http:\\gateway.example",
    " hTTp://gateway.example ",
    "ht\ttp://gateway.example",
    "ws://127.0.0.1",
    "http+unix://127.0.0.1",
];

#[test]
fn no_address_spelling_allows_plain_http_to_remote() {
    let place = Place::new();
    place.write("jobs.csv", manifest([(question("q").as_str(), "4")]));
    let command = || {
        let mut command = place.deskbatch(&["run", "jobs.csv", "--outage-timeout", "0s"]);
        command.args(["--sdkappid", "1400000000", "--identifier", "administrator"]);
        command.env("DESKBATCH_SECRET_KEY", KEY);
        command
    };
    for address in ELSEWHERE {
        let mut by_flag = command();
        by_flag.arg(format!("--endpoint={address}"));
        let mut by_variable = command();
        by_variable.env("DESKBATCH_ENDPOINT", address);
        let file = place.write("file.toml", format!("endpoint = '{address}'\n"));
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        let mut by_file = command();
        by_file.arg("--config").arg(&file);
        for command in [by_flag, by_variable, by_file] {
            let said = said(&ends(command, 2));
            let is_refused = said.starts_with("error: endpoint: ")
                || said.contains("contains the control character");
            assert!(is_refused, "{address}: {said}");
        }
    }
    assert_eq!(place.files(), ["file.toml", "jobs.csv"]);
}
