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

/// The command that documents every setting: `deskbatch help settings`.
const TOPIC: &str = "settings";

/// The settings of every command that reads them at all.
const GENERAL: [&str; 7] =
    ["config", "database", "sandbox", "quiet", "log", "log_format", "log_file"];

/// Of these, the settings that select the queue, and the commands that use none.
const QUEUE: [&str; 2] = ["database", "sandbox"];
const WITHOUT_QUEUE: [&str; 3] = ["deskbatch init", "deskbatch usersig", "deskbatch sandbox"];

/// By command: the other settings that it uses. A command that is not here uses none.
const USED: [(&str, &[&str]); 16] = [
    ("deskbatch", &[]),
    ("deskbatch run", &[EVERY]),
    (
        "deskbatch plan",
        &["sdkappid", "region", "endpoint", "library", "rate", "chunk", "max_in_flight"],
    ),
    ("deskbatch import", &["sdkappid", "library"]),
    ("deskbatch status", &["sdkappid", "library", "rate", "chunk"]),
    ("deskbatch report", &["rate", "chunk"]),
    ("deskbatch dashboard", &["dashboard", "rate", "chunk"]),
    ("deskbatch retry", &[]),
    ("deskbatch cancel", &[]),
    ("deskbatch prune", &[]),
    ("deskbatch init", &["sdkappid", "identifier", "region", "endpoint", "library"]),
    ("deskbatch config show", &[]),
    (
        "deskbatch doctor",
        &[
            "sdkappid",
            "identifier",
            "region",
            "endpoint",
            "library",
            "usersig_lifetime",
            "connect_timeout",
            "timeout",
            "metrics_file",
            "dashboard",
        ],
    ),
    ("deskbatch usersig", &["sdkappid", "identifier", "usersig_lifetime"]),
    ("deskbatch sandbox", &["sdkappid", "identifier"]),
    ("deskbatch settings", &[EVERY]),
];

/// In [`USED`]: all settings.
const EVERY: &str = "*";

/// The end of the help of a command with settings.
const FOOTER: &str = "`deskbatch help settings` describes every setting.";

/// The end of the page of the settings.
const FOOTER_OF_SETTINGS: &str =
    "`deskbatch sandbox --help` describes the settings of the sandbox, in the table [sandbox].";

/// The end of the help of `run`.
const FOOTER_OF_RUN: &str = "\
With --sandbox, the flags of `deskbatch sandbox --help` can be used too.
`deskbatch help settings` describes every setting.";

/// The complete command line, with its help.
pub fn command() -> Command {
    let mut command = with_help(Cli::command(), "");
    // Copies the global settings into every subcommand.
    command.build();
    with_used_settings(command, "")
}

/// The text of `deskbatch help settings`.
pub fn settings_page() -> clap::builder::StyledStr {
    let mut command = command();
    let topic = command.find_subcommand_mut(TOPIC);
    topic.map(Command::render_long_help).unwrap_or_default()
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

/// Adds the examples and the defaults to `command` and its subcommands; `path` has the words before it.
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
    let is_sandbox = is_of_sandbox(&arg);
    let key = if is_sandbox { format!("{SANDBOX_TABLE}.{id}") } else { id.clone() };
    let arg = with_default(value_parsers::with_value_parser(arg), &key);
    let arg = if id == "database" { arg.value_hint(ValueHint::FilePath) } else { arg };
    let Some(variable) = arg.get_env().map(|name| name.to_string_lossy().into_owned()) else {
        return arg;
    };
    let whole = arg.get_long_help().or(arg.get_help()).map(ToString::to_string);
    let key = match id.as_str() {
        "config" => String::new(),
        _ if is_sandbox => format!(", key {id} in [{SANDBOX_TABLE}]"),
        _ => format!(", key {id}"),
    };
    // Hides the present value of the variable: an address can contain a secret.
    arg.hide_env(true)
        .long_help(format!("{}\n\nVariable {variable}{key}.", whole.unwrap_or_default()))
        .hide_short_help(!COMMON.contains(&id.as_str()))
}

/// Whether `arg` is a setting of the sandbox.
fn is_of_sandbox(arg: &Arg) -> bool {
    arg.get_help_heading() == Some("Sandbox")
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

/// Hides the settings that `command` and its subcommands do not use, and leaves the first line of the others:
/// the page of the settings has the rest.
fn with_used_settings(command: Command, path: &str) -> Command {
    let path = format!("{path} {}", command.get_name()).trim_start().to_owned();
    let used = USED.iter().find(|(of, _)| *of == path).map(|(_, used)| *used);
    let is_topic = command.get_name() == TOPIC;
    let footer = match used {
        None => "",
        _ if is_topic => FOOTER_OF_SETTINGS,
        _ if path == "deskbatch run" => FOOTER_OF_RUN,
        _ => FOOTER,
    };
    let long_footer = match command.get_after_long_help().map(ToString::to_string) {
        Some(examples) if !footer.is_empty() => format!("{examples}\n\n{footer}"),
        Some(examples) => examples,
        None => footer.to_owned(),
    };
    let mut command = command.after_help(footer).after_long_help(long_footer).mut_args(|arg| {
        let id = arg.get_id().as_str();
        if is_of_sandbox(&arg) {
            return if path == "deskbatch sandbox" { arg } else { arg.hide(true) };
        }
        if arg.get_env().is_none() && id != SANDBOX_TABLE {
            return arg;
        }
        let is_hidden = WITHOUT_QUEUE.contains(&path.as_str()) && QUEUE.contains(&id);
        let is_used = used.is_some_and(|used| {
            (GENERAL.contains(&id) && !is_hidden) || used.contains(&EVERY) || used.contains(&id)
        });

        match arg.get_help().cloned() {
            _ if !is_used => arg.hide(true),
            _ if is_topic => arg.hide_short_help(false),
            Some(help) => arg.long_help(help),
            None => arg,
        }
    });
    for below in command.get_subcommands_mut() {
        *below = with_used_settings(std::mem::take(below), &path);
    }
    command
}
