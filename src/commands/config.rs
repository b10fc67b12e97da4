//! `deskbatch config show`: every setting, its value, and where that comes from.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::{CommandError, Exit};
use crate::cli::{ConfigArgs, ConfigCommand};
use crate::config::{Effective, Settings, sandbox_settings};
use crate::output::Output;
use crate::text::visible;

/// The widest value that still moves the column behind it.
const VALUE_CHARS_MAX: usize = 36;

/// Runs the command.
pub(super) fn config(
    settings: &Settings,
    args: &ConfigArgs,
    out: &Output,
) -> Result<Exit, CommandError> {
    let ConfigCommand::Show(args) = &args.what;
    // What no rehearsal could use is told here as well.
    sandbox_settings(settings, &args.rehearsal, None)?;
    let text = if args.json { as_json(settings) } else { as_text(settings) };
    let written = if args.json { out.json(&text) } else { out.data(&text) };
    written.map_err(CommandError::io("stdout cannot be written"))?;
    Ok(Exit::Done)
}

fn as_text(settings: &Settings) -> String {
    let effective = settings.effective(settings.rehearsal);
    let mut text = lines(&effective);
    let changed = changed(settings, &effective);
    if !changed.is_empty() {
        let _ = write!(text, "\nwith --sandbox:\n{}", lines(&changed));
    }
    text
}

/// What a rehearsal would have otherwise; nothing in a rehearsal.
fn changed(settings: &Settings, effective: &[Effective]) -> Vec<Effective> {
    let rehearsed = settings.effective(true).into_iter().zip(effective);
    rehearsed
        .filter(|(one, other)| !settings.rehearsal && (one.value != other.value || one.is_secret))
        .filter(|(one, other)| {
            one.origin != other.origin && (one.value.is_some() || other.value.is_some())
        })
        .map(|(one, _)| one)
        .collect()
}

fn lines(settings: &[Effective]) -> String {
    let shown = |setting: &Effective| {
        setting.value.as_deref().map_or("-".to_owned(), |v| visible(v).into())
    };
    let width = |of: &dyn Fn(&Effective) -> usize| settings.iter().map(of).max().unwrap_or(0);
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
    let of = |effective: &[Effective]| -> Vec<Value> {
        let one = |setting: &Effective| {
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
    let effective = settings.effective(settings.rehearsal);
    let changed = changed(settings, &effective);
    let all = json!({
        "schema": 1, "rehearsal": settings.rehearsal, "settings": of(&effective),
        "with_sandbox": of(&changed),
    });
    format!("{all}\n")
}
