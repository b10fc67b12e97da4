//! The inputs of every ETA that a command shows: learned limits, settings, and the results of a run.

use std::time::Duration;

use super::error::CommandError;
use crate::config::Settings;
use crate::domain::clock::{Clock as _, SystemClock};
use crate::domain::job::App;
use crate::eta::{Eta, Observed, SendRate, estimate};
use crate::queue::{AppChunkSize, AppRate, Queue};

/// About how long the breaker stays open after a push-back.
const PAUSE_PER_PUSH_BACK: Duration = Duration::from_millis(1_500);

/// The results of the newest run.
#[derive(Debug, Clone, Copy)]
pub(super) struct RunResults {
    pub(super) succeeded: u64,
    pub(super) failed: u64,
    /// Requests whose questions the service evaluated: applied or rejected.
    pub(super) evaluated: u64,
    /// Requests that were throttled.
    pub(super) throttled: u64,
}

/// The size and rate of the requests to come.
#[derive(Debug, Clone, Copy)]
pub(super) struct EtaInputs {
    /// The most questions in a request.
    pub(super) chunk: usize,
    /// The rate of requests, and pauses.
    pub(super) speed: SendRate,
}

impl EtaInputs {
    /// From the settings, reduced to the lowest of the learned rates and sizes.
    pub(super) fn new<'a>(
        settings: &Settings,
        rates: impl Iterator<Item = &'a AppRate>,
        sizes: impl Iterator<Item = &'a AppChunkSize>,
    ) -> Self {
        Self::with_limits(settings.rate(), settings.chunk(), rates, sizes)
    }

    /// Like [`EtaInputs::new`], for `rate` requests per second of `chunk` questions.
    pub(super) fn with_limits<'a>(
        rate: f64,
        chunk: u64,
        rates: impl Iterator<Item = &'a AppRate>,
        sizes: impl Iterator<Item = &'a AppChunkSize>,
    ) -> Self {
        let mut speed = SendRate::from_limit(rate);
        if let Some(learned) = rates.map(|kept| kept.learned.rate).reduce(f64::min) {
            speed.rate = learned.min(rate);
        }
        let wanted = usize::try_from(chunk).unwrap_or(usize::MAX);
        let accepted = sizes.map(|kept| kept.limit.accepted).min();
        Self { chunk: accepted.map_or(wanted, |accepted| accepted.min(wanted)), speed }
    }

    /// The ETA of `open` jobs, assuming that they are like those of `run`.
    pub(super) fn estimate_after(self, open: u64, run: Option<RunResults>) -> Eta {
        let Self { chunk, mut speed } = self;
        let mut seen = Observed::default();
        if let Some(run) = run {
            seen = Observed::from_totals(run.succeeded, run.failed, run.evaluated);
            speed.requests = run.evaluated;
            speed.closings = run.throttled;
            let pauses = u32::try_from(run.throttled).unwrap_or(u32::MAX);
            speed.closed = PAUSE_PER_PUSH_BACK.saturating_mul(pauses);
        }
        estimate([open, 0, 0], chunk, seen, speed)
    }

    /// The ETA of `open` jobs, by target status, of which nothing was sent yet.
    pub(super) fn estimate(&self, open: [u64; 3]) -> Eta {
        estimate(open, self.chunk, Observed::default(), self.speed)
    }
}

/// The inputs for a run of `app`.
pub(super) async fn inputs_of(
    settings: &Settings,
    queue: &Queue,
    app: App,
) -> Result<EtaInputs, CommandError> {
    let now_ms = SystemClock::new().wall_ms();
    let (rate, size) =
        (queue.learned_rate(app).await?, queue.learned_chunk_size(app, now_ms).await?);
    Ok(EtaInputs::new(settings, rate.iter(), size.iter()))
}
