//! The queue for machines that watch: its figures in the text format of Prometheus.
//!
//! Everything comes from the queue file, in one look, so the text is the same whoever asks:
//! the run itself, another process, or anybody after the run. How a run's command ended is
//! not in the queue; [`ended`] tells that, for the file of the node exporter. Reads no time:
//! moments are told as moments, never as ages, since a file may be read long after it was
//! written. Never tells a question, a text of the service or a secret. docs/metrics.md
//! explains every metric.

mod exposition;
mod families;

use std::path::{Path, PathBuf};

use exposition::{Family, encode};

use crate::store::{Store, StoreError};

/// The media type of what [`text`] returns.
pub const CONTENT_TYPE: &str = prometheus_client::encoding::prometheus_text::CONTENT_TYPE;

/// The queue in the Prometheus text format, version 0.0.4. `rate` is the limit that is set, in
/// requests a second.
///
/// # Errors
/// When the queue file cannot be read or holds an impossible row.
pub async fn text(store: &Store, rate: f64) -> Result<String, StoreError> {
    let figures = store.figures().await?;
    Ok(encode(store.path(), families::of_queue(&figures, rate)))
}

/// How the command of a run ended, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ended {
    /// The last exit code, and when that was in UTC milliseconds.
    pub last: Option<(u8, i64)>,
    /// When one last ended with 0, in UTC milliseconds.
    pub success_ms: Option<i64>,
}

impl Ended {
    /// After the exit code `code` at `now_ms`.
    #[must_use]
    pub fn then(self, code: u8, now_ms: i64) -> Self {
        let success_ms = if code == 0 { Some(now_ms) } else { self.success_ms };
        Self { last: Some((code, now_ms)), success_ms }
    }

    /// What the `text` of an earlier [`ended`] of this queue says. Another queue's lines, and
    /// whatever else may stand there, say nothing.
    pub fn read(text: &str, database: &Path) -> Self {
        // The series as they are written, found by writing them.
        let sample = Self::default().then(0, 0);
        let written = ended(database, sample);
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

/// How the command of a run on the queue at `database` ended, in the same format; nothing
/// where nothing is known.
pub fn ended(database: &Path, ended: Ended) -> String {
    encode(&queue_path(database), families::of_end(&ended))
}

/// Every metric there is: its name as it is written, and its type.
pub fn catalogue() -> Vec<(String, &'static str)> {
    families::all().iter().map(Family::listed).collect()
}

/// The path by which a store calls itself, also where there is no queue file.
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
    fn what_an_earlier_file_says_is_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("a \"queue\".db");
        let failed = Ended::default().then(0, 1_735_689_600_250).then(3, 1_735_689_700_000);
        let text = ended(&database, failed);
        assert_eq!(Ended::read(&text, &database), failed);
        assert_eq!(failed.success_ms, Some(1_735_689_600_250));
        assert_eq!(Ended::read(&text, &folder.path().join("other.db")), Ended::default());
        let never = Ended::default().then(70, 5_000);
        assert_eq!(Ended::read(&ended(&database, never), &database), never);
        for nothing in ["", "# HELP", "deskbatch_last_run_exit_code x\n"] {
            assert_eq!(Ended::read(nothing, &database), Ended::default());
        }
        assert_eq!(ended(&database, Ended::default()), "");
    }

    #[test]
    fn a_queue_is_called_the_same_before_and_after_it_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("queue.db");
        let before = queue_path(&database);
        std::fs::write(&database, "").unwrap();
        assert_eq!(queue_path(&database), before);
        assert_eq!(before, database.canonicalize().unwrap());
    }
}
