//! Atomic file writes: a reader sees the old file or the complete new one, never a part.
//!
//! Every file that a command writes goes through here. On Linux the new file has no name until it
//! is complete (`O_TMPFILE`), so even SIGKILL leaves nothing behind; `tempfile` has no way to name
//! such a file, so the system calls are here. Elsewhere it has a temporary name. Relies on an atomic
//! rename within a directory. A symbolic link is followed and its target replaced; a special file
//! (pipe, device, own stream) is written in place. Does not decide whether an existing file may be
//! replaced: `commands/overwrite.rs` does.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, BufWriter, Seek as _, Write};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use tempfile::{Builder, TempPath};

use super::file_mark::set_mark;

/// The most symbolic links that are followed.
const LINKS_MAX: usize = 40;

/// Prefix of a temporary name. Short, since a file system takes at most 255 bytes; the suffix is
/// none that an exporter reads.
const TEMP_PREFIX: &str = ".deskbatch-";

/// The mode of a new file before the umask is applied.
const MODE_BEFORE_UMASK: u32 = 0o666;

/// The mode of a file for its owner alone.
pub(crate) const PRIVATE: u32 = 0o600;

/// What happens to a file that exists already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IfExists {
    /// The new file replaces it; a special file is written in place.
    Replace,
    /// It stays, and the error is [`io::ErrorKind::AlreadyExists`].
    Fail,
}

/// A file that is being written.
#[derive(Debug)]
pub(crate) struct AtomicFile {
    writer: BufWriter<File>,
    target: Target,
    path: PathBuf,
    /// The exact permissions; `None`: 0666 less the umask.
    mode: Option<u32>,
    if_exists: IfExists,
}

/// Where the bytes go until the file is complete.
#[derive(Debug)]
enum Target {
    /// Into a file without a name in the destination's directory.
    Unnamed,
    /// Into a temporary file in the destination's directory; dropping this removes it.
    Temporary(TempPath),
    /// Into an unnamed file elsewhere, copied to a special file at the end.
    Spooled,
    /// Directly into a special file.
    InPlace,
}

/// Writes `bytes` to `path`, or leaves what was there before.
pub(crate) fn write_atomic(
    path: &Path,
    bytes: &[u8],
    mode: Option<u32>,
    if_exists: IfExists,
) -> io::Result<()> {
    let mut file = AtomicFile::create(path, mode, if_exists)?;
    file.write_all(bytes)?;
    file.finish()
}

impl AtomicFile {
    /// Begins the file at `path`; a special file is written immediately.
    pub(crate) fn create(path: &Path, mode: Option<u32>, if_exists: IfExists) -> io::Result<Self> {
        if if_exists == IfExists::Fail {
            return Self::create_beside(path.to_owned(), mode, if_exists);
        }
        if is_special_file(path) {
            let writer = BufWriter::new(OpenOptions::new().append(true).open(path)?);
            return Ok(Self {
                writer,
                target: Target::InPlace,
                path: path.to_owned(),
                mode,
                if_exists,
            });
        }
        Self::create_beside(resolve_links(path)?, mode, if_exists)
    }

    /// Like [`AtomicFile::create`], but a special file too is written only by
    /// [`AtomicFile::finish`], so that dropping this writes nothing anywhere.
    pub(crate) fn create_spooled(path: &Path, mode: u32) -> io::Result<Self> {
        if !is_special_file(path) {
            return Self::create(path, Some(mode), IfExists::Replace);
        }
        Ok(Self {
            writer: BufWriter::new(tempfile::tempfile()?),
            target: Target::Spooled,
            path: path.to_owned(),
            mode: Some(mode),
            if_exists: IfExists::Replace,
        })
    }

    fn create_beside(path: PathBuf, mode: Option<u32>, if_exists: IfExists) -> io::Result<Self> {
        if path.file_name().is_none() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let (file, target) =
            match open_unnamed(parent_dir(&path), mode.unwrap_or(MODE_BEFORE_UMASK)) {
                Some(file) => (file, Target::Unnamed),
                None => {
                    let (file, name) = open_temporary(&path, mode)?;
                    (file, Target::Temporary(name))
                }
            };
        Ok(Self { writer: BufWriter::new(file), target, path, mode, if_exists })
    }

    /// The underlying file, for a writer on another thread. Nothing may be written through `self`
    /// afterwards.
    pub(crate) fn file(&self) -> io::Result<File> {
        self.writer.get_ref().try_clone()
    }

    /// Syncs the file and gives it its name. Without this call nothing is left behind.
    pub(crate) fn finish(self) -> io::Result<()> {
        let Self { writer, target, path, mode, if_exists } = self;
        let mut file = writer.into_inner().map_err(io::IntoInnerError::into_error)?;
        match target {
            Target::InPlace => return Ok(()),
            Target::Spooled => {
                file.rewind()?;
                return io::copy(&mut file, &mut OpenOptions::new().append(true).open(path)?)
                    .map(drop);
            }
            Target::Unnamed | Target::Temporary(_) => {}
        }
        seal(&file, mode)?;
        let name = match target {
            Target::Temporary(name) => name,
            _ if if_exists == IfExists::Fail => match link(&file, &path) {
                Err(e) if e.kind() != io::ErrorKind::AlreadyExists => {
                    copy_to_temporary(&mut file, &path, mode)?
                }
                linked => return linked,
            },
            _ => {
                let linked = temp_builder().make_in(parent_dir(&path), |name| link(&file, name));
                match linked {
                    Ok(linked) => linked.into_temp_path(),
                    // Without /proc an unnamed file cannot be linked.
                    Err(_) => copy_to_temporary(&mut file, &path, mode)?,
                }
            }
        };
        match if_exists {
            IfExists::Replace => name.persist(&path).map_err(|e| e.error),
            IfExists::Fail => name.persist_noclobber(&path).or_else(|e| match e.error.kind() {
                io::ErrorKind::AlreadyExists => Err(e.error),
                _ => copy_to_new(&mut file, &path, mode),
            }),
        }
    }
}

impl Write for AtomicFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.writer.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

/// Whether `path` is no regular file, or one of this process's own streams behind any link.
pub(crate) fn is_special_file(path: &Path) -> bool {
    let is_stream = path.starts_with("/proc")
        || path.starts_with("/dev/fd")
        || ["/dev/stdout", "/dev/stderr"].map(Path::new).contains(&path);
    is_stream || fs::metadata(path).is_ok_and(|found| !found.is_file())
}

/// The target of a symbolic link, which need not exist; any other path unchanged.
pub(crate) fn resolve_links(path: &Path) -> io::Result<PathBuf> {
    let mut path = path.to_owned();
    for _ in 0..LINKS_MAX {
        let Ok(next) = fs::read_link(&path) else { return Ok(path) };
        path = parent_dir(&path).join(next);
    }
    Err(rustix::io::Errno::LOOP.into())
}

/// The directory that holds `path`; `.` for a bare name.
pub(crate) fn parent_dir(path: &Path) -> &Path {
    path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// A new file without a name in `dir`; `None` where the file system cannot make one.
#[cfg(target_os = "linux")]
fn open_unnamed(dir: &Path, mode: u32) -> Option<File> {
    use rustix::fs::{Mode, OFlags, open};
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    open(dir, flags, Mode::from_raw_mode(mode)).ok().map(File::from)
}

#[cfg(not(target_os = "linux"))]
fn open_unnamed(_dir: &Path, _mode: u32) -> Option<File> {
    None
}

/// Gives an unnamed file the name `path`, which must be unused.
#[cfg(target_os = "linux")]
fn link(file: &File, path: &Path) -> io::Result<()> {
    use rustix::fs::{AtFlags, CWD, linkat};
    use std::os::fd::AsRawFd as _;
    let from = format!("/proc/self/fd/{}", file.as_raw_fd());
    Ok(linkat(CWD, from, CWD, path, AtFlags::SYMLINK_FOLLOW)?)
}

#[cfg(not(target_os = "linux"))]
fn link(_file: &File, _path: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

fn temp_builder() -> Builder<'static, 'static> {
    let mut builder = Builder::new();
    builder.prefix(TEMP_PREFIX).suffix(".new");
    builder
}

/// A new file in the directory of `path`, under a random name.
fn open_temporary(path: &Path, mode: Option<u32>) -> io::Result<(File, TempPath)> {
    let mode = Permissions::from_mode(mode.unwrap_or(MODE_BEFORE_UMASK));
    Ok(temp_builder().permissions(mode).tempfile_in(parent_dir(path))?.into_parts())
}

/// Copies `file` to a temporary file in the directory of `path`.
fn copy_to_temporary(file: &mut File, path: &Path, mode: Option<u32>) -> io::Result<TempPath> {
    let (mut copy, name) = open_temporary(path, mode)?;
    file.rewind()?;
    io::copy(file, &mut copy)?;
    seal(&copy, mode)?;
    Ok(name)
}

/// Copies `file` to `path` on a file system that can neither link nor rename without replacing.
fn copy_to_new(file: &mut File, path: &Path, mode: Option<u32>) -> io::Result<()> {
    let mode_at_first = mode.unwrap_or(MODE_BEFORE_UMASK);
    let new = OpenOptions::new().write(true).create_new(true).mode(mode_at_first).open(path);
    let mut new = new?;
    let written = file.rewind().and_then(|()| io::copy(file, &mut new));
    written.and_then(|_| seal(&new, mode)).inspect_err(|_| {
        let _ = fs::remove_file(path);
    })
}

/// Sets permissions and mark, and syncs. A file system without permissions refuses the first, which
/// is harmless: the file was created with no wider ones.
fn seal(file: &File, mode: Option<u32>) -> io::Result<()> {
    if let Some(mode) = mode {
        let _ = file.set_permissions(Permissions::from_mode(mode));
    }
    set_mark(file);
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRIVATE: Option<u32> = Some(super::PRIVATE);

    fn names(folder: &Path) -> usize {
        fs::read_dir(folder).unwrap().count()
    }

    #[test]
    fn replace_is_atomic_and_sets_permissions() {
        let folder = tempfile::tempdir().unwrap();
        let (path, link) = (folder.path().join("a.prom"), folder.path().join("link"));
        fs::write(&path, "old").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        std::os::unix::fs::symlink("a.prom", &link).unwrap();
        write_atomic(&link, b"new", Some(0o644), IfExists::Replace).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o644);
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(names(folder.path()), 2);
    }

    #[test]
    fn dangling_link_creates_its_target() {
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join("link");
        std::os::unix::fs::symlink("target", &link).unwrap();
        write_atomic(&link, b"new", PRIVATE, IfExists::Replace).unwrap();
        assert_eq!(fs::read_to_string(folder.path().join("target")).unwrap(), "new");
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        let around = folder.path().join("around");
        std::os::unix::fs::symlink("around", &around).unwrap();
        write_atomic(&around, b"x", PRIVATE, IfExists::Replace).unwrap_err();
    }

    #[test]
    fn unfinished_file_keeps_the_old_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.csv");
        fs::write(&path, "old").unwrap();
        let mut file = AtomicFile::create(&path, PRIVATE, IfExists::Replace).unwrap();
        file.write_all(&vec![b'x'; 100_000]).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
        drop(file);
        assert_eq!((fs::read_to_string(&path).unwrap().as_str(), names(folder.path())), ("old", 1));
    }

    #[test]
    fn name_of_255_bytes_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x".repeat(255));
        for if_exists in [IfExists::Fail, IfExists::Replace] {
            write_atomic(&path, b"new", PRIVATE, if_exists).unwrap();
        }
        assert_eq!(names(folder.path()), 1);
    }

    #[test]
    fn temporary_file_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.csv");
        for if_exists in [IfExists::Fail, IfExists::Replace] {
            let (file, name) = open_temporary(&path, PRIVATE).unwrap();
            let (writer, target) = (BufWriter::new(file), Target::Temporary(name));
            let mut file =
                AtomicFile { writer, target, path: path.clone(), mode: PRIVATE, if_exists };
            file.write_all(b"new").unwrap();
            file.finish().unwrap();
        }
        assert_eq!((fs::read_to_string(&path).unwrap().as_str(), names(folder.path())), ("new", 1));
    }

    #[test]
    fn existing_file_or_directory_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let (path, under) = (folder.path().join("a.toml"), folder.path().join("folder"));
        write_atomic(&path, b"first", PRIVATE, IfExists::Fail).unwrap();
        let refused = write_atomic(&path, b"second", PRIVATE, IfExists::Fail).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read_to_string(&path).unwrap(), "first");
        fs::create_dir(&under).unwrap();
        for if_exists in [IfExists::Replace, IfExists::Fail] {
            write_atomic(&under, b"x", PRIVATE, if_exists).unwrap_err();
        }
        assert_eq!(names(folder.path()), 2);
        write_atomic(Path::new("/dev/null"), b"x", PRIVATE, IfExists::Replace).unwrap();
        assert!(!fs::metadata("/dev/null").unwrap().is_file());
    }
}
