//! How the command line explains itself: `-h` fits a screen and has what people use every
//! day, `--help` has everything.
//!
//! Works on clap's own structures. A setting that no list here names is rare, stands under
//! "Settings", and is in `--help` all the same.

use clap::builder::ValueHint;
use clap::{Arg, Command, CommandFactory as _};

use super::known::SANDBOX_TABLE;
use super::{Cli, examples, words};

/// The headings of the settings, in their order in the help.
const HEADINGS: [(&str, &[&str]); 7] = [
    ("Files", &["config", "database"]),
    ("Account", &["sdkappid", "identifier", "region", "endpoint", "library", "usersig_lifetime_s"]),
    ("Pace", &["rate", "chunk", "in_flight"]),
    (
        "Limits",
        &[
            "max_failures",
            "attempts",
            "rejections_max",
            "outage_s",
            "grace_s",
            "connect_timeout_ms",
            "timeout_ms",
        ],
    ),
    ("Cron", &["max_duration", "wait", "on_finish", "metrics_file"]),
    ("Output", &["quiet"]),
    ("Log", &["log", "log_format", "log_file"]),
];

/// The settings and flags that `-h` shows.
const USUAL: [&str; 9] = [
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

/// Flags that are no settings and rare.
const RARE: [&str; 7] = [
    "delimiter",
    "on_conflict",
    "allow_foreign_ids",
    "name",
    "override_status",
    "overwrite",
    "same_service",
];

/// Commands whose `-h` shows the settings of these headings alone; `-h` of all others shows
/// all that are usual.
const CONCERNS: [(&str, &[&str]); 8] = [
    ("deskbatch", &["Files", "Account", "Output"]),
    ("status", &["Files", "Output"]),
    ("report", &["Files", "Output"]),
    ("retry", &["Files", "Output"]),
    ("cancel", &["Files", "Output"]),
    ("prune", &["Files", "Output"]),
    ("usersig", &["Files", "Account"]),
    ("init", &["Account"]),
];

/// Commands that no setting concerns.
const WITHOUT_SETTINGS: [&str; 3] = ["explain", "completions", "man"];

/// What stands under `-h`.
const MORE: &str = "--help has all settings, with units, ranges, variables and examples.";

/// The same for a run, which has more of them than a screen has lines.
const MORE_OF_RUN: &str = "\
Also: --max-duration, --wait, --on-finish, --metrics-file, --dashboard.
--help has all settings, with units, ranges, variables and examples.";

/// The whole command line, with its help.
pub fn command() -> Command {
    let mut command = with_help(Cli::command(), "");
    // From here on every command has the settings, which are declared once.
    command.build();
    command = about_what_concerns_it(command);
    for below in command.get_subcommands_mut() {
        *below = about_what_concerns_it(std::mem::take(below));
    }
    command
}

/// The same, deaf to the environment.
pub(super) fn without_variables(command: Command) -> Command {
    let mut command = command.mut_args(|arg| arg.env(clap::builder::Resettable::Reset));
    for below in command.get_subcommands_mut() {
        *below = without_variables(std::mem::take(below));
    }
    command
}

/// The same, deaf to variables with nothing in them, as a unit's file or a compose file leaves them.
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

/// The help of `command` and of everything below it, `path` being the words before it.
fn with_help(command: Command, path: &str) -> Command {
    let path = format!("{path} {}", command.get_name()).trim_start().to_owned();
    let mut command = command.mut_args(explained);
    let names: Vec<String> = command.get_subcommands().map(|c| c.get_name().to_owned()).collect();
    for name in names {
        command = command.mut_subcommand(name, |below| with_help(below, &path));
    }
    match examples::of(&path) {
        Some(text) => command.after_long_help(text),
        None => command,
    }
}

/// An argument with its heading, its names and its words.
fn explained(arg: Arg) -> Arg {
    let id = arg.get_id().as_str().to_owned();
    let is_sandbox = arg.get_help_heading() == Some("Sandbox");
    let arg = words::known(arg);
    let arg = if id == "database" { arg.value_hint(ValueHint::FilePath) } else { arg };
    let Some(variable) = arg.get_env().map(|name| name.to_string_lossy().into_owned()) else {
        return arg.hide_short_help(RARE.contains(&id.as_str()));
    };
    let whole = arg.get_long_help().or(arg.get_help()).map(ToString::to_string);
    let key = match id.as_str() {
        "config" => String::new(),
        _ if is_sandbox => format!(", key {id} in [{SANDBOX_TABLE}] of the settings' file"),
        _ => format!(", key {id} in the settings' file"),
    };
    let heading = HEADINGS.iter().find(|(_, ids)| ids.contains(&id.as_str()));
    let heading = match heading {
        Some((heading, _)) => heading,
        None if is_sandbox => "Sandbox",
        None => "Settings",
    };
    // The value in the environment is nobody's business here: an address can be a secret.
    arg.hide_env(true)
        .long_help(format!("{}\n\nVariable {variable}{key}.", whole.unwrap_or_default()))
        .help_heading(heading)
        .hide_short_help(!USUAL.contains(&id.as_str()))
}

/// A command whose help leaves out the settings that have no say in it.
fn about_what_concerns_it(command: Command) -> Command {
    let name = command.get_name().to_owned();
    let concerns = CONCERNS.iter().find(|(of, _)| *of == name).map(|(_, headings)| *headings);
    let without = WITHOUT_SETTINGS.contains(&name.as_str());
    let after_help = match name.as_str() {
        _ if without => "",
        "run" => MORE_OF_RUN,
        _ => MORE,
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
