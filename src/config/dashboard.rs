//! The settings of the dashboard: address and token.

use std::net::SocketAddr;

use secrecy::{ExposeSecret as _, SecretString};

use super::{ConfigError, Settings, defaults};

/// The shortest token; a shorter one could be guessed.
const TOKEN_BYTES_MIN: usize = 16;

/// The address of the dashboard and its access token.
#[derive(Debug, Clone)]
pub struct DashboardSettings {
    /// The address; on loopback unless there is a token.
    pub addr: SocketAddr,
    /// The token that a request must present.
    pub token: Option<SecretString>,
}

impl Settings {
    /// The dashboard of a run, if one is set.
    ///
    /// # Errors
    /// When the address is invalid, or reachable from other hosts without a token.
    pub fn dashboard(&self) -> Result<Option<DashboardSettings>, ConfigError> {
        let addr = self.raw.dashboard.as_deref();
        addr.map(|addr| self.dashboard_at("dashboard", addr)).transpose()
    }

    /// The dashboard of `deskbatch dashboard`; `addr` is its own flag.
    ///
    /// # Errors
    /// As for [`Settings::dashboard`].
    pub fn standalone_dashboard(
        &self,
        addr: Option<&str>,
    ) -> Result<DashboardSettings, ConfigError> {
        match (addr, self.dashboard()?) {
            (Some(addr), _) => self.dashboard_at("--addr", addr),
            (None, Some(at)) => Ok(at),
            (None, None) => self.dashboard_at("dashboard", defaults::DASHBOARD_ADDR),
        }
    }

    fn dashboard_at(&self, name: &str, text: &str) -> Result<DashboardSettings, ConfigError> {
        let addr = parse_addr(text).ok_or_else(|| {
            ConfigError(format!(
                "{name}: {text:?} is not an address with a port: write e.g. 127.0.0.1:8048, or port 0 for a free port"
            ))
        })?;
        let token = self.raw.dashboard_token.clone();
        if token.is_none() && !addr.ip().is_loopback() {
            return Err(ConfigError(format!(
                "{name}: other hosts can reach {addr}, so the dashboard needs a token: set DESKBATCH_DASHBOARD_TOKEN, or \
                 listen on 127.0.0.1"
            )));
        }
        Ok(DashboardSettings { addr, token })
    }

    /// A token must be long enough, and must fit into an HTTP header.
    pub(super) fn check_dashboard(&self) -> Result<(), ConfigError> {
        if let Some(token) = &self.raw.dashboard_token {
            let token = token.expose_secret();
            if token.len() < TOKEN_BYTES_MIN || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
                return Err(ConfigError(format!(
                    "dashboard_token: the token must have at least {TOKEN_BYTES_MIN} ASCII letters, digits or signs, and no \
                     blanks: generate one with `openssl rand -hex 32`"
                )));
            }
        }
        self.dashboard().map(drop)
    }
}

/// Parses an address. `localhost` is replaced without a resolver.
fn parse_addr(text: &str) -> Option<SocketAddr> {
    let text = text.trim();
    let numbers = text.strip_prefix("localhost:").map(|port| format!("127.0.0.1:{port}"));
    numbers.as_deref().unwrap_or(text).parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(toml: &str) -> Result<Option<DashboardSettings>, String> {
        Settings::from_text(toml, false).and_then(|s| s.dashboard()).map_err(|e| e.0)
    }

    #[test]
    fn public_address_needs_a_token() {
        assert!(at("").unwrap().is_none());
        for addr in ["127.0.0.1:8048", "localhost:8048", "[::1]:0", "127.9.9.9:1"] {
            let at = at(&format!("dashboard = {addr:?}")).unwrap().unwrap();
            assert!(at.addr.ip().is_loopback(), "{addr}");
        }
        let open = "dashboard = \"0.0.0.0:8048\"\n";
        let refused = at(open).unwrap_err();
        assert!(refused.contains("set DESKBATCH_DASHBOARD_TOKEN"), "{refused}");
        let token = "dashboard_token = \"0123456789abcdef\"";
        assert!(at(&format!("{open}{token}")).unwrap().unwrap().token.is_some());
    }

    #[test]
    fn weak_token_is_rejected_and_not_printed() {
        for token in ["012345678-short", "with a blank in it", "nöt-ascii-0123456789"] {
            let refused = at(&format!("dashboard_token = {token:?}")).unwrap_err();
            assert!(refused.contains("at least 16") && !refused.contains(token), "{refused}");
        }
        // An unset variable in a unit file gives an empty token.
        assert!(at("dashboard_token = \"\"").is_ok());
    }

    #[test]
    fn address_needs_a_port() {
        for addr in ["8048", "127.0.0.1", "example.org:80", ":8048", "http://127.0.0.1:8048"] {
            let refused = at(&format!("dashboard = {addr:?}")).unwrap_err();
            assert!(refused.contains("127.0.0.1:8048"), "{refused}");
        }
    }
}
