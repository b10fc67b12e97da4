//! The lock of an app on this host. The service counts the requests of an app, whichever queue file
//! they come from, so two runs of one app must not send at the same time even if each has its own
//! queue.
//!
//! The lock is advisory. It does not cover a host without a shared folder, a container or service with
//! private folders, or an app that is reached by two addresses. It belongs to an open file, so it ends
//! with its process. Its holder removes the file, and a process that gets a lock checks whether the
//! name still leads to that file.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::{fs, io};

use serde::{Deserialize, Serialize};

use crate::domain::job::App;
use crate::queue::QueueError;
use crate::queue::sqlite::lock_file::LockFile;
use crate::queue::sqlite::run_lock::Holder;
use crate::util::escape::{path_text, visible};

/// The folders of the lock files, the same for all users. A login shell and cron have different
/// environment variables, but share these folders. A run takes a lock in each that it can use.
const FOLDERS: [&str; 2] = ["/run/lock", "/tmp"];

/// How often the lock is taken again if its file was removed meanwhile.
const TRIES: u32 = 20;

/// The right to send requests of one app to one address, for as long as this value lives.
#[derive(Debug)]
pub struct AppLock {
    files: Vec<(PathBuf, LockFile)>,
}

/// The JSON line in the lock file.
#[derive(Debug, Serialize, Deserialize)]
struct Line {
    #[serde(flatten)]
    holder: Holder,
    queue: String,
}

impl AppLock {
    /// Takes the lock of `app` at `endpoint` for a run on the queue file `database`.
    ///
    /// # Errors
    /// [`QueueError::AppLocked`] when a run on another queue holds the lock.
    pub fn take(
        app: App,
        endpoint: &str,
        database: &Path,
        now_ms: i64,
    ) -> Result<Self, QueueError> {
        Self::take_in(&FOLDERS.map(Path::new), app, endpoint, database, now_ms)
    }

    fn take_in(
        folders: &[&Path],
        app: App,
        endpoint: &str,
        database: &Path,
        now_ms: i64,
    ) -> Result<Self, QueueError> {
        let name = file_name(app, endpoint);
        let queue = path_text(database);
        let line = Line { holder: Holder::this_process(now_ms), queue };
        // Dropping it on an error releases the locks taken so far.
        let mut taken = Self { files: Vec::new() };
        for folder in folders {
            let path = folder.join(&name);
            match take_one(&path, &line, database) {
                Ok(Some(file)) => taken.files.push((path, file)),
                Ok(None) => {}
                Err(error @ QueueError::AppLocked { .. }) => return Err(error),
                Err(error) => tracing::debug!(%error, "cannot take the lock of the app here"),
            }
        }
        Ok(taken)
    }
}

impl Drop for AppLock {
    fn drop(&mut self) {
        for (path, _) in &self.files {
            // Removed before it is unlocked, so that no other process locks it in between. A file of another
            // user stays.
            let _ = fs::remove_file(path);
        }
    }
}

/// `None` if the owner of the file is neither this user, root nor the owner of the queue file: such a
/// user could otherwise block every run.
fn take_one(path: &Path, line: &Line, database: &Path) -> Result<Option<LockFile>, QueueError> {
    for _ in 0..TRIES {
        let file = match LockFile::open(path, true) {
            Err(QueueError::Missing(_)) => LockFile::open_or_make(path, 0o644, Path::new("/"))?,
            // A file of another user can be locked although it cannot be written.
            Err(QueueError::LockFile { .. }) => LockFile::open(path, false)?,
            opened => opened?,
        };
        if !is_trusted(file.owner, database) {
            tracing::warn!(
                "{} belongs to user {}: this run does not wait for a run of the same app by that user",
                path_text(path),
                file.owner
            );
            return Ok(None);
        }
        if !file.lock()? {
            let said = serde_json::from_str::<Line>(&file.text()).unwrap_or(Line {
                holder: Holder { host: "this host".to_owned(), pid: 0, since_ms: 0 },
                queue: "unknown".to_owned(),
            });
            // A process of another user may have written the text, so it is escaped.
            let host = visible(&said.holder.host).into_owned();
            let (queue, holder) = (visible(&said.queue), Holder { host, ..said.holder });
            return Err(QueueError::AppLocked { queue: queue.into_owned(), holder });
        }
        if file.is_there() {
            // A user who may lock the file may lack the permission to write it.
            let _ = file.write(line);
            return Ok(Some(file));
        }
    }
    Err(QueueError::Unusable {
        path: path.to_owned(),
        source: io::Error::other("other processes remove it repeatedly"),
    })
}

fn is_trusted(owner: u32, database: &Path) -> bool {
    let of_queue = fs::metadata(database).is_ok_and(|found| found.uid() == owner);
    owner == 0 || owner == rustix::process::geteuid().as_raw() || of_queue
}

/// Example: `deskbatch-1400000000-chitchat-console.tim.qq.com.lock`
fn file_name(app: App, endpoint: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || ".-".contains(c) { c } else { '_' };
    let endpoint: String = endpoint.chars().map(plain).collect();
    format!("deskbatch-{}-{}-{endpoint}.lock", app.sdkappid, app.library)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::domain::job::Library;

    const APP: App = App { sdkappid: 1_400_000_000, library: Library::Chitchat };

    #[test]
    fn app_lock_excludes_one_app_at_one_address() {
        let folder = tempfile::tempdir().unwrap();
        let (first, second) = (folder.path().join("first.db"), folder.path().join("second.db"));
        let there = [folder.path(), Path::new("/none/such")];
        let take = |app, endpoint, queue: &Path| AppLock::take_in(&there, app, endpoint, queue, 5);
        for _ in 0..2 {
            let lock = take(APP, "localhost:8047", &first).unwrap();
            match take(APP, "localhost:8047", &second) {
                Err(QueueError::AppLocked { queue, holder }) => {
                    assert_eq!((queue, holder.since_ms), (path_text(&first), 5));
                }
                other => panic!("{other:?}"),
            }
            let other_library = App { library: Library::Faq, ..APP };
            take(other_library, "localhost:8047", &second).unwrap();
            take(APP, "localhost:8048", &second).unwrap();
            drop(lock);
            // No lock file remains.
            assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        }
    }

    #[test]
    fn app_lock_follows_no_link() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("target");
        fs::write(&target, "worth keeping").unwrap();
        symlink(&target, folder.path().join(file_name(APP, "localhost"))).unwrap();
        let lock = AppLock::take_in(&[folder.path()], APP, "localhost", &target, 5).unwrap();
        assert_eq!(lock.files.len(), 0);
        drop(lock);
        assert_eq!(fs::read_to_string(&target).unwrap(), "worth keeping");
    }
}
