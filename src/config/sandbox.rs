//! Builds the sandbox's settings from flags, environment and file.

use std::net::{Ipv4Addr, SocketAddr};
use std::str::FromStr;

use super::file::merge_sandbox;
use super::{ConfigError, Settings, value};
use crate::cli::SandboxArgs;
use crate::domain::clock::duration_text;
use crate::sandbox::{Apps, KnownIds, SandboxSettings};
use crate::util::escape::path_text;

/// The sandbox's settings. `deskbatch sandbox` uses the configured key, if there is one; a sandbox run
/// uses the sandbox's own.
///
/// # Errors
/// On an invalid value.
pub fn sandbox_settings(
    settings: &Settings,
    args: &SandboxArgs,
    addr: Option<SocketAddr>,
) -> Result<SandboxSettings, ConfigError> {
    let args = merge_sandbox(args.clone(), settings.sandbox.clone());
    let mut to = SandboxSettings {
        addr: addr.unwrap_or((Ipv4Addr::LOCALHOST, 0).into()),
        ..Default::default()
    };
    if !settings.is_sandbox_run {
        if let Some(key) = settings.secret_key() {
            to.apps = Apps::Any(key.clone());
        }
        if settings.raw.identifier.is_some() {
            to.administrators.insert(settings.identifier()?);
        }
    }
    to.chances = args.fault.iter().map(|text| parse("fault", text)).collect::<Result<_, _>>()?;
    to.script = args.script.as_deref().map(|text| parse("script", text)).transpose()?;
    set(&mut to.seed, args.seed);
    set(&mut to.latency, args.latency);
    set(&mut to.latency_jitter, args.latency_jitter);
    set(&mut to.request_delay, args.request_delay);
    set(&mut to.request_delay_jitter, args.request_delay_jitter);
    set(&mut to.late_delay, args.late_delay);
    set(&mut to.rate_limit, args.rate_limit);
    set(&mut to.count_throttled, args.count_throttled);
    set(&mut to.repeated_delete_ok, args.repeated_delete_ok);
    set(&mut to.max_ids, args.max_ids);
    set(&mut to.extra_fields, args.extra_fields);
    set(&mut to.window, args.window);
    set(&mut to.rate_code, args.rate_code);
    set(&mut to.admin_code, args.admin_code);
    set(&mut to.json_code, args.json_code);
    set(&mut to.unknown_ids, args.unknown_ids);
    set(&mut to.poison, args.poison);
    set(&mut to.too_many_code, args.too_many_code);
    to.expired_after = args.expired_after;
    to.expired_for = args.expired_for;
    let falls = args.max_ids_after.iter().map(|text| parse("max_ids_after", text));
    to.max_ids_after = falls.collect::<Result<_, _>>()?;
    to.desk_off.extend(args.desk_off);
    if let Some(path) = args.known_ids {
        let path = value::normalize_path("sandbox known_ids", &path)?;
        let text = std::fs::read_to_string(&path).map_err(|e| {
            ConfigError(format!(
                "sandbox known_ids: cannot read {}: {e}. Name a file with one id per line.",
                path_text(&path)
            ))
        })?;
        let ids = text.lines().map(str::trim).filter(|id| !id.is_empty()).map(str::to_owned);
        to.known_ids = KnownIds::Listed(ids.collect());
    }
    to.check().map_err(|reason| ConfigError(format!("sandbox: {reason}")))?;
    Ok(to)
}

/// The default of the sandbox's setting `key` in the syntax of its flag, or what its absence means.
pub(super) fn default_text(key: &str) -> Option<String> {
    let default = SandboxSettings::default();
    Some(match key {
        "seed" => default.seed.to_string(),
        "latency" => duration_text(default.latency),
        "latency_jitter" => duration_text(default.latency_jitter),
        "request_delay" => duration_text(default.request_delay),
        "request_delay_jitter" => duration_text(default.request_delay_jitter),
        "late_delay" => duration_text(default.late_delay),
        "rate_limit" => default.rate_limit.to_string(),
        "window" => default.window.to_string(),
        "count_throttled" => default.count_throttled.to_string(),
        "rate_code" => default.rate_code.to_string(),
        "admin_code" => default.admin_code.to_string(),
        "json_code" => default.json_code.to_string(),
        "unknown_ids" => default.unknown_ids.to_string(),
        "repeated_delete_ok" => default.repeated_delete_ok.to_string(),
        "max_ids" => default.max_ids.to_string(),
        "too_many_code" => default.too_many_code.to_string(),
        "poison" => default.poison.to_string(),
        "extra_fields" => default.extra_fields.to_string(),
        "expired_after" => "never".to_owned(),
        "expired_for" => "forever".to_owned(),
        "desk_off" => "none".to_owned(),
        "known_ids" => "all except those whose last part begins with `missing`".to_owned(),
        _ => return None,
    })
}

fn set<T>(to: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *to = value;
    }
}

fn parse<T: FromStr<Err = String>>(name: &str, text: &str) -> Result<T, ConfigError> {
    text.parse().map_err(|reason: String| ConfigError(format!("sandbox {name}: {text}: {reason}")))
}
