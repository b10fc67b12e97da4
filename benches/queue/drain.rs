//! Drain: the real binary without a rate limit against the hand-written loop, and the cost of one
//! request for the runner, by part.

use std::cell::RefCell;
use std::path::Path;

use deskbatch::desk::{
    Endpoint, HttpSettings, HttpTransport, SetStatusRequest, Signer, Transport as _,
};
use deskbatch::domain::clock::Clock as _;
use deskbatch::domain::job::{App, Library, QuestionId, TargetStatus};
use deskbatch::domain::verdict::{ResponseKind, Verdict};
use deskbatch::queue::{Conclusions, Queue, RequestResult, RunEnding};
use deskbatch::sandbox::{SANDBOX_IDENTIFIER, SANDBOX_KEY, SANDBOX_SDKAPPID};
use sqlx::{Connection as _, Row as _};

use crate::by_hand::{self, Steps};
use crate::manifest::question;
use crate::measure::{
    Contestant, Ground, RUNS, Taken, Took, in_turn, on_runtime, seconds, thousands,
};
use crate::shapes::{CHUNK, Shape, connect, figure};
use crate::support::{deskbatch, median, real, say};
use crate::toward::SandboxProcess;

/// The app of the jobs.
const APP: App = App { sdkappid: SANDBOX_SDKAPPID, library: Library::Chitchat };
/// Far above what any machine can send; the maximum that the binary accepts.
const NO_LIMIT: &str = "1000000";
/// The most rows that are drained.
const ROWS_MAX: usize = 1_000_000;

/// The measurements of the runs of one size, besides their time.
#[derive(Default)]
struct Reported {
    by_hand: Vec<Steps>,
    alone: Vec<Steps>,
    courses: Vec<RunProgress>,
}

pub fn run(ground: &Ground) {
    say(
        "\n## drain: no limit, no latency, chunks of 100, every outcome durable (synchronous = FULL)\n",
    );
    say("The time of deskbatch is that of its process, from its start to its end.\n");
    say(
        "| rows | runs | what | ids per second | median | least to most | speed relative to the hand-written loop |",
    );
    say("| --- | --- | --- | --- | --- | --- | --- |");
    let mut parts = Vec::new();
    // Larger queues show nothing new, and the sandbox keeps every question in memory.
    for &rows in ground.sizes.iter().filter(|rows| **rows <= ROWS_MAX) {
        let reported = RefCell::new(Reported::default());
        let contestants = vec![
            Contestant::new("deskbatch run", || {
                let (took, course) = ours(ground, rows);
                reported.borrow_mut().courses.push(course);
                took
            }),
            Contestant::new("hand-written loop", || {
                let (took, steps) = by_hand(ground, rows);
                reported.borrow_mut().by_hand.push(steps);
                took
            }),
            Contestant::new("parts", || {
                let (seconds, steps) = ground.time(|| alone(ground, rows));
                reported.borrow_mut().alone.push(steps);
                Took { seconds, peak_mib: 0 }
            }),
        ];
        let taken = in_turn(RUNS, contestants);
        say_speeds(rows, &taken[..2]);
        ground.keep("drain", rows, taken[0].median());
        ground.keep("drain by hand", rows, taken[1].median());
        parts.push((rows, [taken[0].median(), taken[1].median()], reported.into_inner()));
    }
    say(
        "\nThe cost of a request of 100 jobs, in microseconds. For deskbatch, HTTP and the writes are",
    );
    say(
        "measured separately; the rest is the time of its run beyond their sum, start and end included.\n",
    );
    say("| rows | what | per request | HTTP | claim | settle | commits | the rest |");
    say("| --- | --- | --- | --- | --- | --- | --- | --- |");
    for (rows, medians, reported) in &parts {
        say_steps("deskbatch", *rows, medians[0], &reported.alone);
        say_steps("hand-written loop", *rows, medians[1], &reported.by_hand);
    }
    say(
        "\nA run of deskbatch by its recorded requests: it begins slowly, until the pacer has learned a rate.\n",
    );
    say("| rows | first 100 requests | each later request |");
    say("| --- | --- | --- |");
    for (rows, _, reported) in &parts {
        say_course(*rows, &reported.courses);
    }
}

/// The progress of a run, computed from its requests.
struct RunProgress {
    first_ms: f64,
    /// `None` after too few requests.
    later_us: Option<f64>,
}

fn say_course(rows: usize, courses: &[RunProgress]) {
    let first = median(&courses.iter().map(|course| course.first_ms).collect::<Vec<_>>());
    let later: Vec<f64> = courses.iter().filter_map(|course| course.later_us).collect();
    let later =
        if later.is_empty() { "too few".to_owned() } else { format!("{:.0} µs", median(&later)) };
    say(&format!("| {} | {first:.0} ms | {later} |", thousands(rows)));
}

async fn course(queue: &Path) -> RunProgress {
    let mut connection = connect(queue).await;
    let row = sqlx::query(
        "SELECT min(scheduled_ms), max(responded_ms) FILTER (WHERE id <= 100), max(responded_ms), count(*) FROM requests",
    );
    let row = row.fetch_one(&mut connection).await.expect("requests");
    let at = |column: usize| usize::try_from(row.get::<i64, _>(column)).unwrap_or_default();
    let (left, first, last, requests) = (at(0), at(1), at(2), at(3));
    // Times are whole milliseconds, so a few requests are not precise enough.
    let later = requests.checked_sub(100).filter(|later| *later > 100);
    connection.close().await.expect("closed");
    RunProgress {
        first_ms: real(first - left),
        later_us: later.map(|later| real(last - first) * 1e3 / real(later)),
    }
}

fn ours(ground: &Ground, rows: usize) -> (Took, RunProgress) {
    let room = ground.room();
    let queue = Shape::OneStatus.copied(ground, rows, room.path());
    let sandbox = SandboxProcess::start(room.path());
    let mut command = deskbatch(room.path(), &["run", "--quiet", "--rate", NO_LIMIT]);
    command.env("DESKBATCH_ENDPOINT", &sandbox.endpoint);
    let took = ground.child(&mut command);
    assert_eq!(figure(ground, &queue, "succeeded"), rows);
    (took, on_runtime(course(&queue)))
}

fn by_hand(ground: &Ground, rows: usize) -> (Took, Steps) {
    let room = ground.room();
    let path = room.path().join("by-hand.db");
    on_runtime(by_hand::fill(&path, rows));
    let sandbox = SandboxProcess::start(room.path());
    let (seconds, steps) = ground.time(|| on_runtime(by_hand::drain(&path, &sandbox.endpoint)));
    (Took { seconds, peak_mib: 0 }, steps)
}

fn say_speeds(rows: usize, all: &[Taken]) {
    let by_hand = all[1].median();
    for taken in all {
        let a_second = real(rows) / taken.median();
        say(&format!(
            "| {} | {} | {} | {a_second:.0} | {} | {} | {:.2} |",
            thousands(rows),
            taken.seconds.len(),
            taken.name,
            seconds(taken.median()),
            taken.range(),
            by_hand / taken.median()
        ));
    }
}

fn say_steps(name: &str, rows: usize, seconds: f64, steps: &[Steps]) {
    let of = |step: fn(&Steps) -> f64| median(&steps.iter().map(step).collect::<Vec<_>>());
    let (http, claim, outcome) = (of(|s| s.http), of(|s| s.claim), of(|s| s.outcome));
    let commit = of(|s| s.commit);
    let whole = seconds * 1e6 / real(rows.div_ceil(CHUNK));
    let rest = whole - http - claim - outcome - commit;
    let rows = thousands(rows);
    say(&format!(
        "| {rows} | {name} | {whole:.0} | {http:.0} | {claim:.0} | {outcome:.0} | {commit:.0} | {rest:.0} |"
    ));
}

/// Each part of a request without the others, through the library.
fn alone(ground: &Ground, rows: usize) -> Steps {
    let room = ground.room();
    let queue = Shape::OneStatus.copied(ground, rows, room.path());
    let sandbox = SandboxProcess::start(room.path());
    on_runtime(async {
        let http = http_alone(ground, rows, &sandbox.endpoint).await;
        Steps { http, ..queue_alone(ground, &queue).await }
    })
}

/// The same requests one after the other, without a queue.
async fn http_alone(ground: &Ground, rows: usize, endpoint: &str) -> f64 {
    let endpoint: Endpoint = endpoint.parse().expect("an endpoint");
    let settings = HttpSettings::new(endpoint, SANDBOX_IDENTIFIER);
    let transport = HttpTransport::new(&settings).expect("a transport");
    let mut signer =
        Signer::with_key(SANDBOX_IDENTIFIER, SANDBOX_SDKAPPID, SANDBOX_KEY.into(), 86_400);
    let usersig = signer.current(ground.clock.wall_ms());
    let mut spent = 0.0;
    for from in (0..rows).step_by(CHUNK) {
        let ids = (from..rows.min(from + CHUNK))
            .map(|number| QuestionId::parse(question(number).as_bytes()).expect("a question"));
        let call = SetStatusRequest {
            app: APP,
            status: TargetStatus::Disable,
            ids: ids.collect(),
            usersig: usersig.clone(),
        };
        let began = ground.clock.now();
        let reply = transport.send(&call).await;
        spent += ground.clock.now().since(began).as_secs_f64();
        assert_eq!(reply.kind, ResponseKind::Code(0), "{}", reply.info);
    }
    spent * 1e6 / real(rows.div_ceil(CHUNK))
}

/// Every claim and settle without a request. A run whose next request may leave when a response comes
/// does both in one transaction, and so does this.
async fn queue_alone(ground: &Ground, queue: &Path) -> Steps {
    let clock = &ground.clock;
    let queue = Queue::open(queue).await.expect("a queue");
    let lease = queue.acquire(APP, clock.wall_ms()).await.expect("the lease");
    let run = queue.begin_run(&lease, clock.wall_ms()).await.expect("a run");
    let (mut spent, mut requests) = (Steps::default(), 0);
    let mut turn = queue.begin_transaction();
    let mut responded: Option<RequestResult> = None;
    loop {
        let began = clock.now();
        if let Some(settled) = &responded {
            turn.settle_succeeded(settled, &Conclusions::default()).await.expect("settled");
        }
        let settled = clock.now();
        let claimed = turn.claim_free(run, |_, _| CHUNK, clock.wall_ms()).await.expect("a claim");
        let written = clock.now();
        turn.commit().await.expect("a commit");
        spent.outcome += settled.since(began).as_secs_f64();
        spent.claim += written.since(settled).as_secs_f64();
        spent.commit += clock.now().since(written).as_secs_f64();
        let Some(claimed) = claimed else { break };
        requests += 1;
        responded = Some(RequestResult {
            request: claimed.request,
            run,
            verdict: Verdict::Applied,
            responded_ms: clock.wall_ms(),
            latency_ms: 0,
            http_status: Some(200),
            code: Some(0),
            info: String::new(),
        });
    }
    queue.end_run(run, RunEnding::Drained, clock.wall_ms()).await.expect("ended");
    queue.close().await;
    spent.of_one(requests)
}
