//! `deskbatch run`: the main job. Composes clock, transport, store, gate and runner.

use std::fmt::Write as _;
use std::path::Path;

use futures_util::TryStreamExt as _;

use super::import::{commit, stage};
use super::{CommandError, Exit, signals};
use crate::cli::RunArgs;
use crate::clock::{Clock as _, SystemClock};
use crate::config::{Account, Settings, sandbox_settings};
use crate::desk::{HttpSettings, HttpTransport};
use crate::job::{App, JobState, Status};
use crate::output::{Output, RunSummaryText, follow, minutes_text};
use crate::runner::{Events, RunReport, Runner};
use crate::sandbox::{Sandbox, SandboxSettings};
use crate::store::{BatchId, Record, RecordFilter, RunEnding, RunLock, Store};

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
    let consent = match &args.file {
        Some(file) => import_and_confirm(settings, args, file, &account, &store, out).await?,
        None => {
            let open = store.open_by_status(account.app).await?;
            confirm(settings, args.yes, &account, open, out)?
        }
    };
    let Consent::Given { deletes } = consent else {
        out.must_say("nothing was imported and nothing was sent");
        return Ok(Exit::Wrong);
    };
    if store.open_by_status(account.app).await? == [0; 3] {
        out.say(&nothing_to_do(account.app, &store));
        store.close().await;
        return Ok(Exit::Done);
    }
    let rehearsal = match behaviour {
        Some(behaviour) => Some(start_sandbox(behaviour, &mut account, out).await?),
        None => None,
    };
    let scope = Scope {
        unfinished: store.unfinished_batches(account.app).await?,
        last: store.last_batch().await?,
    };
    let report = drain(settings, account, deletes, &store, &lock, clock, out).await?;
    if let Some(sandbox) = rehearsal {
        sandbox.stop().await;
    }
    let exit = conclude(settings, &store, &report, &scope, out).await?;
    store.close().await;
    Ok(exit)
}

/// Names the app: jobs of another one, or of its other library, may well be waiting.
fn nothing_to_do(app: App, store: &Store) -> String {
    format!(
        "nothing to do: no job of application {}, library {}, is waiting in {}",
        app.sdkappid,
        app.library,
        store.path().display()
    )
}

/// What was agreed to before anything is sent.
enum Consent {
    /// Nothing.
    Refused,
    /// The run; and deletes, if somebody was asked or said so beforehand. Without that, such
    /// as are imported while the run goes on stay pending.
    Given { deletes: bool },
}

/// The batches whose failures are this run's business.
struct Scope {
    unfinished: Vec<BatchId>,
    last: BatchId,
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
    let app = account.app;
    let mut staged = stage(store, app, file, &args.manifest, true).await?;
    let open = staged.preview.open;
    if must_ask(settings, args.yes, open) {
        let digest = staged.read.digest.clone();
        staged.undo().await?;
        if file == Path::new("-") {
            return Err(needs_yes(open));
        }
        if matches!(confirm(settings, args.yes, account, open, out)?, Consent::Refused) {
            return Ok(Consent::Refused);
        }
        staged = stage(store, app, file, &args.manifest, true).await?;
        if staged.read.digest != digest || staged.preview.open != open {
            return Err(CommandError::Wrong(
                "the manifest or the queue changed while you were asked: nothing was imported, nothing was sent; \
                 run again"
                    .to_owned(),
            ));
        }
    }
    commit(store, staged, app, &args.manifest, out).await?;
    Ok(agreed(settings, args.yes, open))
}

/// After any question that was due: deletes are agreed to if there were some to ask about.
fn agreed(settings: &Settings, yes: bool, open: [u64; 3]) -> Consent {
    Consent::Given { deletes: yes || settings.rehearsal || deletes(open) > 0 }
}

/// A rehearsal deletes nothing that anybody misses.
fn must_ask(settings: &Settings, yes: bool, open: [u64; 3]) -> bool {
    !yes && !settings.rehearsal && deletes(open) > 0
}

fn deletes(open: [u64; 3]) -> u64 {
    Status::ALL
        .iter()
        .zip(open)
        .filter(|(status, _)| **status == Status::Delete)
        .map(|(_, n)| n)
        .sum()
}

fn needs_yes(open: [u64; 3]) -> CommandError {
    CommandError::Wrong(format!(
        "this run would delete {} questions, and nobody is there to be asked: nothing was imported, nothing was \
         sent; add --yes to delete without a question",
        deletes(open)
    ))
}

/// Shows the plan and asks, if the run deletes anything.
fn confirm(
    settings: &Settings,
    yes: bool,
    account: &Account,
    open: [u64; 3],
    out: &Output,
) -> Result<Consent, CommandError> {
    if !must_ask(settings, yes, open) {
        return Ok(agreed(settings, yes, open));
    }
    if !out.can_ask() {
        return Err(needs_yes(open));
    }
    out.must_say(&plan_text(settings, account, open));
    let yes = out.ask(&format!("Delete {} questions?", deletes(open)));
    Ok(if yes { Consent::Given { deletes: true } } else { Consent::Refused })
}

fn plan_text(settings: &Settings, account: &Account, open: [u64; 3]) -> String {
    let host = account.endpoint.as_ref().map(ToString::to_string).unwrap_or_default();
    let mut text = format!(
        "This run sends to {host}, for application {}, library {}:",
        account.app.sdkappid, account.app.library
    );
    let mut requests = 0;
    for (status, count) in Status::ALL.into_iter().zip(open).filter(|(_, count)| *count > 0) {
        requests += count.div_ceil(settings.chunk());
        let note = if status == Status::Delete { "   there is no way back" } else { "" };
        let _ = write!(text, "\n  {status:8} {count:>9} questions{note}");
    }
    let _ = write!(
        text,
        "\n  {requests} requests or more, {} or more",
        minutes_text(requests, 1, settings.rate())
    );
    text
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

async fn drain(
    settings: &Settings,
    account: Account,
    deletes: bool,
    store: &Store,
    lock: &RunLock,
    clock: SystemClock,
    out: &Output,
) -> Result<RunReport, CommandError> {
    let Account { app, identifier, signer, endpoint } = account;
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
    let watcher = tokio::spawn(follow(
        out.clone(),
        clock.clone(),
        events.listen(),
        settings.chunk(),
        settings.rate(),
    ));
    let shutdown = signals::listen(out)?;
    let runner = Runner::new(
        clock,
        store.clone(),
        transport,
        signer,
        settings.runner(app, deletes, None),
        events,
    );
    let report = runner.run(lock, shutdown).await;
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
    let failed = store.failed_in(&scope.unfinished, scope.last).await?;
    let filter = RecordFilter {
        state: Some(JobState::Failed),
        run: Some(report.run),
        limit: Some(REFUSED_SHOWN),
        ..RecordFilter::default()
    };
    let refused: Vec<Record> = store.records(filter).try_collect().await?;
    let text = RunSummaryText {
        report,
        counts: store.counts_of(settings.app()?).await?,
        failed,
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
    if exit == Exit::Done {
        out.say(&text.text());
    } else {
        out.must_say(&text.text());
    }
    Ok(exit)
}
