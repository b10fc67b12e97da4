//! A file written whole: nobody ever reads half of it, and nothing is left beside it.
//!
//! Relies on the file system to rename within a folder in one step. Never follows a link that
//! somebody has put where the new file is made, and never keeps the new file when it fails.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// How many names for a file on the way are tried.
const NAMES_TRIED: u32 = 100;

/// What becomes of a file that is there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum IfThere {
    /// The new one takes its place; a device or a pipe is written as it is.
    Replace,
    /// It stays, and the error is [`io::ErrorKind::AlreadyExists`].
    Refuse,
}

/// Writes `bytes` to `path` with the permissions `mode`, whatever the umask: the whole file, or
/// what was there before.
pub(super) fn write_whole(path: &Path, bytes: &[u8], mode: u32, there: IfThere) -> io::Result<()> {
    let resolved = match there {
        // What a link leads to is replaced, not the link.
        IfThere::Replace => fs::canonicalize(path).ok(),
        IfThere::Refuse => None,
    };
    let path = resolved.as_deref().unwrap_or(path);
    if there == IfThere::Replace && fs::metadata(path).is_ok_and(|found| !found.is_file()) {
        return OpenOptions::new().write(true).open(path)?.write_all(bytes);
    }
    let (file, beside) = create_beside(path, mode)?;
    let written = fill(file, bytes, mode).and_then(|()| match there {
        IfThere::Replace => fs::rename(&beside, path),
        IfThere::Refuse => link(&beside, path, bytes, mode),
    });
    // After a rename it is gone already.
    if written.is_err() || there == IfThere::Refuse {
        let _ = fs::remove_file(&beside);
    }
    written
}

/// Gives the whole file its name, which nobody has yet. Where the file system has no links, it
/// is written there under its name.
fn link(whole: &Path, path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    match fs::hard_link(whole, path) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Err(e),
        Err(_) => {
            let file = create(path, mode)?;
            fill(file, bytes, mode).inspect_err(|_| {
                let _ = fs::remove_file(path);
            })
        }
        Ok(()) => Ok(()),
    }
}

fn fill(mut file: File, bytes: &[u8], mode: u32) -> io::Result<()> {
    file.write_all(bytes)?;
    file.set_permissions(Permissions::from_mode(mode))?;
    file.sync_all()
}

/// A new file in the folder of `path`, under a name that nobody can guess and no exporter reads.
fn create_beside(path: &Path, mode: u32) -> io::Result<(File, PathBuf)> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let mut tried = 0;
    loop {
        let mut beside = std::ffi::OsString::from(".");
        beside.push(name);
        beside.push(format!(".{:016x}.new", fastrand::u64(..)));
        let beside = path.with_file_name(beside);
        match create(&beside, mode) {
            Ok(file) => return Ok((file, beside)),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists && tried < NAMES_TRIED => tried += 1,
            Err(e) => return Err(e),
        }
    }
}

fn create(path: &Path, mode: u32) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(mode).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> usize {
        fs::read_dir(folder).unwrap().count()
    }

    #[test]
    fn a_file_is_replaced_whole_with_its_permissions_and_nothing_is_left_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let (path, link) = (folder.path().join("a.prom"), folder.path().join("link"));
        fs::write(&path, "old").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        std::os::unix::fs::symlink(&path, &link).unwrap();
        write_whole(&link, b"new", 0o644, IfThere::Replace).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o644);
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(names(folder.path()), 2);
    }

    #[test]
    fn a_file_that_is_there_or_a_folder_stays_and_nothing_is_left_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let (path, under) = (folder.path().join("a.toml"), folder.path().join("folder"));
        write_whole(&path, b"first", 0o600, IfThere::Refuse).unwrap();
        let refused = write_whole(&path, b"second", 0o600, IfThere::Refuse).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read_to_string(&path).unwrap(), "first");
        fs::create_dir(&under).unwrap();
        for there in [IfThere::Replace, IfThere::Refuse] {
            write_whole(&under, b"x", 0o600, there).unwrap_err();
        }
        assert_eq!(names(folder.path()), 2);
        write_whole(Path::new("/dev/null"), b"x", 0o600, IfThere::Replace).unwrap();
        assert!(!fs::metadata("/dev/null").unwrap().is_file());
    }
}
