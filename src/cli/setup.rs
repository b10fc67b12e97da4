//! The flags of `init`, `config`, `doctor`, `completions` and `man`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use clap_complete::Shell;

use super::SandboxArgs;
use crate::config::CONFIG_FILE;

#[derive(Debug, Args)]
pub struct InitArgs {
    /// The file to create; an existing one is never overwritten
    #[arg(default_value = CONFIG_FILE)]
    pub file: PathBuf,
}

#[derive(Debug, Args)]
pub struct ConfigArgs {
    /// What to do with the settings.
    #[command(subcommand)]
    pub what: ConfigCommand,
}

/// What `deskbatch config` can do.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Show every setting with its value and source; secrets are masked
    Show(ConfigShowArgs),
}

#[derive(Debug, Args)]
pub struct ConfigShowArgs {
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,

    /// How the sandbox behaves.
    #[command(flatten)]
    pub sandbox: SandboxArgs,
}

#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Skip the checks that need the network
    #[arg(long)]
    pub offline: bool,

    /// Rebuild the counters of the queue if they are inconsistent
    #[arg(long)]
    pub repair_counters: bool,

    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// The shell
    pub shell: Shell,
}

#[derive(Debug, Args)]
pub struct ManArgs {
    /// The command whose page to print [default: deskbatch itself]
    #[arg(value_name = "COMMAND")]
    pub command: Option<String>,

    /// Write the pages of all commands into DIR, which must exist
    #[arg(long, value_name = "DIR", conflicts_with = "command")]
    pub dir: Option<PathBuf>,
}
