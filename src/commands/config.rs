//! `deskbatch config show`: every setting with its value and the source of it.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::error::{CommandError, Exit};
use crate::cli::{ConfigArgs, ConfigCommand};
use crate::config::{EffectiveSetting, Settings, sandbox_settings};
use crate::output::Output;
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
    written.map_err(CommandError::io("stdout cannot be written"))?;
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

fn as_json(settings: &Settings) -> String {
    let of = |effective: &[EffectiveSetting]| -> Vec<Value> {
        let one = |setting: &EffectiveSetting| {
            let set = setting.value.is_some();
            let value = if setting.is_secret { Value::Null } else { json!(setting.value) };
            let origin = &setting.origin;
            json!({
                "key": setting.key, "value": value, "set": set, "secret": setting.is_secret,
                "from": origin.kind(), "name": origin.name(),
            })
        };
        effective.iter().map(one).collect()
    };
    let effective = settings.effective(settings.is_sandbox_run);
    let changed = changed(settings, &effective);
    let all = json!({
        "schema": 1, "rehearsal": settings.is_sandbox_run, "settings": of(&effective),
        "with_sandbox": of(&changed),
    });
    format!("{all}\n")
}
