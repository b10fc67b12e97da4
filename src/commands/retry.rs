//! `deskbatch retry`: sets failed jobs to pending.

use super::error::{CommandError, Exit};
use crate::cli::RetryArgs;
use crate::config::Settings;
use crate::output::Output;
use crate::queue::Queue;

/// Runs the command.
pub(super) async fn retry(
    settings: &Settings,
    args: &RetryArgs,
    out: &Output,
) -> Result<Exit, CommandError> {
    let queue = Queue::open_existing(&settings.database).await?;
    if let Some(batch) = args.batch
        && queue.batch(batch).await?.is_none()
    {
        return Err(CommandError::no_batch(batch));
    }
    let retried = queue.retry_failed(&args.code, args.batch).await?;
    let then = match retried.pending {
        0 => String::new(),
        _ => format!("; deskbatch run{} sends them", settings.flags()),
    };
    out.info(&format!("{} failed jobs are pending again{then}", retried.pending));
    if retried.superseded > 0 {
        out.info(&format!(
            "{} were left alone: a newer import speaks for their questions",
            retried.superseded
        ));
    }
    if retried.cancelled > 0 {
        out.info(&format!(
            "{} cancelled jobs stay cancelled: deskbatch import FILE --again{} makes new jobs of their manifest",
            retried.cancelled,
            settings.flags()
        ));
    }
    queue.close().await;
    Ok(Exit::Done)
}
