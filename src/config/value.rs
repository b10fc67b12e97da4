//! Normalizes the text values from flags, variables and the file: paths, commands, hosts, names and
//! secrets. Without this an environment file with CRLF line ends, or with quotes that no shell
//! removed, would silently name another queue.
//!
//! Never prints a value: it may be a secret.

use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret as _, SecretString};

use super::ConfigError;
use crate::cli::{SettingSource, SettingSources, SettingsArgs, settings};
use crate::util::escape::{code_point, is_control};

/// Pairs of quotes, typographic ones included.
const QUOTES: [(char, char); 4] =
    [('"', '"'), ('\'', '\''), ('\u{201c}', '\u{201d}'), ('\u{2018}', '\u{2019}')];

/// `args` with every text value normalized; `named` returns the source of a key for the error.
///
/// # Errors
/// On a control character or surrounding quotes.
pub(super) fn normalize(
    mut args: SettingsArgs,
    named: impl Fn(&str) -> String,
) -> Result<SettingsArgs, ConfigError> {
    // Exhaustive, so that a new setting must decide here whether its own type parses it.
    let SettingsArgs {
        database,
        identifier,
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
        region: _,
        library: _,
        rate: _,
        chunk: _,
        max_in_flight: _,
        max_attempts: _,
        max_rejections: _,
        max_failures: _,
        outage_timeout: _,
        grace_period: _,
        max_duration: _,
        lock_timeout: _,
        connect_timeout: _,
        timeout: _,
        usersig_lifetime: _,
        quiet: _,
        log_format: _,
        sandbox: _,
    } = &mut args;
    for (key, value) in [
        ("database", database),
        ("identifier", identifier),
        ("endpoint", endpoint),
        ("on_finish", on_finish),
        ("log", log),
        ("dashboard", dashboard),
    ] {
        if let Some(text) = value {
            *text = normalize_text(&named(key), text)?.to_owned();
        }
    }
    for (key, value) in [("metrics_file", metrics_file), ("log_file", log_file)] {
        if let Some(file) = value {
            *file = normalize_path(&named(key), file)?;
        }
    }
    for (key, value) in
        [("secret_key", secret_key), ("usersig", usersig), ("dashboard_token", dashboard_token)]
    {
        if let Some(secret) = value {
            *secret = SecretString::from(normalize_text(&named(key), secret.expose_secret())?);
        }
    }
    Ok(args)
}

/// The flag or the variable that sets `key`.
pub(super) fn name_of(key: &str, sources: &SettingSources) -> String {
    let setting = settings().into_iter().find(|setting| setting.key == key);
    let Some(setting) = setting else { return key.to_owned() };
    match (sources.get(key), setting.flag) {
        (Some((SettingSource::Flag, _)), Some(flag)) => flag,
        _ => setting.variable,
    }
}

/// Normalizes a path. One that is not UTF-8 is only checked for control characters.
pub(super) fn normalize_path(name: &str, path: &Path) -> Result<PathBuf, ConfigError> {
    match path.to_str() {
        Some(text) => Ok(PathBuf::from(normalize_text(name, text)?)),
        None => normalize_text(name, &path.to_string_lossy()).map(|_| path.to_owned()),
    }
}

/// Trims `text` and checks it.
pub(super) fn normalize_text<'a>(name: &str, text: &'a str) -> Result<&'a str, ConfigError> {
    if let Some(c) = text.chars().find(|c| is_control(*c)) {
        let what = code_point(c);
        let hint = match c {
            '\r' => " (a file with Windows line ends, CRLF, has one at the end of every line)",
            '\n' => " (a value is one line)",
            _ => "",
        };
        return Err(ConfigError(format!(
            "{name}: the value contains the control character {what}{hint}: remove it"
        )));
    }
    let text = text.trim();
    if let Some((open, close)) = QUOTES.into_iter().find(|pair| is_quoted(text, *pair)) {
        return Err(ConfigError(format!(
            "{name}: the value has quotes around it ({open}…{close}), which would be part of it: write it without them"
        )));
    }
    Ok(text)
}

/// Whether one pair of quotes surrounds all of `text`. A command of several quoted words has several pairs.
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
        let error = normalize_text("X", text).unwrap_err().to_string();
        for part in parts {
            assert!(error.contains(part), "{part}: {error}");
        }
    }

    #[test]
    fn surrounding_whitespace_is_trimmed() {
        assert_eq!(normalize_text("X", " a b.db ").unwrap(), "a b.db");
        assert_eq!(normalize_text("X", "\u{a0}a\u{3000}").unwrap(), "a");
        assert_eq!(normalize_text("X", "  ").unwrap(), "");
    }

    #[test]
    fn control_character_is_named_by_code_point() {
        refused("deskbatch.db\r", &["X: ", "U+000D", "CRLF"]);
        refused("a\nb", &["U+000A", "one line"]);
        refused("\u{feff}a", &["U+FEFF"]);
        refused("a\u{2028}", &["U+2028"]);
        refused("a\u{1b}[2J", &["U+001B"]);
        let lossy: OsString = std::os::unix::ffi::OsStringExt::from_vec(b"a\xff\r".to_vec());
        assert!(normalize_path("X", Path::new(&lossy)).is_err());
    }

    #[test]
    fn surrounding_quotes_are_rejected() {
        for text in ["\"a\"", "'a b'", " \"a\" ", "\"\"", "\u{201c}a\u{201d}"] {
            refused(text, &["quotes around it"]);
        }
        for text in ["'./a b' '$1'", "it's", "\"", "a'b'", "'"] {
            assert_eq!(normalize_text("X", text).unwrap(), text);
        }
    }
}
