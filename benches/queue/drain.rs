//! Drain: the real binary with its limit off against the loop by hand, and what one request
//! costs the runner, by part.

use std::path::Path;
use std::sync::Mutex;

use deskbatch::clock::Clock as _;
use deskbatch::desk::{Call, Endpoint, HttpSettings, HttpTransport, Signer, Transport as _};
use deskbatch::isolate::Findings;
use deskbatch::job::{App, Library, QuestionId, Status};
use deskbatch::sandbox::{SANDBOX_IDENTIFIER, SANDBOX_KEY, SANDBOX_SDKAPPID};
use deskbatch::store::{RunEnding, RunLock, Settlement, Store};
use deskbatch::verdict::{Answer, Verdict};

use crate::by_hand::{self, Steps};
use crate::manifest::question;
use crate::measure::{
    Contestant, Ground, Taken, Took, in_turn, on_runtime, runs, seconds, thousands,
};
use crate::shapes::{CHUNK, Shape, figure};
use crate::support::{deskbatch, median, real, say};
use crate::toward::SandboxProcess;

/// Whose jobs they are.
const APP: App = App { sdkappid: SANDBOX_SDKAPPID, library: Library::Chitchat };
/// Far above what any machine sends, and the most that the binary takes.
const NO_LIMIT: &str = "1000000";

pub fn run(ground: &Ground) {
    say("\n## drain: no limit, no latency, chunks of 100, every outcome durable (FULL)\n");
    say("The time of deskbatch is that of its process, from start to end.\n");
    say(
        "| rows | runs | what | ids a second | median | least to most | share of the loop by hand |",
    );
    say("| --- | --- | --- | --- | --- | --- | --- |");
    let mut parts = Vec::new();
    for &rows in &ground.sizes {
        let steps = Mutex::new(Vec::new());
        let taken = in_turn(
            runs(rows),
            vec![
                Contestant::new("deskbatch run", || ours(ground, rows)),
                Contestant::new("loop by hand", || {
                    let (took, of_run) = by_hand(ground, rows);
                    steps.lock().expect("no panic").push(of_run);
                    took
                }),
            ],
        );
        say_speeds(rows, &taken);
        ground.keep("drain", rows, taken[0].median());
        ground.keep("drain by hand", rows, taken[1].median());
        let steps = steps.into_inner().expect("no panic");
        let whole = taken[0].median() * 1e6 / real(rows.div_ceil(CHUNK));
        let whole_by_hand = taken[1].median() * 1e6 / real(rows.div_ceil(CHUNK));
        let by_hand = line("loop by hand", rows, whole_by_hand, &steps);
        let alone: Vec<Steps> = (0..runs(rows)).map(|_| alone(ground, rows)).collect();
        parts.push([line("deskbatch", rows, whole, &alone), by_hand]);
    }
    say(
        "\nWhat a request of 100 costs, in microseconds. Of deskbatch, HTTP, claim and settle are each",
    );
    say(
        "measured alone; the rest is what its run takes beside their sum, start and end included.\n",
    );
    say("| rows | what | a request | HTTP | claim | settle | the rest |");
    say("| --- | --- | --- | --- | --- | --- | --- |");
    parts.iter().flatten().for_each(|line| say(line));
}

fn ours(ground: &Ground, rows: usize) -> Took {
    let room = ground.room();
    let queue = Shape::OneStatus.copied(ground, rows, room.path());
    let sandbox = SandboxProcess::start(room.path());
    let mut command = deskbatch(room.path(), &["run", "--quiet", "--rate", NO_LIMIT]);
    command.env("DESKBATCH_ENDPOINT", &sandbox.endpoint);
    let took = ground.child(&mut command);
    assert_eq!(figure(ground, &queue, "succeeded"), rows);
    took
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

fn line(name: &str, rows: usize, whole: f64, steps: &[Steps]) -> String {
    let of = |step: fn(&Steps) -> f64| median(&steps.iter().map(step).collect::<Vec<_>>());
    let (http, claim, outcome) = (of(|s| s.http), of(|s| s.claim), of(|s| s.outcome));
    let rest = whole - http - claim - outcome;
    let rows = thousands(rows);
    format!("| {rows} | {name} | {whole:.0} | {http:.0} | {claim:.0} | {outcome:.0} | {rest:.0} |")
}

/// Each part of our request without the others, through the library.
fn alone(ground: &Ground, rows: usize) -> Steps {
    let room = ground.room();
    let queue = Shape::OneStatus.copied(ground, rows, room.path());
    let sandbox = SandboxProcess::start(room.path());
    on_runtime(async {
        let http = http_alone(ground, rows, &sandbox.endpoint).await;
        let (claim, outcome) = store_alone(ground, &queue).await;
        Steps { claim, http, outcome }
    })
}

/// The same calls one after the other, without a queue.
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
        let call = Call {
            app: APP,
            status: Status::Disable,
            ids: ids.collect(),
            usersig: usersig.clone(),
        };
        let began = ground.clock.now();
        let reply = transport.send(&call).await;
        spent += ground.clock.now().since(began).as_secs_f64();
        assert_eq!(reply.answer, Answer::Code(0), "{}", reply.info);
    }
    spent * 1e6 / real(rows.div_ceil(CHUNK))
}

/// Every claim and every settling, without a request: what one of each takes.
async fn store_alone(ground: &Ground, queue: &Path) -> (f64, f64) {
    let clock = &ground.clock;
    let store = Store::open(queue).await.expect("a queue");
    let lock = RunLock::take(store.path(), clock.wall_ms()).expect("the lock");
    let run = store.begin_run(&lock, APP, clock.wall_ms()).await.expect("a run").run;
    let (mut claims, mut settlings, mut requests) = (0.0, 0.0, 0);
    loop {
        let began = clock.now();
        let claimed = store.claim_free(run, |_, _| CHUNK, clock.wall_ms()).await.expect("a claim");
        let Some(claimed) = claimed else { break };
        let between = clock.now();
        let settled = Settlement {
            request: claimed.request,
            run,
            verdict: Verdict::Applied,
            answered_ms: clock.wall_ms(),
            latency_ms: 0,
            http_status: Some(200),
            code: Some(0),
            info: String::new(),
        };
        store.settle_succeeded(&settled, &Findings::default()).await.expect("settled");
        claims += between.since(began).as_secs_f64();
        settlings += clock.now().since(between).as_secs_f64();
        requests += 1;
    }
    store.end_run(run, RunEnding::Drained, clock.wall_ms()).await.expect("ended");
    store.close().await;
    (claims * 1e6 / real(requests), settlings * 1e6 / real(requests))
}
