//! What every part of `run` needs, and the locks that a run holds.

use crate::cli::RunArgs;
use crate::commands::signals::RunSignals;
use crate::config::Settings;
use crate::domain::clock::SystemClock;
use crate::output::Output;
use crate::queue::{AppLock, Lease, Queue};

/// The inputs of one `run` command, from its beginning to its end.
#[derive(Clone, Copy)]
pub(super) struct RunContext<'a> {
    pub(super) settings: &'a Settings,
    pub(super) args: &'a RunArgs,
    pub(super) clock: &'a SystemClock,
    pub(super) signals: &'a RunSignals,
    pub(super) out: &'a Output,
}

/// The queue, open, and the locks that let this run change it.
pub(super) struct LockedQueue {
    pub(super) lease: Lease,
    /// `None` in a sandbox run, whose service counts for this run alone.
    pub(super) _app_lock: Option<AppLock>,
    pub(super) queue: Queue,
}
