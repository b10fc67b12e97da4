//! Reads of a queue: `status`, also during a large change, and `report`.

use crate::measure::{Contestant, Ground, Lines, RUNS, in_turn, seconds, thousands};
use crate::peers::{Peers, shell_csv};
use crate::shapes::Shape;
use crate::support::{deskbatch, say};

/// The columns of a report as stored.
const AS_STORED: &str =
    "SELECT question_id, target_status, state, error_code, error_info, attempts, response_lost, batches.name,
    line, finished_ms FROM jobs JOIN batches ON batches.id = batch_id ORDER BY jobs.id";

/// The columns as a report writes them.
const AS_WRITTEN: &str = "SELECT question_id, CASE jobs.target_status WHEN 4 THEN 'enable' WHEN 5 THEN 'disable' ELSE 'delete' END,
    state, error_code, error_info, attempts, response_lost, batches.name, line,
    strftime('%Y-%m-%dT%H:%M:%SZ', finished_ms / 1000, 'unixepoch')
    FROM jobs JOIN batches ON batches.id = batch_id ORDER BY jobs.id";

pub fn status(ground: &Ground) {
    Lines::Apart.head("status: a queue of finished jobs and one pending job");
    for &rows in &ground.sizes {
        let queue = Shape::Finished.made(ground, rows);
        let look = |args: &'static [&'static str]| {
            let mut command = deskbatch(ground.folder.path(), args);
            command.env("DESKBATCH_DATABASE", &queue);
            ground.child(&mut command)
        };
        let text = Contestant::new("deskbatch status", || look(&["status"]));
        let json = Contestant::new("deskbatch status --json", || look(&["status", "--json"]));
        let taken = in_turn(RUNS, vec![text, json]);
        ground.keep("status", rows, taken[0].median());
        Lines::Apart.rows(rows, &taken);
    }
    say("\n`status --json` repeatedly while `retry` sets all jobs back to pending:\n");
    say("| rows | retries | reads | slowest read |");
    say("| --- | --- | --- | --- |");
    for &rows in &ground.sizes {
        let (mut looks, mut most) = (0, 0.0_f64);
        for _ in 0..RUNS {
            for look in beside_a_retry(ground, rows) {
                looks += 1;
                most = most.max(look);
            }
        }
        say(&format!("| {} | {} | {looks} | {} |", thousands(rows), RUNS, seconds(most)));
    }
}

/// The time of each read that began during a retry.
fn beside_a_retry(ground: &Ground, rows: usize) -> Vec<f64> {
    let room = ground.room();
    let queue = Shape::Failed.copied(ground, rows, room.path());
    let mut retry = deskbatch(room.path(), &["retry", "--quiet"]);
    let mut retry = retry.env("DESKBATCH_DATABASE", &queue).spawn().expect("the binary starts");
    let mut looks = Vec::new();
    let status = loop {
        let mut look = deskbatch(room.path(), &["status", "--json"]);
        look.env("DESKBATCH_DATABASE", &queue);
        looks.push(ground.child(&mut look).seconds);
        if let Some(status) = retry.try_wait().expect("a child") {
            break status;
        }
    };
    assert!(status.success(), "retry ended with {status}");
    looks
}

pub fn report(ground: &Ground, peers: &Peers) {
    Lines::Peers.head("report: finished jobs as CSV, to /dev/null");
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
        let taken = in_turn(RUNS, contestants);
        ground.keep("report", rows, taken[0].median());
        Lines::Peers.rows(rows, &taken);
    }
}
