//! The sandbox's settings on the command line, for `deskbatch sandbox` and for a sandbox run. Faults,
//! scripts and falls are text here; the sandbox parses them.

use clap::builder::BoolishValueParser;
use clap::parser::ValueSource;
use clap::{ArgMatches, Args, Command};
use serde::Deserialize;

use super::settings::word;
use super::value_parsers::words;
use crate::sandbox::{AdminCode, Fault, JsonCode, RateCode, UnknownIds, Window};

/// How the sandbox behaves; in the file, the table `[sandbox]`.
#[derive(Debug, Clone, Default, Args, Deserialize)]
#[serde(deny_unknown_fields)]
#[command(next_help_heading = "Sandbox")]
pub struct SandboxArgs {
    /// Faults by chance, as throttle=0.05
    ///
    /// throttle, bad-gateway, internal, cut-before, cut-after, late, truncated, garbage, malformed, unknown,
    /// unknown-2, refused or refused-applied, each with the chance that a request meets it; several by commas
    /// or repeated.
    #[arg(
        long,
        env = "DESKBATCH_SANDBOX_FAULT",
        value_name = "KIND=CHANCE",
        value_delimiter = ','
    )]
    #[serde(default)]
    pub fault: Vec<String>,

    /// Faults by script, one a request in order: ok*3,throttle,bad-gateway*2
    #[arg(long, env = "DESKBATCH_SANDBOX_SCRIPT", value_name = "STEPS")]
    pub script: Option<String>,

    /// Decides what chance brings
    #[arg(long, env = "DESKBATCH_SANDBOX_SEED", value_name = "N")]
    pub seed: Option<u64>,

    /// How long an answer takes
    #[arg(long, env = "DESKBATCH_SANDBOX_LATENCY_MS", value_name = "MS")]
    pub latency_ms: Option<u64>,

    /// The most that chance adds to it
    #[arg(long, env = "DESKBATCH_SANDBOX_JITTER_MS", value_name = "MS")]
    pub jitter_ms: Option<u64>,

    /// How long a request takes to where it is counted
    #[arg(long, env = "DESKBATCH_SANDBOX_WAY_THERE_MS", value_name = "MS")]
    pub way_there_ms: Option<u64>,

    /// The most that chance adds to it
    #[arg(long, env = "DESKBATCH_SANDBOX_WAY_THERE_JITTER_MS", value_name = "MS")]
    pub way_there_jitter_ms: Option<u64>,

    /// How late the fault `late` answers
    #[arg(long, env = "DESKBATCH_SANDBOX_LATE_MS", value_name = "MS")]
    pub late_ms: Option<u64>,

    /// Calls allowed a second; 0: no limit
    #[arg(long, env = "DESKBATCH_SANDBOX_RATE_LIMIT", value_name = "N")]
    pub rate_limit: Option<usize>,

    /// What a second is for that: sliding or fixed
    #[arg(long, env = "DESKBATCH_SANDBOX_WINDOW", value_name = "WINDOW")]
    #[arg(value_parser = words::<Window>(), hide_possible_values = true)]
    #[serde(default, deserialize_with = "word")]
    pub window: Option<Window>,

    /// Count refused calls too
    #[arg(long, env = "DESKBATCH_SANDBOX_COUNT_REFUSED", value_name = "BOOL",
          num_args = 0..=1, require_equals = true, default_missing_value = "true",
          hide_possible_values = true, value_parser = BoolishValueParser::new())]
    pub count_refused: Option<bool>,

    /// The code for too many calls: -14 or 60007
    #[arg(
        long,
        env = "DESKBATCH_SANDBOX_RATE_CODE",
        value_name = "CODE",
        allow_hyphen_values = true
    )]
    #[arg(value_parser = words::<RateCode>(), hide_possible_values = true)]
    #[serde(default, deserialize_with = "word")]
    pub rate_code: Option<RateCode>,

    /// The code for a caller that is no administrator: 60010 or -20
    #[arg(
        long,
        env = "DESKBATCH_SANDBOX_ADMIN_CODE",
        value_name = "CODE",
        allow_hyphen_values = true
    )]
    #[arg(value_parser = words::<AdminCode>(), hide_possible_values = true)]
    #[serde(default, deserialize_with = "word")]
    pub admin_code: Option<AdminCode>,

    /// The code for unreadable JSON: -7 or 60003
    #[arg(
        long,
        env = "DESKBATCH_SANDBOX_JSON_CODE",
        value_name = "CODE",
        allow_hyphen_values = true
    )]
    #[arg(value_parser = words::<JsonCode>(), hide_possible_values = true)]
    #[serde(default, deserialize_with = "word")]
    pub json_code: Option<JsonCode>,

    /// What unknown ids do to their request: refuse, partial or ok
    #[arg(long, env = "DESKBATCH_SANDBOX_UNKNOWN_IDS", value_name = "WAY")]
    #[arg(value_parser = words::<UnknownIds>(), hide_possible_values = true)]
    #[serde(default, deserialize_with = "word")]
    pub unknown_ids: Option<UnknownIds>,

    /// Answer OK when a question is deleted again
    #[arg(long, env = "DESKBATCH_SANDBOX_REPEATED_DELETE_OK", value_name = "BOOL",
          num_args = 0..=1, require_equals = true, default_missing_value = "true",
          hide_possible_values = true, value_parser = BoolishValueParser::new())]
    pub repeated_delete_ok: Option<bool>,

    /// The most ids a request; 0: no limit
    #[arg(long, env = "DESKBATCH_SANDBOX_IDS_MAX", value_name = "N")]
    pub ids_max: Option<usize>,

    /// The most ids a request later, as 60@40: at most 60 after 40 requests; several by commas
    #[arg(
        long,
        env = "DESKBATCH_SANDBOX_IDS_MAX_FALLS",
        value_name = "N@REQUESTS",
        value_delimiter = ','
    )]
    #[serde(default)]
    pub ids_max_falls: Vec<String>,

    /// The code for more ids than that, as 70206, -7 or -50003
    #[arg(
        long,
        env = "DESKBATCH_SANDBOX_TOO_MANY_CODE",
        value_name = "CODE",
        allow_hyphen_values = true
    )]
    pub too_many_code: Option<i64>,

    /// After N requests the app's Desk resource has lapsed: -50003 to everything
    #[arg(long, env = "DESKBATCH_SANDBOX_LAPSED_AFTER", value_name = "N")]
    pub lapsed_after: Option<u64>,

    /// For how long it has
    #[arg(long, env = "DESKBATCH_SANDBOX_LAPSED_FOR_MS", value_name = "MS")]
    pub lapsed_for_ms: Option<u64>,

    /// The fault that every request meets with an id in it whose last part begins with `poison`
    #[arg(long, env = "DESKBATCH_SANDBOX_POISON", value_name = "KIND")]
    #[arg(value_parser = words::<Fault>(), hide_possible_values = true)]
    #[serde(default, deserialize_with = "word")]
    pub poison: Option<Fault>,

    /// Apps that have not activated Desk; several by commas
    #[arg(
        long,
        env = "DESKBATCH_SANDBOX_DESK_OFF",
        value_name = "SDKAPPID",
        value_delimiter = ','
    )]
    #[serde(default)]
    pub desk_off: Vec<u64>,

    /// A file with the ids that exist, one a line
    #[arg(long, env = "DESKBATCH_SANDBOX_KNOWN_IDS", value_name = "FILE")]
    pub known_ids: Option<std::path::PathBuf>,

    /// Add fields that no document names to the answers
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
