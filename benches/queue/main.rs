//! Costs of a queue as it grows: import, drain, start, reads, changes, thirty nights, and those of
//! other programs where they are installed.
//!
//! Prints Markdown tables for 100,000 rows, with `-- --full` for 1,000,000 and 10,000,000. `--only
//! NAME` runs one section, `--rows N,N` sets other sizes, `--dir DIR` another folder for temporary
//! files, `--svg DIR` draws how each cost grows. Each run starts the real binary. The full tables take
//! more than an hour and 20 GB.

mod by_hand;
mod change;
mod drain;
mod import;
mod looks;
mod manifest;
mod measure;
mod nightly;
mod peers;
mod plot;
mod shapes;
mod start;
#[path = "../support/mod.rs"]
mod support;
mod toward;

use std::path::PathBuf;

use measure::{Ground, seconds};
use peers::Peers;
use support::say;

/// The sections in execution order.
const SECTIONS: [&str; 7] = ["import", "drain", "start", "status", "report", "change", "nightly"];

/// The command-line options.
struct Asked {
    sections: Vec<String>,
    sizes: Vec<usize>,
    night_rows: usize,
    folder: PathBuf,
    svg: Option<PathBuf>,
}

fn main() {
    let asked = match read(std::env::args().skip(1)) {
        Ok(asked) => asked,
        Err(why) => return say(&why),
    };
    let ground = Ground::new(&asked.folder, asked.sizes, asked.night_rows);
    let ground = ground.unwrap_or_else(|e| panic!("{}: {e}", asked.folder.display()));
    let peers = Peers::find();
    let (took, ()) = ground.time(|| {
        for section in &asked.sections {
            match section.as_str() {
                "import" => import::run(&ground, &peers),
                "drain" => drain::run(&ground),
                "start" => start::run(&ground),
                "status" => looks::status(&ground),
                "report" => looks::report(&ground, &peers),
                "change" => change::run(&ground),
                _ => nightly::run(&ground),
            }
        }
    });
    say(&format!("\nThe whole benchmark took {}.", seconds(took)));
    if let Some(folder) = asked.svg {
        match plot::costs(&folder, &ground.into_points()) {
            Ok(()) => say(&format!("drawn into {}", folder.display())),
            Err(e) => say(&format!("could not draw into {}: {e}", folder.display())),
        }
    }
}

fn read(mut words: impl Iterator<Item = String>) -> Result<Asked, String> {
    let mut asked = Asked {
        sections: Vec::new(),
        sizes: vec![10_000, 100_000],
        night_rows: 2_000,
        folder: std::env::temp_dir(),
        svg: None,
    };
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("{word} needs a value"));
        match word.as_str() {
            // Cargo passes this flag by itself.
            "--bench" => {}
            "--full" => {
                asked.sizes = vec![10_000, 100_000, 1_000_000, 10_000_000];
                asked.night_rows = 100_000;
            }
            "--rows" => asked.sizes = sizes(&value()?)?,
            "--dir" => asked.folder = value()?.into(),
            "--svg" => asked.svg = Some(value()?.into()),
            "--only" => asked.sections.push(section(value()?)?),
            _ => {
                return Err(format!("{word} is not known: --full, --rows, --only, --dir or --svg"));
            }
        }
    }
    if asked.sections.is_empty() {
        asked.sections = SECTIONS.map(str::to_owned).to_vec();
    }
    Ok(asked)
}

fn section(name: String) -> Result<String, String> {
    let known = SECTIONS.contains(&&*name);
    if known { Ok(name) } else { Err(format!("{name} is no section: {}", SECTIONS.join(", "))) }
}

/// Multiples of the chunk size, ascending.
fn sizes(text: &str) -> Result<Vec<usize>, String> {
    let read = |word: &str| match word.parse::<usize>() {
        Ok(rows) if rows > 0 && rows % shapes::CHUNK == 0 => Ok(rows),
        _ => Err(format!("{word} is not a number of rows in hundreds")),
    };
    let mut sizes = text.split(',').map(read).collect::<Result<Vec<_>, _>>()?;
    sizes.sort_unstable();
    Ok(sizes)
}
