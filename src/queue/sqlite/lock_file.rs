//! A file whose only use is the operating system's lock on it, with a line of text for people.
//!
//! Opened so that nothing else can be hurt by it: no link is followed, nothing is made shorter, and
//! what is not such a file is refused. The process that holds the lock writes the text.

use std::fs::{File, Metadata, OpenOptions, TryLockError};
use std::io::{self, Read as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _, fchown};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use serde::Serialize;

use crate::queue::QueueError;
use crate::util::escape::path_text;

/// What is written fills the file to this length, in bytes, so that it is never made shorter.
const TEXT_BYTES: usize = 512;

/// A longer file is none of ours.
const TEXT_BYTES_MAX: u64 = 4_096;

/// How often a file is looked for again that others remove.
const TRIES: u32 = 20;

/// An open lock file.
#[derive(Debug)]
pub(in crate::queue) struct LockFile {
    file: File,
    path: PathBuf,
    /// Whether opening has made it.
    pub(in crate::queue) is_new: bool,
    /// Who owns it.
    pub(in crate::queue) owner: u32,
}

impl LockFile {
    /// Opens the file at `path`, or makes it with these permissions. What root makes is given to
    /// the owner of `beside`, who would be locked out by it.
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
        Err(unusable(path, "it appears and goes again and again: let other commands end"))
    }

    /// Opens the file at `path`; [`QueueError::Missing`] if there is none.
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

    /// Takes the lock; `false` when another process has it.
    pub(in crate::queue) fn lock(&self) -> Result<bool, QueueError> {
        self.locked(self.file.try_lock())
    }

    /// Takes it together with others that only look; `false` when a process has it alone.
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

    /// Whether the name still leads to this file.
    pub(in crate::queue) fn is_there(&self) -> bool {
        let here = self.file.metadata().ok().map(|found| (found.dev(), found.ino()));
        here.is_some() && here == crate::queue::sqlite::run_lock::identity(&self.path)
    }

    /// The text in it; empty where there is none that can be read.
    pub(in crate::queue) fn text(&self) -> String {
        let mut text = String::new();
        let mut file = &self.file;
        let read = io::Seek::rewind(&mut file)
            .and_then(|()| file.take(TEXT_BYTES_MAX).read_to_string(&mut text));
        read.map(|_| text).unwrap_or_default()
    }

    /// Writes `line` in place of the text, by one call, so that a reader sees one or the other.
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
    // Of a pipe the other end would be waited for.
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    options.read(true).write(to_write).custom_flags(flags.bits().cast_signed());
    options
}

/// What is wrong with a file that is to be a lock.
fn wrong(found: &Metadata) -> Option<&'static str> {
    if !found.is_file() {
        return Some("it is no regular file: remove it");
    }
    if found.nlink() > 1 {
        return Some("it is a hard link to another file: remove it");
    }
    (found.len() > TEXT_BYTES_MAX)
        .then_some("it is larger than a lock and so none of deskbatch: move it away or remove it")
}

/// Only what was just made is given away: what was there may be anybody's.
fn give_to_owner(file: &File, beside: &Path) {
    let Ok(owner) = beside.metadata() else { return };
    if rustix::process::geteuid().is_root() && owner.uid() != 0 {
        // A file system without owners locks no user out.
        let _ = fchown(file, Some(owner.uid()), Some(owner.gid()));
    }
}

fn unusable(path: &Path, reason: impl Into<String>) -> QueueError {
    QueueError::LockFile { path: path.to_owned(), reason: reason.into() }
}

/// Why the system refuses the file.
fn refused(path: &Path, source: io::Error) -> QueueError {
    if source.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) {
        return unusable(path, "it is a symbolic link, which is not followed: remove it");
    }
    match source.kind() {
        io::ErrorKind::StorageFull => {
            QueueError::Full { path: path.with_extension(""), doing: "be locked" }
        }
        io::ErrorKind::PermissionDenied => match path.symlink_metadata() {
            Ok(found) => unusable(
                path,
                format!(
                    "it belongs to user {owner}, and this is user {this}: as root, chown --reference={queue} {path}, or \
                     remove it while no run has the queue",
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
