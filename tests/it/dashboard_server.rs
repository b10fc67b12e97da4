//! The dashboard over real HTTP, without a browser: who is let in, what is answered, and what
//! comes while the queue changes.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};

use rustix::process::Signal;

use crate::support::{Place, manifest, question, said};
use crate::support_binary::{Going, ends, has, sandbox, sandbox_with};

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// A dashboard of its own process, and where it is.
fn serve(place: &Place, args: &[&str], token: Option<&str>) -> (Going, SocketAddr) {
    let mut command = place.deskbatch(&["dashboard", "--addr", "127.0.0.1:0"]);
    command.args(args);
    if let Some(token) = token {
        command.env("DESKBATCH_DASHBOARD_TOKEN", token);
    }
    let mut going = Going::start(command);
    let addr = address(&mut going);
    (going, addr)
}

/// Where a process says that its dashboard is.
fn address(going: &mut Going) -> SocketAddr {
    going.says("the dashboard is at http://");
    let rest = going.said.split("the dashboard is at http://").nth(1).unwrap();
    rest.split(['/', ',']).next().unwrap().parse().unwrap()
}

/// A queue with a job that waits.
fn queue(place: &Place) {
    place.write("jobs.csv", manifest([(question("a").as_str(), "4")]));
    let mut command = place.deskbatch(&["import", "jobs.csv"]);
    command.env("DESKBATCH_SDKAPPID", "1400000000");
    ends(command, 0);
}

/// Sends `head` and returns the whole answer; the connection is closed after it.
fn ask(addr: SocketAddr, head: &str) -> String {
    let mut client = TcpStream::connect(addr).unwrap();
    write!(client, "{head}Connection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    answer
}

fn get(addr: SocketAddr, path: &str) -> String {
    ask(addr, &format!("GET {path} HTTP/1.1\r\nHost: {addr}\r\n"))
}

/// The lines of a stream of events, for as long as it lasts.
fn events(addr: SocketAddr, path: &str) -> impl Iterator<Item = String> + use<> {
    let mut client = TcpStream::connect(addr).unwrap();
    write!(client, "GET {path} HTTP/1.1\r\nHost: {addr}\r\n\r\n").unwrap();
    BufReader::new(client).lines().map_while(Result::ok)
}

/// Reads on until a line has `part`, and returns it.
#[track_caller]
fn until(lines: &mut impl Iterator<Item = String>, part: &str) -> String {
    lines.find(|line| line.contains(part)).unwrap_or_else(|| panic!("{part:?} never came"))
}

#[test]
fn it_only_shows_and_closes_its_answers_to_others() {
    let place = Place::new();
    queue(&place);
    let (going, addr) = serve(&place, &[], None);
    let page = get(addr, "/");
    has(
        &page,
        &[
            "HTTP/1.1 200 OK",
            "content-security-policy: default-src 'none'; ",
            "connect-src 'self'; frame-ancestors 'none'",
            "x-content-type-options: nosniff",
            "x-frame-options: DENY",
            "referrer-policy: no-referrer",
            "cache-control: no-store",
            "cross-origin-resource-policy: same-origin",
            "Refused questions",
        ],
    );
    let head = ask(addr, &format!("HEAD / HTTP/1.1\r\nHost: {addr}\r\n"));
    assert!(head.starts_with("HTTP/1.1 200 OK") && head.ends_with("\r\n\r\n"), "{head}");
    for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"] {
        let answer = ask(addr, &format!("{method} / HTTP/1.1\r\nHost: {addr}\r\n"));
        has(&answer, &["HTTP/1.1 405", "allow: GET, HEAD"]);
    }
    has(&get(addr, "/nothing"), &["HTTP/1.1 404", "cache-control: no-store"]);
    for host in ["evil.example", "evil.example:80", "192.168.1.1"] {
        let answer = ask(addr, &format!("GET / HTTP/1.1\r\nHost: {host}\r\n"));
        assert!(answer.starts_with("HTTP/1.1 403") && !answer.contains("Refused"), "{answer}");
    }
    going.signal(Signal::TERM);
    going.ends(0);
}

#[test]
fn whoever_does_not_know_the_token_sees_nothing() {
    let place = Place::new();
    queue(&place);
    let (going, addr) = serve(&place, &[], Some(TOKEN));
    for path in ["/", "/events", "/healthz", "/metrics", "/?token=", "/?token=wrong", "/nothing"] {
        let answer = get(addr, path);
        has(&answer, &["HTTP/1.1 401", "www-authenticate: Bearer"]);
        assert!(!answer.contains("deskbatch_jobs") && !answer.contains("Refused"), "{answer}");
    }
    let bearer = format!("GET /metrics HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n");
    has(&ask(addr, &bearer), &["HTTP/1.1 200", "deskbatch_jobs{"]);
    let kept = get(addr, &format!("/?token={TOKEN}"));
    has(&kept, &["HTTP/1.1 303", "location: ./\r\n", "HttpOnly", "SameSite=Strict"]);
    assert!(!kept.contains(TOKEN), "{kept}");
    let cookie = kept.split("set-cookie: ").nth(1).unwrap().split(';').next().unwrap();
    let page = ask(addr, &format!("GET / HTTP/1.1\r\nHost: x\r\nCookie: {cookie}\r\n"));
    has(&page, &["HTTP/1.1 200", "Refused questions"]);
    assert!(!page.contains(TOKEN) && !page.contains(cookie), "{page}");
    going.signal(Signal::TERM);
    let said = going.ends(0);
    assert!(
        said.contains("opened once as /?token= with your token") && !said.contains(TOKEN),
        "{said}"
    );
}

#[test]
fn other_machines_need_a_token_and_an_address_that_is_taken_is_said_before_anything_is_done() {
    let place = Place::new();
    queue(&place);
    let open = place.deskbatch(&["dashboard", "--addr", "0.0.0.0:0"]);
    has(&said(&ends(open, 2)), &["set DESKBATCH_DASHBOARD_TOKEN"]);
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap().to_string();
    let alone = place.deskbatch(&["dashboard", "--addr", &addr]);
    has(&said(&ends(alone, 2)), &[&addr, "in use", "name another port"]);
    place.write("more.csv", manifest([(question("b").as_str(), "4")]));
    let run = place.deskbatch(&["run", "more.csv", "--sandbox", "--dashboard", &addr]);
    has(&said(&ends(run, 2)), &[&addr, "in use", "name another port"]);
    let status = place.deskbatch(&["status", "--sandbox", "--json"]).output().unwrap();
    has(&crate::support::data(&status), &["\"total\":0"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_of_another_process_is_seen_and_so_is_its_end() {
    let (place, sandbox) = (Place::new(), sandbox().await);
    queue(&place);
    let (going, addr) = serve(&place, &[], None);
    let page = get(addr, "/");
    let generation = page.split("data-generation=\"").nth(1).unwrap().split('"').next().unwrap();
    let mut lines = events(addr, &format!("/events?since={generation}"));
    has(&until(&mut lines, "content-type"), &["text/event-stream"]);
    until(&mut lines, "event: live");
    until(&mut lines, "data: live");
    ends(place.fast(&sandbox, &["run"]), 0);
    let changed = until(&mut lines, "{\"html\":\"");
    has(&changed, &["\"id\":\"outcome\"", "as asked"]);
    // Whoever comes with an older generation, or none, gets all of it.
    let mut late = events(addr, "/events?since=0");
    for id in ["outcome", "sending", "statuses", "refused", "batches", "runs"] {
        until(&mut late, &format!("\"id\":\"{id}\""));
    }
    has(&get(addr, "/metrics"), &["text/plain", "deskbatch_jobs{", "state=\"succeeded\"} 1"]);
    going.signal(Signal::INT);
    until(&mut late, "event: over");
    let rest: Vec<String> = late.collect();
    let last = rest.iter().rfind(|line| !line.is_empty());
    assert_eq!(last.map(String::as_str), Some("0"), "the stream is whole");
    going.ends(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_serves_its_own_page_until_it_is_over() {
    let sandbox = sandbox_with(|s| s.script = Some("ok,throttle*100000".parse().unwrap())).await;
    let place = Place::new();
    let ids: Vec<String> = (0..2).map(|n| question(&format!("q{n}"))).collect();
    place.write("jobs.csv", manifest(ids.iter().map(|id| (id.as_str(), "4"))));
    let args = ["run", "jobs.csv", "--chunk", "1", "--dashboard", "127.0.0.1:0"];
    let mut going = Going::start(place.fast(&sandbox, &args));
    let addr = address(&mut going);
    let mut lines = events(addr, "/events?since=0");
    until(&mut lines, "data: live");
    going.signal(Signal::INT);
    // The last of it comes before the word that nothing more does.
    let rest: Vec<String> = lines.collect();
    let over = rest.iter().position(|line| line == "event: over").unwrap();
    let ended = rest.iter().position(|line| line.contains("\"id\":\"runs\"")).unwrap();
    assert!(ended < over && rest[ended].contains("stopped as asked"), "{}", rest[ended]);
    has(&rest[over + 1..].join("\n"), &["over: this is how it ended"]);
    going.ends(3);
}

#[test]
fn a_queue_that_is_gone_is_told_by_its_health_and_to_whoever_watches() {
    let place = Place::new();
    queue(&place);
    let (going, addr) = serve(&place, &[], None);
    has(&get(addr, "/healthz"), &["HTTP/1.1 200", "application/json", "\"status\":\"ok\""]);
    let mut lines = events(addr, "/events");
    until(&mut lines, "event: live");
    std::fs::rename(place.path("deskbatch.db"), place.path("away.db")).unwrap();
    has(&get(addr, "/healthz"), &["HTTP/1.1 503", "failing", "deskbatch.db"]);
    until(&mut lines, "event: trouble");
    std::fs::rename(place.path("away.db"), place.path("deskbatch.db")).unwrap();
    until(&mut lines, "event: live");
    has(&get(addr, "/healthz"), &["HTTP/1.1 200"]);
    going.signal(Signal::TERM);
    going.ends(0);
}

#[test]
fn too_many_who_watch_are_turned_away_and_those_who_leave_make_room() {
    let place = Place::new();
    queue(&place);
    let (going, addr) = serve(&place, &[], None);
    let mut watchers: Vec<_> = (0..32)
        .map(|_| {
            let mut lines = events(addr, "/events");
            until(&mut lines, "event: live");
            lines
        })
        .collect();
    has(&get(addr, "/events"), &["HTTP/1.1 503", "too many listen"]);
    // One that does not read holds up nobody, and the page is there for all.
    has(&get(addr, "/"), &["HTTP/1.1 200"]);
    watchers.clear();
    loop {
        // A connection that is gone is noticed when something is written to it.
        let first = events(addr, "/events?since=0").next().unwrap();
        if first.contains("200") {
            break;
        }
        let mut change = place.deskbatch(&["import", "jobs.csv", "--again"]);
        change.env("DESKBATCH_SDKAPPID", "1400000000");
        ends(change, 0);
    }
    going.signal(Signal::TERM);
    going.ends(0);
}
