//! The HTML report: its inputs from the settings, and writing it to a file.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::commands::error::CommandError;
use crate::commands::eta::{EtaInputs, RunResults};
use crate::config::{Origin, Settings};
use crate::domain::clock::{Clock as _, SystemClock};
use crate::output::{Output, range_text, requests_text};
use crate::queue::{BatchId, Queue};
use crate::report::html::{self, PageTarget};
use crate::report::{Estimate, PageData, PageEta, PageInfo};
use crate::util::atomic_file::{IfExists, PRIVATE, write_atomic};
use crate::util::escape::path_text;

/// The most failed questions that a file lists.
const FAILED_MAX: u32 = 10_000;

/// The inputs of a page that lists at most `failed_max` failed questions.
pub(in crate::commands) fn page_info(
    settings: &Settings,
    batch: Option<BatchId>,
    failed_max: u32,
) -> PageInfo {
    PageInfo {
        database: absolute(&settings.database).to_string_lossy().into_owned(),
        version: env!("CARGO_PKG_VERSION"),
        flags: settings.flags(),
        rate: settings.rate(),
        batch,
        failed_max,
        settings: shown_settings(settings),
        estimate: estimate(settings),
    }
}

/// With the folder of the queue, which says on a page what a relative path does not.
fn absolute(database: &Path) -> PathBuf {
    std::path::absolute(database).unwrap_or_else(|_| database.to_owned())
}

/// The settings that a page lists. Not those whose value is a command or a filter, which may contain
/// a secret; of the sandbox's settings only those that are set.
fn shown_settings(settings: &Settings) -> Vec<(String, String)> {
    const NOT_SHOWN: [&str; 2] = ["log", "on_finish"];
    let all = settings.effective(settings.is_sandbox_run).into_iter();
    let named =
        all.filter(|setting| !NOT_SHOWN.contains(&setting.key.as_str())).filter(|setting| {
            let is_set = !matches!(setting.origin, Origin::Default | Origin::Unset);
            is_set || !setting.key.starts_with("sandbox.")
        });
    named
        .map(|setting| {
            let value = match setting.value {
                Some(_) if setting.is_secret => "set, not shown".to_owned(),
                Some(value) => value,
                None => "not set".to_owned(),
            };
            (setting.key, value)
        })
        .collect()
}

/// The ETA of the open jobs, computed like that of `status`.
fn estimate(settings: &Settings) -> Estimate {
    let (rate, chunk, app) = (settings.rate(), settings.chunk(), settings.app().ok());
    Arc::new(move |data: &PageData| {
        let counts = data.overview.counts();
        if counts.open() == 0 {
            return None;
        }
        let is_of_app = |of| app.is_none_or(|app| app == of);
        let rates = data.learned_rates.iter().filter(|kept| is_of_app(kept.app));
        let sizes = data.learned_sizes.iter().filter(|kept| is_of_app(kept.app));
        let (succeeded, failed) = data.overview.newest_run;
        let run = data.overview.runs.rows.first().map(|run| RunResults {
            succeeded,
            failed,
            evaluated: run.requests.applied + run.requests.rejected,
            throttled: run.requests.throttled,
        });
        let inputs = EtaInputs::with_limits(rate, chunk, rates, sizes);
        let eta = inputs.estimate_after(counts.open(), run);
        Some(PageEta { time: range_text(&eta.time), requests: requests_text(&eta.requests) })
    })
}

/// Writes the page of the queue or of one batch to `path`; `-` is stdout.
pub(super) async fn write(
    settings: &Settings,
    batch: Option<BatchId>,
    queue: &Queue,
    path: &Path,
    out: &Output,
) -> Result<(), CommandError> {
    let info = page_info(settings, batch, FAILED_MAX);
    let data = PageData::load(queue, &info, SystemClock::new().wall_ms()).await?;
    let page = html::page(&data, &info, PageTarget::File);
    if path == Path::new("-") {
        return out.bytes(page.as_bytes()).map_err(CommandError::io("cannot write to stdout"));
    }
    write_atomic(path, page.as_bytes(), Some(PRIVATE), IfExists::Replace)
        .map_err(CommandError::output(path))?;
    out.info(&format!("wrote {}: open it in a browser", path_text(path)));
    Ok(())
}
