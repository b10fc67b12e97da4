//! The command line: clap structures and nothing else.
//!
//! What the values mean and which go together is `config/`'s business.

mod plan;
mod queue;
mod sandbox;
mod settings;
mod watch;

use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::{Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

pub use plan::{PlanArgs, run_line};
pub use queue::{CancelArgs, DoctorArgs, PruneArgs, RetryArgs};
pub use sandbox::SandboxArgs;
pub use settings::{LogFormat, SettingsArgs};
pub use watch::{DashboardArgs, Only, ReportArgs, ReportFormat};

use crate::job::Status;
use crate::manifest::OnConflict;

/// Changes the live status of Tencent Cloud Desk chatbot questions, many thousands at a
/// time, never faster than the service allows.
#[derive(Debug, Parser)]
#[command(name = "deskbatch", version, propagate_version = true, max_term_width = 100)]
pub struct Cli {
    /// The settings' file [default: deskbatch.toml, if there is one]
    #[arg(
        long,
        global = true,
        env = "DESKBATCH_CONFIG",
        value_name = "FILE",
        help_heading = "Settings"
    )]
    pub config: Option<PathBuf>,

    /// Rehearse: work on the rehearsal's own queue file; `run` starts the sandbox
    #[arg(long, global = true)]
    pub sandbox: bool,

    /// The settings.
    #[command(flatten)]
    pub settings: SettingsArgs,

    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

impl Cli {
    /// Reads the command line; ends the process with help or an error where that is due.
    pub fn read() -> Self {
        let mut command = Self::command();
        let matches = command.get_matches_mut();
        let cli = Self::from_arg_matches(&matches).unwrap_or_else(|e| e.exit());
        if !cli.sandbox
            && let Some(flag) = sandbox::flag_of_a_rehearsal(&matches)
        {
            // Whoever asks for faults must not meet the live service.
            let text = format!("{flag} shapes a rehearsal: add --sandbox, or leave it out");
            command.error(ErrorKind::MissingRequiredArgument, text).exit();
        }
        cli
    }
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Import FILE if given, then drain the queue: the main job
    Run(RunArgs),
    /// Show what `run` would do, and the digest that approves it; sends nothing
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
    Retry(RetryArgs),
    /// Cancel the pending jobs of a batch
    Cancel(CancelArgs),
    /// Drop the jobs of old finished batches; their manifests stay known
    Prune(PruneArgs),
    /// Check the account's settings and the queue file; sends nothing
    Doctor(DoctorArgs),
    /// Say what an error code means and what to do
    Explain(ExplainArgs),
    /// Make a UserSig from the secret key and print it
    Usersig(UsersigArgs),
    /// Serve the API on this machine, as documented, with faults on demand
    Sandbox(SandboxCommandArgs),
}

/// How a manifest is read.
#[derive(Debug, Clone, Args)]
pub struct ManifestArgs {
    /// The status for every row, instead of a column: 4, 5, 6 or enable, disable, delete
    #[arg(long, value_name = "STATUS", requires = "file")]
    pub status: Option<Status>,

    /// The character between two fields; `tab` for a tab [default: found in the header line]
    #[arg(long, value_name = "CHAR", requires = "file")]
    pub delimiter: Option<String>,

    /// Which row decides when one id comes with two statuses: first or last
    #[arg(long, value_name = "WHICH", requires = "file")]
    pub on_conflict: Option<OnConflict>,

    /// Import the good rows and write the bad ones to FILE, each with its reason
    #[arg(long, value_name = "FILE", requires = "file")]
    pub rejects: Option<PathBuf>,

    /// Make a new batch although the same manifest was imported before
    #[arg(long, requires = "file")]
    pub again: bool,

    /// What to call the batch [default: the file's name]
    #[arg(long, value_name = "NAME", requires = "file")]
    pub name: Option<String>,
}

/// `deskbatch run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// A manifest: CSV, perhaps .gz; `-` is stdin
    pub file: Option<PathBuf>,

    /// Do not ask before deleting
    #[arg(long, short)]
    pub yes: bool,

    /// Do what `deskbatch plan` showed with this digest, deletes too, and nothing more; stop if it would be something
    /// else now
    #[arg(long, value_name = "DIGEST")]
    pub plan: Option<String>,

    /// How FILE is read.
    #[command(flatten)]
    pub manifest: ManifestArgs,

    /// How the sandbox behaves.
    #[command(flatten)]
    pub rehearsal: SandboxArgs,
}

/// `deskbatch import`.
#[derive(Debug, Args)]
pub struct ImportArgs {
    /// A manifest: CSV, perhaps .gz; `-` is stdin
    pub file: PathBuf,

    /// How FILE is read.
    #[command(flatten)]
    pub manifest: ManifestArgs,
}

/// `deskbatch status`.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// One JSON object on stdout
    #[arg(long)]
    pub json: bool,
}

/// `deskbatch explain`.
#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// The code; without it, the whole table
    #[arg(allow_negative_numbers = true)]
    pub code: Option<i64>,
}

/// `deskbatch usersig`.
#[derive(Debug, Args)]
pub struct UsersigArgs {}

/// `deskbatch sandbox`.
#[derive(Debug, Args)]
pub struct SandboxCommandArgs {
    /// Where to listen, on this machine only; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8047")]
    pub addr: std::net::SocketAddr,

    /// How it behaves.
    #[command(flatten)]
    pub behaviour: SandboxArgs,
}
