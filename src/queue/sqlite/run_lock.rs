//! The operating system's lock that makes a run the only one on its queue.
//!
//! It lives in a file beside the queue and dies with the process that holds it, so whoever
//! gets it knows that every request in flight is an orphan. The text in the file is for
//! people; the lock alone decides. The file is never removed: a removed lock file can be
//! locked twice. People do it all the same, and move queues about, so a run looks again and
//! again whether both files are still the ones that it took.

use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use serde::{Deserialize, Serialize};

use crate::domain::clock::utc_text;
use crate::queue::sqlite::lock_file::LockFile;
use crate::queue::{QueueError, RequestId, RunId};

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

impl Holder {
    pub(in crate::queue) fn this_process(now_ms: i64) -> Self {
        let host = gethostname::gethostname().to_string_lossy().into_owned();
        Self { host, pid: std::process::id(), since_ms: now_ms }
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {} on {}, since {}", self.pid, self.host, utc_text(self.since_ms))
    }
}

/// The last request that a run has sent, as far as its lock says: what the queue file has to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::queue) struct LastSent {
    pub(in crate::queue) run: RunId,
    pub(in crate::queue) started_ms: i64,
    pub(in crate::queue) request: RequestId,
}

/// The line in the lock file.
#[derive(Debug, Serialize, Deserialize)]
struct Line {
    #[serde(flatten)]
    holder: Holder,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last_sent: Option<LastSent>,
}

/// What the lock said of the run before, when it was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::queue) enum Before {
    /// There was no lock file.
    NoFile,
    /// It names no request.
    Nothing,
    /// It does.
    Sent(LastSent),
}

/// The open lock file, and its text.
#[derive(Debug)]
pub(in crate::queue) struct Held {
    file: LockFile,
    line: Mutex<Line>,
}

impl Held {
    /// Notes that a request may leave. Only evidence is lost where that fails.
    pub(in crate::queue) fn note(&self, sent: LastSent) {
        let mut line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        line.last_sent = Some(sent);
        if let Err(error) = self.file.write(&*line) {
            tracing::debug!(%error, "the lock does not name the last request");
        }
    }
}

/// The right to run on a queue, for as long as this value lives.
#[derive(Debug)]
pub struct RunLock {
    /// Closing it gives the lock back.
    held: Arc<Held>,
    holder: Holder,
    /// Until a run has begun.
    before: Mutex<Option<Before>>,
    database: PathBuf,
    /// The lock file and the queue file as they were found.
    taken: [(PathBuf, Identity); 2],
    /// The log and its index, by the first look that found them: a queue that is not open has none.
    log: [(PathBuf, OnceLock<Identity>); 2],
}

/// Which file a path leads to; `None`: to none.
pub(in crate::queue) type Identity = Option<(u64, u64)>;

pub(in crate::queue) fn identity(path: &Path) -> Identity {
    fs::metadata(path).ok().map(|found| (found.dev(), found.ino()))
}

impl RunLock {
    /// Takes the lock beside the queue file `database`, or says at once who has it.
    ///
    /// # Errors
    /// [`QueueError::Held`] with the holder, [`QueueError::LockFile`] when what is there is no lock
    /// file that this user can use, or [`QueueError::Unusable`].
    pub fn take(database: &Path, now_ms: i64) -> Result<Self, QueueError> {
        let path = beside(database, ".lock");
        let file = LockFile::open_or_make(&path, 0o600, database)?;
        if !file.lock()? {
            return Err(QueueError::Held(read_holder(&file)));
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
        let held = Arc::new(Held { file, line: Mutex::new(line) });
        let before = Mutex::new(Some(before));
        Ok(Self { held, holder, before, database: database.to_owned(), taken, log })
    }

    /// Who has the queue file `database`, if somebody has. Looking holds the lock for a moment,
    /// so a taker that is refused should try again before it believes it.
    ///
    /// # Errors
    /// [`QueueError::LockFile`] or [`QueueError::Unusable`] when the lock file cannot be read.
    pub fn holder_of(database: &Path) -> Result<Option<Holder>, QueueError> {
        let file = match LockFile::open(&beside(database, ".lock"), false) {
            Ok(file) => file,
            Err(QueueError::Missing(_)) => return Ok(None),
            Err(error) => return Err(error),
        };
        Ok(if file.look()? { None } else { Some(read_holder(&file)) })
    }

    /// Fails once the lock, the queue file or its log has been removed or replaced: what this process
    /// has open is then no longer what others see, and another run may have the queue. Fails too once
    /// the queue file has a second name.
    ///
    /// # Errors
    /// [`QueueError::Replaced`], [`QueueError::Linked`].
    pub fn check(&self) -> Result<(), QueueError> {
        let replaced = |path: &PathBuf| Err(QueueError::Replaced(path.clone()));
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

    /// This process, as others see it.
    pub fn holder(&self) -> &Holder {
        &self.holder
    }

    /// What the lock said of the run before, once; `None` where it is not that of `database`.
    pub(in crate::queue) fn take_before(&self, database: &Path) -> Option<Before> {
        let mut before = self.before.lock().unwrap_or_else(PoisonError::into_inner);
        if self.database == database { before.take() } else { None }
    }

    /// The open lock file, for as long as the lock is held.
    pub(in crate::queue) fn held(&self) -> Weak<Held> {
        Arc::downgrade(&self.held)
    }
}

/// What the lock of the queue file `database`, which may be free, says of the run before.
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

/// The name of a file beside the queue file `database`, which ends in `end`.
pub(in crate::queue) fn beside(database: &Path, end: &str) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push(end);
    name.into()
}

/// The holder may be between making the file and writing its name.
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
            Err(QueueError::Held(holder)) => assert_eq!(&holder, first.holder()),
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
            assert!(matches!(&noticed, Err(QueueError::Replaced(path)) if *path == replaced));
            fs::remove_file(&replaced).unwrap();
            assert!(matches!(lock.check(), Err(QueueError::Replaced(_))));
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
        assert_eq!(first.take_before(&database), Some(Before::NoFile));
        first.held.note(sent);
        drop(first);
        for _ in 0..2 {
            assert_eq!(before_of(&database), Before::Sent(sent));
            let next = RunLock::take(&database, 2_000).unwrap();
            assert_eq!(next.take_before(folder.path()), None);
            assert_eq!(next.take_before(&database), Some(Before::Sent(sent)));
            assert_eq!(next.take_before(&database), None);
        }
        fs::write(beside(&database, ".lock"), "torn {").unwrap();
        assert_eq!(before_of(&database), Before::Nothing);
    }
}
