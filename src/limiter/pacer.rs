//! The pacer: how far apart requests leave, learned from the responses of the service.
//!
//! Pure: takes events with their moments, returns the next slot. Two rules are certain. Requests keep the
//! spacing of the rate, whatever the pacer has learned, so no second contains more than the rate. And the
//! service counted a request before its response arrived, so a second after the response the request is
//! outside the window. A slot before that time, a second and a margin after the request was sent, is a risk;
//! the [`LimitModel`] decides how wide the margin is. A late response shows a little about the arrival: its
//! request probably arrived late too, so the next request is sent later.

use std::collections::VecDeque;
use std::time::Duration;

use super::limit_model::{CAPACITY_SHARES, Costs, LimitModel, ModelSummary, Risk, Risks};
use super::rtt::RttEstimator;
use crate::domain::clock::Moment;
use crate::domain::learned::LearnedRate;

/// The most requests in one window; a higher rate uses a shorter window.
const WINDOW_REQUESTS_MAX: usize = 64;
/// The number of older requests that are kept until their responses.
const REQUESTS_KEPT: usize = 128;
/// The cost of a push-back in addition to the round trip of the probe. The breaker stays closed for a second
/// or a little more, and part of that makes up for requests that were too close. Of the simulated values from
/// 0.7 to 1.2, this one uses the most of the limit.
const PUSH_BACK_S: f64 = 0.85;
/// For the first requests of a first run a push-back costs more, by this factor.
const CAREFUL_REQUESTS: u32 = 100;
const CAREFUL_FACTOR: f64 = 3.0;
/// After those, one request in this number keeps only the spacing, to test whether the service requires a
/// least time between two requests. Only while its probability is less than `PROBE_BELOW`.
const PROBE_EVERY: u32 = 50;
const PROBE_BELOW: f64 = 0.5;
/// The number of push-backs in the mean rate at push-backs.
const PUSH_BACKS_KEPT: usize = 5;

/// What a response shows about the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LimitSignal {
    /// The request was within the limit.
    Accepted,
    /// The request was above the limit.
    Rejected,
    /// The request may not have been counted.
    Unknown,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PacerEvent {
    Sent {
        /// The number of the request, higher than all earlier ones.
        request: u64,
        at: Moment,
    },
    Response {
        request: u64,
        at: Moment,
        limit: LimitSignal,
    },
    /// No request may leave before this moment.
    NotBefore(Moment),
}

#[derive(Debug, Clone, Copy)]
struct Request {
    number: u64,
    sent: Moment,
    responded: Option<Moment>,
    risks: Risks,
}

/// The recent requests, the limit model and the margins of one app.
#[derive(Debug, Clone)]
pub(super) struct Pacer {
    /// The least time between two requests.
    spacing: Duration,
    /// The most requests within `window`.
    window_requests: usize,
    window: Duration,
    not_before: Moment,
    requests: VecDeque<Request>,
    rtt: RttEstimator,
    model: LimitModel,
    is_first_run: bool,
    responses: u32,
    /// The margins for a request without a response.
    margins: Margins,
    /// The rates at the last push-backs.
    refused_rates: VecDeque<f64>,
}

/// The margins that follow from the limit model.
#[derive(Debug, Clone, Copy, Default)]
struct Margins {
    /// The most likely capacity share, by its index.
    capacity_share: usize,
    /// Towards the window.
    window_s: f64,
    /// Towards the last request.
    spacing_s: f64,
    /// The share of the uplink in the variance of the round trip, 0 to 1.
    outbound_share: f64,
}

impl Pacer {
    /// A pacer for a limit of `rate` requests a second, above zero. It starts with the limits that an earlier
    /// run learned.
    pub(super) fn new(rate: f64, learned: Option<&LearnedRate>) -> Self {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "1 to 64")]
        let window_requests = rate.ceil().clamp(1.0, real(WINDOW_REQUESTS_MAX)) as usize;
        let seconds = |s: f64| Duration::from_secs_f64(s).max(Duration::from_nanos(1));
        let model =
            learned.map_or_else(LimitModel::new, |rate| LimitModel::from_summary(rate.into()));
        let mut pacer = Self {
            spacing: seconds(1.0 / rate),
            window_requests,
            window: seconds(real(window_requests) / rate),
            not_before: Moment::default(),
            requests: VecDeque::new(),
            rtt: RttEstimator::default(),
            model,
            is_first_run: learned.is_none(),
            responses: 0,
            margins: Margins::default(),
            refused_rates: learned.and_then(|learned| learned.throttled_rate).into_iter().collect(),
        };
        pacer.update_margins();
        pacer
    }

    /// Records an event. A slot counts from the moment when its request was sent.
    pub(super) fn on(&mut self, event: PacerEvent) {
        match event {
            PacerEvent::NotBefore(at) => self.not_before = self.not_before.max(at),
            PacerEvent::Sent { request, at } => {
                let risks = self.risks(at);
                let request = Request { number: request, sent: at, responded: None, risks };
                self.requests.push_back(request);
                if self.requests.len() > self.window_requests + REQUESTS_KEPT {
                    self.requests.pop_front();
                }
            }
            PacerEvent::Response { limit: LimitSignal::Unknown, .. } => {}
            PacerEvent::Response { request, at, limit } => {
                self.on_response(request, at, limit == LimitSignal::Rejected);
            }
        }
    }

    /// The earliest moment for the next request.
    pub(super) fn next_slot(&self) -> Moment {
        let mut slot = self.not_before;
        if let Some(last) = self.nth_last(1) {
            slot = slot.max(last.sent + self.spacing);
            if self.margins.spacing_s > 0.0 && !self.is_spacing_probe() {
                let margin_s = self.margins.spacing_s * self.jitter_factor(last);
                slot = slot.max(self.after(last, self.spacing, margin_s));
            }
        }
        if let Some(first) = self.nth_last(self.window_requests_at(self.margins.capacity_share)) {
            let margin_s = self.margins.window_s * self.jitter_factor(first);
            let at_risk = self.after(first, self.window, margin_s);
            let certain = first.responded.map(|at| at + self.window);
            slot = slot.max(certain.map_or(at_risk, |certain| at_risk.min(certain)));
        }
        slot
    }

    /// The number of requests in flight that is enough so that latency does not lower the rate: rate times
    /// latency (Little's law), with a reserve for responses that are slower than the recent ones.
    pub(super) fn in_flight_max(&self) -> usize {
        const ROOM: usize = 4;
        const LONGER: f64 = 1.5;
        const LEAST_S: f64 = 1.0;
        let slots = LONGER * self.rtt.recent_max_s().max(LEAST_S) / self.spacing.as_secs_f64();
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "small, above 0"
        )]
        let slots = slots.ceil().min(1e6) as usize;
        slots + ROOM
    }

    /// The learned rate for the next run; `None` before any response.
    pub(super) fn learned(&self) -> Option<LearnedRate> {
        let ModelSummary { jitter_s, jitter_log_sd, min_spacing_probability } =
            self.model.summary(self.rtt.jitter_max_s());
        let push_backs = real(self.refused_rates.len());
        let refused = self.refused_rates.iter().sum::<f64>() / push_backs;
        (self.responses > 0).then(|| LearnedRate {
            rate: self.rate(),
            throttled_rate: (push_backs > 0.0).then_some(refused),
            arrival_jitter_ms: jitter_s * 1e3,
            arrival_jitter_log_sd: jitter_log_sd,
            min_spacing_probability,
        })
    }

    /// Requests a second while the breaker is open.
    pub(super) fn rate(&self) -> f64 {
        let window_s = self.window.as_secs_f64() + self.margins.window_s;
        let window = real(self.window_requests_at(self.margins.capacity_share)) / window_s;
        window.min(1.0 / (self.spacing.as_secs_f64() + self.margins.spacing_s))
    }

    fn on_response(&mut self, number: u64, at: Moment, is_push_back: bool) {
        let found = self.requests.iter().position(|request| request.number == number);
        let Some(index) = found else { return };
        self.requests[index].responded = Some(at);
        let request = self.requests[index];
        self.rtt.record(at.since(request.sent).as_secs_f64());
        if is_push_back && let Some(rate) = self.rate_at(index) {
            self.refused_rates.push_back(rate);
            if self.refused_rates.len() > PUSH_BACKS_KEPT {
                self.refused_rates.pop_front();
            }
        }
        self.model.update(&request.risks, is_push_back);
        self.responses = self.responses.saturating_add(1);
        // Without push-backs the model changes slowly, so not every response needs new margins.
        let is_careful = self.responses < CAREFUL_REQUESTS;
        if is_push_back || is_careful || self.responses.is_multiple_of(5) {
            self.update_margins();
        }
    }

    /// Whether the next request tests if the service requires a least time between two requests.
    fn is_spacing_probe(&self) -> bool {
        self.responses >= CAREFUL_REQUESTS
            && self.responses.is_multiple_of(PROBE_EVERY)
            && self.model.min_spacing_probability() < PROBE_BELOW
    }

    /// The rate at which requests left around the one at `index`.
    fn rate_at(&self, index: usize) -> Option<f64> {
        let back = if self.margins.spacing_s > 0.0 { 1 } else { self.window_requests };
        let earlier = self.requests.get(index.checked_sub(back)?)?;
        let took = self.requests[index].sent.since(earlier.sent).as_secs_f64();
        (took > 0.0).then(|| real(back) / took)
    }

    fn update_margins(&mut self) {
        let jitter_max_s = self.rtt.jitter_max_s();
        let capacity_share = self.model.capacity_share();
        let is_careful = self.is_first_run && self.responses < CAREFUL_REQUESTS;
        let factor = if is_careful { CAREFUL_FACTOR } else { 1.0 };
        let push_back_s = (PUSH_BACK_S + self.rtt.mean_s()) * factor;
        let requests = real(self.window_requests_at(capacity_share));
        let costs = Costs { margin: 1.0 / requests, push_back_s, widen: 1.0, jitter_max_s };
        let jitter_s = self.model.summary(jitter_max_s).jitter_s;
        self.margins = Margins {
            capacity_share,
            window_s: self.model.window_margin_s(capacity_share, costs),
            spacing_s: self.model.spacing_margin_s(Costs { margin: 1.0, ..costs }),
            outbound_share: self.rtt.outbound_share(jitter_s),
        };
    }

    /// The distances of a request at `now` from the earlier ones.
    fn risks(&self, now: Moment) -> Risks {
        let risk = |back: usize, room: Duration| {
            let Some(earlier) = self.nth_last(back) else { return Risk::None };
            if earlier.responded.is_some_and(|at| now >= at + room) {
                return Risk::None;
            }
            let margin_s = seconds(now) - self.arrival_s(earlier) - room.as_secs_f64();
            Risk::Margin { margin_s, widen: self.jitter_factor(earlier) }
        };
        Risks {
            window: std::array::from_fn(|share| risk(self.window_requests_at(share), self.window)),
            spacing: risk(1, self.spacing),
        }
    }

    fn after(&self, request: &Request, room: Duration, margin_s: f64) -> Moment {
        let at_s = self.arrival_s(request) + room.as_secs_f64() + margin_s;
        Moment(Duration::from_secs_f64(at_s.max(0.0)))
    }

    /// The probable arrival of a request, without the usual uplink time.
    fn arrival_s(&self, request: &Request) -> f64 {
        let late_s = request.responded.map_or(0.0, |at| {
            let rtt_s = at.since(request.sent).as_secs_f64();
            self.rtt.lateness_s(rtt_s) * self.margins.outbound_share
        });
        seconds(request.sent) + late_s
    }

    /// The jitter between the arrivals of the next request and of `request`, as a multiple of that of one
    /// arrival. It is less if the response to `request` shows something about its arrival.
    fn jitter_factor(&self, request: &Request) -> f64 {
        let known = if request.responded.is_some() { self.margins.outbound_share } else { 0.0 };
        (2.0 - known).sqrt()
    }

    fn nth_last(&self, n: usize) -> Option<&Request> {
        self.requests.get(self.requests.len().checked_sub(n)?)
    }

    /// The number of requests in a window at a capacity share, at least one.
    fn window_requests_at(&self, share: usize) -> usize {
        debug_assert!(share < CAPACITY_SHARES);
        ((self.window_requests * (5 - share) + 2) / 5).max(1)
    }
}

fn seconds(moment: Moment) -> f64 {
    moment.0.as_secs_f64()
}

#[allow(clippy::cast_precision_loss, reason = "small counts")]
fn real(n: usize) -> f64 {
    n as f64
}

#[cfg(test)]
mod tests;
