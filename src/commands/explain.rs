//! `deskbatch explain`: the table of error codes that the runner uses.

use std::fmt::Write as _;

use super::error::{CommandError, Exit};
use crate::cli::ExplainArgs;
use crate::domain::verdict::{CODES, CodeRow, explain as row_of};
use crate::output::Output;

/// Runs the command.
pub(super) fn explain(args: &ExplainArgs, out: &Output) -> Result<Exit, CommandError> {
    let text = match args.code {
        Some(code) => one(code, row_of(code)),
        None => table(),
    };
    out.data(&text).map_err(CommandError::io("cannot write to stdout"))?;
    Ok(Exit::Done)
}

fn one(code: i64, row: &CodeRow) -> String {
    format!(
        "{code}: {}\n  the run:    {}\n  what to do: {}\n",
        row.meaning,
        row.class.consequence(),
        row.advice
    )
}

fn table() -> String {
    let width = CODES.iter().map(|row| row.codes().len()).max().unwrap_or(0);
    let mut text = String::new();
    for row in CODES {
        let _ = writeln!(
            text,
            "{:>width$}  {:9}  {}; {}",
            row.codes(),
            row.class.verdict(),
            row.meaning,
            row.advice
        );
    }
    text.push_str(
        "any other code: rejected; the run isolates the questions, and ends if every request is rejected (see --max-rejections)\n",
    );
    text
}
