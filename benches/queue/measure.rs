//! Measurement: a temporary folder, children with their time and memory, contestants that alternate,
//! and the table of results.
//!
//! Contestants alternate in one process, so that noise of the machine affects all of them. Ratios are
//! of medians.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use deskbatch::domain::clock::{Clock as _, SystemClock};
use tempfile::TempDir;

use crate::support::{median, peak_mib, real, say};

/// Seconds by rows for each cost, for the chart.
pub type Points = BTreeMap<&'static str, Vec<(f64, f64)>>;

/// The environment of every section.
pub struct Ground {
    pub folder: TempDir,
    pub clock: SystemClock,
    /// The numbers of rows, ascending.
    pub sizes: Vec<usize>,
    /// Rows of one night.
    pub night_rows: usize,
    points: RefCell<Points>,
}

/// The time and memory of a child.
pub struct Took {
    pub seconds: f64,
    pub peak_mib: u64,
}

impl Ground {
    pub fn new(within: &Path, sizes: Vec<usize>, night_rows: usize) -> std::io::Result<Self> {
        let folder = tempfile::Builder::new().prefix("deskbatch-bench").tempdir_in(within)?;
        let points = RefCell::default();
        Ok(Self { folder, clock: SystemClock::new(), sizes, night_rows, points })
    }

    /// A temporary subfolder.
    pub fn room(&self) -> TempDir {
        tempfile::tempdir_in(self.folder.path()).expect("a folder")
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Measures `work` in seconds.
    pub fn time<T>(&self, work: impl FnOnce() -> T) -> (f64, T) {
        let began = self.clock.now();
        let result = work();
        (self.clock.now().since(began).as_secs_f64(), result)
    }

    /// Runs a child to its end, which must be successful.
    pub fn child(&self, command: &mut Command) -> Took {
        let began = self.clock.now();
        let mut child = command.spawn().unwrap_or_else(|e| panic!("{command:?}: {e}"));
        let process = PathBuf::from(format!("/proc/{}", child.id()));
        let ended = AtomicBool::new(false);
        thread::scope(|scope| {
            // The high-water mark only rises, so the last reading before the end is the peak.
            let watcher = scope.spawn(|| {
                let mut peak = 0;
                while !ended.load(Ordering::Relaxed) {
                    peak = peak_mib(&process).max(peak);
                    pause(Duration::from_millis(4));
                }
                peak
            });
            let status = child.wait().expect("a child");
            let seconds = self.clock.now().since(began).as_secs_f64();
            ended.store(true, Ordering::Relaxed);
            assert!(status.success(), "{command:?} ended with {status}");
            Took { seconds, peak_mib: watcher.join().unwrap_or_default() }
        })
    }

    /// Keeps a median for the chart.
    pub fn keep(&self, cost: &'static str, rows: usize, seconds: f64) {
        self.points.borrow_mut().entry(cost).or_default().push((real(rows), seconds));
    }

    pub fn into_points(self) -> Points {
        self.points.into_inner()
    }
}

/// The number of repetitions.
pub const RUNS: usize = 5;

/// Sleeps; only for polling a child that sends no event.
#[allow(clippy::disallowed_methods, reason = "a look every so often at another process")]
pub fn pause(time: Duration) {
    thread::sleep(time);
}

/// Blocks this thread on `work`.
pub fn on_runtime<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(work)
}

/// One of the programs that do the same work.
pub struct Contestant<'a> {
    pub name: String,
    work: Box<dyn FnMut() -> Took + 'a>,
}

impl<'a> Contestant<'a> {
    pub fn new(name: impl Into<String>, work: impl FnMut() -> Took + 'a) -> Self {
        Self { name: name.into(), work: Box::new(work) }
    }
}

/// The results of one contestant.
pub struct Taken {
    pub name: String,
    pub seconds: Vec<f64>,
    pub peak_mib: u64,
}

impl Taken {
    pub fn median(&self) -> f64 {
        median(&self.seconds)
    }

    /// The minimum and the maximum.
    pub fn range(&self) -> String {
        let least = self.seconds.iter().copied().fold(f64::INFINITY, f64::min);
        let most = self.seconds.iter().copied().fold(0.0, f64::max);
        format!("{} to {}", seconds(least), seconds(most))
    }
}

/// Alternates the contestants, `runs` times each.
pub fn in_turn(runs: usize, mut contestants: Vec<Contestant>) -> Vec<Taken> {
    let none = |contestant: &Contestant| Taken {
        name: contestant.name.clone(),
        seconds: Vec::new(),
        peak_mib: 0,
    };
    let mut all: Vec<Taken> = contestants.iter().map(none).collect();
    for _ in 0..runs {
        for (contestant, taken) in contestants.iter_mut().zip(&mut all) {
            let took = (contestant.work)();
            taken.seconds.push(took.seconds);
            taken.peak_mib = taken.peak_mib.max(took.peak_mib);
        }
    }
    all
}

/// How the lines of a table relate to the first line of each size.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Lines {
    /// The first line is deskbatch, and the others do the same work.
    Peers,
    /// Each line is different work.
    Apart,
}

impl Lines {
    /// Prints the head of a table.
    pub fn head(self, title: &str) {
        say(&format!("\n## {title}\n"));
        let (ratio, rule) = match self {
            Self::Peers => (" deskbatch relative to it |", " --- |"),
            Self::Apart => ("", ""),
        };
        say(&format!("| rows | runs | what | median | least to most | peak memory |{ratio}"));
        say(&format!("| --- | --- | --- | --- | --- | --- |{rule}"));
    }

    /// Prints the results for `rows` rows.
    pub fn rows(self, rows: usize, all: &[Taken]) {
        let ours = all[0].median();
        for (at, taken) in all.iter().enumerate() {
            let ratio = match (self, at) {
                (Self::Apart, _) => String::new(),
                (Self::Peers, 0) => " |".to_owned(),
                (Self::Peers, _) => format!(" {:.2} |", ours / taken.median()),
            };
            // The child ended before the first memory reading.
            let peak = match taken.peak_mib {
                0 => "not known".to_owned(),
                mib => format!("{mib} MiB"),
            };
            say(&format!(
                "| {} | {} | {} | {} | {} | {peak} |{ratio}",
                thousands(rows),
                taken.seconds.len(),
                taken.name,
                seconds(taken.median()),
                taken.range()
            ));
        }
    }
}

/// A time in a suitable unit.
pub fn seconds(seconds: f64) -> String {
    match seconds {
        s if s < 1.0 => format!("{:.1} ms", s * 1e3),
        s if s < 100.0 => format!("{s:.2} s"),
        s => format!("{s:.0} s"),
    }
}

/// `1234567` as `1,234,567`.
pub fn thousands(n: usize) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
