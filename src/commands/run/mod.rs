//! `deskbatch run`: imports a manifest and drains the queue. The steps in their order: locks,
//! import and confirmation, sending, summary, metrics file, `--on-finish` hook.

mod conclude;
mod confirm;
mod context;
mod drain;
mod failure_scope;
mod hook_payload;
mod metrics_file;
mod nothing_to_do;
mod on_finish_hook;
mod wait_for_lock;
mod with_plan;

use conclude::conclude;
use confirm::{Confirmation, Confirmed, confirm_pending};
use context::{LockedQueue, RunContext};
use drain::drain;
use failure_scope::FailureScope;
#[cfg(test)]
pub(super) use hook_payload::PayloadJson;
use hook_payload::{HookPayload, log_run_ended};
use metrics_file::MetricsFile;
use on_finish_hook::run_hook;
use wait_for_lock::wait_for_lock;
use with_plan::confirm_by_digest;

use super::error::{CommandError, Exit};
use super::import::{ImportContext, NamedManifest};
use super::service::Service;
use super::signals::Phase;
use super::{dashboard, signals};
use crate::cli::RunArgs;
use crate::config::{Account, Settings, sandbox_settings};
use crate::desk::{ClientError, route};
use crate::domain::clock::{Clock as _, SystemClock};
use crate::manifest::must_be_there;
use crate::output::Output;
use crate::queue::{BatchId, Queue, QueueError};
use crate::runner::{Events, Shutdown, ShutdownMode};
use crate::sandbox::{Sandbox, SandboxSettings};

/// Runs the command; then, however it ended, writes the metrics file and calls the hook.
pub(super) async fn run(
    settings: &Settings,
    args: &RunArgs,
    out: &Output,
) -> Result<Exit, CommandError> {
    let clock = SystemClock::new();
    let began = clock.now();
    let mut payload = HookPayload::default();
    let metrics = MetricsFile::new(settings, out);
    let signals = signals::listen_for_run(out)?;
    let ctx = RunContext { settings, args, clock: &clock, signals: &signals, out };
    let result = Box::pin(import_and_drain(&ctx, &metrics, &mut payload)).await;
    let result = result.map_err(|error| error.at(&settings.database));
    metrics.conclude(&result, &clock).await;
    log_run_ended(&result, &payload, args.file.as_deref(), clock.now().since(began));
    signals.enter(Phase::Finish);
    run_hook(settings, &result, &payload, &clock, signals.hook(), out).await;
    result
}

async fn import_and_drain(
    ctx: &RunContext<'_>,
    metrics: &MetricsFile,
    payload: &mut HookPayload,
) -> Result<Exit, CommandError> {
    let RunContext { settings, args, clock, signals, out } = *ctx;
    if let Some(file) = &args.file {
        must_be_there(file)?;
    }
    let deadline = settings.max_duration().map(|most| clock.now() + most);
    let (mut account, sandbox) = destination(settings, args)?;
    let queue = open(settings, signals.run()).await?;
    let locked = wait_for_lock(ctx, &account, queue, deadline).await?;
    let queue = &locked.queue;
    signals.time_ends(clock, deadline);
    signals.enter(Phase::Import);
    let _metrics_writer = metrics.keep(queue, clock).await;
    let dashboard = dashboard::bind_for_run(settings).await?;
    let service = Service::of(settings, args.same_service, queue).await?;
    payload.set_in_doubt(queue.count_in_doubt(account.app).await?);
    let last_batch_before = queue.last_batch().await?;
    let Confirmed { approval, batch } = match confirm(ctx, &locked, payload).await? {
        Ok(confirmed) => confirmed,
        Err(exit) => return Ok(exit),
    };
    let named = NamedManifest { file: args.file.as_deref(), batch, last_batch_before };
    let scope = FailureScope::new(account.app, approval, batch, queue).await?;
    if scope.has_nothing_to_send(account.app, queue).await? {
        let failed = queue.count_failed(batch.as_slice(), BatchId::MAX).await?;
        let (text, is_done) = nothing_to_do::explain(ctx, &named, &scope, failed, &locked).await?;
        locked.queue.close().await;
        return Ok(payload.record_nothing_to_do(&text, failed, is_done, out));
    }
    let sandbox = match sandbox {
        Some(sandbox) => Some(start_sandbox(sandbox, &mut account, out).await?),
        None => None,
    };
    let limits = settings.runner(account.app, scope.approval);
    signals.enter(Phase::Send);
    let events = Events::new();
    let dashboard = dashboard.map(|bound| bound.serve(settings, queue, Some(&events), out));
    let report = drain(ctx, &locked, account, limits, events, &service).await?;
    if let Some(sandbox) = sandbox {
        sandbox.stop().await;
    }
    service.conclude(&report, queue).await?;
    let exit = conclude(ctx, queue, &report, &scope, &named, payload).await?;
    if let Some(dashboard) = dashboard {
        dashboard.stop("finished: this is its final state").await;
    }
    locked.queue.close().await;
    Ok(exit)
}

/// Imports the manifest and gets the deletes confirmed. The inner error is the exit code of a run
/// that was declined or has nothing left to do.
async fn confirm(
    ctx: &RunContext<'_>,
    locked: &LockedQueue,
    payload: &mut HookPayload,
) -> Result<Result<Confirmed, Exit>, CommandError> {
    let RunContext { args, out, .. } = *ctx;
    let import = ImportContext::begin(out, ctx.signals.run());
    let confirmation = match &args.plan {
        Some(digest) => confirm_by_digest(digest, ctx, locked, &import).await?,
        None => confirm_pending(ctx, locked, &import).await?,
    };
    Ok(match confirmation {
        Confirmation::Granted(confirmed) => {
            payload.set_batch(confirmed.batch);
            Ok(confirmed)
        }
        Confirmation::Complete { text, failed, is_done } => {
            Err(payload.record_nothing_to_do(&text, failed, is_done, out))
        }
        Confirmation::Declined => {
            let text = "not confirmed: nothing was imported or sent";
            payload.set_text(text);
            out.warn(text);
            Err(Exit::Usage)
        }
    })
}

/// The account, and the sandbox's settings in a sandbox run. Checked before anything is imported,
/// the proxy included.
fn destination(
    settings: &Settings,
    args: &RunArgs,
) -> Result<(Account, Option<SandboxSettings>), CommandError> {
    let account = settings.account()?;
    account.endpoint.as_ref().map(route).transpose().map_err(ClientError::Proxy)?;
    let sandbox = settings.is_sandbox_run.then(|| sandbox_settings(settings, &args.sandbox, None));
    Ok((account, sandbox.transpose()?))
}

/// Opens the queue; a signal ends the wait for another process that writes to it.
async fn open(settings: &Settings, mut shutdown: Shutdown) -> Result<Queue, CommandError> {
    tokio::select! {
        biased;
        () = shutdown.requested(ShutdownMode::Graceful) => Err(QueueError::Stopped.into()),
        queue = Queue::open(&settings.database) => Ok(queue?),
    }
}

async fn start_sandbox(
    settings: SandboxSettings,
    account: &mut Account,
    out: &Output,
) -> Result<Sandbox, CommandError> {
    let sandbox =
        Sandbox::start(settings).await.map_err(CommandError::io("cannot start the sandbox"))?;
    let endpoint = sandbox.endpoint();
    out.info(&format!(
        "sandbox run: sending to the local sandbox at {endpoint}, not to Tencent Cloud"
    ));
    account.endpoint = Some(endpoint.parse().map_err(CommandError::Usage)?);
    Ok(sandbox)
}
