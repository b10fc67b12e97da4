//! Checks the account: is it complete, and are its key and UserSig plausible? Never prints either.

use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};

use super::Finding;
use crate::commands::error::Exit;
use crate::config::Settings;
use crate::desk::{make_usersig, read_usersig};
use crate::domain::clock::{Clock as _, SystemClock, duration_text, utc_text};
use crate::util::count::counted;

/// The length of the vendor's keys, in hex digits.
const KEY_CHARS: usize = 64;

/// A given UserSig that expires within this time is a warning, in seconds.
const EXPIRES_SOON_S: i64 = 86_400;

pub(super) fn check(settings: &Settings) -> Vec<Finding> {
    let Ok(account) = settings.account() else {
        let missing = settings.missing().into_iter();
        return missing.map(|error| Finding::from_error("account", &error.into())).collect();
    };
    let endpoint = account.endpoint.map_or_else(|| "the sandbox".to_owned(), |e| e.to_string());
    let mut findings = vec![Finding::ok(
        "account",
        format!(
            "SDKAppID {}, library {}, identifier {}, endpoint {endpoint}: complete",
            account.app.sdkappid, account.app.library, account.identifier
        ),
    )];
    if settings.is_sandbox_run {
        return findings;
    }
    let now_s = SystemClock::new().wall_ms() / 1_000;
    let (sdkappid, identifier) = (account.app.sdkappid, account.identifier.as_str());
    match (settings.secret_key(), settings.usersig()) {
        (Some(key), _) => {
            findings.push(check_key(key));
            let lifetime_s = settings.usersig_lifetime().as_secs();
            let made = make_usersig(identifier, sdkappid, key, now_s, lifetime_s);
            findings.push(check_generated_usersig(&made, lifetime_s));
        }
        (None, Some(given)) => {
            findings.push(check_given_usersig(given, identifier, sdkappid, now_s));
        }
        (None, None) => {}
    }
    findings
}

/// Finds malformed keys. Only the service can verify a key.
fn check_key(key: &SecretString) -> Finding {
    let key = key.expose_secret();
    let length = key.chars().count();
    let advice = "Copy it again from the console: with a wrong key, a run ends with exit code 4";
    if key.chars().any(|c| c.is_whitespace() || !c.is_ascii() || "\"'`<>".contains(c)) {
        let what = "contains a blank, a quote or another character that no key contains";
        return Finding::warning("key", format!("the secret key {what}. {advice}"));
    }
    if length != KEY_CHARS || !key.chars().all(|c| c.is_ascii_hexdigit()) {
        let has = match length {
            KEY_CHARS => "not only hex digits (0-9, a-f)".to_owned(),
            _ => counted(length as u64, "character"),
        };
        return Finding::warning(
            "key",
            format!("the secret key has {has}; keys usually have {KEY_CHARS} hex digits. {advice}"),
        );
    }
    Finding::ok("key", format!("{KEY_CHARS} hex digits, the usual form of a key"))
}

fn check_generated_usersig(made: &SecretString, lifetime_s: u64) -> Finding {
    match read_usersig(made) {
        Some(_) => Finding::ok(
            "usersig",
            format!(
                "can be generated and decoded; valid for {}, renewed automatically",
                duration_text(Duration::from_secs(lifetime_s))
            ),
        ),
        None => Finding::error(
            "usersig",
            Exit::Broken,
            "cannot generate a UserSig from the key. This is a bug: please report it with the length of the key",
        ),
    }
}

fn check_given_usersig(
    given: &SecretString,
    identifier: &str,
    sdkappid: u64,
    now_s: i64,
) -> Finding {
    let bad = |text: String| Finding::error("usersig", Exit::Rejected, text);
    let Some(written) = read_usersig(given) else {
        return bad("cannot decode the UserSig: it was cut off, or is not a UserSig (70003). Make a new one, or set \
                    DESKBATCH_SECRET_KEY instead"
            .to_owned());
    };
    if written.sdkappid != sdkappid {
        return bad(format!(
            "the UserSig is for SDKAppID {}, not {sdkappid} (70014). Make one for this SDKAppID",
            written.sdkappid
        ));
    }
    if written.identifier != identifier {
        return bad(format!(
            "the UserSig is for identifier {:?}, not {identifier:?} (70013). Make one for this identifier, or set that one",
            written.identifier
        ));
    }
    let ends = utc_text(written.expires_s().saturating_mul(1_000));
    let remaining_s = written.expires_s().saturating_sub(now_s);
    if remaining_s <= 0 {
        return bad(format!("the UserSig expired at {ends} (70001). Make a new one"));
    }
    if remaining_s < EXPIRES_SOON_S {
        return Finding::warning(
            "usersig",
            format!(
                "the UserSig expires at {ends}, in {} min, and cannot be renewed. Make a new one before that time, or \
                 set DESKBATCH_SECRET_KEY instead",
                remaining_s / 60
            ),
        );
    }
    Finding::ok("usersig", format!("for this SDKAppID and identifier, valid until {ends}"))
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;

    const NOW_S: i64 = 1_735_689_600;

    #[test]
    fn malformed_key_is_a_warning_and_not_printed() {
        let hex = "0f5c1d7e9ab24d68b3f02e6a8c1d5e7f90b1a2c3d4e5f60718293a4b5c6d7e8f";
        assert_eq!(check_key(&hex.into()).level, Level::Ok);
        for (key, part) in [
            (&hex[..63], "63 characters"),
            ("0f5c 1d7e", "a blank"),
            ("\"0f5c1d7e\"", "a quote"),
            ("<your key>", "a quote"),
            ("zz5c1d7e9ab24d68b3f02e6a8c1d5e7f90b1a2c3d4e5f60718293a4b5c6d7e8f", "64 hex digits"),
        ] {
            let finding = check_key(&key.into());
            assert_eq!(finding.level, Level::Warning, "{key}");
            assert!(finding.text.contains(part) && !finding.text.contains(key), "{}", finding.text);
        }
    }

    #[test]
    fn usersig_of_another_account_is_bad() {
        let of = |lifetime_s| make_usersig("ops", 1_400, &"key".into(), NOW_S, lifetime_s);
        let level = |given: &SecretString, identifier, sdkappid, now_s| {
            let finding = check_given_usersig(given, identifier, sdkappid, now_s);
            (finding.level, finding.text)
        };
        let refused = Level::Error(Exit::Rejected);
        let week = of(7 * 86_400);
        assert_eq!(level(&week, "ops", 1_400, NOW_S).0, Level::Ok);
        let cases = [
            (&week, "ops", 1_401, NOW_S, refused, "70014"),
            (&week, "admin", 1_400, NOW_S, refused, "70013"),
            (&week, "ops", 1_400, NOW_S + 7 * 86_400, refused, "70001"),
            (&week, "ops", 1_400, NOW_S + 7 * 86_400 - 600, Level::Warning, "in 10 min"),
            (&"eJw9".into(), "ops", 1_400, NOW_S, refused, "70003"),
        ];
        for (given, identifier, sdkappid, now_s, expected, part) in cases {
            let (level, text) = level(given, identifier, sdkappid, now_s);
            assert_eq!(level, expected, "{text}");
            assert!(text.contains(part) && !text.contains(given.expose_secret()), "{text}");
        }
    }
}
