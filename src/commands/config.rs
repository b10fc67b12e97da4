//! `deskbatch config show`: every setting with its value and the source of it.

use std::fmt::Write as _;

use serde::Serialize;

use super::error::{CommandError, Exit};
use crate::cli::{ConfigArgs, ConfigCommand};
use crate::config::{EffectiveSetting, Settings, sandbox_settings};
use crate::output::{Output, json_line};
use crate::util::escape::visible;

/// The widest value that widens its column; a longer one shifts its own line.
const VALUE_CHARS_MAX: usize = 36;

/// Runs the command.
pub(super) fn config(
    settings: &Settings,
    args: &ConfigArgs,
    out: &Output,
) -> Result<Exit, CommandError> {
    let ConfigCommand::Show(args) = &args.what;
    // Invalid sandbox settings are an error here too.
    sandbox_settings(settings, &args.sandbox, None)?;
    let text = if args.json { as_json(settings) } else { as_text(settings) };
    let written = if args.json { out.json(&text) } else { out.data(&text) };
    written.map_err(CommandError::io("cannot write to stdout"))?;
    Ok(Exit::Done)
}

fn as_text(settings: &Settings) -> String {
    let effective = settings.effective(settings.is_sandbox_run);
    let mut text = lines(&effective);
    let changed = changed(settings, &effective);
    if !changed.is_empty() {
        let _ = write!(text, "\nwith --sandbox:\n{}", lines(&changed));
    }
    text
}

/// The settings that differ in a sandbox run; empty in a sandbox run.
fn changed(settings: &Settings, effective: &[EffectiveSetting]) -> Vec<EffectiveSetting> {
    let in_sandbox_run = settings.effective(true).into_iter().zip(effective);
    in_sandbox_run
        .filter(|(one, other)| {
            !settings.is_sandbox_run && (one.value != other.value || one.is_secret)
        })
        .filter(|(one, other)| {
            one.origin != other.origin && (one.value.is_some() || other.value.is_some())
        })
        .map(|(one, _)| one)
        .collect()
}

fn lines(settings: &[EffectiveSetting]) -> String {
    let shown = |setting: &EffectiveSetting| {
        setting.value.as_deref().map_or("-".to_owned(), |v| visible(v).into())
    };
    let width =
        |of: &dyn Fn(&EffectiveSetting) -> usize| settings.iter().map(of).max().unwrap_or(0);
    let keys = width(&|setting| setting.key.len());
    let values = width(&|setting| shown(setting).chars().count()).min(VALUE_CHARS_MAX);
    let mut text = String::new();
    for setting in settings {
        let _ = writeln!(
            text,
            "{:keys$}  {:values$}  {}",
            setting.key,
            shown(setting),
            visible(&setting.origin.to_string())
        );
    }
    text
}

/// The output of `deskbatch config show --json`.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct ConfigJson<'a> {
    /// Version of this format. It changes when a field is removed or changes its meaning.
    schema: u32,
    /// Whether these are the settings of a sandbox run.
    sandbox: bool,
    /// The effective settings.
    settings: Vec<SettingJson<'a>>,
    /// The settings that differ in a sandbox run; empty for a sandbox run.
    with_sandbox: Vec<SettingJson<'a>>,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct SettingJson<'a> {
    /// Key in the configuration file.
    key: &'a str,
    /// Effective value as text; null if it is not set or a secret.
    value: Option<&'a str>,
    /// Whether it has a value.
    set: bool,
    /// Whether it is a secret.
    secret: bool,
    /// Source of the value: flag, environment, file, default, `sandbox_run`, overridden or unset.
    from: &'static str,
    /// Name of the flag, variable or file, or of the setting that overrides it.
    name: Option<String>,
}

impl<'a> SettingJson<'a> {
    fn of(setting: &'a EffectiveSetting) -> Self {
        Self {
            key: &setting.key,
            value: setting.value.as_deref().filter(|_| !setting.is_secret),
            set: setting.value.is_some(),
            secret: setting.is_secret,
            from: setting.origin.kind(),
            name: setting.origin.name(),
        }
    }
}

fn as_json(settings: &Settings) -> String {
    let effective = settings.effective(settings.is_sandbox_run);
    let changed = changed(settings, &effective);
    let json = ConfigJson {
        schema: 1,
        sandbox: settings.is_sandbox_run,
        settings: effective.iter().map(SettingJson::of).collect(),
        with_sandbox: changed.iter().map(SettingJson::of).collect(),
    };
    json_line(&json)
}
