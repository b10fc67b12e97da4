//! `deskbatch cancel`: cancels the pending jobs of a batch.

use super::error::{CommandError, Exit};
use crate::cli::CancelArgs;
use crate::config::Settings;
use crate::domain::clock::{Clock as _, SystemClock};
use crate::output::Output;
use crate::queue::{Cancelled, Queue};
use crate::util::count::{choose, counted};

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
    out.info(&format!("{} of batch {} cancelled", counted(pending, "pending job"), args.batch));
    if in_doubt > 0 {
        out.info(&format!(
            "{in_doubt} of them {} in doubt: a request may have been applied before; list them with: deskbatch \
             report{} --state in-doubt",
            choose(in_doubt, "is", "are"),
            settings.flags()
        ));
    }
    if in_flight > 0 {
        out.info(&format!(
            "{} in flight not cancelled: the response decides; without a response {} cancelled and in doubt",
            counted(in_flight, "job"),
            choose(in_flight, "it is", "they are")
        ));
    }
    queue.close().await;
    Ok(Exit::Done)
}
