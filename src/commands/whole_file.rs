//! A file written whole: nobody ever reads half of it, and nothing is left beside it.
//!
//! Every file that a command writes goes through here. Where the system allows it, the new file
//! has no name before it is whole, so that even a kill leaves nothing. Relies on the file system
//! to rename within a folder in one step. Follows a link to what it leads to, and replaces that;
//! what is no file, as a pipe or a device, is written as it is. Asks nobody whether an old file
//! may go: `replace.rs` does.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, BufWriter, Seek as _, Write};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use tempfile::{Builder, TempPath};

use super::replace::mark;

/// The most links that are followed.
const LINKS_MAX: usize = 40;

/// The start of a new file's name where it has to have one: short, since a file system takes no
/// more than 255 bytes, and with no ending that any exporter reads.
const NAME_START: &str = ".deskbatch-";

/// The mode of a new file that others may read as the umask has it.
const BY_UMASK: u32 = 0o666;

/// What becomes of a file that is there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum IfThere {
    /// The new one takes its place; a device or a pipe is written as it is.
    Replace,
    /// It stays, and the error is [`io::ErrorKind::AlreadyExists`].
    Refuse,
}

/// A file that is being written.
#[derive(Debug)]
pub(super) struct WholeFile {
    to: BufWriter<File>,
    place: Place,
    path: PathBuf,
    /// The permissions, whatever the umask; `None`: as the umask has them.
    mode: Option<u32>,
    there: IfThere,
}

/// Where the bytes are until they are whole.
#[derive(Debug)]
enum Place {
    /// In the folder, without a name.
    Nameless,
    /// In the folder, under a name that is gone when this is dropped.
    Named(TempPath),
    /// Elsewhere, without a name, to be copied to what is no file.
    Held,
    /// Where they belong, which is no file.
    There,
}

/// Writes `bytes` to `path`: the whole file, or what was there before.
pub(super) fn write_whole(
    path: &Path,
    bytes: &[u8],
    mode: Option<u32>,
    there: IfThere,
) -> io::Result<()> {
    let mut file = WholeFile::create(path, mode, there)?;
    file.write_all(bytes)?;
    file.finish()
}

impl WholeFile {
    /// Begins the file at `path`; what is no file is written at once.
    pub(super) fn create(path: &Path, mode: Option<u32>, there: IfThere) -> io::Result<Self> {
        if there == IfThere::Refuse {
            return Self::beside(path.to_owned(), mode, there);
        }
        if is_no_file(path) {
            let to = BufWriter::new(OpenOptions::new().append(true).open(path)?);
            return Ok(Self { to, place: Place::There, path: path.to_owned(), mode, there });
        }
        Self::beside(followed(path)?, mode, there)
    }

    /// The same for what may be thought better of: what is no file is written when it is finished.
    pub(super) fn create_held(path: &Path, mode: u32) -> io::Result<Self> {
        if !is_no_file(path) {
            return Self::create(path, Some(mode), IfThere::Replace);
        }
        let (to, path) = (BufWriter::new(tempfile::tempfile()?), path.to_owned());
        Ok(Self { to, place: Place::Held, path, mode: Some(mode), there: IfThere::Replace })
    }

    fn beside(path: PathBuf, mode: Option<u32>, there: IfThere) -> io::Result<Self> {
        if path.file_name().is_none() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let (file, place) = match nameless(folder(&path), mode.unwrap_or(BY_UMASK)) {
            Some(file) => (file, Place::Nameless),
            None => named(&path, mode).map(|(file, name)| (file, Place::Named(name)))?,
        };
        Ok(Self { to: BufWriter::new(file), place, path, mode, there })
    }

    /// The file itself, for another thread to write to; nothing may be written here then.
    pub(super) fn file(&self) -> io::Result<File> {
        self.to.get_ref().try_clone()
    }

    /// Gives the whole file its name. Dropped without it, the file leaves nothing behind.
    pub(super) fn finish(self) -> io::Result<()> {
        let Self { to, place, path, mode, there } = self;
        let mut file = to.into_inner().map_err(io::IntoInnerError::into_error)?;
        match place {
            Place::There => return Ok(()),
            Place::Held => {
                file.rewind()?;
                return io::copy(&mut file, &mut OpenOptions::new().append(true).open(path)?)
                    .map(drop);
            }
            Place::Nameless | Place::Named(_) => {}
        }
        seal(&file, mode)?;
        let name = match place {
            Place::Named(name) => name,
            _ if there == IfThere::Refuse => match link(&file, &path) {
                Err(e) if e.kind() != io::ErrorKind::AlreadyExists => {
                    copied(&mut file, &path, mode)?
                }
                linked => return linked,
            },
            _ => {
                let linked = builder().make_in(folder(&path), |name| link(&file, name));
                match linked {
                    Ok(linked) => linked.into_temp_path(),
                    // Where /proc is not mounted nothing without a name can get one.
                    Err(_) => copied(&mut file, &path, mode)?,
                }
            }
        };
        match there {
            IfThere::Replace => name.persist(&path).map_err(|e| e.error),
            IfThere::Refuse => name.persist_noclobber(&path).or_else(|e| match e.error.kind() {
                io::ErrorKind::AlreadyExists => Err(e.error),
                _ => create_new(&mut file, &path, mode),
            }),
        }
    }
}

impl Write for WholeFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.to.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

/// Whether `path` is no file, or one of this process's own streams, wherever that leads.
pub(super) fn is_no_file(path: &Path) -> bool {
    let is_stream = path.starts_with("/proc")
        || path.starts_with("/dev/fd")
        || ["/dev/stdout", "/dev/stderr"].map(Path::new).contains(&path);
    is_stream || fs::metadata(path).is_ok_and(|found| !found.is_file())
}

/// What a link leads to, whether or not it is there.
pub(super) fn followed(path: &Path) -> io::Result<PathBuf> {
    let mut path = path.to_owned();
    for _ in 0..LINKS_MAX {
        let Ok(next) = fs::read_link(&path) else { return Ok(path) };
        path = folder(&path).join(next);
    }
    Err(rustix::io::Errno::LOOP.into())
}

/// The folder of `path`.
pub(super) fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// A new file without a name in `folder`, where the system has such.
#[cfg(target_os = "linux")]
fn nameless(folder: &Path, mode: u32) -> Option<File> {
    use rustix::fs::{Mode, OFlags, open};
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    open(folder, flags, Mode::from_raw_mode(mode)).ok().map(File::from)
}

#[cfg(not(target_os = "linux"))]
fn nameless(_folder: &Path, _mode: u32) -> Option<File> {
    None
}

/// Gives a file without a name the name `path`, which nobody has yet.
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

fn builder() -> Builder<'static, 'static> {
    let mut builder = Builder::new();
    builder.prefix(NAME_START).suffix(".new");
    builder
}

/// A new file beside `path`, under a name that nobody can guess.
fn named(path: &Path, mode: Option<u32>) -> io::Result<(File, TempPath)> {
    let mode = Permissions::from_mode(mode.unwrap_or(BY_UMASK));
    Ok(builder().permissions(mode).tempfile_in(folder(path))?.into_parts())
}

/// The same with the bytes of `file`.
fn copied(file: &mut File, path: &Path, mode: Option<u32>) -> io::Result<TempPath> {
    let (mut copy, name) = named(path, mode)?;
    file.rewind()?;
    io::copy(file, &mut copy)?;
    seal(&copy, mode)?;
    Ok(name)
}

/// Writes the bytes of `file` where the file system can neither link nor rename without
/// replacing.
fn create_new(file: &mut File, path: &Path, mode: Option<u32>) -> io::Result<()> {
    let mode_at_first = mode.unwrap_or(BY_UMASK);
    let new = OpenOptions::new().write(true).create_new(true).mode(mode_at_first).open(path);
    let mut new = new?;
    let written = file.rewind().and_then(|()| io::copy(file, &mut new));
    written.and_then(|_| seal(&new, mode)).inspect_err(|_| {
        let _ = fs::remove_file(path);
    })
}

/// Makes what was written last. A file system that knows no permissions refuses them, and
/// nothing is lost by that: no file was given more than these when it was made.
fn seal(file: &File, mode: Option<u32>) -> io::Result<()> {
    if let Some(mode) = mode {
        let _ = file.set_permissions(Permissions::from_mode(mode));
    }
    mark(file);
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRIVATE: Option<u32> = Some(0o600);

    fn names(folder: &Path) -> usize {
        fs::read_dir(folder).unwrap().count()
    }

    #[test]
    fn a_file_is_replaced_whole_with_its_permissions_and_nothing_is_left_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let (path, link) = (folder.path().join("a.prom"), folder.path().join("link"));
        fs::write(&path, "old").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        std::os::unix::fs::symlink("a.prom", &link).unwrap();
        write_whole(&link, b"new", Some(0o644), IfThere::Replace).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o644);
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(names(folder.path()), 2);
    }

    #[test]
    fn link_to_nothing_makes_its_target() {
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join("link");
        std::os::unix::fs::symlink("target", &link).unwrap();
        write_whole(&link, b"new", PRIVATE, IfThere::Replace).unwrap();
        assert_eq!(fs::read_to_string(folder.path().join("target")).unwrap(), "new");
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        let around = folder.path().join("around");
        std::os::unix::fs::symlink("around", &around).unwrap();
        write_whole(&around, b"x", PRIVATE, IfThere::Replace).unwrap_err();
    }

    #[test]
    fn unfinished_file_leaves_the_old_one_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.csv");
        fs::write(&path, "old").unwrap();
        let mut file = WholeFile::create(&path, PRIVATE, IfThere::Replace).unwrap();
        file.write_all(&vec![b'x'; 100_000]).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
        drop(file);
        assert_eq!((fs::read_to_string(&path).unwrap().as_str(), names(folder.path())), ("old", 1));
    }

    #[test]
    fn longest_name_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x".repeat(255));
        for there in [IfThere::Refuse, IfThere::Replace] {
            write_whole(&path, b"new", PRIVATE, there).unwrap();
        }
        assert_eq!(names(folder.path()), 1);
    }

    #[test]
    fn named_way_leaves_nothing_beside_either() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.csv");
        for there in [IfThere::Refuse, IfThere::Replace] {
            let (file, name) = named(&path, PRIVATE).unwrap();
            let (to, place) = (BufWriter::new(file), Place::Named(name));
            let mut file = WholeFile { to, place, path: path.clone(), mode: PRIVATE, there };
            file.write_all(b"new").unwrap();
            file.finish().unwrap();
        }
        assert_eq!((fs::read_to_string(&path).unwrap().as_str(), names(folder.path())), ("new", 1));
    }

    #[test]
    fn a_file_that_is_there_or_a_folder_stays_and_nothing_is_left_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let (path, under) = (folder.path().join("a.toml"), folder.path().join("folder"));
        write_whole(&path, b"first", PRIVATE, IfThere::Refuse).unwrap();
        let refused = write_whole(&path, b"second", PRIVATE, IfThere::Refuse).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read_to_string(&path).unwrap(), "first");
        fs::create_dir(&under).unwrap();
        for there in [IfThere::Replace, IfThere::Refuse] {
            write_whole(&under, b"x", PRIVATE, there).unwrap_err();
        }
        assert_eq!(names(folder.path()), 2);
        write_whole(Path::new("/dev/null"), b"x", PRIVATE, IfThere::Replace).unwrap();
        assert!(!fs::metadata("/dev/null").unwrap().is_file());
    }
}
