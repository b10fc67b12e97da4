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
    /// A path, or `sqlite:` and a path. It is made by the first import, for you alone. One file serves one machine, so it must not
    /// lie on a network drive. With --sandbox it is the rehearsal's own file beside it.
    #[arg(help_heading = "Files")]
    #[arg(long, global = true, env = "DESKBATCH_DATABASE", value_name = "PATH")]
    pub database: Option<String>,

    /// The number of your application
    ///
    /// The SDKAppID, as the console shows it. Imported jobs belong to it.
    #[arg(help_heading = "Account")]
    #[arg(long, global = true, env = "DESKBATCH_SDKAPPID", value_name = "NUMBER")]
    pub sdkappid: Option<u64>,

    /// An App administrator account of it
    ///
    /// At most 32 bytes of printable ASCII. It is set in the console, under the application.
    #[arg(help_heading = "Account")]
    #[arg(long, global = true, env = "DESKBATCH_IDENTIFIER", value_name = "NAME")]
    pub identifier: Option<String>,

    /// Where the application lives: china, singapore, seoul, tokyo, frankfurt,
    /// silicon-valley or jakarta
    ///
    /// An application lives in exactly one; in another the service knows neither it nor its key
    /// (70016, 70020).
    #[arg(help_heading = "Account")]
    #[arg(long, global = true, env = "DESKBATCH_REGION", value_name = "NAME")]
    #[arg(value_parser = words::<Region>(), ignore_case = true, hide_possible_values = true)]
    #[serde(default, deserialize_with = "word")]
    pub region: Option<Region>,

    /// A base URL instead of a region
    ///
    /// For a gateway of your own, or a sandbox. It must be https, other than toward this machine.
    /// Given nearer than a region it takes its place: a flag before the environment, that before
    /// the file.
    #[arg(help_heading = "Account")]
    #[arg(long, global = true, env = "DESKBATCH_ENDPOINT", value_name = "URL")]
    pub endpoint: Option<String>,

    /// The library of questions: chitchat or faq
    ///
    /// Each has its own call: `batch_set_chitchat` and `batch_set_faq`.
    #[arg(help_heading = "Account")]
    #[arg(long, global = true, env = "DESKBATCH_LIBRARY", value_name = "NAME")]
    #[arg(value_parser = words::<Library>(), ignore_case = true, hide_possible_values = true)]
    #[serde(default, deserialize_with = "word")]
    pub library: Option<Library>,

    /// Requests a second; above 5 only to this machine
    ///
    /// The service allows 5 for each application and call. Fewer leave room for other programs
    /// that use the same application; parts are possible, as 0.5.
    #[arg(help_heading = "Pace")]
    #[arg(
        long,
        global = true,
        env = "DESKBATCH_RATE",
        value_name = "N",
        allow_negative_numbers = true
    )]
    pub rate: Option<f64>,

    /// Questions a request, 1 to 10000
    ///
    /// The service names no limit; a request that is too large for it is halved and the size
    /// remembered.
    #[arg(help_heading = "Pace")]
    #[arg(long, global = true, env = "DESKBATCH_CHUNK", value_name = "N")]
    pub chunk: Option<u32>,

    /// The most requests in flight, 1 to 64; fewer while answers are quick
    #[arg(help_heading = "Pace")]
    #[arg(long, global = true, env = "DESKBATCH_IN_FLIGHT", value_name = "N")]
    pub in_flight: Option<u32>,

    /// Tries of a chunk that meets trouble while others get through, 1 to 100
    ///
    /// "Too fast" never counts, and neither does an outage, in which nothing gets through.
    #[arg(help_heading = "Limits")]
    #[arg(long, global = true, env = "DESKBATCH_ATTEMPTS", value_name = "N")]
    pub attempts: Option<u32>,

    /// Look whether the app is alive after N rejections in a row; 0: never
    ///
    /// Of rejections by codes that may be about the app or about the call, with nothing applied between
    /// them. With 0 each such code is about the question that it is given for.
    #[arg(help_heading = "Limits")]
    #[arg(long, global = true, env = "DESKBATCH_REJECTIONS_MAX", value_name = "N")]
    pub rejections_max: Option<u32>,

    /// Stop when N jobs, or N% of the open ones, have failed
    ///
    /// As 20, or 2.5% of those that are open at the start. What is left stays pending, and the run ends with 3.
    #[arg(help_heading = "Limits")]
    #[arg(
        long,
        global = true,
        env = "DESKBATCH_MAX_FAILURES",
        value_name = "N",
        allow_hyphen_values = true
    )]
    pub max_failures: Option<FailureLimit>,

    /// Stop when nothing has got through for so long
    ///
    /// In seconds, up to 30 days; 0 gives up at the first failure. Nothing fails by it: what is left stays
    /// pending, and the run ends with 3.
    #[arg(help_heading = "Limits")]
    #[arg(long, global = true, env = "DESKBATCH_OUTAGE_S", value_name = "SECONDS")]
    pub outage_s: Option<u64>,

    /// Wait so long for requests in flight when asked to stop
    ///
    /// In seconds, up to 3600. What is out longer is sent again by the next run.
    #[arg(help_heading = "Limits")]
    #[arg(long, global = true, env = "DESKBATCH_GRACE_S", value_name = "SECONDS")]
    pub grace_s: Option<u64>,

    /// Stop after so long with what is left pending, as 90s, 45m or 2h
    #[arg(help_heading = "Cron")]
    #[arg(long, global = true, env = "DESKBATCH_MAX_DURATION", value_name = "DURATION", allow_hyphen_values = true,
          value_parser = read_duration)]
    #[serde(default, deserialize_with = "duration")]
    pub max_duration: Option<Duration>,

    /// Wait so long for a run that has the queue to end, as 30s or 10m
    #[arg(help_heading = "Cron")]
    #[arg(long, global = true, env = "DESKBATCH_WAIT", value_name = "DURATION", allow_hyphen_values = true,
          value_parser = read_duration)]
    #[serde(default, deserialize_with = "duration")]
    pub wait: Option<Duration>,

    /// Run COMMAND in a shell when a run has ended; its stdin is the summary as JSON
    #[arg(help_heading = "Cron")]
    #[arg(long, global = true, env = "DESKBATCH_ON_FINISH", value_name = "COMMAND")]
    pub on_finish: Option<String>,

    /// Keep the queue's metrics in FILE while a run goes on and after it, for the node
    /// exporter; it ends in .prom
    #[arg(help_heading = "Cron")]
    #[arg(long, global = true, env = "DESKBATCH_METRICS_FILE", value_name = "FILE")]
    pub metrics_file: Option<PathBuf>,

    /// Wait so long for a connection
    ///
    /// In milliseconds, up to 600000; name lookup and TLS included.
    #[arg(help_heading = "Limits")]
    #[arg(long, global = true, env = "DESKBATCH_CONNECT_TIMEOUT_MS", value_name = "MS")]
    pub connect_timeout_ms: Option<u64>,

    /// Wait so long for a whole answer
    ///
    /// In milliseconds, up to 600000. The service itself gives up after 3 s.
    #[arg(help_heading = "Limits")]
    #[arg(long, global = true, env = "DESKBATCH_TIMEOUT_MS", value_name = "MS")]
    pub timeout_ms: Option<u64>,

    /// How long a UserSig made from the key is good for, from 600
    ///
    /// In seconds. It is made anew once four fifths of it are over.
    #[arg(help_heading = "Account")]
    #[arg(long, global = true, env = "DESKBATCH_USERSIG_LIFETIME_S", value_name = "SECONDS")]
    pub usersig_lifetime_s: Option<u64>,

    /// Say nothing when all is well, for cron
    #[arg(help_heading = "Output")]
    #[arg(long, short, global = true, env = "DESKBATCH_QUIET", value_name = "BOOL",
          num_args = 0..=1, require_equals = true, default_missing_value = "true",
          hide_possible_values = true, value_parser = BoolishValueParser::new())]
    pub quiet: Option<bool>,

    /// What to log: error, warn, info, debug, trace, or a filter
    ///
    /// To stderr. A filter names parts of the program, as `deskbatch::runner=debug,warn`.
    #[arg(help_heading = "Log")]
    #[arg(long, global = true, env = "DESKBATCH_LOG", value_name = "FILTER")]
    pub log: Option<String>,

    /// How to log: text, or json for collectors
    ///
    /// With json and without a log file, stderr has JSON alone: a message is an event like
    /// others, and so is the end of a run, with its figures.
    #[arg(help_heading = "Log")]
    #[arg(long, global = true, env = "DESKBATCH_LOG_FORMAT", value_name = "FORMAT")]
    pub log_format: Option<LogFormat>,

    /// Append the log to FILE instead of stderr, which then has the messages alone
    ///
    /// The messages are in the file too, also where --quiet keeps them from stderr. A new file is
    /// for you alone.
    #[arg(help_heading = "Log")]
    #[arg(long, global = true, env = "DESKBATCH_LOG_FILE", value_name = "FILE")]
    pub log_file: Option<PathBuf>,

    /// Serve the page of the queue, live, while a run goes on; port 0 takes a free one
    #[arg(long, global = true, env = "DESKBATCH_DASHBOARD", value_name = "ADDRESS")]
    pub dashboard: Option<String>,

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

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum, Deserialize, strum::Display)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line, for collectors.
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
fn duration<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
    let text = String::deserialize(from)?;
    read_duration(&text).map(Some).map_err(serde::de::Error::custom)
}
