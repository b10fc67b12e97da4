//! `deskbatch cancel`: cancels the pending jobs of a batch.

use super::error::{CommandError, Exit};
use crate::cli::CancelArgs;
use crate::config::Settings;
use crate::domain::clock::{Clock as _, SystemClock};
use crate::output::Output;
use crate::queue::{Cancelled, Queue};

/// Runs the command.
pub(super) async fn cancel(
    settings: &Settings,
    args: &CancelArgs,
    out: &Output,
) -> Result<Exit, CommandError> {
    let queue = Queue::open_existing(&settings.database).await?;
    let now_ms = SystemClock::new().wall_ms();
    let cancelled = queue.cancel_batch(args.batch, now_ms).await?;
    let Some(cancelled) = cancelled else { return Err(CommandError::no_batch(args.batch)) };
    let Cancelled { pending, in_doubt, in_flight } = cancelled;
    out.info(&format!("{pending} pending jobs of batch {} are cancelled", args.batch));
    if in_doubt > 0 {
        out.info(&format!(
            "{in_doubt} of them are in doubt: a request may have been applied all the same; deskbatch \
             report{} --only in-doubt lists them",
            settings.flags()
        ));
    }
    if in_flight > 0 {
        out.info(&format!(
            "{in_flight} more are in a request: its response decides, and without one they are cancelled, in doubt"
        ));
    }
    queue.close().await;
    Ok(Exit::Done)
}
