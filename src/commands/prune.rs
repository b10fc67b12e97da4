//! `deskbatch prune`: deletes the jobs of old finished batches.

use super::error::{CommandError, Exit};
use crate::cli::PruneArgs;
use crate::config::Settings;
use crate::domain::clock::{Clock as _, SystemClock};
use crate::output::Output;
use crate::queue::{Pruned, Queue};
use crate::util::count::counted;

/// Runs the command.
pub(super) async fn prune(
    settings: &Settings,
    args: &PruneArgs,
    out: &Output,
) -> Result<Exit, CommandError> {
    let queue = Queue::open_existing(&settings.database).await?;
    let age_ms = i64::try_from(args.older_than.as_millis()).unwrap_or(i64::MAX);
    let now_ms = SystemClock::new().wall_ms();
    let before_ms = now_ms.saturating_sub(age_ms);
    if args.dry_run {
        let Pruned { batches, jobs, .. } = queue.prunable(before_ms).await?;
        out.info(&format!(
            "would delete {} of {}",
            counted(jobs, "job"),
            counted(batches, "finished batch")
        ));
    } else {
        let Pruned { batches, jobs, requests, room_kept } = queue.prune(before_ms, now_ms).await?;
        out.info(&format!(
            "deleted {} of {} and {}",
            counted(jobs, "job"),
            counted(batches, "finished batch"),
            counted(requests, "request")
        ));
        if room_kept {
            out.info(
                "could not shrink the queue file: another process has it open; prune again when no run is active",
            );
        }
    }
    queue.close().await;
    Ok(Exit::Done)
}
