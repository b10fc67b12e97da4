//! The registry of settings, with their names and defaults, and the source of each given value.
//!
//! Derived from the clap structures, so that a setting is declared once. Never contains the value of a
//! secret: secrets have no flag, and `config/` reads their variables.

use std::collections::BTreeMap;

use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Args as _, Command, CommandFactory as _};
use serde::de::value::Error as ValueError;
use serde::de::{Deserializer, Error as _, Visitor};

use super::{Cli, SandboxArgs, SettingsArgs};
use crate::config::default_text;

/// The table of the sandbox's settings in the configuration file.
pub const SANDBOX_TABLE: &str = "sandbox";

/// The prefix of every setting's environment variable.
pub const VARIABLE_PREFIX: &str = "DESKBATCH_";

/// One setting with its names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// The key in the configuration file; with the prefix `sandbox.` for those of the sandbox.
    pub key: String,
    /// The flag with its dashes; `None` for a secret.
    pub flag: Option<String>,
    pub variable: String,
    /// The default, as the help names it.
    pub default: Option<String>,
}

impl Setting {
    /// Whether the value must never be printed.
    pub fn is_secret(&self) -> bool {
        self.flag.is_none()
    }
}

/// Where a value outside the file comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SettingSource {
    Flag,
    Variable,
}

/// By key: the source and the text of each value that a flag or a variable gives.
pub type SettingSources = BTreeMap<String, (SettingSource, String)>;

/// Every setting, in the order of the help.
pub fn settings() -> Vec<Setting> {
    let is_setting = |arg: &&Arg| arg.get_env().is_some();
    let mut found: Vec<Setting> =
        Cli::command().get_arguments().filter(is_setting).map(|arg| setting(arg, "")).collect();
    let is_table = |key: &&&str| **key == SANDBOX_TABLE;
    let has_flag = |key: &&&str| found.iter().any(|setting| setting.key == **key);
    let fields = fields_of::<SettingsArgs>();
    let secrets = fields.iter().filter(|key| !is_table(key) && !has_flag(key)).map(|key| Setting {
        key: (*key).to_owned(),
        flag: None,
        variable: format!("{VARIABLE_PREFIX}{}", key.to_uppercase()),
        default: None,
    });
    let secrets: Vec<Setting> = secrets.collect();
    found.extend(secrets);
    let sandbox = SandboxArgs::augment_args(Command::new(SANDBOX_TABLE));
    let table = format!("{SANDBOX_TABLE}.");
    found.extend(sandbox.get_arguments().map(|arg| setting(arg, &table)));
    found
}

/// The values in `matches` that are not defaults.
pub(super) fn sources(matches: &ArgMatches) -> SettingSources {
    let mut deepest = matches;
    while let Some((_, below)) = deepest.subcommand() {
        deepest = below;
    }
    let one = |setting: Setting| {
        let id = setting.key.rsplit('.').next()?;
        // `value_source` panics for an argument that the command does not have.
        let source = deepest.try_contains_id(id).ok().and_then(|_| deepest.value_source(id))?;
        let source = match source {
            ValueSource::CommandLine => SettingSource::Flag,
            ValueSource::EnvVariable => SettingSource::Variable,
            _ => return None,
        };
        let words = deepest.get_raw(id)?.map(|word| word.to_string_lossy().trim().to_owned());
        Some((setting.key, (source, words.collect::<Vec<_>>().join(","))))
    };
    settings().into_iter().filter(|setting| !setting.is_secret()).filter_map(one).collect()
}

fn setting(arg: &Arg, table: &str) -> Setting {
    let key = format!("{table}{}", arg.get_id());
    Setting {
        flag: arg.get_long().map(|name| format!("--{name}")),
        variable: arg.get_env().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default(),
        default: default_text(&key).filter(|text| text != "none"),
        key,
    }
}

/// The field names of a structure, as its `Deserialize` passes them to `deserialize_struct`.
fn fields_of<'de, T: serde::Deserialize<'de>>() -> &'static [&'static str] {
    struct Fields<'a>(&'a mut &'static [&'static str]);
    impl<'de> Deserializer<'de> for Fields<'_> {
        type Error = ValueError;

        fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, ValueError> {
            Err(ValueError::custom("only asked for its fields"))
        }

        fn deserialize_struct<V: Visitor<'de>>(
            self,
            _: &'static str,
            fields: &'static [&'static str],
            _: V,
        ) -> Result<V::Value, ValueError> {
            *self.0 = fields;
            Err(ValueError::custom("only asked for its fields"))
        }

        serde::forward_to_deserialize_any! {
            bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf
            option unit unit_struct newtype_struct seq tuple tuple_struct map enum identifier
            ignored_any
        }
    }
    let mut fields: &'static [&'static str] = &[];
    // Always an error: there is no value.
    drop(T::deserialize(Fields(&mut fields)));
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_have_three_names_and_secrets_no_flag() {
        let settings = settings();
        let of = |key: &str| settings.iter().find(|setting| setting.key == key).cloned();
        let names =
            |flag: Option<&str>, key: &str, variable: &str, default: Option<&str>| Setting {
                key: key.to_owned(),
                flag: flag.map(str::to_owned),
                variable: variable.to_owned(),
                default: default.map(str::to_owned),
            };
        for expected in [
            names(Some("--rate"), "rate", "DESKBATCH_RATE", Some("5")),
            names(Some("--sdkappid"), "sdkappid", "DESKBATCH_SDKAPPID", None),
            names(Some("--quiet"), "quiet", "DESKBATCH_QUIET", Some("false")),
            names(Some("--fault"), "sandbox.fault", "DESKBATCH_SANDBOX_FAULT", None),
            names(None, "secret_key", "DESKBATCH_SECRET_KEY", None),
            names(None, "usersig", "DESKBATCH_USERSIG", None),
        ] {
            assert_eq!(of(&expected.key), Some(expected.clone()), "{}", expected.key);
        }
        assert!(settings.len() > 40 && of("sandbox").is_none());
    }

    #[test]
    fn every_file_key_is_a_setting() {
        let settings = settings();
        for key in fields_of::<SettingsArgs>().iter().filter(|key| **key != SANDBOX_TABLE) {
            assert!(settings.iter().any(|setting| setting.key == *key), "{key}");
        }
        for key in fields_of::<SandboxArgs>() {
            let key = format!("{SANDBOX_TABLE}.{key}");
            assert!(settings.iter().any(|setting| setting.key == key), "{key}");
        }
    }
}
