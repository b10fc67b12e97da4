//! The message of a run that has nothing to send.

use super::context::LockedQueue;
use crate::commands::error::CommandError;
use crate::commands::import::NamedManifest;
use crate::domain::job::App;
use crate::output::recovery_text;
use crate::queue::Queue;
use crate::util::escape::path_text;

/// The message, and whether everything asked for is done apart from `failed` jobs.
pub(super) async fn explain(
    named: &NamedManifest<'_>,
    app: App,
    is_plan: bool,
    failed: u64,
    locked: &LockedQueue,
) -> Result<(String, bool), CommandError> {
    let queue = &locked.queue;
    let (text, is_done) = without_recovery(named, app, is_plan, failed, queue).await?;
    let text = match recovery_text(locked.lease.recovery()) {
        Some(recovered) => format!("{recovered}\n{text}"),
        None => text,
    };
    Ok((text, is_done))
}

async fn without_recovery(
    named: &NamedManifest<'_>,
    app: App,
    is_plan: bool,
    failed: u64,
    queue: &Queue,
) -> Result<(String, bool), CommandError> {
    let doubts = match queue.count_in_doubt(app).await? {
        0 => String::new(),
        jobs => format!("; {jobs} are in doubt: deskbatch report --only in-doubt lists them"),
    };
    match named.unfinished_reason(queue).await? {
        Some(reason) if failed > 0 => {
            let how =
                "deskbatch report --only failed lists what failed, deskbatch retry takes it back";
            Ok((format!("{reason}; {how}{doubts}"), false))
        }
        Some(reason) => Ok((format!("{reason}{doubts}"), false)),
        None => Ok((finished_text(app, is_plan, failed, queue) + &doubts, true)),
    }
}

/// Names the app, since jobs of another app or library may be pending in the same queue.
fn finished_text(app: App, is_plan: bool, failed: u64, queue: &Queue) -> String {
    if failed > 0 {
        return format!(
            "nothing is left to send, {failed} jobs of it have failed: deskbatch report --only failed lists them, \
             deskbatch retry takes them back"
        );
    }
    if is_plan {
        return "nothing to do: newer imports speak for everything that was left of this plan"
            .to_owned();
    }
    format!(
        "nothing to do: no job of application {}, library {}, is waiting in {}",
        app.sdkappid,
        app.library,
        path_text(queue.path())
    )
}
