//! How slots are used, simulated in virtual time: the rate for every known way to count requests, the
//! isolation of bad ids, and the ETA.
//!
//! Prints tables; `-- --svg FOLDER` draws them too. Seeds decide everything, so the output is the same
//! on any machine. Never sends a request.

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
