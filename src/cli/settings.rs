//! The settings' arguments: each with its three names in one place, the flag, the environment
//! variable and the key in the file.

use clap::builder::BoolishValueParser;
use clap::{Args, ValueEnum};
use secrecy::SecretString;
use serde::Deserialize;

use super::SandboxArgs;
use crate::job::Library;
use crate::runner::FailuresMax;

/// Every setting, by flag, environment variable and file key.
#[derive(Debug, Clone, Default, Args, Deserialize)]
#[serde(deny_unknown_fields)]
#[command(next_help_heading = "Settings")]
pub struct SettingsArgs {
    /// The queue file: a path, or `sqlite:` and a path [default: deskbatch.db]
    #[arg(long, global = true, env = "DESKBATCH_DATABASE", value_name = "PATH")]
    pub database: Option<String>,

    /// The number of your application
    #[arg(long, global = true, env = "DESKBATCH_SDKAPPID", value_name = "NUMBER")]
    pub sdkappid: Option<u64>,

    /// An App administrator account of it
    #[arg(long, global = true, env = "DESKBATCH_IDENTIFIER", value_name = "NAME")]
    pub identifier: Option<String>,

    /// Where the application lives: china, singapore, seoul, tokyo, frankfurt,
    /// silicon-valley or jakarta
    #[arg(long, global = true, env = "DESKBATCH_REGION", value_name = "NAME")]
    pub region: Option<String>,

    /// A base URL instead of a region
    #[arg(long, global = true, env = "DESKBATCH_ENDPOINT", value_name = "URL")]
    pub endpoint: Option<String>,

    /// The library of questions: chitchat or faq [default: chitchat]
    #[arg(long, global = true, env = "DESKBATCH_LIBRARY", value_name = "NAME")]
    pub library: Option<Library>,

    /// Requests a second; above 5 only toward this machine [default: 5]
    #[arg(long, global = true, env = "DESKBATCH_RATE", value_name = "N")]
    pub rate: Option<f64>,

    /// Questions a request, 1 to 10000 [default: 100]
    #[arg(long, global = true, env = "DESKBATCH_CHUNK", value_name = "N")]
    pub chunk: Option<u32>,

    /// The most requests in flight, 1 to 64; fewer while answers are quick [default: 32]
    #[arg(long, global = true, env = "DESKBATCH_IN_FLIGHT", value_name = "N")]
    pub in_flight: Option<u32>,

    /// Tries of a chunk that meets trouble while others get through, 1 to 100 [default: 6]
    #[arg(long, global = true, env = "DESKBATCH_ATTEMPTS", value_name = "N")]
    pub attempts: Option<u32>,

    /// The same unknown code so often in a row stops the run; 0: never [default: 5]
    #[arg(long, global = true, env = "DESKBATCH_UNKNOWN_MAX", value_name = "N")]
    pub unknown_max: Option<u32>,

    /// Stop when so many jobs have failed: N, or N% of those open at the start [default: none]
    #[arg(long, global = true, env = "DESKBATCH_MAX_FAILURES", value_name = "N")]
    pub max_failures: Option<FailuresMax>,

    /// Stop when nothing has got through for so long [default: 600]
    #[arg(long, global = true, env = "DESKBATCH_OUTAGE_S", value_name = "SECONDS")]
    pub outage_s: Option<u64>,

    /// Wait so long for requests in flight when asked to stop [default: 10]
    #[arg(long, global = true, env = "DESKBATCH_GRACE_S", value_name = "SECONDS")]
    pub grace_s: Option<u64>,

    /// Wait so long for a connection [default: 3000]
    #[arg(long, global = true, env = "DESKBATCH_CONNECT_TIMEOUT_MS", value_name = "MS")]
    pub connect_timeout_ms: Option<u64>,

    /// Wait so long for a whole answer [default: 10000]
    #[arg(long, global = true, env = "DESKBATCH_TIMEOUT_MS", value_name = "MS")]
    pub timeout_ms: Option<u64>,

    /// How long a UserSig made from the key is good for, from 600 [default: 86400]
    #[arg(long, global = true, env = "DESKBATCH_USERSIG_LIFETIME_S", value_name = "SECONDS")]
    pub usersig_lifetime_s: Option<u64>,

    /// Say nothing when all is well, for cron
    #[arg(long, short, global = true, env = "DESKBATCH_QUIET", value_name = "BOOL",
          num_args = 0..=1, require_equals = true, default_missing_value = "true",
          hide_possible_values = true, value_parser = BoolishValueParser::new())]
    pub quiet: Option<bool>,

    /// What to log: error, warn, info, debug, trace, or a filter [default: warn]
    #[arg(long, global = true, env = "DESKBATCH_LOG", value_name = "FILTER")]
    pub log: Option<String>,

    /// How to log
    #[arg(long, global = true, env = "DESKBATCH_LOG_FORMAT", value_name = "FORMAT")]
    pub log_format: Option<LogFormat>,

    /// Serve the page of the queue, live, while a run goes on; port 0 takes a free one [default: none]
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line, for collectors.
    Json,
}
