//! What counts as the response to a request and what it means: a list beside OK, a second response to
//! an earlier request, a code in invalid JSON, a wait time.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::pin::pin;
use std::time::Duration;

use deskbatch::desk::{HttpSettings, HttpTransport, SetStatusRequest, Transport as _};
use deskbatch::domain::clock::{Clock as _, SystemClock};
use deskbatch::domain::job::{App, Library, QuestionId, TargetStatus};
use deskbatch::domain::verdict::{ResponseKind, Verdict};
use futures_util::future::poll_immediate;

use crate::support::binary::{Recorder, ends};
use crate::support::place::{Place, manifest, question};

const OK: &str = r#"{"ActionStatus":"OK","ErrorInfo":"","ErrorCode":0}"#;
const BAD: &str = r#"{"ActionStatus":"FAIL","ErrorInfo":"bad","ErrorCode":-50003}"#;
const KEY: &str = "7e1c0b93d5f24a68b0c9e3471d5a86f2093be47c18d65fa2b7094e3c1d8f5a60";

fn http(status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {length}\r\n\r\n");
    [head.as_bytes(), body].concat()
}

fn call() -> SetStatusRequest {
    let ids = ["1400000000-@RBT#DeskDefaultRobot-a", "1400000000-@RBT#DeskDefaultRobot-b"];
    SetStatusRequest {
        app: App { sdkappid: 1_400_000_000, library: Library::Chitchat },
        status: TargetStatus::Enable,
        ids: ids.map(|id| QuestionId::parse(id.as_bytes()).unwrap()).into(),
        usersig: "eJwDeskResponsesUserSig".into(),
    }
}

fn transport(service: &Recorder) -> HttpTransport {
    let endpoint = service.endpoint().parse().unwrap();
    HttpTransport::new(&HttpSettings::new(endpoint, "administrator")).unwrap()
}

/// How the client classifies a response with this body.
async fn response_to(body: &[u8]) -> (ResponseKind, String) {
    let response = http("200 OK", "", body);
    let service = Recorder::serving(move |_, client| client.write_all(&response));
    let reply = transport(&service).send(&call()).await;
    (reply.kind, reply.info)
}

#[tokio::test(flavor = "multi_thread")]
async fn list_beside_ok_is_not_applied() {
    for field in [
        r#""FailedIds":["1400000000-@RBT#DeskDefaultRobot-b"]"#,
        r#""FailedIds":["another"]"#,
        r#""ErrorList":[{"Id":"x","Code":-50003}]"#,
        r#""Failures":{"1400000000-@RBT#DeskDefaultRobot-a":"no such question"}"#,
        r#""Result":{"Failed":{"Id":"1400000000-@RBT#DeskDefaultRobot-a"}}"#,
        r#""Result":{"Refused":[0]}"#,
        r#""FailedId":"1400000000-@RBT#DeskDefaultRobot-b""#,
        r#""Failed":"x,1400000000-@RBT#DeskDefaultRobot-b""#,
        r#""Failed":"1400000000-@\u0052BT#DeskDefaultRobot-b""#,
    ] {
        let body = format!(r#"{{"ActionStatus":"OK",{field},"ErrorInfo":"","ErrorCode":0}}"#);
        let (response, info) = response_to(body.as_bytes()).await;
        assert_eq!(response.verdict(), Verdict::Rejected, "{field}: {response:?}");
        let name = field.split('"').nth(1).unwrap();
        assert!(info.contains(name), "{field}: {info}");
    }
    let named = br#"{"ActionStatus":"OK","ErrorInfo":"1400000000-@RBT#DeskDefaultRobot-a: no","ErrorCode":0}"#;
    assert_eq!(response_to(named).await.0.verdict(), Verdict::Rejected);
}

#[tokio::test(flavor = "multi_thread")]
async fn harmless_fields_beside_ok_are_tolerated() {
    for field in [
        r#""RequestId":"Id-7-http-1""#,
        r#""RequestId":7,"Total":2,"Note":null,"Fresh":true"#,
        r#""FailedIds":[],"ErrorList":[ ]"#,
        r#""Meta":{"Host":"a","List":[],"More":{}}"#,
        r#""Note":"[1] of two, in \"quotes\" {and} brackets""#,
    ] {
        let body = format!(r#"{{"ActionStatus":"OK",{field},"ErrorInfo":"","ErrorCode":0}}"#);
        assert_eq!(response_to(body.as_bytes()).await.0, ResponseKind::Code(0), "{field}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn second_response_counts_for_no_request() {
    // On each connection: a rejection, and an OK that follows when the client writes again.
    let service = Recorder::start(|mut client, _| {
        let mut bytes = [0; 4096];
        let mut length = 0;
        while !bytes[..length].ends_with(b"}") {
            match client.read(&mut bytes[length..]) {
                Ok(read @ 1..) => length += read,
                _ => return,
            }
        }
        client.write_all(&http("200 OK", "Connection: keep-alive\r\n", BAD.as_bytes())).unwrap();
        if matches!(client.read(&mut bytes), Ok(1..)) {
            let _ = client.write_all(&http("200 OK", "", OK.as_bytes()));
        }
    });
    let transport = transport(&service);
    for _ in 0..20 {
        assert_eq!(transport.send(&call()).await.kind, ResponseKind::Code(-50_003));
    }
}

#[tokio::test]
async fn response_before_its_request_is_refused() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    let transport = HttpTransport::new(&HttpSettings::new(endpoint, "administrator")).unwrap();
    for early in [http("200 OK", "", OK.as_bytes()), b"HTTP/1.1 200 OK\r\n".into(), b"{".into()] {
        let call = call();
        let mut reply = pin!(transport.send(&call));
        // The first poll begins to connect. The only thread then writes before it can send.
        assert!(poll_immediate(&mut reply).await.is_none());
        let (mut client, _) = listener.accept().unwrap();
        client.write_all(&early).unwrap();
        let reply = reply.await;
        assert_eq!(reply.kind, ResponseKind::NoResponse, "{reply:?}");
        // The connection is closed, and no request has left by it.
        assert_eq!(client.read(&mut [0; 16]).unwrap_or_default(), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn connection_closes_after_one_response() {
    // The client's end of stream is the event. It comes without another request.
    let (ended, end) = std::sync::mpsc::channel();
    let service = Recorder::serving(move |_, client| {
        client.write_all(&http("200 OK", "Keep-Alive: timeout=60\r\n", OK.as_bytes()))?;
        let _ = ended.send(client.read(&mut [0; 16])?);
        Ok(())
    });
    assert_eq!(transport(&service).send(&call()).await.kind, ResponseKind::Code(0));
    assert_eq!(end.recv_timeout(Duration::from_mins(1)), Ok(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_text_does_not_hide_the_code() {
    let texts: [&[u8]; 9] = [
        br#""ErrorInfo":"half an emoji \ud83d""#,
        br#""ErrorInfo":"the other half \ude00 of it""#,
        b"\"ErrorInfo\":\"a tab\t and a line\n\r\"",
        b"\"ErrorInfo\":\"a zero \x00 and \x1b[31m\"",
        b"\"ErrorInfo\":\"\xc6\xb5\xc2\xca\xb9\xfd\xb8\xdf\"",
        br#""ErrorInfo":"an escape \x that is none, \u12""#,
        br#""Cost":NaN"#,
        br#""Cost":-Infinity,"More":[1,NaN]"#,
        br#""Cost":undefined,"ErrorInfo":None"#,
    ];
    for text in texts {
        for (code, response) in [(-14, Verdict::Throttled), (60_010, Verdict::Stop)] {
            let code = format!(r#""ErrorCode":{code}"#);
            for fields in [[text, code.as_bytes()], [code.as_bytes(), text]] {
                let body = [b"{\"ActionStatus\":\"FAIL\",", &fields.join(&b","[..])[..], b"}"];
                let (found, info) = response_to(&body.concat()).await;
                let shown = String::from_utf8_lossy(text).into_owned();
                assert_eq!(found.verdict(), response, "{shown}: {found:?} {info}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_text_is_shown_with_replacements() {
    for (fields, shown) in [
        (r#""ErrorInfo":"half an emoji \ud83d of it""#, "half an emoji \u{fffd} of it"),
        ("\"ErrorInfo\":\"too\tfast\"", "too fast"),
        (r#""Cost":NaN,"ErrorInfo":"too fast""#, "too fast"),
        (r#""ErrorInfo":"too fast","More":[1,NaN]"#, "too fast"),
    ] {
        let body = format!(r#"{{"ActionStatus":"FAIL",{fields},"ErrorCode":-14}}"#);
        let expected = (ResponseKind::Code(-14), shown.to_owned());
        assert_eq!(response_to(body.as_bytes()).await, expected, "{body}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn body_without_its_end_is_no_success() {
    for body in [
        r#"{"ErrorCode":0,"ActionStatus":"OK""#,
        r#"{"ErrorCode":0,"ActionStatus":"OK","ErrorInfo":"a"#,
        r#"{"ErrorCode":0,"ActionStatus":"OK","ErrorInfo":"a \"}"#,
        r#"{"ErrorCode":0,"ActionStatus":"OK","ErrorCode":0}"#,
        r#"{"ErrorCode":0,"ActionStatus":"OK","\u0045rrorCode":-14}"#,
        r#"{"ErrorCode":0,"ActionStatus":"OK","ActionStatus":"FAIL"}"#,
        r#"{"ErrorCode":0,"ActionStatus":"OK","ErrorInfo":"say "no""}"#,
        r#"{"ErrorCode":0,"ActionStatus":"OK","List":[}]}"#,
        r#"{"ErrorCode":0,"ActionStatus":"OK"}{"ErrorCode":-14}"#,
        r#"{"ErrorCode":0 "ActionStatus":"OK"}"#,
    ] {
        let (response, _) = response_to(body.as_bytes()).await;
        assert_eq!(response, ResponseKind::Unreadable, "{body}");
    }
}

#[test]
fn retry_after_holds_back_the_next_request() {
    // In parallel, because each run waits for four seconds.
    let held_back = |status: &'static str| {
        let clock = SystemClock::new();
        let (came, arrivals) = std::sync::mpsc::channel();
        let service = Recorder::serving({
            let clock = clock.clone();
            let first = std::sync::atomic::AtomicBool::new(true);
            move |_, client| {
                let _ = came.send(clock.now());
                if first.swap(false, std::sync::atomic::Ordering::Relaxed) {
                    return client.write_all(&http(status, "Retry-After: 4\r\n", b"busy"));
                }
                client.write_all(&http("200 OK", "", OK.as_bytes()))
            }
        });
        let place = Place::new();
        place.write("jobs.csv", manifest([(question("q").as_str(), "4")]));
        let mut command = place.deskbatch(&["run", "jobs.csv", "--endpoint", &service.endpoint()]);
        command.args(["--sdkappid", "1400000000", "--identifier", "administrator"]);
        command.env("DESKBATCH_SECRET_KEY", KEY);
        ends(command, 0);
        let arrivals: Vec<_> = arrivals.try_iter().collect();
        assert_eq!(arrivals.len(), 2, "{status}");
        assert!(arrivals[1].since(arrivals[0]) >= Duration::from_secs(4), "{status}: {arrivals:?}");
    };
    std::thread::scope(|scope| {
        for status in ["429 Too Many Requests", "503 Service Unavailable"] {
            scope.spawn(move || held_back(status));
        }
    });
}
