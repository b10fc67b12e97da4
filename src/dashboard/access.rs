//! Who may look. Pure.
//!
//! Without a token the dashboard listens on this machine alone, and what is left to fear is a
//! page of another site that leads its own name here: so the name in the request has to be
//! one of this machine. With a token every request has to show it, or the cookie that was
//! given for it once. Neither is compared faster or slower for being nearly right.

use std::net::IpAddr;

use axum::http::{HeaderMap, Uri, header};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use secrecy::{ExposeSecret as _, SecretString};
use sha2::Sha256;

/// What the cookie is made of, beside the token: knowing the one does not tell the other.
const COOKIE_OF: &str = "deskbatch dashboard cookie";

/// What a request is let do.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// Look.
    Look,
    /// Come again without the token in the address, with this cookie.
    TakeCookie(String),
    /// Nothing: the name it was sent to is not one of this machine.
    WrongName,
    /// Nothing: it does not know the token.
    NoToken,
}

/// Decides about requests.
#[derive(Debug, Clone)]
pub(super) struct Access {
    token: Option<SecretString>,
    /// Cookies do not heed ports, so that the name has to.
    cookie_name: String,
}

impl Access {
    pub(super) fn new(token: Option<SecretString>, port: u16) -> Self {
        Self { token, cookie_name: format!("deskbatch_{port}") }
    }

    pub(super) fn admit(&self, uri: &Uri, headers: &HeaderMap) -> Admission {
        let Some(token) = &self.token else {
            return if is_sent_to_this_machine(headers) {
                Admission::Look
            } else {
                Admission::WrongName
            };
        };
        let token = token.expose_secret();
        let cookie = cookie_value(token);
        let text = |name| headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
        let bearer = |value: &str| {
            let (scheme, shown) = value.split_once(' ').unwrap_or_default();
            scheme.eq_ignore_ascii_case("bearer") && same(shown.trim(), token)
        };
        let crumb = |value: &str| {
            value
                .split(';')
                .filter_map(|pair| pair.trim().split_once('='))
                .any(|(name, shown)| name == self.cookie_name && same(shown, &cookie))
        };
        if text(header::AUTHORIZATION).any(bearer) {
            return Admission::Look;
        }
        if uri.path() == "/" && token_in(uri).is_some_and(|shown| same(&shown, token)) {
            // Lax, not strict: a link in a mail that is read in the browser comes from another
            // site, and a strict cookie would not be sent where it then leads. All that can
            // be had by it is a look, and no other page can read the answer.
            return Admission::TakeCookie(format!(
                "{}={cookie}; Path=/; HttpOnly; SameSite=Lax",
                self.cookie_name
            ));
        }
        if text(header::COOKIE).any(crumb) { Admission::Look } else { Admission::NoToken }
    }
}

/// Whether the name in the request is one that leads to this machine whoever is asked.
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

/// The value of `token` in the address, its percent signs decoded.
fn token_in(uri: &Uri) -> Option<String> {
    let shown = uri.query()?.split('&').find_map(|pair| pair.strip_prefix("token="))?;
    let mut bytes = Vec::with_capacity(shown.len());
    let mut rest = shown.as_bytes();
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

fn keyed(key: &str, text: &str) -> Option<Hmac<Sha256>> {
    // Keys of any length are accepted; none of this fails.
    Hmac::<Sha256>::new_from_slice(key.as_bytes()).ok().map(|mac| mac.chain_update(text))
}

fn cookie_value(token: &str) -> String {
    keyed(token, COOKIE_OF)
        .map(|mac| URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()))
        .unwrap_or_default()
}

/// In a time that tells nothing of where they differ: both are hashed with the secret as the
/// key, and hashes are compared as secrets are.
fn same(shown: &str, secret: &str) -> bool {
    match (keyed(secret, shown), keyed(secret, secret)) {
        (Some(shown), Some(right)) => shown.finalize() == right.finalize(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "0123456789+abc%def";

    fn admit(token: Option<&str>, uri: &str, headers: &[(header::HeaderName, &str)]) -> Admission {
        let access = Access::new(token.map(SecretString::from), 8048);
        let headers =
            headers.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect();
        access.admit(&uri.parse().unwrap(), &headers)
    }

    #[test]
    fn without_a_token_only_names_of_this_machine_are_answered() {
        for host in ["127.0.0.1:8048", "localhost", "LOCALHOST:1", "[::1]:8048", "127.1.2.3"] {
            assert_eq!(admit(None, "/", &[(header::HOST, host)]), Admission::Look, "{host}");
        }
        for host in [
            "evil.example",
            "localhost.evil.example:8048",
            "127.0.0.1.evil.example",
            "",
            "10.0.0.1",
            "[::2]",
        ] {
            assert_eq!(admit(None, "/", &[(header::HOST, host)]), Admission::WrongName, "{host}");
        }
        let two = [(header::HOST, "localhost"), (header::HOST, "evil.example")];
        assert_eq!(admit(None, "/", &two[..0]), Admission::WrongName);
    }

    #[test]
    fn the_token_opens_as_a_bearer_and_once_in_the_address() {
        let bearer = |value: &str| admit(Some(TOKEN), "/events", &[(header::AUTHORIZATION, value)]);
        assert_eq!(bearer(&format!("Bearer {TOKEN}")), Admission::Look);
        assert_eq!(bearer(&format!("bearer  {TOKEN}")), Admission::Look);
        for wrong in ["Bearer", "Bearer x", TOKEN, "Basic MDEyMw==", "Bearer 0123456789+abc%de"] {
            assert_eq!(bearer(wrong), Admission::NoToken, "{wrong}");
        }
        let Admission::TakeCookie(cookie) =
            admit(Some(TOKEN), "/?token=0123456789%2Babc%25def", &[])
        else {
            panic!("no cookie")
        };
        assert!(cookie.contains("; HttpOnly; SameSite=Lax") && !cookie.contains("0123456789"));
        let pair = cookie.split(';').next().unwrap();
        let with = |cookie: &str| admit(Some(TOKEN), "/healthz", &[(header::COOKIE, cookie)]);
        assert_eq!(with(&format!("a=b; {pair}")), Admission::Look);
        assert_eq!(with(&pair.replace("8048", "8049")), Admission::NoToken);
        assert_eq!(with(&format!("deskbatch_8048={TOKEN}")), Admission::NoToken);
    }

    #[test]
    fn nothing_else_opens_what_has_a_token() {
        for uri in
            ["/", "/?token=", "/?token=0123456789", "/events?token=0123456789%2Babc%25def", "/?x=1"]
        {
            let host = [(header::HOST, "localhost")];
            assert_eq!(admit(Some(TOKEN), uri, &host), Admission::NoToken, "{uri}");
        }
        assert!(
            admit(Some(TOKEN), "/?a=b&token=0123456789%2Babc%25def", &[]) != Admission::NoToken
        );
    }
}
