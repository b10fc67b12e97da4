//! The defaults of settings, each in one place. The help, the page of settings and `config show` get their
//! texts from here.

use std::time::Duration;

use super::{DAY, RATE_DOCUMENTED, sandbox};
use crate::cli::{LogFormat, SANDBOX_TABLE};
use crate::domain::clock::duration_text;
use crate::domain::job::Library;

/// The configuration file.
pub(crate) const CONFIG_FILE: &str = "deskbatch.toml";

/// The queue file.
pub(super) const DATABASE: &str = "deskbatch.db";

/// Requests per second.
pub(super) const RATE: f64 = RATE_DOCUMENTED;

/// The most questions in a request.
pub(super) const CHUNK: u32 = 100;

/// The most requests in flight.
pub(super) const MAX_IN_FLIGHT: u32 = 32;

/// Attempts of a chunk.
pub(super) const MAX_ATTEMPTS: u32 = 4;

/// Rejections in a row after which the runner checks whether the app is alive.
pub(super) const MAX_REJECTIONS: u32 = 8;

/// The longest outage.
pub(super) const OUTAGE_TIMEOUT: Duration = Duration::from_mins(10);

/// The grace period for requests in flight.
pub(super) const GRACE_PERIOD: Duration = Duration::from_secs(10);

/// How long to wait for a lock that another run holds.
pub(super) const LOCK_TIMEOUT: Duration = Duration::ZERO;

/// The timeout of a connection.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// The timeout of a request.
pub(super) const TIMEOUT: Duration = Duration::from_secs(10);

/// The lifetime of a generated UserSig.
pub(super) const USERSIG_LIFETIME: Duration = DAY;

/// The log filter.
pub(super) const LOG: &str = "warn";

/// Whether to print only warnings and errors.
pub(super) const QUIET: bool = false;

/// The address of `deskbatch dashboard`.
pub(super) const DASHBOARD_ADDR: &str = "127.0.0.1:8048";

/// The default of the setting `key` in the syntax of its flag; `none` if a run needs no value. `None`
/// for a setting that an account needs, and for other keys.
pub(crate) fn default_text(key: &str) -> Option<String> {
    if let Some(key) = key.strip_prefix(SANDBOX_TABLE).and_then(|key| key.strip_prefix('.')) {
        return sandbox::default_text(key);
    }
    Some(match key {
        "config" => CONFIG_FILE.to_owned(),
        "database" => DATABASE.to_owned(),
        "library" => Library::default().to_string(),
        "rate" => RATE.to_string(),
        "chunk" => CHUNK.to_string(),
        "max_in_flight" => MAX_IN_FLIGHT.to_string(),
        "max_attempts" => MAX_ATTEMPTS.to_string(),
        "max_rejections" => MAX_REJECTIONS.to_string(),
        "outage_timeout" => duration_text(OUTAGE_TIMEOUT),
        "grace_period" => duration_text(GRACE_PERIOD),
        "lock_timeout" => duration_text(LOCK_TIMEOUT),
        "connect_timeout" => duration_text(CONNECT_TIMEOUT),
        "timeout" => duration_text(TIMEOUT),
        "usersig_lifetime" => duration_text(USERSIG_LIFETIME),
        "quiet" => QUIET.to_string(),
        "log" => LOG.to_owned(),
        "log_format" => LogFormat::default().to_string(),
        "dashboard_addr" => format!("the setting `dashboard`, or {DASHBOARD_ADDR}"),
        "max_failures" | "max_duration" | "on_finish" | "metrics_file" | "log_file"
        | "dashboard" => "none".to_owned(),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use crate::cli::{command, settings};

    #[test]
    fn help_shows_every_default() {
        let command = command();
        let run = command.find_subcommand("run").unwrap();
        let mut shown = 0;
        for setting in settings() {
            let (Some(default), Some(flag)) = (setting.default, setting.flag) else { continue };
            let flag = flag.trim_start_matches("--");
            let arg = run.get_arguments().find(|arg| arg.get_long() == Some(flag)).unwrap();
            let default = format!(" [default: {default}]");
            assert!(arg.get_help().unwrap().to_string().ends_with(&default), "{flag}");
            assert!(arg.get_long_help().unwrap().to_string().contains(&default), "{flag}");
            shown += 1;
        }
        assert!(shown > 30, "{shown}");
    }

    #[test]
    fn example_file_shows_the_defaults() {
        let example = include_str!("../../deskbatch.example.toml");
        // A file cannot name itself, and the example waits.
        let is_shown = |key: &str| !["config", "lock_timeout"].contains(&key) && !key.contains('.');
        for setting in settings().into_iter().filter(|setting| is_shown(&setting.key)) {
            let Some(default) = setting.default else { continue };
            let lines = [default.clone(), format!("{default:?}")]
                .map(|value| format!("# {} = {value}", setting.key));
            let is_default = |line: &str| {
                lines.iter().any(|known| line.split("  #").next().unwrap().trim_end() == known)
            };
            assert!(example.lines().any(is_default), "{} = {default}", setting.key);
        }
    }
}
