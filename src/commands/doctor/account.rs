//! Whether a run would know whose questions it changes, and could prove that it may.
//!
//! Never shows a key or a UserSig.

use secrecy::{ExposeSecret as _, SecretString};

use super::Finding;
use crate::commands::Exit;
use crate::config::Settings;
use crate::desk::{make_usersig, read_usersig};
use crate::domain::clock::{Clock as _, SystemClock, utc_text};

/// How many characters the vendor's keys have: hex digits.
const KEY_CHARS: usize = 64;

/// A ready-made UserSig that ends sooner is told, in seconds.
const SOON_S: i64 = 86_400;

/// Looks at the account, its key and its UserSig.
pub(super) fn look(settings: &Settings) -> Vec<Finding> {
    let Ok(account) = settings.account() else {
        let lacking = settings.lacking().into_iter();
        return lacking.map(|error| Finding::of("account", &error.into())).collect();
    };
    let endpoint = account.endpoint.map_or_else(|| "the sandbox".to_owned(), |e| e.to_string());
    let mut findings = vec![Finding::well(
        "account",
        format!(
            "application {}, library {}, as {}, at {endpoint}: complete",
            account.app.sdkappid, account.app.library, account.identifier
        ),
    )];
    if settings.rehearsal {
        return findings;
    }
    let now_s = SystemClock::new().wall_ms() / 1_000;
    let (sdkappid, identifier) = (account.app.sdkappid, account.identifier.as_str());
    match (settings.secret_key(), settings.usersig()) {
        (Some(key), _) => {
            findings.push(of_key(key));
            let lifetime_s = settings.usersig_lifetime_s();
            let made = make_usersig(identifier, sdkappid, key, now_s, lifetime_s);
            findings.push(of_made(&made, lifetime_s));
        }
        (None, Some(given)) => findings.push(of_given(given, identifier, sdkappid, now_s)),
        (None, None) => {}
    }
    findings
}

/// Only the service can say whether a key is right; a wrong one is often seen by its looks.
fn of_key(key: &SecretString) -> Finding {
    let key = key.expose_secret();
    let length = key.chars().count();
    let advice = "copy it again from the console; a run would end with 4 if it is wrong";
    if key.chars().any(|c| c.is_whitespace() || !c.is_ascii() || "\"'`<>".contains(c)) {
        let what = "has a blank, a quote or another sign inside that no key has";
        return Finding::doubtful("key", format!("the secret key {what}: {advice}"));
    }
    if length != KEY_CHARS || !key.chars().all(|c| c.is_ascii_hexdigit()) {
        return Finding::doubtful(
            "key",
            format!(
                "the secret key has {length} characters, where {KEY_CHARS} hex digits are usual: {advice}"
            ),
        );
    }
    Finding::well("key", format!("{KEY_CHARS} hex digits, as keys have"))
}

fn of_made(made: &SecretString, lifetime_s: u64) -> Finding {
    match read_usersig(made) {
        Some(_) => Finding::well(
            "usersig",
            format!(
                "can be made and reads back; each is good for {lifetime_s} s, and is made anew in time"
            ),
        ),
        None => Finding::bad(
            "usersig",
            Exit::Broken,
            "cannot be made from the key: this is a bug, please report it with the length of the key",
        ),
    }
}

fn of_given(given: &SecretString, identifier: &str, sdkappid: u64, now_s: i64) -> Finding {
    let bad = |text: String| Finding::bad("usersig", Exit::Refused, text);
    let Some(written) = read_usersig(given) else {
        return bad("the UserSig cannot be read, so it was cut off or is something else (70003): make a new one, or set \
                    DESKBATCH_SECRET_KEY instead"
            .to_owned());
    };
    if written.sdkappid != sdkappid {
        return bad(format!(
            "the UserSig is for application {}, not {sdkappid} (70014): make one for this application",
            written.sdkappid
        ));
    }
    if written.identifier != identifier {
        return bad(format!(
            "the UserSig is for {:?}, not {identifier:?} (70013): make one for this account, or set that identifier",
            written.identifier
        ));
    }
    let ends = utc_text(written.expires_s().saturating_mul(1_000));
    let left_s = written.expires_s().saturating_sub(now_s);
    if left_s <= 0 {
        return bad(format!("the UserSig has ended, at {ends} (70001): make a new one"));
    }
    if left_s < SOON_S {
        return Finding::doubtful(
            "usersig",
            format!(
                "the UserSig ends at {ends}, in {} min, and cannot be renewed: make a new one before, or set \
                 DESKBATCH_SECRET_KEY instead",
                left_s / 60
            ),
        );
    }
    Finding::well("usersig", format!("for this application and account, good until {ends}"))
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;

    const NOW_S: i64 = 1_735_689_600;

    #[test]
    fn a_key_is_judged_by_its_looks_and_never_shown() {
        let hex = "0f5c1d7e9ab24d68b3f02e6a8c1d5e7f90b1a2c3d4e5f60718293a4b5c6d7e8f";
        assert_eq!(of_key(&hex.into()).level, Level::Well);
        for (key, part) in [
            (&hex[..63], "63 characters"),
            ("0f5c 1d7e", "a blank"),
            ("\"0f5c1d7e\"", "a quote"),
            ("<your key>", "a quote"),
            ("zz5c1d7e9ab24d68b3f02e6a8c1d5e7f90b1a2c3d4e5f60718293a4b5c6d7e8f", "64 hex digits"),
        ] {
            let finding = of_key(&key.into());
            assert_eq!(finding.level, Level::Doubtful, "{key}");
            assert!(finding.text.contains(part) && !finding.text.contains(key), "{}", finding.text);
        }
    }

    #[test]
    fn a_ready_made_usersig_is_held_against_the_account_and_the_clock() {
        let of = |lifetime_s| make_usersig("ops", 1_400, &"key".into(), NOW_S, lifetime_s);
        let level = |given: &SecretString, identifier, sdkappid, now_s| {
            let finding = of_given(given, identifier, sdkappid, now_s);
            (finding.level, finding.text)
        };
        let refused = Level::Bad(Exit::Refused);
        let week = of(7 * 86_400);
        assert_eq!(level(&week, "ops", 1_400, NOW_S).0, Level::Well);
        let cases = [
            (&week, "ops", 1_401, NOW_S, refused, "70014"),
            (&week, "admin", 1_400, NOW_S, refused, "70013"),
            (&week, "ops", 1_400, NOW_S + 7 * 86_400, refused, "70001"),
            (&week, "ops", 1_400, NOW_S + 7 * 86_400 - 600, Level::Doubtful, "in 10 min"),
            (&"eJw9".into(), "ops", 1_400, NOW_S, refused, "70003"),
        ];
        for (given, identifier, sdkappid, now_s, expected, part) in cases {
            let (level, text) = level(given, identifier, sdkappid, now_s);
            assert_eq!(level, expected, "{text}");
            assert!(text.contains(part) && !text.contains(given.expose_secret()), "{text}");
        }
    }
}
