//! The account: SDKAppID, library, identifier, key or UserSig, and endpoint.

use std::time::Duration;

use secrecy::SecretString;

use super::{ConfigError, Settings, defaults};
use crate::cli::SettingsArgs;
use crate::desk::{Endpoint, Signer, check_identifier};
use crate::domain::job::{App, Library};
use crate::sandbox::{SANDBOX_IDENTIFIER, SANDBOX_KEY, SANDBOX_SDKAPPID};

/// The settings to call one app.
#[derive(Debug)]
pub struct Account {
    pub app: App,
    /// The App administrator.
    pub identifier: String,
    /// The source of UserSigs.
    pub signer: Signer,
    /// The destination of requests; `None` in a sandbox run until its sandbox listens.
    pub endpoint: Option<Endpoint>,
}

impl Settings {
    /// The SDKAppID and the library; a sandbox run has a default SDKAppID.
    ///
    /// # Errors
    /// When no SDKAppID is set.
    pub fn app(&self) -> Result<App, ConfigError> {
        let sdkappid = match self.raw.sdkappid {
            Some(0) => {
                return Err(ConfigError::new(
                    "sdkappid: 0 is not an SDKAppID: write the number that the console shows",
                ));
            }
            Some(number) => number,
            None if self.is_sandbox_run => SANDBOX_SDKAPPID,
            None => return Err(not_set("the SDKAppID", "SDKAPPID", "sdkappid")),
        };
        Ok(App { sdkappid, library: self.library() })
    }

    pub fn has_sdkappid(&self) -> bool {
        self.raw.sdkappid.is_some()
    }

    pub fn library(&self) -> Library {
        self.raw.library.unwrap_or_default()
    }

    /// The complete account; that of the sandbox in a sandbox run.
    ///
    /// # Errors
    /// Names the missing settings and how to set them.
    pub fn account(&self) -> Result<Account, ConfigError> {
        let app = self.app()?;
        if self.is_sandbox_run {
            let key = SecretString::from(SANDBOX_KEY);
            let signer = Signer::with_key(
                SANDBOX_IDENTIFIER,
                app.sdkappid,
                key,
                defaults::USERSIG_LIFETIME.as_secs(),
            );
            let identifier = SANDBOX_IDENTIFIER.to_owned();
            return Ok(Account { app, identifier, signer, endpoint: None });
        }
        let identifier = self.identifier()?;
        let signer = self.signer(&identifier, app.sdkappid)?;
        Ok(Account { app, identifier, signer, endpoint: self.endpoint()? })
    }

    /// The destination of requests; `None` in a sandbox run, whose sandbox does not listen yet.
    ///
    /// # Errors
    /// When neither a region nor an endpoint is set.
    pub fn endpoint(&self) -> Result<Option<Endpoint>, ConfigError> {
        match &self.endpoint {
            _ if self.is_sandbox_run => Ok(None),
            Some(endpoint) => Ok(Some(endpoint.clone())),
            None => Err(not_set("the region of your app", "REGION", "region")),
        }
    }

    /// The App administrator.
    ///
    /// # Errors
    /// When it is missing or the service would not accept it.
    pub fn identifier(&self) -> Result<String, ConfigError> {
        let Some(identifier) = self.raw.identifier.clone() else {
            return Err(not_set(
                "the identifier of an app administrator",
                "IDENTIFIER",
                "identifier",
            ));
        };
        match check_identifier(&identifier) {
            Ok(None) => {}
            Ok(Some(warning)) => tracing::warn!("identifier: {warning}"),
            Err(reason) => return Err(ConfigError(format!("identifier: {reason}"))),
        }
        Ok(identifier)
    }

    /// The secret key, if set.
    pub fn secret_key(&self) -> Option<&SecretString> {
        self.raw.secret_key.as_ref()
    }

    /// The UserSig, if set.
    pub fn usersig(&self) -> Option<&SecretString> {
        self.raw.usersig.as_ref()
    }

    /// The lifetime of a UserSig that is generated from the key.
    pub fn usersig_lifetime(&self) -> Duration {
        self.raw.usersig_lifetime.unwrap_or(defaults::USERSIG_LIFETIME)
    }

    /// All missing or invalid parts of the account, not just the first.
    pub fn missing(&self) -> Vec<ConfigError> {
        [
            self.app().err(),
            if self.is_sandbox_run { None } else { self.identifier().err() },
            if self.is_sandbox_run { None } else { self.signer("", 0).err() },
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
            (Some(key), None) => Ok(Signer::with_key(
                identifier,
                sdkappid,
                key.clone(),
                self.usersig_lifetime().as_secs(),
            )),
            (None, Some(usersig)) => Ok(Signer::ready_made(usersig.clone())),
            (None, None) => Err(ConfigError::new(
                "the secret key is not set: set DESKBATCH_SECRET_KEY, or secret_key in deskbatch.toml, or set a ready-made \
                 UserSig as DESKBATCH_USERSIG",
            )),
        }
    }
}

fn not_set(what: &str, variable: &str, key: &str) -> ConfigError {
    ConfigError(format!(
        "{what} is not set: set DESKBATCH_{variable}, or {key} in deskbatch.toml, or --{key}. To run without an account, use --sandbox."
    ))
}

pub(super) fn secret_from_environment(name: &str) -> Result<Option<SecretString>, ConfigError> {
    match std::env::var(name) {
        Ok(value) => Ok(Some(SecretString::from(value))),
        Err(std::env::VarError::NotPresent) => Ok(None),
        // Never prints the value.
        Err(std::env::VarError::NotUnicode(_)) => {
            Err(ConfigError(format!("{name} is not UTF-8 text")))
        }
    }
}

pub(super) fn endpoint(raw: &SettingsArgs) -> Result<Option<Endpoint>, ConfigError> {
    match (&raw.region, &raw.endpoint) {
        (Some(_), Some(_)) => {
            Err(ConfigError::new("both a region and an endpoint are set: keep one of them"))
        }
        (Some(region), None) => Ok(Some(Endpoint::of_region(*region))),
        (None, Some(url)) => url
            .parse()
            .map(Some)
            .map_err(|reason: String| ConfigError(format!("endpoint: {reason}"))),
        (None, None) => Ok(None),
    }
}
