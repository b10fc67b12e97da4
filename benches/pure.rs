//! Costs of the pure parts: the rate limiter, isolation, a code, an ETA, a manifest row. Their sum must
//! be negligible compared with a slot of 200 ms.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::hint::black_box;
use std::time::Duration;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use deskbatch::domain::clock::{Clock as _, ManualClock};
use deskbatch::domain::verdict::explain;
use deskbatch::eta::RunProgress;
use deskbatch::limiter::{NextSlot, RateLimiter, ResponseSignal};
use deskbatch::manifest::{Manifest, ManifestOptions};

#[allow(dead_code, reason = "the tests use the rest")]
#[path = "../tests/it/runner/simulated_queue.rs"]
mod simulated_queue;

fn limiter(c: &mut Criterion) {
    let clock = ManualClock::new(0);
    let mut limiter = RateLimiter::new(5.0, clock.clone(), 1);
    c.bench_function("rate limiter: slot, send and response of a request", |b| {
        b.iter(|| {
            loop {
                match limiter.next_slot(clock.now()) {
                    NextSlot::Now => break,
                    NextSlot::At(at) => clock.advance(at.since(clock.now())),
                    NextSlot::AfterResponse => unreachable!("every request gets a response"),
                }
            }
            let ticket = limiter.on_send(clock.now());
            clock.advance(Duration::from_millis(80));
            limiter.on_response(ticket, ResponseSignal::Evaluated, None, clock.now())
        });
    });
}

fn isolate(c: &mut Criterion) {
    let mut group = c.benchmark_group("isolate: 10,000 ids settled");
    for bad in [0, 100, 1_000] {
        let bad: BTreeSet<i64> = simulated_queue::placement(bad, 1, 7);
        group.bench_function(format!("{} bad", bad.len()), |b| {
            b.iter(|| simulated_queue::settle_in_order(10_000, black_box(&bad)).requests);
        });
    }
    group.finish();
}

fn verdict(c: &mut Criterion) {
    let mut code = 60_000;
    c.bench_function("verdict: a code", |b| {
        b.iter(|| {
            code = if code > 80_000 { 60_000 } else { code + 1 };
            explain(black_box(code)).class
        });
    });
}

fn estimate(c: &mut Criterion) {
    let mut course = RunProgress::new(5.0);
    for response in 1..=1_000_u64 {
        let at = Duration::from_millis(204 * response);
        course.on_response(at, Duration::from_millis(80), true, response * 60, response / 10);
    }
    c.bench_function("ETA: a range", |b| {
        b.iter(|| course.estimate(black_box([10_000, 400, 20]), 100));
    });
}

fn manifest(c: &mut Criterion) {
    const ROWS: u64 = 100_000;
    let mut text = String::from("question_id,status\n");
    for row in 0..ROWS {
        let _ = writeln!(text, "1400000000-@RBT#DeskDefaultRobot-{row:016},{}", 4 + row % 3);
    }
    let mut group = c.benchmark_group("manifest: rows read and checked");
    group.throughput(Throughput::Elements(ROWS)).sample_size(20);
    group.bench_function("100,000", |b| {
        b.iter_batched(
            || Box::new(std::io::Cursor::new(text.clone())),
            |bytes| {
                let mut manifest =
                    Manifest::from_reader(bytes, "bench.csv", &ManifestOptions::default())
                        .expect("a header");
                let mut rows = 0_u64;
                while manifest.next_row().expect("reads").is_some() {
                    rows += 1;
                }
                assert_eq!(rows, ROWS);
            },
            BatchSize::LargeInput,
        );
    });
    group.finish();
}

criterion_group!(pure, limiter, isolate, verdict, estimate, manifest);
criterion_main!(pure);
