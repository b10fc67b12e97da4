//! The sandbox's settings on the command line, for `deskbatch sandbox` and for a sandbox run. Faults,
//! scripts and falls are text here; the sandbox parses them.

use std::time::Duration;

use clap::builder::BoolishValueParser;
use clap::parser::ValueSource;
use clap::{ArgMatches, Args, Command};
use serde::Deserialize;

use super::settings::{duration, word};
use super::value_parsers::words;
use crate::domain::clock::read_duration;
use crate::sandbox::{AdminCode, Fault, JsonCode, RateCode, UnknownIds, Window};

/// How the sandbox behaves; in the file, the table `[sandbox]`.
#[derive(Debug, Clone, Default, Args, Deserialize)]
#[serde(deny_unknown_fields)]
#[command(next_help_heading = "Sandbox")]
pub struct SandboxArgs {
    /// Random faults, e.g. throttle=0.05
    ///
    /// Each is a fault and the probability that a request gets it; separate several by commas, or repeat the
    /// flag. The faults: throttle, bad-gateway, internal, cut-before, cut-after, late, truncated, garbage,
    /// malformed, unknown, unknown-2, rejected, rejected-applied.
    #[arg(
        long,
        env = "DESKBATCH_SANDBOX_FAULT",
        value_name = "FAULT=PROBABILITY",
        value_delimiter = ','
    )]
    #[serde(default)]
    pub fault: Vec<String>,

    /// Faults in order, one per request, e.g. ok*3,throttle,bad-gateway*2
    #[arg(long, env = "DESKBATCH_SANDBOX_SCRIPT", value_name = "STEPS")]
    pub script: Option<String>,

    /// Seed of the random numbers
    #[arg(long, env = "DESKBATCH_SANDBOX_SEED", value_name = "N")]
    pub seed: Option<u64>,

    /// Delay of every response, e.g. 300ms
    #[arg(long, env = "DESKBATCH_SANDBOX_LATENCY", value_name = "DURATION")]
    #[arg(allow_hyphen_values = true, value_parser = read_duration)]
    #[serde(default, deserialize_with = "duration")]
    pub latency: Option<Duration>,

    /// Maximum random addition to --latency
    #[arg(long, env = "DESKBATCH_SANDBOX_LATENCY_JITTER", value_name = "DURATION")]
    #[arg(allow_hyphen_values = true, value_parser = read_duration)]
    #[serde(default, deserialize_with = "duration")]
    pub latency_jitter: Option<Duration>,

    /// Delay before a request reaches the rate limit
    #[arg(long, env = "DESKBATCH_SANDBOX_REQUEST_DELAY", value_name = "DURATION")]
    #[arg(allow_hyphen_values = true, value_parser = read_duration)]
    #[serde(default, deserialize_with = "duration")]
    pub request_delay: Option<Duration>,

    /// Maximum random addition to --request-delay
    #[arg(long, env = "DESKBATCH_SANDBOX_REQUEST_DELAY_JITTER", value_name = "DURATION")]
    #[arg(allow_hyphen_values = true, value_parser = read_duration)]
    #[serde(default, deserialize_with = "duration")]
    pub request_delay_jitter: Option<Duration>,

    /// Delay of a response with the fault `late`
    #[arg(long, env = "DESKBATCH_SANDBOX_LATE_DELAY", value_name = "DURATION")]
    #[arg(allow_hyphen_values = true, value_parser = read_duration)]
    #[serde(default, deserialize_with = "duration")]
    pub late_delay: Option<Duration>,

    /// Maximum requests per second; 0: no limit
    #[arg(long, env = "DESKBATCH_SANDBOX_RATE_LIMIT", value_name = "N")]
    pub rate_limit: Option<usize>,

    /// Window of the rate limit: sliding or fixed
    #[arg(long, env = "DESKBATCH_SANDBOX_WINDOW", value_name = "WINDOW")]
    #[arg(value_parser = words::<Window>(), hide_possible_values = true)]
    #[serde(default, deserialize_with = "word")]
    pub window: Option<Window>,

    /// Count throttled requests towards the rate limit too
    #[arg(long, env = "DESKBATCH_SANDBOX_COUNT_THROTTLED", value_name = "BOOL",
          num_args = 0..=1, require_equals = true, default_missing_value = "true",
          hide_possible_values = true, value_parser = BoolishValueParser::new())]
    pub count_throttled: Option<bool>,

    /// Error code of throttled requests: -14 or 60007
    #[arg(
        long,
        env = "DESKBATCH_SANDBOX_RATE_CODE",
        value_name = "CODE",
        allow_hyphen_values = true
    )]
    #[arg(value_parser = words::<RateCode>(), hide_possible_values = true)]
    #[serde(default, deserialize_with = "word")]
    pub rate_code: Option<RateCode>,

    /// Error code of a caller that is not an administrator: 60010 or -20
    #[arg(
        long,
        env = "DESKBATCH_SANDBOX_ADMIN_CODE",
        value_name = "CODE",
        allow_hyphen_values = true
    )]
    #[arg(value_parser = words::<AdminCode>(), hide_possible_values = true)]
    #[serde(default, deserialize_with = "word")]
    pub admin_code: Option<AdminCode>,

    /// Error code of invalid JSON: -7 or 60003
    #[arg(
        long,
        env = "DESKBATCH_SANDBOX_JSON_CODE",
        value_name = "CODE",
        allow_hyphen_values = true
    )]
    #[arg(value_parser = words::<JsonCode>(), hide_possible_values = true)]
    #[serde(default, deserialize_with = "word")]
    pub json_code: Option<JsonCode>,

    /// Effect of an unknown id on its request: reject, partial or ok
    #[arg(long, env = "DESKBATCH_SANDBOX_UNKNOWN_IDS", value_name = "EFFECT")]
    #[arg(value_parser = words::<UnknownIds>(), hide_possible_values = true)]
    #[serde(default, deserialize_with = "word")]
    pub unknown_ids: Option<UnknownIds>,

    /// Respond with OK when a deleted question is deleted again
    #[arg(long, env = "DESKBATCH_SANDBOX_REPEATED_DELETE_OK", value_name = "BOOL",
          num_args = 0..=1, require_equals = true, default_missing_value = "true",
          hide_possible_values = true, value_parser = BoolishValueParser::new())]
    pub repeated_delete_ok: Option<bool>,

    /// Maximum ids per request; 0: no limit
    #[arg(long, env = "DESKBATCH_SANDBOX_MAX_IDS", value_name = "N")]
    pub max_ids: Option<usize>,

    /// Lower the maximum ids later, e.g. 60@40: to 60 after 40 requests; separate several by commas
    #[arg(
        long,
        env = "DESKBATCH_SANDBOX_MAX_IDS_AFTER",
        value_name = "N@REQUESTS",
        value_delimiter = ','
    )]
    #[serde(default)]
    pub max_ids_after: Vec<String>,

    /// Error code of a request with too many ids, e.g. 70206, -7 or -50003
    #[arg(
        long,
        env = "DESKBATCH_SANDBOX_TOO_MANY_CODE",
        value_name = "CODE",
        allow_hyphen_values = true
    )]
    pub too_many_code: Option<i64>,

    /// Let the Desk resource of the app expire after N requests: every response is -50003
    #[arg(long, env = "DESKBATCH_SANDBOX_EXPIRED_AFTER", value_name = "N")]
    pub expired_after: Option<u64>,

    /// How long the Desk resource stays expired
    #[arg(long, env = "DESKBATCH_SANDBOX_EXPIRED_FOR", value_name = "DURATION")]
    #[arg(allow_hyphen_values = true, value_parser = read_duration)]
    #[serde(default, deserialize_with = "duration")]
    pub expired_for: Option<Duration>,

    /// Fault of every request with an id whose last part begins with `poison`
    #[arg(long, env = "DESKBATCH_SANDBOX_POISON", value_name = "FAULT")]
    #[arg(value_parser = words::<Fault>(), hide_possible_values = true)]
    #[serde(default, deserialize_with = "word")]
    pub poison: Option<Fault>,

    /// Apps without Desk; separate several by commas
    #[arg(
        long,
        env = "DESKBATCH_SANDBOX_DESK_OFF",
        value_name = "SDKAPPID",
        value_delimiter = ','
    )]
    #[serde(default)]
    pub desk_off: Vec<u64>,

    /// File with the ids that exist, one per line
    #[arg(long, env = "DESKBATCH_SANDBOX_KNOWN_IDS", value_name = "FILE")]
    pub known_ids: Option<std::path::PathBuf>,

    /// Add undocumented fields to the responses
    #[arg(long, env = "DESKBATCH_SANDBOX_EXTRA_FIELDS", value_name = "BOOL",
          num_args = 0..=1, require_equals = true, default_missing_value = "true",
          hide_possible_values = true, value_parser = BoolishValueParser::new())]
    pub extra_fields: Option<bool>,
}

/// The first flag of [`SandboxArgs`] on the command line of `run`. Variables do not count: they may
/// be set in a shell profile.
pub(super) fn first_sandbox_flag(matches: &ArgMatches) -> Option<String> {
    let run = matches.subcommand_matches("run")?;
    let flags = SandboxArgs::augment_args(Command::new("run"));
    let given = |id: &str| run.value_source(id) == Some(ValueSource::CommandLine);
    flags
        .get_arguments()
        .find(|flag| given(flag.get_id().as_str()))
        .and_then(|flag| flag.get_long().map(|name| format!("--{name}")))
}
