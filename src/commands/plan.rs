//! `deskbatch plan`, and the plan that `run` compares or shows before it deletes. The only place that
//! makes a plan.

use std::ops::RangeInclusive;
use std::path::Path;

use serde::Serialize;

use super::error::{CommandError, Exit};
use super::import::{ImportContext, Staged, stage, unfinished_text};
use super::service::Service;
use super::{eta, signals};
use crate::cli::{ManifestArgs, PlanArgs, all_line, run_line};
use crate::config::Settings;
use crate::desk::Endpoint;
use crate::domain::clock::{Clock as _, SystemClock};
use crate::domain::plan_digest::{Effect, FilePlan, Plan};
use crate::eta::Eta;
use crate::output::{Output, plan_text};
use crate::queue::Queue;

/// How many deletes a plan names by default.
pub(super) const DELETES_SHOWN: usize = 10;

/// A plan and the open import that it was made in. No other write comes between the two.
pub(super) struct Proposal {
    pub(super) staged: Staged,
    pub(super) plan: Plan,
}

/// How a plan is made.
#[derive(Clone, Copy)]
pub(super) struct PlanOptions {
    /// Whether the import will be rolled back; `--rejects` is not written then.
    pub(super) dry_run: bool,
    /// The most deletes that the plan names.
    pub(super) deletes_max: usize,
}

/// Makes the plan of `run` with `file`, or without one.
pub(super) async fn propose(
    settings: &Settings,
    queue: &Queue,
    file: Option<&Path>,
    args: &ManifestArgs,
    options: PlanOptions,
    ctx: &ImportContext,
) -> Result<Proposal, CommandError> {
    let mut staged = match file {
        Some(file) => stage(queue, settings, file, args, options.dry_run, ctx).await?,
        None => review(settings, queue).await?,
    };
    let plan = plan_of(settings, &mut staged, file, args, options.deletes_max).await?;
    Ok(Proposal { staged, plan })
}

/// A transaction on the queue without a manifest.
pub(super) async fn review(settings: &Settings, queue: &Queue) -> Result<Staged, CommandError> {
    let now_ms = SystemClock::new().wall_ms();
    Ok(Staged::without_manifest(queue.begin_review(settings.app()?, now_ms).await?))
}

/// The plan of a run with this import of `file`, or without a file.
pub(super) async fn plan_of(
    settings: &Settings,
    staged: &mut Staged,
    file: Option<&Path>,
    args: &ManifestArgs,
    deletes_max: usize,
) -> Result<Plan, CommandError> {
    let endpoint = settings.endpoint()?;
    let survey = staged.import.survey(deletes_max).await?;
    Ok(Plan {
        app: settings.app()?,
        endpoint_mark: endpoint.as_ref().map_or_else(|| "-".to_owned(), Endpoint::mark),
        endpoint: endpoint.map_or_else(|| "sandbox".to_owned(), |endpoint| endpoint.to_string()),
        chunk: settings.chunk(),
        again: args.again,
        file: match file {
            Some(file) => Some(file_plan(staged, file).await?),
            None => None,
        },
        waiting: survey.waiting,
        open: survey.open,
        in_doubt: survey.in_doubt,
        deletes: survey.deletes,
    })
}

async fn file_plan(staged: &mut Staged, file: &Path) -> Result<FilePlan, CommandError> {
    let known = match staged.preview.known {
        Some(batch) => Some((batch, staged.import.open_jobs_of_known().await?)),
        None => None,
    };
    let missing = unfinished_text(&staged.import.unfinished_of_known().await?);
    let read = &staged.read;
    Ok(FilePlan {
        name: file.to_string_lossy().into_owned(),
        digest: read.digest.clone(),
        rows: read.rows,
        duplicates: read.duplicates,
        rejected: read.bad,
        rejected_shown: staged.bad_shown.clone(),
        jobs: read.by_status,
        effect: match known {
            _ if read.good == 0 => Effect::Empty,
            None => Effect::New,
            Some((_, 0)) => Effect::Finished,
            Some(_) => Effect::Continues,
        },
        known,
        missing,
        superseded: if read.good == 0 { 0 } else { staged.preview.superseded },
        warnings: read.warnings.iter().map(ToString::to_string).collect(),
    })
}

/// Runs the command.
pub(super) async fn plan(
    settings: &Settings,
    args: &PlanArgs,
    out: &Output,
) -> Result<Exit, CommandError> {
    let queue = Queue::open_or_in_memory(&settings.database).await?;
    let all = args.all || args.json;
    let deletes_max = if all { usize::MAX } else { DELETES_SHOWN };
    let options = PlanOptions { dry_run: true, deletes_max };
    let ctx = ImportContext::begin(out, signals::listen_for_import(out)?);
    let file = args.file.as_deref();
    let Proposal { staged, plan } =
        propose(settings, &queue, file, &args.manifest, options, &ctx).await?;
    staged.rollback().await?;
    match Service::of(settings, false, &queue).await {
        Err(CommandError::Usage(reason)) => {
            out.warn(&format!("a run of this plan would end with 2: {reason}"));
        }
        known => drop(known?),
    }
    let inputs = eta::inputs_of(settings, &queue, plan.app).await?;
    let estimate = inputs.estimate(plan.open.counts);
    queue.close().await;
    let digest = plan.digest();
    let words: Vec<std::ffi::OsString> = std::env::args_os().skip(1).collect();
    let command = run_line(&words, &digest);
    let text = if args.json {
        json(&plan, &estimate, &digest, &command)
    } else {
        format!(
            "{}\n\ndigest of this plan:\n{digest}\nto do this and nothing more:\n{command}\n",
            plan_text(&plan, &estimate, &all_line(&words))
        )
    };
    let written = if args.json { out.json(&text) } else { out.data(&text) };
    written.map_err(CommandError::io("stdout cannot be written"))?;
    Ok(Exit::Done)
}

/// The output of `--json`. `schema` changes when a key is removed or changes its meaning; new keys
/// may be added without that.
#[derive(Serialize)]
struct Json<'a> {
    schema: u32,
    digest: &'a str,
    command: &'a str,
    /// The canonical text that the digest is computed from.
    approved: String,
    #[serde(flatten)]
    destination: JsonDestination<'a>,
    file: Option<JsonFile<'a>>,
    waiting: JsonCounts,
    send: JsonCounts,
    /// Of `send`, jobs that may have been applied already: they are in flight or in doubt.
    in_doubt: u64,
    requests: JsonRange<u64>,
    seconds: JsonRange<f64>,
    deletes: &'a [String],
}

#[derive(Serialize)]
struct JsonDestination<'a> {
    sdkappid: u64,
    library: &'a str,
    endpoint: &'a str,
    chunk: u64,
    again: bool,
}

#[derive(Serialize)]
struct JsonFile<'a> {
    path: &'a str,
    digest: &'a str,
    rows: u64,
    duplicates: u64,
    rejected: u64,
    jobs: JsonCounts,
    /// `new`, `continues`, `finished` or `empty`.
    effect: Effect,
    batch: Option<i64>,
    batch_open: Option<u64>,
    superseded: u64,
    /// One sentence each, to be read before approving.
    warnings: &'a [String],
}

#[derive(Serialize)]
struct JsonCounts {
    total: u64,
    enable: u64,
    disable: u64,
    delete: u64,
}

#[derive(Serialize)]
struct JsonRange<T> {
    from: T,
    to: T,
}

impl From<[u64; 3]> for JsonCounts {
    fn from(counts: [u64; 3]) -> Self {
        let [enable, disable, delete] = counts;
        Self { total: counts.iter().sum(), enable, disable, delete }
    }
}

impl<T: Copy> JsonRange<T> {
    fn new<F>(range: &RangeInclusive<F>, to: impl Fn(&F) -> T) -> Self {
        Self { from: to(range.start()), to: to(range.end()) }
    }
}

fn json(plan: &Plan, estimate: &Eta, digest: &str, command: &str) -> String {
    let file = plan.file.as_ref().map(|file| JsonFile {
        path: &file.name,
        digest: &file.digest,
        rows: file.rows,
        duplicates: file.duplicates,
        rejected: file.rejected,
        jobs: file.jobs.into(),
        effect: file.effect,
        batch: file.known.map(|(batch, _)| batch),
        batch_open: file.known.map(|(_, open)| open),
        superseded: file.superseded,
        warnings: &file.warnings,
    });
    let json = Json {
        schema: 1,
        digest,
        command,
        approved: plan.canonical_text(),
        destination: JsonDestination {
            sdkappid: plan.app.sdkappid,
            library: plan.app.library.name(),
            endpoint: &plan.endpoint,
            chunk: plan.chunk,
            again: plan.again,
        },
        file,
        waiting: plan.waiting.counts.into(),
        send: plan.open.counts.into(),
        in_doubt: plan.in_doubt,
        requests: JsonRange::new(&estimate.requests, |n| *n),
        seconds: JsonRange::new(&estimate.time, std::time::Duration::as_secs_f64),
        deletes: &plan.deletes,
    };
    let mut text = serde_json::to_string(&json).unwrap_or_default();
    text.push('\n');
    text
}
