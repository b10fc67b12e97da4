//! A full disk, a limit on file sizes, a broken disk: a clear error and exit 70, nothing half recorded,
//! and the same command line resumes once there is space.

use std::fs;
use std::process::Command;
use std::sync::Arc;

use futures_util::future::join_all;

use crate::support::binary::{ends, has};
use crate::support::crash::{
    Disk, IMPORT, Mode, Moment, NO_QUEUE, disk_has_failed, each_moment, empty_queue, is_sound,
    place_with, small, states,
};
use crate::support::migration::{Ended, ended};
use crate::support::place::{report_line, said};
use crate::support::scale::cases;

/// The sample of the short form.
const SOME: [(Mode, usize); 2] = [(Mode::Full, 23), (Mode::Broken, 37)];
const EACH: [(Mode, usize); 2] = [(Mode::Full, 1), (Mode::Broken, 1)];

/// Texts for a failed disk, from the system or the engine.
const REASONS: [&str; 7] = [
    "disk is full",
    "No space left on device",
    "disk I/O error",
    "Input/output error",
    "File too large",
    "unable to open database file",
    "file size limit is reached",
];

/// Whether the program ended without a disk error. If not, it must have reported the reason.
#[track_caller]
fn is_done(ended: &Ended, done: i32) -> bool {
    if ended.code == Some(done) {
        return true;
    }
    assert_eq!(ended.code, Some(70), "{}", ended.stderr);
    let why = ended.stderr.lines().find(|line| line.starts_with("error: "));
    let why = why.unwrap_or_else(|| panic!("{}", ended.stderr));
    assert!(REASONS.iter().any(|reason| why.contains(reason)), "{why}");
    false
}

async fn import_on(moment: Moment, known: Arc<Vec<String>>) -> Option<bool> {
    let place = place_with(NO_QUEUE);
    let import = ended(moment.befalls(place.deskbatch(IMPORT), &place)).await;
    let done = is_done(&import, 0);
    let left = states(&place);
    let whole = left == *known;
    assert!(whole || left.is_empty(), "{moment:?} left {left:?}");
    assert!(whole || !done, "{moment:?}: said to be done");
    ends(place.deskbatch(IMPORT), 0);
    assert_eq!(states(&place), *known, "{moment:?}");
    is_sound(&place.path("deskbatch.db")).await;
    disk_has_failed(&place).then_some(done)
}

async fn run_on(moment: Moment, empty: Arc<Vec<u8>>) -> Option<bool> {
    let migration = small(9).await;
    migration.place.write("deskbatch.db", &*empty);
    let run = ended(moment.befalls(migration.command(), &migration.place)).await;
    let done = is_done(&run, 1);
    if !done {
        migration.finish().await;
    }
    let figures = migration.check();
    assert!(figures.orphaned <= 4, "{moment:?}: {}", figures.orphaned);
    is_sound(&migration.place.path("deskbatch.db")).await;
    disk_has_failed(&migration.place).then_some(done)
}

async fn failing_disks(modes: [(Mode, usize); 2]) {
    let whole = place_with(NO_QUEUE);
    ends(whole.deskbatch(IMPORT), 0);
    let (known, empty) = (Arc::new(states(&whole)), Arc::new(empty_queue().await));
    for (mode, step) in modes {
        let import = |moment| import_on(moment, Arc::clone(&known));
        let imports = each_moment(mode, step, import).await;
        let runs = each_moment(mode, step, |moment| run_on(moment, Arc::clone(&empty))).await;
        for (what, ended) in [("import", imports), ("run", runs)] {
            let failed = ended.iter().filter(|done| !**done).count();
            report_line(&format!(
                "{what}, disk {mode:?} from one of {} writes: {failed} ended with 70",
                ended.len()
            ));
            assert!(failed * 2 > ended.len() && ended.len() * step > 100, "{what}: {failed}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 24)]
async fn disk_failure_at_sampled_writes_loses_nothing() {
    failing_disks(cases(SOME, EACH)).await;
}

/// The same command with a file size limit of `bytes`.
fn limited(command: &Command, bytes: u64) -> Command {
    let mut limited = Command::new("prlimit");
    limited.arg(format!("--fsize={bytes}")).arg("--").arg(command.get_program());
    limited.args(command.get_args()).current_dir(command.get_current_dir().unwrap());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => limited.env(name, value),
            None => limited.env_remove(name),
        };
    }
    limited
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn file_size_limit_ends_import_and_run_with_exit_70() {
    let limits = [0, 40, 5_000, 40_000, 90_000, 150_000, 400_000, 4_000_000];
    // Concurrently, because a run waits for a second after the one before it.
    let stories = limits.map(|bytes| async move {
        let place = place_with(NO_QUEUE);
        let import = ended(limited(&place.deskbatch(IMPORT), bytes)).await;
        let imported = is_done(&import, 0);
        ends(place.deskbatch(IMPORT), 0);

        let migration = small(9).await;
        let run = ended(limited(&migration.command(), bytes)).await;
        let completed = is_done(&run, 1);
        if !completed {
            migration.finish().await;
        }
        migration.check();
        [imported, completed]
    });
    let done = join_all(stories).await;
    let failed = [0, 1].map(|at| done.iter().filter(|done| !done[at]).count());
    assert!(failed.iter().all(|failed| (4..8).contains(failed)), "{failed:?}");
}

#[test]
fn file_size_limit_is_named_with_its_remedy() {
    let place = place_with(NO_QUEUE);
    ends(place.deskbatch(&["import", "jobs.csv", "--sandbox"]), 0);
    for bytes in [5_000, 40_000] {
        let run = limited(&place.deskbatch(&["run", "--sandbox"]), bytes);
        let text = said(&ends(run, 70));
        has(&text, &["error: cannot ", "deskbatch.sandbox.db): ", "Raise it (ulimit -f)"]);
        has(&text, &["and run again", "Nothing recorded was lost"]);
        assert!(!text.contains("(code:"), "{text}");
    }
    ends(place.deskbatch(&["run", "--sandbox"]), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn full_disk_that_is_enlarged_lets_run_complete() {
    let mut failed = 0;
    for size in ["8k", "100k", "300k", "500k", "700k", "2m", "4m"] {
        let migration = small(9).await;
        let folder = migration.place.path("disk");
        fs::create_dir(&folder).unwrap();
        let Some(disk) = Disk::mount(&folder, size) else {
            return;
        };
        migration.place.write("deskbatch.toml", "database = \"disk/queue.db\"\n");
        let run = ended(migration.command()).await;
        if !is_done(&run, 1) {
            failed += 1;
            disk.becomes("size=10m");
            migration.finish().await;
        }
        migration.check();
        is_sound(&folder.join("queue.db")).await;
    }
    assert!((3..7).contains(&failed), "{failed}");
}

/// Whether it ended by a full disk. If so, it must have named the queue and what to do, in words.
#[track_caller]
fn is_named(ended: &Ended) -> bool {
    if ended.code == Some(70) {
        has(&ended.stderr, &["error: ", "deskbatch.db", "disk is full"]);
        has(&ended.stderr, &["Free some space and run again", "Nothing recorded was lost"]);
        assert!(!ended.stderr.contains("(code:"), "{}", ended.stderr);
    }
    ended.code == Some(70)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 24)]
async fn full_disk_names_the_queue_and_what_to_do() {
    let import = |moment: Moment| async move {
        let place = place_with(NO_QUEUE);
        let import = ended(moment.befalls(place.deskbatch(IMPORT), &place)).await;
        disk_has_failed(&place).then(|| is_named(&import))
    };
    let failed = each_moment(Mode::Full, 9, import).await.into_iter().filter(|named| *named);
    assert!(failed.count() > 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 24)]
async fn full_disk_during_run_names_the_queue() {
    let run = |moment: Moment| async move {
        let migration = small(9).await;
        ends(migration.place.deskbatch(IMPORT), 0);
        let run = ended(moment.befalls(migration.command(), &migration.place)).await;
        let has_sent = migration.sandbox.ledger().total > 0;
        disk_has_failed(&migration.place).then(|| is_named(&run) && has_sent)
    };
    let failed = each_moment(Mode::Full, 11, run).await.into_iter().filter(|named| *named);
    assert!(failed.count() > 5);
}
