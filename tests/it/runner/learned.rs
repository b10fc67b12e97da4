//! Learned values: the next run starts with the learned rate and chunk size.

use std::time::Duration;

use deskbatch::domain::clock::{Clock as _, Moment};
use deskbatch::domain::job::TargetStatus;
use deskbatch::domain::learned::LearnedChunkSize;
use deskbatch::domain::learned::LearnedRate;

use crate::support::manifest::many;
use crate::support::queue::{APP, NOW_MS, OTHER_APP, TestQueue};
use crate::support::service::{Bench, Seen, Step, code, ok};

fn gap(seen: &[Seen], from: usize, to: usize) -> Duration {
    seen[to].at.since(seen[from].at) / u32::try_from(to - from).unwrap()
}

/// `count` jobs whose names no other manifest here has.
fn more(name: char, count: usize) -> String {
    (0..count).map(|n| format!("{name}{n} enable")).collect::<Vec<_>>().join(", ")
}

#[tokio::test]
async fn next_run_starts_at_learned_rate() {
    let mut bench = Bench::new(&many(1_500, TargetStatus::Enable)).await;
    bench.settings.chunk_jobs_max = 2;
    bench.service.responds_by(|_| ok());
    bench.run().await;
    let kept = bench.queue.learned_rate(APP).await.unwrap().unwrap();
    assert_eq!((kept.app, kept.learned_ms), (APP, bench.clock.wall_ms()));
    assert!(kept.learned.rate > 4.9 && kept.learned.throttled_rate.is_none(), "{kept:?}");
    assert_eq!(bench.queue.learned_rate(OTHER_APP).await.unwrap(), None);
    let first_run = bench.service.seen();
    bench.queue.import(&more('r', 40)).await;
    bench.run().await;
    let next_run = bench.service.seen()[first_run.len()..].to_vec();
    // The first request is a probe, and the next ones wait only for their slots.
    let (new, experienced) = (gap(&first_run, 2, 12), gap(&next_run, 2, 12));
    assert!(experienced < Duration::from_millis(206), "{experienced:?}");
    assert!(new > experienced + Duration::from_millis(10), "{new:?} and {experienced:?}");
}

#[tokio::test]
async fn learned_rate_survives_crash() {
    let mut bench = Bench::new(&many(400, TargetStatus::Enable)).await;
    bench.settings.chunk_jobs_max = 1;
    bench.service.responds_by(|seen| {
        // Late enough that half a minute has passed and the learned rate is saved.
        if seen.at > Moment(Duration::from_secs(45)) { Step::Hold(ok()) } else { Step::Say(ok()) }
    });
    let service = &bench.service;
    let queue = &bench.queue;
    bench
        .run_while(async {
            while service.seen().last().is_none_or(|seen| seen.at.0.as_secs() < 45) {
                let seen = service.seen().len();
                service.arrived(seen + 1).await;
            }
            let kept = queue.learned_rate(APP).await.unwrap().unwrap();
            assert!((NOW_MS + 30_000..NOW_MS + 45_000).contains(&kept.learned_ms), "{kept:?}");
            service.let_go(400);
        })
        .await;
}

#[tokio::test]
async fn impossible_learned_rate_is_ignored() {
    let mut bench = Bench::new(&many(20, TargetStatus::Enable)).await;
    let learned = LearnedRate {
        rate: 5.0,
        throttled_rate: None,
        arrival_jitter_ms: 1e9,
        arrival_jitter_log_sd: 0.1,
        min_spacing_probability: 0.5,
    };
    bench.queue.save_learned_rate(APP, &learned, NOW_MS).await.unwrap();
    bench.settings.chunk_jobs_max = 1;
    bench.service.responds_by(|_| ok());
    let report = bench.run().await;
    assert_eq!(report.totals.succeeded, 20);
    // As careful as a first run and no more. An arrival jitter of days would delay the run for days.
    assert!(report.took < Duration::from_secs(6), "{:?}", report.took);
}

fn takes_up_to(most: usize) -> impl FnMut(&Seen) -> deskbatch::desk::Response + Send {
    move |seen| code(if seen.ids.len() > most { 70_206 } else { 0 })
}

fn too_large(seen: &[Seen], most: usize) -> usize {
    seen.iter().filter(|seen| seen.ids.len() > most).count()
}

#[tokio::test]
async fn next_run_starts_with_learned_chunk_size() {
    let bench = Bench::new(&many(1_000, TargetStatus::Enable)).await;
    bench.service.responds_by(takes_up_to(40));
    bench.run().await;
    let first_run = bench.service.seen();
    assert!((1..8).contains(&too_large(&first_run, 40)), "{}", too_large(&first_run, 40));
    let kept = bench.queue.learned_chunk_size(APP, NOW_MS).await.unwrap().unwrap();
    let LearnedChunkSize { accepted, rejected } = kept.limit;
    assert!((33..=40).contains(&accepted) && rejected > 40, "{kept:?}");

    bench.queue.import(&more('r', 400)).await;
    bench.run().await;
    // The run searches between the accepted and the rejected size with at most one larger request.
    let next_run = &bench.service.seen()[first_run.len()..];
    assert!(too_large(next_run, 40) <= 1, "{}", too_large(next_run, 40));
    assert!(next_run.len() <= 16, "{}", next_run.len());
}

#[tokio::test]
async fn learned_chunk_size_expires_after_a_month() {
    let bench = Bench::new(&more('r', 300)).await;
    let limit = LearnedChunkSize { accepted: 10, rejected: 11 };
    bench.queue.save_learned_chunk_size(APP, limit, NOW_MS).await.unwrap();
    bench.service.responds_by(|_| ok());
    bench.clock.advance(Duration::from_hours(24 * 29));
    bench.run().await;
    assert!(bench.service.chunks().iter().all(|ids| ids.len() <= 10));
    let requests = bench.service.seen().len();
    // The run only used the value, so its date does not change.
    let kept = bench.queue.learned_chunk_size(APP, NOW_MS).await.unwrap().unwrap();
    assert_eq!((kept.limit, kept.learned_ms), (limit, NOW_MS));
    assert_eq!(bench.queue.learned_chunk_sizes(bench.clock.wall_ms()).await.unwrap().len(), 1);
    bench.queue.import(&more('s', 300)).await;
    bench.clock.advance(Duration::from_hours(24 * 2));
    bench.run().await;
    assert_eq!(bench.queue.learned_chunk_sizes(bench.clock.wall_ms()).await.unwrap(), []);
    let largest = bench.service.chunks()[requests..].iter().map(Vec::len).max();
    assert_eq!(largest, Some(100));
}

#[tokio::test]
async fn learned_limits_are_stored_per_app_and_library() {
    let queue = TestQueue::idle().await;
    let learned = LearnedRate {
        rate: 4.86,
        throttled_rate: Some(4.9),
        arrival_jitter_ms: 7.0,
        arrival_jitter_log_sd: 0.3,
        min_spacing_probability: 0.1,
    };
    let limit = LearnedChunkSize { accepted: 50, rejected: 63 };
    queue.save_learned_rate(APP, &learned, NOW_MS).await.unwrap();
    queue.save_learned_chunk_size(APP, limit, NOW_MS).await.unwrap();
    let newer = LearnedRate { throttled_rate: None, rate: 4.7, ..learned };
    queue.save_learned_rate(APP, &newer, NOW_MS + 1).await.unwrap();
    queue
        .save_learned_chunk_size(APP, LearnedChunkSize { accepted: 60, rejected: 61 }, NOW_MS + 1)
        .await
        .unwrap();
    queue.save_learned_rate(OTHER_APP, &learned, NOW_MS).await.unwrap();
    let paces = queue.learned_rates().await.unwrap();
    let seen: Vec<_> = paces.iter().map(|kept| (kept.app, kept.learned, kept.learned_ms)).collect();
    assert_eq!(seen, [(APP, newer, NOW_MS + 1), (OTHER_APP, learned, NOW_MS)]);
    let sizes = queue.learned_chunk_sizes(NOW_MS).await.unwrap();
    assert_eq!(sizes.len(), 1);
    assert_eq!((sizes[0].limit.accepted, sizes[0].learned_ms), (60, NOW_MS + 1));
}
