//! How long the rest takes, by what earlier runs have learned of the service: the one
//! place where commands make a forecast.

use std::time::Duration;

use super::CommandError;
use crate::config::Settings;
use crate::domain::clock::{Clock as _, SystemClock};
use crate::domain::job::App;
use crate::eta::{Eta, Observed, SendRate, estimate};
use crate::store::{KeptPace, KeptSize, Store};

/// How long the gate stays closed after a refusal as too fast, roughly.
const CLOSED: Duration = Duration::from_millis(1_500);

/// What the newest run has come to.
#[derive(Debug, Clone, Copy)]
pub(super) struct LastRun {
    /// Jobs that succeeded in it.
    pub(super) succeeded: u64,
    /// Jobs that failed in it.
    pub(super) failed: u64,
    /// Its requests whose questions the service looked at.
    pub(super) reached: u64,
    /// Its requests that were refused as too fast.
    pub(super) throttled: u64,
}

/// What to expect of a request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Basis {
    /// Questions that it carries at most.
    pub(super) chunk: usize,
    /// How fast it leaves.
    pub(super) speed: SendRate,
}

impl Basis {
    /// By what was learned: the slowest pace and the smallest size of those that are given.
    pub(super) fn new<'a>(
        settings: &Settings,
        paces: impl Iterator<Item = &'a KeptPace>,
        sizes: impl Iterator<Item = &'a KeptSize>,
    ) -> Self {
        Self::of(settings.rate(), settings.chunk(), paces, sizes)
    }

    /// The same for a limit of `rate` requests a second and `chunk` questions in each.
    pub(super) fn of<'a>(
        rate: f64,
        chunk: u64,
        paces: impl Iterator<Item = &'a KeptPace>,
        sizes: impl Iterator<Item = &'a KeptSize>,
    ) -> Self {
        let mut speed = SendRate::from_limit(rate);
        if let Some(learned) = paces.map(|kept| kept.learned.rate).reduce(f64::min) {
            speed.rate = learned.min(rate);
        }
        let asked = usize::try_from(chunk).unwrap_or(usize::MAX);
        let taken = sizes.map(|kept| kept.limit.accepted).min();
        Self { chunk: taken.map_or(asked, |taken| taken.min(asked)), speed }
    }

    /// What it takes to send `open` jobs if they are like those of `run`; of which nothing is
    /// known if there was none.
    pub(super) fn forecast_after(self, open: u64, run: Option<LastRun>) -> Eta {
        let Self { chunk, mut speed } = self;
        let mut seen = Observed::default();
        if let Some(run) = run {
            seen = Observed::from_totals(run.succeeded, run.failed, run.reached);
            speed.requests = run.reached;
            speed.closings = run.throttled;
            speed.closed = CLOSED.saturating_mul(u32::try_from(run.throttled).unwrap_or(u32::MAX));
        }
        estimate([open, 0, 0], chunk, seen, speed)
    }

    /// What it takes to send `open` jobs of which nothing is known yet.
    pub(super) fn forecast(&self, open: [u64; 3]) -> Eta {
        estimate(open, self.chunk, Observed::default(), self.speed)
    }
}

/// What to expect of a run of `app`.
pub(super) async fn basis_of(
    settings: &Settings,
    store: &Store,
    app: App,
) -> Result<Basis, CommandError> {
    let now_ms = SystemClock::new().wall_ms();
    let (pace, size) = (store.pace(app).await?, store.size(app, now_ms).await?);
    Ok(Basis::new(settings, pace.iter(), size.iter()))
}
