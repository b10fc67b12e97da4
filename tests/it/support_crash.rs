//! The exact moments at which a program can be ended, stopped, or have its disk fail: by a
//! small C library (`tests/data/crash.c`) that is put before the system's own and counts
//! what changes files or leaves this host. Linux only.

#![allow(dead_code, reason = "each test takes what it needs")]

use std::future::{Future, ready};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::{StreamExt as _, stream};

use crate::support::Place;

/// Stories at once: most of their time is spent on waiting for the second that a run leaves
/// between its predecessor's last request and its own first.
const AT_ONCE: usize = 24;

/// What happens at the moment; see the head of `tests/data/crash.c`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Before,
    After,
    Torn,
    Stop,
    Full,
    Broken,
}

/// The n-th operation, from 1, and what happens there.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    pub mode: Mode,
    pub at: u64,
}

impl Moment {
    /// Lets it happen to `command`, by what that does in `place`.
    pub fn befalls(self, mut command: Command, place: &Place) -> Command {
        self.befall(&mut command, place.folder.path());
        command
    }

    /// The same for another folder.
    pub fn befall(self, command: &mut Command, folder: &Path) {
        let mode = match self.mode {
            Mode::Before => "before",
            Mode::After => "after",
            Mode::Torn => "torn",
            Mode::Stop => "stop",
            Mode::Full => "full",
            Mode::Broken => "broken",
        };
        command
            .env("LD_PRELOAD", &*LIBRARY)
            .env("CRASH_FOLDER", folder.canonicalize().unwrap())
            .env("CRASH_MODE", mode)
            .env("CRASH_AT", self.at.to_string());
    }
}

/// The library, made anew by each process of tests; SQLite needs a C compiler anyway.
static LIBRARY: LazyLock<PathBuf> = LazyLock::new(|| {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let library = folder.join("crash.so");
    let made = folder.join(format!("crash.{}.so", std::process::id()));
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/crash.c");
    let mut cc = Command::new("cc");
    cc.args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o"]).arg(&made).arg(source);
    assert!(cc.status().unwrap().success(), "{cc:?}");
    // Another process may be using the old one.
    std::fs::rename(&made, &library).unwrap();
    library
});

/// Tells `story` for the first moment and every `step`-th after it, until one says by `None`
/// that its moment never came. What the others said.
pub async fn each_moment<S, F, T>(mode: Mode, step: usize, story: S) -> Vec<T>
where
    S: Fn(Moment) -> F,
    F: Future<Output = Option<T>> + Send + 'static,
    T: Send + 'static,
{
    let is_over = AtomicBool::new(false);
    let moments = (1..).step_by(step).map(|at| Moment { mode, at });
    let told: Vec<Option<T>> = stream::iter(moments)
        .take_while(|_| ready(!is_over.load(Ordering::Relaxed)))
        .map(|moment| tokio::spawn(story(moment)))
        .buffer_unordered(AT_ONCE)
        .map(Result::unwrap)
        .inspect(|told| {
            is_over.fetch_or(told.is_none(), Ordering::Relaxed);
        })
        .collect()
        .await;
    told.into_iter().flatten().collect()
}
