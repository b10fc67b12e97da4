//! What the slots are spent on, by simulation in virtual time: the pace against every way to
//! count that is known, the search for bad ids, and the estimate of what is left.
//!
//! Prints tables; with `-- --svg FOLDER` it draws them too. Everything is decided by seeds,
//! so that the same program prints the same on any machine. Never sends a request.

mod plot;
#[allow(dead_code, reason = "the tests use the rest")]
#[path = "../../tests/it/runner/simulated_queue.rs"]
mod simulated_queue;
#[allow(dead_code, reason = "the tests use the rest")]
#[path = "../../tests/it/runner/simulated_run.rs"]
mod simulated_run;
#[allow(dead_code, reason = "the tests use the rest")]
#[path = "../../tests/it/runner/simulated_service.rs"]
mod simulated_service;
mod tables;

use std::path::PathBuf;

fn main() {
    let mut svg: Option<PathBuf> = None;
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        if word == "--svg" {
            svg = words.next().map(PathBuf::from);
        }
    }
    let pace = tables::pace();
    tables::pace_others();
    let search = tables::search();
    tables::estimate();
    if let Some(folder) = svg {
        let drawn = plot::pace(&folder, &pace).and_then(|()| plot::search(&folder, &search));
        match drawn {
            Ok(()) => say(&format!("drawn into {}", folder.display())),
            Err(e) => say(&format!("could not draw into {}: {e}", folder.display())),
        }
    }
}

#[allow(clippy::print_stdout, reason = "a benchmark prints its tables")]
fn say(line: &str) {
    println!("{line}");
}
