//! The dashboard over raw sockets: which requests it serves, with what, and that it stops.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::FileExt as _;

use rustix::process::Signal;
use serde_json::Value;

use crate::support::binary::{Going, ends, has, sandbox, sandbox_with};
use crate::support::place::{Place, manifest, question, said};
use crate::support::scale::cases;

const TOKEN: &str = "dashboard-token-0123456789";

/// A response: status, head as received, body.
struct ServerResponse {
    status: u16,
    head: String,
    body: String,
}

/// Sends `lines` and a local `Host` header, and reads the whole response.
#[track_caller]
fn ask(addr: SocketAddr, lines: &str) -> ServerResponse {
    ask_by(addr, "127.0.0.1", lines)
}

#[track_caller]
fn ask_by(addr: SocketAddr, host: &str, lines: &str) -> ServerResponse {
    let mut stream = TcpStream::connect(addr).unwrap();
    let (first, rest) = lines.split_once('\n').unwrap_or((lines, ""));
    let rest = rest.lines().fold(String::new(), |rest, line| rest + line + "\r\n");
    write!(stream, "{first} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{rest}\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    ServerResponse { status, head: head.to_lowercase(), body: body.to_owned() }
}

/// The address that the program printed on stderr.
fn address(going: &mut Going) -> SocketAddr {
    going.says("the dashboard is at ");
    let rest = going.said.split("the dashboard is at http://").nth(1).unwrap();
    rest.split('/').next().unwrap().parse().unwrap()
}

/// A queue of three pending jobs and a dashboard on it.
fn served(place: &Place, token: Option<&str>) -> (Going, SocketAddr) {
    let ids = ["a", "missing1", "c"].map(question);
    place.write("jobs.csv", manifest(ids.iter().map(|id| (id.as_str(), "4"))));
    ends(place.deskbatch(&["import", "jobs.csv", "--sdkappid", "1400000000"]), 0);
    let mut command = place.deskbatch(&["dashboard", "--addr", "127.0.0.1:0"]);
    if let Some(token) = token {
        command.env("DESKBATCH_DASHBOARD_TOKEN", token);
    }
    let mut dashboard = Going::start(command);
    let addr = address(&mut dashboard);
    (dashboard, addr)
}

/// A client that listens for events.
struct Listener(BufReader<TcpStream>);

impl Listener {
    fn since(addr: SocketAddr, generation: &str) -> Self {
        let mut stream = TcpStream::connect(addr).unwrap();
        let request = format!("GET /events?since={generation} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        Self(BufReader::new(stream))
    }

    /// The next event's name and data; `None` at the end of the stream.
    fn next(&mut self) -> Option<(String, String)> {
        let mut name = String::new();
        let mut line = String::new();
        loop {
            line.clear();
            if self.0.read_line(&mut line).unwrap() == 0 {
                return None;
            }
            if let Some(event) = line.strip_prefix("event: ") {
                event.trim_end().clone_into(&mut name);
            }
            if let Some(data) = line.strip_prefix("data: ") {
                return Some((name, data.trim_end().to_owned()));
            }
        }
    }

    /// Returns the data of the first event `name` that contains `part`.
    #[track_caller]
    fn until(&mut self, name: &str, part: &str) -> String {
        loop {
            let Some((event, data)) = self.next() else { panic!("no {name} with {part} came") };
            if event == name && data.contains(part) {
                return data;
            }
        }
    }
}

fn generation(page: &str) -> &str {
    page.split("data-generation=\"").nth(1).unwrap().split('"').next().unwrap()
}

#[test]
fn dashboard_is_read_only() {
    let place = Place::new();
    let (dashboard, addr) = served(&place, None);
    let page = ask(addr, "GET /");
    assert_eq!(page.status, 200);
    has(&page.body, &["0 of 3 questions updated, 3 pending", "deskbatch run"]);
    let head = ask(addr, "HEAD /");
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"] {
        for path in ["/", "/events", "/healthz", "/nothing"] {
            let response = ask(addr, &format!("{method} {path}\nContent-Length: 0"));
            assert_eq!(response.status, 405, "{method} {path}");
            has(&response.head, &["\r\nallow: get, head"]);
        }
    }
    for path in ["/nothing", "/../etc/passwd", "//", "/events/", "/deskbatch.db"] {
        assert_eq!(ask(addr, &format!("GET {path}")).status, 404, "{path}");
    }
    assert_eq!(place.counts(), [3, 0, 0, 0, 0, 0]);
    dashboard.signal(Signal::TERM);
    has(&dashboard.ends(0), &["press Ctrl-C to stop it"]);
}

#[test]
fn every_response_has_security_headers() {
    let place = Place::new();
    let (_dashboard, addr) = served(&place, None);
    for lines in ["GET /", "GET /healthz", "GET /nothing", "POST /", "HEAD /events"] {
        let response = ask(addr, lines);
        has(
            &response.head,
            &[
                "content-security-policy: default-src 'none'; ",
                "; connect-src 'self'; frame-ancestors 'none'",
                "x-content-type-options: nosniff",
                "x-frame-options: deny",
                "referrer-policy: no-referrer",
                "cache-control: no-store",
                "cross-origin-resource-policy: same-origin",
            ],
        );
        assert!(!response.head.contains("access-control"), "{}", response.head);
    }
}

#[test]
fn foreign_host_header_gets_403_without_token() {
    let place = Place::new();
    let (_dashboard, addr) = served(&place, None);
    for host in ["localhost", "127.0.0.1:99", "[::1]:8048"] {
        assert_eq!(ask_by(addr, host, "GET /").status, 200, "{host}");
    }
    for host in ["evil.example", "localhost.evil.example", "10.1.2.3", "deskbatch.internal:8048"] {
        for path in ["/", "/events", "/healthz"] {
            let response = ask_by(addr, host, &format!("GET {path}"));
            assert_eq!(response.status, 403, "{host}");
            assert!(!response.body.contains("question") && response.body.contains("localhost"));
        }
    }
}

#[test]
fn request_without_valid_token_gets_401() {
    let place = Place::new();
    let (dashboard, addr) = served(&place, Some(TOKEN));
    for lines in ["GET /", "GET /events", "GET /healthz", "GET /?token=wrong", "GET /nothing"] {
        let response = ask(addr, lines);
        assert_eq!(response.status, 401, "{lines}");
        has(&response.head, &["www-authenticate: bearer"]);
        assert!(!response.body.contains("question"), "{}", response.body);
    }
    let bearer = format!("\nAuthorization: Bearer {TOKEN}");
    // With a token any `Host` is valid, because a reverse proxy has a name of its own.
    for path in ["/", "/healthz"] {
        assert_eq!(ask_by(addr, "desk.example", &format!("GET {path}{bearer}")).status, 200);
    }
    let once = ask(addr, &format!("GET /?token={TOKEN}"));
    assert_eq!(once.status, 303);
    has(&once.head, &["location: ./", "; path=/; httponly; samesite=lax"]);
    assert!(!once.head.contains(TOKEN));
    let raw = TcpStream::connect(addr).map(|mut stream| {
        write!(stream, "GET /?token={TOKEN} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            .unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    });
    let raw = raw.unwrap();
    let cookie = raw.split("set-cookie: ").nth(1).unwrap().split(';').next().unwrap();
    let page = ask(addr, &format!("GET /\nCookie: other=1; {cookie}"));
    assert_eq!(page.status, 200);
    has(&page.body, &["0 of 3 questions updated, 3 pending", "dashboard_token", "set, not shown"]);
    assert!(!page.body.contains(TOKEN) && !cookie.contains(TOKEN));
    dashboard.signal(Signal::TERM);
    assert!(!dashboard.ends(0).contains(TOKEN));
}

#[tokio::test(flavor = "multi_thread")]
async fn event_stream_sends_each_change_once_and_the_end() {
    let (place, sandbox) = (Place::new(), sandbox().await);
    let (dashboard, addr) = served(&place, None);
    let page = ask(addr, "GET /").body;
    let mut listener = Listener::since(addr, generation(&page));
    assert_eq!(listener.next().unwrap(), ("live".to_owned(), "live".to_owned()));
    ends(place.fast(&sandbox, &["run"]), 1);
    let data = listener.until("section", "2 of 3 questions updated, 1 failed");
    let section: Value = serde_json::from_str(&data).unwrap();
    assert_eq!(section["id"], "outcome");
    // Unchanged settings are not sent again.
    dashboard.signal(Signal::TERM);
    let mut rest = Vec::new();
    while let Some((name, data)) = listener.next() {
        assert!(!data.contains("\"id\":\"settings\""), "{data}");
        rest.push((name, data));
    }
    // The event reports only the end of the dashboard, since a run may be active in another process.
    let over = ("over".to_owned(), "the dashboard was stopped".to_owned());
    assert_eq!(rest.last(), Some(&over), "{rest:?}");
    dashboard.ends(0);
}

#[test]
fn unknown_generation_gets_all_sections() {
    let place = Place::new();
    let (_dashboard, addr) = served(&place, None);
    // An old generation, and one from a server whose clock was ahead.
    for since in ["0", "99999", "99999999999999", "nonsense", ""] {
        let mut listener = Listener::since(addr, since);
        for id in ["outcome", "settings", "made"] {
            listener.until("section", &format!("\"id\":\"{id}\""));
        }
    }
}

#[test]
fn healthz_says_whether_the_queue_can_be_read() {
    let place = Place::new();
    let (_dashboard, addr) = served(&place, None);
    let health = |status| {
        let response = ask(addr, "GET /healthz");
        assert_eq!(response.status, status, "{}", response.body);
        let body: Value = serde_json::from_str(&response.body).unwrap();
        body["status"].as_str().unwrap().to_owned() + body["why"].as_str().unwrap_or_default()
    };
    assert_eq!(health(200), "ok");
    let page = ask(addr, "GET /").body;
    let mut listener = Listener::since(addr, generation(&page));
    let (queue, aside) = (place.path("deskbatch.db"), place.path("aside.db"));
    fs::rename(&queue, &aside).unwrap();
    has(&health(503), &["failing", "no queue file at"]);
    listener.until("read-error", "no queue file at");
    fs::copy(&aside, &queue).unwrap();
    has(&health(503), &["was removed or replaced"]);
    fs::rename(&aside, &queue).unwrap();
    assert_eq!(health(200), "ok");
    listener.until("live", "live");
    let file = fs::OpenOptions::new().write(true).open(&queue).unwrap();
    file.write_all_at(&[0xa5; 4096], 0).unwrap();
    has(&health(503), &["failing", "not a database"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn port_in_use_ends_run_before_any_request() {
    let (place, sandbox) = (Place::new(), sandbox().await);
    place.write("jobs.csv", manifest([(question("a").as_str(), "4")]));
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap().to_string();
    for (args, flag) in [
        (vec!["run", "jobs.csv", "--dashboard", &addr], "--dashboard"),
        (vec!["dashboard", "--addr", &addr], "--addr"),
    ] {
        let output = ends(place.fast(&sandbox, &args), 2);
        has(
            &said(&output),
            &["cannot listen on", "in use", &format!("another port with {flag}"), "port 0"],
        );
    }
    assert_eq!((sandbox.ledger().total, place.counts()), (0, [0; 6]));
}

#[test]
fn non_loopback_listener_requires_token() {
    let place = Place::new();
    for args in [
        ["run", "--dashboard", "0.0.0.0:0"],
        ["dashboard", "--addr", "0.0.0.0:0"],
        ["status", "--dashboard", "192.0.2.7:8048"],
    ] {
        has(&said(&ends(place.deskbatch(&args), 2)), &["set DESKBATCH_DASHBOARD_TOKEN"]);
    }
    let mut command = place.deskbatch(&["status"]);
    command.env("DESKBATCH_DASHBOARD_TOKEN", "0123456789-short");
    has(&said(&ends(command, 2)), &["no queue file"]);
    let mut command = place.deskbatch(&["status"]);
    command.env("DESKBATCH_DASHBOARD_TOKEN", "too-short-0123");
    let refused = said(&ends(command, 2));
    assert!(refused.contains("at least 16") && !refused.contains("too-short"), "{refused}");
    place.write("mine.toml", format!("dashboard_token = \"{TOKEN}\"\n"));
    let refused = said(&ends(place.deskbatch(&["status", "--config", "mine.toml"]), 2));
    has(&refused, &["contains a secret, and other users can read it"]);
}

/// A client that sends a request and has almost no receive buffer for the response.
async fn deaf(addr: SocketAddr, request: &str) -> TcpStream {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(1).unwrap();
    let stream = socket.connect(addr).await.unwrap().into_std().unwrap();
    stream.set_nonblocking(false).unwrap();
    (&stream).write_all(request.as_bytes()).unwrap();
    stream
}

/// One client that has disconnected, one that never finishes its request, one that idles after it, and
/// one that reads nothing of a response larger than any buffer.
async fn stuck(addr: SocketAddr) -> Vec<TcpStream> {
    assert_eq!(ask(addr, "GET /").status, 200);
    let page = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let mut all = Vec::new();
    for request in ["", "GET / HTTP/1.1\r\n", page, &page.repeat(400)] {
        all.push(deaf(addr, request).await);
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn stalled_clients_do_not_delay_run() {
    let place = Place::new();
    let sandbox = sandbox_with(|s| s.latency = std::time::Duration::from_millis(5)).await;
    let jobs = cases(100, 300);
    let ids: Vec<String> = (0..jobs).map(|n| question(&format!("missing{n}"))).collect();
    place.write("jobs.csv", manifest(ids.iter().map(|id| (id.as_str(), "4"))));
    let args = ["run", "jobs.csv", "--chunk", "1", "--dashboard", "127.0.0.1:0"];
    let mut run = Going::start(place.fast(&sandbox, &args));
    let addr = address(&mut run);
    let _stuck = stuck(addr).await;
    // Fill every connection slot, then exceed the limit.
    let mut listeners = Vec::new();
    for _ in 0..40 {
        let events = "GET /events?since=0 HTTP/1.1\r\nHost: localhost\r\n\r\n";
        listeners.push(deaf(addr, events).await);
    }
    let talk = run.ends(1);
    has(&talk, &[&format!("Finished: 0 succeeded, {jobs} failed.")]);
    let mut refused = 0;
    for mut stream in listeners {
        let mut first = [0; 12];
        stream.read_exact(&mut first).unwrap();
        refused += usize::from(&first == b"HTTP/1.1 503");
    }
    assert_eq!(refused, 8);
    assert!(!place.files().iter().any(|name| name.ends_with("-wal")), "{:?}", place.files());
}

#[tokio::test(flavor = "multi_thread")]
async fn stalled_clients_do_not_delay_dashboard_exit() {
    let place = Place::new();
    let (dashboard, addr) = served(&place, None);
    let _stuck = stuck(addr).await;
    dashboard.signal(Signal::TERM);
    dashboard.ends(0);
}
