//! Alternative programs, where they are installed, and the description of the machine.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::say;

/// Python with its standard library, tuned: one transaction, a write-ahead log, a larger cache.
const PYTHON: &str = r"
import csv, sqlite3, sys
db = sqlite3.connect(sys.argv[2], isolation_level=None)
db.execute('PRAGMA journal_mode = WAL')
db.execute('PRAGMA synchronous = NORMAL')
db.execute('PRAGMA cache_size = -65536')
db.execute('CREATE TABLE j (id TEXT NOT NULL UNIQUE, target_status TEXT)')
with open(sys.argv[1], newline='') as file:
    rows = csv.reader(file)
    next(rows)
    db.execute('BEGIN')
    db.executemany('INSERT INTO j VALUES (?, ?)', rows)
    db.execute('COMMIT')
db.close()
";

/// The shell's `.import` in three variants: the name, and the commands before it.
pub const SHELL_IMPORTS: [(&str, &[&str]); 3] = [
    (
        "sqlite3 .import, UNIQUE id",
        &["CREATE TABLE j(id TEXT NOT NULL UNIQUE, target_status TEXT);"],
    ),
    (
        "the same, WAL, NORMAL, 64 MB cache",
        &[
            "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA cache_size=-65536;",
            "CREATE TABLE j(id TEXT NOT NULL UNIQUE, target_status TEXT);",
        ],
    ),
    ("sqlite3 .import, no index", &["CREATE TABLE j(id TEXT, target_status TEXT);"]),
];

/// Which of the programs are installed.
pub struct Peers {
    pub sqlite3: bool,
    pub python: bool,
}

impl Peers {
    /// Detects the programs, and prints them with the machine.
    pub fn find() -> Self {
        let sqlite3 = version("sqlite3", &["--version"], 1);
        let python = version(
            "python3",
            &[
                "-c",
                "import sqlite3, sys; print(sys.version.split()[0], 'with SQLite', sqlite3.sqlite_version)",
            ],
            4,
        );
        let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
        say(&format!(
            "deskbatch {}; {}, {cores} cores\n",
            env!("CARGO_PKG_VERSION"),
            processor().unwrap_or_else(|| "an unnamed processor".to_owned())
        ));
        for (name, version) in [("sqlite3", &sqlite3), ("python3", &python)] {
            match version {
                Some(version) => say(&format!("- {name}: {version}")),
                None => say(&format!("- {name}: not installed, so its rows are missing")),
            }
        }
        Self { sqlite3: sqlite3.is_some(), python: python.is_some() }
    }
}

/// The first `most` words of a program's version output.
fn version(program: &str, args: &[&str], most: usize) -> Option<String> {
    let output = Command::new(program).args(args).stdin(Stdio::null()).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let words: Vec<&str> = text.split_whitespace().take(most).collect();
    output.status.success().then(|| words.join(" "))
}

fn processor() -> Option<String> {
    let text = fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// The command in which the shell imports `manifest` into a new file in `folder`.
pub fn shell_import(folder: &Path, manifest: &Path, before: &[&str]) -> Command {
    let mut command = Command::new("sqlite3");
    command.current_dir(folder).arg("peer.db").args(before).arg(".mode csv");
    command.arg(format!(".import --skip 1 {} j", manifest.display()));
    command.stdin(Stdio::null()).stdout(Stdio::null());
    command
}

/// The same with Python.
pub fn python_import(folder: &Path, manifest: &Path) -> Command {
    let mut command = Command::new("python3");
    command.current_dir(folder).args(["-c", PYTHON]).arg(manifest).arg("peer.db");
    command.stdin(Stdio::null()).stdout(Stdio::null());
    command
}

/// The command in which the shell writes the result of `query` as CSV to the null device.
pub fn shell_csv(database: &Path, query: &str) -> Command {
    let mut command = Command::new("sqlite3");
    command.args(["-readonly", "-header", "-csv"]).arg(database).arg(query);
    command.stdin(Stdio::null()).stdout(Stdio::null());
    command
}
