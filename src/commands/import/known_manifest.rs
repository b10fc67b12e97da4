//! A manifest that was imported before: whether its batch is finished, and why not. Without this
//! check a file whose jobs were cancelled, or failed, would count as finished.

use std::path::Path;

use crate::commands::error::CommandError;
use crate::queue::{BatchId, Queue, UnfinishedJobs};
use crate::util::escape::path_text;

/// The manifest that a command names.
pub(in crate::commands) struct NamedManifest<'a> {
    pub(in crate::commands) file: Option<&'a Path>,
    /// Its batch, new or imported before.
    pub(in crate::commands) batch: Option<BatchId>,
    /// The newest batch when the command began.
    pub(in crate::commands) last_batch_before: BatchId,
}

impl NamedManifest<'_> {
    /// Whether this command imported it.
    pub(in crate::commands) fn is_new(&self) -> bool {
        self.batch.is_some_and(|batch| batch > self.last_batch_before)
    }

    /// Why the manifest is not finished although none of its jobs is open; `None` otherwise. Of a
    /// batch that this command imported only what others did to it counts: what failed is in the
    /// run's summary.
    pub(in crate::commands) async fn unfinished_reason(
        &self,
        queue: &Queue,
    ) -> Result<Option<String>, CommandError> {
        let (Some(file), Some(batch)) = (self.file, self.batch) else { return Ok(None) };
        let unfinished = queue.unfinished_jobs(batch).await?;
        if unfinished.is_finished() || unfinished.open > 0 {
            return Ok(None);
        }
        if self.is_new() && (unfinished.cancelled, unfinished.superseded) == (0, 0) {
            return Ok(None);
        }
        let file = path_text(file);
        let why = unfinished_text(&unfinished);
        Ok(Some(if self.is_new() {
            format!(
                "{file} (batch {batch}) is not complete: {why}. Use --reimport to import it again as a new batch."
            )
        } else {
            format!(
                "{file} was imported before as batch {batch}, which is not complete: {why}. Nothing was imported. Use \
                 --reimport to import it again as a new batch."
            )
        }))
    }
}

/// For example `3 failed, 2 cancelled`; empty for a finished batch.
pub(in crate::commands) fn unfinished_text(unfinished: &UnfinishedJobs) -> String {
    if unfinished.is_pruned {
        return "its jobs were pruned, so the later states of its questions are unknown".to_owned();
    }
    let parts: Vec<String> = [
        (unfinished.failed, "failed"),
        (unfinished.cancelled, "cancelled"),
        (unfinished.superseded, "superseded by a later import"),
    ]
    .into_iter()
    .filter(|(jobs, _)| *jobs > 0)
    .map(|(jobs, what)| format!("{jobs} {what}"))
    .collect();
    parts.join(", ")
}
