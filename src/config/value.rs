//! The one reader of values that nothing else parses: paths, commands, hosts, names and secrets,
//! wherever they come from. An environment file with Windows line ends, or quotes that no shell took
//! away, would otherwise name another queue, and nothing would say so.
//!
//! Never shows a value: it may be a secret.

use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret as _, SecretString};

use super::ConfigError;
use crate::cli::{Given, SettingsArgs, Way, settings};
use crate::text::{code_point, is_control};

/// Quotes by pairs, those of word processors too.
const QUOTES: [(char, char); 4] =
    [('"', '"'), ('\'', '\''), ('\u{201c}', '\u{201d}'), ('\u{2018}', '\u{2019}')];

/// `args` with every such value as it counts; `named` says where the setting of a key was given.
///
/// # Errors
/// Names the setting, and the character that no such value has, or the quotes.
pub(super) fn read(
    mut args: SettingsArgs,
    named: impl Fn(&str) -> String,
) -> Result<SettingsArgs, ConfigError> {
    // Every field by its name: a new setting has to say here whether it is read by its own type.
    let SettingsArgs {
        database,
        identifier,
        region,
        endpoint,
        on_finish,
        metrics_file,
        log,
        log_file,
        dashboard,
        secret_key,
        usersig,
        dashboard_token,
        sdkappid: _,
        library: _,
        rate: _,
        chunk: _,
        in_flight: _,
        attempts: _,
        rejections_max: _,
        max_failures: _,
        outage_s: _,
        grace_s: _,
        max_duration: _,
        wait: _,
        connect_timeout_ms: _,
        timeout_ms: _,
        usersig_lifetime_s: _,
        quiet: _,
        log_format: _,
        sandbox: _,
    } = &mut args;
    for (key, value) in [
        ("database", database),
        ("identifier", identifier),
        ("region", region),
        ("endpoint", endpoint),
        ("on_finish", on_finish),
        ("log", log),
        ("dashboard", dashboard),
    ] {
        if let Some(text) = value {
            *text = plain(&named(key), text)?.to_owned();
        }
    }
    for (key, value) in [("metrics_file", metrics_file), ("log_file", log_file)] {
        if let Some(file) = value {
            *file = path(&named(key), file)?;
        }
    }
    for (key, value) in
        [("secret_key", secret_key), ("usersig", usersig), ("dashboard_token", dashboard_token)]
    {
        if let Some(secret) = value {
            *secret = SecretString::from(plain(&named(key), secret.expose_secret())?);
        }
    }
    Ok(args)
}

/// What gave the setting of `key` outside the file: its flag or its variable.
pub(super) fn name_of(key: &str, given: &Given) -> String {
    let setting = settings().into_iter().find(|setting| setting.key == key);
    let Some(setting) = setting else { return key.to_owned() };
    match (given.get(key), setting.flag) {
        (Some((Way::Flag, _)), Some(flag)) => flag,
        _ => setting.variable,
    }
}

/// The same of one path. What is not UTF-8 stays as it is, but for control characters.
pub(super) fn path(name: &str, path: &Path) -> Result<PathBuf, ConfigError> {
    match path.to_str() {
        Some(text) => Ok(PathBuf::from(plain(name, text)?)),
        None => plain(name, &path.to_string_lossy()).map(|_| path.to_owned()),
    }
}

/// The value that `text` has, without the blanks around it.
pub(super) fn plain<'a>(name: &str, text: &'a str) -> Result<&'a str, ConfigError> {
    if let Some(c) = text.chars().find(|c| is_control(*c)) {
        let what = code_point(c);
        let hint = match c {
            '\r' => ": a file with Windows line ends (CRLF) has one at the end of every line",
            '\n' => ": a value is one line",
            _ => "",
        };
        return Err(ConfigError(format!(
            "{name}: the value has the control character {what} in it, which no such value has{hint}: take it out"
        )));
    }
    let text = text.trim();
    if let Some((open, close)) = QUOTES.into_iter().find(|pair| is_quoted(text, *pair)) {
        return Err(ConfigError(format!(
            "{name}: the value has quotes around it ({open}…{close}), which would be a part of it: write it without them"
        )));
    }
    Ok(text)
}

/// Whether `text` is one quoted word: a command of several quoted words is none.
fn is_quoted(text: &str, (open, close): (char, char)) -> bool {
    let inner = text.strip_prefix(open).and_then(|rest| rest.strip_suffix(close));
    inner.is_some_and(|inner| !inner.contains([open, close]))
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;

    #[track_caller]
    fn refused(text: &str, parts: &[&str]) {
        let error = plain("X", text).unwrap_err().to_string();
        for part in parts {
            assert!(error.contains(part), "{part}: {error}");
        }
    }

    #[test]
    fn blanks_around_a_value_are_no_part_of_it() {
        assert_eq!(plain("X", " a b.db ").unwrap(), "a b.db");
        assert_eq!(plain("X", "\u{a0}a\u{3000}").unwrap(), "a");
        assert_eq!(plain("X", "  ").unwrap(), "");
    }

    #[test]
    fn control_characters_are_refused_by_their_number() {
        refused("deskbatch.db\r", &["X: ", "U+000D", "CRLF"]);
        refused("a\nb", &["U+000A", "one line"]);
        refused("\u{feff}a", &["U+FEFF"]);
        refused("a\u{2028}", &["U+2028"]);
        refused("a\u{1b}[2J", &["U+001B"]);
        let lossy: OsString = std::os::unix::ffi::OsStringExt::from_vec(b"a\xff\r".to_vec());
        assert!(path("X", Path::new(&lossy)).is_err());
    }

    #[test]
    fn quotes_around_a_value_are_refused() {
        for text in ["\"a\"", "'a b'", " \"a\" ", "\"\"", "\u{201c}a\u{201d}"] {
            refused(text, &["quotes around it"]);
        }
        for text in ["'./a b' '$1'", "it's", "\"", "a'b'", "'"] {
            assert_eq!(plain("X", text).unwrap(), text);
        }
    }
}
