//! Helpers for tests of metrics: parsed metrics, and promtool.

#![allow(dead_code, reason = "each test takes what it needs")]

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use deskbatch::metrics;
use deskbatch::queue::Queue;

/// Parsed metrics: name, labels, value.
#[derive(Debug, Clone, PartialEq)]
pub struct Metrics(Vec<(String, BTreeMap<String, String>, f64)>);

impl Metrics {
    pub fn read(text: &str) -> Self {
        let series = text.lines().filter(|line| !line.starts_with('#')).map(|line| {
            let (series, value) = line.rsplit_once(' ').unwrap();
            let (name, labels) = series.split_once('{').unwrap();
            let labels = labels.strip_suffix("\"}").unwrap().split("\",").map(|label| {
                let (label, value) = label.split_once("=\"").unwrap();
                (label.to_owned(), value.to_owned())
            });
            (name.to_owned(), labels.collect(), value.parse().unwrap())
        });
        Self(series.collect())
    }

    /// The current metrics of the queue at `path`, computed in this process.
    pub async fn of(path: &Path) -> Self {
        let queue = Queue::open_existing(path).await.unwrap();
        let text = metrics::text(&queue, 200.0).await.unwrap();
        queue.close().await;
        Self::read(&text)
    }

    /// The values of `name` with all of `labels`.
    pub fn all(&self, name: &str, labels: &[(&str, &str)]) -> Vec<f64> {
        let has = |found: &BTreeMap<String, String>| {
            labels
                .iter()
                .all(|(label, value)| found.get(*label).is_some_and(|found| found == value))
        };
        let found = self.0.iter().filter(|(found, labels, _)| found == name && has(labels));
        found.map(|(_, _, value)| *value).collect()
    }

    /// The single value of `name` with `labels`.
    #[track_caller]
    pub fn one(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let found = self.all(name, labels);
        assert_eq!(found.len(), 1, "{name} {labels:?}: {found:?}");
        found[0]
    }

    /// The sum of all values of `name`.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.all(name, labels).iter().sum()
    }

    /// The values of one label of `name`.
    pub fn values(&self, name: &str, label: &str) -> Vec<&str> {
        let found = self.0.iter().filter(|(found, ..)| found == name);
        found.map(|(_, labels, _)| labels[label].as_str()).collect()
    }
}

/// A count as a metric value.
#[allow(clippy::cast_precision_loss, reason = "tests count small things")]
pub fn number(n: u64) -> f64 {
    n as f64
}

/// Whether promtool is installed. Without it a test says so and passes, but fails in CI.
#[allow(clippy::print_stderr, reason = "a test that checks less than it could has to say so")]
pub fn has_promtool() -> bool {
    let here = Command::new("promtool").arg("--version").stderr(Stdio::null()).output().is_ok();
    let how = "promtool is not here, so this test has not checked anything; get it by: \
               apt-get install prometheus (or unpack that package, as .ci/run does)";
    assert!(here || std::env::var_os("CI").is_none(), "{how}");
    if !here {
        eprintln!("{how}");
    }
    here
}

/// Runs promtool in `folder` with `input`, and fails with its output if it finds a problem.
#[track_caller]
pub fn promtool(folder: &Path, args: &[&str], input: &str) {
    let mut command = Command::new("promtool");
    command.current_dir(folder).args(args);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].map(|said| String::from_utf8(said).unwrap()).concat();
    assert!(output.status.success(), "promtool {args:?}:\n{said}");
}
