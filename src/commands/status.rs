//! `deskbatch status`: the queue in figures.

use std::fmt::Write as _;

use serde::Serialize;

use super::{CommandError, Exit};
use crate::cli::StatusArgs;
use crate::clock::utc_text;
use crate::config::Settings;
use crate::output::{Output, counts_text, minutes_text};
use crate::store::{BatchSummary, QueueStatus, RunSummary, Store};

/// What `--json` prints. A later version may add keys; it changes `schema` when one goes
/// or changes its meaning.
#[derive(Serialize)]
struct Json<'a> {
    schema: u32,
    database: String,
    pending: u64,
    in_flight: u64,
    succeeded: u64,
    failed: u64,
    cancelled: u64,
    superseded: u64,
    total: u64,
    requests: u64,
    throttled: u64,
    orphaned: u64,
    succeeded_in_doubt: u64,
    last_run: Option<&'a RunSummary>,
    batches: &'a [BatchSummary],
}

/// Runs the command.
pub(super) async fn status(
    settings: &Settings,
    args: &StatusArgs,
    out: &Output,
) -> Result<Exit, CommandError> {
    let store = Store::open_existing(&settings.database).await?;
    let status = store.status().await?;
    let batches = store.batches().await?;
    let text = if args.json {
        json(settings, &status, &batches)
    } else {
        text(settings, &status, &batches)
    };
    out.data(&text).map_err(CommandError::io("stdout cannot be written"))?;
    store.close().await;
    Ok(Exit::Done)
}

fn json(settings: &Settings, status: &QueueStatus, batches: &[BatchSummary]) -> String {
    let counts = &status.counts;
    let json = Json {
        schema: 1,
        database: settings.database.display().to_string(),
        pending: counts.pending,
        in_flight: counts.in_flight,
        succeeded: counts.succeeded,
        failed: counts.failed,
        cancelled: counts.cancelled,
        superseded: counts.superseded,
        total: counts.total(),
        requests: status.requests,
        throttled: status.throttled,
        orphaned: status.orphaned,
        succeeded_in_doubt: status.succeeded_in_doubt,
        last_run: status.last_run.as_ref(),
        batches,
    };
    let mut text = serde_json::to_string(&json).unwrap_or_default();
    text.push('\n');
    text
}

fn text(settings: &Settings, status: &QueueStatus, batches: &[BatchSummary]) -> String {
    let counts = &status.counts;
    let mut text = format!(
        "queue     {}\njobs      {}\nrequests  {}: {} refused as too fast, {} whose answer is unknown\n",
        settings.database.display(),
        counts_text(counts),
        status.requests,
        status.throttled,
        status.orphaned,
    );
    if counts.open() > 0 {
        let _ = writeln!(
            text,
            "left      {} at {} requests a second, without what refusals add",
            minutes_text(counts.open(), settings.chunk(), settings.rate()),
            settings.rate()
        );
    }
    if status.succeeded_in_doubt > 0 {
        let _ = writeln!(
            text,
            "in doubt  {} deletions were found done when repeated after an answer was lost",
            status.succeeded_in_doubt
        );
    }
    if let Some(run) = &status.last_run {
        let _ = writeln!(text, "last run  {}", run_text(run));
    }
    if !batches.is_empty() {
        text.push_str("batches   number  jobs  open  failed  imported                  name\n");
    }
    for batch in batches {
        let _ = writeln!(
            text,
            "          {:>6}  {:>4}  {:>4}  {:>6}  {}  {}",
            batch.id,
            batch.jobs,
            batch.open,
            batch.failed,
            utc_text(batch.created_ms),
            batch.name
        );
    }
    text
}

fn run_text(run: &RunSummary) -> String {
    let ended = match (run.finished_ms, &run.ending) {
        (Some(at), Some(ending)) => format!("{ending} at {}", utc_text(at)),
        _ => format!("process {} on {}: going on, or dead", run.pid, run.host),
    };
    format!(
        "{}: began {}, {ended}, {} requests, {} too fast",
        run.id,
        utc_text(run.started_ms),
        run.requests,
        run.throttled
    )
}
