//! `status` as text.

use std::fmt::Write as _;

use super::data::StatusData;
use crate::config::Settings;
use crate::domain::clock::utc_text;
use crate::domain::job::App;
use crate::output::{counts_text, range_text};
use crate::queue::{AppChunkSize, AppRate, Holder, QueueStatus, RunSummary};
use crate::util::escape::{path_text, visible};

/// The lines of `status`.
pub(super) fn text(settings: &Settings, data: &StatusData) -> String {
    let StatusData { status, batches, .. } = data;
    let counts = &status.counts;
    let mut text = format!(
        "queue     {}\nfile      {}\njobs      {}\nrequests  {}: {} refused as too fast, {} whose response was lost\n",
        path_text(&settings.database),
        file_text(status),
        counts_text(counts),
        status.requests,
        status.throttled,
        status.responses_lost,
    );
    if counts.open() > 0 {
        let eta = data.eta(settings, counts.open());
        let _ = writeln!(
            text,
            "left      {} to {} requests, {}",
            eta.requests.start(),
            eta.requests.end(),
            range_text(&eta.time)
        );
    }
    if status.in_doubt > 0 {
        let _ = writeln!(
            text,
            "in doubt  {} jobs: a request may have changed their question, and nothing since says whether it did",
            status.in_doubt
        );
    }
    if status.succeeded_in_doubt > 0 {
        let _ = writeln!(
            text,
            "confirmed {} deletions were found done when repeated after a response was lost",
            status.succeeded_in_doubt
        );
    }
    write_learned(&mut text, data);
    if let Some(run) = &status.last_run {
        let _ = writeln!(text, "last run  {}", run_text(run, data.running.as_ref()));
    }
    if !batches.is_empty() {
        text.push_str(
            "batches   number  jobs  open  failed  cancelled  imported                  name\n",
        );
    }
    for batch in batches {
        let _ = writeln!(
            text,
            "          {:>6}  {:>4}  {:>4}  {:>6}  {:>9}  {}  {}",
            batch.id,
            batch.jobs,
            batch.open,
            batch.failed,
            batch.cancelled,
            utc_text(batch.created_ms),
            visible(&batch.name)
        );
    }
    text
}

#[allow(clippy::cast_precision_loss, reason = "a figure to look at")]
fn file_text(status: &QueueStatus) -> String {
    let size = format!("{:.1} MB", status.file_bytes as f64 / 1e6);
    match status.pruned_ms {
        Some(at) => format!("{size}, pruned last {}", utc_text(at)),
        None => format!("{size}, never pruned"),
    }
}

/// The learned limits. Names the app if there are several.
fn write_learned(text: &mut String, data: &StatusData) {
    let has_several_apps = data.learned_rates.len() > 1;
    let of = |app: App| {
        if !has_several_apps {
            return String::new();
        }
        format!("application {}, library {}: ", app.sdkappid, app.library)
    };
    for AppRate { app, learned, learned_ms } in &data.learned_rates {
        let refused = match learned.refused_rate {
            // Measured around a push-back, so it may be below the rate that is sent now.
            Some(rate) if rate < learned.rate => format!("refused at about {rate:.1}"),
            Some(rate) => format!("refused above {rate:.1}"),
            None => "none was refused".to_owned(),
        };
        let _ = writeln!(
            text,
            "pace      {}{:.2} a second; {refused}; learned {}",
            of(*app),
            learned.rate,
            utc_text(*learned_ms)
        );
    }
    for AppChunkSize { app, limit, learned_ms } in &data.learned_sizes {
        let _ = writeln!(
            text,
            "size      {}at most {} questions a request; {} were too many; learned {}",
            of(*app),
            limit.accepted,
            limit.rejected,
            utc_text(*learned_ms)
        );
    }
}

fn run_text(run: &RunSummary, running: Option<&Holder>) -> String {
    let ended = match (run.finished_ms, &run.ending, running) {
        (Some(at), Some(ending), _) => format!("{ending} at {}", utc_text(at)),
        (.., Some(holder)) => format!("going on, process {} on {}", holder.pid, holder.host),
        (.., None) => format!("died, process {} on {}: run again", run.pid, run.host),
    };
    format!(
        "{}: began {}, {ended}, {} requests, {} too fast",
        run.id,
        utc_text(run.started_ms),
        run.totals.requests,
        run.totals.throttled
    )
}
