//! A scripted service, and a fixture that runs the real runner against it with the real queue. Only the
//! fixture advances the time, and only when all tasks wait.
//!
//! Every request is checked on arrival: at least 200 ms after the one before it, at most five in any
//! second, and never more in flight than allowed. The order and figures of every run's events are
//! checked.

#![allow(dead_code, reason = "each test takes what it needs")]

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use deskbatch::desk::{ReadRequest, Response, SetStatusRequest, Signer, Transport};
use deskbatch::domain::clock::{Clock as _, ManualClock, Moment};
use deskbatch::domain::job::TargetStatus;
use deskbatch::domain::verdict::ResponseKind;
use deskbatch::queue::QueueError;
use deskbatch::runner::{Event, Events, RunReport, Runner, RunnerSettings, Shutdown, shutdown};
use futures_util::FutureExt as _;
use secrecy::ExposeSecret as _;
use tokio::sync::{Semaphore, watch};
use tokio::task::yield_now;

use crate::support::approvals::approve_deletes;
use crate::support::events::check_events;
use crate::support::queue::{APP, NOW_MS, TestQueue};

/// How the service responds to one request.
#[derive(Debug, Clone)]
pub enum Step {
    /// Immediately.
    Say(Response),
    /// After a delay. Only for runs of one request at a time: with more, the clock cannot distinguish a
    /// runner that waits for its response from one that waits for its queue.
    After(Duration, Response),
    /// When the test releases it.
    Hold(Response),
}

impl From<Response> for Step {
    fn from(reply: Response) -> Self {
        Self::Say(reply)
    }
}

fn reply(response: ResponseKind, info: &str, http_status: Option<u16>) -> Response {
    Response { kind: response, info: info.to_owned(), http_status, retry_after: None }
}

/// A valid response with this code; 0 is success.
pub fn code(code: i64) -> Response {
    let info = if code == 0 { String::new() } else { format!("text of {code}") };
    reply(ResponseKind::Code(code), &info, Some(200))
}

pub fn ok() -> Response {
    code(0)
}

pub fn http(status: u16) -> Response {
    reply(ResponseKind::HttpStatus(status), "page", Some(status))
}

/// Sent, perhaps, and without a response.
pub fn lost() -> Response {
    reply(ResponseKind::NoResponse, "no answer", None)
}

/// Never sent.
pub fn unreachable() -> Response {
    reply(ResponseKind::NotConnected, "no connection", None)
}

/// Rejects a request that has a question whose id begins with `bad`.
pub fn refuse_bad(seen: &Seen) -> Response {
    code(if seen.ids.iter().any(|id| id.starts_with("bad")) { -50_003 } else { 0 })
}

/// A request as the service saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    pub at: Moment,
    pub status: TargetStatus,
    pub ids: Vec<String>,
    pub usersig: String,
}

type Rule = Box<dyn FnMut(&Seen) -> Step + Send>;
type ReadRule = Box<dyn FnMut(Moment) -> Response + Send>;

#[derive(Default)]
struct Desk {
    script: VecDeque<Step>,
    rule: Option<Rule>,
    read_rule: Option<ReadRule>,
    reads: Vec<Moment>,
    seen: Vec<Seen>,
    in_flight: usize,
    in_flight_most: usize,
}

/// The test double; its clones share one service.
#[derive(Clone)]
pub struct Service {
    clock: ManualClock,
    desk: Arc<Mutex<Desk>>,
    arrived: Arc<watch::Sender<usize>>,
    let_go: Arc<Semaphore>,
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Service")
    }
}

impl Service {
    fn new(clock: ManualClock) -> Self {
        Self {
            clock,
            desk: Arc::default(),
            arrived: Arc::new(watch::Sender::new(0)),
            let_go: Arc::new(Semaphore::new(0)),
        }
    }

    /// Responds to the next requests with these steps. An unused step fails the test.
    pub fn responds_with(&self, steps: impl IntoIterator<Item = impl Into<Step>>) {
        self.desk.lock().unwrap().script.extend(steps.into_iter().map(Into::into));
    }

    /// Responds to every request after the script by this rule.
    pub fn responds_by<S: Into<Step>>(&self, mut rule: impl FnMut(&Seen) -> S + Send + 'static) {
        self.desk.lock().unwrap().rule = Some(Box::new(move |seen| rule(seen).into()));
    }

    /// Responds to reads by this rule; by default the app is alive.
    pub fn reads_by(&self, rule: impl FnMut(Moment) -> Response + Send + 'static) {
        self.desk.lock().unwrap().read_rule = Some(Box::new(rule));
    }

    /// The time of each read.
    pub fn reads(&self) -> Vec<Moment> {
        self.desk.lock().unwrap().reads.clone()
    }

    /// Accepts all requests except those that contain one of these questions. They are rejected with
    /// the code of the first one.
    pub fn refuses(&self, bad: &[(&str, i64)]) {
        let bad: BTreeMap<String, i64> =
            bad.iter().map(|(id, code)| ((*id).to_owned(), *code)).collect();
        self.responds_by(move |seen| {
            code(seen.ids.iter().find_map(|id| bad.get(id)).copied().unwrap_or(0))
        });
    }

    /// Releases `count` held responses, oldest first.
    pub fn let_go(&self, count: usize) {
        self.let_go.add_permits(count);
    }

    /// Returns once `count` requests have arrived in total.
    pub async fn arrived(&self, count: usize) {
        self.arrived.subscribe().wait_for(|arrived| *arrived >= count).await.unwrap();
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.desk.lock().unwrap().seen.clone()
    }

    /// The questions of each request.
    pub fn chunks(&self) -> Vec<Vec<String>> {
        self.seen().into_iter().map(|seen| seen.ids).collect()
    }

    pub fn in_flight_most(&self) -> usize {
        self.desk.lock().unwrap().in_flight_most
    }

    fn take(&self, call: &SetStatusRequest) -> Step {
        let mut desk = self.desk.lock().unwrap();
        assert_eq!(call.app, APP);
        let at = self.clock.now();
        let since = |seen: &Seen| at.since(seen.at);
        if let Some(last) = desk.seen.last() {
            assert!(since(last) >= Duration::from_millis(200), "{:?} after the last", since(last));
        }
        let in_second =
            desk.seen.iter().rev().take_while(|seen| since(seen) < Duration::from_secs(1));
        assert!(in_second.count() < 5, "more than five in a second");
        let ids: Vec<String> = call.ids.iter().map(ToString::to_string).collect();
        let distinct: BTreeSet<&String> = ids.iter().collect();
        assert!(!ids.is_empty() && distinct.len() == ids.len(), "{ids:?}");
        let usersig = call.usersig.expose_secret().to_owned();
        let seen = Seen { at, status: call.status, ids, usersig };
        let rule = desk.rule.take();
        let step = match (desk.script.pop_front(), rule) {
            (Some(step), rule) => {
                desk.rule = rule;
                step
            }
            (None, Some(mut rule)) => {
                let step = rule(&seen);
                desk.rule = Some(rule);
                step
            }
            (None, None) => panic!("nobody expected {seen:?}"),
        };
        desk.seen.push(seen);
        desk.in_flight += 1;
        desk.in_flight_most = desk.in_flight_most.max(desk.in_flight);
        step
    }
}

/// A request in flight, however it ends.
struct OnItsWay<'a>(&'a Service);

impl Drop for OnItsWay<'_> {
    fn drop(&mut self) {
        self.0.desk.lock().unwrap().in_flight -= 1;
    }
}

impl Transport for Service {
    async fn send(&self, call: &SetStatusRequest) -> Response {
        let step = self.take(call);
        let _way = OnItsWay(self);
        self.arrived.send_modify(|arrived| *arrived += 1);
        match step {
            Step::Say(reply) => reply,
            Step::After(wait, reply) => {
                self.clock.sleep_until(self.clock.now() + wait).await;
                reply
            }
            Step::Hold(reply) => {
                self.let_go.acquire().await.unwrap().forget();
                reply
            }
        }
    }

    async fn read(&self, call: &ReadRequest) -> Response {
        assert_eq!(call.app, APP);
        let mut desk = self.desk.lock().unwrap();
        let at = self.clock.now();
        if let Some(last) = desk.reads.last() {
            assert!(at.since(*last) >= Duration::from_millis(200), "two reads at once");
        }
        desk.reads.push(at);
        desk.read_rule.as_mut().map_or_else(ok, |rule| rule(at))
    }
}

/// A queue, a service, a clock, and the settings of runs.
pub struct Bench {
    pub queue: TestQueue,
    pub clock: ManualClock,
    pub service: Service,
    pub settings: RunnerSettings,
    pub ready_made: bool,
    /// Whether the pending deletes are approved when a run begins.
    pub approves: bool,
    /// The events of the last run.
    pub events: Mutex<Vec<Event>>,
}

impl Bench {
    /// A queue with `manifest` in it, and runs of one request at a time.
    pub async fn new(manifest: &str) -> Self {
        let queue = TestQueue::idle().await;
        queue.import(manifest).await;
        let clock = ManualClock::new(NOW_MS);
        let settings = RunnerSettings {
            app: APP,
            approved: None,
            chunk_jobs_max: 100,
            in_flight_max: 1,
            rate: 5.0,
            attempts_max: 3,
            outage_max: Duration::from_mins(10),
            rejections_max: 8,
            failures_max: None,
            grace: Duration::from_secs(10),
            seed: 7,
        };
        let service = Service::new(clock.clone());
        let (ready_made, approves, events) = (false, true, Mutex::default());
        Self { queue, clock, service, settings, ready_made, approves, events }
    }

    /// The same with up to four requests of ten jobs at a time.
    pub async fn with_four_in_flight(manifest: &str) -> Self {
        let mut bench = Self::new(manifest).await;
        bench.settings.chunk_jobs_max = 10;
        bench.settings.in_flight_max = 4;
        bench
    }

    /// Runs to the end.
    pub async fn run(&self) -> RunReport {
        self.run_while(async {}).await
    }

    /// Runs to the end while `meanwhile` acts.
    pub async fn run_while(&self, meanwhile: impl Future<Output = ()>) -> RunReport {
        let (_stopper, shutdown) = shutdown();
        Box::pin(self.run_with(shutdown, meanwhile)).await.unwrap()
    }

    /// A run that can be stopped or can fail.
    pub async fn run_with(
        &self,
        shutdown: Shutdown,
        meanwhile: impl Future<Output = ()>,
    ) -> Result<RunReport, QueueError> {
        let signer = if self.ready_made {
            Signer::ready_made("a-usersig".into())
        } else {
            Signer::with_key("administrator", APP.sdkappid, "a-key".into(), 86_400)
        };
        let events = Events::new();
        let mut heard = events.listen();
        let now_ms = self.clock.wall_ms();
        let lease = self.queue.reacquire(APP, now_ms).await;
        let mut open = self.queue.counts_of_app(APP).await.unwrap().open();
        if !self.approves {
            open -= self.queue.pending_deletes().await;
        }
        let mut settings = self.settings.clone();
        if self.approves {
            settings.approved = Some(approve_deletes(&self.queue, &lease, now_ms).await);
        }
        let runner = Runner::new(
            self.clock.clone(),
            self.queue.clone(),
            self.service.clone(),
            signer,
            settings,
            events,
        );
        let run = Box::pin(runner.run(&lease, shutdown));
        let ended = self.drive(run, meanwhile).await;
        let events: Vec<Event> = std::iter::from_fn(|| heard.try_recv().ok()).collect();
        check_events(&events, open, ended.as_ref().ok());
        *self.events.lock().unwrap() = events;
        {
            let desk = self.service.desk.lock().unwrap();
            assert!(desk.script.is_empty(), "nobody asked for {:?}", desk.script);
            assert!(desk.in_flight_most <= self.settings.in_flight_max, "too many in flight");
        }
        self.queue.check_invariants().await;
        ended
    }

    /// Advances the clock whenever all tasks wait.
    async fn drive<T>(
        &self,
        run: impl Future<Output = T>,
        meanwhile: impl Future<Output = ()>,
    ) -> T {
        let mut run = pin!(run);
        let mut meanwhile = pin!(meanwhile.fuse());
        let mut done = false;
        for _ in 0..200_000 {
            tokio::select! {
                biased;
                ended = &mut run => {
                    assert!(done || meanwhile.now_or_never().is_some(), "the run ended before the test did");
                    return ended;
                }
                () = &mut meanwhile, if !done => done = true,
                () = tick(&self.clock) => {}
            }
        }
        panic!("the run does not end");
    }

    pub fn happened(&self, is_it: impl Fn(&Event) -> bool) -> usize {
        self.events.lock().unwrap().iter().filter(|event| is_it(event)).count()
    }
}

/// Advances the clock to the next awaited moment, after all tasks that were woken before have run.
async fn tick(clock: &ManualClock) {
    loop {
        let first = clock.next_sleeper().await;
        for _ in 0..16 {
            yield_now().await;
        }
        if clock.next_sleeper().now_or_never() == Some(first) {
            clock.advance(first.since(clock.now()));
            return;
        }
    }
}
