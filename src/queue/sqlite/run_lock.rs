//! The operating-system lock that admits one run at a time to a queue.
//!
//! It belongs to a file beside the queue and ends with the process that holds it, so its next holder
//! knows that every request in flight is orphaned. The text in the file is for people; only the lock
//! decides. This program never removes the file, since two processes could then lock two files of one
//! name. Users may still remove or replace files, so a run checks again and again whether both files
//! are the ones it opened.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::{fmt, fs};

use serde::{Deserialize, Serialize};

use crate::domain::clock::utc_text;
use crate::queue::sqlite::lock_file::LockFile;
use crate::queue::{QueueError, RequestId, RunId};

/// The holder of a run lock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Holder {
    /// The host name.
    pub host: String,
    /// The process id.
    pub pid: u32,
    /// The time of taking the lock, in UTC milliseconds.
    pub since_ms: i64,
}

impl Holder {
    pub(in crate::queue) fn this_process(now_ms: i64) -> Self {
        let host = gethostname::gethostname().to_string_lossy().into_owned();
        Self { host, pid: std::process::id(), since_ms: now_ms }
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A process that is taking the lock has not written its line yet.
        if self.pid == 0 {
            return f.write_str("an unknown process");
        }
        write!(f, "process {} on {}, since {}", self.pid, self.host, utc_text(self.since_ms))
    }
}

/// The last request that a run sent, according to its lock file. An intact queue file knows this
/// request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::queue) struct LastSent {
    pub(in crate::queue) run: RunId,
    pub(in crate::queue) started_ms: i64,
    pub(in crate::queue) request: RequestId,
}

/// The JSON line in the lock file.
#[derive(Debug, Serialize, Deserialize)]
struct Line {
    #[serde(flatten)]
    holder: Holder,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last_sent: Option<LastSent>,
}

/// What the lock file said about the previous run at the time of taking the lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::queue) enum Before {
    /// There was no lock file.
    NoFile,
    /// The lock file names no request.
    Nothing,
    /// The lock file names the last request.
    Sent(LastSent),
}

/// The open lock file and its text.
#[derive(Debug)]
pub(in crate::queue) struct LockFileText {
    file: LockFile,
    line: Mutex<Line>,
}

impl LockFileText {
    /// Records that a request may leave. A failed write loses only evidence for the detection of a lost
    /// log.
    pub(in crate::queue) fn note(&self, sent: LastSent) {
        let mut line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        line.last_sent = Some(sent);
        if let Err(error) = self.file.write(&*line) {
            tracing::debug!(%error, "cannot record the last request in the lock file");
        }
    }
}

/// The run lock, held for as long as this value lives.
#[derive(Debug)]
pub(in crate::queue) struct RunLock {
    /// Dropping the last reference closes the file and releases the lock.
    held: Arc<LockFileText>,
    holder: Holder,
    /// What the lock file said about the previous run when the lock was taken.
    before: Before,
    database: PathBuf,
    /// The identities of the lock file and of the queue file at the time of taking the lock.
    taken: [(PathBuf, Identity); 2],
    /// The identities of the write-ahead log and its index, set by the first check that finds them: a
    /// closed queue has neither.
    log: [(PathBuf, OnceLock<Identity>); 2],
}

/// Device and inode of the file at a path; `None` if there is no file.
pub(in crate::queue) type Identity = Option<(u64, u64)>;

pub(in crate::queue) fn identity(path: &Path) -> Identity {
    fs::metadata(path).ok().map(|found| (found.dev(), found.ino()))
}

impl RunLock {
    /// Takes the lock beside the queue file `database`, without waiting.
    ///
    /// # Errors
    /// [`QueueError::Locked`] with the holder, [`QueueError::LockFile`] when the file at the lock's path
    /// cannot be used as a lock by this user, or [`QueueError::Unusable`].
    pub(in crate::queue) fn take(database: &Path, now_ms: i64) -> Result<Self, QueueError> {
        let path = beside(database, ".lock");
        let file = LockFile::open_or_make(&path, 0o600, database)?;
        if !file.lock()? {
            return Err(QueueError::Locked(read_holder(&file)));
        }
        let before = before(Some(&file));
        let last_sent = match before {
            Before::Sent(sent) => Some(sent),
            Before::NoFile | Before::Nothing => None,
        };
        let holder = Holder::this_process(now_ms);
        let line = Line { holder: holder.clone(), last_sent };
        file.write(&line)?;
        let taken = [path, database.to_owned()].map(|path| (path.clone(), identity(&path)));
        let log = ["-wal", "-shm"].map(|end| (beside(database, end), OnceLock::new()));
        let held = Arc::new(LockFileText { file, line: Mutex::new(line) });
        Ok(Self { held, holder, before, database: database.to_owned(), taken, log })
    }

    /// The holder of the lock of `database`, if there is one. The inspection holds a shared lock for a
    /// moment, so a process that fails to take the lock should try again once.
    ///
    /// # Errors
    /// [`QueueError::LockFile`] or [`QueueError::Unusable`] when the lock file cannot be read.
    pub(in crate::queue) fn holder_of(database: &Path) -> Result<Option<Holder>, QueueError> {
        let file = match LockFile::open(&beside(database, ".lock"), false) {
            Ok(file) => file,
            Err(QueueError::Missing(_)) => return Ok(None),
            Err(error) => return Err(error),
        };
        Ok(if file.look()? { None } else { Some(read_holder(&file)) })
    }

    /// Fails once the lock file, the queue file or its log was removed or replaced: this process then
    /// no longer sees what others see, and another run may have the queue. Also fails once the queue
    /// file has a second name.
    ///
    /// # Errors
    /// [`QueueError::ReplacedDuringRun`], [`QueueError::Linked`].
    pub(in crate::queue) fn check(&self) -> Result<(), QueueError> {
        let replaced = |path: &PathBuf| Err(QueueError::ReplacedDuringRun(path.clone()));
        if let Some((path, _)) = self.taken.iter().find(|(path, found)| identity(path) != *found) {
            return replaced(path);
        }
        for (path, found) in &self.log {
            let now = identity(path);
            match found.get() {
                Some(found) if now != *found => return replaced(path),
                None if now.is_some() => found.set(now).unwrap_or_default(),
                _ => {}
            }
        }
        if fs::metadata(&self.database).is_ok_and(|found| found.nlink() > 1) {
            return Err(QueueError::Linked(self.database.clone()));
        }
        Ok(())
    }

    /// This process, as other processes see it.
    pub(in crate::queue) fn holder(&self) -> &Holder {
        &self.holder
    }

    /// What the lock file said about the previous run when the lock was taken.
    pub(in crate::queue) fn before(&self) -> Before {
        self.before
    }

    /// Records in the lock file that the queue file knows every request of the previous run.
    pub(in crate::queue) fn forget_requests(&self) {
        if let Before::Sent(sent) = self.before {
            self.held.note(LastSent { request: 0, ..sent });
        }
    }

    /// A weak reference to the open lock file, valid while the lock is held.
    pub(in crate::queue) fn held(&self) -> Weak<LockFileText> {
        Arc::downgrade(&self.held)
    }
}

/// What the lock file of `database`, which may be unlocked, says about the last run.
pub(in crate::queue) fn before_of(database: &Path) -> Before {
    match LockFile::open(&beside(database, ".lock"), false) {
        Ok(file) => before(Some(&file)),
        Err(_) => before(None),
    }
}

fn before(file: Option<&LockFile>) -> Before {
    let Some(file) = file.filter(|file| !file.is_new) else { return Before::NoFile };
    let line = serde_json::from_str::<Line>(&file.text()).ok();
    line.and_then(|line| line.last_sent).map_or(Before::Nothing, Before::Sent)
}

/// The path of the file beside `database` whose name has the suffix `end`.
pub(in crate::queue) fn beside(database: &Path, end: &str) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push(end);
    name.into()
}

/// Reads the holder. A process that has just created the file may not have written its name yet.
fn read_holder(file: &LockFile) -> Holder {
    let unknown = Holder { host: "this host".to_owned(), pid: 0, since_ms: 0 };
    serde_json::from_str(&file.text()).unwrap_or(unknown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn second_lock_attempt_names_the_holder() {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("queue.db");
        let first = RunLock::take(&database, 1_000).unwrap();
        match RunLock::take(&database, 2_000) {
            Err(QueueError::Locked(holder)) => assert_eq!(&holder, first.holder()),
            other => panic!("{other:?}"),
        }
        first.check().unwrap();
        assert_eq!(RunLock::holder_of(&database).unwrap().as_ref(), Some(first.holder()));
        drop(first);
        assert_eq!(RunLock::holder_of(&database).unwrap(), None);
        assert_eq!(RunLock::take(&database, 3_000).unwrap().holder().since_ms, 3_000);
    }

    #[test]
    fn removed_or_replaced_lock_or_queue_is_detected() {
        let folder = tempfile::tempdir().unwrap();
        let (database, other) = (folder.path().join("queue.db"), folder.path().join("other"));
        for replaced in ["", ".lock", "-wal", "-shm"].map(|end| beside(&database, end)) {
            for end in ["", "-wal", "-shm"] {
                fs::write(beside(&database, end), "").unwrap();
            }
            let lock = RunLock::take(&database, 1_000).unwrap();
            fs::copy(&replaced, &other).unwrap();
            lock.check().unwrap();
            fs::rename(&other, &replaced).unwrap();
            let noticed = lock.check();
            assert!(
                matches!(&noticed, Err(QueueError::ReplacedDuringRun(path)) if *path == replaced)
            );
            fs::remove_file(&replaced).unwrap();
            assert!(matches!(lock.check(), Err(QueueError::ReplacedDuringRun(_))));
        }
    }

    #[test]
    fn queue_file_with_a_second_name_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("queue.db");
        fs::write(&database, "").unwrap();
        let lock = RunLock::take(&database, 1_000).unwrap();
        fs::hard_link(&database, folder.path().join("second.db")).unwrap();
        assert!(matches!(lock.check(), Err(QueueError::Linked(path)) if path == database));
    }

    #[test]
    fn lock_names_the_last_request_of_the_run_before() {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("queue.db");
        let sent = LastSent { run: 7, started_ms: 1, request: 500 };
        assert_eq!(before_of(&database), Before::NoFile);
        let first = RunLock::take(&database, 1_000).unwrap();
        assert_eq!(first.before(), Before::NoFile);
        first.held.note(sent);
        drop(first);
        for _ in 0..2 {
            assert_eq!(before_of(&database), Before::Sent(sent));
            let next = RunLock::take(&database, 2_000).unwrap();
            assert_eq!(next.before(), Before::Sent(sent));
        }
        fs::write(beside(&database, ".lock"), "torn {").unwrap();
        assert_eq!(before_of(&database), Before::Nothing);
    }
}
