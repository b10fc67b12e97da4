//! The learned rate over hours of virtual time, for every known way to count requests. The assertions
//! have the required figures, docs/internals/performance.md has the measured ones.

use std::ops::Range;

use crate::runner::simulated_service::{Case, Figures, LIMIT, Rule, simulate};
use crate::support::scale::cases;

const RULES: [Rule; 4] = [Rule::Sliding, Rule::Fixed, Rule::Bucket, Rule::Spaced];
const JITTERS_MS: [f64; 4] = [0.0, 5.0, 20.0, 50.0];
const HOUR: f64 = 3_600.0;

/// The jitters of a test that combines everything with everything; the short form has one of them.
fn jitters_ms() -> &'static [f64] {
    cases(&JITTERS_MS[2..3], &JITTERS_MS)
}

/// `count` seeds in the long form, one in the short form.
fn seeds(count: u64) -> Range<u64> {
    1..1 + cases(1, count)
}

/// The case of the figures of `shared/sim`: 50 ms to the response, with the same jitter as the way to
/// the service.
fn usual(rule: Rule, jitter_ms: f64) -> Case {
    Case {
        rule,
        counts_refused: false,
        jitter_ms,
        response_ms: 50.0,
        response_jitter_ms: jitter_ms,
        others: None,
        refused_at_random: 0.0,
        spacing_ms: None,
        seconds: HOUR,
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Medians of the share and of throttled requests in 1,000 over some seeds.
fn medians(case: &Case, seeds: Range<u64>) -> (f64, f64) {
    let figures: Vec<Figures> = seeds.map(|seed| simulate(case, seed, None, |_| {})).collect();
    let of = |figure: fn(&Figures) -> f64| median(figures.iter().map(figure).collect());
    (of(|f| f.share), of(|f| f.refused_of_1000))
}

#[test]
fn pacer_uses_most_of_sliding_window_limit() {
    for (jitter_ms, least) in [(0.0, 0.995), (5.0, 0.975), (20.0, 0.915), (50.0, 0.835)] {
        let (share, refused) = medians(&usual(Rule::Sliding, jitter_ms), seeds(5));
        assert!(share >= least, "{jitter_ms} ms: {share}");
        assert!(refused <= 2.0, "{jitter_ms} ms: {refused}");
    }
}

#[test]
fn pacer_uses_most_of_fixed_window_and_bucket_limit() {
    for (rule, jitter_ms, least) in [
        (Rule::Fixed, 0.0, 0.995),
        (Rule::Fixed, 5.0, 0.985),
        (Rule::Fixed, 20.0, 0.945),
        (Rule::Bucket, 0.0, 0.985),
        (Rule::Bucket, 5.0, 0.985),
        (Rule::Bucket, 20.0, 0.985),
        (Rule::Bucket, 50.0, 0.985),
    ] {
        let (share, refused) = medians(&usual(rule, jitter_ms), seeds(3));
        assert!(share >= least, "{rule:?} {jitter_ms} ms: {share}");
        assert!(refused <= 2.0, "{rule:?} {jitter_ms} ms: {refused}");
    }
}

#[test]
fn pacer_learns_minimum_spacing() {
    let known_way = Case { response_jitter_ms: 0.0, ..usual(Rule::Spaced, 5.0) };
    let (share, refused) = medians(&known_way, seeds(3));
    assert!(share >= 0.90 && refused <= 2.0, "{share} {refused}");
    let (share, refused) = medians(&usual(Rule::Spaced, 5.0), seeds(3));
    assert!(share >= 0.885 && refused <= 3.0, "{share} {refused}");
}

/// Half an hour of every combination of unknowns.
#[test]
fn pacer_respects_rate_for_every_rule_and_jitter() {
    for rule in RULES {
        for counts_refused in [false, true] {
            for &jitter_ms in jitters_ms() {
                for (response_ms, response_jitter_ms) in
                    [(20.0, 0.0), (500.0, 300.0), (2_000.0, 0.0)]
                {
                    let usual = usual(rule, jitter_ms);
                    let case = Case {
                        counts_refused,
                        response_ms,
                        response_jitter_ms,
                        seconds: 900.0,
                        ..usual
                    };
                    let figures = simulate(&case, 1, None, |_| {});
                    assert!(figures.most_in_a_second <= LIMIT, "{case:?}: {figures:?}");
                    assert!(figures.refused_of_first_100 <= 3, "{case:?}: {figures:?}");
                    if rule != Rule::Spaced {
                        assert!(figures.share >= 0.78, "{case:?}: {figures:?}");
                        assert!(figures.refused_of_1000 <= 4.0, "{case:?}: {figures:?}");
                    }
                }
            }
        }
    }
}

#[test]
fn first_100_requests_get_at_most_3_push_backs() {
    for rule in RULES {
        for jitter_ms in JITTERS_MS {
            for seed in seeds(15) {
                let case = Case { seconds: 40.0, ..usual(rule, jitter_ms) };
                let figures = simulate(&case, seed, None, |_| {});
                assert!(figures.refused_of_first_100 <= 3, "{case:?} {seed}: {figures:?}");
            }
        }
    }
}

#[test]
fn pacer_is_never_worse_than_fixed_220_ms_spacing() {
    for rule in RULES {
        for &jitter_ms in jitters_ms() {
            let case = usual(rule, jitter_ms);
            let (share, refused) = medians(&case, seeds(3));
            let spaced = Case { spacing_ms: Some(220.0), ..case };
            let (spaced_share, spaced_refused) = medians(&spaced, seeds(3));
            // Within half a per cent where 220 ms is the right spacing by chance.
            assert!(share >= spaced_share - 0.005, "{case:?}: {share} and {spaced_share}");
            assert!(
                refused <= spaced_refused.max(2.0) + 0.5,
                "{case:?}: {refused} and {spaced_refused}"
            );
        }
    }
}

#[test]
fn pacer_yields_to_competing_client_and_recovers() {
    for rule in [Rule::Sliding, Rule::Fixed, Rule::Bucket] {
        for jitter_ms in [5.0, 20.0] {
            let others = Some((600.0, 1_200.0));
            let case = Case { others, seconds: 1_800.0, ..usual(rule, jitter_ms) };
            let spaced = Case { spacing_ms: Some(220.0), ..case };
            let (ours, spaced) = (with_others(&case), with_others(&spaced));
            // The other program leaves four fifths of the limit.
            assert!(ours.share >= 0.65, "{case:?}: {ours:?}");
            assert!(ours.share >= spaced.share - 0.03, "{case:?}: {ours:?} {spaced:?}");
            assert!(ours.refused <= spaced.refused + 10.0, "{case:?}: {ours:?} {spaced:?}");
            assert!(ours.refused <= 40.0, "{case:?}: {ours:?}");
            // Before and after the other program runs, the full limit is available.
            assert!(ours.share_alone >= 0.87, "{case:?}: {ours:?}");
        }
    }
}

/// Medians of half an hour in which another program sends for ten minutes.
#[derive(Debug)]
struct WithOthers {
    share: f64,
    /// Throttled requests in 1,000.
    refused: f64,
    /// The share before and after those ten minutes.
    share_alone: f64,
}

fn with_others(case: &Case) -> WithOthers {
    let figures: Vec<Figures> = seeds(5).map(|seed| simulate(case, seed, None, |_| {})).collect();
    let of = |figure: fn(&Figures) -> f64| median(figures.iter().map(figure).collect());
    WithOthers {
        share: of(|f| f.share_with_others),
        refused: of(|f| f.refused_of_1000_with_others),
        share_alone: of(|f| (f.share * 1_740.0 - f.share_with_others * 600.0) / 1_140.0),
    }
}

/// Push-backs that no spacing prevents must not slow the pacer down.
#[test]
fn pacer_does_not_slow_down_for_random_push_backs() {
    for jitter_ms in [5.0, 20.0] {
        let steady = usual(Rule::Sliding, jitter_ms);
        let erratic = Case { refused_at_random: 0.02, ..steady };
        let (share, _) = medians(&erratic, seeds(5));
        let (most, _) = medians(&steady, seeds(3));
        // Each closes the breaker for about a second, which costs six of fifty slots.
        assert!(share >= most * 44.0 / 50.0 - 0.03, "{jitter_ms} ms: {share} of {most}");
    }
}

#[test]
fn wall_clock_jumps_do_not_affect_pacer() {
    let case = Case { seconds: 600.0, ..usual(Rule::Sliding, 20.0) };
    let quiet = simulate(&case, 7, None, |_| {});
    let mut random = fastrand::Rng::with_seed(7);
    let jumping = simulate(&case, 7, None, |clock| {
        if random.u32(0..50) == 0 {
            clock.jump_wall(random.i64(-86_400_000..86_400_000));
        }
    });
    assert_eq!(quiet, jumping);
}

#[test]
fn pacer_starts_from_learned_rate() {
    for jitter_ms in [5.0, 20.0] {
        let case = usual(Rule::Sliding, jitter_ms);
        let learned = simulate(&case, 1, None, |_| {}).learned.expect("an hour teaches");
        let short = Case { seconds: 60.0, ..case };
        let first = |learned| {
            median(
                (1..10)
                    .map(|seed| simulate(&short, seed, learned, |_| {}).hundredth_left_s)
                    .collect(),
            )
        };
        let (new, next) = (first(None), first(Some(&learned)));
        assert!(next < new, "{jitter_ms} ms: {next} s and {new} s for the first hundred calls");
        assert!(
            learned.throttled_rate.is_some_and(|refused| refused > 0.9 * learned.rate),
            "{learned:?}"
        );
    }
}
