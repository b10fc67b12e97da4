//! `deskbatch run`: the main job. Composes clock, transport, store, gate and runner.

use std::path::Path;
use std::time::Duration;

use futures_util::TryStreamExt as _;

use super::expected::basis_of;
use super::import::{Staged, commit, stage};
use super::plan::{DELETES_SHOWN, Making, Proposal, plan_of, propose};
use super::{CommandError, Exit, approved, signals};
use crate::cli::RunArgs;
use crate::clock::{Clock as _, SystemClock};
use crate::config::{Account, Settings, sandbox_settings};
use crate::desk::{HttpSettings, HttpTransport};
use crate::job::{App, JobState};
use crate::output::{Output, RunSummaryText, follow, plan_text};
use crate::plan::{Plan, deletes};
use crate::runner::{Events, RunReport, Runner, RunnerSettings, Shutdown, Urgency};
use crate::sandbox::{Sandbox, SandboxSettings};
use crate::store::{ApprovalId, BatchId, Record, RecordFilter, RunEnding, RunLock, Store};

/// How many refused jobs the summary names.
const REFUSED_SHOWN: u32 = 20;

/// Runs the command.
pub(super) async fn run(
    settings: &Settings,
    args: &RunArgs,
    out: &Output,
) -> Result<Exit, CommandError> {
    let clock = SystemClock::new();
    let mut account = settings.account()?;
    let behaviour = settings.rehearsal.then(|| sandbox_settings(settings, &args.rehearsal, None));
    let behaviour = behaviour.transpose()?;
    let store = Store::open(&settings.database).await?;
    let lock = RunLock::take(store.path(), clock.wall_ms())?;
    let consent = match (&args.plan, &args.file) {
        (Some(digest), _) => approved::take(settings, args, digest, &store, out).await?,
        (None, Some(file)) => {
            import_and_confirm(settings, args, file, &account, &store, out).await?
        }
        (None, None) => confirm_what_waits(settings, args, &account, &store, out).await?,
    };
    let (deletes, approved) = match consent {
        Consent::Given { deletes, approved } => (deletes, approved),
        Consent::Finished(exit) => return Ok(exit),
        Consent::Refused => {
            out.must_say("nothing was imported and nothing was sent");
            return Ok(Exit::Wrong);
        }
    };
    if store.open_of(account.app, approved).await? == 0 {
        out.say(&nothing_to_do(account.app, approved, &store));
        store.close().await;
        return Ok(Exit::Done);
    }
    let rehearsal = match behaviour {
        Some(behaviour) => Some(start_sandbox(behaviour, &mut account, out).await?),
        None => None,
    };
    let scope = match approved {
        Some(approval) => Scope::Approved(approval),
        None => Scope::Batches {
            unfinished: store.unfinished_batches(account.app).await?,
            last: store.last_batch().await?,
        },
    };
    let limits = settings.runner(account.app, deletes, approved);
    let report = drain(settings, account, limits, &store, &lock, clock, out).await?;
    if let Some(sandbox) = rehearsal {
        sandbox.stop().await;
    }
    let exit = conclude(settings, &store, &report, &scope, out).await?;
    store.close().await;
    Ok(exit)
}

/// Names the app: jobs of another one, or of its other library, may well be waiting.
fn nothing_to_do(app: App, approved: Option<ApprovalId>, store: &Store) -> String {
    if approved.is_some() {
        return "nothing to do: newer imports speak for everything that was left of this plan"
            .to_owned();
    }
    format!(
        "nothing to do: no job of application {}, library {}, is waiting in {}",
        app.sdkappid,
        app.library,
        store.path().display()
    )
}

/// What was agreed to before anything is sent.
pub(super) enum Consent {
    /// Nothing.
    Refused,
    /// Nothing is left of what was agreed to.
    Finished(Exit),
    /// The run.
    Given {
        /// Deletes, if somebody was asked or said so beforehand. Without that, such as are
        /// imported while the run goes on stay pending.
        deletes: bool,
        /// The approval whose jobs alone are meant; `None`: everything that waits.
        approved: Option<ApprovalId>,
    },
}

/// Whose failures are this run's business.
enum Scope {
    /// Those of the batches that were unfinished, and of all after the last.
    Batches { unfinished: Vec<BatchId>, last: BatchId },
    /// Those of an approval.
    Approved(ApprovalId),
}

/// Imports `file` unless the run is not wanted. Where a person has to be asked, the queue
/// is not kept waiting for the answer: the import is undone and done again.
async fn import_and_confirm(
    settings: &Settings,
    args: &RunArgs,
    file: &Path,
    account: &Account,
    store: &Store,
    out: &Output,
) -> Result<Consent, CommandError> {
    let staged = || stage(store, account.app, file, &args.manifest, true);
    let plan = async |staged: &mut Staged| {
        plan_of(settings, staged, Some(file), &args.manifest, DELETES_SHOWN).await
    };
    let mut first = staged().await?;
    let open = first.preview.open;
    if !must_ask(settings, args.yes, open) {
        commit(store, first, account.app, &args.manifest, out).await?;
        return Ok(agreed(settings, args.yes, open));
    }
    let asked = plan(&mut first).await?;
    first.undo().await?;
    if file == Path::new("-") || !out.can_ask() {
        return Err(needs_yes(open));
    }
    if !ask(settings, store, &asked, out).await? {
        return Ok(Consent::Refused);
    }
    let mut staged = staged().await?;
    if plan(&mut staged).await?.digest() != asked.digest() {
        return Err(CommandError::Wrong(
            "the manifest or the queue changed while you were asked: nothing was imported, nothing was sent; \
             run again"
                .to_owned(),
        ));
    }
    commit(store, staged, account.app, &args.manifest, out).await?;
    Ok(agreed(settings, args.yes, asked.open.counts))
}

/// Asks about deletes that wait in the queue, if there are any.
async fn confirm_what_waits(
    settings: &Settings,
    args: &RunArgs,
    account: &Account,
    store: &Store,
    out: &Output,
) -> Result<Consent, CommandError> {
    let open = store.open_by_status(account.app).await?;
    if !must_ask(settings, args.yes, open) {
        return Ok(agreed(settings, args.yes, open));
    }
    if !out.can_ask() {
        return Err(needs_yes(open));
    }
    let how = Making { writes_rejects: false, deletes_max: DELETES_SHOWN };
    let Proposal { staged, plan } = propose(settings, store, None, &args.manifest, how).await?;
    staged.undo().await?;
    let yes = ask(settings, store, &plan, out).await?;
    Ok(if yes { agreed(settings, args.yes, plan.open.counts) } else { Consent::Refused })
}

/// Shows the plan and asks.
async fn ask(
    settings: &Settings,
    store: &Store,
    plan: &Plan,
    out: &Output,
) -> Result<bool, CommandError> {
    let forecast = basis_of(settings, store, plan.app).await?.forecast(plan.open.counts);
    out.must_say(&plan_text(plan, &forecast));
    Ok(out.ask(&format!("Delete {} questions?", plan.open.deletes())))
}

/// After any question that was due: deletes are agreed to if there were some to ask about.
fn agreed(settings: &Settings, yes: bool, open: [u64; 3]) -> Consent {
    Consent::Given { deletes: yes || settings.rehearsal || deletes(open) > 0, approved: None }
}

/// A rehearsal deletes nothing that anybody misses.
fn must_ask(settings: &Settings, yes: bool, open: [u64; 3]) -> bool {
    !yes && !settings.rehearsal && deletes(open) > 0
}

fn needs_yes(open: [u64; 3]) -> CommandError {
    CommandError::Wrong(format!(
        "this run would delete {} questions, and nobody is there to be asked: nothing was imported, nothing was \
         sent; look at it with deskbatch plan and run the line that it ends with, or add --yes to delete without a \
         question",
        deletes(open)
    ))
}

async fn start_sandbox(
    behaviour: SandboxSettings,
    account: &mut Account,
    out: &Output,
) -> Result<Sandbox, CommandError> {
    let sandbox = Sandbox::start(behaviour)
        .await
        .map_err(CommandError::io("the sandbox cannot be started"))?;
    let endpoint = sandbox.endpoint();
    out.say(&format!("rehearsal: the sandbox at {endpoint} takes the service's place"));
    account.endpoint = Some(endpoint.parse().map_err(CommandError::Wrong)?);
    Ok(sandbox)
}

/// Returns when a run was told to end and does not: it waits for its queue.
async fn stuck(shutdown: Shutdown, clock: SystemClock, grace: Duration) {
    const ENDS_BY_ITSELF: Duration = Duration::from_secs(1);
    let (mut finish, mut now) = (shutdown.clone(), shutdown);
    let at_once = async {
        now.asked(Urgency::Now).await;
        clock.sleep_until(clock.now() + ENDS_BY_ITSELF).await;
    };
    let in_time = async {
        finish.asked(Urgency::Finish).await;
        clock.sleep_until(clock.now() + grace + 10 * ENDS_BY_ITSELF).await;
    };
    tokio::select! {
        () = at_once => {}
        () = in_time => {}
    }
}

async fn drain(
    settings: &Settings,
    account: Account,
    limits: RunnerSettings,
    store: &Store,
    lock: &RunLock,
    clock: SystemClock,
    out: &Output,
) -> Result<RunReport, CommandError> {
    let Account { identifier, signer, endpoint, .. } = account;
    let Some(endpoint) = endpoint else {
        return Err(CommandError::Wrong("no endpoint is set".to_owned()));
    };
    let timeouts = settings.timeouts();
    let transport = HttpTransport::new(&HttpSettings {
        endpoint,
        identifier,
        connect_timeout: timeouts.connect,
        total_timeout: timeouts.total,
    })?;
    let events = Events::new();
    let chunk = basis_of(settings, store, limits.app).await?.chunk;
    let heard = events.listen();
    let watcher = tokio::spawn(follow(out.clone(), clock.clone(), heard, chunk, settings.rate()));
    let shutdown = signals::listen(out)?;
    let at_once = stuck(shutdown.clone(), clock.clone(), limits.grace);
    let runner = Runner::new(clock, store.clone(), transport, signer, limits, events);
    let report = tokio::select! {
        report = runner.run(lock, shutdown) => report,
        // A run may be left anywhere: the next one finds what it had in flight.
        () = at_once => return Err(CommandError::Abandoned),
    };
    // The watcher ends with the run's last event, or with the channel.
    let _ = watcher.await;
    Ok(report?)
}

/// Tells how the run went and finds its exit code.
async fn conclude(
    settings: &Settings,
    store: &Store,
    report: &RunReport,
    scope: &Scope,
    out: &Output,
) -> Result<Exit, CommandError> {
    let app = settings.app()?;
    let mut counts = store.counts_of(app).await?;
    let mut unapproved = 0;
    let failed = match scope {
        Scope::Batches { unfinished, last } => store.failed_in(unfinished, *last).await?,
        Scope::Approved(approval) => {
            let left = store.open_of(app, Some(*approval)).await?;
            unapproved = counts.open().saturating_sub(left);
            counts.pending = left.saturating_sub(counts.in_flight);
            store.failed_of(*approval).await?
        }
    };
    let filter = RecordFilter {
        state: Some(JobState::Failed),
        run: Some(report.run),
        limit: Some(REFUSED_SHOWN),
        ..RecordFilter::default()
    };
    let refused: Vec<Record> = store.records(filter).try_collect().await?;
    let text = RunSummaryText {
        report,
        counts,
        failed,
        approved: matches!(scope, Scope::Approved(_)),
        unapproved,
        refused: &refused,
        database: &settings.database,
        rehearsal: settings.rehearsal,
    };
    let exit = match report.ending {
        RunEnding::Drained if text.counts.pending > 0 => Exit::Stopped,
        RunEnding::Drained if failed == 0 => Exit::Done,
        RunEnding::Drained => Exit::SomeFailed,
        RunEnding::Signal | RunEnding::Outage | RunEnding::TooManyFailures => Exit::Stopped,
        RunEnding::Refused | RunEnding::Suspicious => Exit::Refused,
        RunEnding::Broken => Exit::Broken,
    };
    if exit == Exit::Done && unapproved == 0 {
        out.say(&text.text());
    } else {
        out.must_say(&text.text());
    }
    Ok(exit)
}
