//! The slots that the pacer returns.

use super::*;

fn at(ms: u64) -> Moment {
    Moment(Duration::from_millis(ms))
}

/// Sends `requests` at their slots, each with its response `rtt` later. Returns when they were sent.
fn drive(pacer: &mut Pacer, requests: std::ops::Range<u64>, rtt: Duration) -> Vec<Moment> {
    requests
        .map(|request| {
            let sent = pacer.next_slot();
            pacer.on(PacerEvent::Sent { request, at: sent });
            let limit = LimitSignal::Accepted;
            pacer.on(PacerEvent::Response { request, at: sent + rtt, limit });
            sent
        })
        .collect()
}

#[test]
fn spacing_is_measured_from_the_actual_send_time() {
    let mut pacer = Pacer::new(5.0, None);
    assert_eq!(pacer.next_slot(), Moment::default());
    let late = at(330);
    pacer.on(PacerEvent::Sent { request: 1, at: late });
    assert!(pacer.next_slot() >= late + Duration::from_millis(200));
    pacer.on(PacerEvent::NotBefore(at(2_000)));
    assert_eq!(pacer.next_slot(), at(2_000));
}

#[test]
fn window_frees_one_second_after_a_response() {
    let mut pacer = Pacer::new(5.0, None);
    let left = drive(&mut pacer, 0..5, Duration::from_millis(3));
    assert!(pacer.margins.window_s > 0.003, "{}", pacer.margins.window_s);
    pacer.margins.spacing_s = 0.0;
    let free = left[0] + Duration::from_millis(1_003);
    assert_eq!(pacer.next_slot(), free.max(left[4] + pacer.spacing));
}

#[test]
fn one_request_in_fifty_omits_the_spacing_margin() {
    let mut pacer = Pacer::new(5.0, None);
    drive(&mut pacer, 0..150, Duration::from_millis(3));
    assert!(pacer.margins.spacing_s > 0.0, "not known yet");
    let last = pacer.nth_last(1).expect("150 left").sent;
    assert_eq!(pacer.next_slot(), last + pacer.spacing);
    drive(&mut pacer, 150..151, Duration::from_millis(3));
    assert!(pacer.next_slot() > pacer.nth_last(1).expect("left").sent + pacer.spacing);
}

#[test]
fn steady_latency_reaches_almost_the_full_rate() {
    let mut pacer = Pacer::new(5.0, None);
    let left = drive(&mut pacer, 0..1_000, Duration::from_millis(80));
    let took = left[999].since(left[500]);
    assert!(took < Duration::from_millis(499 * 201), "{took:?}");
    assert!(left.windows(2).all(|two| two[1].since(two[0]) >= Duration::from_millis(200)));
}

#[test]
fn in_flight_follows_rate_and_latency() {
    let mut pacer = Pacer::new(5.0, None);
    drive(&mut pacer, 0..100, Duration::from_millis(50));
    assert_eq!(pacer.in_flight_max(), 8 + 4);
    drive(&mut pacer, 100..200, Duration::from_secs(2));
    assert_eq!(pacer.in_flight_max(), 15 + 4);
}

#[test]
fn next_run_starts_at_the_learned_rate() {
    let mut pacer = Pacer::new(5.0, None);
    assert_eq!(pacer.learned(), None);
    drive(&mut pacer, 0..1_000, Duration::from_millis(80));
    let learned = pacer.learned().expect("learned");
    assert!(learned.rate > 4.95, "{learned:?}");
    assert!(Pacer::new(5.0, Some(&learned)).rate() > 4.8);
    assert!(Pacer::new(5.0, None).rate() < 4.5);
}

#[test]
fn very_low_and_very_high_rates_keep_their_spacing() {
    for rate in [0.3, 2.5, 1_000.0] {
        let mut pacer = Pacer::new(rate, None);
        let left = drive(&mut pacer, 0..3_000, Duration::from_millis(1));
        let spacing = Duration::from_secs_f64(1.0 / rate);
        assert!(left.windows(2).all(|two| two[1].since(two[0]) >= spacing), "{rate}");
        let took = left[2_999].since(left[2_000]);
        assert!(took <= spacing.mul_f64(999.0 * 1.05), "{rate}: {took:?}");
    }
}
