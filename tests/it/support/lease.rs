//! Leases as other processes have them.

#![allow(dead_code, reason = "each test takes what it needs")]

use std::path::Path;

use deskbatch::domain::job::App;
use deskbatch::queue::{Lease, Queue, RunEnding};

use crate::support::queue::APP;

/// Another process takes the queue over and ends a run of its own, while the first one still runs as if
/// it had the lease: the lock file was moved away and back. Blocks the caller's thread, so that no
/// run on it notices the file that is missing meanwhile.
pub fn take_over(path: &Path, app: App, now_ms: i64) {
    let path = path.to_owned();
    let other = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.unwrap().block_on(take_over_at_once(&path, app, now_ms));
    });
    other.join().unwrap();
}

async fn take_over_at_once(path: &Path, app: App, now_ms: i64) {
    let (lock, aside) = (path.with_extension("db.lock"), path.with_extension("db.aside"));
    std::fs::rename(&lock, &aside).unwrap();
    let queue = Queue::open_existing(path).await.unwrap();
    let lease = queue.acquire(app, now_ms).await.unwrap();
    let run = queue.begin_run(&lease, now_ms).await.unwrap();
    queue.end_run(run, RunEnding::Signal, now_ms).await.unwrap();
    queue.close().await;
    std::fs::rename(&aside, &lock).unwrap();
}

/// The lease of the queue file at `path`, as a run in another process has it.
pub async fn acquire(path: &Path) -> Lease {
    let queue = Queue::open(path).await.unwrap();
    let lease = queue.acquire(APP, 1_000).await.unwrap();
    queue.close().await;
    lease
}
