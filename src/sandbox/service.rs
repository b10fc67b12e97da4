//! The service without a network: takes a request and its time, returns a response, and records everything.
//!
//! Pure except for its own seeded generators. The server adds sockets and waiting; a simulation adds its own
//! clock. Time must not go backwards.

use std::fmt;
use std::time::Duration;

use super::call::{Command, Request};
use super::decide::{Now, decide};
use super::faults::{Fault, Faults};
use super::ledger::{Ledger, LedgerWriter};
use super::reply::{Reply, reply};
use super::settings::SandboxSettings;
use super::state::{QuestionState, ServiceState};
use crate::domain::clock::Moment;

/// A request as the client sends it, for callers without a network.
#[derive(Clone, Copy)]
pub struct ApiRequest<'a> {
    /// The path, from its first slash.
    pub path: &'a str,
    /// The query without its question mark; it contains the UserSig.
    pub query: &'a str,
    pub body: &'a [u8],
}

impl fmt::Debug for ApiRequest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiRequest").field("path", &self.path).finish_non_exhaustive()
    }
}

/// The response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiResponse {
    /// The HTTP status; `None` if the connection is cut without a byte.
    pub http: Option<u16>,
    pub body: String,
    /// The delay in addition to the usual latency.
    pub hold: Duration,
}

/// A simulated service: its state, faults and ledger.
#[derive(Debug)]
pub struct Service {
    state: ServiceState,
    faults: Faults,
    ledger_writer: LedgerWriter,
    /// Separate from the generator of the faults, so that jitter does not change which faults are drawn.
    jitters: fastrand::Rng,
}

impl Service {
    pub fn new(settings: SandboxSettings) -> Self {
        let faults = Faults::new(settings.script.clone(), settings.chances.clone(), settings.seed);
        let jitters = fastrand::Rng::with_seed(settings.seed);
        Self {
            state: ServiceState::new(settings),
            faults,
            ledger_writer: LedgerWriter::default(),
            jitters,
        }
    }

    /// Decides a POST that arrives at `now` and at `wall_ms` on the wall clock. `fault` is the fault injected
    /// into it; the probabilities of the settings do not apply.
    pub fn call(
        &mut self,
        request: ApiRequest<'_>,
        fault: Option<Fault>,
        now: Moment,
        wall_ms: i64,
    ) -> ApiResponse {
        let ApiRequest { path, query, body } = request;
        let request = Request { method: "POST", path, query, body: Some(body) };
        let reply = self.decide(&request, fault, now, Now { moment: now, wall_ms });
        ApiResponse { http: reply.http, body: reply.body, hold: reply.hold }
    }

    /// The state of a question; `None` if no request has set it.
    pub fn question(&self, id: &str) -> Option<QuestionState> {
        self.state.question(id)
    }

    /// The ledger up to now, with the latest `requests_max` requests.
    pub fn ledger(&self, requests_max: usize) -> Ledger {
        Ledger {
            largest_second: self.state.frequency.largest_second,
            largest_second_accepted: self.state.frequency.largest_second_accepted,
            ..self.ledger_writer.snapshot(requests_max)
        }
    }

    /// The number of decided requests, without reads.
    pub(super) fn total(&self) -> u64 {
        self.ledger_writer.total()
    }

    /// Decides one request, with a fault by script or by chance, and records it.
    pub(super) fn judge(&mut self, request: &Request<'_>, arrived: Moment, now: Now) -> Reply {
        // A read gets no fault: a script covers only calls that change something.
        let is_read = Command::of_path(request.path).is_some_and(Command::is_read);
        let fault = if is_read { None } else { self.faults.next() };
        self.decide(request, fault, arrived, now)
    }

    fn decide(
        &mut self,
        request: &Request<'_>,
        fault: Option<Fault>,
        arrived: Moment,
        now: Now,
    ) -> Reply {
        let decision = decide(request, &mut self.state, fault, now);
        let number = self.ledger_writer.next_number();
        let reply = reply(&decision, number, &self.state.settings);
        self.ledger_writer.record(decision, reply.http, arrived, now);
        reply
    }

    /// The delays of one request: before it is counted, and before its response leaves.
    pub(super) fn draw_delays(&mut self) -> (Duration, Duration) {
        let settings = &self.state.settings;
        let rng = &mut self.jitters;
        let mut drawn = |most: Duration| {
            Duration::from_micros(rng.u64(0..=u64::try_from(most.as_micros()).unwrap_or(u64::MAX)))
        };
        (
            settings.request_delay + drawn(settings.request_delay_jitter),
            settings.latency + drawn(settings.latency_jitter),
        )
    }
}
