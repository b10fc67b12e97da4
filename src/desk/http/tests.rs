//! The exchange over a real loopback connection, once for each way it can end.
//!
//! The server writes raw bytes, so that each test controls every byte of the response. It shares no HTTP code
//! with the client.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::mpsc;

use super::*;
use crate::domain::job::{App, QuestionId, TargetStatus};

const USERSIG: &str = "eJw*SECRET-_";
const OK: &str = r#"{"ActionStatus":"OK","ErrorInfo":"","ErrorCode":0}"#;

enum Act {
    /// Responds and keeps the connection.
    Say(String),
    /// Responds and closes the connection.
    SayAndClose(String),
    /// Sends this, then repeats the piece of body until the client closes.
    SayForever(&'static str, String),
    /// Keeps the connection and sends nothing.
    BeSilent,
}

/// What the server received.
#[derive(Debug, PartialEq)]
enum Seen {
    /// A request on the connection with this number.
    Request { connection: usize, head: String, body: String },
    /// The client closed the connection while the server was still sending.
    Left,
}

struct Server {
    url: String,
    seen: mpsc::UnboundedReceiver<Seen>,
}

impl Server {
    async fn start(script: impl IntoIterator<Item = Act>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
        let url = format!("http://{}", listener.local_addr().expect("has an address"));
        let script = Arc::new(Mutex::new(VecDeque::from_iter(script)));
        let (tell, seen) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            for connection in 0.. {
                let (stream, _) = listener.accept().await.expect("accepts");
                tokio::spawn(converse(stream, connection, Arc::clone(&script), tell.clone()));
            }
        });
        Self { url, seen }
    }

    async fn request(&mut self) -> (usize, String, String) {
        match self.seen.recv().await.expect("the server runs") {
            Seen::Request { connection, head, body } => (connection, head, body),
            Seen::Left => panic!("the client left"),
        }
    }

    /// Sends one request with the default timeouts.
    async fn reply(&self) -> Response {
        transport(&self.url).send(&call()).await
    }
}

async fn converse(
    mut stream: TcpStream,
    connection: usize,
    script: Arc<Mutex<VecDeque<Act>>>,
    tell: mpsc::UnboundedSender<Seen>,
) {
    while let Some((head, body)) = read_request(&mut stream).await {
        let _ = tell.send(Seen::Request { connection, head, body });
        let act = script.lock().expect("no panic").pop_front().expect("the script has ended");
        match act {
            Act::Say(text) => stream.write_all(text.as_bytes()).await.expect("writes"),
            Act::SayAndClose(text) => return stream.write_all(text.as_bytes()).await.unwrap(),
            Act::SayForever(head, piece) => {
                stream.write_all(head.as_bytes()).await.expect("writes");
                while stream.write_all(piece.as_bytes()).await.is_ok() {}
                let _ = tell.send(Seen::Left);
                return;
            }
            Act::BeSilent => std::future::pending().await,
        }
    }
}

/// One request, or `None` when the client has closed.
async fn read_request(stream: &mut TcpStream) -> Option<(String, String)> {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let head = head.to_owned();
            let length = header(&head, "content-length").map_or(0, |n| n.parse().expect("number"));
            if body.len() >= length {
                return Some((head, body.to_owned()));
            }
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut fields = head.lines().skip(1).filter_map(|line| line.split_once(": "));
    fields.find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

fn http(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\n\r\n{body}", body.len())
}

fn settings(url: &str) -> HttpSettings {
    HttpSettings::new(url.parse().expect("is an endpoint"), "ops+bot@example.com #1/é")
}

fn transport(url: &str) -> HttpTransport {
    HttpTransport::new(&settings(url)).expect("builds")
}

fn call() -> SetStatusRequest {
    let ids = ["1400111222-@RBT#Desk-aB", "问题\"2"];
    SetStatusRequest {
        app: App { sdkappid: 1_400_111_222, library: Library::Chitchat },
        status: TargetStatus::Disable,
        ids: ids.map(|id| QuestionId::parse(id.as_bytes()).expect("is an id")).into(),
        usersig: USERSIG.into(),
    }
}

fn garbled(info: &str) -> Response {
    Response {
        kind: ResponseKind::Unreadable,
        info: info.to_owned(),
        http_status: Some(200),
        retry_after: None,
    }
}

#[tokio::test]
async fn request_matches_the_documented_contract() {
    let mut server = Server::start([Act::Say(http("200 OK", "", OK))]).await;
    let reply = server.reply().await;
    let expected = Response {
        kind: ResponseKind::Code(0),
        info: String::new(),
        http_status: Some(200),
        retry_after: None,
    };
    assert_eq!(reply, expected);

    let (_, head, body) = server.request().await;
    let line = head.lines().next().expect("has a request line");
    let (before, after) = line.split_once("&random=").expect("has a random");
    let (random, after) = after.split_once('&').expect("goes on");
    assert_eq!(
        before,
        "POST /v4/openim_console_http_svc/batch_set_chitchat?sdkappid=1400111222\
         &identifier=ops%2Bbot%40example.com%20%231%2F%C3%A9&usersig=eJw*SECRET-_"
    );
    random.parse::<u32>().expect("is an unsigned 32 bit integer");
    assert_eq!(after, "contenttype=json HTTP/1.1");
    assert_eq!(body, r#"{"StandardQuestionIds":["1400111222-@RBT#Desk-aB","问题\"2"],"Status":5}"#);
    assert_eq!(header(&head, "host"), server.url.strip_prefix("http://"));
    assert_eq!(header(&head, "content-type"), Some("application/json"));
    assert_eq!(header(&head, "transfer-encoding"), None);
}

#[tokio::test]
async fn library_selects_the_command_under_the_base_path() {
    let mut server = Server::start([Act::Say(http("200 OK", "", OK))]).await;
    let mut call = call();
    call.app.library = Library::Faq;
    transport(&format!("{}/gate%20way/", server.url)).send(&call).await;
    let (_, head, _) = server.request().await;
    let expected = "POST /gate%20way/v4/openim_console_http_svc/batch_set_faq?sdkappid=";
    assert!(head.starts_with(expected), "{head}");
}

#[tokio::test]
async fn each_request_has_its_own_connection_and_random() {
    let say = || Act::Say(http("200 OK", "Keep-Alive: timeout=60\r\n", OK));
    let mut server = Server::start([say(), say(), say()]).await;
    let transport = transport(&server.url);
    let mut lines = Vec::new();
    for number in 0..3 {
        assert_eq!(transport.send(&call()).await.kind, ResponseKind::Code(0));
        let (connection, head, _) = server.request().await;
        assert_eq!(connection, number);
        assert_eq!(header(&head, "connection"), Some("close"));
        lines.push(head);
    }
    lines.dedup();
    assert!(lines.len() > 1, "three equal randoms");
}

#[tokio::test]
async fn error_code_and_info_are_read_from_response() {
    let body = r#"{"ErrorInfo":"too\nfast","RequestId":"r-1","ErrorCode":-14,"New":{"a":[]}}"#;
    let server = Server::start([Act::Say(http("200 OK", "Content-Type: text/x\r\n", body))]).await;
    let reply = server.reply().await;
    assert_eq!((reply.kind, reply.info.as_str()), (ResponseKind::Code(-14), "too fast"));
}

#[tokio::test]
async fn response_body_is_read_chunked_or_until_close() {
    let half = OK.len() / 2;
    let (a, b) = OK.split_at(half);
    let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let chunked = format!("{head}{:x}\r\n{a}\r\n{:x}\r\n{b}\r\n0\r\n\r\n", a.len(), b.len());
    let server = Server::start([
        Act::Say(chunked),
        Act::SayAndClose(format!("HTTP/1.0 200 OK\r\n\r\n{OK}")),
    ])
    .await;
    assert_eq!(server.reply().await.kind, ResponseKind::Code(0));
    assert_eq!(server.reply().await.kind, ResponseKind::Code(0));
}

#[tokio::test]
async fn usersig_is_redacted_from_error_info() {
    let body = format!(r#"{{"ErrorCode":70003,"ErrorInfo":"usersig={USERSIG} is bad"}}"#);
    let server = Server::start([Act::Say(http("200 OK", "", &body))]).await;
    assert_eq!(server.reply().await.info, "usersig=*** is bad");
}

#[tokio::test]
async fn non_200_status_overrides_response_body() {
    for status in ["502 Bad Gateway", "201 Created", "404 Not Found", "429 Slow Down"] {
        let server = Server::start([Act::Say(http(status, "", OK))]).await;
        let number = status[..3].parse().expect("is a number");
        let expected = Response {
            kind: ResponseKind::HttpStatus(number),
            info: format!("HTTP status {number} instead of 200"),
            http_status: Some(number),
            retry_after: None,
        };
        assert_eq!(server.reply().await, expected);
    }
}

#[tokio::test]
async fn redirects_are_not_followed() {
    for status in ["302 Found", "307 Temporary Redirect", "308 Permanent Redirect"] {
        let mut server = Server::start([Act::Say(http(status, "Location: /other\r\n", ""))]).await;
        let response = server.reply().await.kind;
        assert!(matches!(response, ResponseKind::HttpStatus(302 | 307 | 308)), "{response:?}");
        server.request().await;
        assert!(server.seen.try_recv().is_err(), "asked again");
    }
}

#[tokio::test]
async fn cut_connection_is_no_response_and_is_not_retried() {
    let mut server = Server::start([
        Act::SayAndClose("HTTP/1.1 200 OK\r\nContent-".to_owned()),
        Act::Say(http("200 OK", "", OK)),
        Act::SayAndClose(String::new()),
    ])
    .await;
    let transport = transport(&server.url);
    for (connection, response) in
        [(0, ResponseKind::NoResponse), (1, ResponseKind::Code(0)), (2, ResponseKind::NoResponse)]
    {
        let reply = transport.send(&call()).await;
        assert_eq!(reply.kind, response, "{reply:?}");
        assert_shows_nothing(&reply.info, &server.url);
        assert_eq!(server.request().await.0, connection);
    }
    assert!(server.seen.try_recv().is_err(), "sent again");
}

#[tokio::test]
async fn cut_body_is_no_response_but_cut_json_is_garbled() {
    let whole = http("200 OK", "", OK);
    let server = Server::start([
        Act::SayAndClose(whole[..whole.len() - 5].to_owned()),
        Act::Say(http("200 OK", "", &OK[..20])),
    ])
    .await;
    let reply = server.reply().await;
    assert_eq!((reply.kind, reply.http_status), (ResponseKind::NoResponse, Some(200)));
    assert!(reply.info.starts_with("the response is incomplete: "), "{}", reply.info);
    assert_shows_nothing(&reply.info, &server.url);
    let why = "the JSON of the response is incomplete at line 1, column 20 (20 bytes)";
    assert_eq!(server.reply().await, garbled(why));
}

#[tokio::test]
async fn response_body_is_limited_to_64_kib() {
    let longest = format!("{OK}{}", " ".repeat(BODY_BYTES_MAX - OK.len()));
    let server = Server::start([
        Act::Say(http("200 OK", "", &longest)),
        Act::Say(http("200 OK", "", &format!("{longest} "))),
    ])
    .await;
    assert_eq!(server.reply().await.kind, ResponseKind::Code(0));
    assert_eq!(server.reply().await, garbled("the response has more than 65536 bytes"));
}

#[tokio::test]
async fn endless_response_is_closed_at_the_size_limit() {
    let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let piece = format!("400\r\n{}\r\n", "x".repeat(1024));
    let mut server = Server::start([Act::SayForever(head, piece)]).await;
    assert_eq!(server.reply().await, garbled("the response has more than 65536 bytes"));
    server.request().await;
    assert_eq!(server.seen.recv().await, Some(Seen::Left));
}

#[tokio::test]
async fn timed_out_response_counts_as_no_response() {
    let begun = "HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{\"Act".to_owned();
    let mut server = Server::start([Act::BeSilent, Act::Say(begun)]).await;
    let mut settings = settings(&server.url);
    settings.total_timeout = Duration::from_millis(200);
    let transport = HttpTransport::new(&settings).expect("builds");
    for (http_status, info) in [
        (None, "operation timed out"),
        (Some(200), "the response is incomplete: operation timed out"),
    ] {
        let expected = Response {
            kind: ResponseKind::NoResponse,
            info: info.to_owned(),
            http_status,
            retry_after: None,
        };
        assert_eq!(transport.send(&call()).await, expected);
        server.request().await;
    }
}

#[tokio::test]
async fn connection_refused_is_not_connected() {
    // Bound but not listening: the system refuses connections, and no other process can take the port.
    let socket = TcpSocket::new_v4().expect("opens");
    socket.bind("127.0.0.1:0".parse().expect("is an address")).expect("binds");
    let url = format!("http://{}", socket.local_addr().expect("has an address"));
    let reply = transport(&url).send(&call()).await;
    assert_eq!((reply.kind, reply.http_status), (ResponseKind::NotConnected, None));
    assert!(reply.info.contains("refused"), "{}", reply.info);
    assert_shows_nothing(&reply.info, &url);
}

#[tokio::test]
async fn timeout_during_connect_is_not_connected() {
    // The system accepts the connection, but no program does a TLS handshake.
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let url = format!("https://{}", listener.local_addr().expect("has an address"));
    let mut settings = settings(&url);
    settings.total_timeout = Duration::from_millis(400);
    let transport = HttpTransport::trusting(&settings, Trust::NoAuthority).expect("builds");
    let reply = transport.send(&call()).await;
    assert_eq!(reply.kind, ResponseKind::NotConnected, "{reply:?}");
    assert!(reply.info.contains("timed out"), "{}", reply.info);
}

#[tokio::test]
async fn localhost_is_loopback_without_a_resolver() {
    let server = Server::start([Act::Say(http("200 OK", "", OK))]).await;
    let url = server.url.replace("127.0.0.1", "localhost");
    assert_eq!(transport(&url).send(&call()).await.kind, ResponseKind::Code(0));
}

#[test]
fn debug_shows_neither_usersig_nor_path() {
    let transport = transport("http://127.0.0.1:9/s3cret");
    assert_eq!(format!("{transport:?}"), "HttpTransport { endpoint: Endpoint(127.0.0.1:9), .. }");
    let shown = format!("{:?}{:?}", call(), settings("http://127.0.0.1:9/s3cret"));
    assert!(!shown.contains("SECRET") && !shown.contains("s3cret"), "{shown}");
}

#[track_caller]
fn assert_shows_nothing(info: &str, url: &str) {
    let host = url.rsplit('/').next().expect("has a host");
    for hidden in ["SECRET", "usersig", "openim", "http://", host] {
        assert!(!info.contains(hidden), "{info}");
    }
}
