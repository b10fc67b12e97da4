//! Changes to all jobs at once: a cancel, a retry, an import that supersedes all of them.

use crate::import::again;
use crate::manifest;
use crate::measure::{Contestant, Ground, Lines, RUNS, Took, in_turn};
use crate::shapes::Shape;
use crate::support::deskbatch;

pub fn run(ground: &Ground) {
    Lines::Apart.head("change: all jobs of a queue at once");
    for &rows in &ground.sizes {
        let file = ground.path("import.csv");
        manifest::write(&file, (0..rows).rev(), None);
        let taken = in_turn(
            RUNS,
            vec![
                Contestant::new("cancel --batch 1", || {
                    command(ground, Shape::Pending, rows, &["cancel", "--batch", "1", "--quiet"])
                }),
                Contestant::new("retry", || {
                    command(ground, Shape::Failed, rows, &["retry", "--quiet"])
                }),
                Contestant::new("import that supersedes all", || again(ground, rows, &file)),
            ],
        );
        for (name, taken) in ["cancel", "retry", "supersession"].into_iter().zip(&taken) {
            ground.keep(name, rows, taken.median());
        }
        Lines::Apart.rows(rows, &taken);
    }
}

fn command(ground: &Ground, shape: Shape, rows: usize, args: &[&str]) -> Took {
    let room = ground.room();
    let queue = shape.copied(ground, rows, room.path());
    ground.child(deskbatch(room.path(), args).env("DESKBATCH_DATABASE", queue))
}
