//! The source of a manifest's bytes: a file, which must not change during the import, or a pipe, which can be
//! read only once.
//!
//! Detects a changed file by its size, the time of its last change, and the file that its path leads to. It
//! cannot detect a rewrite at the same moment with the same number of bytes.

use std::fs::{self, File, Metadata};
use std::io::{self, Read, Seek as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::error::ManifestError;
use super::source::Input;
use crate::util::escape::path_text;

/// How much of a manifest has been read. Another thread may ask for it.
#[derive(Debug, Clone, Default)]
pub struct ReadProgress {
    bytes: Arc<AtomicU64>,
    total: Option<u64>,
}

impl ReadProgress {
    /// The bytes read from the file, compressed or not.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// The size of the file in bytes; `None` for a pipe.
    pub fn total(&self) -> Option<u64> {
        self.total
    }
}

/// The opened source.
#[derive(Debug, Default)]
pub(super) struct Source {
    progress: ReadProgress,
    again: Again,
}

/// How to read the same bytes a second time.
#[derive(Debug, Default)]
enum Again {
    /// Not possible.
    #[default]
    Never,
    /// From the file, if it has not changed.
    File { file: File, path: PathBuf, state: State },
    /// From an unnamed temporary copy, which disappears with the process.
    Copy(File),
}

/// The properties of a file that change when it is rewritten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct State {
    file: (u64, u64),
    bytes: u64,
    modified: (i64, i64),
}

impl From<&Metadata> for State {
    fn from(found: &Metadata) -> Self {
        Self {
            file: (found.dev(), found.ino()),
            bytes: found.len(),
            modified: (found.mtime(), found.mtime_nsec()),
        }
    }
}

impl Source {
    /// Opens the file at `path`, or stdin for `-`. If `kept` is set, a pipe is copied while it is read,
    /// because it can be read only once.
    pub(super) fn open(path: &Path, kept: bool) -> io::Result<(Input, Self)> {
        if path == Path::new("-") {
            return Self::pipe(Box::new(io::stdin()), kept);
        }
        let file = File::open(path)?;
        let found = file.metadata()?;
        if found.is_dir() {
            // The system opens a folder and fails only when it is read, which would look like a disk error.
            return Err(io::ErrorKind::IsADirectory.into());
        }
        if !found.is_file() {
            return Self::pipe(Box::new(file), kept);
        }
        let progress = ReadProgress { total: Some(found.len()), ..ReadProgress::default() };
        let reader = Counted(file.try_clone()?, progress.clone());
        let again = Again::File { file, path: path.to_owned(), state: State::from(&found) };
        Ok((Box::new(reader), Self { progress, again }))
    }

    fn pipe(from: Input, kept: bool) -> io::Result<(Input, Self)> {
        let progress = ReadProgress::default();
        let reader = Counted(from, progress.clone());
        if !kept {
            return Ok((Box::new(reader), Self { progress, again: Again::Never }));
        }
        let copy = tempfile::tempfile()?;
        let again = Again::Copy(copy.try_clone()?);
        Ok((Box::new(Copied(reader, copy)), Self { progress, again }))
    }

    /// The bytes read so far.
    pub(super) fn progress(&self) -> ReadProgress {
        self.progress.clone()
    }

    /// Fails if the file `name` has changed since it was opened, or was not read to its end.
    pub(super) fn must_be_unchanged(&self, name: &str) -> Result<(), ManifestError> {
        let Again::File { file, path, state } = &self.again else { return Ok(()) };
        let is_same =
            |found: io::Result<Metadata>| found.is_ok_and(|found| State::from(&found) == *state);
        let is_whole = self.progress.bytes() >= state.bytes;
        if is_whole && is_same(file.metadata()) && is_same(fs::metadata(path)) {
            return Ok(());
        }
        Err(ManifestError::Changed { name: name.to_owned() })
    }

    /// A reader of the same bytes from their beginning; `None` if they can be read only once.
    pub(super) fn again(self) -> io::Result<Option<(Input, Self)>> {
        let progress = ReadProgress { total: self.progress.total, ..ReadProgress::default() };
        let mut file = match &self.again {
            Again::Never => return Ok(None),
            Again::File { file, .. } | Again::Copy(file) => file.try_clone()?,
        };
        file.rewind()?;
        Ok(Some((Box::new(Counted(file, progress.clone())), Self { progress, ..self })))
    }
}

/// A reader that counts its bytes.
struct Counted<R>(R, ReadProgress);

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let read = self.0.read(buf)?;
        self.1.bytes.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

/// A reader that copies its bytes into a file.
struct Copied<R>(R, File);

impl<R: Read> Read for Copied<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let read = self.0.read(buf)?;
        self.1.write_all(&buf[..read])?;
        Ok(read)
    }
}

/// Whether the manifest at `path` can be read a second time: `-` and pipes cannot.
pub fn can_be_read_again(path: &Path) -> bool {
    path != Path::new("-") && fs::metadata(path).is_ok_and(|found| found.is_file())
}

/// Fails if no file exists at `path`, so that a mistyped name is reported first. Does not open it: a pipe can
/// be opened only once.
///
/// # Errors
/// [`ManifestError::Open`].
pub fn must_be_there(path: &Path) -> Result<(), ManifestError> {
    if path == Path::new("-") {
        return Ok(());
    }
    let found = fs::metadata(path).map(drop);
    found.map_err(|source| ManifestError::Open { name: path_text(path), source })
}
