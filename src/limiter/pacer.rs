//! The pace: how close together requests leave, learned from what the service bears.
//!
//! Pure: what happened comes in as an event with its time, the next slot comes out. Two
//! things are certain. No more than the rate leaves in any second: requests keep its
//! spacing, whatever was learned. And a call that was answered was counted before, so a
//! second after its answer its place is free. To leave earlier, a second and a margin
//! after that call left, is a dare; how wide the margin has to be is up to
//! [`Belief`]. The answers say a little of when a call arrived: one that came back late
//! probably was late to arrive too, and the call after it waits for that.

use std::collections::VecDeque;
use std::time::Duration;

use super::limit_model::{Belief, Costs, Gist, Risk, Risks, SHARES};
use super::rtt::Trips;
use crate::domain::clock::Moment;
use crate::domain::learned::Learned;

/// The most places that are kept apart; a higher rate counts in shorter windows.
const PLACES_MAX: usize = 64;
/// How many calls are remembered beyond those, for their answers.
const CALLS_BEHIND: usize = 128;
/// What a refusal costs beside the probe's round trip. The gate stays closed for a second
/// or a little more, and part of that makes good for what left too close; simulated from
/// 0.7 to 1.2, this uses the most of the limit.
const REFUSAL_S: f64 = 0.85;
/// A first run is careful with its first calls: a refusal counts so many times.
const CAREFUL_CALLS: u32 = 100;
const CAREFUL: f64 = 3.0;
/// After those, while it is not likely that the service wants distance between two calls,
/// one in so many finds out, by keeping no more than the spacing.
const PROBE_EVERY: u32 = 50;
const PROBE_BELOW: f64 = 0.5;
/// How many refusals the answer to "refused above?" is the mean of.
const REFUSALS_KEPT: usize = 5;

/// What the answer to a call says of the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Told {
    /// It was within the limit.
    Within,
    /// It was above it.
    Above,
    /// Neither can be said.
    Nothing,
}

/// What the pace is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PaceEvent {
    /// A call left.
    Left {
        /// Its number, higher than all before.
        call: u64,
        /// When.
        at: Moment,
    },
    /// A call was answered.
    Answered {
        /// Its number.
        call: u64,
        /// When.
        at: Moment,
        /// What that says.
        told: Told,
    },
    /// No call may leave before, whatever was known until now.
    NotBefore(Moment),
}

#[derive(Debug, Clone, Copy)]
struct Call {
    number: u64,
    left: Moment,
    answered: Option<Moment>,
    risks: Risks,
}

/// When the next request may leave, as far as spacing goes.
#[derive(Debug, Clone)]
pub(super) struct Pace {
    /// The least time between two calls.
    spacing: Duration,
    /// So many calls may leave within `window`.
    places: usize,
    window: Duration,
    earliest: Moment,
    calls: VecDeque<Call>,
    trips: Trips,
    belief: Belief,
    careful: bool,
    answers: u32,
    /// What follows from the belief, for a call that nothing more is known of.
    share: usize,
    window_margin_s: f64,
    spaced_margin_s: f64,
    /// How much of a round trip's lateness was on the way there, 0 to 1.
    way_there: f64,
    /// The rates of the last calls that were refused.
    refused_rates: VecDeque<f64>,
}

impl Pace {
    /// A pace for a limit of `rate` requests a second, which must be above zero, that
    /// begins with what was learned before.
    pub(super) fn new(rate: f64, learned: Option<&Learned>) -> Self {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "1 to 64")]
        let places = rate.ceil().clamp(1.0, places_f64(PLACES_MAX)) as usize;
        let seconds = |s: f64| Duration::from_secs_f64(s).max(Duration::from_nanos(1));
        let mut pace = Self {
            spacing: seconds(1.0 / rate),
            places,
            window: seconds(places_f64(places) / rate),
            earliest: Moment::default(),
            calls: VecDeque::new(),
            trips: Trips::default(),
            belief: learned.map_or_else(Belief::new, |learned| Belief::from_gist(learned.into())),
            careful: learned.is_none(),
            answers: 0,
            share: 0,
            window_margin_s: 0.0,
            spaced_margin_s: 0.0,
            way_there: 0.0,
            refused_rates: learned.and_then(|learned| learned.refused_rate).into_iter().collect(),
        };
        pace.decide();
        pace
    }

    /// Takes in what happened. A slot counts from the moment a request really left.
    pub(super) fn on(&mut self, event: PaceEvent) {
        match event {
            PaceEvent::NotBefore(at) => self.earliest = self.earliest.max(at),
            PaceEvent::Left { call, at } => {
                let risks = self.risks(at);
                self.calls.push_back(Call { number: call, left: at, answered: None, risks });
                if self.calls.len() > self.places + CALLS_BEHIND {
                    self.calls.pop_front();
                }
            }
            PaceEvent::Answered { told: Told::Nothing, .. } => {}
            PaceEvent::Answered { call, at, told } => self.answered(call, at, told == Told::Above),
        }
    }

    /// The earliest moment for the next request.
    pub(super) fn next_slot(&self) -> Moment {
        let mut slot = self.earliest;
        if let Some(last) = self.back(1) {
            slot = slot.max(last.left + self.spacing);
            if self.spaced_margin_s > 0.0 && !self.probes() {
                let margin_s = self.spaced_margin_s * self.wider(last);
                slot = slot.max(self.after(last, self.spacing, margin_s));
            }
        }
        if let Some(holder) = self.back(self.places_of(self.share)) {
            let dare = self.after(holder, self.window, self.window_margin_s * self.wider(holder));
            let certain = holder.answered.map(|at| at + self.window);
            slot = slot.max(certain.map_or(dare, |certain| dare.min(certain)));
        }
        slot
    }

    /// How many requests may be in flight so that latency costs no rate: rate times
    /// latency (Little's law), with room for answers that take longer than any lately.
    pub(super) fn in_flight_max(&self) -> usize {
        const ROOM: usize = 4;
        const LONGER: f64 = 1.5;
        const LEAST_S: f64 = 1.0;
        let slots = LONGER * self.trips.longest_s().max(LEAST_S) / self.spacing.as_secs_f64();
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "small, above 0"
        )]
        let slots = slots.ceil().min(1e6) as usize;
        slots + ROOM
    }

    /// What is worth keeping for the next run; `None` before anything was learned.
    pub(super) fn learned(&self) -> Option<Learned> {
        let Gist { spread_s, spread_doubt, spaced } = self.belief.gist(self.trips.spread_max_s());
        let refusals = places_f64(self.refused_rates.len());
        let refused = self.refused_rates.iter().sum::<f64>() / refusals;
        (self.answers > 0).then(|| Learned {
            rate: self.rate(),
            refused_rate: (refusals > 0.0).then_some(refused),
            spread_ms: spread_s * 1e3,
            spread_doubt,
            spaced,
        })
    }

    /// Requests a second that leave while the gate is open.
    pub(super) fn rate(&self) -> f64 {
        let window_s = self.window.as_secs_f64() + self.window_margin_s;
        let window = places_f64(self.places_of(self.share)) / window_s;
        window.min(1.0 / (self.spacing.as_secs_f64() + self.spaced_margin_s))
    }

    fn answered(&mut self, number: u64, at: Moment, refused: bool) {
        let Some(index) = self.calls.iter().position(|call| call.number == number) else { return };
        self.calls[index].answered = Some(at);
        let call = self.calls[index];
        self.trips.add(at.since(call.left).as_secs_f64());
        if refused && let Some(rate) = self.rate_at(index) {
            self.refused_rates.push_back(rate);
            if self.refused_rates.len() > REFUSALS_KEPT {
                self.refused_rates.pop_front();
            }
        }
        self.belief.learn(&call.risks, refused);
        self.answers = self.answers.saturating_add(1);
        // The belief moves slowly while all is well.
        if refused || self.answers < CAREFUL_CALLS || self.answers.is_multiple_of(5) {
            self.decide();
        }
    }

    /// Whether the next call is one that finds out.
    fn probes(&self) -> bool {
        self.answers >= CAREFUL_CALLS
            && self.answers.is_multiple_of(PROBE_EVERY)
            && self.belief.spaced() < PROBE_BELOW
    }

    /// How fast calls left around the one at `index`.
    fn rate_at(&self, index: usize) -> Option<f64> {
        let back = if self.spaced_margin_s > 0.0 { 1 } else { self.places };
        let earlier = self.calls.get(index.checked_sub(back)?)?;
        let took = self.calls[index].left.since(earlier.left).as_secs_f64();
        (took > 0.0).then(|| places_f64(back) / took)
    }

    fn decide(&mut self) {
        let spread_max_s = self.trips.spread_max_s();
        self.share = self.belief.share();
        let careful = self.careful && self.answers < CAREFUL_CALLS;
        let refusal_s = (REFUSAL_S + self.trips.mean_s()) * if careful { CAREFUL } else { 1.0 };
        let places = places_f64(self.places_of(self.share));
        let costs = Costs { margin: 1.0 / places, refusal_s, widen: 1.0, spread_max_s };
        self.window_margin_s = self.belief.window_margin_s(self.share, costs);
        self.spaced_margin_s = self.belief.spaced_margin_s(Costs { margin: 1.0, ..costs });
        let spread_s = self.belief.gist(spread_max_s).spread_s;
        self.way_there = self.trips.share_of(spread_s);
    }

    /// How close to the calls before it a call at `now` would dare to be.
    fn risks(&self, now: Moment) -> Risks {
        let risk = |back: usize, room: Duration| {
            let Some(call) = self.back(back) else { return Risk::None };
            if call.answered.is_some_and(|at| now >= at + room) {
                return Risk::None;
            }
            let margin_s = seconds(now) - self.arrival_s(call) - room.as_secs_f64();
            Risk::Margin { margin_s, widen: self.wider(call) }
        };
        Risks {
            window: std::array::from_fn(|share| risk(self.places_of(share), self.window)),
            spaced: risk(1, self.spacing),
        }
    }

    fn after(&self, call: &Call, room: Duration, margin_s: f64) -> Moment {
        let at_s = self.arrival_s(call) + room.as_secs_f64() + margin_s;
        Moment(Duration::from_secs_f64(at_s.max(0.0)))
    }

    /// When a call probably arrived, less the usual way there.
    fn arrival_s(&self, call: &Call) -> f64 {
        let late_s = call.answered.map_or(0.0, |at| {
            self.trips.lateness_s(at.since(call.left).as_secs_f64()) * self.way_there
        });
        seconds(call.left) + late_s
    }

    /// How much wider than one way's the unevenness of the two ways is, that of the next
    /// call and that of `call`; less where its answer told of it.
    fn wider(&self, call: &Call) -> f64 {
        let told = if call.answered.is_some() { self.way_there } else { 0.0 };
        (2.0 - told).sqrt()
    }

    fn back(&self, n: usize) -> Option<&Call> {
        self.calls.get(self.calls.len().checked_sub(n)?)
    }

    /// The places that a share leaves, at least one.
    fn places_of(&self, share: usize) -> usize {
        debug_assert!(share < SHARES);
        ((self.places * (5 - share) + 2) / 5).max(1)
    }
}

fn seconds(moment: Moment) -> f64 {
    moment.0.as_secs_f64()
}

#[allow(clippy::cast_precision_loss, reason = "small counts")]
fn places_f64(n: usize) -> f64 {
    n as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Moment {
        Moment(Duration::from_millis(ms))
    }

    /// Sends `calls` at their slots, each answered `trip` later.
    fn drive(pace: &mut Pace, calls: std::ops::Range<u64>, trip: Duration) -> Vec<Moment> {
        calls
            .map(|call| {
                let left = pace.next_slot();
                pace.on(PaceEvent::Left { call, at: left });
                let answered = PaceEvent::Answered { call, at: left + trip, told: Told::Within };
                pace.on(answered);
                left
            })
            .collect()
    }

    #[test]
    fn the_gap_counts_from_the_actual_departure_and_is_never_below_the_spacing() {
        let mut pace = Pace::new(5.0, None);
        assert_eq!(pace.next_slot(), Moment::default());
        let late = at(330);
        pace.on(PaceEvent::Left { call: 1, at: late });
        assert!(pace.next_slot() >= late + Duration::from_millis(200));
        pace.on(PaceEvent::NotBefore(at(2_000)));
        assert_eq!(pace.next_slot(), at(2_000));
    }

    #[test]
    fn a_place_is_free_a_second_after_its_answer_whatever_margin_is_believed_in() {
        let mut pace = Pace::new(5.0, None);
        let left = drive(&mut pace, 0..5, Duration::from_millis(3));
        assert!(pace.window_margin_s > 0.003, "{}", pace.window_margin_s);
        pace.spaced_margin_s = 0.0;
        let free = left[0] + Duration::from_millis(1_003);
        assert_eq!(pace.next_slot(), free.max(left[4] + pace.spacing));
    }

    #[test]
    fn until_distance_is_known_to_be_wanted_one_call_in_fifty_keeps_none() {
        let mut pace = Pace::new(5.0, None);
        drive(&mut pace, 0..150, Duration::from_millis(3));
        assert!(pace.spaced_margin_s > 0.0, "not known yet");
        let last = pace.back(1).expect("150 left").left;
        assert_eq!(pace.next_slot(), last + pace.spacing);
        drive(&mut pace, 150..151, Duration::from_millis(3));
        assert!(pace.next_slot() > pace.back(1).expect("left").left + pace.spacing);
    }

    #[test]
    fn an_even_network_soon_uses_almost_all_of_the_limit() {
        let mut pace = Pace::new(5.0, None);
        let left = drive(&mut pace, 0..1_000, Duration::from_millis(80));
        let took = left[999].since(left[500]);
        assert!(took < Duration::from_millis(499 * 201), "{took:?}");
        assert!(left.windows(2).all(|two| two[1].since(two[0]) >= Duration::from_millis(200)));
    }

    #[test]
    fn in_flight_follows_rate_and_latency() {
        let mut pace = Pace::new(5.0, None);
        drive(&mut pace, 0..100, Duration::from_millis(50));
        assert_eq!(pace.in_flight_max(), 8 + 4);
        drive(&mut pace, 100..200, Duration::from_secs(2));
        assert_eq!(pace.in_flight_max(), 15 + 4);
    }

    #[test]
    fn what_was_learned_is_where_the_next_run_begins() {
        let mut pace = Pace::new(5.0, None);
        assert_eq!(pace.learned(), None);
        drive(&mut pace, 0..1_000, Duration::from_millis(80));
        let learned = pace.learned().expect("learned");
        assert!(learned.rate > 4.95, "{learned:?}");
        assert!(Pace::new(5.0, Some(&learned)).rate() > 4.8);
        assert!(Pace::new(5.0, None).rate() < 4.5);
    }

    #[test]
    fn a_rate_below_or_far_above_the_limit_keeps_its_own_spacing() {
        for rate in [0.3, 2.5, 1_000.0] {
            let mut pace = Pace::new(rate, None);
            let left = drive(&mut pace, 0..3_000, Duration::from_millis(1));
            let spacing = Duration::from_secs_f64(1.0 / rate);
            assert!(left.windows(2).all(|two| two[1].since(two[0]) >= spacing), "{rate}");
            let took = left[2_999].since(left[2_000]);
            assert!(took <= spacing.mul_f64(999.0 * 1.05), "{rate}: {took:?}");
        }
    }
}
