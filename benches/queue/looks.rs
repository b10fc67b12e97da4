//! Looks at a queue: `status`, also while a large change goes on, and `report`.

use std::process::Stdio;

use crate::measure::{Contestant, Ground, in_turn, runs, say_head, say_taken, seconds, thousands};
use crate::peers::{Peers, shell_csv};
use crate::shapes::Shape;
use crate::support::{deskbatch, say};

/// What a report has, as it is stored.
const AS_STORED: &str =
    "SELECT question_id, status, state, error_code, error_info, attempts, in_doubt, batches.name,
    line, finished_ms FROM jobs JOIN batches ON batches.id = batch_id ORDER BY jobs.id";

/// The same, as a report writes it.
const AS_WRITTEN: &str = "SELECT question_id, CASE jobs.status WHEN 4 THEN 'enable' WHEN 5 THEN 'disable' ELSE 'delete' END,
    state, error_code, error_info, attempts, in_doubt, batches.name, line,
    strftime('%Y-%m-%dT%H:%M:%SZ', finished_ms / 1000, 'unixepoch')
    FROM jobs JOIN batches ON batches.id = batch_id ORDER BY jobs.id";

pub fn status(ground: &Ground) {
    say_head("status: of a queue of finished jobs and one that is pending");
    for &rows in &ground.sizes {
        let queue = Shape::Finished.made(ground, rows);
        let look = |args: &'static [&'static str]| {
            let mut command = deskbatch(ground.folder.path(), args);
            command.env("DESKBATCH_DATABASE", &queue);
            ground.child(&mut command)
        };
        let text = Contestant::new("deskbatch status", || look(&["status"]));
        let json = Contestant::new("deskbatch status --json", || look(&["status", "--json"]));
        let taken = in_turn(runs(rows), vec![text, json]);
        ground.keep("status", rows, taken[0].median());
        say_taken(rows, &taken);
    }
    say("\n`status --json` again and again while `retry` takes all jobs back:\n");
    say("| rows | looks | the most that one took | retry |");
    say("| --- | --- | --- | --- |");
    for &rows in &ground.sizes {
        let (looks, most, retry) = beside_a_retry(ground, rows);
        say(&format!("| {} | {looks} | {} | {} |", thousands(rows), seconds(most), seconds(retry)));
    }
}

/// How many looks there were, the longest of them, and what the retry took.
fn beside_a_retry(ground: &Ground, rows: usize) -> (usize, f64, f64) {
    let room = ground.room();
    let queue = Shape::Failed.copied(ground, rows, room.path());
    let mut retry = deskbatch(room.path(), &["retry", "--quiet"]);
    let mut retry = retry.env("DESKBATCH_DATABASE", &queue).spawn().expect("the binary starts");
    let (mut looks, mut most) = (0, 0.0_f64);
    let (took, status) = ground.time(|| {
        loop {
            let mut look = deskbatch(room.path(), &["status", "--json"]);
            look.env("DESKBATCH_DATABASE", &queue).stderr(Stdio::null());
            most = most.max(ground.child(&mut look).seconds);
            looks += 1;
            if let Some(status) = retry.try_wait().expect("a child") {
                break status;
            }
        }
    });
    assert!(status.success(), "retry ended with {status}");
    (looks, most, took)
}

pub fn report(ground: &Ground, peers: &Peers) {
    say_head("report: finished jobs as CSV, to nowhere");
    for &rows in &ground.sizes {
        let queue = &Shape::Finished.made(ground, rows);
        let mut contestants = vec![Contestant::new("deskbatch report", || {
            let mut command = deskbatch(ground.folder.path(), &["report", "-o", "/dev/null"]);
            ground.child(command.env("DESKBATCH_DATABASE", queue))
        })];
        if peers.sqlite3 {
            contestants.extend(
                [
                    ("sqlite3 -csv, as stored", AS_STORED),
                    ("sqlite3 -csv, the same text", AS_WRITTEN),
                ]
                .map(|(name, query)| {
                    Contestant::new(name, move || ground.child(&mut shell_csv(queue, query)))
                }),
            );
        }
        let taken = in_turn(runs(rows), contestants);
        ground.keep("report", rows, taken[0].median());
        say_taken(rows, &taken);
    }
}
