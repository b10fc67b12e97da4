//! Where a value that is refused came from: nobody finds `--rate` on a command line on which
//! it does not stand, because an environment variable said it.

use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue};
use clap::{Arg, Command, Error};

use crate::text::visible;

/// `error`, with the variable that brought the value about, if one did. What was given is shown
/// so that it cannot forge a line.
pub(super) fn told(command: &Command, error: Error) -> Error {
    let error = shown(error);
    let Some(ContextValue::String(shown)) = error.get(ContextKind::InvalidArg) else {
        return error;
    };
    let words: Vec<OsString> = std::env::args_os().collect();
    let Some(variable) = guilty(command, shown, &words) else { return error };
    let mut error = error;
    let tip =
        format!("the value comes from the environment variable {variable}: change it, or unset it");
    error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip.into()]));
    error
}

/// `error`, every text of a stranger in it made visible.
fn shown(mut error: Error) -> Error {
    let strangers =
        [ContextKind::InvalidValue, ContextKind::InvalidArg, ContextKind::InvalidSubcommand];
    for kind in strangers {
        if let Some(ContextValue::String(text)) = error.get(kind) {
            let text = visible(text).into_owned();
            error.insert(kind, ContextValue::String(text));
        }
    }
    error
}

/// The variable of the argument that errors show as `shown`, if it is set and its flag is not
/// among `words`.
fn guilty(command: &Command, shown: &str, words: &[OsString]) -> Option<String> {
    let arg = argument(command, shown)?;
    let (flag, variable) = (format!("--{}", arg.get_long()?), arg.get_env()?);
    std::env::var_os(variable)?;
    let stands_there = words
        .iter()
        .map(|word| word.to_string_lossy())
        .any(|word| word == flag || word.starts_with(&format!("{flag}=")));
    (!stands_there).then(|| variable.to_string_lossy().into_owned())
}

fn argument<'a>(command: &'a Command, shown: &str) -> Option<&'a Arg> {
    let own = command.get_arguments().find(|arg| arg.to_string() == shown);
    own.or_else(|| command.get_subcommands().find_map(|below| argument(below, shown)))
}
