//! The message of a run that has nothing to send.

use super::context::{LockedQueue, RunContext};
use super::failure_scope::FailureScope;
use crate::commands::error::CommandError;
use crate::commands::import::NamedManifest;
use crate::output::recovery_text;
use crate::util::count::{choose, counted};
use crate::util::escape::path_text;

/// The message, and whether everything asked for is done apart from `failed` jobs.
pub(super) async fn explain(
    ctx: &RunContext<'_>,
    named: &NamedManifest<'_>,
    scope: &FailureScope,
    failed: u64,
    locked: &LockedQueue,
) -> Result<(String, bool), CommandError> {
    let (queue, app, flags) = (&locked.queue, ctx.settings.app()?, ctx.settings.flags());
    let reason = named.unfinished_reason(queue).await?;
    let mut parts = Vec::new();
    let is_done = reason.is_none();
    match reason {
        Some(reason) => parts.push(reason),
        None if failed > 0 => {
            parts.push(format!("nothing to send: {} failed before", counted(failed, "job")));
        }
        None if scope.is_plan() => parts.push(
            "nothing to do: every remaining job of this plan is superseded by a later import"
                .to_owned(),
        ),
        // Names the app, since jobs of another app or library may be pending in the same queue.
        None => parts.push(format!(
            "nothing to do: {} has no pending job of app {}, library {}",
            path_text(&ctx.settings.database),
            app.sdkappid,
            app.library
        )),
    }
    if failed > 0 {
        parts.push(format!("list the failed jobs: deskbatch report{flags} --state failed"));
        parts.push(format!("retry them: deskbatch retry{flags} && deskbatch run{flags}"));
    }
    let in_doubt = queue.count_in_doubt(app).await?;
    if in_doubt > 0 {
        parts.push(format!(
            "{} {} in doubt: deskbatch report{flags} --state in-doubt",
            counted(in_doubt, "job"),
            choose(in_doubt, "is", "are")
        ));
    }
    parts.splice(0..0, recovery_text(locked.lease.recovery()));
    Ok((parts.join("\n"), is_done))
}
