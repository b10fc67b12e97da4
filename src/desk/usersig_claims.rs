//! The claims inside a UserSig: its account and its lifetime.
//!
//! Only the service can verify the signature. This module shows neither the UserSig nor its signature.

use std::io::Read as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::read::ZlibDecoder;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;

/// The unpacking limit; a real UserSig has about 300 bytes.
const BYTES_MAX: u64 = 64 * 1024;

/// The claims of a UserSig.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct UserSigClaims {
    /// The account.
    #[serde(rename = "TLS.identifier")]
    pub identifier: String,
    #[serde(rename = "TLS.sdkappid")]
    pub sdkappid: u64,
    /// When it was made, in seconds since 1970.
    #[serde(rename = "TLS.time")]
    pub time_s: i64,
    /// The lifetime from then on, in seconds.
    #[serde(rename = "TLS.expire")]
    pub lifetime_s: u64,
}

impl UserSigClaims {
    /// When it expires, in seconds since 1970.
    pub fn expires_s(&self) -> i64 {
        self.time_s.saturating_add(i64::try_from(self.lifetime_s).unwrap_or(i64::MAX))
    }
}

/// The claims of `usersig`; `None` if it is not a UserSig or was cut off.
pub fn read_usersig(usersig: &SecretString) -> Option<UserSigClaims> {
    let usual = usersig.expose_secret().replace('*', "+").replace('-', "/").replace('_', "=");
    let packed = STANDARD.decode(usual).ok()?;
    let mut json = String::new();
    ZlibDecoder::new(&packed[..]).take(BYTES_MAX).read_to_string(&mut json).ok()?;
    serde_json::from_str(&json).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::desk::make_usersig;

    #[test]
    fn usersig_roundtrips_and_invalid_text_is_none() {
        let made = make_usersig("administrator", 1_400_111_222, &"key".into(), 1_735_689_600, 600);
        let written = read_usersig(&made).expect("reads");
        assert_eq!(
            (written.identifier.as_str(), written.sdkappid),
            ("administrator", 1_400_111_222)
        );
        assert_eq!(written.expires_s(), 1_735_690_200);
        let cut = &made.expose_secret()[..made.expose_secret().len() / 2];
        for wrong in ["", "eJw9", "no usersig", cut] {
            assert_eq!(read_usersig(&wrong.into()), None, "{wrong}");
        }
    }
}
