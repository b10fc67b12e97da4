//! Kills at each operation that changes a queue file or sends bytes to the service: before it, after
//! it, or halfway. A repeated run must reach the same final state.

use std::fs;
use std::sync::Arc;

use crate::support::binary::{ends, sandbox};
use crate::support::crash::{
    IMPORT, Mode, Moment, NO_QUEUE, each_moment, empty_queue, is_sound, place_with, small, states,
};
use crate::support::migration::{Figures, Migration, Row, ended};
use crate::support::place::report_line;
use crate::support::scale::cases;

/// The sample of the short form.
const SOME: [(Mode, usize); 3] = [(Mode::After, 11), (Mode::Before, 31), (Mode::Torn, 31)];
/// A closer sample for commands of few operations.
const MANY: [(Mode, usize); 3] = [(Mode::After, 5), (Mode::Before, 9), (Mode::Torn, 9)];
const EACH: [(Mode, usize); 3] = [(Mode::After, 1), (Mode::Before, 1), (Mode::Torn, 1)];

const CHUNK: usize = 3;
const BAD: usize = 2;

/// The limit of requests for [`some_rows`] beyond those of a run without a kill: orphaned ones, up to
/// two more for each delete in them, and the interrupted isolation. Isolation starts over: for each bad id
/// it repeats one rejection per level, and the rejection alone, which is recorded only once the app is
/// known to be alive.
fn beyond_max(migration: &Migration, figures: &Figures) -> u64 {
    let deletes = |row: &&Row| row.status == "delete" && figures.lost.contains(&row.id);
    let deletes = migration.rows.iter().filter(deletes).count();
    let levels = CHUNK.next_power_of_two().ilog2() as usize;
    figures.orphaned + (2 * deletes + BAD * (levels + 1)) as u64 + 1
}

/// How a run that was killed at `moment` and repeated went; `None` if the moment never came.
async fn run_killed(moment: Moment, rows: usize, empty: Arc<Vec<u8>>, least: u64) -> Option<u64> {
    let migration = small(rows).await;
    migration.place.write("deskbatch.db", &*empty);
    let killed = ended(moment.befalls(migration.command(), &migration.place)).await;
    if killed.code.is_none() {
        migration.finish().await;
    }
    let figures = migration.check();
    is_sound(&migration.place.path("deskbatch.db")).await;
    let beyond = figures.ledger.total.saturating_sub(least);
    assert!(beyond <= beyond_max(&migration, &figures), "{moment:?}: {beyond}, {figures:?}");
    killed.code.is_none().then_some(beyond)
}

async fn runs_killed(rows: usize, modes: [(Mode, usize); 3]) {
    let empty = Arc::new(empty_queue().await);
    let undisturbed = small(rows).await;
    undisturbed.run().await;
    let least = undisturbed.check().ledger.total;
    for (mode, step) in modes {
        let story = |moment| run_killed(moment, rows, Arc::clone(&empty), least);
        let beyond = each_moment(mode, step, story).await;
        let (points, most) = (beyond.len(), beyond.iter().max().unwrap());
        report_line(&format!(
            "run, killed {mode:?} one of {points} operations: at most {most} requests beyond {least}"
        ));
        assert!(points * step > 150, "{points}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 24)]
async fn run_killed_at_sampled_operations_recovers() {
    let (rows, modes) = cases((6, SOME), (12, EACH));
    runs_killed(rows, modes).await;
}

/// Kills a command at its moments. The queue must be as before the command or as after it, and the same
/// command line must complete the work.
async fn command_killed(args: &'static [&'static str], queue: Vec<u8>, modes: [(Mode, usize); 3]) {
    let queue = Arc::new(queue);
    let place = place_with(&queue);
    let before = states(&place);
    ends(place.deskbatch(args), 0);
    let known = Arc::new([before, states(&place)]);
    assert_ne!(known[0], known[1]);
    for (mode, step) in modes {
        let story = |moment: Moment| {
            let (queue, known) = (Arc::clone(&queue), Arc::clone(&known));
            async move {
                let place = place_with(&queue);
                let killed = ended(moment.befalls(place.deskbatch(args), &place)).await;
                let left = states(&place);
                assert!(known.contains(&left), "{moment:?} left {left:?}");
                ends(place.deskbatch(args), 0);
                assert_eq!(states(&place), known[1], "{moment:?}");
                is_sound(&place.path("deskbatch.db")).await;
                killed.code.is_none().then_some(0)
            }
        };
        let points = each_moment(mode, step, story).await.len();
        report_line(&format!("{}, killed {mode:?} one of {points} operations", args[0]));
        assert!(points * step >= 10, "{points}");
    }
}

fn imported() -> Vec<u8> {
    let place = place_with(NO_QUEUE);
    ends(place.deskbatch(IMPORT), 0);
    fs::read(place.path("deskbatch.db")).unwrap()
}

async fn finished() -> Vec<u8> {
    let (place, sandbox) = (place_with(NO_QUEUE), sandbox().await);
    ends(place.fast(&sandbox, &["run", "jobs.csv", "--yes"]), 1);
    fs::read(place.path("deskbatch.db")).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 24)]
async fn killed_import_is_all_or_nothing() {
    command_killed(IMPORT, NO_QUEUE.to_vec(), cases(SOME, EACH)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 24)]
async fn killed_retry_and_cancel_are_all_or_nothing() {
    let modes = cases(MANY, EACH);
    command_killed(&["retry"], finished().await, modes).await;
    command_killed(&["cancel", "--batch", "1"], imported(), modes).await;
}
