//! The lease: the right of one run at a time to send the jobs of an app.
//!
//! Who acquires it knows that every earlier run of the app has ended or died, and recovers what the
//! dead ones left in flight. The lease ends when it is dropped, and with its process.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::domain::job::App;
use crate::queue::sqlite::run_lock::{Holder, RunLock};
use crate::queue::{Queue, QueueError, RunId};

/// The right to send the jobs of an app, for as long as this value lives.
#[derive(Debug)]
pub struct Lease {
    app: App,
    recovery: Mutex<Recovery>,
    has_begun_run: AtomicBool,
    engine: EngineLease,
}

/// What holds the lease.
#[derive(Debug)]
enum EngineLease {
    Sqlite(RunLock),
}

/// What an acquired queue had in flight from runs that died.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Recovery {
    /// Jobs that a dead run had in flight; their questions are in doubt.
    pub orphans: u64,
    /// Of these, the jobs that were cancelled or superseded meanwhile; the others are pending.
    pub orphans_withdrawn: u64,
    /// The orphaned requests of dead runs.
    pub orphaned_requests: u64,
    /// The latest time at which any run can have sent its last request, in UTC milliseconds.
    pub last_sent_ms: Option<i64>,
}

impl Lease {
    /// The app whose jobs may be sent.
    pub fn app(&self) -> App {
        self.app
    }

    /// This process, as other processes see it.
    pub fn holder(&self) -> &Holder {
        match &self.engine {
            EngineLease::Sqlite(lock) => lock.holder(),
        }
    }

    /// What was recovered when the lease was acquired; once several runs began under it, what the last of
    /// them recovered from the others.
    pub fn recovery(&self) -> Recovery {
        *self.recovery.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Fails once the lease is lost: another run may have the queue. Call it before each request.
    ///
    /// # Errors
    /// [`QueueError::ReplacedDuringRun`] when the queue file, its log or its lock file was removed or
    /// replaced; [`QueueError::Linked`] when the queue file got a second name.
    pub fn check(&self) -> Result<(), QueueError> {
        match &self.engine {
            EngineLease::Sqlite(lock) => lock.check(),
        }
    }

    /// The run lock of the queue file.
    pub(in crate::queue) fn run_lock(&self) -> &RunLock {
        match &self.engine {
            EngineLease::Sqlite(lock) => lock,
        }
    }
}

impl Queue {
    /// Acquires the lease of `app` without waiting, and recovers what dead runs left: their requests are
    /// orphaned, the jobs of these are pending and in doubt, and the jobs they reserved are released.
    ///
    /// # Errors
    /// [`QueueError::Locked`] with the holder when another run has the lease,
    /// [`QueueError::LockFile`] when this user cannot use the lock file, or when the queue file cannot be
    /// written.
    pub async fn acquire(&self, app: App, now_ms: i64) -> Result<Lease, QueueError> {
        match self {
            Self::Sqlite(queue) => {
                let lock = RunLock::take(queue.path(), now_ms)?;
                let recovery = queue.recover(Some(&lock), now_ms).await?;
                // From now on another queue file or log at the same path ends the run.
                lock.check()?;
                let (recovery, has_begun_run) = (Mutex::new(recovery), AtomicBool::new(false));
                Ok(Lease { app, recovery, has_begun_run, engine: EngineLease::Sqlite(lock) })
            }
        }
    }

    /// The holder of the lease of the queue file `database`, if there is one. The inspection holds a
    /// shared lock for a moment, so a process that fails to acquire the lease should try again once.
    ///
    /// # Errors
    /// [`QueueError::LockFile`] or [`QueueError::Unusable`] when the lock file cannot be read.
    pub fn lease_holder(database: &Path) -> Result<Option<Holder>, QueueError> {
        RunLock::holder_of(database)
    }

    /// Begins a run of the app of `lease`, and records it. A second run under one lease first recovers what
    /// the first one left in flight.
    ///
    /// # Errors
    /// When the queue file cannot be written.
    pub async fn begin_run(&self, lease: &Lease, now_ms: i64) -> Result<RunId, QueueError> {
        match self {
            Self::Sqlite(queue) => {
                if lease.has_begun_run.swap(true, Ordering::Relaxed) {
                    let recovery = queue.recover(None, now_ms).await?;
                    *lease.recovery.lock().unwrap_or_else(PoisonError::into_inner) = recovery;
                }
                queue.begin_run(lease, now_ms).await
            }
        }
    }
}
