//! `deskbatch run`: the main job. Composes clock, transport, store, gate and runner.

use std::time::Duration;

use futures_util::TryStreamExt as _;

use super::consent::{self, Consent};
use super::expected::basis_of;
use super::finish::Told;
use super::metrics_file::MetricsFile;
use super::reading::Importing;
use super::{CommandError, Exit, approved, dashboard, finish, signals, turn};
use crate::cli::RunArgs;
use crate::clock::{Clock as _, SystemClock};
use crate::config::{Account, Settings, sandbox_settings};
use crate::desk::{HttpSettings, HttpTransport};
use crate::job::{App, JobState};
use crate::manifest::must_be_there;
use crate::output::{Output, RunSummaryText, follow};
use crate::runner::{Events, RunReport, Runner, RunnerSettings, Shutdown, Urgency};
use crate::sandbox::{Sandbox, SandboxSettings};
use crate::store::{ApprovalId, BatchId, Record, RecordFilter, RunEnding, RunLock, Store};

/// How many refused jobs the summary names.
const REFUSED_SHOWN: u32 = 20;

/// Runs the command, and lets `--metrics-file` and `--on-finish` know.
pub(super) async fn run(
    settings: &Settings,
    args: &RunArgs,
    out: &Output,
) -> Result<Exit, CommandError> {
    let clock = SystemClock::new();
    let mut told = Told::default();
    let metrics = MetricsFile::new(settings, out);
    let ended = import_and_drain(settings, args, &clock, &metrics, &mut told, out).await;
    metrics.conclude(&ended, &clock).await;
    finish::tell(settings, &ended, &told, clock.wall_ms(), out).await;
    ended
}

async fn import_and_drain(
    settings: &Settings,
    args: &RunArgs,
    clock: &SystemClock,
    metrics: &MetricsFile,
    told: &mut Told,
    out: &Output,
) -> Result<Exit, CommandError> {
    if let Some(file) = &args.file {
        must_be_there(file)?;
    }
    let deadline = settings.max_duration().map(|most| clock.now() + most);
    let mut account = settings.account()?;
    let behaviour = settings.rehearsal.then(|| sandbox_settings(settings, &args.rehearsal, None));
    let behaviour = behaviour.transpose()?;
    let store = Store::open(&settings.database).await?;
    let lock = turn::take(settings, &store, clock, deadline, out).await?;
    let _kept = metrics.keep(&store, clock).await;
    let dashboard = dashboard::take_for_run(settings).await?;
    let (shutdown, sends) = signals::listen_for_run(out, clock, deadline)?;
    let ground = Importing::begin(out, shutdown.clone());
    let consent = match (&args.plan, &args.file) {
        (Some(digest), _) => approved::take(settings, args, digest, &store, &ground).await?,
        (None, Some(file)) => {
            consent::import(settings, args, file, &account, &store, &ground).await?
        }
        (None, None) => consent::what_waits(settings, args, &account, &store, &ground).await?,
    };
    let (deletes, approved, batch) = match consent {
        Consent::Given { deletes, approved, batch } => (deletes, approved, batch),
        Consent::Finished(exit) => return Ok(exit),
        Consent::Refused => {
            out.must_say("nothing was imported and nothing was sent");
            return Ok(Exit::Wrong);
        }
    };
    if store.open_of(account.app, approved).await? == 0 {
        let failed = store.failed_in(batch.as_slice(), BatchId::MAX).await?;
        let text = nothing_to_do(account.app, approved, failed, &store);
        store.close().await;
        return Ok(told.nothing_to_do(&text, failed, out));
    }
    let rehearsal = match behaviour {
        Some(behaviour) => Some(start_sandbox(behaviour, &mut account, out).await?),
        None => None,
    };
    let scope = match approved {
        Some(approval) => Scope::Approved(approval),
        None => {
            let mut named = store.unfinished_batches(account.app).await?;
            named.extend(batch);
            Scope::Batches { named, last: store.last_batch().await? }
        }
    };
    let limits = settings.runner(account.app, deletes, approved);
    sends.begin();
    let events = Events::new();
    let dashboard = dashboard.map(|taken| taken.serve(settings, &store, Some(&events), out));
    let ground = Ground { settings, store: &store, lock: &lock, clock, out };
    let report = ground.drain(account, limits, events, shutdown).await?;
    if let Some(sandbox) = rehearsal {
        sandbox.stop().await;
    }
    let exit = conclude(settings, &store, &report, &scope, told, out).await?;
    if let Some(dashboard) = dashboard {
        dashboard.stop().await;
    }
    store.close().await;
    Ok(exit)
}

/// Names the app: jobs of another one, or of its other library, may well be waiting. What was
/// asked for is not done where jobs of the file that was named have failed.
fn nothing_to_do(app: App, approved: Option<ApprovalId>, failed: u64, store: &Store) -> String {
    if failed > 0 {
        return format!(
            "nothing is left to send, {failed} jobs of it have failed: deskbatch report --only failed lists them, \
             deskbatch retry takes them back"
        );
    }
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

/// Whose failures are this run's business.
enum Scope {
    /// Those of these batches, which were unfinished or whose file was named, and of all after
    /// the last.
    Batches { named: Vec<BatchId>, last: BatchId },
    /// Those of an approval.
    Approved(ApprovalId),
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

/// What a drain stands on.
struct Ground<'a> {
    settings: &'a Settings,
    store: &'a Store,
    lock: &'a RunLock,
    clock: &'a SystemClock,
    out: &'a Output,
}

impl Ground<'_> {
    async fn drain(
        &self,
        account: Account,
        limits: RunnerSettings,
        events: Events,
        shutdown: Shutdown,
    ) -> Result<RunReport, CommandError> {
        let Self { settings, store, lock, clock, out } = *self;
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
        let chunk = basis_of(settings, store, limits.app).await?.chunk;
        let heard = events.listen();
        let watcher =
            tokio::spawn(follow(out.clone(), clock.clone(), heard, chunk, settings.rate()));
        let at_once = stuck(shutdown.clone(), clock.clone(), limits.grace);
        let runner = Runner::new(clock.clone(), store.clone(), transport, signer, limits, events);
        let report = tokio::select! {
            report = runner.run(lock, shutdown) => report,
            // A run may be left anywhere: the next one finds what it had in flight.
            () = at_once => return Err(CommandError::Abandoned),
        };
        // The watcher ends with the run's last event, or with the channel.
        let _ = watcher.await;
        Ok(report?)
    }
}

/// Tells how the run went and finds its exit code.
async fn conclude(
    settings: &Settings,
    store: &Store,
    report: &RunReport,
    scope: &Scope,
    told: &mut Told,
    out: &Output,
) -> Result<Exit, CommandError> {
    let app = settings.app()?;
    let mut counts = store.counts_of(app).await?;
    let mut unapproved = 0;
    let failed = match scope {
        Scope::Batches { named, last } => store.failed_in(named, *last).await?,
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
    told.concluded(report, counts, failed, &refused);
    let text = RunSummaryText {
        report,
        counts,
        failed,
        approved: matches!(scope, Scope::Approved(_)),
        unapproved,
        refused: &refused,
        database: &settings.database,
        flags: settings.flags(),
        flags_of_runs: settings.flags_of_runs(),
        rehearsal: settings.rehearsal,
    };
    let exit = match report.ending {
        RunEnding::Drained if text.counts.pending > 0 => Exit::Stopped,
        RunEnding::Drained if failed == 0 => Exit::Done,
        RunEnding::Drained => Exit::SomeFailed,
        RunEnding::Signal
        | RunEnding::TimeOver
        | RunEnding::Outage
        | RunEnding::TooManyFailures => Exit::Stopped,
        RunEnding::Refused | RunEnding::Suspicious => Exit::Refused,
        RunEnding::Broken => Exit::Broken,
    };
    let words = text.text();
    told.says(&words);
    if exit == Exit::Done && unapproved == 0 {
        out.say(&words);
    } else {
        out.must_say(&words);
    }
    Ok(exit)
}
