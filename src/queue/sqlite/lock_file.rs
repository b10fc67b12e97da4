//! A file that exists for an operating-system lock on it, with one line of text for people.
//!
//! Opening it is safe for any other file at its path: links are not followed, no file is truncated, and
//! a file that is not a lock file is rejected. Only the holder of the lock writes the text.

use std::fs::{File, Metadata, OpenOptions, TryLockError};
use std::io::{self, Read as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _, fchown};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use serde::Serialize;

use crate::queue::QueueError;
use crate::util::escape::path_text;

/// The text is padded to this length, in bytes, so that the file is never truncated.
const TEXT_BYTES: usize = 512;

/// A longer file is not one of this program's lock files.
const TEXT_BYTES_MAX: u64 = 4_096;

/// How often the file is opened again if other processes remove it.
const TRIES: u32 = 20;

/// An open lock file.
#[derive(Debug)]
pub(in crate::queue) struct LockFile {
    file: File,
    path: PathBuf,
    /// Whether opening created it.
    pub(in crate::queue) is_new: bool,
    /// The user id of its owner.
    pub(in crate::queue) owner: u32,
}

impl LockFile {
    /// Opens the file at `path`, or creates it with the permissions `mode`. A file that root creates is
    /// given to the owner of `beside`, who could otherwise not lock it.
    pub(in crate::queue) fn open_or_make(
        path: &Path,
        mode: u32,
        beside: &Path,
    ) -> Result<Self, QueueError> {
        for _ in 0..TRIES {
            match Self::open(path, true) {
                Err(QueueError::Missing(_)) => {}
                opened => return opened,
            }
            match options(true).create_new(true).mode(mode).open(path) {
                Ok(file) => {
                    give_to_owner(&file, beside);
                    return Self::checked(file, path, true);
                }
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                Err(source) => return Err(refused(path, source)),
            }
        }
        Err(unusable(path, "other commands create and remove it repeatedly. Wait until they end."))
    }

    /// Opens the file at `path`; [`QueueError::Missing`] if it does not exist.
    pub(in crate::queue) fn open(path: &Path, to_write: bool) -> Result<Self, QueueError> {
        match options(to_write).open(path) {
            Ok(file) => Self::checked(file, path, false),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                Err(QueueError::Missing(path.to_owned()))
            }
            Err(source) => Err(refused(path, source)),
        }
    }

    fn checked(file: File, path: &Path, is_new: bool) -> Result<Self, QueueError> {
        let found = file.metadata().map_err(|source| refused(path, source))?;
        match wrong(&found) {
            Some(reason) => Err(unusable(path, reason)),
            None => Ok(Self { file, path: path.to_owned(), is_new, owner: found.uid() }),
        }
    }

    /// Takes the exclusive lock; `false` if another process has a lock.
    pub(in crate::queue) fn lock(&self) -> Result<bool, QueueError> {
        self.locked(self.file.try_lock())
    }

    /// Takes a shared lock, for inspection; `false` if another process has the exclusive lock.
    pub(in crate::queue) fn look(&self) -> Result<bool, QueueError> {
        self.locked(self.file.try_lock_shared())
    }

    fn locked(&self, tried: Result<(), TryLockError>) -> Result<bool, QueueError> {
        match tried {
            Ok(()) => Ok(true),
            Err(TryLockError::WouldBlock) => Ok(false),
            Err(TryLockError::Error(source)) => Err(refused(&self.path, source)),
        }
    }

    /// Whether the path still leads to this file.
    pub(in crate::queue) fn is_there(&self) -> bool {
        let here = self.file.metadata().ok().map(|found| (found.dev(), found.ino()));
        here.is_some() && here == crate::queue::sqlite::run_lock::identity(&self.path)
    }

    /// The text in the file; empty if it cannot be read.
    pub(in crate::queue) fn text(&self) -> String {
        let mut text = String::new();
        let mut file = &self.file;
        let read = io::Seek::rewind(&mut file)
            .and_then(|()| file.take(TEXT_BYTES_MAX).read_to_string(&mut text));
        read.map(|_| text).unwrap_or_default()
    }

    /// Replaces the text by `line` in one write, so that a reader sees the old or the new text.
    pub(in crate::queue) fn write(&self, line: &impl Serialize) -> Result<(), QueueError> {
        let mut text = serde_json::to_string(line).unwrap_or_default();
        let length = self.file.metadata().map_or(0, |found| found.len());
        let length = usize::try_from(length).unwrap_or_default().max(TEXT_BYTES);
        text.extend(std::iter::repeat_n(' ', length.saturating_sub(text.len() + 1)));
        text.push('\n');
        self.file.write_all_at(text.as_bytes(), 0).map_err(|source| refused(&self.path, source))
    }
}

fn options(to_write: bool) -> OpenOptions {
    let mut options = OpenOptions::new();
    // Opening a pipe would wait for its other end.
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    options.read(true).write(to_write).custom_flags(flags.bits().cast_signed());
    options
}

/// Why a file cannot be used as a lock.
fn wrong(found: &Metadata) -> Option<&'static str> {
    if !found.is_file() {
        return Some("it is not a regular file. Remove it.");
    }
    if found.nlink() > 1 {
        return Some("it is a hard link to another file. Remove it.");
    }
    (found.len() > TEXT_BYTES_MAX)
        .then_some("it is too large for a lock file of deskbatch. Move it away or remove it.")
}

/// Gives a file that root has just created to the owner of `beside`. An existing file may belong to
/// any user and is not changed.
fn give_to_owner(file: &File, beside: &Path) {
    let Ok(owner) = beside.metadata() else { return };
    if rustix::process::geteuid().is_root() && owner.uid() != 0 {
        // A file system without owners locks no user out, so a failure is harmless.
        let _ = fchown(file, Some(owner.uid()), Some(owner.gid()));
    }
}

fn unusable(path: &Path, reason: impl Into<String>) -> QueueError {
    QueueError::LockFile { path: path.to_owned(), reason: reason.into() }
}

/// The error for a file that the system does not open.
fn refused(path: &Path, source: io::Error) -> QueueError {
    if source.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) {
        return unusable(
            path,
            "it is a symbolic link, which deskbatch does not follow. Remove it.",
        );
    }
    match source.kind() {
        io::ErrorKind::StorageFull => {
            QueueError::Full { path: path.with_extension(""), doing: "lock the queue" }
        }
        io::ErrorKind::PermissionDenied => match path.symlink_metadata() {
            Ok(found) => unusable(
                path,
                format!(
                    "it belongs to user {owner}, and this is user {this}. Run `chown --reference={queue} {path}` as root, or \
                     remove it while no run is in progress.",
                    queue = path_text(&path.with_extension("")),
                    owner = found.uid(),
                    this = rustix::process::geteuid().as_raw(),
                    path = path_text(path),
                ),
            ),
            Err(_) => QueueError::Unusable { path: path.to_owned(), source },
        },
        _ => QueueError::Unusable { path: path.to_owned(), source },
    }
}
