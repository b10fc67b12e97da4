//! Authorization of requests. Pure.
//!
//! Without a token the dashboard listens on loopback only. The remaining threat is DNS rebinding, so the
//! Host header must name this host. With a token every request must present it, or the session
//! cookie that was set for it. Both are compared in constant time.

use std::net::IpAddr;

use axum::http::{HeaderMap, Uri, header};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use secrecy::{ExposeSecret as _, SecretString};
use sha2::Sha256;

/// The message that is signed with the token to make the cookie, which does not reveal the token.
const COOKIE_MESSAGE: &str = "deskbatch dashboard cookie";

/// The decision about a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum AuthDecision {
    /// Serve it.
    Allow,
    /// Set this session cookie and redirect to the URL without the token.
    SetCookie(String),
    /// Reject it: the Host header does not name this host.
    WrongHost,
    /// Reject it: no valid token or cookie.
    Unauthorized,
}

/// Authorizes requests.
#[derive(Debug, Clone)]
pub(super) struct Auth {
    token: Option<SecretString>,
    /// Contains the port: browsers send a cookie to every port of a host.
    cookie_name: String,
}

impl Auth {
    pub(super) fn new(token: Option<SecretString>, port: u16) -> Self {
        Self { token, cookie_name: format!("deskbatch_{port}") }
    }

    pub(super) fn decide(&self, uri: &Uri, headers: &HeaderMap) -> AuthDecision {
        let Some(token) = &self.token else {
            return if is_sent_to_this_machine(headers) {
                AuthDecision::Allow
            } else {
                AuthDecision::WrongHost
            };
        };
        let token = token.expose_secret();
        let cookie = cookie_value(token);
        let text = |name| headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
        let bearer = |value: &str| {
            let (scheme, presented) = value.split_once(' ').unwrap_or_default();
            scheme.eq_ignore_ascii_case("bearer") && is_equal(presented.trim(), token)
        };
        let session_cookie = |value: &str| {
            value
                .split(';')
                .filter_map(|pair| pair.trim().split_once('='))
                .any(|(name, value)| name == self.cookie_name && is_equal(value, &cookie))
        };
        if text(header::AUTHORIZATION).any(bearer) {
            return AuthDecision::Allow;
        }
        if uri.path() == "/" && token_in(uri).is_some_and(|presented| is_equal(&presented, token)) {
            // Lax, not Strict: a Strict cookie would not be sent after a link from another site, such
            // as web mail. The dashboard is read-only, and other sites cannot read its responses.
            return AuthDecision::SetCookie(format!(
                "{}={cookie}; Path=/; HttpOnly; SameSite=Lax",
                self.cookie_name
            ));
        }
        if text(header::COOKIE).any(session_cookie) {
            AuthDecision::Allow
        } else {
            AuthDecision::Unauthorized
        }
    }
}

/// Whether the Host header names loopback, without a resolver.
fn is_sent_to_this_machine(headers: &HeaderMap) -> bool {
    let mut hosts = headers.get_all(header::HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else { return false };
    let Ok(host) = host.to_str() else { return false };
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
}

/// The percent-decoded `token` parameter of the URL.
fn token_in(uri: &Uri) -> Option<String> {
    let encoded = uri.query()?.split('&').find_map(|pair| pair.strip_prefix("token="))?;
    let mut bytes = Vec::with_capacity(encoded.len());
    let mut rest = encoded.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        let hex = after.get(..2).and_then(|two| std::str::from_utf8(two).ok());
        match hex.and_then(|two| u8::from_str_radix(two, 16).ok()) {
            Some(byte) if *first == b'%' => {
                bytes.push(byte);
                rest = &after[2..];
            }
            _ => bytes.push(*first),
        }
    }
    String::from_utf8(bytes).ok()
}

fn hmac(key: &str, text: &str) -> Option<Hmac<Sha256>> {
    // Never fails: HMAC accepts keys of any length.
    Hmac::<Sha256>::new_from_slice(key.as_bytes()).ok().map(|mac| mac.chain_update(text))
}

fn cookie_value(token: &str) -> String {
    hmac(token, COOKIE_MESSAGE)
        .map(|mac| URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()))
        .unwrap_or_default()
}

/// Compares in constant time: both are hashed with the secret as the key, and the hashes are compared.
fn is_equal(presented: &str, secret: &str) -> bool {
    match (hmac(secret, presented), hmac(secret, secret)) {
        (Some(presented), Some(expected)) => presented.finalize() == expected.finalize(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "0123456789+abc%def";

    fn admit(
        token: Option<&str>,
        uri: &str,
        headers: &[(header::HeaderName, &str)],
    ) -> AuthDecision {
        let auth = Auth::new(token.map(SecretString::from), 8048);
        let headers =
            headers.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect();
        auth.decide(&uri.parse().unwrap(), &headers)
    }

    #[test]
    fn without_token_host_must_be_loopback() {
        for host in ["127.0.0.1:8048", "localhost", "LOCALHOST:1", "[::1]:8048", "127.1.2.3"] {
            assert_eq!(admit(None, "/", &[(header::HOST, host)]), AuthDecision::Allow, "{host}");
        }
        for host in [
            "evil.example",
            "localhost.evil.example:8048",
            "127.0.0.1.evil.example",
            "",
            "10.0.0.1",
            "[::2]",
        ] {
            assert_eq!(
                admit(None, "/", &[(header::HOST, host)]),
                AuthDecision::WrongHost,
                "{host}"
            );
        }
        let two = [(header::HOST, "localhost"), (header::HOST, "evil.example")];
        assert_eq!(admit(None, "/", &two[..0]), AuthDecision::WrongHost);
    }

    #[test]
    fn token_is_accepted_as_bearer_or_in_url() {
        let bearer = |value: &str| admit(Some(TOKEN), "/events", &[(header::AUTHORIZATION, value)]);
        assert_eq!(bearer(&format!("Bearer {TOKEN}")), AuthDecision::Allow);
        assert_eq!(bearer(&format!("bearer  {TOKEN}")), AuthDecision::Allow);
        for wrong in ["Bearer", "Bearer x", TOKEN, "Basic MDEyMw==", "Bearer 0123456789+abc%de"] {
            assert_eq!(bearer(wrong), AuthDecision::Unauthorized, "{wrong}");
        }
        let AuthDecision::SetCookie(cookie) =
            admit(Some(TOKEN), "/?token=0123456789%2Babc%25def", &[])
        else {
            panic!("no cookie")
        };
        assert!(cookie.contains("; HttpOnly; SameSite=Lax") && !cookie.contains("0123456789"));
        let pair = cookie.split(';').next().unwrap();
        let with = |cookie: &str| admit(Some(TOKEN), "/healthz", &[(header::COOKIE, cookie)]);
        assert_eq!(with(&format!("a=b; {pair}")), AuthDecision::Allow);
        assert_eq!(with(&pair.replace("8048", "8049")), AuthDecision::Unauthorized);
        assert_eq!(with(&format!("deskbatch_8048={TOKEN}")), AuthDecision::Unauthorized);
    }

    #[test]
    fn missing_or_wrong_token_is_unauthorized() {
        for uri in
            ["/", "/?token=", "/?token=0123456789", "/events?token=0123456789%2Babc%25def", "/?x=1"]
        {
            let host = [(header::HOST, "localhost")];
            assert_eq!(admit(Some(TOKEN), uri, &host), AuthDecision::Unauthorized, "{uri}");
        }
        assert!(
            admit(Some(TOKEN), "/?a=b&token=0123456789%2Babc%25def", &[])
                != AuthDecision::Unauthorized
        );
    }
}
