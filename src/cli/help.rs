//! The help: `-h` fits a screen and has the common flags, `--help` has everything.
//!
//! Modifies clap's structures. A setting that is in no list here appears only in `--help`.

use clap::builder::ValueHint;
use clap::{Arg, Command, CommandFactory as _};

use super::defaults::SANDBOX_TABLE;
use super::{Cli, examples, value_parsers};
use crate::config::default_text;

/// The settings that `-h` shows.
const COMMON: [&str; 9] = [
    "config",
    "database",
    "sdkappid",
    "identifier",
    "region",
    "rate",
    "chunk",
    "max_failures",
    "quiet",
];

/// The headings whose settings `-h` of these commands shows; `-h` of the others shows all common
/// settings.
const HEADINGS_BY_COMMAND: [(&str, &[&str]); 8] = [
    ("deskbatch", &["Files", "Account", "Output"]),
    ("status", &["Files", "Output"]),
    ("report", &["Files", "Output"]),
    ("retry", &["Files", "Output"]),
    ("cancel", &["Files", "Output"]),
    ("prune", &["Files", "Output"]),
    ("usersig", &["Files", "Account"]),
    ("init", &["Account"]),
];

/// Commands that use no setting.
const WITHOUT_SETTINGS: [&str; 3] = ["explain", "completions", "man"];

/// The last lines of `-h`.
const FOOTER: &str = "--help has all settings, with units, ranges, variables and examples.";

/// The last lines of `run -h`, which names settings that do not fit.
const FOOTER_OF_RUN: &str = "\
Also: --max-duration, --wait, --on-finish, --metrics-file, --dashboard.
--help has all settings, with units, ranges, variables and examples.";

/// The complete command line, with its help.
pub fn command() -> Command {
    let mut command = with_help(Cli::command(), "");
    // Copies the global settings into every subcommand.
    command.build();
    command = with_relevant_settings(command);
    for below in command.get_subcommands_mut() {
        *below = with_relevant_settings(std::mem::take(below));
    }
    command
}

/// The command line without environment variables.
pub(super) fn without_variables(command: Command) -> Command {
    let mut command = command.mut_args(|arg| arg.env(clap::builder::Resettable::Reset));
    for below in command.get_subcommands_mut() {
        *below = without_variables(std::mem::take(below));
    }
    command
}

/// The command line without variables that are set and empty, as in a unit file or a compose file.
pub(super) fn without_empty_variables(command: Command) -> Command {
    let is_empty = |arg: &Arg| {
        let value = arg.get_env().and_then(std::env::var_os);
        value.is_some_and(|value| value.to_string_lossy().trim().is_empty())
    };
    let mut command = command.mut_args(|arg| {
        if is_empty(&arg) { arg.env(clap::builder::Resettable::Reset) } else { arg }
    });
    for below in command.get_subcommands_mut() {
        *below = without_empty_variables(std::mem::take(below));
    }
    command
}

/// Adds the help of `command` and its subcommands; `path` has the words before it.
fn with_help(command: Command, path: &str) -> Command {
    let path = format!("{path} {}", command.get_name()).trim_start().to_owned();
    let mut command = command.mut_args(with_arg_help);
    let names: Vec<String> = command.get_subcommands().map(|c| c.get_name().to_owned()).collect();
    for name in names {
        command = command.mut_subcommand(name, |below| with_help(below, &path));
    }
    match examples::footer(&path) {
        Some(text) => command.after_long_help(text),
        None => command,
    }
}

/// Adds default and names of an argument.
fn with_arg_help(arg: Arg) -> Arg {
    let id = arg.get_id().as_str().to_owned();
    let is_sandbox = arg.get_help_heading() == Some("Sandbox");
    let key = if is_sandbox { format!("{SANDBOX_TABLE}.{id}") } else { id.clone() };
    let arg = with_default(value_parsers::with_value_parser(arg), &key);
    let arg = if id == "database" { arg.value_hint(ValueHint::FilePath) } else { arg };
    let Some(variable) = arg.get_env().map(|name| name.to_string_lossy().into_owned()) else {
        return arg;
    };
    let whole = arg.get_long_help().or(arg.get_help()).map(ToString::to_string);
    let key = match id.as_str() {
        "config" => String::new(),
        _ if is_sandbox => format!(", key {id} in [{SANDBOX_TABLE}] of the settings' file"),
        _ => format!(", key {id} in the settings' file"),
    };
    // Hides the present value of the variable: an address can contain a secret.
    arg.hide_env(true)
        .long_help(format!("{}\n\nVariable {variable}{key}.", whole.unwrap_or_default()))
        .hide_short_help(!COMMON.contains(&id.as_str()))
}

/// Appends the default to the first paragraph. It is no default of clap's, which would hide that the
/// value may be in the file.
fn with_default(arg: Arg, key: &str) -> Arg {
    let Some(default) = default_text(key) else { return arg };
    let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
    let help = format!("{help} [default: {default}]");
    match arg.get_long_help().map(ToString::to_string) {
        Some(long) => {
            let rest = long.split_once("\n\n").map_or("", |(_, rest)| rest);
            arg.long_help(format!("{help}\n\n{rest}")).help(help)
        }
        None => arg.help(help),
    }
}

/// Hides the settings that the command does not use.
fn with_relevant_settings(command: Command) -> Command {
    let name = command.get_name().to_owned();
    let concerns =
        HEADINGS_BY_COMMAND.iter().find(|(of, _)| *of == name).map(|(_, headings)| *headings);
    let without = WITHOUT_SETTINGS.contains(&name.as_str());
    let after_help = match name.as_str() {
        _ if without => "",
        "run" => FOOTER_OF_RUN,
        _ => FOOTER,
    };
    command.after_help(after_help).mut_args(|arg| {
        let is_ours = arg.get_env().is_some() || arg.get_id() == SANDBOX_TABLE;
        let heading = arg.get_help_heading().map(str::to_owned);
        let concerned = match (&heading, concerns) {
            (Some(heading), Some(headings)) => headings.contains(&heading.as_str()),
            _ => true,
        };
        match is_ours {
            true if without => arg.hide(true),
            true if !concerned => arg.hide_short_help(true),
            _ => arg,
        }
    })
}
