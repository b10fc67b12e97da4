//! `deskbatch dashboard`: the page, live, until a signal.

use super::{CommandError, Exit};
use crate::cli::DashboardArgs;
use crate::config::Settings;
use crate::output::Output;

/// Runs the command.
pub(super) async fn dashboard(
    _settings: &Settings,
    _args: &DashboardArgs,
    _out: &Output,
) -> Result<Exit, CommandError> {
    Ok(Exit::Done)
}
