//! The UserSig: proof that the caller has the secret key of the app.
//!
//! Duty: make it as section 7 of the contract notes describes, and renew it in time. Relies on a wall clock
//! given as an argument. Never shows a key or a UserSig: both are in `secrecy` types, and this module prints
//! and logs nothing.

use std::io::{self, Write as _};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::write::ZlibEncoder;
use hmac::{Hmac, KeyInit as _, Mac as _};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::json;
use sha2::Sha256;

/// The longest identifier the service accepts, in bytes.
pub const IDENTIFIER_BYTES_MAX: usize = 32;

/// Makes a UserSig for `identifier` that is valid from `time_s` (seconds since 1970) for `lifetime_s`
/// seconds.
pub fn make_usersig(
    identifier: &str,
    sdkappid: u64,
    key: &SecretString,
    time_s: i64,
    lifetime_s: u64,
) -> SecretString {
    // Neither step can fail: HMAC accepts a key of any length, and the compressor writes to memory. If one
    // did, the service would reject the empty UserSig with code 70002.
    let signature = sign(identifier, sdkappid, key, time_s, lifetime_s).unwrap_or_default();
    let document = json!({
        "TLS.ver": "2.0",
        "TLS.identifier": identifier,
        "TLS.sdkappid": sdkappid,
        "TLS.expire": lifetime_s,
        "TLS.time": time_s,
        "TLS.sig": signature,
    });
    let packed = zlib(document.to_string().as_bytes()).unwrap_or_default();
    SecretString::from(in_vendors_alphabet(&packed))
}

fn sign(
    identifier: &str,
    sdkappid: u64,
    key: &SecretString,
    time_s: i64,
    lifetime_s: u64,
) -> Option<String> {
    // The text of the key is used as bytes: it looks like hexadecimal but is not decoded.
    let mut mac = Hmac::<Sha256>::new_from_slice(key.expose_secret().as_bytes()).ok()?;
    mac.update(
        format!(
            "TLS.identifier:{identifier}\nTLS.sdkappid:{sdkappid}\n\
             TLS.time:{time_s}\nTLS.expire:{lifetime_s}\n"
        )
        .as_bytes(),
    );
    Some(STANDARD.encode(mac.finalize().into_bytes()))
}

fn zlib(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes)?;
    encoder.finish()
}

/// Base64 in the vendor's alphabet, which needs no percent encoding and differs from the URL-safe one of RFC
/// 4648.
fn in_vendors_alphabet(bytes: &[u8]) -> String {
    let swapped = STANDARD.encode(bytes).into_bytes().into_iter().map(|byte| match byte {
        b'+' => '*',
        b'/' => '-',
        b'=' => '_',
        other => char::from(other),
    });
    swapped.collect()
}

/// Checks the account name of a UserSig. Returns a warning for a name that the service may accept but its
/// generators treat differently.
///
/// # Errors
/// The reason, in words, when the service cannot accept the name.
pub fn check_identifier(identifier: &str) -> Result<Option<String>, String> {
    if identifier.is_empty() {
        return Err("the identifier is empty".to_owned());
    }
    if identifier.len() > IDENTIFIER_BYTES_MAX {
        let length = identifier.len();
        return Err(format!(
            "the identifier has {length} bytes; at most {IDENTIFIER_BYTES_MAX} are allowed"
        ));
    }
    if let Some(c) = identifier.chars().find(|c| !matches!(c, ' '..='~')) {
        return Err(format!(
            "the identifier contains the character U+{:04X}; only printable ASCII is allowed",
            u32::from(c)
        ));
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    Ok(identifier.chars().find(|c| !plain(*c)).map(|c| {
        format!(
            "the identifier contains the character {c:?}; the vendor's generators document only \
             letters, digits, _ and -"
        )
    }))
}

/// The source of UserSigs: the secret key, or one ready-made UserSig.
#[derive(Debug)]
pub struct Signer(Source);

#[derive(Debug)]
enum Source {
    Key(Maker),
    ReadyMade(SecretString),
}

#[derive(Debug)]
struct Maker {
    identifier: String,
    sdkappid: u64,
    key: SecretString,
    lifetime_s: u64,
    /// The latest UserSig and the wall time when it was made.
    made: Option<(SecretString, i64)>,
}

impl Signer {
    /// A signer with the secret key of the app. Each UserSig is valid for `lifetime_s` seconds.
    pub fn with_key(identifier: &str, sdkappid: u64, key: SecretString, lifetime_s: u64) -> Self {
        let identifier = identifier.to_owned();
        Self(Source::Key(Maker { identifier, sdkappid, key, lifetime_s, made: None }))
    }

    /// A signer that always returns this UserSig.
    pub fn ready_made(usersig: SecretString) -> Self {
        Self(Source::ReadyMade(usersig))
    }

    /// The UserSig to use at `wall_ms`. It is made at the first use and renewed after 80 % of its lifetime.
    /// It is also renewed when the wall clock is before the time it was made: a clock that was set back means
    /// that the time in the UserSig was wrong.
    pub fn current(&mut self, wall_ms: i64) -> SecretString {
        match &mut self.0 {
            Source::ReadyMade(usersig) => usersig.clone(),
            Source::Key(maker) => match &maker.made {
                Some((usersig, made_ms)) if !maker.is_due(*made_ms, wall_ms) => usersig.clone(),
                _ => maker.make(wall_ms),
            },
        }
    }

    /// Makes a new UserSig after the service has reported the last one as expired. Returns false for a
    /// ready-made UserSig, which cannot be renewed.
    pub fn renew(&mut self, wall_ms: i64) -> bool {
        match &mut self.0 {
            Source::ReadyMade(_) => false,
            Source::Key(maker) => {
                maker.make(wall_ms);
                true
            }
        }
    }
}

impl Maker {
    fn make(&mut self, wall_ms: i64) -> SecretString {
        let time_s = wall_ms.div_euclid(1000);
        let usersig =
            make_usersig(&self.identifier, self.sdkappid, &self.key, time_s, self.lifetime_s);
        self.made = Some((usersig.clone(), wall_ms));
        usersig
    }

    fn is_due(&self, made_ms: i64, wall_ms: i64) -> bool {
        let four_fifths_ms = i64::try_from(self.lifetime_s.saturating_mul(800)).unwrap_or(i64::MAX);
        wall_ms < made_ms || wall_ms.saturating_sub(made_ms) >= four_fifths_ms
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use serde_json::Value;

    use super::*;

    const KEY: &str = "3f9a1c7e5b2d8046e1f70a9c4d6b83527ce0195fa48d3b60297fe8c1d05a6b43";
    const BORN_MS: i64 = 1_735_689_600_750;
    const DAY_MS: i64 = 86_400_000;

    fn signer() -> Signer {
        Signer::with_key("administrator", 1_400_111_222, KEY.into(), 86_400)
    }

    /// Reverses the vendor's alphabet, base64 and zlib.
    fn decode(usersig: &str) -> Value {
        assert!(usersig.chars().all(|c| c.is_ascii_alphanumeric() || "*-_".contains(c)));
        let base64 = usersig.replace('*', "+").replace('-', "/").replace('_', "=");
        let packed = STANDARD.decode(base64).expect("is base64");
        let mut json = String::new();
        flate2::read::ZlibDecoder::new(&packed[..]).read_to_string(&mut json).expect("is zlib");
        serde_json::from_str(&json).expect("is JSON")
    }

    fn time_of(usersig: &SecretString) -> i64 {
        decode(usersig.expose_secret())["TLS.time"].as_i64().expect("is a number")
    }

    #[test]
    fn usersig_matches_vendor_package_vectors() {
        let vectors: Vec<Value> =
            serde_json::from_str(include_str!("../../tests/data/usersig-vectors.json"))
                .expect("parses");
        assert_eq!(vectors.len(), 6);
        for vector in vectors {
            let text = |field: &str| vector[field].as_str().expect("is text");
            let made = make_usersig(
                text("identifier"),
                vector["sdkappid"].as_u64().expect("is a number"),
                &text("key").into(),
                vector["time"].as_i64().expect("is a number"),
                vector["expire"].as_u64().expect("is a number"),
            );
            let decoded = decode(made.expose_secret());
            assert_eq!(decoded["TLS.sig"], vector["json"]["TLS.sig"], "{}", text("identifier"));
            assert_eq!(decoded, vector["json"]);
            // Checks the decoder of this test against the vendor's bytes.
            assert_eq!(decode(text("usersig")), vector["json"]);
        }
    }

    #[test]
    fn usersig_is_reused_for_four_fifths_of_its_lifetime() {
        let mut signer = signer();
        let first = signer.current(BORN_MS);
        assert_eq!(time_of(&first), 1_735_689_600);
        let last_ms = BORN_MS + DAY_MS / 5 * 4 - 1;
        assert_eq!(time_of(&signer.current(last_ms)), 1_735_689_600);
        assert_eq!(time_of(&signer.current(last_ms + 1)), (last_ms + 1) / 1000);
    }

    #[test]
    fn clock_set_back_before_creation_makes_new_usersig() {
        let mut signer = signer();
        signer.current(BORN_MS);
        assert_eq!(time_of(&signer.current(BORN_MS - 5_000)), 1_735_689_595);
        assert_eq!(time_of(&signer.current(BORN_MS - 4_000)), 1_735_689_595);
    }

    #[test]
    fn renew_creates_usersig_unless_ready_made() {
        let mut signer = signer();
        signer.current(BORN_MS);
        assert!(signer.renew(BORN_MS + 2_000));
        assert_eq!(time_of(&signer.current(BORN_MS + 3_000)), 1_735_689_602);

        let mut given = Signer::ready_made("eJwGiven".into());
        assert!(!given.renew(BORN_MS));
        assert_eq!(given.current(i64::MAX).expose_secret(), "eJwGiven");
    }

    #[test]
    fn lifetimes_and_clocks_at_the_edge_do_not_overflow() {
        let mut forever = Signer::with_key("a", 1, KEY.into(), u64::MAX);
        forever.current(i64::MIN);
        forever.current(i64::MAX - 1);
        let mut never = Signer::with_key("a", 1, KEY.into(), 0);
        assert_eq!(time_of(&never.current(1_000)), 1);
        assert_eq!(time_of(&never.current(2_000)), 2);
    }

    #[test]
    fn nothing_secret_shows_in_debug() {
        let mut signer = signer();
        let usersig = signer.current(BORN_MS);
        let given = Signer::ready_made(usersig.clone());
        let shown = format!("{signer:?} {given:?}");
        assert!(shown.contains("REDACTED"), "{shown}");
        assert!(!shown.contains(KEY) && !shown.contains(usersig.expose_secret()), "{shown}");
    }

    #[test]
    fn identifiers_are_plain_doubtful_or_refused() {
        let check = check_identifier;
        assert_eq!(check("administrator"), Ok(None));
        assert_eq!(check("abcdefghijklmnopqrstuvwxyz_-0189"), Ok(None));
        for doubtful in ["ops+bot@example.com #1", "a b", "~", "a\"b\\c/d~|<&>'"] {
            let warning = check(doubtful).expect("is allowed").expect("has a warning");
            assert!(warning.contains("letters, digits, _ and -"), "{warning}");
        }
        for refused in ["", &"x".repeat(33), "管理员", "tab\t", "\u{7f}"] {
            assert!(check(refused).is_err(), "{refused:?}");
        }
    }
}
