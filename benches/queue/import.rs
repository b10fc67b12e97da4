//! Import: the real binary with all its checks against programs that only insert.

use std::path::Path;

use crate::manifest;
use crate::measure::{Contestant, Ground, Lines, RUNS, Took, in_turn};
use crate::peers::{Peers, SHELL_IMPORTS, python_import, shell_import};
use crate::shapes::Shape;
use crate::support::deskbatch;

pub fn run(ground: &Ground, peers: &Peers) {
    Lines::Peers.head("import: a manifest into a new queue file");
    for &rows in &ground.sizes {
        let file = ground.path("import.csv");
        manifest::write(&file, 0..rows, None);
        let mut contestants = vec![Contestant::new("deskbatch import", || {
            let room = ground.room();
            let file = file.to_str().expect("a path");
            ground.child(&mut deskbatch(room.path(), &["import", file, "--sandbox", "--quiet"]))
        })];
        contestants.extend(of_peers(ground, peers, &file));
        let taken = in_turn(RUNS, contestants);
        ground.keep("import", rows, taken[0].median());
        if let Some(shell) = taken.get(1).filter(|_| peers.sqlite3) {
            ground.keep("sqlite3 .import", rows, shell.median());
        }
        Lines::Peers.rows(rows, &taken);
    }
    Lines::Apart.head(
        "import: a second manifest of the same size into a queue; half of its questions are in the queue",
    );
    for &rows in &ground.sizes {
        let file = ground.path("import.csv");
        manifest::write(&file, (rows / 2..rows / 2 + rows).rev(), None);
        let second = Contestant::new("deskbatch import", || again(ground, rows, &file));
        let taken = in_turn(RUNS, vec![second]);
        ground.keep("import, half again", rows, taken[0].median());
        Lines::Apart.rows(rows, &taken);
    }
}

/// Imports `file` into a queue of `rows` pending jobs.
pub fn again(ground: &Ground, rows: usize, file: &Path) -> Took {
    let room = ground.room();
    let queue = Shape::Pending.copied(ground, rows, room.path());
    let file = file.to_str().expect("a path");
    let mut command = deskbatch(room.path(), &["import", file, "--quiet"]);
    ground.child(command.env("DESKBATCH_DATABASE", queue))
}

fn of_peers<'a>(ground: &'a Ground, peers: &Peers, file: &'a Path) -> Vec<Contestant<'a>> {
    let mut contestants = Vec::new();
    if peers.sqlite3 {
        contestants.extend(SHELL_IMPORTS.map(|(name, before)| {
            Contestant::new(name, move || {
                let room = ground.room();
                ground.child(&mut shell_import(room.path(), file, before))
            })
        }));
    }
    if peers.python {
        contestants.push(Contestant::new("Python csv and sqlite3, tuned", move || {
            let room = ground.room();
            ground.child(&mut python_import(room.path(), file))
        }));
    }
    contestants
}
