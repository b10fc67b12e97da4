//! Whole migrations: a manifest whose every row has a known end, the real program as a
//! child process, the sandbox in place of the service, and one check that compares all
//! three accounts of what happened: the service's state, the queue's report, its status.

#![allow(dead_code, reason = "each test takes what it needs")]

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use deskbatch::domain::clock::{Clock, SystemClock};
use deskbatch::sandbox::{Fault, Ledger, QuestionStatus, Sandbox, SandboxSettings};
use tokio::task::JoinHandle;

use crate::support::place::{Place, data, manifest, question, said};

/// What is said of a question that is not there.
pub const NO_SUCH_QUESTION: i64 = -50_003;
/// What is said of the vendor's own question that shall be deleted.
pub const PRESET: i64 = -50_011;
/// Requests in flight at once unless a test asks for another number.
pub const IN_FLIGHT: u64 = 32;
/// A child or an event that takes longer will never come.
const PATIENCE: Duration = Duration::from_mins(2);

/// The three statuses as a manifest has them; rows take turns.
pub const ALL: &[&str] = &["enable", "disable", "delete"];
/// Those that can be set twice without a trace.
pub const REPEATABLE: &[&str] = &["enable", "disable"];

/// How a row has to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Applied, and recorded so.
    Applied,
    /// Never applied, and recorded as failed with this code.
    Refused(i64),
    /// Never applied, and recorded as succeeded: the service passed over it and said OK.
    PassedOver,
    /// Applied, and recorded as that, or as failed with this code: the service may say so.
    Disowned(i64),
}

/// A row of a manifest and its end.
#[derive(Debug, Clone)]
pub struct Row {
    pub id: String,
    pub status: &'static str,
    pub end: End,
}

/// `count` good rows whose statuses take turns.
pub fn rows(count: usize, statuses: &[&'static str]) -> Vec<Row> {
    let turns = statuses.iter().cycle();
    let row = |(n, status): (usize, &&'static str)| Row {
        id: question(&format!("q{n}")),
        status,
        end: End::Applied,
    };
    (0..count).zip(turns).map(row).collect()
}

/// Puts ids that do not exist into these rows.
pub fn lose(rows: &mut [Row], at: &[usize], end: End) {
    for &at in at {
        rows[at].id = question(&format!("missing{at}"));
        rows[at].end = end;
    }
}

/// Puts a delete of a question that stays into this row.
pub fn preset(rows: &mut [Row], at: usize) {
    rows[at] =
        Row { id: question(&format!("preset{at}")), status: "delete", end: End::Refused(PRESET) };
}

/// A sandbox without a frequency limit, so that a test takes no longer than it must.
pub fn unlimited() -> SandboxSettings {
    SandboxSettings { rate_limit: 0, ..SandboxSettings::default() }
}

/// A manifest, its queue, and the service it goes to.
pub struct Migration {
    pub place: Place,
    pub sandbox: Sandbox,
    pub rows: Vec<Row>,
    args: Vec<&'static str>,
}

/// How a child ended.
#[derive(Debug)]
pub struct Ended {
    pub code: Option<i32>,
    pub stderr: String,
}

/// What the three accounts agree on.
#[derive(Debug)]
pub struct Figures {
    /// What the sandbox saw.
    pub ledger: Ledger,
    /// Requests that the queue has a row of.
    pub requests: u64,
    /// Those whose run died before it knew the answer.
    pub orphaned: u64,
    /// Those refused as too fast.
    pub throttled: u64,
    /// Ids that some request carried whose response was lost.
    pub lost: BTreeSet<String>,
    /// Deletes found done when they were repeated.
    pub found_done: BTreeSet<String>,
}

/// A line of the report.
struct Reported {
    status: String,
    state: String,
    code: Option<i64>,
    lost: bool,
}

impl Migration {
    /// Writes the manifest and starts the service. `args` are those of every run.
    pub async fn new(settings: SandboxSettings, rows: Vec<Row>, args: &[&'static str]) -> Self {
        let sandbox = Sandbox::start(settings).await.unwrap();
        Self::toward(sandbox, rows, args)
    }

    /// The same with a service that was started already.
    pub fn toward(sandbox: Sandbox, rows: Vec<Row>, args: &[&'static str]) -> Self {
        Self::at(Place::new(), sandbox, rows, args)
    }

    /// The same in a place that was made already.
    pub fn at(place: Place, sandbox: Sandbox, rows: Vec<Row>, args: &[&'static str]) -> Self {
        place.write("jobs.csv", manifest(rows.iter().map(|row| (row.id.as_str(), row.status))));
        Self { place, sandbox, rows, args: args.to_vec() }
    }

    /// The main job, as it is begun and as it is begun again.
    pub fn command(&self) -> Command {
        let mut command = self.place.deskbatch_toward(&self.sandbox, &["run", "jobs.csv", "--yes"]);
        command.args(&self.args);
        command
    }

    /// Runs to the end.
    pub async fn run(&self) -> Ended {
        ended(self.command()).await
    }

    /// Runs until the sandbox has seen `more` requests of this run, and kills it there.
    /// Whether the run was killed; false when it came to its own end before.
    pub async fn killed_after(&self, more: u64) -> bool {
        let target = self.sandbox.ledger().total + more;
        self.killed_at(self.sandbox.seen(target)).await
    }

    /// The same at another `event`.
    pub async fn killed_at(&self, event: impl Future<Output = ()>) -> bool {
        let mut running = Running::start(self.command());
        patiently(async {
            tokio::select! {
                () = event => {}
                _ = &mut running.stderr => {}
            }
        })
        .await;
        running.child.kill().unwrap();
        let status = running.child.wait().unwrap();
        status.signal() == Some(9)
    }

    /// Runs again after a kill, to the end. A manifest whose jobs have failed is not done,
    /// whichever run saw them fail. A run that was killed early has imported nothing.
    pub async fn finish(&self) {
        let before = self.place.status();
        let count = |key: &str| before[key].as_u64().unwrap();
        let rows = self.rows.len() as u64;
        assert!([0, rows].contains(&count("total")), "{before}");
        let has_failures = self.rows.iter().any(|row| matches!(row.end, End::Refused(_)));
        let ended = self.run().await;
        assert_eq!(ended.code, Some(i32::from(has_failures)), "{}", ended.stderr);
    }

    /// Compares the service's state, the report and the status with the manifest.
    pub fn check(&self) -> Figures {
        let ledger = self.sandbox.ledger();
        let report = self.report();
        assert_eq!(report.len(), self.rows.len(), "one line a row");
        for row in &self.rows {
            self.check_row(row, &report[&row.id]);
        }
        let status = self.place.status();
        let figure = |key: &str| status[key].as_u64().unwrap();
        let failed = report.values().filter(|line| line.state == "failed").count() as u64;
        let total = self.rows.len() as u64;
        assert_eq!((figure("pending"), figure("in_flight")), (0, 0), "{status}");
        assert_eq!((figure("failed"), figure("succeeded")), (failed, total - failed), "{status}");
        assert_eq!(figure("total"), total, "{status}");
        // Every request has a row before it leaves; only a killed run's may never have left.
        let (requests, orphaned) = (figure("requests"), figure("orphaned"));
        assert!((requests - orphaned..=requests).contains(&ledger.total), "{status}");
        let ids = |which: fn(&Reported) -> bool| -> BTreeSet<String> {
            report.iter().filter(|(_, line)| which(line)).map(|(id, _)| id.clone()).collect()
        };
        let found_done = ids(|line| line.state == "succeeded" && line.code.is_some());
        assert_eq!(figure("succeeded_in_doubt"), found_done.len() as u64, "{status}");
        Figures {
            requests,
            orphaned,
            throttled: figure("throttled"),
            lost: ids(|line| line.lost),
            found_done,
            ledger,
        }
    }

    fn check_row(&self, row: &Row, line: &Reported) {
        let is = self.sandbox.question(&row.id).map(|question| question.status);
        let asked = match row.status {
            "enable" => QuestionStatus::Enabled,
            "disable" => QuestionStatus::Disabled,
            _ => QuestionStatus::Deleted,
        };
        let was_done = matches!(row.end, End::Applied | End::Disowned(_));
        assert_eq!(is, was_done.then_some(asked), "{row:?}");
        assert_eq!(line.status, row.status, "{row:?}");
        match row.end {
            End::Disowned(_) if line.state == "succeeded" => {}
            End::Applied | End::PassedOver => assert_eq!(line.state, "succeeded", "{row:?}"),
            End::Refused(code) | End::Disowned(code) => {
                assert_eq!((line.state.as_str(), line.code), ("failed", Some(code)), "{row:?}");
            }
        }
        if line.state == "succeeded" && line.code.is_some() {
            assert_eq!(line.code, Some(NO_SUCH_QUESTION), "{row:?}");
            assert!(line.lost && row.status == "delete", "{row:?}");
        }
    }

    /// The report by id; no id twice.
    fn report(&self) -> BTreeMap<String, Reported> {
        let output = self.place.deskbatch(&["report"]).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", said(&output));
        let text = data(&output);
        let mut report = BTreeMap::new();
        for record in csv::Reader::from_reader(text.as_bytes()).records() {
            let record = record.unwrap();
            let line = Reported {
                status: record[1].to_owned(),
                state: record[2].to_owned(),
                code: record[3].parse().ok(),
                lost: &record[6] == "1",
            };
            assert!(report.insert(record[0].to_owned(), line).is_none(), "{record:?}");
        }
        report
    }
}

/// The deletes that were applied by a request whose answer a fault kept from the client.
pub fn deleted_unseen(ledger: &Ledger) -> BTreeSet<String> {
    let unseen = [Fault::CutAfter, Fault::Late, Fault::Truncated, Fault::Garbage];
    ledger
        .requests
        .iter()
        .filter(|seen| seen.applied && seen.status == Some(6))
        .filter(|seen| seen.fault.is_some_and(|fault| unseen.contains(&fault)))
        .flat_map(|seen| seen.ids.clone())
        .collect()
}

/// Runs a command to its end.
pub async fn ended(command: Command) -> Ended {
    let mut running = Running::start(command);
    let stderr = patiently(&mut running.stderr).await.unwrap();
    Ended { code: running.child.wait().unwrap().code(), stderr }
}

/// A child that does not outlive the test, however that ends: an orphan would try to reach
/// its sandbox for minutes, and the runtime would wait for what it writes.
struct Running {
    child: Child,
    /// Ends when the child does, since only then its stderr is closed.
    stderr: JoinHandle<String>,
}

impl Running {
    fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let stderr = child.stderr.take().unwrap();
        let stderr = tokio::task::spawn_blocking(move || io::read_to_string(stderr).unwrap());
        Self { child, stderr }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only where it has been waited for already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What comes of `event`, which has to come.
pub async fn patiently<T>(event: impl Future<Output = T>) -> T {
    let clock = SystemClock::new();
    tokio::select! {
        value = event => value,
        () = clock.sleep_until(clock.now() + PATIENCE) => panic!("waited {PATIENCE:?} for nothing"),
    }
}
