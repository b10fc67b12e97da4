//! `deskbatch status`: the counts of the queue, as text or JSON, once or while a run is running.

mod data;
mod json;
mod text;
mod watch;

use data::StatusData;
#[cfg(test)]
pub(super) use json::StatusJson;

use super::error::{CommandError, Exit};
use crate::cli::StatusArgs;
use crate::config::Settings;
use crate::output::Output;
use crate::queue::Queue;

/// Runs the command.
pub(super) async fn status(
    settings: &Settings,
    args: &StatusArgs,
    out: &Output,
) -> Result<Exit, CommandError> {
    let queue = Queue::open_existing(&settings.database).await?;
    let exit = if args.watch {
        watch::watch(settings, args, &queue, out).await?
    } else {
        let data = StatusData::load(&queue).await?;
        let written = if args.json {
            out.json(&json::json(settings, &data))
        } else {
            out.data(&text::text(settings, &data))
        };
        written.map_err(CommandError::io("cannot write to stdout"))?;
        Exit::Done
    };
    queue.close().await;
    Ok(exit)
}
