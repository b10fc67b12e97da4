//! `deskbatch retry`, `cancel` and `prune`: what people change in the queue.

use super::{CommandError, Exit};
use crate::cli::{CancelArgs, PruneArgs, RetryArgs};
use crate::config::Settings;
use crate::domain::clock::{Clock as _, SystemClock};
use crate::output::Output;
use crate::store::{BatchId, Cancelled, Pruned, Store};

/// Takes failed jobs back to pending.
pub(super) async fn retry(
    settings: &Settings,
    args: &RetryArgs,
    out: &Output,
) -> Result<Exit, CommandError> {
    let store = Store::open_existing(&settings.database).await?;
    if let Some(batch) = args.batch
        && store.batch(batch).await?.is_none()
    {
        return Err(no_batch(batch));
    }
    let retried = store.retry_failed(&args.code, args.batch).await?;
    let then = match retried.pending {
        0 => String::new(),
        _ => format!("; deskbatch run{} sends them", settings.flags()),
    };
    out.say(&format!("{} failed jobs are pending again{then}", retried.pending));
    if retried.overtaken > 0 {
        out.say(&format!(
            "{} were left alone: a newer import speaks for their questions",
            retried.overtaken
        ));
    }
    if retried.cancelled > 0 {
        out.say(&format!(
            "{} cancelled jobs stay cancelled: deskbatch import FILE --again{} makes new jobs of their manifest",
            retried.cancelled,
            settings.flags()
        ));
    }
    store.close().await;
    Ok(Exit::Done)
}

/// Cancels the pending jobs of a batch.
pub(super) async fn cancel(
    settings: &Settings,
    args: &CancelArgs,
    out: &Output,
) -> Result<Exit, CommandError> {
    let store = Store::open_existing(&settings.database).await?;
    let now_ms = SystemClock::new().wall_ms();
    let cancelled = store.cancel_batch(args.batch, now_ms).await?;
    let Some(cancelled) = cancelled else { return Err(no_batch(args.batch)) };
    let Cancelled { pending, in_doubt, in_flight } = cancelled;
    out.say(&format!("{pending} pending jobs of batch {} are cancelled", args.batch));
    if in_doubt > 0 {
        out.say(&format!(
            "{in_doubt} of them are in doubt: a request lost its response, so they may have been applied; deskbatch \
             report{} --only in-doubt lists them",
            settings.flags()
        ));
    }
    if in_flight > 0 {
        out.say(&format!(
            "{in_flight} more are in a request: its response decides, and without one they are cancelled, in doubt"
        ));
    }
    store.close().await;
    Ok(Exit::Done)
}

/// Drops old finished batches.
pub(super) async fn prune(
    settings: &Settings,
    args: &PruneArgs,
    out: &Output,
) -> Result<Exit, CommandError> {
    let store = Store::open_existing(&settings.database).await?;
    let age_ms = i64::try_from(args.older_than.as_millis()).unwrap_or(i64::MAX);
    let now_ms = SystemClock::new().wall_ms();
    let before_ms = now_ms.saturating_sub(age_ms);
    if args.dry_run {
        let Pruned { batches, jobs, .. } = store.prunable(before_ms).await?;
        out.say(&format!("{jobs} jobs of {batches} finished batches would be dropped"));
    } else {
        let Pruned { batches, jobs, requests, room_kept } = store.prune(before_ms, now_ms).await?;
        out.say(&format!(
            "{jobs} jobs of {batches} finished batches and {requests} requests were dropped"
        ));
        if room_kept {
            out.say(
                "the file stays as large as it was, since another process uses it: prune again when no run is going on, and \
                 it gets smaller",
            );
        }
    }
    store.close().await;
    Ok(Exit::Done)
}

pub(super) fn no_batch(batch: BatchId) -> CommandError {
    CommandError::Wrong(format!("no batch has the number {batch}: deskbatch status lists them"))
}
