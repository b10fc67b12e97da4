//! Verifies a UserSig (`TLSSigAPIv2`) the way the vendor's own verifiers do.
//!
//! Pure. Written from section 7 of the contract notes, independently of the client's signer. It returns only
//! a code and never shows a signature. The order of the checks is that of the vendor's PHP verifier.

use std::io::Read as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::read::ZlibDecoder;
use hmac::{Hmac, KeyInit as _, Mac as _};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use sha2::Sha256;

/// The most bytes that a UserSig may unpack to; a real one has about 200.
const JSON_BYTES_MAX: u64 = 8 * 1024;

const EXPIRED: i64 = 70_001;
const EMPTY: i64 = 70_002;
const UNREADABLE: i64 = 70_003;
const WRONG_SIGNATURE: i64 = 70_009;
const OTHER_IDENTIFIER: i64 = 70_013;
const OTHER_APP: i64 = 70_014;
const UNKNOWN_APP: i64 = 70_020;

/// The content of a UserSig.
#[derive(Deserialize)]
struct Ticket {
    #[serde(rename = "TLS.ver")]
    version: String,
    #[serde(rename = "TLS.identifier")]
    identifier: String,
    #[serde(rename = "TLS.sdkappid")]
    sdkappid: u64,
    #[serde(rename = "TLS.time")]
    time: i64,
    #[serde(rename = "TLS.expire")]
    expire: i64,
    #[serde(rename = "TLS.sig")]
    signature: String,
}

/// Checks `usersig` against the caller. `key` is `None` for an unknown app.
///
/// # Errors
/// The vendor's code.
pub fn verify(
    usersig: &str,
    identifier: &str,
    sdkappid: u64,
    key: Option<&SecretString>,
    wall_ms: i64,
) -> Result<(), i64> {
    if usersig.is_empty() {
        return Err(EMPTY);
    }
    let ticket = unpack(usersig).ok_or(UNREADABLE)?;
    if ticket.identifier != identifier {
        return Err(OTHER_IDENTIFIER);
    }
    if ticket.sdkappid != sdkappid {
        return Err(OTHER_APP);
    }
    // As in the vendor's verifiers, the last second is still valid, and a time in the future is accepted.
    if wall_ms.div_euclid(1_000) > ticket.time.saturating_add(ticket.expire) {
        return Err(EXPIRED);
    }
    if is_signed_with(&ticket, key.ok_or(UNKNOWN_APP)?) { Ok(()) } else { Err(WRONG_SIGNATURE) }
}

/// Decodes the vendor's alphabet, base64, zlib and JSON.
fn unpack(usersig: &str) -> Option<Ticket> {
    let standard: Option<String> = usersig
        .chars()
        .map(|c| match c {
            '*' => Some('+'),
            '-' => Some('/'),
            '_' => Some('='),
            // Characters that a signer failed to replace would be damaged in a URL.
            '+' | '/' | '=' => None,
            other => Some(other),
        })
        .collect();
    let packed = STANDARD.decode(standard?).ok()?;
    let mut json = Vec::new();
    let mut unpacked = ZlibDecoder::new(packed.as_slice()).take(JSON_BYTES_MAX + 1);
    let length = unpacked.read_to_end(&mut json).ok()?;
    if u64::try_from(length).ok()? > JSON_BYTES_MAX {
        return None;
    }
    let ticket: Ticket = serde_json::from_slice(&json).ok()?;
    (ticket.version == "2.0").then_some(ticket)
}

fn is_signed_with(ticket: &Ticket, key: &SecretString) -> bool {
    // The key is used as text; its hexadecimal digits are not decoded.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key.expose_secret().as_bytes()) else {
        return false;
    };
    let lines = [
        ("identifier", ticket.identifier.clone()),
        ("sdkappid", ticket.sdkappid.to_string()),
        ("time", ticket.time.to_string()),
        ("expire", ticket.expire.to_string()),
    ];
    for (name, value) in lines {
        mac.update(format!("TLS.{name}:{value}\n").as_bytes());
    }
    // Compares in constant time.
    STANDARD.decode(&ticket.signature).is_ok_and(|signature| mac.verify_slice(&signature).is_ok())
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::{Compression, write::ZlibEncoder};

    use super::super::testing::sign;
    use super::*;

    #[derive(Deserialize)]
    struct Vector {
        sdkappid: u64,
        key: String,
        identifier: String,
        time: i64,
        expire: i64,
        usersig: String,
    }

    fn vectors() -> Vec<Vector> {
        let text = include_str!("../../tests/data/usersig-vectors.json");
        serde_json::from_str(text).expect("the vectors are JSON")
    }

    fn packed(json: &[u8]) -> String {
        let mut zlib = ZlibEncoder::new(Vec::new(), Compression::default());
        zlib.write_all(json).expect("compresses");
        let bytes = zlib.finish().expect("compresses");
        STANDARD.encode(bytes).replace('+', "*").replace('/', "-").replace('=', "_")
    }

    #[test]
    fn vendor_usersigs_are_valid_until_their_last_second() {
        assert_eq!(vectors().len(), 6);
        for v in vectors() {
            let key = SecretString::from(v.key);
            let at = |second: i64| {
                let ms = second * 1_000 + 999;
                verify(&v.usersig, &v.identifier, v.sdkappid, Some(&key), ms)
            };
            assert_eq!(at(v.time), Ok(()), "{}", v.identifier);
            assert_eq!(at(v.time - 1_000_000), Ok(()), "{}", v.identifier);
            assert_eq!(at(v.time + v.expire), Ok(()), "{}", v.identifier);
            assert_eq!(at(v.time + v.expire + 1), Err(EXPIRED), "{}", v.identifier);
        }
    }

    #[test]
    fn usersig_must_match_identifier_app_and_key() {
        for v in vectors() {
            let (key, other) = (SecretString::from(v.key), SecretString::from("other"));
            let now = v.time * 1_000;
            let check = |identifier: &str, app, key| verify(&v.usersig, identifier, app, key, now);
            assert_eq!(check("somebody", v.sdkappid, Some(&key)), Err(OTHER_IDENTIFIER));
            assert_eq!(check(&v.identifier, v.sdkappid + 1, Some(&key)), Err(OTHER_APP));
            assert_eq!(check(&v.identifier, v.sdkappid, Some(&other)), Err(WRONG_SIGNATURE));
            assert_eq!(check(&v.identifier, v.sdkappid, None), Err(UNKNOWN_APP));
        }
    }

    #[test]
    fn malformed_usersig_is_unreadable_and_none_is_empty() {
        let key = SecretString::from("k");
        let check = |usersig: &str| verify(usersig, "a", 1, Some(&key), 0);
        assert_eq!(check(""), Err(EMPTY));
        let good = sign("k", "a", 1, 0, 10);
        assert_eq!(check(&good), Ok(()));
        let exchanged = good.replace('*', "+").replace('-', "/").replace('_', "=");
        let bomb = packed(&vec![b' '; 1 << 20]);
        let old = packed(br#"{"TLS.ver":"1.0","TLS.identifier":"a"}"#);
        let not_json = packed(b"TLS.ver=2.0");
        let cut = good.get(..good.len() / 2).expect("one byte each");
        for bad in [exchanged.as_str(), &bomb, &old, &not_json, cut, "eJw", "~", "问"] {
            assert_eq!(check(bad), Err(UNREADABLE), "{bad:.40}");
        }
    }

    #[test]
    fn every_signed_field_is_protected() {
        let forged = |time: i64, expire: i64, signature: &str| {
            let json = format!(
                r#"{{"TLS.ver":"2.0","TLS.identifier":"a","TLS.sdkappid":1,"TLS.time":{time},"TLS.expire":{expire},"TLS.sig":"{signature}"}}"#
            );
            verify(&packed(json.as_bytes()), "a", 1, Some(&SecretString::from("k")), 0)
        };
        let good = unpack(&sign("k", "a", 1, 0, 10)).expect("unpacks").signature;
        assert_eq!(forged(0, 10, &good), Ok(()));
        assert_eq!(forged(0, 11, &good), Err(WRONG_SIGNATURE));
        assert_eq!(forged(1, 10, &good), Err(WRONG_SIGNATURE));
        assert_eq!(forged(0, 10, ""), Err(WRONG_SIGNATURE));
        assert_eq!(forged(0, 10, "!"), Err(WRONG_SIGNATURE));
        assert_eq!(forged(i64::MAX, i64::MAX, &good), Err(WRONG_SIGNATURE));
    }
}
