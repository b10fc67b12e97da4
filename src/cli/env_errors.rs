//! Errors of values from environment variables. clap names the flag, which is not on the command line in that
//! case, so this module adds the variable to the error.

use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue};
use clap::{Arg, Command, Error};

use crate::util::escape::visible;

/// Adds the variable that the invalid value comes from, if it comes from one. Escapes all foreign
/// text.
pub(super) fn explain(command: &Command, error: Error) -> Error {
    let error = escape_foreign_text(error);
    let Some(ContextValue::String(shown)) = error.get(ContextKind::InvalidArg) else {
        return error;
    };
    let words: Vec<OsString> = std::env::args_os().collect();
    let Some(variable) = variable_of(command, shown, &words) else { return error };
    let mut error = error;
    let tip =
        format!("the value comes from the environment variable {variable}: change it, or unset it");
    error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip.into()]));
    error
}

fn escape_foreign_text(mut error: Error) -> Error {
    let foreign =
        [ContextKind::InvalidValue, ContextKind::InvalidArg, ContextKind::InvalidSubcommand];
    for kind in foreign {
        if let Some(ContextValue::String(text)) = error.get(kind) {
            let text = visible(text).into_owned();
            error.insert(kind, ContextValue::String(text));
        }
    }
    error
}

/// The variable of the argument that clap prints as `shown`, if it is set and the flag is not among
/// `words`.
fn variable_of(command: &Command, shown: &str, words: &[OsString]) -> Option<String> {
    let arg = argument(command, shown)?;
    let (flag, variable) = (format!("--{}", arg.get_long()?), arg.get_env()?);
    std::env::var_os(variable)?;
    let is_given = words
        .iter()
        .map(|word| word.to_string_lossy())
        .any(|word| word == flag || word.starts_with(&format!("{flag}=")));
    (!is_given).then(|| variable.to_string_lossy().into_owned())
}

fn argument<'a>(command: &'a Command, shown: &str) -> Option<&'a Arg> {
    let own = command.get_arguments().find(|arg| arg.to_string() == shown);
    own.or_else(|| command.get_subcommands().find_map(|below| argument(below, shown)))
}
