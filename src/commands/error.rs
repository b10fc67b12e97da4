//! How a command ends: its exit code, or its error, which maps to an exit code by one total match.

use std::io;
use std::path::Path;

use crate::config::ConfigError;
use crate::desk::ClientError;
use crate::manifest::ManifestError;
use crate::output::LogError;
use crate::queue::{BatchId, QueueError};
use crate::util::escape::path_text;

/// The exit codes. The numbers are a public interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::VariantArray)]
pub enum Exit {
    /// Everything requested is done, or there was nothing to do.
    Done = 0,
    /// Finished; some jobs failed.
    SomeFailed = 1,
    /// The command line, the configuration or the manifest is invalid; nothing was sent.
    Usage = 2,
    /// Stopped early; the remaining jobs stay pending.
    Stopped = 3,
    /// The service rejects this app or account.
    Rejected = 4,
    /// Another run holds the lock.
    Busy = 5,
    /// An internal error or a system failure.
    Broken = 70,
}

impl Exit {
    /// One line of explanation.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Done => "everything requested is done, or there was nothing to do",
            Self::SomeFailed => "finished; some jobs failed",
            Self::Usage => {
                "the command line, the configuration or the manifest is invalid; nothing was sent"
            }
            Self::Stopped => "stopped early; the remaining jobs stay pending",
            Self::Rejected => "the service rejects the app, the account or every request",
            Self::Busy => {
                "another run is active for this queue or app; nothing was imported or sent"
            }
            Self::Broken => "an internal error or a system failure",
        }
    }
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// A wrong command line or manifest; the text has the advice.
    #[error("{0}")]
    Usage(String),
    /// A run that did not react to a shutdown, because a write to its queue was blocked.
    #[error(
        "stopped while the run waited for its queue: another process may be writing to it. The next run sends the \
         requests in flight again."
    )]
    Abandoned,
    /// Invalid settings.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A manifest that cannot be read or is invalid.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// An error of the queue.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// The HTTP client could not be built.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The log could not be opened.
    #[error(transparent)]
    Log(#[from] LogError),
    /// A file or stream could not be written.
    #[error("{what}")]
    Io {
        /// What could not be done.
        what: String,
        /// The system's error.
        source: io::Error,
    },
}

impl CommandError {
    pub(super) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        |source| Self::Io { what, source }
    }

    /// An error at a path that the user named: an impossible path is a usage error, not a system
    /// failure.
    pub(super) fn output(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path_text(path);
        move |source| {
            let what = format!("cannot write {path}");
            if is_wrong_name(source.kind()) {
                let advice = "Name a file in an existing directory.";
                return Self::Usage(format!("{what}: {source}. {advice}"));
            }
            Self::Io { what, source }
        }
    }

    /// `batch` does not exist.
    pub(super) fn no_batch(batch: BatchId) -> Self {
        Self::Usage(format!("batch {batch} does not exist: `deskbatch status` lists the batches"))
    }

    /// Adds the path of the queue file to an error of the queue.
    pub(super) fn at(self, database: &Path) -> Self {
        match self {
            Self::Queue(error) => Self::Queue(error.at(database)),
            other => other,
        }
    }

    /// The exit code.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Usage(_) | Self::Config(_) => Exit::Usage,
            Self::Abandoned => Exit::Stopped,
            Self::Manifest(ManifestError::Read { .. }) => Exit::Broken,
            Self::Manifest(_) => Exit::Usage,
            Self::Queue(e) => match e {
                QueueError::Missing(_)
                | QueueError::Foreign { .. }
                | QueueError::SecondName { .. }
                | QueueError::Newer(_) => Exit::Usage,
                QueueError::Unusable { source, .. } if is_wrong_name(source.kind()) => Exit::Usage,
                QueueError::Locked(_) | QueueError::AppLocked { .. } => Exit::Busy,
                QueueError::Stopped => Exit::Stopped,
                QueueError::Unusable { .. }
                | QueueError::LockFile { .. }
                | QueueError::Linked(_)
                | QueueError::Full { .. }
                | QueueError::Limited { .. }
                | QueueError::Fenced { .. }
                | QueueError::TakenOver { .. }
                | QueueError::ReplacedDuringRun(_)
                | QueueError::FileReplaced(_)
                | QueueError::Damaged { .. }
                | QueueError::Impossible { .. }
                | QueueError::Sql { .. } => Exit::Broken,
            },
            Self::Log(LogError::Filter { .. }) => Exit::Usage,
            Self::Log(LogError::File { source, .. }) if is_wrong_name(source.kind()) => Exit::Usage,
            Self::Client(ClientError::Proxy(_)) => Exit::Usage,
            Self::Client(ClientError::Machine(_)) | Self::Log(_) | Self::Io { .. } => Exit::Broken,
        }
    }

    /// The error, its causes and the advice, on one line.
    pub fn text(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            let more = error.to_string();
            // An error that quotes its cause has its own advice.
            if !text.contains(&more) {
                text.push_str(": ");
                text.push_str(&more);
                let advice = error.downcast_ref::<io::Error>().and_then(|e| advice(e.kind()));
                text.extend(advice.into_iter().flat_map(|advice| [". ", advice]));
            }
            cause = error.source();
        }
        if let Self::Queue(e) = self {
            text.extend(e.advice().into_iter().flat_map(|advice| [". ", advice]));
        }
        text
    }
}

/// Whether the error means that the path cannot be a file.
fn is_wrong_name(kind: io::ErrorKind) -> bool {
    use io::ErrorKind::{InvalidFilename, InvalidInput, IsADirectory, NotADirectory, NotFound};
    matches!(kind, NotFound | NotADirectory | IsADirectory | InvalidInput | InvalidFilename)
}

/// What to do about an error at a file or an address.
fn advice(kind: io::ErrorKind) -> Option<&'static str> {
    match kind {
        io::ErrorKind::NotFound => Some("Check the name, and that its directory exists."),
        io::ErrorKind::PermissionDenied => {
            Some("Give this user the permission, or choose another file or address.")
        }
        io::ErrorKind::StorageFull => Some("Free some space on the disk."),
        io::ErrorKind::AddrInUse => Some("Choose another port, or port 0 for a free one."),
        io::ErrorKind::ReadOnlyFilesystem => Some("Name a file on another file system."),
        _ => None,
    }
}
