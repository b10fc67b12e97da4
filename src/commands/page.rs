//! The page for people: what the settings say of it, and writing it to a file.

use std::path::Path;
use std::sync::Arc;

use super::CommandError;
use super::expected::{Basis, LastRun};
use super::whole_file::{IfThere, write_whole};
use crate::config::{Origin, Settings};
use crate::domain::clock::{Clock as _, SystemClock};
use crate::output::{Output, range_text};
use crate::report::html::{self, Place};
use crate::report::{About, Estimate, Facts};
use crate::store::{BatchId, Store};
use crate::text::path_text;

/// The most refused questions that a file lists.
const REFUSED_MAX: u32 = 10_000;

/// What the settings say of the page. It lists `refused_max` refused questions.
pub(super) fn about(settings: &Settings, batch: Option<BatchId>, refused_max: u32) -> About {
    About {
        database: settings.database.to_string_lossy().into_owned(),
        version: env!("CARGO_PKG_VERSION"),
        flags: settings.flags(),
        rate: settings.rate(),
        batch,
        refused_max,
        settings: shown(settings),
        estimate: estimate(settings),
    }
}

/// The settings that a page names: none that holds a command or a filter, since either may hold
/// anything, and of the sandbox's those alone that somebody has set.
fn shown(settings: &Settings) -> Vec<(String, String)> {
    const NOT_SHOWN: [&str; 2] = ["log", "on_finish"];
    let all = settings.effective(settings.rehearsal).into_iter();
    let named =
        all.filter(|setting| !NOT_SHOWN.contains(&setting.key.as_str())).filter(|setting| {
            let is_set = !matches!(setting.origin, Origin::Default | Origin::Nowhere);
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

/// How long the rest takes if it is like what the newest run has done, as `status` tells it.
fn estimate(settings: &Settings) -> Estimate {
    let (rate, chunk, app) = (settings.rate(), settings.chunk(), settings.app().ok());
    Arc::new(move |facts: &Facts| {
        let counts = facts.overview.counts();
        if counts.open() == 0 {
            return None;
        }
        let of_app = |of| app.is_none_or(|app| app == of);
        let paces = facts.paces.iter().filter(|kept| of_app(kept.app));
        let sizes = facts.sizes.iter().filter(|kept| of_app(kept.app));
        let (succeeded, failed) = facts.overview.newest_run;
        let run = facts.overview.runs.rows.first().map(|run| LastRun {
            succeeded,
            failed,
            reached: run.requests.applied + run.requests.rejected,
            throttled: run.requests.throttled,
        });
        let basis = Basis::of(rate, chunk, paces, sizes);
        let left = basis.forecast_after(counts.open(), run);
        Some(format!(
            "{} to {} requests, {}",
            left.requests.start(),
            left.requests.end(),
            range_text(&left.time)
        ))
    })
}

/// Writes the page of the queue, or of one batch, to `path`; `-` is stdout.
pub(super) async fn write(
    settings: &Settings,
    batch: Option<BatchId>,
    store: &Store,
    path: &Path,
    out: &Output,
) -> Result<(), CommandError> {
    let about = about(settings, batch, REFUSED_MAX);
    let facts = Facts::gather(store, &about, SystemClock::new().wall_ms()).await?;
    let page = html::page(&facts, &about, Place::File);
    if path == Path::new("-") {
        return out.bytes(page.as_bytes()).map_err(CommandError::io("stdout cannot be written"));
    }
    write_whole(path, page.as_bytes(), Some(0o600), IfThere::Replace)
        .map_err(CommandError::output(path))?;
    out.say(&format!("wrote {}: open it in a browser", path_text(path)));
    Ok(())
}
