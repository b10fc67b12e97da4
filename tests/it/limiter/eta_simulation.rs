//! How often the true end of a run lies inside the ETA range, and how wide the range is.

use crate::runner::simulated_run::{ALIKE, Kind, MOMENTS, Point, Tried, median, real};
use crate::support::scale::cases;

/// The runs of each kind.
fn runs() -> u64 {
    cases(10, 40)
}

/// Measured with 200 runs of 10,000 jobs of each kind. Every second run has one request in fifty
/// throttled. Columns: share inside the range, and its median width relative to the true time.
///
/// | bad | at 10 % | | at 50 % | |
/// | --- | --- | --- | --- | --- |
/// | none | 100 % | 3.2 | 99 % | 1.5 |
/// | 1 in 10,000 | 100 % | 3.0 | 100 % | 1.4 |
/// | 0.1 % | 99 % | 2.2 | 98 % | 1.5 |
/// | 1 % | 98 % | 1.6 | 99 % | 1.0 |
/// | 10 % | 97 % | 0.7 | 98 % | 0.4 |
/// | 1 % in blocks of 2 | 96 % | 1.9 | 97 % | 1.2 |
/// | of 3 | 92 % | 2.2 | 98 % | 1.3 |
/// | of 10 | 91 % | 2.7 | 94 % | 1.8 |
/// | of 30, three of them | 97 % | 1.2 | 84 % | 2.2 |
///
/// All of these and the same with 3,000 jobs: 97 % and 96 %. Not covered: ten blocks of 30 in 30,000
/// jobs, 60 % and 83 %. Before the first such block nothing shows that any exist, and each costs nearly
/// 60 requests. An allowance for them would widen the range of every clean run by half.
#[test]
fn eta_range_covers_true_end_in_nine_of_ten_runs() {
    let mut wrong = Vec::new();
    let (mut hits, mut widths) = ([0, 0], [Vec::new(), Vec::new()]);
    for (kind, least, widest) in ALIKE {
        let long = Tried::new(kind, 10_000, runs(), &MOMENTS);
        let short = Tried::new(kind, 3_000, runs(), &MOMENTS);
        for at in 0..2 {
            let (rate, width) = (long.hit_rate(at), long.median_width(at));
            if rate * 100.0 < f64::from(least) || width > widest[at] {
                wrong.push(format!("{kind:?} at {}: {rate}, width {width:.2}", MOMENTS[at]));
            }
            for tried in [&long, &short] {
                hits[at] += tried.hits(at);
                widths[at].extend(tried.points[at].iter().map(Point::width));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    for (at, most) in [(0, 2.6), (1, 1.7)] {
        let rate = real(hits[at] as u64) / real(widths[at].len() as u64);
        let width = median(widths[at].clone());
        assert!(rate >= 0.9, "{} at {}", rate, MOMENTS[at]);
        assert!(width <= most, "{} at {}", width, MOMENTS[at]);
    }
}

/// If all bad ids are in the first tenth, the ETA is right once they are past. Before that, all jobs
/// look as bad. It is right even then if they are consecutive. Bad ids in the last tenth cannot be
/// predicted.
#[test]
fn eta_recovers_after_clustered_bad_ids_are_seen() {
    for (kind, at_first) in [(Kind::First(1.0), 1.0), (Kind::First(0.3), 0.0)] {
        let tried = Tried::new(kind, 10_000, runs(), &MOMENTS);
        assert!((tried.hit_rate(0) - at_first).abs() < 0.1, "{tried:?}");
        // Measured over 200 runs: 97 % and 93 %.
        assert!(tried.hit_rate(1) >= 0.85, "{kind:?}: {}", tried.hit_rate(1));
        assert!(tried.median_width(1) <= 1.8, "{kind:?}: {}", tried.median_width(1));
    }
    let tried = Tried::new(Kind::Last(0.3), 10_000, runs(), &[0.1, 0.5, 0.95]);
    assert!(tried.hit_rate(0) < 0.1 && tried.hit_rate(1) < 0.1, "as good as prophecy");
    // A question that waits for its confirmation is missing in the statistics.
    assert!(tried.hit_rate(2) >= 0.85, "in the midst of them: {}", tried.hit_rate(2));
    assert!(tried.median_width(2) <= 0.7, "{}", tried.median_width(2));
}
