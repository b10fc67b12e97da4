//! `deskbatch plan`, and the plan that `run` compares or shows before it deletes. The only place that
//! makes a plan.

use std::ops::RangeInclusive;
use std::path::Path;

use serde::Serialize;

use super::arguments;
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
use crate::output::{Output, json_line, plan_text};
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
        reimport: args.reimport,
        file: match file {
            Some(file) => Some(file_plan(staged, file).await?),
            None => None,
        },
        pending: survey.pending,
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
    same_service: bool,
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
    match Service::of(settings, same_service, &queue).await {
        Err(CommandError::Usage(reason)) => {
            out.warn(&format!("warning: a run of this plan would end with exit code 2: {reason}"));
        }
        known => drop(known?),
    }
    let inputs = eta::inputs_of(settings, &queue, plan.app).await?;
    let estimate = inputs.estimate(plan.open.counts);
    queue.close().await;
    let digest = plan.digest();
    let words = arguments();
    let command = run_line(&words, &digest);
    let text = if args.json {
        json(&plan, &estimate, &digest, &command)
    } else {
        format!(
            "{}\n\ndigest of this plan:\n{digest}\nto execute exactly this plan:\n{command}\n",
            plan_text(&plan, &estimate, all_line(&words).as_deref())
        )
    };
    let written = if args.json { out.json(&text) } else { out.data(&text) };
    written.map_err(CommandError::io("cannot write to stdout"))?;
    Ok(Exit::Done)
}

/// The output of `deskbatch plan --json`.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct PlanJson<'a> {
    /// Version of this format. It changes when a field is removed or changes its meaning.
    schema: u32,
    /// The digest of the plan, for `--plan`.
    digest: &'a str,
    /// The command line that executes exactly this plan.
    command: &'a str,
    /// The text that the digest is computed from.
    canonical_text: String,
    #[serde(flatten)]
    destination: JsonDestination<'a>,
    /// The manifest; null if none is named.
    file: Option<JsonFile<'a>>,
    /// Pending jobs of earlier imports that the run sends too.
    pending: JsonCounts,
    /// All jobs that the run sends.
    jobs: JsonCounts,
    /// Of `jobs`, those in flight or in doubt: a request may have applied them already.
    in_doubt: u64,
    /// Estimated number of requests.
    requests: JsonRange<u64>,
    /// ETA, in seconds.
    seconds: JsonRange<f64>,
    /// The ids of all questions that the run deletes.
    deletes: &'a [String],
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct JsonDestination<'a> {
    /// SDKAppID of the app.
    sdkappid: u64,
    /// Library of the app: chitchat or faq.
    library: &'a str,
    /// Host that receives the requests; `sandbox` for a sandbox run.
    endpoint: &'a str,
    /// Maximum questions per request.
    chunk: u64,
    /// Whether a known manifest is imported again.
    reimport: bool,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct JsonFile<'a> {
    /// Path of the manifest as given.
    path: &'a str,
    /// SHA-256 of the manifest and of the options that change its meaning.
    digest: &'a str,
    /// All rows.
    rows: u64,
    /// Rows that repeat an earlier row.
    duplicates: u64,
    /// Invalid rows that are skipped.
    rejected: u64,
    /// The jobs of the manifest.
    jobs: JsonCounts,
    /// Effect of the import: `new` (a new batch), `continues` (a known manifest with unfinished jobs),
    /// `finished` (a known manifest without any) or `empty` (no rows).
    effect: Effect,
    /// Number of the batch of a known manifest.
    batch: Option<i64>,
    /// Unfinished jobs of that batch.
    batch_unfinished: Option<u64>,
    /// Pending jobs that the import replaces.
    superseded: u64,
    /// Warnings about the manifest, one sentence each.
    warnings: &'a [String],
}

/// Jobs by target status.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct JsonCounts {
    /// All jobs.
    total: u64,
    /// Jobs that enable a question.
    enable: u64,
    /// Jobs that disable a question.
    disable: u64,
    /// Jobs that delete a question.
    delete: u64,
}

/// An estimated range.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct JsonRange<T> {
    /// Lower end.
    from: T,
    /// Upper end.
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
        batch_unfinished: file.known.map(|(_, open)| open),
        superseded: file.superseded,
        warnings: &file.warnings,
    });
    let json = PlanJson {
        schema: 1,
        digest,
        command,
        canonical_text: plan.canonical_text(),
        destination: JsonDestination {
            sdkappid: plan.app.sdkappid,
            library: plan.app.library.name(),
            endpoint: &plan.endpoint,
            chunk: plan.chunk,
            reimport: plan.reimport,
        },
        file,
        pending: plan.pending.counts.into(),
        jobs: plan.open.counts.into(),
        in_doubt: plan.in_doubt,
        requests: JsonRange::new(&estimate.requests, |n| *n),
        seconds: JsonRange::new(&estimate.time, std::time::Duration::as_secs_f64),
        deletes: &plan.deletes,
    };
    json_line(&json)
}
