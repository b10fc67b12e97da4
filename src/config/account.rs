//! Whose questions are changed, and what proves that we may: the application, its
//! administrator, the key or the UserSig, and where the calls go.

use secrecy::SecretString;

use super::{ConfigError, DAY_S, Settings};
use crate::cli::SettingsArgs;
use crate::desk::{Endpoint, Region, Signer, check_identifier};
use crate::domain::job::{App, Library};
use crate::sandbox::{SANDBOX_IDENTIFIER, SANDBOX_KEY, SANDBOX_SDKAPPID};

/// Everything that a call needs to know about its caller.
#[derive(Debug)]
pub struct Account {
    /// Which application and library.
    pub app: App,
    /// The administrator.
    pub identifier: String,
    /// Where UserSigs come from.
    pub signer: Signer,
    /// Where calls go to; a rehearsal's is known once its sandbox listens.
    pub endpoint: Option<Endpoint>,
}

impl Settings {
    /// The application and its library; a rehearsal may go without a number of its own.
    ///
    /// # Errors
    /// When no SDKAppID is set.
    pub fn app(&self) -> Result<App, ConfigError> {
        let sdkappid = match self.raw.sdkappid {
            Some(0) => {
                return Err(ConfigError::new("sdkappid: 0 is not a number of an application"));
            }
            Some(number) => number,
            None if self.rehearsal => SANDBOX_SDKAPPID,
            None => return Err(missing("the number of your application", "SDKAPPID", "sdkappid")),
        };
        Ok(App { sdkappid, library: self.library() })
    }

    /// Whether an application is named; a rehearsal takes the sandbox's own otherwise.
    pub fn names_app(&self) -> bool {
        self.raw.sdkappid.is_some()
    }

    /// The library whose questions are meant.
    pub fn library(&self) -> Library {
        self.raw.library.unwrap_or_default()
    }

    /// Everything that a call needs; in a rehearsal the sandbox's own.
    ///
    /// # Errors
    /// Names what is missing and how to give it.
    pub fn account(&self) -> Result<Account, ConfigError> {
        let app = self.app()?;
        if self.rehearsal {
            let key = SecretString::from(SANDBOX_KEY);
            let signer = Signer::with_key(SANDBOX_IDENTIFIER, app.sdkappid, key, DAY_S);
            let identifier = SANDBOX_IDENTIFIER.to_owned();
            return Ok(Account { app, identifier, signer, endpoint: None });
        }
        let identifier = self.identifier()?;
        let signer = self.signer(&identifier, app.sdkappid)?;
        Ok(Account { app, identifier, signer, endpoint: self.endpoint()? })
    }

    /// Where calls go to; `None` in a rehearsal, whose sandbox does not listen yet.
    ///
    /// # Errors
    /// When neither a region nor an endpoint is set.
    pub fn endpoint(&self) -> Result<Option<Endpoint>, ConfigError> {
        match &self.endpoint {
            _ if self.rehearsal => Ok(None),
            Some(endpoint) => Ok(Some(endpoint.clone())),
            None => Err(missing("the region of your application", "REGION", "region")),
        }
    }

    /// The administrator's name.
    ///
    /// # Errors
    /// When it is missing or the service would not accept it.
    pub fn identifier(&self) -> Result<String, ConfigError> {
        let Some(identifier) = self.raw.identifier.clone() else {
            return Err(missing("an App administrator account", "IDENTIFIER", "identifier"));
        };
        match check_identifier(&identifier) {
            Ok(None) => {}
            Ok(Some(warning)) => tracing::warn!("identifier: {warning}"),
            Err(reason) => return Err(ConfigError(format!("identifier: {reason}"))),
        }
        Ok(identifier)
    }

    /// The secret key.
    pub fn secret_key(&self) -> Option<&SecretString> {
        self.raw.secret_key.as_ref()
    }

    /// The ready-made UserSig.
    pub fn usersig(&self) -> Option<&SecretString> {
        self.raw.usersig.as_ref()
    }

    /// How long a UserSig made from the key is good for, in seconds.
    pub fn usersig_lifetime_s(&self) -> u64 {
        self.raw.usersig_lifetime_s.unwrap_or(DAY_S)
    }

    /// Everything that a call needs and that is missing or wrong, not the first thing alone.
    pub fn lacking(&self) -> Vec<ConfigError> {
        [
            self.app().err(),
            if self.rehearsal { None } else { self.identifier().err() },
            if self.rehearsal { None } else { self.signer("", 0).err() },
            self.endpoint().err(),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    fn signer(&self, identifier: &str, sdkappid: u64) -> Result<Signer, ConfigError> {
        match (&self.raw.secret_key, &self.raw.usersig) {
            (Some(_), Some(_)) => Err(ConfigError::new(
                "both a secret key and a UserSig are set: keep one of DESKBATCH_SECRET_KEY and DESKBATCH_USERSIG",
            )),
            (Some(key), None) => {
                Ok(Signer::with_key(identifier, sdkappid, key.clone(), self.usersig_lifetime_s()))
            }
            (None, Some(usersig)) => Ok(Signer::ready_made(usersig.clone())),
            (None, None) => Err(ConfigError::new(
                "no secret key: set DESKBATCH_SECRET_KEY, or secret_key in deskbatch.toml, or give a ready-made \
                 UserSig as DESKBATCH_USERSIG",
            )),
        }
    }
}

fn missing(what: &str, variable: &str, key: &str) -> ConfigError {
    ConfigError(format!(
        "{what} is not set: set DESKBATCH_{variable}, or {key} in deskbatch.toml, or --{key}; or rehearse with --sandbox"
    ))
}

pub(super) fn secret_from_environment(name: &str) -> Result<Option<SecretString>, ConfigError> {
    match std::env::var(name) {
        Ok(value) => Ok(Some(SecretString::from(value))),
        Err(std::env::VarError::NotPresent) => Ok(None),
        // The value itself is not shown, whatever it is.
        Err(std::env::VarError::NotUnicode(_)) => Err(ConfigError(format!("{name} is not text"))),
    }
}

pub(super) fn endpoint(raw: &SettingsArgs) -> Result<Option<Endpoint>, ConfigError> {
    match (&raw.region, &raw.endpoint) {
        (Some(_), Some(_)) => {
            Err(ConfigError::new("both a region and an endpoint are set: keep one of them"))
        }
        (Some(region), None) => {
            let region: Region = region
                .parse()
                .map_err(|reason| ConfigError(format!("region: {region:?}: {reason}")))?;
            Ok(Some(Endpoint::of_region(region)))
        }
        (None, Some(url)) => url
            .parse()
            .map(Some)
            .map_err(|reason: String| ConfigError(format!("endpoint: {reason}"))),
        (None, None) => Ok(None),
    }
}
