//! `deskbatch explain`: the table of codes, as the run itself uses it.

use std::fmt::Write as _;

use super::{CommandError, Exit};
use crate::cli::ExplainArgs;
use crate::output::Output;
use crate::verdict::{CODES, Class, CodeRow, explain as row_of};

/// Runs the command.
pub(super) fn explain(args: &ExplainArgs, out: &Output) -> Result<Exit, CommandError> {
    let text = match args.code {
        Some(code) => one(code, row_of(code)),
        None => table(),
    };
    out.data(&text).map_err(CommandError::io("stdout cannot be written"))?;
    Ok(Exit::Done)
}

fn one(code: i64, row: &CodeRow) -> String {
    format!(
        "{code}: {}\n  the run:    {}\n  what to do: {}\n",
        row.meaning,
        consequence(row.class),
        row.advice
    )
}

/// What the run does, in words.
fn consequence(class: Class) -> &'static str {
    match class {
        Class::Success => "the jobs have succeeded",
        Class::Rate => {
            "closes the gate for a second or more, then sends the same chunk again; no attempt counts"
        }
        Class::Retry => "sends the same chunk again after a wait",
        Class::Renew => {
            "makes a new UserSig once and sends the same chunk again; refused again, it stops"
        }
        Class::Item | Class::Malformed | Class::Unknown => {
            "searches the chunk for the bad questions; those have failed with this code"
        }
        Class::BadCall | Class::Stop => "stops with everything pending",
    }
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
    text.push_str("any other code is refused content; five equal ones in a row without a success stop the run\n");
    text
}
