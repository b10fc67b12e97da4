//! The commands, one file each: what the words on the command line set in motion.
//!
//! The edge of the house: here clock, transport, store and runner are put together, and
//! every error becomes an exit code by one total match.

mod approved;
mod bad_rows;
mod config;
mod consent;
mod dashboard;
mod doctor;
mod expected;
mod explain;
mod finish;
mod import;
mod init;
mod metrics_file;
mod page;
mod pages;
mod plan;
mod queue;
mod reading;
mod replace;
mod report;
mod run;
mod sandbox;
mod service;
mod signals;
mod standing;
mod status;
mod turn;
mod usersig;
mod watch;
mod whole_file;

use std::io;
use std::path::Path;

use crate::cli::{Cli, Command, Given};
use crate::config::{ConfigError, Settings};
use crate::desk::ClientError;
use crate::domain::clock::SystemClock;
use crate::manifest::ManifestError;
use crate::output::{LogError, Output};
use crate::store::{StoreError, closing};
use crate::text::path_text;

/// How the program ends. The numbers are an interface: cron decides by them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Everything asked for is done, or there was nothing to do.
    Done = 0,
    /// Finished; some jobs failed.
    SomeFailed = 1,
    /// The command line, the configuration or the manifest is wrong; nothing was sent.
    Wrong = 2,
    /// Stopped early with work left.
    Stopped = 3,
    /// The service refuses this app or account.
    Refused = 4,
    /// Another run has the queue.
    Busy = 5,
    /// A bug or a broken machine.
    Broken = 70,
}

impl Exit {
    /// The same in words.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Done => "everything asked for is done, or there was nothing to do",
            Self::SomeFailed => "finished; some jobs failed",
            Self::Wrong => {
                "the command line, the configuration or the manifest is wrong; nothing was sent"
            }
            Self::Stopped => "stopped early with work left",
            Self::Refused => "the service refuses this app or account",
            Self::Busy => "another run has the queue",
            Self::Broken => "a bug or a broken machine",
        }
    }
}

/// Why a command ended before its work was done.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// Wrong words or files; the text says what to do.
    #[error("{0}")]
    Wrong(String),
    /// A run that was left where it waited for the queue.
    #[error(
        "stopped while the run waited for its queue, to which another process may be writing: what was in flight is \
         sent again by the next run"
    )]
    Abandoned,
    /// Wrong settings.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A manifest that cannot be read.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The queue.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The HTTP client could not be made.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// There can be no log.
    #[error(transparent)]
    Log(#[from] LogError),
    /// A file or stream could not be written.
    #[error("{what}")]
    Io {
        /// Which.
        what: String,
        /// What the system said.
        source: io::Error,
    },
}

impl CommandError {
    fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        |source| Self::Io { what, source }
    }

    /// The same of a file that was named: a name that cannot be is a typing error, and no
    /// machine is broken by it.
    fn output(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path_text(path);
        move |source| {
            let what = format!("{path} cannot be written");
            if is_wrong_name(source.kind()) {
                let advice = "name a file in a folder that is there";
                return Self::Wrong(format!("{what}: {source}: {advice}"));
            }
            Self::Io { what, source }
        }
    }

    /// The same with the path of the queue file, where it is about that.
    fn at(self, database: &Path) -> Self {
        match self {
            Self::Store(error) => Self::Store(error.at(database)),
            other => other,
        }
    }

    /// The exit code: one total match.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Wrong(_) | Self::Config(_) => Exit::Wrong,
            Self::Abandoned => Exit::Stopped,
            Self::Manifest(ManifestError::Read { .. }) => Exit::Broken,
            Self::Manifest(_) => Exit::Wrong,
            Self::Store(e) => match e {
                StoreError::Missing(_)
                | StoreError::Foreign { .. }
                | StoreError::SecondName { .. }
                | StoreError::Newer(_) => Exit::Wrong,
                StoreError::Unusable { source, .. } if is_wrong_name(source.kind()) => Exit::Wrong,
                StoreError::Held(_) | StoreError::AppHeld { .. } => Exit::Busy,
                StoreError::Stopped => Exit::Stopped,
                StoreError::Unusable { .. }
                | StoreError::LockFile { .. }
                | StoreError::Linked(_)
                | StoreError::Full { .. }
                | StoreError::Fenced { .. }
                | StoreError::TakenOver { .. }
                | StoreError::Replaced(_)
                | StoreError::Gone(_)
                | StoreError::Damaged { .. }
                | StoreError::Impossible { .. }
                | StoreError::Sql { .. } => Exit::Broken,
            },
            Self::Log(LogError::Filter { .. }) => Exit::Wrong,
            Self::Log(LogError::File { source, .. }) if is_wrong_name(source.kind()) => Exit::Wrong,
            Self::Client(ClientError::Proxy(_)) => Exit::Wrong,
            Self::Client(ClientError::Machine(_)) | Self::Log(_) | Self::Io { .. } => Exit::Broken,
        }
    }

    /// What happened: why: what to do, on one line.
    pub fn text(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            let more = error.to_string();
            // What quotes its cause says itself what to do about it.
            if !text.contains(&more) {
                text.push_str(": ");
                text.push_str(&more);
                let advice = error.downcast_ref::<io::Error>().and_then(|e| advice(e.kind()));
                text.extend(advice.into_iter().flat_map(|advice| [": ", advice]));
            }
            cause = error.source();
        }
        if let Self::Store(e) = self {
            text.extend(e.advice().into_iter().flat_map(|advice| [": ", advice]));
        }
        text
    }
}

/// Whether the system says that there is no such place for a file.
fn is_wrong_name(kind: io::ErrorKind) -> bool {
    use io::ErrorKind::{InvalidFilename, InvalidInput, IsADirectory, NotADirectory, NotFound};
    matches!(kind, NotFound | NotADirectory | IsADirectory | InvalidInput | InvalidFilename)
}

/// What to do about what the system says of a file or an address.
fn advice(kind: io::ErrorKind) -> Option<&'static str> {
    match kind {
        io::ErrorKind::NotFound => Some("check the name, and that its folder is there"),
        io::ErrorKind::PermissionDenied => Some("give this user the right to, or name another"),
        io::ErrorKind::StorageFull => Some("make room on the disk"),
        io::ErrorKind::AddrInUse => Some("name another port, or 0 for a free one"),
        io::ErrorKind::ReadOnlyFilesystem => Some("name a file on another file system"),
        _ => None,
    }
}

/// Does what the command line says.
///
/// # Errors
/// See [`CommandError`].
pub async fn dispatch(cli: Cli, settings: Settings, out: &Output) -> Result<Exit, CommandError> {
    signals::outlive_size_limits()?;
    let work = Box::pin(command(cli, &settings, out));
    let ended = closing(&SystemClock::new(), work).await;
    ended.map_err(|error| error.at(&settings.database))
}

async fn command(cli: Cli, settings: &Settings, out: &Output) -> Result<Exit, CommandError> {
    match cli.command {
        Command::Run(args) => run::run(settings, &args, out).await,
        Command::Plan(args) => plan::command(settings, &args, out).await,
        Command::Import(args) => import::command(settings, &args, out).await,
        Command::Status(args) => status::status(settings, &args, out).await,
        Command::Report(args) => report::report(settings, &args, out).await,
        Command::Dashboard(args) => dashboard::dashboard(settings, &args, out).await,
        Command::Retry(args) => queue::retry(settings, &args, out).await,
        Command::Cancel(args) => queue::cancel(settings, &args, out).await,
        Command::Prune(args) => queue::prune(settings, &args, out).await,
        Command::Config(args) => config::config(settings, &args, out),
        Command::Doctor(args) => doctor::doctor(settings, &args, out).await,
        Command::Usersig(_) => usersig::usersig(settings, out),
        Command::Sandbox(args) => sandbox::sandbox(settings, &args, out).await,
        free => without_settings(&free, &cli.given, out),
    }
}

/// Does what needs no settings, so that none can be wrong.
///
/// # Errors
/// See [`CommandError`].
pub fn without_settings(
    command: &Command,
    given: &Given,
    out: &Output,
) -> Result<Exit, CommandError> {
    match command {
        Command::Init(args) => init::init(args, given, out),
        Command::Explain(args) => explain::explain(args, out),
        Command::Completions(args) => pages::completions(args, out),
        Command::Man(args) => pages::man(args, out),
        _ => Err(CommandError::Wrong("this command needs settings".to_owned())),
    }
}

/// Says that the settings cannot be used; to `doctor` that is a finding like any other.
///
/// # Errors
/// `error`, for every other command.
pub fn with_wrong_settings(
    command: &Command,
    error: ConfigError,
    out: &Output,
) -> Result<Exit, CommandError> {
    match command {
        Command::Doctor(args) => doctor::with_wrong_settings(args, &error, out),
        _ => Err(error.into()),
    }
}
