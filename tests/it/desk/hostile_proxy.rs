//! Proxy settings from the environment: an unusable proxy is rejected by name, a proxy that rejects
//! ends the run at once, and `doctor` shows the proxy that the client uses.

use std::net::TcpListener;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::support::binary::{Recorder, ends, has};
use crate::support::place::{Place, data, manifest, question, said};

const KEY: &str = "c05d2e817f93b4a6d8e1720f4c9b35a86e17d04f2b8c593a6170ed942cf8b35d";
const VARIABLES: [&str; 8] = [
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "no_proxy",
];

/// The runs of these tests have one app at one host, of which the app lock admits one at a time.
fn alone() -> MutexGuard<'static, ()> {
    static APP: Mutex<()> = Mutex::new(());
    APP.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The command with an account and a host that only a proxy could resolve.
fn toward_a_host(place: &Place, args: &[&str]) -> Command {
    place.write("jobs.csv", manifest([(question("q").as_str(), "4")]));
    let mut command = place.deskbatch(args);
    command
        .args(["--sdkappid", "1400000000", "--identifier", "administrator"])
        .args(["--endpoint", "https://gateway.invalid"])
        .env("DESKBATCH_SECRET_KEY", KEY);
    for variable in VARIABLES {
        command.env_remove(variable);
    }
    command
}

/// A port at which no program listens.
fn closed_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[test]
fn unusable_proxy_is_refused_by_its_variable() {
    let _alone = alone();
    let place = Place::new();
    for (value, why) in [
        ("\"http://hidden:3128\"", "quotes"),
        ("'http://hidden:3128'", "quotes"),
        ("http://hidden:3128\r", "blank"),
        (" http://hidden:3128", "blank"),
        ("http://hid den:3128", "blank"),
        ("socks5://hidden:1080", "HTTP proxies"),
        ("ftp://hidden:21", "HTTP proxies"),
        ("http://", "http://HOST:PORT"),
        ("http://hidden:99999", "http://HOST:PORT"),
        ("http://user:hidden@p:3128/path", "http://HOST:PORT"),
    ] {
        for variable in ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"] {
            let mut run = toward_a_host(&place, &["run", "jobs.csv"]);
            run.env(variable, value);
            let run = said(&ends(run, 2));
            let mut doctor = toward_a_host(&place, &["doctor"]);
            doctor.env(variable, value);
            let doctor = data(&ends(doctor, 2));
            has(&run, &[&format!("error: {variable}: "), why]);
            has(&doctor, &[&format!("error   proxy     {variable}: "), why]);
            assert!(!run.contains("hidden") && !doctor.contains("hidden"), "{run}{doctor}");
        }
    }
    assert_eq!(place.files(), ["jobs.csv"]);
}

#[test]
fn no_proxy_is_honoured_and_shown() {
    let _alone = alone();
    let proxy = Recorder::responding(|_| "HTTP/1.1 502 Bad\r\n\r\n".to_owned());
    for (no_proxy, uses_proxy) in [
        ("gateway.invalid", false),
        (".invalid", false),
        ("invalid", false),
        ("10.0.0.0/8, GATEWAY.INVALID", false),
        ("*", false),
        ("away.invalid", true),
        ("other.example,10.0.0.0/8", true),
    ] {
        let place = Place::new();
        let before = proxy.sent().len();
        let mut doctor = toward_a_host(&place, &["doctor"]);
        doctor.env("HTTPS_PROXY", proxy.endpoint()).env("NO_PROXY", no_proxy);
        let doctor = data(&ends(doctor, 3));
        let mut run = toward_a_host(&place, &["run", "jobs.csv", "--outage-timeout", "0s"]);
        run.env("HTTPS_PROXY", proxy.endpoint()).env("NO_PROXY", no_proxy);
        ends(run, 3);
        assert_eq!(proxy.sent().len() > before, uses_proxy, "{no_proxy}");
        let port = proxy.port();
        if uses_proxy {
            has(&doctor, &[&format!("ok      proxy     requests go through 127.0.0.1:{port}")]);
        } else {
            has(&doctor, &["ok      proxy     HTTPS_PROXY is not used: NO_PROXY", "error   name"]);
        }
    }
}

#[test]
fn proxy_407_ends_the_run_at_once() {
    let _alone = alone();
    let proxy = Recorder::responding(|_| "HTTP/1.1 407 Who Are You\r\n\r\n".to_owned());
    let place = Place::new();
    let mut run = toward_a_host(&place, &["run", "jobs.csv"]);
    let address = proxy.endpoint().replace("http://", "http://user:p4ssw0rd@");
    run.env("https_proxy", &address);
    let run = said(&ends(run, 3));
    has(&run, &["https_proxy", "407", "user name and password"]);
    assert!(!run.contains("p4ssw0rd"), "{run}");
    assert_eq!(place.counts(), [1, 0, 0, 0, 0, 0]);
    assert_eq!(proxy.sent().matches("CONNECT").count(), 1);
    let mut doctor = toward_a_host(&place, &["doctor"]);
    doctor.env("https_proxy", &address);
    has(&data(&ends(doctor, 3)), &["error   host", "407", "user name and password"]);
}

#[test]
fn unreachable_proxy_ends_the_run_at_once() {
    let _alone = alone();
    let place = Place::new();
    let port = closed_port();
    for proxy in [format!("http://127.0.0.1:{port}"), "proxy.invalid:3128".to_owned()] {
        let mut run = toward_a_host(&place, &["run", "jobs.csv"]);
        run.env("ALL_PROXY", &proxy);
        has(&said(&ends(run, 3)), &["(set by ALL_PROXY)", "NO_PROXY"]);
        assert_eq!(place.counts(), [1, 0, 0, 0, 0, 0]);
        let mut doctor = toward_a_host(&place, &["doctor"]);
        doctor.env("ALL_PROXY", &proxy);
        has(&data(&ends(doctor, 3)), &["error   host", "(set by ALL_PROXY)"]);
    }
}
