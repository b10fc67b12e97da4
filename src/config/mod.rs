//! Settings: from flags, the environment, the configuration file and defaults, in this order of
//! precedence, and validated before a command begins.
//!
//! Secrets come from the environment or from a private file. The account is validated only by
//! [`Settings::account`], so that commands such as `status` work without one.

mod account;
mod dashboard;
mod defaults;
mod file;
mod origin;
mod paths;
mod sandbox;
mod trust;
mod value;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};

pub use account::Account;
use account::{endpoint, secret_from_environment};
pub use dashboard::DashboardSettings;
pub(crate) use defaults::{CONFIG_FILE, default_text};
pub use origin::{ConfigFile, EffectiveSetting, Origin, UnknownVariable, unknown_variables};
use paths::{database_path, metrics_path, sandbox_database_path};
pub use sandbox::sandbox_settings;

use crate::cli::{Cli, LogFormat, SandboxArgs, SettingSource, SettingSources, SettingsArgs};
use crate::desk::Endpoint;
use crate::domain::clock::duration_text;
use crate::domain::job::App;
use crate::manifest::same_file;
use crate::queue::ApprovalId;
use crate::runner::RunnerSettings;
use crate::util::escape::{path_text, shell_word};

/// The documented limit, in requests per second for each app and command.
pub const RATE_DOCUMENTED: f64 = 5.0;

/// The environment variables that hold a secret; a child process must not inherit them.
pub const SECRET_VARIABLES: [&str; 3] =
    ["DESKBATCH_SECRET_KEY", "DESKBATCH_USERSIG", "DESKBATCH_DASHBOARD_TOKEN"];

/// Invalid settings; the text includes the remedy.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(String);

impl ConfigError {
    fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

/// Validated settings.
#[derive(Debug)]
pub struct Settings {
    /// The queue file; a separate one in a sandbox run.
    pub database: PathBuf,
    /// The metrics file, if set; a separate one in a sandbox run.
    pub metrics_file: Option<PathBuf>,
    /// Whether `--sandbox` is given: the command works on the sandbox's queue, and `run` sends to a
    /// sandbox.
    pub is_sandbox_run: bool,
    /// Whether to print only warnings and errors.
    pub quiet: bool,
    /// The log filter.
    pub log: String,
    /// The log format.
    pub log_format: LogFormat,
    /// The sandbox's settings from the file.
    pub sandbox: SandboxArgs,
    /// The configuration file, if one was read.
    pub file: Option<ConfigFile>,
    /// The values from flags and variables.
    sources: SettingSources,
    /// The queue file of live runs.
    live_database: PathBuf,
    raw: SettingsArgs,
    endpoint: Option<Endpoint>,
}

/// The timeouts of a request.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// For the connection, name lookup and TLS included.
    pub connect: Duration,
    /// For the whole request.
    pub total: Duration,
}

impl Settings {
    /// Reads and validates the settings.
    ///
    /// # Errors
    /// On an invalid value.
    pub fn load(cli: &Cli) -> Result<Self, ConfigError> {
        let mut raw = cli.settings.clone();
        let source = |key| cli.sources.get(key).map(|(source, _)| source);
        match (source("region"), source("endpoint")) {
            (Some(SettingSource::Flag), Some(SettingSource::Variable)) => raw.endpoint = None,
            (Some(SettingSource::Variable), Some(SettingSource::Flag)) => raw.region = None,
            _ => {}
        }
        raw.secret_key = secret_from_environment("DESKBATCH_SECRET_KEY")?;
        raw.usersig = secret_from_environment("DESKBATCH_USERSIG")?;
        raw.dashboard_token = secret_from_environment("DESKBATCH_DASHBOARD_TOKEN")?;
        let raw = value::normalize(raw, |key| value::name_of(key, &cli.sources))?;
        let config = cli.config.as_deref();
        let config =
            config.map(|path| value::normalize_path(&value::name_of("config", &cli.sources), path));
        let (args, file) = file::read(config.transpose()?.as_deref())?;
        let settings = Self::check(file::merge(raw, args), cli.sandbox)?;
        let settings = Self { file, sources: cli.sources.clone(), ..settings };
        settings.check_log_file()?;
        Ok(settings)
    }

    /// Settings from the text of a file only. Not public API: for tests and fuzzing.
    #[doc(hidden)]
    pub fn from_text(text: &str, is_sandbox_run: bool) -> Result<Self, ConfigError> {
        Self::check(file::parse(text, "deskbatch.toml")?, is_sandbox_run)
    }

    fn check(mut raw: SettingsArgs, is_sandbox_run: bool) -> Result<Self, ConfigError> {
        for secret in [&mut raw.secret_key, &mut raw.usersig, &mut raw.dashboard_token] {
            *secret = secret.take().filter(|secret| !secret.expose_secret().is_empty());
        }
        let database = database_path(raw.database.as_deref().unwrap_or(defaults::DATABASE))?;
        let endpoint = endpoint(&raw)?;
        let metrics_file = raw.metrics_file.as_deref();
        let settings = Self {
            metrics_file: metrics_file
                .map(|path| metrics_path(path, is_sandbox_run))
                .transpose()?,
            database: if is_sandbox_run {
                sandbox_database_path(&database)
            } else {
                database.clone()
            },
            live_database: database,
            file: None,
            sources: SettingSources::new(),
            is_sandbox_run,
            quiet: raw.quiet.unwrap_or(defaults::QUIET),
            log: raw.log.clone().unwrap_or_else(|| defaults::LOG.to_owned()),
            log_format: raw.log_format.unwrap_or_default(),
            sandbox: raw.sandbox.clone().unwrap_or_default(),
            endpoint,
            raw,
        };
        settings.check_rate()?;
        settings.check_limits()?;
        settings.check_dashboard()?;
        Ok(settings)
    }

    /// The runner's settings for `app`; with an approval it sends only the jobs that it covers.
    pub fn runner(&self, app: App, approved: Option<ApprovalId>) -> RunnerSettings {
        let raw = &self.raw;
        RunnerSettings {
            app,
            approved,
            chunk_jobs_max: raw.chunk.unwrap_or(defaults::CHUNK) as usize,
            in_flight_max: raw.max_in_flight.unwrap_or(defaults::MAX_IN_FLIGHT) as usize,
            rate: self.rate(),
            attempts_max: raw.max_attempts.unwrap_or(defaults::MAX_ATTEMPTS),
            outage_max: raw.outage_timeout.unwrap_or(defaults::OUTAGE_TIMEOUT),
            rejections_max: raw.max_rejections.unwrap_or(defaults::MAX_REJECTIONS),
            failures_max: raw.max_failures,
            grace: raw.grace_period.unwrap_or(defaults::GRACE_PERIOD),
            seed: fastrand::u64(..),
        }
    }

    /// The flags that select the same configuration file, queue and account, quoted for a shell and with
    /// a leading space; empty for the defaults.
    pub fn flags(&self) -> String {
        let sandbox = if self.is_sandbox_run { " --sandbox" } else { "" };
        format!("{}{sandbox}", self.live_flags())
    }

    /// [`Settings::flags`] for a live run.
    pub fn live_flags(&self) -> String {
        let mut flags = String::new();
        if let Some((_, file)) = self.sources.get("config") {
            push_flag(&mut flags, "config", file);
        }
        if self.live_database != Path::new(defaults::DATABASE) {
            push_flag(&mut flags, "database", &self.live_database.to_string_lossy());
        }
        for key in ["sdkappid", "identifier", "region", "endpoint", "library"] {
            // The path of an endpoint may hold a secret.
            let has_path = |url: &str| url.trim_end_matches('/').matches('/').count() > 2;
            if let Some((SettingSource::Flag, value)) = self.sources.get(key)
                && !has_path(value)
            {
                push_flag(&mut flags, key, value);
            }
        }
        flags
    }

    /// The rate limit, in requests per second.
    pub fn rate(&self) -> f64 {
        self.raw.rate.unwrap_or(defaults::RATE)
    }

    /// The most questions in a request.
    pub fn chunk(&self) -> u64 {
        u64::from(self.raw.chunk.unwrap_or(defaults::CHUNK))
    }

    /// The timeouts of a request.
    pub fn timeouts(&self) -> Timeouts {
        Timeouts {
            connect: self.raw.connect_timeout.unwrap_or(defaults::CONNECT_TIMEOUT),
            total: self.raw.timeout.unwrap_or(defaults::TIMEOUT),
        }
    }

    /// The time limit of a run, from the start of the command; `None`: unlimited.
    pub fn max_duration(&self) -> Option<Duration> {
        self.raw.max_duration
    }

    /// How long to wait for a lock that another run holds.
    pub fn lock_timeout(&self) -> Duration {
        self.raw.lock_timeout.unwrap_or(defaults::LOCK_TIMEOUT)
    }

    /// The `--on-finish` command.
    pub fn on_finish(&self) -> Option<&str> {
        self.raw.on_finish.as_deref()
    }

    /// The log file; `None`: stderr.
    pub fn log_file(&self) -> Option<&Path> {
        self.raw.log_file.as_deref()
    }

    fn check_rate(&self) -> Result<(), ConfigError> {
        let rate = self.rate();
        // Less than one request per hour is a typing error; above a million per second the spacing
        // would fall below the resolution of the clock.
        if !(1.0 / 3_600.0..=1_000_000.0).contains(&rate) {
            return Err(ConfigError(format!(
                "rate: {rate} is not a valid rate: write requests per second above 0, at most {RATE_DOCUMENTED}, e.g. 0.5"
            )));
        }
        let loopback =
            self.is_sandbox_run || self.endpoint.as_ref().is_none_or(Endpoint::is_loopback);
        if rate > RATE_DOCUMENTED && !loopback {
            return Err(ConfigError(format!(
                "rate: the service allows {RATE_DOCUMENTED} requests per second, and {rate} is allowed only to a sandbox on \
                 this host: set {RATE_DOCUMENTED} or less, or use --sandbox"
            )));
        }
        Ok(())
    }

    /// Appending the log to the queue or to the configuration file would destroy it.
    fn check_log_file(&self) -> Result<(), ConfigError> {
        let Some(log) = self.log_file() else { return Ok(()) };
        let settings = self.file.as_ref().map(|file| file.path.as_path());
        let others = [Some(self.database.as_path()), self.metrics_file.as_deref(), settings];
        if others.into_iter().flatten().any(|other| same_file(log, other)) {
            return Err(ConfigError(format!(
                "log_file: {} is the queue file, the configuration file or the metrics file: name another file",
                path_text(log)
            )));
        }
        Ok(())
    }

    fn check_limits(&self) -> Result<(), ConfigError> {
        let raw = &self.raw;
        between("chunk", raw.chunk.map(u64::from), 1, 10_000)?;
        between("max_in_flight", raw.max_in_flight.map(u64::from), 1, 64)?;
        between("max_attempts", raw.max_attempts.map(u64::from), 1, 100)?;
        within("outage_timeout", raw.outage_timeout, Duration::ZERO, 30 * DAY)?;
        within("grace_period", raw.grace_period, Duration::ZERO, HOUR)?;
        within("lock_timeout", raw.lock_timeout, Duration::ZERO, 3_650 * DAY)?;
        if raw.max_duration.is_some_and(|most| most.is_zero()) {
            return Err(ConfigError::new(
                "max_duration: 0s is too short for a run: set a longer duration, or omit it",
            ));
        }
        if raw.on_finish.as_ref().is_some_and(|command| command.trim().is_empty()) {
            return Err(ConfigError::new(
                "on_finish: the command is empty: set a command, or omit it",
            ));
        }
        let (least, most) = (Duration::from_millis(1), Duration::from_mins(10));
        within("connect_timeout", raw.connect_timeout, least, most)?;
        within("timeout", raw.timeout, least, most)?;
        within("usersig_lifetime", raw.usersig_lifetime, Duration::from_mins(10), 3_650 * DAY)
    }
}

/// Appends a flag with its value, quoted for a shell.
fn push_flag(flags: &mut String, name: &str, value: &str) {
    // A value that begins with a dash would be taken for a flag.
    let joint = if value.starts_with('-') { '=' } else { ' ' };
    let _ = write!(flags, " --{name}{joint}{}", shell_word(value));
}

/// The vendor's minimum for the lifetime of a UserSig.
const DAY: Duration = Duration::from_hours(24);

const HOUR: Duration = Duration::from_hours(1);

fn between(name: &str, value: Option<u64>, least: u64, most: u64) -> Result<(), ConfigError> {
    check_range(name, "number", value, (least, most), |number| number.to_string())
}

fn within(
    name: &str,
    value: Option<Duration>,
    least: Duration,
    most: Duration,
) -> Result<(), ConfigError> {
    check_range(name, "duration", value, (least, most), duration_text)
}

/// Fails if `value` is outside of the range; `kind` says in the error what it is.
fn check_range<T: PartialOrd + Copy>(
    name: &str,
    kind: &str,
    value: Option<T>,
    (least, most): (T, T),
    shown: impl Fn(T) -> String,
) -> Result<(), ConfigError> {
    let Some(value) = value.filter(|value| !(least..=most).contains(value)) else { return Ok(()) };
    Err(ConfigError(format!(
        "{name}: {} is not between {} and {}: set a {kind} in this range, or omit it",
        shown(value),
        shown(least),
        shown(most),
    )))
}

/// Whether `args` holds a secret.
fn has_secret(args: &SettingsArgs) -> bool {
    has_account_secret(args) || is_filled(args.dashboard_token.as_ref())
}

/// Whether `args` holds a credential of the account.
fn has_account_secret(args: &SettingsArgs) -> bool {
    is_filled(args.secret_key.as_ref()) || is_filled(args.usersig.as_ref())
}

fn is_filled(secret: Option<&SecretString>) -> bool {
    secret.is_some_and(|secret| !secret.expose_secret().is_empty())
}
