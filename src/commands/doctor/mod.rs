//! `deskbatch doctor`: what would keep a run from its work, found before it begins.
//!
//! A line for each thing that was looked at, and what to do where it is not well. Makes no
//! call of the API and sends no credential; a queue of an earlier version is brought up to
//! date, as by any command.

mod account;
mod machine;
mod network;

use std::fmt::Write as _;

use serde_json::json;

use super::{CommandError, Exit};
use crate::cli::DoctorArgs;
use crate::config::{ConfigError, Settings, unknown_variables};
use crate::output::Output;
use crate::text::path_text;

/// What came of one look.
struct Finding {
    /// What was looked at, in one word.
    what: &'static str,
    level: Level,
    /// What was found; where that is not well, with what to do.
    text: String,
}

/// How well it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Level {
    Well,
    /// A run would begin, and may not come to the end that is expected.
    Doubtful,
    /// A run would not get through; the code with which it would end.
    Bad(Exit),
}

impl Level {
    fn word(self) -> &'static str {
        match self {
            Self::Well => "ok",
            Self::Doubtful => "warn",
            Self::Bad(_) => "bad",
        }
    }
}

impl Finding {
    fn well(what: &'static str, text: impl Into<String>) -> Self {
        Self { what, level: Level::Well, text: text.into() }
    }

    fn doubtful(what: &'static str, text: impl Into<String>) -> Self {
        Self { what, level: Level::Doubtful, text: text.into() }
    }

    fn bad(what: &'static str, exit: Exit, text: impl Into<String>) -> Self {
        Self { what, level: Level::Bad(exit), text: text.into() }
    }

    fn of(what: &'static str, error: &CommandError) -> Self {
        Self::bad(what, error.exit(), error.text())
    }
}

/// Runs the command. The exit code is that of the first thing that is bad.
pub(super) async fn doctor(
    settings: &Settings,
    args: &DoctorArgs,
    out: &Output,
) -> Result<Exit, CommandError> {
    let mut findings = configuration(settings);
    findings.extend(account::look(settings));
    if !args.offline {
        findings.extend(network::look(settings).await);
    }
    findings.extend(machine::look(settings, args.recount).await);
    tell(args, &findings, out)
}

/// The same when the settings cannot be used: nothing else can be looked at then.
pub(super) fn with_wrong_settings(
    args: &DoctorArgs,
    error: &ConfigError,
    out: &Output,
) -> Result<Exit, CommandError> {
    let mut findings = vec![Finding::bad("config", Exit::Wrong, error.to_string())];
    findings.extend(strange_variables());
    tell(args, &findings, out)
}

/// Where the settings were read from, and what looks like one and is none.
fn configuration(settings: &Settings) -> Vec<Finding> {
    let mut findings = Vec::new();
    findings.push(match &settings.file {
        Some(file) => Finding::well(
            "config",
            format!(
                "{}, mode {:o}, under flags and the environment",
                path_text(&file.path),
                file.mode
            ),
        ),
        None => Finding::well(
            "config",
            "no deskbatch.toml here: flags and the environment alone; deskbatch init writes one",
        ),
    });
    findings.extend(strange_variables());
    findings
}

fn strange_variables() -> impl Iterator<Item = Finding> {
    unknown_variables().into_iter().map(|v| Finding::doubtful("config", v.to_string()))
}

fn tell(args: &DoctorArgs, findings: &[Finding], out: &Output) -> Result<Exit, CommandError> {
    let text = if args.json { as_json(findings) } else { as_text(findings) };
    let written = if args.json { out.json(&text) } else { out.data(&text) };
    written.map_err(CommandError::io("stdout cannot be written"))?;
    Ok(exit(findings))
}

fn exit(findings: &[Finding]) -> Exit {
    let bad = findings.iter().find_map(|finding| match finding.level {
        Level::Bad(exit) => Some(exit),
        Level::Well | Level::Doubtful => None,
    });
    bad.unwrap_or(Exit::Done)
}

fn as_text(findings: &[Finding]) -> String {
    let mut text = String::new();
    for finding in findings {
        let _ = writeln!(text, "{:4} {:8}  {}", finding.level.word(), finding.what, finding.text);
    }
    text
}

fn as_json(findings: &[Finding]) -> String {
    let checks: Vec<_> = findings
        .iter()
        .map(|f| json!({ "check": f.what, "level": f.level.word(), "text": f.text }))
        .collect();
    let exit = exit(findings);
    format!("{}\n", json!({ "schema": 1, "exit": exit as u8, "checks": checks }))
}
