//! The commands: one file each, or a folder where a command has parts.
//!
//! Clock, transport, queue and runner are composed here; every error becomes an exit code
//! (`error.rs`).

mod cancel;
mod completions;
mod config;
mod dashboard;
mod doctor;
mod error;
mod eta;
mod explain;
mod import;
mod init;
mod man;
#[cfg(test)]
mod output_schema;
mod overwrite;
mod plan;
mod prune;
mod report;
mod retry;
mod run;
mod sandbox;
mod service;
mod shell;
mod signals;
mod status;
mod usersig;

pub use error::{CommandError, Exit};

use std::ffi::OsString;

use crate::cli::{self, Cli, Command, PlanArgs, RunArgs, SettingSources};
use crate::config::{ConfigError, Settings};
use crate::domain::clock::SystemClock;
use crate::output::Output;
use crate::queue::closing;

/// Runs the command of `cli`.
///
/// # Errors
/// See [`CommandError`].
pub async fn dispatch(cli: Cli, settings: Settings, out: &Output) -> Result<Exit, CommandError> {
    signals::ignore_file_size_limit()?;
    let work = Box::pin(command(cli, &settings, out));
    let result = closing(&SystemClock::new(), work).await;
    result.map_err(|error| error.at(&settings.database))
}

/// Fails if the log would be appended to the manifest of the command.
///
/// # Errors
/// [`CommandError::Usage`]; nothing has been written.
pub fn check_log_file(command: &Command, settings: &Settings) -> Result<(), CommandError> {
    let manifest = match command {
        Command::Run(args) => args.file.as_deref(),
        Command::Plan(args) => args.file.as_deref(),
        Command::Import(args) => Some(args.file.as_path()),
        _ => None,
    };
    let (Some(log), Some(manifest)) = (settings.log_file(), manifest) else { return Ok(()) };
    let source = [(manifest.to_owned(), "manifest")];
    overwrite::must_be_no_source("log_file", log, &source)
}

async fn command(cli: Cli, settings: &Settings, out: &Output) -> Result<Exit, CommandError> {
    match cli.command {
        Command::Run(args) if args.dry_run => {
            let RunArgs { file, manifest, same_service, .. } = args;
            let args = PlanArgs { file, all: false, json: false, manifest };
            plan::plan(settings, &args, same_service, out).await
        }
        Command::Run(args) => run::run(settings, &args, out).await,
        Command::Plan(args) => plan::plan(settings, &args, false, out).await,
        Command::Import(args) => import::import(settings, &args, out).await,
        Command::Status(args) => status::status(settings, &args, out).await,
        Command::Report(args) => report::report(settings, &args, out).await,
        Command::Dashboard(args) => dashboard::dashboard(settings, &args, out).await,
        Command::Retry(args) => retry::retry(settings, &args, out).await,
        Command::Cancel(args) => cancel::cancel(settings, &args, out).await,
        Command::Prune(args) => prune::prune(settings, &args, out).await,
        Command::Config(args) => config::config(settings, &args, out),
        Command::Doctor(args) => doctor::doctor(settings, &args, out).await,
        Command::Usersig(_) => usersig::usersig(settings, out),
        Command::Sandbox(args) => sandbox::sandbox(settings, &args, out).await,
        other => without_settings(&other, &cli.sources, out),
    }
}

/// Runs a command that needs no settings, so that an invalid setting cannot stop it.
///
/// # Errors
/// See [`CommandError`].
pub fn without_settings(
    command: &Command,
    sources: &SettingSources,
    out: &Output,
) -> Result<Exit, CommandError> {
    match command {
        Command::Init(args) => init::init(args, sources, out),
        Command::Explain(args) => explain::explain(args, out),
        Command::Completions(args) => completions::completions(args, out),
        Command::Man(args) => man::man(args, out),
        Command::Settings(_) => settings_page(out),
        _ => Err(CommandError::Usage("this command needs settings".to_owned())),
    }
}

/// Handles invalid settings: `doctor` reports them as a finding, every other command fails.
///
/// # Errors
/// `error`, for every other command.
pub fn with_invalid_settings(
    command: &Command,
    error: ConfigError,
    out: &Output,
) -> Result<Exit, CommandError> {
    match command {
        Command::Doctor(args) => doctor::with_invalid_settings(args, &error, out),
        _ => Err(error.into()),
    }
}

/// The words of this command line after the program's name.
fn arguments() -> Vec<OsString> {
    std::env::args_os().skip(1).collect()
}

/// Prints the page of `deskbatch help settings`.
fn settings_page(out: &Output) -> Result<Exit, CommandError> {
    let page = cli::settings_page();
    out.usage(&page.to_string(), &page.ansi().to_string(), false)
        .map_err(CommandError::io("cannot write to stdout"))?;
    Ok(Exit::Done)
}
