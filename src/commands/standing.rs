//! What is said where a run has nothing to send: that all is done, or what a manifest that was imported
//! before is short of, so that it never passes for done when it is not.

use std::path::Path;

use super::CommandError;
use crate::domain::job::App;
use crate::store::{BatchId, Standing, Store};
use crate::text::path_text;

/// The file that a command names.
pub(super) struct Named<'a> {
    pub(super) file: Option<&'a Path>,
    /// The batch that it made, be it now or before.
    pub(super) batch: Option<BatchId>,
    /// The last batch before the command.
    pub(super) last: BatchId,
}

impl Named<'_> {
    /// What is said where nothing is to be sent, and whether all that was asked for is done, `failed`
    /// jobs left aside.
    pub(super) async fn nothing_to_do(
        &self,
        app: App,
        is_plan: bool,
        failed: u64,
        store: &Store,
    ) -> Result<(String, bool), CommandError> {
        match self.missing(store).await? {
            Some(missing) if failed > 0 => {
                let how = "deskbatch report --only failed lists what failed, deskbatch retry takes it back";
                Ok((format!("{missing}; {how}"), false))
            }
            Some(missing) => Ok((missing, false)),
            None => Ok((nothing_to_do(app, is_plan, failed, store).await?, true)),
        }
    }

    /// Why the file is not finished although it was imported before and nothing of it is open; `None`
    /// otherwise.
    pub(super) async fn missing(&self, store: &Store) -> Result<Option<String>, CommandError> {
        let (Some(file), Some(batch)) = (self.file, self.batch) else { return Ok(None) };
        if batch > self.last {
            return Ok(None);
        }
        let standing = store.standing(batch).await?;
        if standing.is_finished() || standing.open > 0 {
            return Ok(None);
        }
        Ok(Some(format!(
            "{} was imported before, as batch {batch}, and is not finished: {}; nothing of it is imported, --again makes a \
             new batch of it",
            path_text(file),
            in_words(&standing)
        )))
    }
}

/// `3 failed, 2 cancelled`; empty where nothing is missing.
pub(super) fn in_words(standing: &Standing) -> String {
    if standing.is_pruned {
        return "its jobs were pruned, and what became of its questions since is not known here"
            .to_owned();
    }
    let parts: Vec<String> = [
        (standing.failed, "failed"),
        (standing.cancelled, "cancelled"),
        (standing.superseded, "superseded by a later import"),
    ]
    .into_iter()
    .filter(|(jobs, _)| *jobs > 0)
    .map(|(jobs, what)| format!("{jobs} {what}"))
    .collect();
    parts.join(", ")
}

/// Names the app: jobs of another one, or of its other library, may well be waiting. What was
/// asked for is not done where jobs of the file that was named have failed.
async fn nothing_to_do(
    app: App,
    is_plan: bool,
    failed: u64,
    store: &Store,
) -> Result<String, CommandError> {
    if failed > 0 {
        return Ok(format!(
            "nothing is left to send, {failed} jobs of it have failed: deskbatch report --only failed lists them, \
             deskbatch retry takes them back"
        ));
    }
    if is_plan {
        return Ok("nothing to do: newer imports speak for everything that was left of this plan"
            .to_owned());
    }
    let doubts = match store.in_doubt_of(app).await? {
        0 => String::new(),
        jobs => format!("; {jobs} are in doubt: deskbatch report --only in-doubt lists them"),
    };
    Ok(format!(
        "nothing to do: no job of application {}, library {}, is waiting in {}{doubts}",
        app.sdkappid,
        app.library,
        path_text(store.path())
    ))
}
