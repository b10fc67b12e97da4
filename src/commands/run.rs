//! `deskbatch run`: the main job. Composes clock, transport, store, gate and runner.

use std::fmt::Write as _;

use futures_util::TryStreamExt as _;
use tokio::runtime::Handle;

use super::consent::{Asking, Consent, Given};
use super::expected::basis_of;
use super::finish::Told;
use super::metrics_file::MetricsFile;
use super::reading::Importing;
use super::service::Service;
use super::signals::{Phase, RunSignals};
use super::standing::Named;
use super::{CommandError, Exit, approved, dashboard, finish, signals, turn};
use crate::cli::RunArgs;
use crate::config::{Account, Settings, sandbox_settings};
use crate::desk::{ClientError, HttpSettings, HttpTransport, route};
use crate::domain::clock::{Clock as _, SystemClock};
use crate::domain::job::{App, JobState};
use crate::manifest::must_be_there;
use crate::output::{Output, RunSummaryText, follow};
use crate::runner::{Events, RunReport, Runner, RunnerSettings, Shutdown, ShutdownMode};
use crate::sandbox::{Sandbox, SandboxSettings};
use crate::store::{
    ApprovalId, BatchId, Covers, OpenJobs, Record, RecordFilter, RunEnding, RunLock, Store,
    StoreError,
};

/// How many refused jobs the summary names.
const REFUSED_SHOWN: u32 = 20;

/// Runs the command, and lets `--metrics-file` and `--on-finish` know.
pub(super) async fn run(
    settings: &Settings,
    args: &RunArgs,
    out: &Output,
) -> Result<Exit, CommandError> {
    let clock = SystemClock::new();
    let began = clock.now();
    let mut told = Told::default();
    let metrics = MetricsFile::new(settings, out);
    let signals = signals::listen_for_run(out)?;
    let around = Around { clock: &clock, metrics: &metrics, signals: &signals };
    let ended = Box::pin(import_and_drain(settings, args, &around, &mut told, out)).await;
    let ended = ended.map_err(|error| error.at(&settings.database));
    metrics.conclude(&ended, &clock).await;
    finish::log_end(&ended, &told, args.file.as_deref(), clock.now().since(began));
    signals.enter(Phase::Finish);
    finish::tell(settings, &ended, &told, &clock, signals.finish(), out).await;
    ended
}

/// What goes on around a run from its beginning to its end.
struct Around<'a> {
    clock: &'a SystemClock,
    metrics: &'a MetricsFile,
    signals: &'a RunSignals,
}

async fn import_and_drain(
    settings: &Settings,
    args: &RunArgs,
    around: &Around<'_>,
    told: &mut Told,
    out: &Output,
) -> Result<Exit, CommandError> {
    let Around { clock, metrics, signals } = *around;
    if let Some(file) = &args.file {
        must_be_there(file)?;
    }
    let deadline = settings.max_duration().map(|most| clock.now() + most);
    let (mut account, behaviour) = destination(settings, args)?;
    let shutdown = signals.run();
    let store = open(settings, shutdown.clone()).await?;
    let turn =
        turn::take(settings, &account, &store, clock, deadline, shutdown.clone(), out).await?;
    let lock = &turn.lock;
    signals.time_ends(clock, deadline);
    signals.enter(Phase::Import);
    let _kept = metrics.keep(&store, clock).await;
    let dashboard = dashboard::take_for_run(settings).await?;
    let ground = Importing::begin(out, shutdown.clone());
    let service = Service::of(settings, args.same_service, &store).await?;
    let last = store.last_batch().await?;
    let asking = Asking { settings, args, store: &store, lock, ground: &ground };
    let consent = match &args.plan {
        Some(digest) => approved::take(digest, &asking).await?,
        None => asking.take().await?,
    };
    let Given { approval, batch } = match given(consent, told, out) {
        Ok(given) => given,
        Err(exit) => return Ok(exit),
    };
    let named = Named { file: args.file.as_deref(), batch, last };
    let scope = Scope::of(account.app, approval, batch, &store).await?;
    if scope.has_nothing_to_send(account.app, &store).await? {
        let failed = store.failed_in(batch.as_slice(), BatchId::MAX).await?;
        let (text, is_done) =
            named.nothing_to_do(account.app, scope.is_plan(), failed, &store).await?;
        store.close().await;
        return Ok(told.nothing_to_do(&text, failed, is_done, out));
    }
    let rehearsal = match behaviour {
        Some(behaviour) => Some(start_sandbox(behaviour, &mut account, out).await?),
        None => None,
    };
    let limits = settings.runner(account.app, scope.approval);
    signals.enter(Phase::Send);
    let events = Events::new();
    let dashboard = dashboard.map(|taken| taken.serve(settings, &store, Some(&events), out));
    let ground = Ground { settings, store: &store, lock, clock, out };
    let report = ground.drain(account, limits, (events, shutdown), &service).await?;
    if let Some(sandbox) = rehearsal {
        sandbox.stop().await;
    }
    service.conclude(&report, &store).await?;
    let exit = conclude(settings, &store, &report, &scope, &named, told, out).await?;
    if let Some(dashboard) = dashboard {
        dashboard.stop("over: this is how it ended").await;
    }
    store.close().await;
    Ok(exit)
}

/// What a run was agreed to; how the command ends where it was not, or nothing is left of it.
fn given(consent: Consent, told: &mut Told, out: &Output) -> Result<Given, Exit> {
    match consent {
        Consent::Given(given) => {
            told.has_batch(given.batch);
            Ok(given)
        }
        Consent::Finished { text, failed, is_done } => {
            Err(told.nothing_to_do(&text, failed, is_done, out))
        }
        Consent::Refused => {
            let text = "nothing was imported and nothing was sent";
            told.says(text);
            out.must_say(text);
            Err(Exit::Wrong)
        }
    }
}

/// The account, and how a rehearsal's service behaves: what is wrong with either is said before
/// anything is imported, an unusable proxy too.
fn destination(
    settings: &Settings,
    args: &RunArgs,
) -> Result<(Account, Option<SandboxSettings>), CommandError> {
    let account = settings.account()?;
    account.endpoint.as_ref().map(route).transpose().map_err(ClientError::Proxy)?;
    let behaviour = settings.rehearsal.then(|| sandbox_settings(settings, &args.rehearsal, None));
    Ok((account, behaviour.transpose()?))
}

/// Opens the queue, which may wait for another process that writes to it.
async fn open(settings: &Settings, mut shutdown: Shutdown) -> Result<Store, CommandError> {
    tokio::select! {
        biased;
        () = shutdown.requested(ShutdownMode::Graceful) => Err(StoreError::Stopped.into()),
        store = Store::open(&settings.database) => Ok(store?),
    }
}

/// Whose failures are this run's business, as it begins.
struct Scope {
    whose: Whose,
    /// The approval of its deletes, or of all that it sends.
    approval: Option<ApprovalId>,
    /// How many jobs of it had been cancelled and superseded.
    withdrawn: [u64; 2],
    /// How many jobs its approval covered no longer.
    uncovered: u64,
}

enum Whose {
    /// Those of these batches, which were unfinished or whose file was named, and of all after
    /// the last.
    Batches { named: Vec<BatchId>, last: BatchId },
    /// Those of a plan.
    Approved(ApprovalId),
}

impl Scope {
    async fn of(
        app: App,
        approval: Option<(ApprovalId, Covers)>,
        batch: Option<BatchId>,
        store: &Store,
    ) -> Result<Self, CommandError> {
        let whose = if let Some((plan, Covers::Plan)) = approval {
            Whose::Approved(plan)
        } else {
            let mut named = store.unfinished_batches(app).await?;
            named.extend(batch);
            Whose::Batches { named, last: store.last_batch().await? }
        };
        let approval = approval.map(|(approval, _)| approval);
        let withdrawn = whose.withdrawn(app, store).await?;
        let uncovered = uncovered(approval, store).await?;
        Ok(Self { whose, approval, withdrawn, uncovered })
    }

    fn is_plan(&self) -> bool {
        matches!(self.whose, Whose::Approved(_))
    }

    /// Jobs that are not approved are a reason to run without a plan: they may be in flight of a run
    /// that died, and superseded or cancelled, which a run records as it begins.
    async fn has_nothing_to_send(&self, app: App, store: &Store) -> Result<bool, CommandError> {
        let open = store.open_of(app, self.approval).await?;
        Ok(open.to_send == 0 && (self.is_plan() || open.unapproved == 0))
    }

    /// How many have been cancelled and superseded since.
    async fn withdrawn_since(&self, app: App, store: &Store) -> Result<[u64; 2], CommandError> {
        let [cancelled, superseded] = self.whose.withdrawn(app, store).await?;
        let [cancelled_before, superseded_before] = self.withdrawn;
        Ok([
            cancelled.saturating_sub(cancelled_before),
            superseded.saturating_sub(superseded_before),
        ])
    }

    /// How many jobs of its plan have been retried since; without a plan they are its own again,
    /// or deletes that are not approved.
    async fn retried_since(&self, store: &Store) -> Result<u64, CommandError> {
        let plan = self.approval.filter(|_| self.is_plan());
        Ok(uncovered(plan, store).await?.saturating_sub(self.uncovered))
    }
}

async fn uncovered(approval: Option<ApprovalId>, store: &Store) -> Result<u64, CommandError> {
    match approval {
        Some(approval) => Ok(store.uncovered_of(approval).await?),
        None => Ok(0),
    }
}

impl Whose {
    async fn withdrawn(&self, app: App, store: &Store) -> Result<[u64; 2], CommandError> {
        Ok(match self {
            Self::Approved(approval) => store.withdrawn_of(*approval).await?,
            Self::Batches { .. } => {
                let counts = store.counts_of(app).await?;
                [counts.cancelled, counts.superseded]
            }
        })
    }
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
        (events, shutdown): (Events, Shutdown),
        service: &Service,
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
        let board = follow(out.clone(), clock.clone(), events.listen(), chunk, settings.rate());
        // A terminal that is held takes nothing, which must not hold up the run.
        let runtime = Handle::current();
        let watcher =
            (!out.is_quiet()).then(|| tokio::task::spawn_blocking(move || runtime.block_on(board)));
        let at_once = signals::stuck(shutdown.clone(), clock.clone(), limits.grace);
        let runner = Runner::new(clock.clone(), store.clone(), transport, signer, limits, events);
        let shown = async {
            service.note(store).await?;
            let report = runner.run(lock, shutdown).await;
            // The watcher ends with the run's last event, or with the channel.
            if let Some(watcher) = watcher {
                let _ = watcher.await;
            }
            Ok(report?)
        };
        tokio::select! {
            report = shown => report,
            // A run may be left anywhere: the next one finds what it had in flight.
            () = at_once => Err(CommandError::Abandoned),
        }
    }
}

/// Tells how the run went and finds its exit code.
async fn conclude(
    settings: &Settings,
    store: &Store,
    report: &RunReport,
    scope: &Scope,
    named: &Named<'_>,
    told: &mut Told,
    out: &Output,
) -> Result<Exit, CommandError> {
    let app = settings.app()?;
    let mut counts = store.counts_of(app).await?;
    let OpenJobs { to_send, unapproved } = store.open_of(app, scope.approval).await?;
    let failed = match &scope.whose {
        Whose::Batches { named, last } => store.failed_in(named, *last).await?,
        Whose::Approved(approval) => {
            counts.pending = to_send.saturating_sub(counts.in_flight);
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
    // A newer import may speak for what this run has seen refused; it was, all the same.
    let failed = failed.max(refused.len() as u64);
    let in_doubt = store.in_doubt_of(app).await?;
    told.concluded(report, counts, [failed, unapproved, in_doubt], &refused);
    let missing = named.missing(store).await?;
    let text = RunSummaryText {
        report,
        counts,
        failed,
        approved: scope.is_plan(),
        unapproved,
        retried: scope.retried_since(store).await?,
        in_doubt,
        withdrawn: scope.withdrawn_since(app, store).await?,
        refused: &refused,
        database: &settings.database,
        flags: settings.flags(),
        rehearsed: settings.rehearsal.then(|| settings.flags_of_runs()),
    };
    let exit = match report.ending {
        RunEnding::Drained if text.has_left_any() => Exit::Stopped,
        RunEnding::Drained if failed == 0 && missing.is_none() => Exit::Done,
        RunEnding::Drained => Exit::SomeFailed,
        RunEnding::Signal
        | RunEnding::TimeOver
        | RunEnding::Outage
        | RunEnding::TooManyFailures => Exit::Stopped,
        RunEnding::Refused | RunEnding::Suspicious => Exit::Refused,
        RunEnding::Broken => Exit::Broken,
    };
    let mut words = text.text();
    if let Some(missing) = &missing {
        let _ = write!(words, "\n{missing}");
    }
    told.says(&words);
    if exit == Exit::Done && unapproved == 0 {
        out.say(&words);
    } else {
        out.must_say(&words);
    }
    Ok(exit)
}
