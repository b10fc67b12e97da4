//! The assumptions behind the range. `tests/it/forecast_simulation.rs` simulates how often the true end is
//! inside the range.

use super::*;

#[test]
fn initial_eta_range_starts_with_full_chunks() {
    let all = estimate([9_950, 0, 20], 100, Observed::default(), SendRate::from_limit(5.0));
    assert_eq!(*all.requests.start(), 101);
    // As if two or three percent of the questions were bad.
    assert!((1_000..2_500).contains(all.requests.end()), "{all:?}");
    assert!((18.0..20.2).contains(&all.time.start().as_secs_f64()), "{all:?}");
    let none = estimate([0; 3], 100, Observed::default(), SendRate::from_limit(5.0));
    assert_eq!((none.requests, none.time), (0..=0, Duration::ZERO..=Duration::ZERO));
}

/// The medians that the isolation itself guarantees.
#[test]
fn eta_of_a_repeated_run_matches_observed_requests() {
    for (bad, requests) in [(10, 174), (100, 828), (1_000, 4_962), (100, 278), (9_000, 10_100)] {
        let seen = Observed::from_totals(10_000 - bad, bad, requests);
        let again = estimate([10_000, 0, 0], 100, seen, SendRate::from_limit(5.0)).requests;
        assert!(again.contains(&requests), "{bad} bad, {requests} requests: {again:?}");
        assert!(*again.end() <= requests * 4, "{bad} bad, {requests} requests: {again:?}");
    }
    // Many small batches do not show how many requests a chunk needs.
    let small = Observed::from_totals(300, 2, 120);
    let again = estimate([10_000, 0, 0], 100, small, SendRate::from_limit(5.0)).requests;
    assert!(*again.end() < 2_500, "{again:?}");
}

#[test]
fn eta_accounts_for_a_smaller_accepted_chunk_size() {
    let mut seen = Observed::default();
    for responses in 1..=100 {
        seen.record(responses * 20, 0, responses + 8);
    }
    let rest = estimate([2_000, 0, 0], 100, seen, SendRate::from_limit(5.0)).requests;
    assert!((95..115).contains(rest.start()), "{rest:?}");
}

#[test]
fn eta_expects_breaker_closings_to_continue() {
    let open = SendRate { requests: 500, ..SendRate::from_limit(5.0) };
    let shut = SendRate { closings: 20, closed: Duration::from_secs(40), ..open };
    let mut seen = Observed::default();
    seen.record(10_000, 0, 101);
    let (without, with) =
        (estimate([10_000, 0, 0], 100, seen, open), estimate([10_000, 0, 0], 100, seen, shut));
    assert_eq!(without.requests, with.requests);
    assert!(without.time.start() < with.time.start() && without.time.end() < with.time.end());
}

#[test]
fn eta_segments_are_merged_without_loss() {
    let mut seen = Observed::default();
    for response in 1..=1_000 {
        seen.record(response * 70, response, response * 3);
        let sum = |of: fn(&Segment) -> u64| seen.segments.iter().map(of).sum::<u64>();
        assert_eq!(sum(|one| one.good), seen.good);
        assert_eq!(sum(|one| one.bad), seen.bad);
        assert_eq!(sum(|one| one.requests), seen.requests);
    }
    assert!((SEGMENTS / 2..=SEGMENTS).contains(&seen.begun), "{}", seen.begun);
}

#[test]
fn eta_rate_excludes_time_with_closed_breaker() {
    let at = Duration::from_secs;
    let mut course = RunProgress::new(5.0);
    for second in 1..=400 {
        // Closed from 100 to 300.
        match second {
            100 => course.on_closed(at(second)),
            300 => course.on_opened(at(second)),
            _ => {}
        }
        if !(100..300).contains(&second) {
            course.on_response(at(second), Duration::ZERO, true, second * 100, 0);
        }
    }
    let speed = course.send_rate();
    assert!((0.95..1.1).contains(&speed.rate), "{speed:?}");
    assert_eq!((speed.closings, speed.closed), (1, at(200)));
}
