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
pub use help::command;
pub use pages::{ManPage, completions, man_pages};
pub use plan::{PlanArgs, all_line, run_line};
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

/// Changes the live status of Tencent Cloud Desk chatbot questions, many thousands at a
/// time, never faster than the service allows.
#[derive(Debug, Parser)]
#[command(name = "deskbatch", version, propagate_version = true, max_term_width = 100)]
pub struct Cli {
    /// The settings' file
    ///
    /// The default one need not be there; one that is named has to be. With a secret in it, it
    /// must be yours alone: chmod 600.
    #[arg(help_heading = "Files")]
    #[arg(long, global = true, env = "DESKBATCH_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Rehearse against a sandbox, on a queue of its own
    ///
    /// `run` starts a sandbox of the service on this machine and sends to it alone; no account is
    /// needed. The rehearsal's queue is deskbatch.sandbox.db beside deskbatch.db, and every
    /// command works on that one with this flag.
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
            let text = format!("{flag} shapes a rehearsal: add --sandbox, or leave it out");
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
const WITHOUT_SETTINGS: [&str; 4] = ["init", "explain", "completions", "man"];

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Import FILE if given, then drain the queue: the main job
    Run(RunArgs),
    /// Show what `run` would do; sends nothing
    ///
    /// Its last line is the run that does it: with the digest that approves it, and nothing else.
    Plan(PlanArgs),
    /// Put a manifest into the queue; sends nothing
    Import(ImportArgs),
    /// Show the queue in figures
    Status(StatusArgs),
    /// Write outcomes as CSV, JSON or a page for people
    Report(ReportArgs),
    /// Serve the page of the queue, live, on this machine; sends nothing to the service
    Dashboard(DashboardArgs),
    /// Take failed jobs back to pending
    ///
    /// What it takes back is approved by no plan and no yes that was given before: the next run asks
    /// about deletes among it, and a run that goes on leaves them pending.
    Retry(RetryArgs),
    /// Cancel the pending jobs of a batch
    Cancel(CancelArgs),
    /// Drop the jobs of old finished batches; their manifests stay known
    Prune(PruneArgs),
    /// Write a settings' file with comments, asking for what it needs
    ///
    /// Only on a terminal is anything asked; elsewhere flags say it, and what is still missing is
    /// named. The file is for its owner alone. One that is there is never overwritten.
    Init(InitArgs),
    /// Show the settings in effect
    Config(ConfigArgs),
    /// Check settings, key, clock, network, queue and disk
    ///
    /// A line for each, with what to do where it is not well. Makes no call of the API and sends no
    /// credential.
    Doctor(DoctorArgs),
    /// Say what an error code means and what to do
    Explain(ExplainArgs),
    /// Make a UserSig from the secret key and print it
    Usersig(UsersigArgs),
    /// Serve the API on this machine, with faults on demand
    Sandbox(SandboxCommandArgs),
    /// Write the script by which a shell completes the command line
    Completions(CompletionsArgs),
    /// Write man pages
    Man(ManArgs),
}

impl Command {
    /// Whether the command works with any settings, invalid ones included.
    pub fn needs_no_settings(&self) -> bool {
        matches!(self, Self::Init(_) | Self::Explain(_) | Self::Completions(_) | Self::Man(_))
    }
}

/// How a manifest is read.
#[allow(clippy::struct_excessive_bools, reason = "flags of their own, in any combination")]
#[derive(Debug, Clone, Args)]
pub struct ManifestArgs {
    /// One status for all rows: 4, 5, 6 or enable, disable, delete
    ///
    /// Instead of the column `status`, which the manifest need not have then. Rows whose own
    /// status is another one are counted; `delete` for such rows needs --override-status.
    #[arg(long, value_name = "STATUS", requires = "file")]
    #[arg(value_parser = words::<TargetStatus>(), ignore_case = true, hide_possible_values = true)]
    pub status: Option<TargetStatus>,

    /// Let `--status delete` delete rows whose own status is another one
    #[arg(long, requires = "status", hide_short_help = true)]
    pub override_status: bool,

    /// The character between two fields; `tab` for a tab [default: found in the header line]
    #[arg(long, value_name = "CHAR", requires = "file", hide_short_help = true)]
    pub delimiter: Option<String>,

    /// Which row decides when one id comes with two statuses: first or last
    #[arg(long, value_name = "WHICH", requires = "file", hide_short_help = true)]
    #[arg(value_parser = words::<OnConflict>(), ignore_case = true, hide_possible_values = true)]
    pub on_conflict: Option<OnConflict>,

    /// Leave out bad rows; write them to FILE, with reasons
    ///
    /// Without it a bad row stops the import, and nothing is imported. FILE is written when the
    /// rest is imported; only unchanged rejects of an earlier import are replaced.
    #[arg(long, value_name = "FILE", requires = "file")]
    pub rejects: Option<PathBuf>,

    /// Replace the file of `--rejects` whatever it holds
    #[arg(long, requires = "rejects", hide_short_help = true)]
    pub overwrite: bool,

    /// Import it anew although it was imported before
    ///
    /// Without it a manifest that is in the queue already is not imported again: what is left of
    /// it is gone on with.
    #[arg(long, requires = "file")]
    pub again: bool,

    /// Take a manifest whose ids all begin with another SDKAppID
    ///
    /// Without it such a manifest is refused: it is most likely one of another application.
    #[arg(long, requires = "file", hide_short_help = true)]
    pub allow_foreign_ids: bool,

    /// What to call the batch [default: the file's name]
    #[arg(long, value_name = "NAME", requires = "file", hide_short_help = true)]
    pub name: Option<String>,
}

#[derive(Debug, Args)]
pub struct RunArgs {
    /// A manifest: CSV, perhaps .gz; `-` is stdin
    pub file: Option<PathBuf>,

    /// Do not ask before deleting
    #[arg(long, short)]
    pub yes: bool,

    /// Do what `deskbatch plan` showed with this digest, and no more
    ///
    /// The digest is the yes to its deletes. If anything has changed since, the run ends with 2
    /// and nothing is imported or sent.
    #[arg(long, value_name = "DIGEST")]
    pub plan: Option<String>,

    /// The endpoint leads to the same service as that of the runs before
    ///
    /// A queue sends the jobs of an application to one service: what it records is true of that one
    /// alone. Without this flag a run whose endpoint is another one ends with 2, and nothing is
    /// imported or sent.
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
    /// A manifest: CSV, perhaps .gz; `-` is stdin
    pub file: PathBuf,

    /// How FILE is read.
    #[command(flatten)]
    pub manifest: ManifestArgs,
}

#[derive(Debug, Args)]
pub struct StatusArgs {
    /// Show a run that goes on elsewhere on this machine until it has ended
    ///
    /// The limit that it names is --rate of its own settings: the queue does not have the run's.
    #[arg(long, short)]
    pub watch: bool,

    /// One JSON object on stdout
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// The code; without it, the whole table
    #[arg(allow_negative_numbers = true)]
    pub code: Option<i64>,
}

#[derive(Debug, Args)]
pub struct UsersigArgs {}

#[derive(Debug, Args)]
pub struct SandboxCommandArgs {
    /// Where to listen, on this machine only; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8047")]
    pub addr: std::net::SocketAddr,

    /// How it behaves.
    #[command(flatten)]
    pub behaviour: SandboxArgs,
}
