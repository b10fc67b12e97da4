//! The command line, as clap structures. Checks of values and of their combinations are in
//! `config/`.

mod defaults;
mod env_errors;
mod examples;
mod help;
mod pages;
mod plan;
mod queue;
mod report;
mod sandbox;
mod settings;
mod setup;
mod value_parsers;

use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::{Args, FromArgMatches as _, Parser, Subcommand};

pub use defaults::{
    SANDBOX_TABLE, Setting, SettingSource, SettingSources, VARIABLE_PREFIX, settings,
};
pub use help::{command, settings_page};
pub use pages::{ManPage, completions, man_pages};
pub use plan::{PlanArgs, all_line, plan_line, run_line};
pub use queue::{CancelArgs, PruneArgs, RetryArgs};
pub use report::{DashboardArgs, ReportArgs, ReportFilter, ReportFormat};
pub use sandbox::SandboxArgs;
pub use settings::{LogFormat, SettingsArgs};
pub use setup::{
    CompletionsArgs, ConfigArgs, ConfigCommand, ConfigShowArgs, DoctorArgs, InitArgs, ManArgs,
};

use crate::domain::job::TargetStatus;
use crate::manifest::OnConflict;
use value_parsers::words;

/// Enables, disables or deletes Tencent Cloud Desk chatbot questions in bulk, within the
/// rate limit of the service.
#[derive(Debug, Parser)]
#[command(name = "deskbatch", version, propagate_version = true, max_term_width = 100)]
pub struct Cli {
    /// The configuration file
    ///
    /// The default file is optional; a named one must exist. If it holds a secret, no other user may
    /// have read access (chmod 600).
    #[arg(help_heading = "Files")]
    #[arg(long, global = true, env = "DESKBATCH_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Use a local sandbox instead of the service, with a separate queue
    ///
    /// `run` starts a sandbox of the service on this host and sends only to it; no account is needed. With
    /// this flag every command uses the queue deskbatch.sandbox.db instead of deskbatch.db.
    #[arg(long, global = true)]
    pub sandbox: bool,

    #[command(flatten)]
    pub settings: SettingsArgs,

    #[command(subcommand)]
    pub command: Command,

    /// The settings given by flags and variables.
    #[arg(skip)]
    pub sources: SettingSources,
}

impl Cli {
    /// Reads the command line.
    ///
    /// # Errors
    /// On an invalid command line; `--help` and `--version` too are errors of clap, see
    /// [`clap::Error::use_stderr`].
    pub fn read() -> Result<Self, clap::Error> {
        if let Some(cli) = Self::read_without_settings() {
            return Ok(cli);
        }
        let mut command = help::without_empty_variables(command());
        let matches = command
            .try_get_matches_from_mut(std::env::args_os())
            .map_err(|e| env_errors::explain(&command, e))?;
        let mut cli = Self::from_arg_matches(&matches)?;
        cli.sources = defaults::sources(&matches);
        if !cli.sandbox
            && let Some(flag) = sandbox::first_sandbox_flag(&matches)
        {
            // A fault flag without --sandbox would otherwise run against the live service.
            let text =
                format!("{flag} is a flag of the sandbox: add --sandbox, or leave the flag out");
            return Err(command.error(ErrorKind::MissingRequiredArgument, text));
        }
        Ok(cli)
    }

    /// Reads a command that needs no settings without the environment, so that an invalid variable
    /// cannot stop it.
    fn read_without_settings() -> Option<Self> {
        let needs_none =
            |word: std::ffi::OsString| WITHOUT_SETTINGS.iter().any(|command| word == *command);
        if !std::env::args_os().skip(1).any(needs_none) {
            return None;
        }
        let mut command = help::without_variables(command());
        let matches = command.try_get_matches_from_mut(std::env::args_os()).ok()?;
        let mut cli = Self::from_arg_matches(&matches).ok()?;
        cli.sources = defaults::sources(&matches);
        cli.command.needs_no_settings().then_some(cli)
    }
}

/// The commands that need no settings.
const WITHOUT_SETTINGS: [&str; 5] = ["init", "explain", "completions", "man", "settings"];

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Import FILE (if given) and send all pending jobs
    Run(RunArgs),
    /// Show what `run` would do, without sending anything
    ///
    /// The last line of the output is the `run` command that executes exactly this plan. Its digest also
    /// confirms the deletions.
    Plan(PlanArgs),
    /// Import FILE into the queue without sending anything
    Import(ImportArgs),
    /// Show the counts of the queue, the rate and the ETA
    Status(StatusArgs),
    /// Export the outcome of every job as CSV, JSON or HTML
    Report(ReportArgs),
    /// Serve a live dashboard of the queue on this host
    ///
    /// It is read-only and sends nothing to the service.
    Dashboard(DashboardArgs),
    /// Set failed jobs back to pending
    ///
    /// Their deletions need a new confirmation: the next run asks for it, and a run in progress leaves them
    /// pending.
    Retry(RetryArgs),
    /// Cancel the pending jobs of a batch
    Cancel(CancelArgs),
    /// Delete the jobs of old finished batches from the queue
    ///
    /// Their manifests stay known: importing one again needs --reimport.
    Prune(PruneArgs),
    /// Create a commented configuration file
    ///
    /// On a terminal it asks for the settings that an account needs. Otherwise they come from flags, and
    /// missing ones are listed. The file is readable only by its owner. An existing file is never
    /// overwritten.
    Init(InitArgs),
    /// Show the effective settings
    Config(ConfigArgs),
    /// Check settings, credentials, clock, network, queue and disk
    ///
    /// Prints one line per check, and how to fix what is wrong. It sends no request to the API and no
    /// credentials.
    Doctor(DoctorArgs),
    /// Explain an error code of the service and what to do about it
    Explain(ExplainArgs),
    /// Generate a UserSig from the secret key and print it
    Usersig(UsersigArgs),
    /// Serve the API on this host, with faults on demand
    Sandbox(SandboxCommandArgs),
    /// Generate the completion script of a shell
    Completions(CompletionsArgs),
    /// Generate man pages
    Man(ManArgs),
    /// Every setting, with its flag, environment variable and configuration key
    ///
    /// A flag has precedence over the environment variable, and the variable over the configuration file.
    /// The secrets have no flag: they are the variables `DESKBATCH_SECRET_KEY`, `DESKBATCH_USERSIG` and
    /// `DESKBATCH_DASHBOARD_TOKEN`, or `secret_key`, `usersig` and `dashboard_token` in a configuration file that
    /// only its owner can read.
    #[command(hide = true, override_usage = "deskbatch COMMAND [OPTIONS]")]
    Settings(SettingsTopicArgs),
}

impl Command {
    /// Whether the command works with any settings, invalid ones included.
    pub fn needs_no_settings(&self) -> bool {
        matches!(
            self,
            Self::Init(_)
                | Self::Explain(_)
                | Self::Completions(_)
                | Self::Man(_)
                | Self::Settings(_)
        )
    }
}

/// How a manifest is read.
#[allow(clippy::struct_excessive_bools, reason = "flags of their own, in any combination")]
#[derive(Debug, Clone, Args)]
pub struct ManifestArgs {
    /// Target status of all rows: enable, disable, delete, or 4, 5, 6
    ///
    /// It replaces the column `status`, which is optional then. A warning tells how many rows have
    /// another status; with `delete` they need --override-status.
    #[arg(long, value_name = "STATUS", requires = "file")]
    #[arg(value_parser = words::<TargetStatus>(), ignore_case = true, hide_possible_values = true)]
    pub status: Option<TargetStatus>,

    /// Let `--status delete` replace another status of a row
    #[arg(long, requires = "status", hide_short_help = true)]
    pub override_status: bool,

    /// Skip invalid rows and write them to FILE, with the reason
    ///
    /// Without this flag an invalid row aborts the import. FILE is written when the valid rows are
    /// imported. An existing FILE is replaced only if it is an unchanged rejects file of an earlier import.
    #[arg(long, value_name = "FILE", requires = "file")]
    pub rejects: Option<PathBuf>,

    /// Replace the file of --rejects whatever it contains
    #[arg(long, requires = "rejects", hide_short_help = true)]
    pub overwrite: bool,

    /// Import FILE again, even if it was imported before
    ///
    /// Without this flag the run resumes the pending jobs of the earlier import.
    #[arg(long, requires = "file")]
    pub reimport: bool,

    /// The separator of the columns; `tab` for a tab [default: detected from the header]
    #[arg(long, value_name = "CHAR", requires = "file", hide_short_help = true)]
    pub delimiter: Option<String>,

    /// Which row wins if an id has two target statuses: first or last
    ///
    /// Without this flag such an id aborts the import.
    #[arg(long, value_name = "WHICH", requires = "file", hide_short_help = true)]
    #[arg(value_parser = words::<OnConflict>(), ignore_case = true, hide_possible_values = true)]
    pub on_conflict: Option<OnConflict>,

    /// Import a manifest whose ids all begin with another SDKAppID
    ///
    /// Without this flag such a manifest is not imported, since it probably belongs to another app.
    #[arg(long, requires = "file", hide_short_help = true)]
    pub allow_foreign_ids: bool,

    /// Name of the batch [default: the name of FILE]
    #[arg(long, value_name = "NAME", requires = "file", hide_short_help = true)]
    pub name: Option<String>,
}

#[derive(Debug, Args)]
pub struct RunArgs {
    /// The manifest: a CSV file, which may be gzipped; `-` is stdin
    pub file: Option<PathBuf>,

    /// Delete without asking for confirmation
    #[arg(long, short)]
    pub yes: bool,

    /// Do the same as `deskbatch plan`: send nothing
    #[arg(long, conflicts_with_all = ["plan", "yes"])]
    pub dry_run: bool,

    /// Execute the plan with this digest, and nothing else
    ///
    /// `deskbatch plan` prints the digest. It also confirms the deletions of the plan. If anything has
    /// changed since, the run ends with exit code 2, and nothing is imported or sent.
    #[arg(long, value_name = "DIGEST")]
    pub plan: Option<String>,

    /// Confirm that the new endpoint belongs to the same service as before
    ///
    /// A queue sends the jobs of an app to one service. Without this flag a run with another endpoint ends
    /// with exit code 2, and nothing is imported or sent.
    #[arg(long, hide_short_help = true)]
    pub same_service: bool,

    /// How FILE is read.
    #[command(flatten)]
    pub manifest: ManifestArgs,

    /// How the sandbox behaves.
    #[command(flatten)]
    pub sandbox: SandboxArgs,
}

#[derive(Debug, Args)]
pub struct ImportArgs {
    /// The manifest: a CSV file, which may be gzipped; `-` is stdin
    pub file: PathBuf,

    /// How FILE is read.
    #[command(flatten)]
    pub manifest: ManifestArgs,
}

#[derive(Debug, Args)]
pub struct StatusArgs {
    /// Follow a run of another process on this host until it ends
    ///
    /// The rate limit that it shows is its own --rate, which may differ from that of the run.
    #[arg(long, short)]
    pub watch: bool,

    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// The error code; without it, all codes are listed
    #[arg(allow_negative_numbers = true)]
    pub code: Option<i64>,
}

#[derive(Debug, Args)]
pub struct UsersigArgs {}

/// The page of the settings: `deskbatch help settings`.
#[derive(Debug, Args)]
pub struct SettingsTopicArgs {}

#[derive(Debug, Args)]
pub struct SandboxCommandArgs {
    /// Address to listen on, on this host only; port 0 takes a free port
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8047")]
    pub addr: std::net::SocketAddr,

    /// How it behaves.
    #[command(flatten)]
    pub behaviour: SandboxArgs,
}
