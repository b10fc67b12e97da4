//! The real runner on the real queue, with a service that the test plays, on a clock that advances to
//! the next event.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use deskbatch::desk::{ReadRequest, Response, SetStatusRequest, Signer, Transport};
use deskbatch::domain::clock::{Clock as _, ManualClock, Moment};
use deskbatch::domain::job::{App, Library, NewJob, QuestionId, TargetStatus};
use deskbatch::domain::verdict::ResponseKind;
use deskbatch::queue::{
    BatchId, ImportTotals, Imported, Queue, QueueCounts, QueueError, Record, RecordFilter,
    SameManifest,
};
use deskbatch::runner::{Events, RunReport, Runner, RunnerSettings, Shutdown, shutdown};
use futures_util::{FutureExt as _, TryStreamExt as _};

use crate::support::approvals::approve_deletes;
use crate::support::place::{Place, question};

pub const APP: App = App { sdkappid: 1_400_000_000, library: Library::Chitchat };
pub const START_MS: i64 = 1_790_000_000_000;
pub const OK: ResponseKind = ResponseKind::Code(0);

/// A request when it was sent.
#[derive(Debug, Clone)]
pub struct Sent {
    pub at: Moment,
    pub status: TargetStatus,
    /// The last parts of the ids.
    pub ids: Vec<String>,
}

type Play = Box<dyn FnMut(&Sent) -> ResponseKind + Send>;

/// The service: responds first by script, then by rule.
#[derive(Clone)]
pub struct Service {
    shared: Arc<Mutex<Shared>>,
    clock: ManualClock,
    latency: Duration,
    /// After the first request, each response waits until this many requests are in flight.
    together: Option<Arc<tokio::sync::Barrier>>,
    silent: bool,
    /// The response to a read.
    read_answer: ResponseKind,
}

struct Shared {
    in_flight: usize,
    most_in_flight: usize,
    script: VecDeque<ResponseKind>,
    play: Option<Play>,
    sent: Vec<Sent>,
}

impl Service {
    pub fn new(clock: &ManualClock) -> Self {
        let shared = Shared {
            in_flight: 0,
            most_in_flight: 0,
            script: VecDeque::new(),
            play: None,
            sent: Vec::new(),
        };
        Self {
            shared: Arc::new(Mutex::new(shared)),
            clock: clock.clone(),
            latency: Duration::ZERO,
            together: None,
            silent: false,
            read_answer: OK,
        }
    }

    /// Responds with these first. Unused ones at the end fail the test.
    pub fn script(self, answers: impl IntoIterator<Item = ResponseKind>) -> Self {
        self.shared.lock().unwrap().script.extend(answers);
        self
    }

    /// Responds by this rule after the script. Without it, an unexpected request fails the test.
    pub fn play(self, play: impl FnMut(&Sent) -> ResponseKind + Send + 'static) -> Self {
        self.shared.lock().unwrap().play = Some(Box::new(play));
        self
    }

    pub fn latency(mut self, latency: Duration) -> Self {
        self.latency = latency;
        self
    }

    /// Accepts requests and never responds.
    pub fn silent(mut self) -> Self {
        self.silent = true;
        self
    }

    /// Responds to reads with this; by default the app is alive.
    pub fn reads(mut self, answer: ResponseKind) -> Self {
        self.read_answer = answer;
        self
    }

    pub fn answers_together(mut self, count: usize) -> Self {
        self.together = Some(Arc::new(tokio::sync::Barrier::new(count)));
        self
    }

    pub fn most_in_flight(&self) -> usize {
        self.shared.lock().unwrap().most_in_flight
    }

    pub fn sent(&self) -> Vec<Sent> {
        self.shared.lock().unwrap().sent.clone()
    }

    /// Checks the invariants of every run: the spacing, the rate limit, and that the script is used up.
    pub fn check(&self) {
        let shared = self.shared.lock().unwrap();
        assert!(shared.script.is_empty(), "never asked for: {:?}", shared.script);
        let times: Vec<Moment> = shared.sent.iter().map(|sent| sent.at).collect();
        for two in times.windows(2) {
            assert!(two[1].since(two[0]) >= Duration::from_millis(200), "{two:?}");
        }
        for six in times.windows(6) {
            assert!(six[5].since(six[0]) >= Duration::from_secs(1), "{six:?}");
        }
    }
}

impl Transport for Service {
    async fn send(&self, call: &SetStatusRequest) -> Response {
        let ids = call.ids.iter().map(|id| id.as_str().rsplit('-').next().unwrap().to_owned());
        let sent = Sent { at: self.clock.now(), status: call.status, ids: ids.collect() };
        let answer = {
            let mut shared = self.shared.lock().unwrap();
            shared.in_flight += 1;
            shared.most_in_flight = shared.most_in_flight.max(shared.in_flight);
            shared.sent.push(sent.clone());
            let scripted = shared.script.pop_front();
            scripted.unwrap_or_else(|| match &mut shared.play {
                Some(play) => play(&sent),
                None => panic!("unexpected: {sent:?}"),
            })
        };
        if self.silent {
            std::future::pending::<()>().await;
        }
        if !self.latency.is_zero() {
            self.clock.sleep_until(self.clock.now() + self.latency).await;
        }
        if let Some(barrier) = self.together.as_ref().filter(|_| self.sent().len() > 1) {
            barrier.wait().await;
        }
        self.shared.lock().unwrap().in_flight -= 1;
        let http_status = match answer {
            ResponseKind::HttpStatus(status) => Some(status),
            ResponseKind::Code(_) | ResponseKind::NamesQuestions | ResponseKind::Unreadable => {
                Some(200)
            }
            _ => None,
        };
        Response {
            kind: answer,
            info: "as the service says".to_owned(),
            http_status,
            retry_after: None,
        }
    }

    async fn read(&self, _call: &ReadRequest) -> Response {
        let answer = self.read_answer;
        Response {
            kind: answer,
            info: "as the service says".to_owned(),
            http_status: Some(200),
            retry_after: None,
        }
    }
}

/// A queue and the environment of its runs.
pub struct TestQueue {
    _place: Place,
    pub queue: Queue,
    pub clock: ManualClock,
    pub settings: RunnerSettings,
    imports: Mutex<u32>,
    /// Whether the pending deletes are approved when a run begins.
    pub approves: bool,
    /// While this is set, the clock does not advance, because the test has to act first.
    pub time_stands: AtomicBool,
}

impl TestQueue {
    pub async fn new() -> Self {
        let place = Place::new();
        let queue = Queue::open(&place.path("queue.db")).await.unwrap();
        let settings = RunnerSettings {
            app: APP,
            approved: None,
            chunk_jobs_max: 10,
            in_flight_max: 4,
            rate: 5.0,
            attempts_max: 3,
            outage_max: Duration::from_mins(10),
            rejections_max: 8,
            failures_max: None,
            grace: Duration::from_secs(10),
            seed: 7,
        };
        let clock = ManualClock::new(START_MS);
        Self {
            _place: place,
            queue,
            clock,
            settings,
            time_stands: AtomicBool::new(false),
            imports: Mutex::new(0),
            approves: true,
        }
    }

    /// Imports jobs by the last parts of their ids.
    pub async fn import(&self, status: TargetStatus, names: &[&str]) -> BatchId {
        self.import_for(APP, status, names).await
    }

    pub async fn import_for(&self, app: App, status: TargetStatus, names: &[&str]) -> BatchId {
        let number = {
            let mut imports = self.imports.lock().unwrap();
            *imports += 1;
            *imports
        };
        let mut import = self.queue.begin_import(app, self.clock.wall_ms()).await.unwrap();
        for (name, line) in names.iter().zip(2..) {
            import.add(new_job(name, status, line)).await.unwrap();
        }
        let totals = totals(&format!("{number:064}"), names.len() as u64);
        import.preview(&totals.digest, SameManifest::Again).await.unwrap();
        match import.commit(&totals).await.unwrap() {
            Imported::New { batch, .. } => batch,
            known @ Imported::Known { .. } => panic!("{known:?}"),
        }
    }

    pub fn signer() -> Signer {
        Signer::with_key("administrator", APP.sdkappid, "key".into(), 86_400)
    }

    /// Runs until the end. The clock advances whenever all tasks wait.
    pub async fn run(&self, service: &Service) -> RunReport {
        let (_stopper, shutdown) = shutdown();
        self.run_with(service, Self::signer(), shutdown, Events::new()).await.unwrap()
    }

    pub async fn run_with(
        &self,
        service: &Service,
        signer: Signer,
        shutdown: Shutdown,
        events: Events,
    ) -> Result<RunReport, QueueError> {
        let mut settings = self.settings.clone();
        let now_ms = self.clock.wall_ms();
        let lease = self.queue.acquire(settings.app, now_ms).await.unwrap();
        if self.approves {
            settings.approved = Some(approve_deletes(&self.queue, &lease, now_ms).await);
        }
        let runner = Runner::new(
            self.clock.clone(),
            self.queue.clone(),
            service.clone(),
            signer,
            settings,
            events,
        );
        let driver = async {
            loop {
                self.clock.next_sleeper().await;
                // Requests that were just sent must arrive before time advances.
                for _ in 0..4 {
                    tokio::task::yield_now().await;
                }
                while self.time_stands.load(Ordering::Relaxed) {
                    tokio::task::yield_now().await;
                }
                // A sleep that has already ended must not advance the clock.
                if let Some(next) = self.clock.next_sleeper().now_or_never() {
                    self.clock.advance(next.since(self.clock.now()));
                }
            }
        };
        let report = tokio::select! {
            biased;
            report = runner.run(&lease, shutdown) => report,
            () = driver => unreachable!("the driver never ends"),
        };
        service.check();
        report
    }

    pub async fn counts(&self) -> QueueCounts {
        self.queue.status().await.unwrap().counts
    }

    pub async fn records(&self) -> Vec<Record> {
        self.queue.records(RecordFilter::default()).try_collect().await.unwrap()
    }

    /// The latest record of a question.
    pub async fn record(&self, name: &str) -> Record {
        let id = question(name);
        self.records().await.into_iter().rev().find(|record| record.question_id == id).unwrap()
    }
}

pub fn new_job(name: &str, status: TargetStatus, line: u64) -> NewJob {
    NewJob { question_id: QuestionId::parse(question(name).as_bytes()).unwrap(), status, line }
}

pub fn totals(digest: &str, jobs: u64) -> ImportTotals {
    ImportTotals {
        name: "batch".to_owned(),
        source: "jobs.csv".to_owned(),
        digest: digest.to_owned(),
        rows: jobs,
        duplicates: 0,
        rejected: 0,
    }
}

/// Distinct names: `a1` to `aN`.
pub fn names(letter: &str, count: usize) -> Vec<String> {
    (1..=count).map(|n| format!("{letter}{n}")).collect()
}

pub fn strs(names: &[String]) -> Vec<&str> {
    names.iter().map(String::as_str).collect()
}
