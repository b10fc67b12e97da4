//! The server over real TCP, byte by byte, on a clock that the test controls.

use std::net::Ipv4Addr;

use futures_util::FutureExt as _;
use serde_json::{Value, json};
use tokio::net::TcpStream;

use super::super::settings::KnownIds;
use super::super::testing::{PATH, body, query_at};
use super::super::{Fault, QuestionStatus};
use super::*;
use crate::domain::clock::ManualClock;

const SECOND: i64 = 1_767_225_600;

/// A sandbox and its clock.
async fn sandbox(settings: SandboxSettings) -> (Sandbox, ManualClock) {
    let clock = ManualClock::new(SECOND * 1_000);
    let sandbox = Sandbox::start_on(settings, clock.clone()).await.expect("starts");
    (sandbox, clock)
}

fn scripted(script: &str) -> SandboxSettings {
    let script = Some(script.parse().expect("a script"));
    SandboxSettings { script, ..SandboxSettings::default() }
}

struct Client {
    tcp: TcpStream,
    unread: Vec<u8>,
}

/// A response: status, header, body.
type ServerResponse = (u16, String, String);

impl Client {
    async fn to(sandbox: &Sandbox) -> Self {
        let tcp = TcpStream::connect(sandbox.addr()).await.expect("connects");
        Self { tcp, unread: Vec::new() }
    }

    async fn send(&self, bytes: &[u8]) {
        let mut sent = 0;
        while sent < bytes.len() {
            self.tcp.writable().await.expect("is open");
            match self.tcp.try_write(&bytes[sent..]) {
                Ok(count) => sent += count,
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
            }
        }
    }

    async fn post(&self, body: &str) {
        let (query, length) = (query_at(SECOND), body.len());
        let head = format!(
            "POST {PATH}?{query} HTTP/1.1\r\nHost: sandbox\r\nContent-Length: {length}\r\n\r\n"
        );
        self.send((head + body).as_bytes()).await;
    }

    /// The next response; `None` if the connection ended without a byte of one.
    async fn response(&mut self) -> Option<ServerResponse> {
        loop {
            if let Some(response) = self.parsed() {
                return Some(response);
            }
            let mut bytes = [0; 4096];
            self.tcp.readable().await.expect("can be waited for");
            match self.tcp.try_read(&mut bytes) {
                Ok(0) => {
                    assert!(self.unread.is_empty(), "ended in the middle of an answer");
                    return None;
                }
                Ok(count) => self.unread.extend_from_slice(&bytes[..count]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => {
                    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
                    return None;
                }
            }
        }
    }

    fn parsed(&mut self) -> Option<ServerResponse> {
        let text = String::from_utf8(self.unread.clone()).expect("text");
        let (head, rest) = text.split_once("\r\n\r\n")?;
        let head = head.to_ascii_lowercase();
        let length = head.split_once("content-length: ").expect("a length").1;
        let length: usize = length.lines().next()?.trim().parse().expect("a number");
        let body = rest.get(..length)?.to_owned();
        self.unread.drain(..text.len() - rest.len() + length);
        let status = head.split(' ').nth(1)?.parse().expect("a status");
        Some((status, head, body))
    }

    /// The code in the next response.
    async fn code(&mut self) -> i64 {
        let (status, _, body) = self.response().await.expect("an answer");
        assert_eq!(status, 200);
        let value: Value = serde_json::from_str(&body).expect("JSON");
        value["ErrorCode"].as_i64().expect("a code")
    }

    async fn get(&mut self, path: &str) -> ServerResponse {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: sandbox\r\n\r\n").as_bytes()).await;
        self.response().await.expect("an answer")
    }
}

#[tokio::test]
async fn one_connection_serves_requests_in_sequence() {
    let (sandbox, _clock) = sandbox(SandboxSettings::default()).await;
    assert_eq!(sandbox.endpoint(), format!("http://127.0.0.1:{}", sandbox.addr().port()));
    let mut client = Client::to(&sandbox).await;
    client.post(&body(5, &["1-a", "1-b"])).await;
    let (status, head, text) = client.response().await.expect("an answer");
    assert_eq!(text, r#"{"ActionStatus":"OK","ErrorCode":0,"ErrorInfo":""}"#);
    assert!(status == 200 && head.contains("content-type: application/json"), "{head}");
    client.post(&body(6, &["1-missing"])).await;
    assert_eq!(client.code().await, -50_003);

    let expected = QuestionState { status: QuestionStatus::Disabled, changes: 1 };
    assert_eq!(sandbox.question("1-b"), Some(expected));
    assert_eq!(sandbox.question("1-missing"), None);
    let seen = sandbox.ledger().requests;
    let rows: Vec<_> = seen.iter().map(|r| (r.number, r.status, r.code, r.applied)).collect();
    assert_eq!(rows, [(1, Some(5), Some(0), true), (2, Some(6), Some(-50_003), false)]);
    assert_eq!(
        (seen[0].wall_ms, &seen[1].ids[..]),
        (SECOND * 1_000, &["1-missing".to_owned()][..])
    );
    sandbox.stop().await;
}

#[tokio::test]
async fn server_throttles_sixth_request_until_clock_moves() {
    let (sandbox, clock) = sandbox(SandboxSettings::default()).await;
    let mut client = Client::to(&sandbox).await;
    for code in [0, 0, 0, 0, 0, -14] {
        client.post(&body(4, &["1-a"])).await;
        assert_eq!(client.code().await, code);
    }
    clock.advance(Duration::from_secs(1));
    client.post(&body(4, &["1-a"])).await;
    assert_eq!(client.code().await, 0);
    let ledger = sandbox.ledger();
    assert_eq!((ledger.largest_second, ledger.largest_second_accepted), (6, 5));
    assert_eq!(ledger.codes.into_iter().collect::<Vec<_>>(), [(-14, 1), (0, 6)]);
}

#[tokio::test]
async fn client_receives_each_fault_as_specified() {
    /// The HTTP status, and the code if the body is readable.
    type Look = Option<(u16, Option<i64>)>;
    let rows: [(Fault, Look, bool); 7] = [
        (Fault::Throttle, Some((200, Some(-14))), false),
        (Fault::BadGateway, Some((502, None)), false),
        (Fault::CutBefore, None, false),
        (Fault::CutAfter, None, true),
        (Fault::Truncated, Some((200, None)), true),
        (Fault::Garbage, Some((200, None)), true),
        (Fault::Internal, Some((200, Some(60_008))), false),
    ];
    for (fault, look, applied) in rows {
        let (sandbox, _clock) = sandbox(scripted(fault.into())).await;
        let mut client = Client::to(&sandbox).await;
        client.post(&body(4, &["1-a"])).await;
        let seen = client.response().await.map(|(status, _, text)| {
            let value: Option<Value> = serde_json::from_str(&text).ok();
            (status, value.and_then(|value| value["ErrorCode"].as_i64()))
        });
        assert_eq!(seen, look, "{fault}");
        assert_eq!(sandbox.question("1-a").is_some(), applied, "{fault}");
        let ledger = sandbox.ledger();
        let row = &ledger.requests[0];
        assert_eq!((row.fault, row.applied), (Some(fault), applied));
        assert_eq!(row.http, look.map(|(status, _)| status), "{fault}");

        // The script has ended, so a new connection meets no fault.
        let mut client = Client::to(&sandbox).await;
        client.post(&body(4, &["1-a"])).await;
        assert_eq!(client.code().await, 0, "after {fault}");
    }
}

#[tokio::test]
async fn late_response_follows_the_change_after_12_s() {
    let (sandbox, clock) = sandbox(scripted("late")).await;
    let mut client = Client::to(&sandbox).await;
    client.post(&body(4, &["1-a"])).await;
    sandbox.seen(1).await;
    assert!(sandbox.question("1-a").is_some());
    clock.advance_to_next_sleeper().await;
    assert_eq!(client.code().await, 0);
    assert_eq!(clock.now(), Moment(Duration::from_secs(12)));
}

#[tokio::test]
async fn request_is_counted_after_delay_and_response_later() {
    let settings = SandboxSettings {
        request_delay: Duration::from_millis(300),
        latency: Duration::from_millis(50),
        latency_jitter: Duration::from_millis(20),
        ..SandboxSettings::default()
    };
    let (sandbox, clock) = sandbox(settings).await;
    let mut client = Client::to(&sandbox).await;
    client.post(&body(4, &["1-a"])).await;
    clock.advance_to_next_sleeper().await;
    sandbox.seen(1).await;
    let row = Arc::clone(&sandbox.ledger().requests[0]);
    assert_eq!(row.arrived, Moment::default());
    assert_eq!(row.counted, Moment(Duration::from_millis(300)));
    clock.advance_to_next_sleeper().await;
    assert_eq!(client.code().await, 0);
    let left = clock.now().since(row.counted);
    assert!((50..=70).contains(&left.as_millis()), "{left:?}");
}

#[tokio::test]
async fn sent_request_is_applied_after_client_disconnects() {
    let request_delay = Duration::from_millis(300);
    let (sandbox, clock) =
        sandbox(SandboxSettings { request_delay, ..SandboxSettings::default() }).await;
    let client = Client::to(&sandbox).await;
    client.post(&body(4, &["1-a"])).await;
    // The result is the same whether the server notices the disconnect first or the clock advances first.
    drop(client);
    clock.advance_to_next_sleeper().await;
    sandbox.seen(1).await;
    assert!(sandbox.question("1-a").is_some());
}

#[tokio::test]
async fn incomplete_request_is_not_counted() {
    let (sandbox, _clock) = sandbox(SandboxSettings::default()).await;
    let half = Client::to(&sandbox).await;
    let query = query_at(SECOND);
    let head = format!("POST {PATH}?{query} HTTP/1.1\r\nHost: s\r\nContent-Length: 99\r\n\r\n{{");
    half.send(head.as_bytes()).await;
    drop(half);
    let mut whole = Client::to(&sandbox).await;
    whole.post(&body(4, &["1-a"])).await;
    assert_eq!(whole.code().await, 0);
    assert_eq!(sandbox.ledger().total, 1);
}

#[tokio::test]
async fn body_over_the_size_limit_gets_http_413() {
    let (sandbox, _clock) = sandbox(SandboxSettings::default()).await;
    let mut client = Client::to(&sandbox).await;
    let id = "x".repeat(BODY_BYTES_MAX - body(4, &[""]).len());
    client.post(&body(4, &[&id])).await;
    assert_eq!(client.code().await, 0);
    client.post(&body(4, &[&(id + "x")])).await;
    assert_eq!(client.response().await.expect("an answer").0, 413);
    let seen = sandbox.ledger().requests;
    assert_eq!((seen[1].http, seen[1].code, seen[1].applied), (Some(413), None, false));
}

#[tokio::test]
async fn server_can_omit_content_type_and_add_fields() {
    let settings = SandboxSettings {
        content_type: false,
        extra_fields: true,
        known_ids: KnownIds::Listed(["1-a".to_owned()].into()),
        ..SandboxSettings::default()
    };
    let (sandbox, _clock) = sandbox(settings).await;
    let mut client = Client::to(&sandbox).await;
    client.post(&body(4, &["1-a"])).await;
    let (_, head, text) = client.response().await.expect("an answer");
    assert!(!head.contains("content-type") && text.contains("RequestId"), "{head} {text}");
}

#[tokio::test]
async fn page_and_json_show_requests_and_are_not_counted() {
    let (sandbox, _clock) = sandbox(scripted("internal,ok")).await;
    let mut client = Client::to(&sandbox).await;
    assert_eq!(client.get("/favicon.ico").await.0, 404);
    client.post(&body(4, &["<b>1</b>"])).await;
    assert_eq!(client.code().await, 60_008);

    let (status, head, page) = client.get("/").await;
    assert!(status == 200 && head.contains("content-type: text/html; charset=utf-8"), "{head}");
    assert!(head.contains("content-security-policy: default-src 'none'"), "{head}");
    assert!(page.contains("&lt;b&gt;1&lt;/b&gt;") && !page.contains("<b>"), "{page}");
    assert!(!page.contains("eJ") && !page.contains(super::super::SANDBOX_KEY));
    let (_, _, text) = client.get("/ledger.json").await;
    let value: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!((&value["requests"], &value["codes"]), (&json!(1), &json!({ "60008": 1 })));
    assert_eq!(value["last"][0]["ids"], json!(["<b>1</b>"]));

    // Any other GET is a call with the wrong method or path.
    let (status, _, text) = client.get(PATH).await;
    assert!(status == 200 && text.contains("60002"), "{text}");
    assert_eq!(sandbox.ledger().total, 2);
}

#[tokio::test]
async fn stop_waits_one_second_then_cuts_responses() {
    let (sandbox, clock) = sandbox(scripted("late")).await;
    let (mut waiting, mut silent) = (Client::to(&sandbox).await, Client::to(&sandbox).await);
    waiting.post(&body(4, &["1-a"])).await;
    sandbox.seen(1).await;
    let mut stop = pin!(sandbox.stop());
    let mut turns = 0;
    // The stop starts its wait after some turns of the runtime; the clock advances a little at each turn.
    while (&mut stop).now_or_never().is_none() {
        clock.advance(Duration::from_millis(10));
        turns += 1;
        tokio::task::yield_now().await;
    }
    assert!(turns > 100);
    assert_eq!(waiting.response().await, None);
    assert_eq!(silent.response().await, None);
}

#[tokio::test]
async fn idle_stop_is_immediate_and_frees_the_port() {
    let (first, _clock) = sandbox(SandboxSettings::default()).await;
    let mut client = Client::to(&first).await;
    client.post(&body(4, &["1-a"])).await;
    assert_eq!(client.code().await, 0);
    let addr = first.addr();
    first.stop().await;
    assert_eq!(client.response().await, None);
    let again = SandboxSettings { addr, ..SandboxSettings::default() };
    let (second, _clock) = sandbox(again).await;
    assert_eq!((second.addr(), second.ledger().total), (addr, 0));
}

#[tokio::test]
async fn dropped_sandbox_stops_serving() {
    let (sandbox, _clock) = sandbox(SandboxSettings::default()).await;
    let mut serving = sandbox.serving.clone();
    drop(sandbox);
    assert!(serving.changed().await.is_err());
}

#[tokio::test]
async fn sandbox_listens_only_on_loopback() {
    let addr = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
    let settings = SandboxSettings { addr, ..SandboxSettings::default() };
    let error = Sandbox::start(settings).await.expect_err("refused");
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    assert!(error.to_string().contains("0.0.0.0:0 is not a loopback address"), "{error}");
}
