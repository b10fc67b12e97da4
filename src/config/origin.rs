//! The effective settings with their sources, and environment variables that look like settings but
//! are not.
//!
//! Derived from the registry in `cli/`, by the rules of the merge in `file.rs`. Holds no secret, only
//! whether one is set.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use super::{Settings, metrics_path, sandbox_database_path};
use crate::cli::{Setting, SettingSource, VARIABLE_PREFIX, settings};
use crate::desk::Endpoint;
use crate::domain::clock::duration_text;
use crate::sandbox::{SANDBOX_IDENTIFIER, SANDBOX_SDKAPPID};
use crate::util::escape::path_text;
use crate::util::suggest::nearest;

/// Alternatives: the one from the source of higher precedence overrides the other.
const ALTERNATIVES: [(&str, &str); 2] = [("region", "endpoint"), ("secret_key", "usersig")];

/// The text that replaces a secret.
const MASK: &str = "set";

/// The configuration file that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigFile {
    /// Its path.
    pub path: PathBuf,
    /// Its permission bits.
    pub mode: u32,
    /// Its settings by key, as text. Secrets are masked.
    pub(super) values: BTreeMap<String, String>,
}

/// The source of an effective value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// This flag.
    Flag(String),
    /// This environment variable.
    Variable(String),
    /// This configuration file.
    File(PathBuf),
    /// The default.
    Default,
    /// A sandbox run has its own value.
    SandboxRun,
    /// Set, but overridden by this setting, which has the higher precedence.
    Overridden(&'static str),
    /// Not set, without a default.
    Unset,
}

impl Origin {
    /// Its kind in one word, for JSON.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Flag(_) => "flag",
            Self::Variable(_) => "environment",
            Self::File(_) => "file",
            Self::Default => "default",
            Self::SandboxRun => "sandbox_run",
            Self::Overridden(_) => "overridden",
            Self::Unset => "unset",
        }
    }

    /// The name of the flag, variable, file or setting.
    pub fn name(&self) -> Option<String> {
        match self {
            Self::Flag(name) | Self::Variable(name) => Some(name.clone()),
            Self::File(path) => Some(path.to_string_lossy().into_owned()),
            Self::Overridden(name) => Some((*name).to_owned()),
            Self::Default | Self::SandboxRun | Self::Unset => None,
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(name) => write!(f, "flag {name}"),
            Self::Variable(name) => write!(f, "environment {name}"),
            Self::File(path) => write!(f, "file {}", path_text(path)),
            Self::Default => f.write_str("default"),
            Self::SandboxRun => f.write_str("sandbox run"),
            Self::Overridden(name) => write!(f, "overridden by {name}"),
            Self::Unset => f.write_str("not set"),
        }
    }
}

/// A setting with its effective value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EffectiveSetting {
    /// Its key.
    pub key: String,
    /// The value as text; a secret is masked.
    pub value: Option<String>,
    /// Whether it is a secret.
    pub is_secret: bool,
    /// The source of the value.
    pub origin: Origin,
}

impl Settings {
    /// Every setting with its effective value, in a sandbox run or not.
    pub fn effective(&self, in_sandbox_run: bool) -> Vec<EffectiveSetting> {
        let mut all: Vec<EffectiveSetting> =
            settings().into_iter().map(|setting| self.with_origin(setting)).collect();
        for (one, other) in ALTERNATIVES {
            override_alternative(&mut all, one, other);
        }
        if in_sandbox_run {
            self.apply_sandbox_run(&mut all);
        }
        all
    }

    fn with_origin(&self, setting: Setting) -> EffectiveSetting {
        let is_secret = setting.is_secret();
        let in_file =
            self.file.as_ref().and_then(|file| Some((file, file.values.get(&setting.key)?)));
        let in_environment = || {
            let value = std::env::var(&setting.variable).ok()?;
            (is_secret && !value.trim().is_empty()).then(|| MASK.to_owned())
        };
        let (value, origin) = if let Some((source, text)) = self.sources.get(&setting.key) {
            let flag = setting.flag.clone().unwrap_or_default();
            let origin = match source {
                SettingSource::Flag => Origin::Flag(flag),
                SettingSource::Variable => Origin::Variable(setting.variable),
            };
            (Some(text.clone()), origin)
        } else if let Some(value) = in_environment() {
            (Some(value), Origin::Variable(setting.variable))
        } else if let Some((file, value)) = in_file {
            (Some(value.clone()), Origin::File(file.path.clone()))
        } else if setting.default.is_some() && (setting.key != "config" || self.file.is_some()) {
            (setting.default, Origin::Default)
        } else {
            (None, Origin::Unset)
        };
        let value = if setting.key == "endpoint" { value.map(without_path) } else { value };
        EffectiveSetting { key: setting.key, value, is_secret, origin }
    }

    /// Replaces the settings that have their own value in a sandbox run.
    fn apply_sandbox_run(&self, all: &mut [EffectiveSetting]) {
        let database = sandbox_database_path(&self.live_database).to_string_lossy().into_owned();
        let sdkappid = self.raw.sdkappid.is_none().then(|| SANDBOX_SDKAPPID.to_string());
        let metrics_file = self.raw.metrics_file.as_deref();
        let metrics_file = metrics_file.and_then(|path| metrics_path(path, true).ok());
        let own = [
            ("database", Some(database)),
            ("metrics_file", metrics_file.map(|path| path.to_string_lossy().into_owned())),
            ("sdkappid", sdkappid),
            ("identifier", Some(SANDBOX_IDENTIFIER.to_owned())),
            ("secret_key", Some(MASK.to_owned())),
            ("endpoint", Some("the sandbox".to_owned())),
            ("usersig_lifetime", Some(duration_text(super::defaults::USERSIG_LIFETIME))),
        ];
        for setting in all {
            if matches!(setting.key.as_str(), "region" | "usersig") {
                (setting.value, setting.origin) = (None, Origin::SandboxRun);
            }
            let own = own.iter().find(|(key, _)| *key == setting.key);
            if let Some((_, Some(value))) = own
                && setting.value.as_ref() != Some(value)
            {
                (setting.value, setting.origin) = (Some(value.clone()), Origin::SandboxRun);
            }
        }
    }
}

/// Of two alternatives, marks the one of lower precedence as overridden.
fn override_alternative(all: &mut [EffectiveSetting], one: &'static str, other: &'static str) {
    let precedence = |all: &[EffectiveSetting], key: &str| {
        let setting = all.iter().find(|setting| setting.key == key)?;
        match setting.origin {
            Origin::Flag(_) => Some(2),
            Origin::Variable(_) => Some(1),
            Origin::File(_) => Some(0),
            _ => None,
        }
    };
    for (higher, lower) in [(one, other), (other, one)] {
        let (above, below) = (precedence(all, higher), precedence(all, lower));
        if below.is_some()
            && above > below
            && let Some(setting) = all.iter_mut().find(|setting| setting.key == lower)
        {
            (setting.value, setting.origin) = (None, Origin::Overridden(higher));
        }
    }
}

/// Scheme and host of a URL: the path may contain a secret of a gateway.
fn without_path(url: String) -> String {
    let scheme = |endpoint: &Endpoint| if endpoint.is_encrypted() { "https" } else { "http" };
    url.parse::<Endpoint>().map_or(url, |endpoint| format!("{}://{endpoint}", scheme(&endpoint)))
}

/// An environment variable with the prefix of settings that is not one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownVariable {
    /// Its name.
    pub name: String,
    /// The most similar variable of a setting.
    pub meant: Option<String>,
}

impl fmt::Display for UnknownVariable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the environment variable {} is not a setting and is ignored: ", self.name)?;
        match &self.meant {
            Some(meant) => write!(f, "did you mean {meant}?"),
            None => write!(f, "`deskbatch config show` lists the settings"),
        }
    }
}

/// The unknown variables of this process, sorted by name.
pub fn unknown_variables() -> Vec<UnknownVariable> {
    let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    let mut unknown = unknown_among(names);
    unknown.sort_by(|a, b| a.name.cmp(&b.name));
    unknown
}

/// Whether Kubernetes sets the variable `name` for a Service called `deskbatch` or `deskbatch-…`. If so,
/// `names` contains the Service's host variable.
fn is_kubernetes_service_variable(name: &str, names: &[String]) -> bool {
    const HOST: &str = "_SERVICE_HOST";
    let services = names.iter().filter_map(|name| name.strip_suffix(HOST));
    services.filter_map(|service| name.strip_prefix(service)).any(|rest| {
        let is_part = |start: &str| {
            rest.strip_prefix(start).is_some_and(|end| end.is_empty() || end.starts_with('_'))
        };
        rest == HOST || is_part("_SERVICE_PORT") || is_part("_PORT")
    })
}

fn unknown_among(names: impl Iterator<Item = String>) -> Vec<UnknownVariable> {
    let names: Vec<String> =
        names.filter(|name| name.starts_with(VARIABLE_PREFIX.trim_end_matches('_'))).collect();
    let known: Vec<String> = settings().into_iter().map(|setting| setting.variable).collect();
    // Without the common prefix, which would make all of them similar.
    let suffix = |name: &str| name.strip_prefix(VARIABLE_PREFIX).map(str::to_owned);
    let suffixes: Vec<String> = known.iter().filter_map(|name| suffix(name)).collect();
    let is_unknown =
        |name: &&String| !known.contains(name) && !is_kubernetes_service_variable(name, &names);
    let unknown = names.iter().filter(is_unknown).filter_map(|name| {
        let meant = nearest(&suffix(name)?, suffixes.iter().map(String::as_str));
        let meant = meant.map(|suffix| format!("{VARIABLE_PREFIX}{suffix}"));
        Some(UnknownVariable { name: name.clone(), meant })
    });
    unknown.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistyped_variable_gets_a_suggestion() {
        let names = [
            "DESKBATCH_CHUNCK",
            "DESKBATCH_RATE",
            "DESKBATCH_FOO_BAR",
            "PATH",
            "DESKBATCH_SECRETKEY",
        ];
        let unknown = unknown_among(names.into_iter().map(str::to_owned));
        let found: Vec<(&str, Option<&str>)> =
            unknown.iter().map(|v| (v.name.as_str(), v.meant.as_deref())).collect();
        assert_eq!(
            found,
            [
                ("DESKBATCH_CHUNCK", Some("DESKBATCH_CHUNK")),
                ("DESKBATCH_FOO_BAR", None),
                ("DESKBATCH_SECRETKEY", Some("DESKBATCH_SECRET_KEY")),
            ]
        );
    }

    #[test]
    fn kubernetes_service_variables_are_known() {
        let unknown = |service: &str, more: &[&str]| -> Vec<String> {
            let ends = ["SERVICE_HOST", "SERVICE_PORT", "SERVICE_PORT_HTTP", "PORT", "PORT_80_TCP"];
            let ends = ends.iter().chain(&["PORT_80_TCP_PROTO", "PORT_80_TCP_ADDR"]);
            let names = ends.map(|end| format!("{service}_{end}"));
            let names = names.chain(more.iter().map(|name| (*name).to_owned()));
            unknown_among(names).into_iter().map(|variable| variable.name).collect()
        };
        for service in ["DESKBATCH", "DESKBATCH_X", "DESKBATCH_QUEUE_EXPORT"] {
            assert_eq!(unknown(service, &[]), Vec::<String>::new());
        }
        let others = ["DESKBATCH_X_PORTS", "DESKBATCH_Y_PORT", "DESKBATCH_X_CHUNK"];
        assert_eq!(unknown("DESKBATCH_X", &others), others);
    }
}
