//! The service behind a faulty network in virtual time: the faults that a request meets, and the
//! sandbox's pure decision when it arrives.
//!
//! Everything is drawn from one seed. A request whose sender has crashed may still arrive, as packets
//! do. Every departure is checked against the rate limit, across all runs.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use deskbatch::desk::{ReadRequest, Response, SetStatusRequest, Transport};
use deskbatch::domain::clock::{Clock as _, ManualClock, Moment};
use deskbatch::domain::job::{Library, QuestionId};
use deskbatch::domain::verdict::ResponseKind;
use deskbatch::sandbox::{
    ApiRequest, ApiResponse, Fault, SANDBOX_IDENTIFIER, SandboxSettings, Service, Window,
};
use fastrand::Rng;
use secrecy::ExposeSecret as _;
use serde_json::json;

/// How long a client waits for a response.
const TIMEOUT: Duration = Duration::from_secs(10);
/// No fault begins later.
pub const CALM_AFTER: Duration = Duration::from_hours(48);
const LIMIT: usize = 5;

/// Why no request succeeds for a while.
#[derive(Debug, Clone, Copy)]
enum Outage {
    /// No connection.
    Down,
    /// A proxy in front of the service responds in its place.
    BadGateway,
    /// No response comes, but the request may be applied.
    Hangs,
    /// Too fast, whatever the rate: another program uses the app.
    TooFast,
    /// The app's resource has lapsed: -50003 to every request, reads too.
    Lapsed,
}

/// The faults of a seed.
#[derive(Debug)]
struct Weather {
    /// The maximum of each way and of the service's own latency, in milliseconds.
    way_ms: u64,
    response_ms: u64,
    /// Requests in 1,000 that meet a fault during a faulty period.
    faults: u64,
    /// Requests in 1,000 with several questions that are rejected wrongly, applied or not. No question
    /// meets that twice.
    wrong_rejections: u64,
    /// The service fails on each question whose number has this remainder.
    poison: Option<usize>,
    outages: Vec<(Moment, Moment, Outage)>,
}

/// The modulus for poison questions.
const POISON: usize = 23;

const FAULTS: [Fault; 8] = [
    Fault::Throttle,
    Fault::BadGateway,
    Fault::CutBefore,
    Fault::CutAfter,
    Fault::Late,
    Fault::Truncated,
    Fault::Garbage,
    Fault::Internal,
];

impl Weather {
    fn new(random: &mut Rng) -> Self {
        let outages = (0..random.u32(0..6))
            .map(|_| {
                let from = Moment(CALM_AFTER.mul_f64(random.f64() * random.f64()));
                // Seconds, minutes or hours.
                let longest = *random.choice(&[30, 900, 4 * 3_600]).unwrap_or(&30);
                let lasts = Duration::from_millis(random.u64(500..=longest * 1_000));
                let kinds = [
                    Outage::Down,
                    Outage::BadGateway,
                    Outage::Hangs,
                    Outage::TooFast,
                    Outage::Lapsed,
                ];
                (from, from + lasts, *random.choice(&kinds).unwrap_or(&Outage::Down))
            })
            .collect();
        Self {
            way_ms: *random.choice(&[0, 10, 100, 600]).unwrap_or(&0),
            response_ms: *random.choice(&[5, 100, 900, 3_000]).unwrap_or(&5),
            faults: *random.choice(&[0, 0, 20, 100, 400]).unwrap_or(&0),
            wrong_rejections: *random.choice(&[0, 0, 20, 100]).unwrap_or(&0),
            poison: random.choice(&[None, None, Some(5)]).copied().flatten(),
            outages,
        }
    }

    fn is_poison(&self, question: &str) -> bool {
        let digits = question
            .trim_start_matches(|c: char| c != '-')
            .trim_start_matches(|c: char| !c.is_ascii_digit());
        digits.parse::<usize>().is_ok_and(|number| self.poison == Some(number % POISON))
    }

    fn outage(&self, now: Moment) -> Option<Outage> {
        let over = |(from, to, _): &&(Moment, Moment, Outage)| (*from..*to).contains(&now);
        self.outages.iter().find(over).map(|(.., outage)| *outage)
    }

    fn fault(&self, now: Moment, random: &mut Rng) -> Option<Fault> {
        let strikes = now.0 < CALM_AFTER && random.u64(0..1_000) < self.faults;
        if strikes { random.choice(&FAULTS).copied() } else { None }
    }
}

/// A service that varies with the seed wherever the contract is ambiguous.
fn service(random: &mut Rng) -> Service {
    Service::new(SandboxSettings {
        window: random.choice([Window::Sliding, Window::Fixed]).unwrap_or(Window::Sliding),
        count_throttled: random.bool(),
        repeated_delete_ok: random.bool(),
        max_ids: *random.choice(&[0, 0, 0, 1, 7, 30]).unwrap_or(&0),
        too_many_code: *random.choice(&[70_206, -7]).unwrap_or(&-7),
        extra_fields: random.bool(),
        ..SandboxSettings::default()
    })
}

/// The service of all runs in a simulation; clones share one world.
#[derive(Clone)]
pub struct World {
    clock: ManualClock,
    /// The service's own wall clock at moment zero. It never jumps.
    began_ms: i64,
    inner: Arc<Mutex<Inner>>,
}

struct Inner {
    random: Rng,
    service: Service,
    weather: Weather,
    /// Departures of about the last second.
    departures: VecDeque<Moment>,
    returned: usize,
    /// Questions that were rejected wrongly.
    wronged: BTreeSet<String>,
}

impl World {
    pub fn new(clock: ManualClock, random: &mut Rng) -> Self {
        let inner = Inner {
            service: service(random),
            weather: Weather::new(random),
            random: random.fork(),
            departures: VecDeque::new(),
            returned: 0,
            wronged: BTreeSet::new(),
        };
        let began_ms = clock.wall_ms();
        Self { clock, began_ms, inner: Arc::new(Mutex::new(inner)) }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }

    /// The number of responses of any kind since the last call with `reset`.
    pub fn returned(&self, reset: bool) -> usize {
        let mut inner = self.inner();
        if reset {
            inner.returned = 0;
        }
        inner.returned
    }

    /// The correct wall clock.
    pub fn true_wall_ms(&self) -> i64 {
        self.began_ms + i64::try_from(self.clock.now().0.as_millis()).unwrap()
    }

    /// The service's status number of a question, if it was ever set.
    pub fn status_of(&self, question: &str) -> Option<String> {
        self.inner().service.question(question).map(|question| question.status.to_string())
    }

    /// Whether a request with this question never gets a usable response.
    pub fn is_poison(&self, question: &str) -> bool {
        self.inner().weather.is_poison(question)
    }

    /// The number of requests that the service received.
    pub fn requests(&self) -> u64 {
        self.inner().service.ledger(0).total
    }

    fn depart(&self, call: &SetStatusRequest) -> Trip<'_> {
        let now = self.clock.now();
        let mut inner = self.inner();
        while inner.departures.front().is_some_and(|at| now.since(*at) >= Duration::from_secs(1)) {
            inner.departures.pop_front();
        }
        assert!(inner.departures.len() < LIMIT, "more than {LIMIT} requests in a second");
        inner.departures.push_back(now);
        let (way_ms, response_ms) = (inner.weather.way_ms, inner.weather.response_ms);
        let (way, response) = (inner.random.u64(0..=way_ms), inner.random.u64(1..=response_ms));
        let fault = inner.fault(call, now);
        Trip {
            world: self,
            call: call.clone(),
            fault,
            arrives: now + Duration::from_millis(way),
            response: Duration::from_millis(response),
            gives_up: now + TIMEOUT,
            arrived: false,
        }
    }

    fn carry_out(&self, call: &SetStatusRequest, fault: Option<Fault>) -> ApiResponse {
        let command = match call.app.library {
            Library::Chitchat => "batch_set_chitchat",
            Library::Faq => "batch_set_faq",
        };
        let query = format!(
            "sdkappid={}&identifier={SANDBOX_IDENTIFIER}&usersig={}&random=7&contenttype=json",
            call.app.sdkappid,
            call.usersig.expose_secret()
        );
        let body = json!({ "StandardQuestionIds": call.ids, "Status": call.status.code() });
        let (path, body) = (format!("/v4/openim_console_http_svc/{command}"), body.to_string());
        let request = ApiRequest { path: &path, query: &query, body: body.as_bytes() };
        let (now, wall_ms) = (self.clock.now(), self.true_wall_ms());
        self.inner().service.call(request, fault, now, wall_ms)
    }

    fn look(&self, call: &ReadRequest) -> ApiResponse {
        let query = format!(
            "sdkappid={}&identifier={SANDBOX_IDENTIFIER}&usersig={}&random=7&contenttype=json",
            call.app.sdkappid,
            call.usersig.expose_secret()
        );
        let path = "/v4/openim_console_http_svc/list_chitchat";
        let body = json!({ "PageIndex": 1, "PageSize": 1 }).to_string();
        let request = ApiRequest { path, query: &query, body: body.as_bytes() };
        let (now, wall_ms) = (self.clock.now(), self.true_wall_ms());
        self.inner().service.call(request, None, now, wall_ms)
    }
}

/// A request in transit.
struct Trip<'a> {
    world: &'a World,
    call: SetStatusRequest,
    fault: Option<Fault>,
    arrives: Moment,
    response: Duration,
    gives_up: Moment,
    arrived: bool,
}

impl Trip<'_> {
    /// The response and its time.
    fn arrive(&mut self) -> (Response, Moment) {
        self.arrived = true;
        let now = self.world.clock.now();
        let outage = self.world.inner().weather.outage(now);
        let back = now + self.response;
        match outage {
            Some(Outage::Down) => (without_status(ResponseKind::NotConnected), now),
            Some(Outage::BadGateway) => (with_status(502), back),
            Some(Outage::Hangs) => {
                if self.world.inner().random.bool() {
                    self.world.carry_out(&self.call, None);
                }
                (without_status(ResponseKind::NoResponse), self.gives_up)
            }
            Some(Outage::TooFast) => self.responded(Some(Fault::Throttle), back),
            Some(Outage::Lapsed) => (of_code(-50_003), back),
            None => self.responded(self.fault, back),
        }
    }

    fn responded(&self, fault: Option<Fault>, back: Moment) -> (Response, Moment) {
        let reply = self.world.carry_out(&self.call, fault);
        let back = back + reply.hold;
        if back > self.gives_up {
            return (without_status(ResponseKind::NoResponse), self.gives_up);
        }
        (read(&reply), back)
    }
}

impl Drop for Trip<'_> {
    fn drop(&mut self) {
        if !self.arrived && self.world.inner().random.bool() {
            self.world.carry_out(&self.call, self.fault);
        }
    }
}

impl Transport for World {
    async fn send(&self, call: &SetStatusRequest) -> Response {
        let mut trip = self.depart(call);
        self.clock.sleep_until(trip.arrives).await;
        let (reply, back) = trip.arrive();
        self.clock.sleep_until(back).await;
        self.inner().returned += 1;
        reply
    }

    async fn read(&self, call: &ReadRequest) -> Response {
        let now = self.clock.now();
        let outage = self.inner().weather.outage(now);
        match outage {
            Some(Outage::Down) => without_status(ResponseKind::NotConnected),
            Some(Outage::BadGateway) => with_status(502),
            Some(Outage::Hangs) => {
                self.clock.sleep_until(now + TIMEOUT).await;
                without_status(ResponseKind::NoResponse)
            }
            Some(Outage::TooFast) => of_code(-14),
            Some(Outage::Lapsed) => of_code(-50_003),
            None => read(&self.look(call)),
        }
    }
}

impl Inner {
    /// The fault that a request meets.
    fn fault(&mut self, call: &SetStatusRequest, now: Moment) -> Option<Fault> {
        let Self { weather, random, wronged, .. } = self;
        let ids: Vec<&str> = call.ids.iter().map(QuestionId::as_str).collect();
        if ids.iter().any(|id| weather.is_poison(id)) {
            return Some(Fault::BadGateway);
        }
        let fault = weather.fault(now, random);
        let may_be_wronged = ids.len() > 1 && ids.iter().all(|id| !wronged.contains(*id));
        if fault.is_none() && may_be_wronged && random.u64(0..1_000) < weather.wrong_rejections {
            wronged.extend(ids.iter().map(|id| (*id).to_owned()));
            let kinds = [Fault::Rejected, Fault::RejectedApplied];
            return random.choice(&kinds).copied();
        }
        fault
    }
}

fn of_code(code: i64) -> Response {
    Response {
        kind: ResponseKind::Code(code),
        info: String::new(),
        http_status: Some(200),
        retry_after: None,
    }
}

fn without_status(response: ResponseKind) -> Response {
    Response {
        kind: response,
        info: "nothing came back".to_owned(),
        http_status: None,
        retry_after: None,
    }
}

fn with_status(status: u16) -> Response {
    let info = format!("HTTP status {status}");
    Response {
        kind: ResponseKind::HttpStatus(status),
        info,
        http_status: Some(status),
        retry_after: None,
    }
}

/// Converts a reply like the client's own parser, which has separate tests.
fn read(reply: &ApiResponse) -> Response {
    match reply.http {
        None => without_status(ResponseKind::NoResponse),
        Some(200) => {
            let json: Option<serde_json::Value> = serde_json::from_str(&reply.body).ok();
            let code = json.as_ref().and_then(|json| json["ErrorCode"].as_i64());
            let info = json.as_ref().and_then(|json| json["ErrorInfo"].as_str()).unwrap_or("");
            let response = code.map_or(ResponseKind::Unreadable, ResponseKind::Code);
            Response {
                kind: response,
                info: info.to_owned(),
                http_status: Some(200),
                retry_after: None,
            }
        }
        Some(status) => with_status(status),
    }
}
