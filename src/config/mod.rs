//! Settings: flags, then the environment, then the file, then defaults; checked before
//! anything else happens.
//!
//! Secrets come from the environment or from a file that its owner alone can read. What a
//! command needs from an account it asks for with [`Settings::account`], so that `status`
//! works without one.

mod account;
mod dashboard;
mod file;
mod origin;
mod rehearsal;
mod trust;
mod value;

use std::path::{Path, PathBuf};
use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};

pub use account::Account;
use account::{endpoint, secret_from_environment};
pub use dashboard::DashboardAt;
pub use origin::{Effective, FileFound, Origin, UnknownVariable, unknown_variables};
pub use rehearsal::sandbox_settings;

use crate::cli::{Cli, Given, LogFormat, SandboxArgs, SettingsArgs, Way};
use crate::desk::Endpoint;
use crate::domain::job::App;
use crate::manifest::same_file;
use crate::runner::RunnerSettings;
use crate::store::ApprovalId;
use crate::text::{path_text, shell_word};

/// The vendor's limit, in requests a second for each app and command.
pub const RATE_DOCUMENTED: f64 = 5.0;

/// The queue file when none is named.
const DATABASE: &str = "deskbatch.db";

/// The environment variables that hold a secret, for whoever passes the environment on.
pub const SECRET_VARIABLES: [&str; 3] =
    ["DESKBATCH_SECRET_KEY", "DESKBATCH_USERSIG", "DESKBATCH_DASHBOARD_TOKEN"];

/// What is wrong with the settings, and what to do.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(String);

impl ConfigError {
    fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

/// Checked settings.
#[derive(Debug)]
pub struct Settings {
    /// The queue file; the rehearsal's own with `--sandbox`.
    pub database: PathBuf,
    /// Where `run` keeps the queue's metrics, if anywhere; a rehearsal's own with `--sandbox`.
    pub metrics_file: Option<PathBuf>,
    /// Whether this is a rehearsal.
    pub rehearsal: bool,
    /// Whether to be silent when all is well.
    pub quiet: bool,
    /// What to log.
    pub log: String,
    /// How to log.
    pub log_format: LogFormat,
    /// How the sandbox behaves, as the file has it.
    pub sandbox: SandboxArgs,
    /// The settings' file, if there is one.
    pub file: Option<FileFound>,
    /// What flags and variables said.
    given: Given,
    /// The queue file of runs that are no rehearsal.
    database_of_runs: PathBuf,
    raw: SettingsArgs,
    endpoint: Option<Endpoint>,
}

/// Timeouts of a call.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// For the connection.
    pub connect: Duration,
    /// For everything.
    pub total: Duration,
}

impl Settings {
    /// Reads and checks the settings.
    ///
    /// # Errors
    /// When a value is impossible, names what to do.
    pub fn load(cli: &Cli) -> Result<Self, ConfigError> {
        let mut raw = cli.settings.clone();
        let way = |key| cli.given.get(key).map(|(way, _)| way);
        match (way("region"), way("endpoint")) {
            (Some(Way::Flag), Some(Way::Variable)) => raw.endpoint = None,
            (Some(Way::Variable), Some(Way::Flag)) => raw.region = None,
            _ => {}
        }
        raw.secret_key = secret_from_environment("DESKBATCH_SECRET_KEY")?;
        raw.usersig = secret_from_environment("DESKBATCH_USERSIG")?;
        raw.dashboard_token = secret_from_environment("DESKBATCH_DASHBOARD_TOKEN")?;
        let raw = value::read(raw, |key| value::name_of(key, &cli.given))?;
        let config = cli.config.as_deref();
        let config = config.map(|path| value::path(&value::name_of("config", &cli.given), path));
        let (args, file) = file::read(config.transpose()?.as_deref())?;
        let settings = Self::check(file::merge(raw, args), cli.sandbox)?;
        let settings = Self { file, given: cli.given.clone(), ..settings };
        settings.check_log_file()?;
        Ok(settings)
    }

    /// The same from the text of a file alone. No API: the way in for tests that feed it
    /// with anything.
    #[doc(hidden)]
    pub fn from_text(text: &str, rehearsal: bool) -> Result<Self, ConfigError> {
        Self::check(file::parse(text, "deskbatch.toml")?, rehearsal)
    }

    fn check(mut raw: SettingsArgs, rehearsal: bool) -> Result<Self, ConfigError> {
        for secret in [&mut raw.secret_key, &mut raw.usersig, &mut raw.dashboard_token] {
            *secret = secret.take().filter(|secret| !secret.expose_secret().is_empty());
        }
        let database = database_path(raw.database.as_deref().unwrap_or(DATABASE))?;
        let endpoint = endpoint(&raw)?;
        let metrics_file = raw.metrics_file.as_deref();
        let settings = Self {
            metrics_file: metrics_file.map(|path| metrics_path(path, rehearsal)).transpose()?,
            database: if rehearsal { rehearsal_path(&database) } else { database.clone() },
            database_of_runs: database,
            file: None,
            given: Given::new(),
            rehearsal,
            quiet: raw.quiet.unwrap_or(false),
            log: raw.log.clone().unwrap_or_else(|| "warn".to_owned()),
            log_format: raw.log_format.unwrap_or(LogFormat::Text),
            sandbox: raw.sandbox.clone().unwrap_or_default(),
            endpoint,
            raw,
        };
        settings.check_rate()?;
        settings.check_limits()?;
        settings.check_dashboard()?;
        Ok(settings)
    }

    /// The runner's limits for `app`, and the approval that it keeps to, if there is one.
    pub fn runner(&self, app: App, approved: Option<ApprovalId>) -> RunnerSettings {
        let raw = &self.raw;
        RunnerSettings {
            app,
            approved,
            chunk_jobs_max: raw.chunk.unwrap_or(100) as usize,
            in_flight_max: raw.in_flight.unwrap_or(32) as usize,
            rate: self.rate(),
            attempts_max: raw.attempts.unwrap_or(4),
            outage_max: Duration::from_secs(raw.outage_s.unwrap_or(600)),
            rejections_max: raw.rejections_max.unwrap_or(8),
            failures_max: raw.max_failures,
            grace: Duration::from_secs(raw.grace_s.unwrap_or(10)),
            seed: fastrand::u64(..),
        }
    }

    /// What has to follow a command to mean the same settings' file and the same queue, with a
    /// space in front, quoted as a shell takes it; empty when both are the usual ones.
    pub fn flags(&self) -> String {
        let sandbox = if self.rehearsal { " --sandbox" } else { "" };
        format!("{}{sandbox}", self.flags_of_runs())
    }

    /// The same for a run that is no rehearsal.
    pub fn flags_of_runs(&self) -> String {
        let mut flags = String::new();
        if let Some((_, file)) = self.given.get("config") {
            flags.push_str(" --config ");
            flags.push_str(&shell_word(file));
        }
        if self.database_of_runs != Path::new(DATABASE) {
            flags.push_str(" --database ");
            flags.push_str(&shell_word(&self.database_of_runs.to_string_lossy()));
        }
        flags
    }

    /// Requests a second.
    pub fn rate(&self) -> f64 {
        self.raw.rate.unwrap_or(RATE_DOCUMENTED)
    }

    /// Questions a request.
    pub fn chunk(&self) -> u64 {
        u64::from(self.raw.chunk.unwrap_or(100))
    }

    /// The timeouts of a call.
    pub fn timeouts(&self) -> Timeouts {
        Timeouts {
            connect: Duration::from_millis(self.raw.connect_timeout_ms.unwrap_or(3_000)),
            total: Duration::from_millis(self.raw.timeout_ms.unwrap_or(10_000)),
        }
    }

    /// How long a run may go on, from the start of the command; `None`: until it has ended.
    pub fn max_duration(&self) -> Option<Duration> {
        self.raw.max_duration
    }

    /// How long to wait for another run to leave the queue.
    pub fn wait(&self) -> Duration {
        self.raw.wait.unwrap_or_default()
    }

    /// What the shell shall do when a run has ended.
    pub fn on_finish(&self) -> Option<&str> {
        self.raw.on_finish.as_deref()
    }

    /// The file that gets the log, if not stderr.
    pub fn log_file(&self) -> Option<&Path> {
        self.raw.log_file.as_deref()
    }

    fn check_rate(&self) -> Result<(), ConfigError> {
        let rate = self.rate();
        // Slower than one request an hour is a mistyped number; faster than a million a
        // second is no limit, and spacing has to stay above a nanosecond.
        if !(1.0 / 3_600.0..=1_000_000.0).contains(&rate) {
            return Err(ConfigError(format!(
                "rate: {rate} is not a number of requests a second above 0: give {RATE_DOCUMENTED} or less, as 0.5"
            )));
        }
        let loopback = self.rehearsal || self.endpoint.as_ref().is_none_or(Endpoint::is_loopback);
        if rate > RATE_DOCUMENTED && !loopback {
            return Err(ConfigError(format!(
                "rate: the service allows {RATE_DOCUMENTED} requests a second; {rate} is possible only toward a sandbox \
                 on this machine: give {RATE_DOCUMENTED} or less, or rehearse with --sandbox"
            )));
        }
        Ok(())
    }

    /// A log at the end of the queue or of the settings would be the end of either.
    fn check_log_file(&self) -> Result<(), ConfigError> {
        let Some(log) = self.log_file() else { return Ok(()) };
        let settings = self.file.as_ref().map(|file| file.path.as_path());
        let others = [Some(self.database.as_path()), self.metrics_file.as_deref(), settings];
        if others.into_iter().flatten().any(|other| same_file(log, other)) {
            return Err(ConfigError(format!(
                "log_file: {} is the queue, the settings or the metrics: name another file",
                path_text(log)
            )));
        }
        Ok(())
    }

    fn check_limits(&self) -> Result<(), ConfigError> {
        let raw = &self.raw;
        between("chunk", raw.chunk.map(u64::from), 1, 10_000)?;
        between("in_flight", raw.in_flight.map(u64::from), 1, 64)?;
        between("attempts", raw.attempts.map(u64::from), 1, 100)?;
        between("outage_s", raw.outage_s, 0, 30 * DAY_S)?;
        between("grace_s", raw.grace_s, 0, 3_600)?;
        if raw.max_duration.is_some_and(|most| most.is_zero()) {
            return Err(ConfigError::new(
                "max_duration: a run without any time cannot begin: give a longer one, or leave it out",
            ));
        }
        if raw.on_finish.as_ref().is_some_and(|command| command.trim().is_empty()) {
            return Err(ConfigError::new("on_finish: there is no command in it: leave it out"));
        }
        between("connect_timeout_ms", raw.connect_timeout_ms, 1, 600_000)?;
        between("timeout_ms", raw.timeout_ms, 1, 600_000)?;
        between("usersig_lifetime_s", raw.usersig_lifetime_s, 600, 3_650 * DAY_S)
    }
}

/// A day, in seconds: what the vendor advises as the least for a UserSig.
const DAY_S: u64 = 86_400;

fn between(name: &str, value: Option<u64>, least: u64, most: u64) -> Result<(), ConfigError> {
    match value {
        Some(value) if !(least..=most).contains(&value) => Err(ConfigError(format!(
            "{name}: {value} is not between {least} and {most}: give a number between them, or leave it out"
        ))),
        _ => Ok(()),
    }
}

/// A path, or `sqlite:` and a path, or `sqlite://` and a path.
fn database_path(text: &str) -> Result<PathBuf, ConfigError> {
    let path = match text.split_once(':') {
        Some(("sqlite", path)) => path.strip_prefix("//").unwrap_or(path),
        Some((scheme, rest)) if rest.starts_with("//") => {
            return Err(ConfigError(format!(
                "database: {scheme}: is not a kind of queue that this version has; give a path or sqlite: and a path"
            )));
        }
        _ => text,
    };
    if path.is_empty() || path.contains('?') {
        return Err(ConfigError(format!(
            "database: {text:?} is not a path: name a file, as deskbatch.db, or leave it out"
        )));
    }
    Ok(PathBuf::from(path))
}

/// `deskbatch.db` → `deskbatch.sandbox.db`.
fn rehearsal_path(path: &Path) -> PathBuf {
    match path.extension() {
        Some(extension) => {
            let mut ending = std::ffi::OsString::from("sandbox.");
            ending.push(extension);
            path.with_extension(ending)
        }
        None => path.with_extension("sandbox"),
    }
}

/// The file for metrics. What a rehearsal did must not be taken for the real thing, so its file
/// has a name that no exporter reads: `deskbatch.prom` → `deskbatch.prom.sandbox`.
fn metrics_path(path: &Path, rehearsal: bool) -> Result<PathBuf, ConfigError> {
    if path.extension().is_none_or(|ending| ending != "prom") {
        return Err(ConfigError(format!(
            "metrics_file: {} does not end in .prom: the node exporter reads no other file; call it deskbatch.prom",
            path_text(path)
        )));
    }
    Ok(if rehearsal { path.with_extension("prom.sandbox") } else { path.to_owned() })
}

/// Whether `args` holds a secret.
fn has_secret(args: &SettingsArgs) -> bool {
    has_account_secret(args) || filled(args.dashboard_token.as_ref())
}

/// Whether `args` holds what proves who we are.
fn has_account_secret(args: &SettingsArgs) -> bool {
    filled(args.secret_key.as_ref()) || filled(args.usersig.as_ref())
}

fn filled(secret: Option<&SecretString>) -> bool {
    secret.is_some_and(|secret| !secret.expose_secret().is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_is_a_path_or_sqlite_and_a_path() {
        let path =
            |text| database_path(text).map(|p| p.to_string_lossy().into_owned()).map_err(|e| e.0);
        for text in ["q.db", "sqlite:q.db", "sqlite://q.db"] {
            assert_eq!(path(text).as_deref(), Ok("q.db"));
        }
        assert_eq!(path("sqlite:///var/q.db").as_deref(), Ok("/var/q.db"));
        assert!(path("postgres://host/q").unwrap_err().contains("postgres"));
        assert!(path("sqlite:").is_err());
    }

    #[test]
    fn a_metrics_file_ends_in_prom_and_that_of_a_rehearsal_does_not() {
        let path = |text: &str, rehearsal| {
            let path = metrics_path(Path::new(text), rehearsal);
            path.map(|path| path.to_string_lossy().into_owned()).map_err(|e| e.0)
        };
        assert_eq!(path("/var/lib/a.b.prom", false).as_deref(), Ok("/var/lib/a.b.prom"));
        assert_eq!(path("/var/lib/a.b.prom", true).as_deref(), Ok("/var/lib/a.b.prom.sandbox"));
        for wrong in ["", "prom", ".prom", "a.prom.txt", "a.PROM", "-"] {
            assert!(path(wrong, false).unwrap_err().contains("does not end in .prom"), "{wrong}");
        }
    }

    #[test]
    fn a_rehearsal_has_a_queue_file_of_its_own() {
        let path = |text: &str| rehearsal_path(Path::new(text)).to_string_lossy().into_owned();
        assert_eq!(path("deskbatch.db"), "deskbatch.sandbox.db");
        assert_eq!(path("/var/lib/queue"), "/var/lib/queue.sandbox");
    }
}
