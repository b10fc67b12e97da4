//! The configuration file: found, read, checked for its owner and permissions, and merged below flags
//! and environment.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use toml::{Table, Value};

use super::trust::{self, Credentials, FileStatus};
use super::{ConfigError, ConfigFile, defaults, has_account_secret, has_secret, value};
use crate::cli::{SANDBOX_TABLE, SandboxArgs, SettingsArgs, settings};
use crate::util::escape::{path_text, shell_word};
use crate::util::suggest::nearest;

/// The longest word that an error shows; a longer one is masked.
const WORD_BYTES_MAX: usize = 24;

/// Reads the file at `path`, which must exist, or the default file, which is optional.
pub(super) fn read(path: Option<&Path>) -> Result<(SettingsArgs, Option<ConfigFile>), ConfigError> {
    let named = path.is_some();
    let path = path.unwrap_or(Path::new(defaults::CONFIG_FILE));
    let (text, status) = match text_of(path) {
        Ok(read) => read,
        Err(e) if e.kind() == io::ErrorKind::NotFound && !named => {
            return Ok((SettingsArgs::default(), None));
        }
        Err(e) => {
            let create = match e.kind() {
                io::ErrorKind::NotFound => {
                    format!(
                        ", or create one: deskbatch init -- {}",
                        shell_word(&path.to_string_lossy())
                    )
                }
                _ => String::new(),
            };
            return Err(ConfigError(format!(
                "cannot read {}: {e}. Name another file with --config{create}",
                path_text(path)
            )));
        }
    };
    let user = Credentials::of_process();
    trust::must_be_trusted(path, &status, &user)?;
    let args = parse(&text, &path_text(path))?;
    if has_secret(&args) {
        trust::must_be_private(path, &status, &user)?;
    }
    let values = values(&text);
    let mode = status.mode & 0o7777;
    Ok((args, Some(ConfigFile { path: path.to_owned(), mode, values })))
}

/// The settings of the file as text. Secrets are masked.
fn values(text: &str) -> BTreeMap<String, String> {
    let Ok(table) = text.parse::<Table>() else { return BTreeMap::new() };
    let sandbox = table.get(SANDBOX_TABLE).and_then(Value::as_table).cloned().unwrap_or_default();
    let known = settings();
    let shown = |key: String, value: &Value| {
        let is_secret = known.iter().any(|setting| setting.key == key && setting.is_secret());
        let text = if is_secret { "set".to_owned() } else { value_text(value) };
        // An empty secret is not set.
        (!is_secret || value.as_str() != Some("")).then_some((key, text))
    };
    let own = table.iter().filter(|(key, _)| *key != SANDBOX_TABLE);
    let own = own.filter_map(|(key, value)| shown(key.clone(), value));
    let below =
        sandbox.iter().filter_map(|(key, value)| shown(format!("{SANDBOX_TABLE}.{key}"), value));
    own.chain(below).collect()
}

/// A value in the syntax of its flag.
fn value_text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(values) => values.iter().map(value_text).collect::<Vec<_>>().join(","),
        Value::Integer(number) => number.to_string(),
        Value::Float(number) => number.to_string(),
        Value::Boolean(truth) => truth.to_string(),
        Value::Datetime(time) => time.to_string(),
        Value::Table(_) => "a table".to_owned(),
    }
}

/// Parses the `text` of the file `name`.
pub(super) fn parse(text: &str, name: &str) -> Result<SettingsArgs, ConfigError> {
    let args: SettingsArgs = toml::from_str(text).map_err(|e| {
        // toml's own error text quotes the line, which may contain the key.
        let before = e.span().map_or(0, |span| span.start);
        let line_ends = text.bytes().take(before).map(|byte| usize::from(byte == b'\n'));
        let line = 1 + line_ends.sum::<usize>();
        let message = mask_long_words(&plain_message(e.message()));
        ConfigError(format!("{name}, line {line}: {message}"))
    })?;
    value::normalize(args, |key| format!("{name}, key {key}"))
}

/// Text and status of the same open file, so that a replaced path makes no difference.
fn text_of(path: &Path) -> io::Result<(String, FileStatus)> {
    let mut file = File::open(path)?;
    let status = FileStatus::of(&file)?;
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    Ok((text, status))
}

/// Rewrites an error of toml without the value that it quotes: a secret key without quotes, or on the wrong
/// line, could be such a value.
fn plain_message(message: &str) -> String {
    if let Some(key) =
        message.strip_prefix("unknown field `").and_then(|rest| rest.split('`').next())
    {
        return unknown_key(key, !message.contains("`sdkappid`"));
    }
    match message.rsplit_once(", expected ") {
        Some((head, expected)) if head.starts_with("invalid type: ") => {
            format!("the value has the wrong type: expected {}", type_name(expected))
        }
        Some((head, expected)) if head.starts_with("invalid value: ") => {
            format!("the value is invalid: expected {}", type_name(expected))
        }
        _ => message.to_owned(),
    }
}

/// The name of a type for users.
fn type_name(expected: &str) -> &str {
    match expected {
        "u32" | "u64" | "usize" => "a whole number, at least 0, without quotes",
        "f64" => "a number, without quotes",
        "a boolean" => "true or false, without quotes",
        "a string" => "text in quotes",
        other => other,
    }
}

/// The error for an unknown key. A line added at the end of the file is part of `[sandbox]`, which
/// has its own message.
fn unknown_key(key: &str, in_sandbox: bool) -> String {
    let table = format!("{SANDBOX_TABLE}.");
    let known = settings();
    let of_sandbox = known.iter().filter_map(|setting| setting.key.strip_prefix(&table));
    let others = known.iter().map(|setting| setting.key.as_str());
    let others = others.filter(|key| !key.starts_with(&table) && *key != "config");
    let (of_sandbox, others): (Vec<&str>, Vec<&str>) = (of_sandbox.collect(), others.collect());
    if in_sandbox && others.contains(&key) {
        return format!(
            "`{key}` is not a setting of the sandbox: move the line above [{SANDBOX_TABLE}]"
        );
    }
    if !in_sandbox && of_sandbox.contains(&key) {
        return format!(
            "`{key}` is a setting of the sandbox: move it below a line [{SANDBOX_TABLE}]"
        );
    }
    let keys = if in_sandbox { of_sandbox } else { others };
    match nearest(key, keys) {
        Some(meant) => format!("unknown key `{key}`: did you mean `{meant}`?"),
        None => format!("unknown key `{key}`: `deskbatch help settings` lists the keys"),
    }
}

/// Masks words longer than any setting's name: they may be a secret in the wrong place.
fn mask_long_words(message: &str) -> String {
    let ends_word = |c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '*'));
    let pieces = message.split_inclusive(ends_word).map(|piece| {
        let word = piece.trim_end_matches(ends_word);
        if word.len() > WORD_BYTES_MAX { piece.replace(word, "***") } else { piece.to_owned() }
    });
    pieces.collect()
}

/// The values of `over`; missing ones come from `under`.
pub(super) fn merge(over: SettingsArgs, under: SettingsArgs) -> SettingsArgs {
    // Region and endpoint are alternatives, so either one in `over` hides both in `under`. The same applies
    // to key and UserSig.
    let place = over.region.is_some() || over.endpoint.is_some();
    let secret = has_account_secret(&over);
    SettingsArgs {
        database: over.database.or(under.database),
        sdkappid: over.sdkappid.or(under.sdkappid),
        identifier: over.identifier.or(under.identifier),
        region: if place { over.region } else { under.region },
        endpoint: if place { over.endpoint } else { under.endpoint },
        library: over.library.or(under.library),
        rate: over.rate.or(under.rate),
        chunk: over.chunk.or(under.chunk),
        max_in_flight: over.max_in_flight.or(under.max_in_flight),
        max_attempts: over.max_attempts.or(under.max_attempts),
        max_rejections: over.max_rejections.or(under.max_rejections),
        max_failures: over.max_failures.or(under.max_failures),
        outage_timeout: over.outage_timeout.or(under.outage_timeout),
        grace_period: over.grace_period.or(under.grace_period),
        max_duration: over.max_duration.or(under.max_duration),
        lock_timeout: over.lock_timeout.or(under.lock_timeout),
        on_finish: over.on_finish.or(under.on_finish),
        metrics_file: over.metrics_file.or(under.metrics_file),
        connect_timeout: over.connect_timeout.or(under.connect_timeout),
        timeout: over.timeout.or(under.timeout),
        usersig_lifetime: over.usersig_lifetime.or(under.usersig_lifetime),
        quiet: over.quiet.or(under.quiet),
        log: over.log.or(under.log),
        log_format: over.log_format.or(under.log_format),
        log_file: over.log_file.or(under.log_file),
        secret_key: if secret { over.secret_key } else { under.secret_key },
        usersig: if secret { over.usersig } else { under.usersig },
        dashboard: over.dashboard.or(under.dashboard),
        dashboard_token: over.dashboard_token.or(under.dashboard_token),
        sandbox: over.sandbox.or(under.sandbox),
    }
}

/// [`merge`] for the sandbox's table.
pub(super) fn merge_sandbox(over: SandboxArgs, under: SandboxArgs) -> SandboxArgs {
    let or_else = |over: Vec<_>, under| if over.is_empty() { under } else { over };
    SandboxArgs {
        fault: or_else(over.fault, under.fault),
        script: over.script.or(under.script),
        seed: over.seed.or(under.seed),
        latency: over.latency.or(under.latency),
        latency_jitter: over.latency_jitter.or(under.latency_jitter),
        request_delay: over.request_delay.or(under.request_delay),
        request_delay_jitter: over.request_delay_jitter.or(under.request_delay_jitter),
        late_delay: over.late_delay.or(under.late_delay),
        rate_limit: over.rate_limit.or(under.rate_limit),
        window: over.window.or(under.window),
        count_throttled: over.count_throttled.or(under.count_throttled),
        rate_code: over.rate_code.or(under.rate_code),
        admin_code: over.admin_code.or(under.admin_code),
        json_code: over.json_code.or(under.json_code),
        unknown_ids: over.unknown_ids.or(under.unknown_ids),
        repeated_delete_ok: over.repeated_delete_ok.or(under.repeated_delete_ok),
        max_ids: over.max_ids.or(under.max_ids),
        max_ids_after: or_else(over.max_ids_after, under.max_ids_after),
        expired_after: over.expired_after.or(under.expired_after),
        expired_for: over.expired_for.or(under.expired_for),
        poison: over.poison.or(under.poison),
        too_many_code: over.too_many_code.or(under.too_many_code),
        desk_off: if over.desk_off.is_empty() { under.desk_off } else { over.desk_off },
        known_ids: over.known_ids.or(under.known_ids),
        extra_fields: over.extra_fields.or(under.extra_fields),
    }
}
