//! `deskbatch retry`: sets failed jobs to pending.

use super::error::{CommandError, Exit};
use crate::cli::RetryArgs;
use crate::config::Settings;
use crate::output::Output;
use crate::queue::Queue;
use crate::util::count::{choose, counted};

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
        _ => format!("; send with: deskbatch run{}", settings.flags()),
    };
    out.info(&format!("{} set back to pending{then}", counted(retried.pending, "failed job")));
    if retried.superseded > 0 {
        out.info(&format!(
            "{} skipped: superseded by a later import of the same questions",
            counted(retried.superseded, "failed job")
        ));
    }
    if retried.cancelled > 0 {
        out.info(&format!(
            "{} skipped: to send {}, import {} manifest again with deskbatch import FILE --reimport{}",
            counted(retried.cancelled, "cancelled job"),
            choose(retried.cancelled, "it", "them"),
            choose(retried.cancelled, "its", "their"),
            settings.flags()
        ));
    }
    queue.close().await;
    Ok(Exit::Done)
}
