//! `deskbatch doctor`: finds what would stop a run before it begins.
//!
//! Prints one line per check, with advice where it fails. Makes no call of the API and sends no
//! credential. Migrates a queue of an earlier version, as any command does.

mod account;
mod machine;
mod network;

use std::fmt::Write as _;

use serde_json::json;

use super::error::{CommandError, Exit};
use crate::cli::DoctorArgs;
use crate::config::{ConfigError, Settings, unknown_variables};
use crate::output::Output;
use crate::util::escape::path_text;

/// The result of one check.
struct Finding {
    /// The check, in one word.
    check: &'static str,
    level: Level,
    /// What was found, and the advice if it is not ok.
    text: String,
}

/// How severe a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::Display)]
#[strum(serialize_all = "lowercase")]
enum Level {
    Ok,
    /// A run would begin, but might not succeed.
    Warn,
    /// A run would fail, with this exit code.
    Bad(Exit),
}

impl Finding {
    fn ok(check: &'static str, text: impl Into<String>) -> Self {
        Self { check, level: Level::Ok, text: text.into() }
    }

    fn warn(check: &'static str, text: impl Into<String>) -> Self {
        Self { check, level: Level::Warn, text: text.into() }
    }

    fn bad(check: &'static str, exit: Exit, text: impl Into<String>) -> Self {
        Self { check, level: Level::Bad(exit), text: text.into() }
    }

    fn from_error(check: &'static str, error: &CommandError) -> Self {
        Self::bad(check, error.exit(), error.text())
    }
}

/// Runs the command. The exit code is that of the first bad finding.
pub(super) async fn doctor(
    settings: &Settings,
    args: &DoctorArgs,
    out: &Output,
) -> Result<Exit, CommandError> {
    let mut findings = check_configuration(settings);
    findings.extend(account::check(settings));
    if !args.offline {
        findings.extend(network::check(settings).await);
    }
    findings.extend(machine::check(settings, args.recount).await);
    print(args, &findings, out)
}

/// Reports invalid settings; without settings nothing else can be checked.
pub(super) fn with_invalid_settings(
    args: &DoctorArgs,
    error: &ConfigError,
    out: &Output,
) -> Result<Exit, CommandError> {
    let mut findings = vec![Finding::bad("config", Exit::Usage, error.to_string())];
    findings.extend(unknown_variable_findings());
    print(args, &findings, out)
}

/// The configuration file in use, and environment variables that look like settings.
fn check_configuration(settings: &Settings) -> Vec<Finding> {
    let mut findings = Vec::new();
    findings.push(match &settings.file {
        Some(file) => Finding::ok(
            "config",
            format!(
                "{}, mode {:o}, under flags and the environment",
                path_text(&file.path),
                file.mode
            ),
        ),
        None => Finding::ok(
            "config",
            "no deskbatch.toml here: flags and the environment alone; deskbatch init writes one",
        ),
    });
    findings.extend(unknown_variable_findings());
    findings
}

fn unknown_variable_findings() -> impl Iterator<Item = Finding> {
    unknown_variables().into_iter().map(|v| Finding::warn("config", v.to_string()))
}

fn print(args: &DoctorArgs, findings: &[Finding], out: &Output) -> Result<Exit, CommandError> {
    let text = if args.json { as_json(findings) } else { as_text(findings) };
    let written = if args.json { out.json(&text) } else { out.data(&text) };
    written.map_err(CommandError::io("stdout cannot be written"))?;
    Ok(exit(findings))
}

fn exit(findings: &[Finding]) -> Exit {
    let bad = findings.iter().find_map(|finding| match finding.level {
        Level::Bad(exit) => Some(exit),
        Level::Ok | Level::Warn => None,
    });
    bad.unwrap_or(Exit::Done)
}

fn as_text(findings: &[Finding]) -> String {
    let mut text = String::new();
    for finding in findings {
        let _ = writeln!(text, "{:4} {:8}  {}", finding.level, finding.check, finding.text);
    }
    text
}

fn as_json(findings: &[Finding]) -> String {
    let checks: Vec<_> = findings
        .iter()
        .map(|f| json!({ "check": f.check, "level": f.level.to_string(), "text": f.text }))
        .collect();
    let exit = exit(findings);
    format!("{}\n", json!({ "schema": 1, "exit": exit as u8, "checks": checks }))
}
