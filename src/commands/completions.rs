//! `deskbatch completions`: a shell's completion script, to stdout.

use super::error::{CommandError, Exit};
use crate::cli::{self, CompletionsArgs};
use crate::output::Output;

/// Runs the command.
pub(super) fn completions(args: &CompletionsArgs, out: &Output) -> Result<Exit, CommandError> {
    let script = cli::completions(args.shell);
    out.bytes(&script).map_err(CommandError::io("cannot write to stdout"))?;
    Ok(Exit::Done)
}
