//! Malicious responses: the client classifies each within its timeout, and stores a bounded part of it
//! however much is sent.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use deskbatch::desk::{HttpSettings, HttpTransport, Response, SetStatusRequest, Transport as _};
use deskbatch::domain::clock::{Clock as _, SystemClock};
use deskbatch::domain::job::{App, Library, QuestionId, TargetStatus};
use deskbatch::domain::verdict::{ResponseKind, Verdict};
use flate2::Compression;
use flate2::write::GzEncoder;
use rustix::process::Signal;

use crate::support::binary::{Going, Recorder};
use crate::support::place::{Place, manifest, question};

const OK: &str = r#"{"ActionStatus":"OK","ErrorInfo":"","ErrorCode":0}"#;
const KEY: &str = "2b7d9c51e8f0463a95d1c27be4083f6d7a915c0e82b46fd3907e15ac68d24bf1";
const USERSIG: &str = "eJwHostileAnswersUserSig";

/// The client's timeout here. A busy machine may add to it, but an endless response is detected
/// whatever the timeout is.
const TIMEOUT: Duration = Duration::from_millis(500);
/// The memory limit of a run with all endless responses. Without them it uses about 20 MB.
const MEMORY_KIB_MAX: u64 = 48 * 1024;
/// A limit for a response that never ends, on a machine that has other work.
const SLACK: Duration = Duration::from_mins(5);

const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";

/// Writes `head`, then `piece` repeatedly until the client closes the connection.
fn for_ever(client: &mut impl Write, head: &str, piece: &str) -> io::Result<()> {
    client.write_all(head.as_bytes())?;
    let pieces = piece.repeat(64 * 1024 / piece.len());
    loop {
        client.write_all(pieces.as_bytes())?;
    }
}

/// One byte of a response every few milliseconds, endlessly.
fn drip(client: &mut TcpStream) -> io::Result<()> {
    client.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n{")?;
    let (_sender, tick) = mpsc::channel::<()>();
    loop {
        let _ = tick.recv_timeout(Duration::from_millis(5));
        client.write_all(b" ")?;
    }
}

/// Endless heads: the client learns no status.
const HEADS: &[(&str, &str, &str)] = &[
    ("an endless line of a header", "HTTP/1.1 200 OK\r\nX: ", "xxxxxxxx"),
    ("endless headers", "HTTP/1.1 200 OK\r\n", "X: y\r\n"),
    ("an endless status line", "HTTP/1.1 200 ", "very "),
    ("a flood of interim answers", "", "HTTP/1.1 100 Continue\r\n\r\n"),
    ("endless empty lines", "", "\r\n"),
    ("endless noise", "", "\u{0}\u{1}\u{7f}~"),
];

/// Endless bodies after a valid head.
const BODIES: &[(&str, &str, &str)] = &[
    ("an endless body", "HTTP/1.1 200 OK\r\n\r\n", "xxxxxxxx"),
    ("endless pieces", CHUNKED, "8\r\nxxxxxxxx\r\n"),
    ("endless blanks before the object", CHUNKED, "8\r\n        \r\n"),
    (
        "an endless extension of a piece",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n8;x=",
        "y",
    ),
    (
        "endless trailers",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n",
        "X: y\r\n",
    ),
    ("an endless length of a piece", CHUNKED, "0"),
];

fn call() -> SetStatusRequest {
    SetStatusRequest {
        app: App { sdkappid: 1_400_111_222, library: Library::Chitchat },
        status: TargetStatus::Enable,
        ids: vec![QuestionId::parse(b"q").unwrap()],
        usersig: USERSIG.into(),
    }
}

fn transport(service: &Recorder) -> HttpTransport {
    let endpoint = service.endpoint().parse().unwrap();
    let mut settings = HttpSettings::new(endpoint, "administrator");
    settings.total_timeout = TIMEOUT;
    HttpTransport::new(&settings).unwrap()
}

/// How the client classifies `serve`'s response, checked for time and for secrets.
async fn reply_to(
    what: &str,
    serve: impl Fn(&mut TcpStream) -> io::Result<()> + Send + Sync + 'static,
) -> Response {
    let service = Recorder::serving(move |_, client| serve(client));
    let clock = SystemClock::new();
    let reply = transport(&service).send(&call()).await;
    assert!(clock.now().0 < TIMEOUT + SLACK, "{what}: {:?}", clock.now());
    assert!(
        !reply.info.contains(USERSIG) && reply.info.chars().count() <= 300,
        "{what}: {reply:?}"
    );
    assert!(
        !reply.info.is_empty() || matches!(reply.kind, ResponseKind::Code(_)),
        "{what}: {reply:?}"
    );
    reply
}

/// How the client classifies these bytes, after which the server closes.
async fn reply_to_bytes(what: &str, bytes: impl Into<Vec<u8>>) -> Response {
    let bytes = bytes.into();
    reply_to(what, move |client| client.write_all(&bytes)).await
}

fn ok_with(headers: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 200 OK\r\n{headers}Content-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn endless_response_times_out_as_transient() {
    for &(what, head, piece) in HEADS {
        // Ten times the size of head that the client keeps. Only interim responses are read for that
        // long. Each has a whole head, so the request ends by its timeout or when they end.
        let serve = move |to: &mut TcpStream| {
            for_ever(&mut Counted { to, left: 4 << 20, count: &AtomicU64::new(0) }, head, piece)
        };
        let reply = reply_to(what, serve).await;
        assert_eq!(
            (reply.kind, reply.http_status),
            (ResponseKind::NoResponse, None),
            "{what}: {reply:?}"
        );
    }
    for &(what, head, piece) in BODIES {
        let reply = reply_to(what, |client| for_ever(client, head, piece)).await;
        assert_eq!(reply.http_status, Some(200), "{what}: {reply:?}");
        assert_eq!(reply.kind.verdict(), Verdict::Transient, "{what}: {reply:?}");
    }
    let reply = reply_to("a drip", drip).await;
    assert_eq!((reply.kind, reply.http_status), (ResponseKind::NoResponse, Some(200)));
    assert!(reply.info.contains("timed out"), "{reply:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn large_response_body_is_not_read_completely() {
    let large = vec![b' '; 10 << 20];
    let known = ok_with("", &large);
    let unknown = [b"HTTP/1.1 200 OK\r\n\r\n", large.as_slice()].concat();
    let announced = b"HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551615\r\n\r\n".to_vec();
    for (what, bytes) in [("10 MB", known), ("10 MB to the end", unknown)] {
        let reply = reply_to_bytes(what, bytes).await;
        assert_eq!(reply.info, "the response has more than 65536 bytes", "{what}");
        assert_eq!(reply.kind, ResponseKind::Unreadable, "{what}");
    }
    let reply = reply_to_bytes("2^64 bytes announced", announced).await;
    assert_eq!(reply.kind, ResponseKind::NoResponse, "{reply:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn compressed_response_is_not_decompressed() {
    let packed = |bytes: &[u8]| {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    };
    let mebibyte = vec![b' '; 1 << 20];
    let mut bomb = GzEncoder::new(Vec::new(), Compression::best());
    (0..40).for_each(|_| bomb.write_all(&mebibyte).unwrap());
    let bomb = bomb.finish().unwrap();
    assert!(bomb.len() < 64 * 1024, "it must not be refused for its own size: {}", bomb.len());
    for encoding in ["gzip", "x-gzip", "deflate", "br", "zstd", "gzip, gzip", "identity"] {
        for body in [bomb.clone(), packed(OK.as_bytes())] {
            let headers = format!("Content-Encoding: {encoding}\r\n");
            let reply = reply_to_bytes(encoding, ok_with(&headers, &body)).await;
            let why = format!("the response is not a JSON object ({} bytes)", body.len());
            assert_eq!((reply.kind, reply.info), (ResponseKind::Unreadable, why), "{encoding}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn deeply_nested_json_is_parsed_without_overflow() {
    let deep = |levels: usize, open: &str, close: &str| {
        format!("{}{}", open.repeat(levels), close.repeat(levels))
    };
    // In an unknown field nesting is skipped, and the code counts.
    let beside = format!(r#"{{"New":{},"ErrorCode":-14}}"#, deep(30_000, "[", "]"));
    assert_eq!(
        reply_to_bytes("beside", ok_with("", beside.as_bytes())).await.kind,
        ResponseKind::Code(-14)
    );
    for (what, body) in [
        ("100,000 levels", deep(100_000, "[", "]")),
        ("100,000 objects", deep(100_000, r#"{"ErrorInfo":"#, "}")),
        ("never closed", r#"{"ErrorCode":"#.to_owned() + &"[".repeat(60_000)),
        ("in the code", format!(r#"{{"ErrorCode":{}}}"#, deep(30_000, "[", "]"))),
        (
            "in the text",
            format!(r#"{{"ErrorCode":0,"ErrorInfo":{}}}"#, deep(5_000, r#"{"a":"#, "}")),
        ),
        ("in the word", format!(r#"{{"ErrorCode":0,"ActionStatus":{}}}"#, deep(30_000, "[", "]"))),
    ] {
        let reply = reply_to_bytes(what, ok_with("", body.as_bytes())).await;
        assert_eq!(
            (reply.kind, reply.http_status),
            (ResponseKind::Unreadable, Some(200)),
            "{what}: {reply:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn unusual_json_code_is_parsed_or_garbled() {
    for (body, response) in [
        (r#"{"ActionStatus":"OK","ErrorCode":"0"}"#, ResponseKind::Code(0)),
        (r#"{"ActionStatus":"FAIL","ErrorCode":"-14"}"#, ResponseKind::Code(-14)),
        (r#"{"ActionStatus":true,"ErrorInfo":[],"ErrorCode":0}"#, ResponseKind::Unreadable),
        (r#"{"ActionStatus":"OK","ErrorCode":false}"#, ResponseKind::Unreadable),
        (r#"{"ActionStatus":"OK","ErrorCode":{"0":0}}"#, ResponseKind::Unreadable),
        (r#"{"ActionStatus":"OK","ErrorCode":1e-400}"#, ResponseKind::Code(0)),
        (r#"{"ActionStatus":"OK","ErrorCode":9223372036854775808}"#, ResponseKind::Unreadable),
        (r#"{"ActionStatus":"OK","ErrorCode":-9223372036854775809}"#, ResponseKind::Unreadable),
        (r#"{"ActionStatus":"OK","ErrorCode":1e309}"#, ResponseKind::Unreadable),
        (r#"{"ActionStatus":"OK","ErrorCode":18446744073709551616}"#, ResponseKind::Unreadable),
    ] {
        assert_eq!(
            reply_to_bytes(body, ok_with("", body.as_bytes())).await.kind,
            response,
            "{body}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_http_is_never_a_success() {
    let length = OK.len();
    let two = format!("Content-Length: {length}\r\nContent-Length: 2\r\n");
    let both = format!("Transfer-Encoding: chunked\r\nContent-Length: {length}\r\n");
    let with = |headers: &str| format!("HTTP/1.1 200 OK\r\n{headers}\r\n{OK}");
    for (what, bytes) in [
        ("HTTP/0.9", OK.to_owned()),
        ("HTTP/2's first words", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned()),
        ("another protocol", "SSH-2.0-OpenSSH_9.9\r\n".to_owned()),
        ("another version", format!("HTTP/3.0 200 OK\r\nContent-Length: {length}\r\n\r\n{OK}")),
        ("a status of two digits", format!("HTTP/1.1 20 OK\r\n\r\n{OK}")),
        ("no bytes", String::new()),
        ("two lengths", with(&two)),
        ("a length below zero", with("Content-Length: -1\r\n")),
        ("a length in words", with("Content-Length: many\r\n")),
        ("a length beyond 64 bits", with("Content-Length: 18446744073709551616\r\n")),
        ("a length and pieces", with(&both)),
        ("pieces that are none", with("Transfer-Encoding: chunked\r\n")),
        ("a piece cut off", format!("{CHUNKED}{length:x}\r\n{}", &OK[..20])),
        ("pieces without an end", format!("{CHUNKED}{length:x}\r\n{OK}\r\n")),
        ("a piece beyond 64 bits", format!("{CHUNKED}10000000000000000\r\n{OK}\r\n0\r\n\r\n")),
        ("too long a length", with(&format!("Content-Length: {}\r\n", length + 1))),
        (
            "another protocol instead",
            with("Connection: upgrade\r\nUpgrade: x\r\n").replace("200 OK", "101 On"),
        ),
        ("too short a length", with(&format!("Content-Length: {}\r\n", length - 1))),
    ] {
        let reply = reply_to_bytes(what, bytes).await;
        let verdict = reply.kind.verdict();
        assert_eq!(verdict, Verdict::Transient, "{what}: {reply:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pipelined_response_counts_for_no_request() {
    // Two responses to the first request. The second one must not count as the response to the next
    // request.
    let fail = r#"{"ErrorCode":-50003}"#;
    let service = Recorder::serving(move |_, client| {
        client.write_all(&[ok_with("", fail.as_bytes()), ok_with("", OK.as_bytes())].concat())?;
        // Keeps the connection open until the client closes it.
        io::copy(client, &mut io::sink()).map(drop)
    });
    let transport = transport(&service);
    for _ in 0..20 {
        assert_eq!(transport.send(&call()).await.kind, ResponseKind::Code(-50_003));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn redirect_to_another_host_is_not_followed() {
    let elsewhere = Recorder::responding(|_| String::new());
    for status in ["301", "302", "303", "307", "308"] {
        let to = elsewhere.endpoint();
        let service = Recorder::serving(move |first, client| {
            let path = first.split(' ').nth(1).unwrap_or_default();
            let head = format!("HTTP/1.1 {status} Away\r\nLocation: {to}{path}\r\n");
            client.write_all(
                format!("{head}Refresh: 0; url={to}{path}\r\nContent-Length: 0\r\n\r\n").as_bytes(),
            )
        });
        let reply = transport(&service).send(&call()).await;
        assert_eq!(reply.kind, ResponseKind::HttpStatus(status.parse().unwrap()));
        assert_eq!(reply.kind.verdict(), Verdict::Stop);
        assert_eq!(service.usersigs(), [USERSIG]);
    }
    assert_eq!(elsewhere.sent(), "");
}

/// The peak memory of a process so far.
fn memory_peak_kib(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Counts the bytes that are written, up to a limit.
struct Counted<'a> {
    to: &'a mut TcpStream,
    left: usize,
    count: &'a AtomicU64,
}

impl Write for Counted<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.to.write(&bytes[..bytes.len().min(self.left)])?;
        self.left -= written;
        self.count.fetch_add(written as u64, Ordering::Relaxed);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

#[test]
fn response_floods_do_not_grow_memory_or_block_stop() {
    let floods: Vec<_> = HEADS.iter().chain(BODIES).copied().collect();
    let mut waited_for: BTreeSet<&str> = floods.iter().map(|(what, ..)| *what).collect();
    let (ended, flood_ends) = mpsc::channel();
    let (turn, sent) = (AtomicUsize::new(0), Arc::new(AtomicU64::new(0)));
    let count = Arc::clone(&sent);
    let service = Recorder::serving(move |_, client| {
        // Most requests succeed, so that the run continues and does not back off.
        let turn = turn.fetch_add(1, Ordering::Relaxed);
        if turn % 8 != 0 {
            return client.write_all(&ok_with("", OK.as_bytes()));
        }
        let (what, head, piece) = floods[turn / 8 % floods.len()];
        // Most responses are parsed byte by byte, so 8 MiB are enough for them. A plain body is not.
        let left = if what == "an endless body" { 1 << 30 } else { 8 << 20 };
        let flood = for_ever(&mut Counted { to: client, left, count: &count }, head, piece);
        let _ = ended.send(what);
        flood
    });
    let place = Place::new();
    let ids: Vec<String> = (0..5_000).map(|n| question(&format!("q{n}"))).collect();
    place.write("jobs.csv", manifest(ids.iter().map(|id| (id.as_str(), "4"))));
    let mut command = place.deskbatch(&["run", "jobs.csv", "--chunk", "1", "--rate", "200"]);
    command
        .args(["--timeout", "500ms", "--sdkappid", "1400000000", "--max-attempts", "100"])
        .args(["--identifier", "administrator", "--endpoint", &service.endpoint()])
        .env("DESKBATCH_SECRET_KEY", KEY);
    let run = Going::start(command);
    let sent_kib = || sent.load(Ordering::Relaxed) / 1024;
    while !waited_for.is_empty() || sent_kib() < MEMORY_KIB_MAX {
        waited_for.remove(flood_ends.recv_timeout(Duration::from_mins(1)).expect("floods end"));
    }
    let peak_kib = memory_peak_kib(run.pid());
    assert!(peak_kib < MEMORY_KIB_MAX, "{peak_kib} KiB held, {} KiB sent", sent_kib());
    run.signal(Signal::TERM);
    run.ends(3);
}
