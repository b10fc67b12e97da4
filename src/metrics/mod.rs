//! The queue's metrics in the Prometheus text format. docs/metrics.md explains every metric.
//!
//! All values come from one read of the queue, so any process produces the same text, during a run or
//! after it. The exit code of a run is not in the queue; [`run_outcome`] adds it to the file for the
//! node_exporter. Times are timestamps, never ages, since a file may be read long after it was written.
//! Metrics never contain question ids, messages of the service or secrets.

mod exposition;
mod families;

use std::path::{Path, PathBuf};

use exposition::{Family, encode};

use crate::queue::{Queue, QueueError};

/// The media type of [`text`].
pub const CONTENT_TYPE: &str = prometheus_client::encoding::prometheus_text::CONTENT_TYPE;

/// The metrics in the Prometheus text format, version 0.0.4. `rate` is the configured limit, in requests
/// per second.
///
/// # Errors
/// When the queue cannot be read or has an invalid row.
pub async fn text(queue: &Queue, rate: f64) -> Result<String, QueueError> {
    let figures = queue.metrics().await?;
    Ok(encode(queue.path(), families::of_queue(&figures, rate)))
}

/// The exit of the last run, and the time of the last success.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RunOutcome {
    /// The last exit code and its time in UTC milliseconds.
    pub last: Option<(u8, i64)>,
    /// The time of the last exit with 0, in UTC milliseconds.
    pub success_ms: Option<i64>,
}

impl RunOutcome {
    /// The outcome after an exit with `code` at `now_ms`.
    #[must_use]
    pub fn then(self, code: u8, now_ms: i64) -> Self {
        let success_ms = if code == 0 { Some(now_ms) } else { self.success_ms };
        Self { last: Some((code, now_ms)), success_ms }
    }

    /// Reads the outcome from an earlier text of [`run_outcome`]. Ignores lines of other queues and
    /// everything else.
    pub fn read(text: &str, database: &Path) -> Self {
        // Renders the series to get the exact prefix of each line.
        let sample = Self::default().then(0, 0);
        let written = run_outcome(database, sample);
        let mut values = written.lines().filter(|line| !line.starts_with('#')).map(|line| {
            let series = line.rsplit_once(' ').map_or(line, |(series, _)| series);
            let found = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
            found.and_then(|value| value.parse::<f64>().ok()).filter(|value| *value >= 0.0)
        });
        let mut next = || values.next().flatten();
        let (code, at, success) = (next(), next(), next());
        Self {
            last: code.map(exposition::code).zip(at.map(exposition::milliseconds)),
            success_ms: success.map(exposition::milliseconds),
        }
    }
}

/// The outcome of the last run in the Prometheus text format; empty if unknown.
pub fn run_outcome(database: &Path, outcome: RunOutcome) -> String {
    encode(&queue_path(database), families::of_outcome(&outcome))
}

/// The name and the type of every metric.
pub fn catalogue() -> Vec<(String, &'static str)> {
    families::all().iter().map(Family::listed).collect()
}

/// The path of the queue as [`Queue`] reports it, even if the file does not exist.
fn queue_path(database: &Path) -> PathBuf {
    let real = database.canonicalize().or_else(|_| {
        let folder = database.parent().filter(|folder| !folder.as_os_str().is_empty());
        let folder = folder.unwrap_or(Path::new(".")).canonicalize()?;
        Ok::<_, std::io::Error>(folder.join(database.file_name().unwrap_or_default()))
    });
    real.or_else(|_| std::path::absolute(database)).unwrap_or_else(|_| database.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcome_roundtrips_through_text() {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("a \"queue\".db");
        let failed = RunOutcome::default().then(0, 1_735_689_600_250).then(3, 1_735_689_700_000);
        let text = run_outcome(&database, failed);
        assert_eq!(RunOutcome::read(&text, &database), failed);
        assert_eq!(failed.success_ms, Some(1_735_689_600_250));
        assert_eq!(RunOutcome::read(&text, &folder.path().join("other.db")), RunOutcome::default());
        let never = RunOutcome::default().then(70, 5_000);
        assert_eq!(RunOutcome::read(&run_outcome(&database, never), &database), never);
        for nothing in ["", "# HELP", "deskbatch_last_run_exit_code x\n"] {
            assert_eq!(RunOutcome::read(nothing, &database), RunOutcome::default());
        }
        assert_eq!(run_outcome(&database, RunOutcome::default()), "");
    }

    #[test]
    fn queue_path_is_stable_before_and_after_creation() {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("queue.db");
        let before = queue_path(&database);
        std::fs::write(&database, "").unwrap();
        assert_eq!(queue_path(&database), before);
        assert_eq!(before, database.canonicalize().unwrap());
    }
}
