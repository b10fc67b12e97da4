//! The operating system's lock that makes a run the only one on its queue.
//!
//! It lives in a file beside the queue and dies with the process that holds it, so whoever
//! gets it knows that every request in flight is an orphan. The text in the file is for
//! people; the lock alone decides. The file is never removed: a removed lock file can be
//! locked twice. People do it all the same, and move queues about, so a run looks again and
//! again whether both files are still the ones that it took.

use std::fmt;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::StoreError;
use crate::clock::utc_text;

/// Who holds a queue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// The host's name.
    pub host: String,
    /// The process's number.
    pub pid: u32,
    /// Since when, in UTC milliseconds.
    pub since_ms: i64,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {} on {}, since {}", self.pid, self.host, utc_text(self.since_ms))
    }
}

/// The right to run on a queue, for as long as this value lives.
#[derive(Debug)]
pub struct RunLock {
    /// Closing it gives the lock back.
    _file: File,
    holder: Holder,
    /// The lock file and the queue file as they were found.
    taken: [(PathBuf, Identity); 2],
}

/// Which file a path leads to; `None`: to none.
pub(super) type Identity = Option<(u64, u64)>;

pub(super) fn identity(path: &Path) -> Identity {
    fs::metadata(path).ok().map(|found| (found.dev(), found.ino()))
}

impl RunLock {
    /// Takes the lock beside the queue file `database`, or says at once who has it.
    ///
    /// # Errors
    /// [`StoreError::Held`] with the holder, or [`StoreError::Unusable`] when the lock file
    /// cannot be used.
    pub fn take(database: &Path, now_ms: i64) -> Result<Self, StoreError> {
        let path = lock_path(database);
        let unusable = |source| StoreError::Unusable { path: path.clone(), source };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(unusable)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(StoreError::Held(read_holder(&mut file))),
            Err(TryLockError::Error(source)) => return Err(unusable(source)),
        }
        let holder = Holder {
            host: gethostname::gethostname().to_string_lossy().into_owned(),
            pid: std::process::id(),
            since_ms: now_ms,
        };
        let text = serde_json::to_string(&holder).unwrap_or_default();
        file.set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| file.write_all(text.as_bytes()))
            .map_err(unusable)?;
        let taken = [path, database.to_owned()].map(|path| (path.clone(), identity(&path)));
        Ok(Self { _file: file, holder, taken })
    }

    /// Who has the queue file `database`, if somebody has. Looking holds the lock for a moment,
    /// so a taker that is refused should try again before it believes it.
    ///
    /// # Errors
    /// [`StoreError::Unusable`] when the lock file cannot be read.
    pub fn holder_of(database: &Path) -> Result<Option<Holder>, StoreError> {
        let path = lock_path(database);
        let mut file = match File::open(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(StoreError::Unusable { path, source }),
        };
        match file.try_lock_shared() {
            Ok(()) => Ok(None),
            Err(TryLockError::WouldBlock) => Ok(Some(read_holder(&mut file))),
            Err(TryLockError::Error(source)) => Err(StoreError::Unusable { path, source }),
        }
    }

    /// Fails once the lock or the queue file has been removed or replaced: what this process
    /// has open is then no longer what others see, and another run may be going on.
    ///
    /// # Errors
    /// [`StoreError::Replaced`].
    pub fn check(&self) -> Result<(), StoreError> {
        match self.taken.iter().find(|(path, found)| identity(path) != *found) {
            Some((path, _)) => Err(StoreError::Replaced(path.clone())),
            None => Ok(()),
        }
    }

    /// This process, as others see it.
    pub fn holder(&self) -> &Holder {
        &self.holder
    }
}

fn lock_path(database: &Path) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push(".lock");
    name.into()
}

/// The holder may be between taking the lock and writing its name.
fn read_holder(file: &mut File) -> Holder {
    let mut text = String::new();
    let read = file.read_to_string(&mut text);
    read.ok().and_then(|_| serde_json::from_str(&text).ok()).unwrap_or(Holder {
        host: "this host".to_owned(),
        pid: 0,
        since_ms: 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_taker_is_told_who_has_it_and_a_freed_lock_can_be_taken() {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("queue.db");
        let first = RunLock::take(&database, 1_000).unwrap();
        match RunLock::take(&database, 2_000) {
            Err(StoreError::Held(holder)) => assert_eq!(&holder, first.holder()),
            other => panic!("{other:?}"),
        }
        first.check().unwrap();
        assert_eq!(RunLock::holder_of(&database).unwrap().as_ref(), Some(first.holder()));
        drop(first);
        assert_eq!(RunLock::holder_of(&database).unwrap(), None);
        assert_eq!(RunLock::take(&database, 3_000).unwrap().holder().since_ms, 3_000);
    }

    #[test]
    fn a_lock_or_a_queue_that_was_removed_or_replaced_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let (database, other) = (folder.path().join("queue.db"), folder.path().join("other"));
        for replaced in [database.clone(), lock_path(&database)] {
            fs::write(&database, "").unwrap();
            let lock = RunLock::take(&database, 1_000).unwrap();
            fs::copy(&replaced, &other).unwrap();
            lock.check().unwrap();
            fs::rename(&other, &replaced).unwrap();
            let noticed = lock.check();
            assert!(matches!(&noticed, Err(StoreError::Replaced(path)) if *path == replaced));
            fs::remove_file(&replaced).unwrap();
            assert!(matches!(lock.check(), Err(StoreError::Replaced(_))));
        }
    }
}
