//! Ends or stops a program, or makes its disk fail, at an exact operation. A small C library
//! (`tests/data/crash.c`), preloaded before libc, counts the operations that change files or send data.
//! Linux only.

#![allow(dead_code, reason = "each test takes what it needs")]

use std::fs;
use std::future::{Future, ready};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering};

use deskbatch::queue::Queue;
use deskbatch::sandbox::Sandbox;
use futures_util::{StreamExt as _, stream};

use crate::support::migration::{
    ALL, End, Migration, NO_SUCH_QUESTION, Row, lose, preset, rows, unlimited,
};
use crate::support::place::{Place, data, manifest, said, skipped};
use crate::support::scale::cases;

/// Concurrent stories. Most of their time is spent waiting for the second between the last request of
/// one run and the first of the next. As many begin in vain at the end of the operations, so the short
/// form has fewer of them.
fn at_once() -> usize {
    cases(8, 24)
}

/// The file that the library creates when the disk fails.
const SEEN: &str = "seen";

/// The effect at the moment; see the head of `tests/data/crash.c`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Before,
    After,
    Torn,
    Stop,
    Full,
    Broken,
    Modeless,
}

/// The n-th operation, from 1, and the effect there.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    pub mode: Mode,
    pub at: u64,
}

impl Moment {
    /// Applies the effect to `command`, counting operations in `place`.
    pub fn befalls(self, mut command: Command, place: &Place) -> Command {
        let mode = match self.mode {
            Mode::Before => "before",
            Mode::After => "after",
            Mode::Torn => "torn",
            Mode::Stop => "stop",
            Mode::Full => "full",
            Mode::Broken => "broken",
            Mode::Modeless => "modeless",
        };
        command
            .env("LD_PRELOAD", &*LIBRARY)
            .env("CRASH_FOLDER", place.folder.path().canonicalize().unwrap())
            .env("CRASH_SEEN", place.path(SEEN))
            .env("CRASH_MODE", mode)
            .env("CRASH_AT", self.at.to_string());
        command
    }
}

/// Whether the simulated disk failure has hit a program in `place`.
pub fn disk_has_failed(place: &Place) -> bool {
    place.path(SEEN).exists()
}

/// The library. Each test process compiles it; SQLite needs a C compiler anyway.
static LIBRARY: LazyLock<PathBuf> = LazyLock::new(|| {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let library = folder.join("crash.so");
    let made = folder.join(format!("crash.{}.so", std::process::id()));
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/crash.c");
    let mut cc = Command::new("cc");
    cc.args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o"]).arg(&made).arg(source);
    assert!(cc.status().unwrap().success(), "{cc:?}");
    // Another process may have the old file loaded, so it is replaced atomically.
    fs::rename(&made, &library).unwrap();
    library
});

/// Runs `story` for the first moment and every `step`-th after it, until one returns `None` because its
/// moment never came. Returns the results of the others.
pub async fn each_moment<S, F, T>(mode: Mode, step: usize, story: S) -> Vec<T>
where
    S: Fn(Moment) -> F,
    F: Future<Output = Option<T>> + Send + 'static,
    T: Send + 'static,
{
    let is_over = AtomicBool::new(false);
    let moments = (1..).step_by(step).map(|at| Moment { mode, at });
    let reported: Vec<Option<T>> = stream::iter(moments)
        .take_while(|_| ready(!is_over.load(Ordering::Relaxed)))
        .map(|moment| tokio::spawn(story(moment)))
        .buffer_unordered(at_once())
        .map(Result::unwrap)
        .inspect(|reported| {
            is_over.fetch_or(reported.is_none(), Ordering::Relaxed);
        })
        .collect()
        .await;
    reported.into_iter().flatten().collect()
}

/// Rows of all three target statuses, two of them bad.
pub fn some_rows(count: usize) -> Vec<Row> {
    let mut rows = rows(count, ALL);
    lose(&mut rows, &[1], End::Refused(NO_SUCH_QUESTION));
    preset(&mut rows, 5);
    rows
}

/// A migration of `count` of [`some_rows`] without a rate limit.
pub async fn small(count: usize) -> Migration {
    let sandbox = Sandbox::start(unlimited()).await.unwrap();
    let args = &["--rate", "200", "--chunk", "3"];
    Migration::at(Place::in_memory(), sandbox, some_rows(count), args)
}

/// An empty queue file, so that moments of a run do not include its creation.
pub async fn empty_queue() -> Vec<u8> {
    let place = Place::in_memory();
    let path = place.path("queue.db");
    Queue::open(&path).await.unwrap().close().await;
    fs::read(path).unwrap()
}

/// Fails if the engine finds damage in the file.
pub async fn is_sound(path: &Path) {
    let queue = Queue::open_existing(path).await.unwrap();
    assert_eq!(queue.check().await.unwrap(), Vec::<String>::new());
    queue.close().await;
}

/// No queue file at all.
pub const NO_QUEUE: &[u8] = &[];

/// A place with a manifest of nine of [`some_rows`] and this queue file.
pub fn place_with(queue: &[u8]) -> Place {
    let place = Place::in_memory();
    let rows = some_rows(9);
    place.write("jobs.csv", manifest(rows.iter().map(|row| (row.id.as_str(), row.status))));
    if queue != NO_QUEUE {
        place.write("deskbatch.db", queue);
    }
    place
}

/// Each row's id, target status and state. The queue file may not exist yet.
pub fn states(place: &Place) -> Vec<String> {
    let output = place.deskbatch(&["report"]).output().unwrap();
    match output.status.code() {
        Some(0) => {}
        Some(2) if !place.path("deskbatch.db").exists() => return Vec::new(),
        code => panic!("{code:?}: {}", said(&output)),
    }
    let text = data(&output);
    let columns = |line: &str| line.split(',').take(3).collect::<Vec<_>>().join(",");
    text.lines().skip(1).map(columns).collect()
}

/// Imports the manifest of [`place_with`].
pub const IMPORT: &[&str] = &["import", "jobs.csv", "--sdkappid", "1400000000"];

/// Whether this process has the right to mount (`CAP_SYS_ADMIN`). Root in a container may lack it.
fn may_mount() -> bool {
    const CAP_SYS_ADMIN: u32 = 21;
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let rights = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap();
    u64::from_str_radix(rights.trim(), 16).unwrap() >> CAP_SYS_ADMIN & 1 == 1
}

/// A file system mounted on `folder`; unmounted on drop.
pub struct Disk<'a>(&'a Path);

impl<'a> Disk<'a> {
    /// `None`, with a message, if this user may not mount.
    #[track_caller]
    pub fn mount(folder: &'a Path, size: &str) -> Option<Self> {
        let size = format!("size={size},mode=0700");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &size, "deskbatch-test"]).arg(folder);
        if mount.output().is_ok_and(|output| output.status.success()) {
            return Some(Self(folder));
        }
        skipped("this user may not mount a file system", may_mount());
        None
    }

    /// Changes the mount options: `size=10m`, `ro`.
    pub fn becomes(&self, options: &str) {
        let mut mount = Command::new("mount");
        mount.args(["-o", &format!("remount,{options}")]).arg(self.0);
        assert!(mount.status().unwrap().success());
    }
}

impl Drop for Disk<'_> {
    fn drop(&mut self) {
        // The lazy unmount succeeds even if a dying child has a file open.
        let _ = Command::new("umount").arg("-l").arg(self.0).status();
    }
}
