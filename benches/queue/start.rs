//! Start: the time from the start of the process to its first request, for any content of the queue.

use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::net::TcpListener;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use deskbatch::domain::clock::Clock as _;
use rustix::fs::{Advice, fadvise};

use crate::measure::{Ground, RUNS, pause, seconds, thousands};
use crate::shapes::Shape;
use crate::support::{deskbatch, median, say};

/// The size of the queue that the others are compared with.
const SMALL: usize = 1_000;

pub fn run(ground: &Ground) {
    say("\n## start: from the start of the process to its first request's arrival\n");
    say("Cold: the system has dropped the file's pages from its cache.\n");
    say("| queue | runs | warm | relative to 1,000 rows | cold | relative to 1,000 rows |");
    say("| --- | --- | --- | --- | --- | --- |");
    let small = measured(ground, Shape::Pending, SMALL);
    say_line("1,000 pending", RUNS, small, small);
    for &rows in &ground.sizes {
        let pending = measured(ground, Shape::Pending, rows);
        ground.keep("start, all pending", rows, pending.0);
        let text = format!("{} pending", thousands(rows));
        say_line(&text, RUNS, pending, small);
        let finished = measured(ground, Shape::Finished, rows);
        ground.keep("start, all finished but one", rows, finished.0);
        let text = format!("{} finished and 1 pending", thousands(rows));
        say_line(&text, RUNS, finished, small);
    }
}

/// Seconds with a warm and, where possible, a cold cache.
type Figures = (f64, Option<f64>);

fn say_line(queue: &str, runs: usize, of: Figures, small: Figures) {
    let (cold, by_cold) = match (of.1, small.1) {
        (Some(cold), Some(small)) => (seconds(cold), format!("{:.2}", cold / small)),
        _ => ("not measured".to_owned(), String::new()),
    };
    let by = of.0 / small.0;
    say(&format!("| {queue} | {runs} | {} | {by:.2} | {cold} | {by_cold} |", seconds(of.0)));
}

fn measured(ground: &Ground, shape: Shape, rows: usize) -> Figures {
    let (mut warm, mut cold) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        warm.extend(first_request(ground, shape, rows, false));
        cold.extend(first_request(ground, shape, rows, true));
    }
    (median(&warm), (!cold.is_empty()).then(|| median(&cold)))
}

/// Uses a fresh copy each time, because a stopped run leaves a request for which the next run waits.
/// `None` if the file cannot be dropped from the cache.
fn first_request(ground: &Ground, shape: Shape, rows: usize, cold: bool) -> Option<f64> {
    let room = ground.room();
    let queue = shape.copied(ground, rows, room.path());
    if cold && !dropped_from_cache(&queue) {
        return None;
    }
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.set_nonblocking(true).expect("a listener");
    let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
    let mut command = deskbatch(room.path(), &["run", "--yes"]);
    command.env("DESKBATCH_ENDPOINT", endpoint).stderr(Stdio::null());
    let began = ground.clock.now();
    let mut child = command.spawn().expect("the binary starts");
    let mut stream = loop {
        match listener.accept() {
            Ok((stream, _)) => break stream,
            Err(e) if e.kind() == ErrorKind::WouldBlock => {}
            Err(e) => panic!("no connection: {e}"),
        }
        if let Some(status) = child.try_wait().expect("a child") {
            panic!("the run ended with {status} before its first request");
        }
        pause(Duration::from_micros(100));
    };
    stream.set_nonblocking(false).expect("a stream");
    let mut first = [0];
    stream.read_exact(&mut first).expect("a request");
    let seconds = ground.clock.now().since(began).as_secs_f64();
    child.kill().and_then(|()| child.wait()).expect("stopped");
    Some(seconds)
}

fn dropped_from_cache(path: &Path) -> bool {
    let file = File::open(path).expect("a queue file");
    file.sync_all().expect("synced");
    fadvise(&file, 0, None, Advice::DontNeed).is_ok()
}
