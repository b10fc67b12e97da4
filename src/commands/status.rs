//! `deskbatch status`: the queue in figures.

use std::fmt::Write as _;

use serde::Serialize;

use super::expected::{Basis, LastRun};
use super::{CommandError, Exit, watch};
use crate::cli::StatusArgs;
use crate::config::Settings;
use crate::domain::clock::{Clock as _, SystemClock, utc_text};
use crate::domain::job::App;
use crate::eta::Eta;
use crate::output::{Output, counts_text, range_text};
use crate::store::{
    BatchSummary, Holder, KeptPace, KeptSize, QueueStatus, RunLock, RunSummary, Store,
};
use crate::text::{path_text, visible};

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
    responses_lost: u64,
    in_doubt: u64,
    succeeded_in_doubt: u64,
    file_bytes: u64,
    pruned_ms: Option<i64>,
    left_requests_min: u64,
    left_requests_max: u64,
    left_s_min: u64,
    left_s_max: u64,
    running: Option<&'a Holder>,
    last_run: Option<&'a RunSummary>,
    batches: &'a [BatchSummary],
    paces: Vec<JsonPace<'a>>,
    sizes: Vec<JsonSize<'a>>,
}

#[derive(Serialize)]
struct JsonPace<'a> {
    sdkappid: u64,
    library: &'a str,
    rate: f64,
    refused_rate: Option<f64>,
    spread_ms: f64,
    learned_ms: i64,
}

#[derive(Serialize)]
struct JsonSize<'a> {
    sdkappid: u64,
    library: &'a str,
    passed: usize,
    too_many: usize,
    learned_ms: i64,
}

/// Everything that is shown.
pub(super) struct Shown {
    pub(super) status: QueueStatus,
    /// Who has the queue for a run.
    pub(super) running: Option<Holder>,
    batches: Vec<BatchSummary>,
    paces: Vec<KeptPace>,
    sizes: Vec<KeptSize>,
}

/// Runs the command.
pub(super) async fn status(
    settings: &Settings,
    args: &StatusArgs,
    out: &Output,
) -> Result<Exit, CommandError> {
    let store = Store::open_existing(&settings.database).await?;
    let exit = if args.watch {
        watch::watch(settings, args, &store, out).await?
    } else {
        let shown = gather(&store, SystemClock::new().wall_ms()).await?;
        let text = if args.json { json(settings, &shown) } else { text(settings, &shown) };
        let written = if args.json { out.json(&text) } else { out.data(&text) };
        written.map_err(CommandError::io("stdout cannot be written"))?;
        Exit::Done
    };
    store.close().await;
    Ok(exit)
}

/// Reads everything that is shown.
pub(super) async fn gather(store: &Store, now_ms: i64) -> Result<Shown, CommandError> {
    // Asked first: a run that has ended since has its end in the queue.
    let running = RunLock::holder_of(store.path())?;
    Ok(Shown {
        running,
        status: store.status().await?,
        batches: store.batches().await?,
        paces: store.paces().await?,
        sizes: store.sizes(now_ms).await?,
    })
}

/// What `open` jobs take, if they are like those of the last run: of the one under way, or
/// of the one before that which would send them.
pub(super) fn left(settings: &Settings, shown: &Shown, open: u64) -> Eta {
    // Of the app in the settings, if they name one; else of every app that the queue knows.
    let app = settings.app().ok();
    let of_app = |of: App| app.is_none_or(|app| app == of);
    let paces = shown.paces.iter().filter(|kept| of_app(kept.app));
    let sizes = shown.sizes.iter().filter(|kept| of_app(kept.app));
    let figure = |n: i64| u64::try_from(n).unwrap_or_default();
    let run = shown.status.last_run.as_ref().map(|run| LastRun {
        succeeded: figure(run.succeeded),
        failed: figure(run.failed),
        reached: figure(run.reached),
        throttled: figure(run.throttled),
    });
    Basis::new(settings, paces, sizes).forecast_after(open, run)
}

pub(super) fn json(settings: &Settings, shown: &Shown) -> String {
    let Shown { status, running, batches, paces, sizes } = shown;
    let counts = &status.counts;
    let left = left(settings, shown, counts.open());
    let json = Json {
        schema: 1,
        database: settings.database.to_string_lossy().into_owned(),
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
        responses_lost: status.responses_lost,
        in_doubt: status.in_doubt,
        succeeded_in_doubt: status.succeeded_in_doubt,
        file_bytes: status.file_bytes,
        pruned_ms: status.pruned_ms,
        left_requests_min: *left.requests.start(),
        left_requests_max: *left.requests.end(),
        left_s_min: left.time.start().as_secs(),
        left_s_max: left.time.end().as_secs() + u64::from(left.time.end().subsec_nanos() > 0),
        running: running.as_ref(),
        last_run: status.last_run.as_ref(),
        batches,
        paces: paces.iter().map(json_pace).collect(),
        sizes: sizes.iter().map(json_size).collect(),
    };
    let mut text = serde_json::to_string(&json).unwrap_or_default();
    text.push('\n');
    text
}

fn json_pace(kept: &KeptPace) -> JsonPace<'_> {
    JsonPace {
        sdkappid: kept.app.sdkappid,
        library: kept.app.library.name(),
        rate: kept.learned.rate,
        refused_rate: kept.learned.refused_rate,
        spread_ms: kept.learned.arrival_jitter_ms,
        learned_ms: kept.learned_ms,
    }
}

fn json_size(kept: &KeptSize) -> JsonSize<'_> {
    JsonSize {
        sdkappid: kept.app.sdkappid,
        library: kept.app.library.name(),
        passed: kept.limit.accepted,
        too_many: kept.limit.rejected,
        learned_ms: kept.learned_ms,
    }
}

pub(super) fn text(settings: &Settings, shown: &Shown) -> String {
    let Shown { status, batches, .. } = shown;
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
        let left = left(settings, shown, counts.open());
        let _ = writeln!(
            text,
            "left      {} to {} requests, {}",
            left.requests.start(),
            left.requests.end(),
            range_text(&left.time)
        );
    }
    if status.in_doubt > 0 {
        let _ = writeln!(
            text,
            "in doubt  {} jobs: a request for their question lost its response, and nothing since says whether it was \
             applied",
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
    write_learned(&mut text, shown);
    if let Some(run) = &status.last_run {
        let _ = writeln!(text, "last run  {}", run_text(run, shown.running.as_ref()));
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

/// What runs have learned of the service. The app is named only where there are several.
fn write_learned(text: &mut String, shown: &Shown) {
    let several = shown.paces.len() > 1;
    let of = |app: App| {
        if !several {
            return String::new();
        }
        format!("application {}, library {}: ", app.sdkappid, app.library)
    };
    for KeptPace { app, learned, learned_ms } in &shown.paces {
        let refused = match learned.refused_rate {
            // They are the rates around refusals, so one may lie below what is sent now.
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
    for KeptSize { app, limit, learned_ms } in &shown.sizes {
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
        run.requests,
        run.throttled
    )
}
