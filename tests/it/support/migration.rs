//! Whole migrations: a manifest whose rows have known ends, the real program as a child, and the
//! sandbox. One check compares the service's state, the queue's report and its status.

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

/// The code for a question that does not exist.
pub const NO_SUCH_QUESTION: i64 = -50_003;
/// The code for a delete of the vendor's preset question.
pub const PRESET: i64 = -50_011;
/// The default of requests in flight.
pub const IN_FLIGHT: u64 = 32;
/// A child or an event that takes longer has failed.
const PATIENCE: Duration = Duration::from_mins(2);

/// The three target statuses as a manifest has them; rows cycle through them.
pub const ALL: &[&str] = &["enable", "disable", "delete"];
/// Target statuses whose repetition has no visible effect.
pub const REPEATABLE: &[&str] = &["enable", "disable"];

/// The expected end of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Applied and recorded as succeeded.
    Applied,
    /// Never applied, and recorded as failed with this code.
    Refused(i64),
    /// Never applied but recorded as succeeded: the service ignored it and responded OK.
    PassedOver,
    /// Applied, and recorded as succeeded or as failed with this code, which the service may return.
    Disowned(i64),
}

/// A row of a manifest and its expected end.
#[derive(Debug, Clone)]
pub struct Row {
    pub id: String,
    pub status: &'static str,
    pub end: End,
}

/// `count` good rows that cycle through `statuses`.
pub fn rows(count: usize, statuses: &[&'static str]) -> Vec<Row> {
    let turns = statuses.iter().cycle();
    let row = |(n, status): (usize, &&'static str)| Row {
        id: question(&format!("q{n}")),
        status,
        end: End::Applied,
    };
    (0..count).zip(turns).map(row).collect()
}

/// Replaces the ids of these rows with ids that do not exist.
pub fn lose(rows: &mut [Row], at: &[usize], end: End) {
    for &at in at {
        rows[at].id = question(&format!("missing{at}"));
        rows[at].end = end;
    }
}

/// Makes this row a delete of a protected question.
pub fn preset(rows: &mut [Row], at: usize) {
    rows[at] =
        Row { id: question(&format!("preset{at}")), status: "delete", end: End::Refused(PRESET) };
}

/// A sandbox without a rate limit, so that tests are fast.
pub fn unlimited() -> SandboxSettings {
    SandboxSettings { rate_limit: 0, ..SandboxSettings::default() }
}

/// A manifest, its queue, and its service.
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

/// The figures on which service, report and status agree.
#[derive(Debug)]
pub struct Figures {
    /// The requests that the sandbox saw.
    pub ledger: Ledger,
    /// Requests with a row in the queue.
    pub requests: u64,
    /// Orphaned requests.
    pub orphaned: u64,
    /// Throttled requests.
    pub throttled: u64,
    /// Ids in a request whose response was lost.
    pub lost: BTreeSet<String>,
    /// Deletes that were found done when they were repeated.
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
    /// Writes the manifest and starts the service. Every run gets `args`.
    pub async fn new(settings: SandboxSettings, rows: Vec<Row>, args: &[&'static str]) -> Self {
        let sandbox = Sandbox::start(settings).await.unwrap();
        Self::toward(sandbox, rows, args)
    }

    /// The same with a service that is already running.
    pub fn toward(sandbox: Sandbox, rows: Vec<Row>, args: &[&'static str]) -> Self {
        Self::at(Place::new(), sandbox, rows, args)
    }

    /// The same in an existing place.
    pub fn at(place: Place, sandbox: Sandbox, rows: Vec<Row>, args: &[&'static str]) -> Self {
        place.write("jobs.csv", manifest(rows.iter().map(|row| (row.id.as_str(), row.status))));
        Self { place, sandbox, rows, args: args.to_vec() }
    }

    /// The main command, for the first run and for repeated ones.
    pub fn command(&self) -> Command {
        let mut command = self.place.deskbatch_toward(&self.sandbox, &["run", "jobs.csv", "--yes"]);
        command.args(&self.args);
        command
    }

    pub async fn run(&self) -> Ended {
        ended(self.command()).await
    }

    /// Runs until the sandbox has seen `more` requests of this run, and kills it. Returns `false` if
    /// the run ended before.
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

    /// Runs again to the end after a kill. A manifest with failed jobs is not done, whichever run saw
    /// them fail. A run that was killed early has imported nothing.
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
        // Every request has a row before it leaves. Only a request of a killed run may not have left.
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

    /// The report by id, which must be unique.
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

/// Deletes that were applied by a request whose response a fault withheld.
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

/// A child that is killed on drop. An orphan would try to reach its sandbox for minutes, and the
/// runtime would wait for its output.
struct Running {
    child: Child,
    /// Ends with the child, which closes its stderr.
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
        // Both fail only after the child was waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The result of `event`, which must come in time.
pub async fn patiently<T>(event: impl Future<Output = T>) -> T {
    let clock = SystemClock::new();
    tokio::select! {
        value = event => value,
        () = clock.sleep_until(clock.now() + PATIENCE) => panic!("waited {PATIENCE:?} for nothing"),
    }
}
