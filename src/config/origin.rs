//! Where each setting comes from, for people who ask what is in effect, and what in the
//! environment looks like a setting and is none.
//!
//! Derived from the command line's own list of settings, with the same rules by which the
//! values are merged. Holds no secret: of those it knows only that they are set.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use super::{Settings, metrics_path, rehearsal_path};
use crate::cli::{Setting, VARIABLE_START, Way, settings};
use crate::desk::Endpoint;
use crate::nearest::nearest;
use crate::sandbox::{SANDBOX_IDENTIFIER, SANDBOX_SDKAPPID};
use crate::text::path_text;

/// Settings of which one takes the other's place when it is given nearer.
const INSTEAD: [(&str, &str); 2] = [("region", "endpoint"), ("secret_key", "usersig")];

/// What a secret's value is shown as.
const SET: &str = "set";

/// The settings' file as it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileFound {
    /// Where it is.
    pub path: PathBuf,
    /// Who may read and write it: its permission bits.
    pub mode: u32,
    /// Its settings by their keys, as text, secrets masked.
    pub(super) values: BTreeMap<String, String>,
}

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// From this flag.
    Flag(String),
    /// From this environment variable.
    Variable(String),
    /// From this settings' file.
    File(PathBuf),
    /// Nobody said anything.
    Default,
    /// A rehearsal has its own.
    Rehearsal,
    /// Given, and passed over for the setting of this name, which was given nearer.
    PassedOver(&'static str),
    /// Not set, and there is no default.
    Nowhere,
}

impl Origin {
    /// The kind of it in one word, for programs.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Flag(_) => "flag",
            Self::Variable(_) => "environment",
            Self::File(_) => "file",
            Self::Default => "default",
            Self::Rehearsal => "rehearsal",
            Self::PassedOver(_) => "passed_over",
            Self::Nowhere => "unset",
        }
    }

    /// The flag, variable, file or setting that it names.
    pub fn name(&self) -> Option<String> {
        match self {
            Self::Flag(name) | Self::Variable(name) => Some(name.clone()),
            Self::File(path) => Some(path.to_string_lossy().into_owned()),
            Self::PassedOver(name) => Some((*name).to_owned()),
            Self::Default | Self::Rehearsal | Self::Nowhere => None,
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
            Self::Rehearsal => f.write_str("the rehearsal's own"),
            Self::PassedOver(name) => write!(f, "passed over: {name} was given nearer"),
            Self::Nowhere => f.write_str("not set"),
        }
    }
}

/// A setting as it is in effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effective {
    /// Its key.
    pub key: String,
    /// Its value as text; of a secret only that it is set.
    pub value: Option<String>,
    /// Whether it is a secret.
    pub is_secret: bool,
    /// Where the value comes from.
    pub origin: Origin,
}

impl Settings {
    /// Every setting as it is in effect, in a rehearsal or not.
    pub fn effective(&self, rehearsal: bool) -> Vec<Effective> {
        let mut all: Vec<Effective> =
            settings().into_iter().map(|setting| self.as_given(setting)).collect();
        for (one, other) in INSTEAD {
            pass_over(&mut all, one, other);
        }
        if rehearsal {
            self.rehearse(&mut all);
        }
        all
    }

    fn as_given(&self, setting: Setting) -> Effective {
        let is_secret = setting.is_secret();
        let in_file =
            self.file.as_ref().and_then(|file| Some((file, file.values.get(&setting.key)?)));
        let in_environment = || {
            let value = std::env::var(&setting.variable).ok()?;
            (is_secret && !value.trim().is_empty()).then(|| SET.to_owned())
        };
        let (value, origin) = if let Some((way, text)) = self.given.get(&setting.key) {
            let flag = setting.flag.clone().unwrap_or_default();
            let origin = match way {
                Way::Flag => Origin::Flag(flag),
                Way::Variable => Origin::Variable(setting.variable),
            };
            (Some(text.clone()), origin)
        } else if let Some(value) = in_environment() {
            (Some(value), Origin::Variable(setting.variable))
        } else if let Some((file, value)) = in_file {
            (Some(value.clone()), Origin::File(file.path.clone()))
        } else if setting.default.is_some() && (setting.key != "config" || self.file.is_some()) {
            (setting.default, Origin::Default)
        } else {
            (None, Origin::Nowhere)
        };
        let value = if setting.key == "endpoint" { value.map(host_alone) } else { value };
        Effective { key: setting.key, value, is_secret, origin }
    }

    /// What a rehearsal has of its own.
    fn rehearse(&self, all: &mut [Effective]) {
        let database = rehearsal_path(&self.database_of_runs).to_string_lossy().into_owned();
        let sdkappid = self.raw.sdkappid.is_none().then(|| SANDBOX_SDKAPPID.to_string());
        let metrics_file = self.raw.metrics_file.as_deref();
        let metrics_file = metrics_file.and_then(|path| metrics_path(path, true).ok());
        let own = [
            ("database", Some(database)),
            ("metrics_file", metrics_file.map(|path| path.to_string_lossy().into_owned())),
            ("sdkappid", sdkappid),
            ("identifier", Some(SANDBOX_IDENTIFIER.to_owned())),
            ("secret_key", Some(SET.to_owned())),
            ("endpoint", Some("the sandbox".to_owned())),
            ("usersig_lifetime_s", Some(super::DAY_S.to_string())),
        ];
        for setting in all {
            if matches!(setting.key.as_str(), "region" | "usersig") {
                (setting.value, setting.origin) = (None, Origin::Rehearsal);
            }
            let own = own.iter().find(|(key, _)| *key == setting.key);
            if let Some((_, Some(value))) = own
                && setting.value.as_ref() != Some(value)
            {
                (setting.value, setting.origin) = (Some(value.clone()), Origin::Rehearsal);
            }
        }
    }
}

/// Of two settings, the one that is given farther gives way to the one that is given nearer.
fn pass_over(all: &mut [Effective], one: &'static str, other: &'static str) {
    let nearness = |all: &[Effective], key: &str| {
        let setting = all.iter().find(|setting| setting.key == key)?;
        match setting.origin {
            Origin::Flag(_) => Some(2),
            Origin::Variable(_) => Some(1),
            Origin::File(_) => Some(0),
            _ => None,
        }
    };
    for (nearer, farther) in [(one, other), (other, one)] {
        let (near, far) = (nearness(all, nearer), nearness(all, farther));
        if far.is_some()
            && near > far
            && let Some(setting) = all.iter_mut().find(|setting| setting.key == farther)
        {
            (setting.value, setting.origin) = (None, Origin::PassedOver(nearer));
        }
    }
}

/// The path in an address can be a gateway's secret.
fn host_alone(url: String) -> String {
    let scheme = |endpoint: &Endpoint| if endpoint.is_encrypted() { "https" } else { "http" };
    url.parse::<Endpoint>().map_or(url, |endpoint| format!("{}://{endpoint}", scheme(&endpoint)))
}

/// A variable that begins like a setting's and is none, and what was meant, if that can be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownVariable {
    /// Its name.
    pub name: String,
    /// The setting's variable that it nearly is.
    pub meant: Option<String>,
}

impl fmt::Display for UnknownVariable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the environment variable {} is no setting and changes nothing: ", self.name)?;
        match &self.meant {
            Some(meant) => write!(f, "did you mean {meant}?"),
            None => write!(f, "deskbatch config show lists the settings"),
        }
    }
}

/// The variables of this process that begin like a setting's and are none.
pub fn unknown_variables() -> Vec<UnknownVariable> {
    let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    let mut unknown = among(names);
    unknown.sort_by(|a, b| a.name.cmp(&b.name));
    unknown
}

/// Whether Kubernetes sets the variable `name` for a Service, whose name begins like a setting's
/// variable when it is `deskbatch` or `deskbatch-…`: the Service's host is among `names` then.
fn is_of_a_service(name: &str, names: &[String]) -> bool {
    const HOST: &str = "_SERVICE_HOST";
    let services = names.iter().filter_map(|name| name.strip_suffix(HOST));
    services.filter_map(|service| name.strip_prefix(service)).any(|rest| {
        let is_part = |start: &str| {
            rest.strip_prefix(start).is_some_and(|end| end.is_empty() || end.starts_with('_'))
        };
        rest == HOST || is_part("_SERVICE_PORT") || is_part("_PORT")
    })
}

fn among(names: impl Iterator<Item = String>) -> Vec<UnknownVariable> {
    let names: Vec<String> =
        names.filter(|name| name.starts_with(VARIABLE_START.trim_end_matches('_'))).collect();
    let known: Vec<String> = settings().into_iter().map(|setting| setting.variable).collect();
    // What they all begin with would make all of them alike.
    let end = |name: &str| name.strip_prefix(VARIABLE_START).map(str::to_owned);
    let ends: Vec<String> = known.iter().filter_map(|name| end(name)).collect();
    let is_strange = |name: &&String| !known.contains(name) && !is_of_a_service(name, &names);
    let unknown = names.iter().filter(is_strange).filter_map(|name| {
        let meant = nearest(&end(name)?, ends.iter().map(String::as_str));
        let meant = meant.map(|end| format!("{VARIABLE_START}{end}"));
        Some(UnknownVariable { name: name.clone(), meant })
    });
    unknown.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistyped_variable_is_told_with_the_one_that_was_meant() {
        let names = [
            "DESKBATCH_CHUNCK",
            "DESKBATCH_RATE",
            "DESKBATCH_FOO_BAR",
            "PATH",
            "DESKBATCH_SECRETKEY",
        ];
        let unknown = among(names.into_iter().map(str::to_owned));
        let told: Vec<(&str, Option<&str>)> =
            unknown.iter().map(|v| (v.name.as_str(), v.meant.as_deref())).collect();
        assert_eq!(
            told,
            [
                ("DESKBATCH_CHUNCK", Some("DESKBATCH_CHUNK")),
                ("DESKBATCH_FOO_BAR", None),
                ("DESKBATCH_SECRETKEY", Some("DESKBATCH_SECRET_KEY")),
            ]
        );
    }

    #[test]
    fn variables_of_a_kubernetes_service_are_known() {
        let unknown = |service: &str, more: &[&str]| -> Vec<String> {
            let ends = ["SERVICE_HOST", "SERVICE_PORT", "SERVICE_PORT_HTTP", "PORT", "PORT_80_TCP"];
            let ends = ends.iter().chain(&["PORT_80_TCP_PROTO", "PORT_80_TCP_ADDR"]);
            let names = ends.map(|end| format!("{service}_{end}"));
            let names = names.chain(more.iter().map(|name| (*name).to_owned()));
            among(names).into_iter().map(|variable| variable.name).collect()
        };
        for service in ["DESKBATCH", "DESKBATCH_X", "DESKBATCH_QUEUE_EXPORT"] {
            assert_eq!(unknown(service, &[]), Vec::<String>::new());
        }
        let others = ["DESKBATCH_X_PORTS", "DESKBATCH_Y_PORT", "DESKBATCH_X_CHUNK"];
        assert_eq!(unknown("DESKBATCH_X", &others), others);
    }
}
