//! The settings. Each has its three names in one place: the flag, the environment variable and the key in the
//! configuration file.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::builder::BoolishValueParser;
use clap::{Args, ValueEnum};
use secrecy::SecretString;
use serde::{Deserialize, Deserializer};

use super::SandboxArgs;
use super::value_parsers::words;
use crate::desk::Region;
use crate::domain::clock::read_duration;
use crate::domain::failure_limit::FailureLimit;
use crate::domain::job::Library;

/// Every setting, by flag, environment variable and file key.
#[derive(Debug, Clone, Default, Args, Deserialize)]
#[serde(deny_unknown_fields)]
#[command(next_help_heading = "Settings")]
pub struct SettingsArgs {
    /// The queue file
    ///
    /// A path, or `sqlite:` and a path. The first import creates it, readable only by its owner. One file
    /// serves one host, so it must not be on a network drive. With --sandbox the commands use a separate file
    /// beside it.
    #[arg(help_heading = "Files")]
    #[arg(long, global = true, env = "DESKBATCH_DATABASE", value_name = "PATH")]
    pub database: Option<String>,

    /// The SDKAppID of your app
    ///
    /// The console shows it. Imported jobs belong to this app.
    #[arg(help_heading = "Account")]
    #[arg(long, global = true, env = "DESKBATCH_SDKAPPID", value_name = "NUMBER")]
    pub sdkappid: Option<u64>,

    /// The UserID of an administrator of the app
    ///
    /// At most 32 bytes of printable ASCII. Administrators are added in the console.
    #[arg(help_heading = "Account")]
    #[arg(long, global = true, env = "DESKBATCH_IDENTIFIER", value_name = "NAME")]
    pub identifier: Option<String>,

    /// The region of the app: china, singapore, seoul, tokyo, frankfurt,
    /// silicon-valley or jakarta
    ///
    /// An app is in exactly one region. Every other region rejects it (error codes 70016 and 70020).
    #[arg(help_heading = "Account")]
    #[arg(long, global = true, env = "DESKBATCH_REGION", value_name = "NAME")]
    #[arg(value_parser = words::<Region>(), ignore_case = true, hide_possible_values = true)]
    #[serde(default, deserialize_with = "word")]
    pub region: Option<Region>,

    /// A base URL to use instead of a region
    ///
    /// For a gateway of your own, or a sandbox. It must be https, except for this host (127.0.0.1 or localhost). If both a
    /// region and an endpoint are set, the source of higher precedence wins: flag, environment, file.
    #[arg(help_heading = "Account")]
    #[arg(long, global = true, env = "DESKBATCH_ENDPOINT", value_name = "URL")]
    pub endpoint: Option<String>,

    /// The library of questions: chitchat or faq
    ///
    /// The first is changed with `batch_set_chitchat`, the second with `batch_set_faq`.
    #[arg(help_heading = "Account")]
    #[arg(long, global = true, env = "DESKBATCH_LIBRARY", value_name = "NAME")]
    #[arg(value_parser = words::<Library>(), ignore_case = true, hide_possible_values = true)]
    #[serde(default, deserialize_with = "word")]
    pub library: Option<Library>,

    /// How long a generated UserSig is valid, at least 10m
    ///
    /// It is renewed after four fifths of this time.
    #[arg(help_heading = "Account")]
    #[arg(long, global = true, env = "DESKBATCH_USERSIG_LIFETIME", value_name = "DURATION")]
    #[arg(allow_hyphen_values = true, value_parser = read_duration)]
    #[serde(default, deserialize_with = "duration")]
    pub usersig_lifetime: Option<Duration>,

    /// Maximum requests per second, at most 5; more only for a sandbox on this host
    ///
    /// The service allows 5 per second for each app and library. Choose fewer to leave room for other
    /// programs that use the same app. Fractions are allowed, e.g. 0.5.
    #[arg(help_heading = "Requests")]
    #[arg(
        long,
        global = true,
        env = "DESKBATCH_RATE",
        value_name = "N",
        allow_negative_numbers = true
    )]
    pub rate: Option<f64>,

    /// Maximum questions per request, 1 to 10000
    ///
    /// The service documents no limit. A request that it rejects as too large is halved, and the accepted
    /// size is kept for later runs.
    #[arg(help_heading = "Requests")]
    #[arg(long, global = true, env = "DESKBATCH_CHUNK", value_name = "N")]
    pub chunk: Option<u32>,

    /// Maximum requests in flight, 1 to 64
    ///
    /// A run uses fewer while responses are fast.
    #[arg(help_heading = "Requests")]
    #[arg(long, global = true, env = "DESKBATCH_MAX_IN_FLIGHT", value_name = "N")]
    pub max_in_flight: Option<u32>,

    /// Maximum attempts for a chunk that fails while others succeed, 1 to 100
    ///
    /// Throttled requests do not count, and neither do requests during an outage.
    #[arg(help_heading = "Requests")]
    #[arg(long, global = true, env = "DESKBATCH_MAX_ATTEMPTS", value_name = "N")]
    pub max_attempts: Option<u32>,

    /// Timeout of a connection, up to 10m
    ///
    /// Name lookup and TLS are included.
    #[arg(help_heading = "Requests")]
    #[arg(long, global = true, env = "DESKBATCH_CONNECT_TIMEOUT", value_name = "DURATION")]
    #[arg(allow_hyphen_values = true, value_parser = read_duration)]
    #[serde(default, deserialize_with = "duration")]
    pub connect_timeout: Option<Duration>,

    /// Timeout of a request, up to 10m
    ///
    /// The service itself stops working on a request after 3 seconds.
    #[arg(help_heading = "Requests")]
    #[arg(long, global = true, env = "DESKBATCH_TIMEOUT", value_name = "DURATION")]
    #[arg(allow_hyphen_values = true, value_parser = read_duration)]
    #[serde(default, deserialize_with = "duration")]
    pub timeout: Option<Duration>,

    /// Stop after N failed jobs, or N% of the pending ones
    ///
    /// For example 20, or 2.5% of the jobs that are pending at the start. The remaining jobs stay pending,
    /// and the run ends with exit code 3.
    #[arg(help_heading = "When to stop")]
    #[arg(
        long,
        global = true,
        env = "DESKBATCH_MAX_FAILURES",
        value_name = "N",
        allow_hyphen_values = true
    )]
    pub max_failures: Option<FailureLimit>,

    /// Check that the app is alive after N consecutive rejections; 0: never
    ///
    /// Counts rejections with a code that may concern the app or the request instead of the questions. If the
    /// check fails too, the run ends and its jobs stay pending. With 0, the questions of the request
    /// fail with such a code.
    #[arg(help_heading = "When to stop")]
    #[arg(long, global = true, env = "DESKBATCH_MAX_REJECTIONS", value_name = "N")]
    pub max_rejections: Option<u32>,

    /// Stop after this long without a successful request, up to 720h
    ///
    /// With 0s the run stops at the first failed request. No job fails because of it: the remaining jobs stay
    /// pending, and the run ends with exit code 3.
    #[arg(help_heading = "When to stop")]
    #[arg(long, global = true, env = "DESKBATCH_OUTAGE_TIMEOUT", value_name = "DURATION")]
    #[arg(allow_hyphen_values = true, value_parser = read_duration)]
    #[serde(default, deserialize_with = "duration")]
    pub outage_timeout: Option<Duration>,

    /// Maximum time of a run, e.g. 90s, 45m or 2h
    ///
    /// The remaining jobs stay pending, and the run ends with exit code 3.
    #[arg(help_heading = "When to stop")]
    #[arg(long, global = true, env = "DESKBATCH_MAX_DURATION", value_name = "DURATION")]
    #[arg(allow_hyphen_values = true, value_parser = read_duration)]
    #[serde(default, deserialize_with = "duration")]
    pub max_duration: Option<Duration>,

    /// How long to wait for requests in flight after a signal, up to 1h
    ///
    /// If a response comes later, the next run sends its request again.
    #[arg(help_heading = "When to stop")]
    #[arg(long, global = true, env = "DESKBATCH_GRACE_PERIOD", value_name = "DURATION")]
    #[arg(allow_hyphen_values = true, value_parser = read_duration)]
    #[serde(default, deserialize_with = "duration")]
    pub grace_period: Option<Duration>,

    /// How long to wait for another run that holds the lock, e.g. 10m
    ///
    /// After that the command ends with exit code 5.
    #[arg(help_heading = "Scheduled runs")]
    #[arg(long, global = true, env = "DESKBATCH_LOCK_TIMEOUT", value_name = "DURATION")]
    #[arg(allow_hyphen_values = true, value_parser = read_duration)]
    #[serde(default, deserialize_with = "duration")]
    pub lock_timeout: Option<Duration>,

    /// Run COMMAND in a shell after each run
    ///
    /// It receives the summary of the run as JSON on stdin. It runs whatever the exit code of the run is.
    #[arg(help_heading = "Scheduled runs")]
    #[arg(long, global = true, env = "DESKBATCH_ON_FINISH", value_name = "COMMAND")]
    pub on_finish: Option<String>,

    /// Write the metrics of the queue to FILE, whose name ends in .prom
    ///
    /// For the textfile collector of node_exporter. FILE is written during a run and after it.
    #[arg(help_heading = "Scheduled runs")]
    #[arg(long, global = true, env = "DESKBATCH_METRICS_FILE", value_name = "FILE")]
    pub metrics_file: Option<PathBuf>,

    /// Serve the live dashboard at ADDRESS during a run
    ///
    /// For example 127.0.0.1:8048. Port 0 takes a free port.
    #[arg(help_heading = "Scheduled runs")]
    #[arg(long, global = true, env = "DESKBATCH_DASHBOARD", value_name = "ADDRESS")]
    pub dashboard: Option<String>,

    /// Print no messages on success, or if another run holds the lock
    #[arg(help_heading = "Output")]
    #[arg(long, short, global = true, env = "DESKBATCH_QUIET", value_name = "BOOL",
          num_args = 0..=1, require_equals = true, default_missing_value = "true",
          hide_possible_values = true, value_parser = BoolishValueParser::new())]
    pub quiet: Option<bool>,

    /// Log level: error, warn, info, debug or trace; or a filter
    ///
    /// A filter names modules of the program, e.g. `deskbatch::runner=debug,warn`.
    #[arg(help_heading = "Output")]
    #[arg(long, global = true, env = "DESKBATCH_LOG", value_name = "FILTER")]
    pub log: Option<String>,

    /// Log format: text or json
    ///
    /// With json and without a log file, stderr contains only JSON, one object per line. Messages and the
    /// summary of a run are events too.
    #[arg(help_heading = "Output")]
    #[arg(long, global = true, env = "DESKBATCH_LOG_FORMAT", value_name = "FORMAT")]
    #[arg(hide_possible_values = true)]
    pub log_format: Option<LogFormat>,

    /// Append the log to FILE instead of stderr
    ///
    /// The file gets the messages too, including those that --quiet suppresses. A new file is readable only
    /// by its owner.
    #[arg(help_heading = "Output")]
    #[arg(long, global = true, env = "DESKBATCH_LOG_FILE", value_name = "FILE")]
    pub log_file: Option<PathBuf>,

    /// From the environment or the file only: a flag would show in the process list.
    #[arg(skip)]
    pub secret_key: Option<SecretString>,

    /// From the environment or the file only, as above.
    #[arg(skip)]
    pub usersig: Option<SecretString>,

    /// From the environment or the file only, as above: what the dashboard asks for.
    #[arg(skip)]
    pub dashboard_token: Option<SecretString>,

    /// The table `[sandbox]` of the file.
    #[arg(skip)]
    pub sandbox: Option<SandboxArgs>,
}

/// The format of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum, Deserialize, strum::Display)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum LogFormat {
    /// Lines of text.
    #[default]
    Text,
    /// One JSON object per line, for log collectors.
    Json,
}

/// A word as the command line takes it.
pub(super) fn word<'de, D, T>(from: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr<Err = String>,
{
    let text = String::deserialize(from)?;
    text.trim().parse().map(Some).map_err(serde::de::Error::custom)
}

/// A duration in the syntax of the command line.
pub(super) fn duration<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
    let text = String::deserialize(from)?;
    read_duration(&text).map(Some).map_err(serde::de::Error::custom)
}
