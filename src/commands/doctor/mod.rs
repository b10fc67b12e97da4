//! `deskbatch doctor`: finds what would stop a run before it begins.
//!
//! Prints one line per check, with advice where it fails. Makes no API call and sends no credentials.
//! Migrates a queue of an earlier version, as any command does.

mod account;
mod machine;
mod network;

use std::fmt::Write as _;

use serde::Serialize;

use super::error::{CommandError, Exit};
use crate::cli::DoctorArgs;
use crate::config::{ConfigError, Settings, unknown_variables};
use crate::output::{Output, json_line};
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
    Warning,
    /// A run would fail, with this exit code.
    Error(Exit),
}

impl Finding {
    fn ok(check: &'static str, text: impl Into<String>) -> Self {
        Self { check, level: Level::Ok, text: text.into() }
    }

    fn warning(check: &'static str, text: impl Into<String>) -> Self {
        Self { check, level: Level::Warning, text: text.into() }
    }

    fn error(check: &'static str, exit: Exit, text: impl Into<String>) -> Self {
        Self { check, level: Level::Error(exit), text: text.into() }
    }

    fn from_error(check: &'static str, error: &CommandError) -> Self {
        Self::error(check, error.exit(), error.text())
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
    findings.extend(machine::check(settings, args.repair_counters).await);
    print(args, &findings, out)
}

/// Reports invalid settings; without settings nothing else can be checked.
pub(super) fn with_invalid_settings(
    args: &DoctorArgs,
    error: &ConfigError,
    out: &Output,
) -> Result<Exit, CommandError> {
    let mut findings = vec![Finding::error("config", Exit::Usage, error.to_string())];
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
                "{}, mode {:o}; flags and the environment take precedence",
                path_text(&file.path),
                file.mode
            ),
        ),
        None => Finding::ok(
            "config",
            "no deskbatch.toml in this directory: only flags and the environment apply. `deskbatch init` creates one",
        ),
    });
    findings.extend(unknown_variable_findings());
    findings
}

fn unknown_variable_findings() -> impl Iterator<Item = Finding> {
    unknown_variables().into_iter().map(|v| Finding::warning("config", v.to_string()))
}

fn print(args: &DoctorArgs, findings: &[Finding], out: &Output) -> Result<Exit, CommandError> {
    let text = if args.json { as_json(findings) } else { as_text(findings) };
    let written = if args.json { out.json(&text) } else { out.data(&text) };
    written.map_err(CommandError::io("cannot write to stdout"))?;
    Ok(exit(findings))
}

fn exit(findings: &[Finding]) -> Exit {
    let error = findings.iter().find_map(|finding| match finding.level {
        Level::Error(exit) => Some(exit),
        Level::Ok | Level::Warning => None,
    });
    error.unwrap_or(Exit::Done)
}

fn as_text(findings: &[Finding]) -> String {
    let mut text = String::new();
    for finding in findings {
        let _ = writeln!(text, "{:7} {:8}  {}", finding.level, finding.check, finding.text);
    }
    text
}

/// The output of `deskbatch doctor --json`.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct DoctorJson<'a> {
    /// Version of this format. It changes when a field is removed or changes its meaning.
    schema: u32,
    /// Exit code of the command: that of the first check with the level `error`, otherwise 0.
    exit: u8,
    /// The checks, in order.
    checks: Vec<CheckJson<'a>>,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct CheckJson<'a> {
    /// The check, in one word.
    check: &'static str,
    /// ok; warning: a run would start, but might not succeed; error: a run would fail.
    level: String,
    /// The result, and what to do if it is not ok.
    text: &'a str,
}

fn as_json(findings: &[Finding]) -> String {
    let checks = findings
        .iter()
        .map(|f| CheckJson { check: f.check, level: f.level.to_string(), text: &f.text })
        .collect();
    let json = DoctorJson { schema: 1, exit: exit(findings) as u8, checks };
    json_line(&json)
}
