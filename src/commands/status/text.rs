//! `status` as text.

use std::fmt::Write as _;

use super::data::StatusData;
use crate::config::Settings;
use crate::domain::clock::utc_text;
use crate::domain::job::App;
use crate::output::{confirmed_text, counts_text, in_doubt_text, range_text, requests_text};
use crate::queue::{AppChunkSize, AppRate, Holder, QueueStatus, RunSummary};
use crate::util::count::counted;
use crate::util::escape::{path_text, visible};

/// The lines of `status`.
pub(super) fn text(settings: &Settings, data: &StatusData) -> String {
    let StatusData { status, batches, .. } = data;
    let counts = &status.counts;
    let mut text = format!(
        "queue      {}\nfile       {}\njobs       {}\nrequests   {} ({} throttled, {})\n",
        path_text(&settings.database),
        file_text(status),
        counts_text(counts),
        status.requests,
        status.throttled,
        counted(status.responses_lost, "lost response"),
    );
    if counts.open() > 0 {
        let eta = data.eta(settings, counts.open());
        let requests = requests_text(&eta.requests);
        let _ = writeln!(text, "ETA        {requests}, {}", range_text(&eta.time));
    }
    if status.in_doubt > 0 {
        let _ = writeln!(text, "in doubt   {}", in_doubt_text(status.in_doubt));
    }
    if status.succeeded_in_doubt > 0 {
        let _ = writeln!(text, "confirmed  {}", confirmed_text(status.succeeded_in_doubt));
    }
    write_learned(&mut text, data);
    if let Some(run) = &status.last_run {
        let _ = writeln!(
            text,
            "last run   {}",
            run_text(run, data.running.as_ref(), &settings.flags())
        );
    }
    if !batches.is_empty() {
        text.push_str(
            "batches    number  jobs  unfinished  failed  cancelled  imported                  name\n",
        );
    }
    for batch in batches {
        let _ = writeln!(
            text,
            "           {:>6}  {:>4}  {:>10}  {:>6}  {:>9}  {}  {}",
            batch.id,
            batch.jobs,
            batch.unfinished,
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
        Some(at) => format!("{size}, last pruned {}", utc_text(at)),
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
        format!("app {}, library {}: ", app.sdkappid, app.library)
    };
    for AppRate { app, learned, learned_ms } in &data.learned_rates {
        let throttled = match learned.throttled_rate {
            // Measured around a push-back, so it may be below the rate that is sent now.
            Some(rate) if rate < learned.rate => format!("throttled at about {rate:.1}"),
            Some(rate) => format!("throttled above {rate:.1}"),
            None => "never throttled".to_owned(),
        };
        let _ = writeln!(
            text,
            "rate       {}{:.2} requests per second; {throttled}; measured {}",
            of(*app),
            learned.rate,
            utc_text(*learned_ms)
        );
    }
    for AppChunkSize { app, limit, learned_ms } in &data.learned_sizes {
        let _ = writeln!(
            text,
            "chunk      {}at most {} per request; {} were rejected; measured {}",
            of(*app),
            counted(limit.accepted as u64, "question"),
            limit.rejected,
            utc_text(*learned_ms)
        );
    }
}

fn run_text(run: &RunSummary, running: Option<&Holder>, flags: &str) -> String {
    let ended = match (run.finished_ms, &run.ending, running) {
        (Some(at), Some(ending), _) => format!("ended {} ({ending})", utc_text(at)),
        (.., Some(holder)) => format!("running, process {} on {}", holder.pid, holder.host),
        (.., None) => {
            format!("died, process {} on {}: resume with deskbatch run{flags}", run.pid, run.host)
        }
    };
    format!(
        "{}: started {}, {ended}, {}, {} throttled",
        run.id,
        utc_text(run.started_ms),
        counted(u64::try_from(run.totals.requests).unwrap_or_default(), "request"),
        run.totals.throttled
    )
}
