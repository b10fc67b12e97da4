//! Progress display: on the run's own terminal, and from another process.

use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::process::Command;
use std::time::Duration;

use deskbatch::domain::clock::{Clock as _, SystemClock};
use deskbatch::sandbox::SANDBOX_SDKAPPID;
use rustix::process::Signal;
use serde_json::Value;

use crate::support::binary::{Going, ends, has, sandbox_with};
use crate::support::place::{Place, data, manifest, question};
use crate::support::terminal::{closes, on_terminal_of};

fn enabling(place: &Place) {
    let ids: Vec<String> = (0..3).map(|n| question(&format!("q{n}"))).collect();
    place.write("jobs.csv", manifest(ids.iter().map(|id| (id.as_str(), "4"))));
}

/// A run that makes no progress: the service throttles every request.
async fn slowed(place: &Place) -> (deskbatch::sandbox::Sandbox, Command) {
    let sandbox = sandbox_with(|s| s.script = Some("throttle*100000".parse().unwrap())).await;
    enabling(place);
    let command = place.fast(&sandbox, &["run", "jobs.csv"]);
    (sandbox, command)
}

/// A run whose service is unreachable.
fn cut_off(place: &Place) -> Command {
    let refused_run = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    enabling(place);
    let mut command = place.deskbatch(&["run", "jobs.csv"]);
    command
        .env("DESKBATCH_ENDPOINT", format!("http://{refused_run}"))
        .env("DESKBATCH_SDKAPPID", SANDBOX_SDKAPPID.to_string())
        .env("DESKBATCH_IDENTIFIER", "administrator")
        .env("DESKBATCH_SECRET_KEY", "key");
    command
}

/// Reads a watcher's output until `is_it` and returns the matching event.
#[track_caller]
fn until(lines: &mut impl Iterator<Item = Value>, is_it: impl Fn(&Value) -> bool) -> Value {
    let mut last = Value::Null;
    for line in lines {
        if is_it(&line) {
            return line;
        }
        last = line;
    }
    panic!("never seen; the last was {last}");
}

#[tokio::test(flavor = "multi_thread")]
async fn paused_terminal_does_not_block_run() {
    let (place, sandbox) = (Place::new(), sandbox_with(|_| ()).await);
    let ids: Vec<String> = (0..60).map(|n| question(&format!("q{n}"))).collect();
    place.write("jobs.csv", manifest(ids.iter().map(|id| (id.as_str(), "4"))));
    let mut command = place.fast(&sandbox, &["run", "jobs.csv", "--chunk", "1"]);
    command.env("DESKBATCH_RATE", "20");
    let mut run = on_terminal_of(80, &command);
    run.exp_string("0 failed, ").unwrap();
    // Ctrl-S stops the terminal: all later output waits for Ctrl-Q.
    run.send_control('s').unwrap();
    let clock = SystemClock::new();
    tokio::select! {
        () = sandbox.seen(60) => {}
        () = clock.sleep_until(clock.now() + Duration::from_mins(1)) => panic!("it was held up"),
    }
    run.send_control('q').unwrap();
    has(&closes(run, 0), &["60"]);
    assert_eq!(place.counts(), [0, 0, 60, 0, 0, 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn status_watch_shows_wait_reason_and_ending() {
    for reason in ["throttled", "outage"] {
        let place = Place::new();
        let (_sandbox, command) = match reason {
            "outage" => (None, cut_off(&place)),
            _ => {
                let (sandbox, command) = slowed(&place).await;
                (Some(sandbox), command)
            }
        };
        let mut run = Going::start(command);
        run.says("imported jobs.csv");
        let (watcher, data) = Going::start_heard(place.deskbatch(&["status", "--watch", "--json"]));
        let mut lines = BufReader::new(data)
            .lines()
            .map(|line| serde_json::from_str::<Value>(&line.unwrap()).unwrap());
        let seen = until(&mut lines, |line| line["last_run"]["wait"]["reason"] == reason);
        let wait = &seen["last_run"]["wait"];
        assert!(wait["until_ms"].as_i64() > wait["since_ms"].as_i64(), "{seen}");
        assert_eq!(seen["running"]["pid"], run.pid(), "{seen}");
        assert_eq!(seen["pending"], 3);
        run.signal(Signal::INT);
        run.ends(3);
        let end = until(&mut lines, |line| line["running"].is_null());
        assert_eq!(end["last_run"]["ending"], "signal", "{end}");
        assert_eq!(end["last_run"]["wait"], Value::Null, "{end}");
        watcher.ends(0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn run_and_watch_render_alike_in_40_ascii_columns() {
    let place = Place::new();
    let (_sandbox, command) = slowed(&place).await;
    let mut run = on_terminal_of(40, &command);
    let own = run.exp_string(", waiting ").unwrap();
    let mut watcher = on_terminal_of(40, &place.deskbatch(&["status", "--watch"]));
    let other = watcher.exp_string(", waiting ").unwrap();
    for shown in [own, other] {
        has(
            &shown,
            &["[          ]", "0/3", "0 failed, ", " requests/s", "throttled by the service"],
        );
        // Only the last redraw counts; it fills its line with blanks.
        let drawn = without_codes(&shown[shown.rfind("[   ").unwrap()..]);
        let rows: Vec<&str> =
            drawn.as_bytes().chunks(40).map(|row| str::from_utf8(row).unwrap()).collect();
        assert!(drawn.is_ascii() && rows.len() >= 4, "{rows:?}");
        assert!(rows.iter().any(|row| row.starts_with("0 failed, ")), "{rows:?}");
        assert_eq!(rows.last(), Some(&"throttled by the service"), "{rows:?}");
    }
    run.send_control('c').unwrap();
    has(&closes(run, 3), &["Stopped by a signal."]);
    has(&closes(watcher, 0), &[" (signal)", "3 pending"]);
}

/// Removes cursor control codes.
fn without_codes(line: &str) -> String {
    let mut text = String::new();
    let mut pieces = line.split("\u{1b}[");
    text.push_str(pieces.next().unwrap_or_default());
    for piece in pieces {
        text.push_str(
            piece.trim_start_matches(|c: char| c.is_ascii_digit() || c == ';').get(1..).unwrap(),
        );
    }
    text.rsplit('\r').next().unwrap_or_default().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn status_distinguishes_dead_run_from_live_run() {
    let place = Place::new();
    let (sandbox, command) = slowed(&place).await;
    let mut run = Going::start(command);
    sandbox.seen(1).await;
    let status = || data(&ends(place.deskbatch(&["status"]), 0));
    has(&status(), &["running, process"]);
    run.signal(Signal::KILL);
    run.waits();
    has(&status(), &["died, process", "resume with deskbatch run"]);
    let watched = ends(place.deskbatch(&["status", "--watch"]), 0);
    has(&data(&watched), &["died, process"]);
    has(&crate::support::place::said(&watched), &["no run is active"]);
}
