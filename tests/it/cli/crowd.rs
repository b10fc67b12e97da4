//! Many processes on one queue file at once: each finishes or reports that another run is active, and
//! none reports a database lock.

use std::process::Output;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crate::support::binary::{ends, sandbox_with};
use crate::support::place::{Place, manifest, question, report_line, said};

const IMPORTS: usize = 10;
const ROWS: usize = 40;

/// The exit code of `output`, which is done or busy. The text must not mention database locks.
#[track_caller]
fn code(output: &Output) -> i32 {
    let (said, code) = (said(output), output.status.code().unwrap());
    assert!([0, 5].contains(&code), "{code}: {said}");
    assert!(!said.contains("locked") && !said.contains("panicked"), "{said}");
    code
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_commands_never_see_locked_database() {
    let sandbox = sandbox_with(|s| s.latency = Duration::from_millis(20)).await;
    let place = Place::new();
    for n in 0..IMPORTS {
        let ids: Vec<String> = (0..ROWS).map(|row| question(&format!("m{n}-{row}"))).collect();
        let rows = ids.iter().map(|id| (id.as_str(), if row_is_odd(id) { "5" } else { "4" }));
        place.write(&format!("m{n}.csv"), manifest(rows));
    }
    let (place, sandbox, is_over) = (&place, &sandbox, &AtomicBool::new(false));
    // Readers do not create a queue, so the file must exist before they start.
    ends(place.fast(sandbox, &["import", "m0.csv"]), 0);
    let figures: Vec<[usize; 2]> = thread::scope(|scope| {
        let again_and_again = |args: &'static [&'static str]| {
            scope.spawn(move || {
                let mut ended = [0, 0];
                while !is_over.load(Ordering::Relaxed) {
                    let output = place.fast(sandbox, args).output().unwrap();
                    ended[usize::from(code(&output) == 5)] += 1;
                }
                ended
            })
        };
        let run: &[&str] = &["run", "--chunk", "2"];
        let others = [run, run, &["status", "--json"], &["report"]].map(again_and_again);
        let imports: Vec<_> = (0..IMPORTS)
            .map(|n| {
                scope.spawn(move || {
                    let file = format!("m{n}.csv");
                    for _ in 0..3 {
                        ends(place.fast(sandbox, &["import", &file, "--reimport"]), 0);
                    }
                })
            })
            .collect();
        let imported: Vec<_> = imports.into_iter().map(thread::ScopedJoinHandle::join).collect();
        is_over.store(true, Ordering::Relaxed);
        imported.into_iter().for_each(Result::unwrap);
        others.into_iter().map(|other| other.join().unwrap()).collect()
    });
    ends(place.fast(sandbox, &["run"]), 0);
    let [pending, in_flight, succeeded, failed, _, superseded] = place.counts();
    assert_eq!((pending, in_flight, failed), (0, 0, 0));
    let jobs = u64::try_from((3 * IMPORTS + 1) * ROWS).unwrap();
    assert_eq!(succeeded + superseded, jobs);
    let [done, busy] = [0, 1].map(|at| figures.iter().map(|ended| ended[at]).sum::<usize>());
    assert!(done > 0 && busy > 0, "{figures:?}");
    report_line(&format!(
        "{} imports beside {done} commands, {busy} runs were told to wait",
        3 * IMPORTS
    ));
}

fn row_is_odd(id: &str) -> bool {
    id.ends_with(['1', '3', '5', '7', '9'])
}
