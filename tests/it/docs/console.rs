//! The pages show the real output: every `console` block is run command by command and compared.
//! `DESKBATCH_UPDATE_DOCS=1` rewrites the blocks instead.
//!
//! The blocks of a page share a folder with the two example files. A line that begins with `$ ` is a
//! command, one with `> ` continues it, and all others are output. A non-zero exit code follows in
//! brackets. `VARIES` lists the values that are not compared, and the page keeps its old ones.

use std::fmt::Write as _;
use std::fs;
use std::process::{Command, Stdio};
use std::thread;

use regex::Regex;

use crate::support::docs::{Fence, fences, hold, pages, read, root};
use crate::support::place::Place;

/// Values that are not compared: times and durations, the sandbox's port, the process and its machine,
/// free disk space, the size of the queue, the rate. The number of requests of an isolation or an
/// outage depends on latency and chance.
const VARIES: [(&str, &str); 11] = [
    (r"\d{4}-\d\d-\d\dT[\d:.]+Z", "TIME"),
    (r"127\.0\.0\.1:\d+", "127.0.0.1:PORT"),
    (r"[\d.]+ (s|min|h)\b", "LONG"),
    (r"(about |\d+ to |LONG to )LONG", "LONG"),
    (r"process \d+ on \S+", "process N"),
    (r"[\d.]+ requests per second", "N requests per second"),
    (r"\b[1-9]\d* without a valid response", "SOME without a valid response"),
    (r"requests( +)\d+ \(", "requests${1}N ("),
    (r"[\d.]+ [KMGT]iB free, enough for about \d+ more", "SOME free, enough for N more"),
    (r"\b(\d+ to )?\d+ requests\b", "N requests"),
    (r"file( +)[\d.]+ MB", "file${1}SIZE"),
];

/// The folder name that the pages show.
const FOLDER: &str = "/srv/desk";

/// A command of a block and the output that the block shows.
#[derive(Debug, PartialEq)]
struct Step {
    /// The lines of the page, prompts included.
    shown: String,
    command: String,
    output: String,
}

fn steps(fence: &Fence) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for line in fence.text.lines() {
        if let Some(command) = line.strip_prefix("$ ") {
            let (shown, command) = (format!("{line}\n"), command.to_owned());
            steps.push(Step { shown, command, output: String::new() });
            continue;
        }
        let step = steps.last_mut().expect("a block begins with a command");
        match line.strip_prefix("> ") {
            Some(more) if step.output.is_empty() => {
                let _ = writeln!(step.shown, "{line}");
                let _ = write!(step.command, "\n{more}");
            }
            _ => {
                let _ = writeln!(step.output, "{line}");
            }
        }
    }
    steps
}

fn normal(text: &str) -> String {
    VARIES.iter().fold(text.to_owned(), |text, (pattern, name)| {
        Regex::new(pattern).unwrap().replace_all(&text, *name).into_owned()
    })
}

/// Runs a command in the folder with the binary on the path.
fn play(place: &Place, command: &str) -> String {
    // The settings of the user who runs the tests must not apply.
    let mut shell = Command::new("sh");
    let clean = place.deskbatch(&[]);
    for (name, value) in clean.get_envs() {
        assert!(value.is_none());
        shell.env_remove(name);
    }
    let folder = std::path::Path::new(env!("CARGO_BIN_EXE_deskbatch")).parent().unwrap();
    let path = std::env::var("PATH").unwrap_or_default();
    let output = shell
        .args(["-c", &format!("exec 2>&1\n{command}")])
        .current_dir(place.folder.path())
        .env("PATH", format!("{}:{path}", folder.display()))
        // On a busy machine requests can bunch, and the sandbox must not reject one for that.
        .env("DESKBATCH_SANDBOX_RATE_LIMIT", "0")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let mut text = String::from_utf8(output.stdout).unwrap();
    text = text.replace(&place.folder.path().display().to_string(), FOLDER);
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    match output.status.code() {
        Some(0) => text,
        code => text + &format!("[exit code {}]\n", code.unwrap()),
    }
}

/// The page with the current output, and the differences.
fn replayed(page: &str) -> (String, String) {
    let old = read(page);
    let lines: Vec<&str> = old.split_inclusive('\n').collect();
    let place = Place::new();
    for name in ["jobs.example.csv", "deskbatch.example.toml"] {
        fs::copy(root().join(name), place.path(name)).unwrap();
    }
    let (mut text, mut why, mut copied) = (String::new(), String::new(), 0);
    for fence in fences(&old).into_iter().filter(|fence| fence.language() == "console") {
        text.extend(lines[copied..fence.line].iter().copied());
        for step in steps(&fence) {
            let output = play(&place, &step.command);
            text += &step.shown;
            if normal(&output) == normal(&step.output) {
                text += &step.output;
            } else {
                let _ = write!(why, "{}it shows:\n{}it is:\n{output}", step.shown, step.output);
                text += &output;
            }
        }
        copied = fence.line + fence.text.lines().count();
    }
    text.extend(lines[copied..].iter().copied());
    (text, why)
}

#[test]
fn docs_show_what_the_binary_prints() {
    let with_sessions: Vec<String> = pages()
        .into_iter()
        .filter(|page| fences(&read(page)).iter().any(|fence| fence.language() == "console"))
        .collect();
    assert!(with_sessions.contains(&"docs/transcript.md".to_owned()), "{with_sessions:?}");
    // In parallel, since a sandbox run keeps a rate of five requests a second.
    let played: Vec<(String, (String, String))> = thread::scope(|scope| {
        let going: Vec<_> = with_sessions
            .into_iter()
            .map(|page| scope.spawn(move || (page.clone(), replayed(&page))))
            .collect();
        going.into_iter().map(|page| page.join().unwrap()).collect()
    });
    for (page, (text, why)) in played {
        hold(&page, &text, &why);
    }
}

#[test]
fn docs_comparison_ignores_only_varying_parts() {
    let same = |one, other| assert_eq!(normal(one), normal(other));
    same("at http://127.0.0.1:40951, not", "at http://127.0.0.1:1, not");
    same("  time        9.3 s", "  time        11 s");
    same("5 to 82 requests, 1 to 18 s", "5 to 90 requests, 40 s to 2 min");
    same("  requests    45 (0 throttled", "  requests    44 (0 throttled");
    same("throttled, 4 without a valid response", "throttled, 5 without a valid response");
    same("rate       4.81 requests per second; never", "rate       4.6 requests per second; never");
    same("started 2026-11-25T12:47:38.523Z", "started 2025-01-01T00:00:00.000Z");
    for (one, other) in [
        ("  succeeded   307", "  succeeded   306"),
        ("45 (0 throttled", "45 (1 throttled"),
        ("4 without a valid response", "0 without a valid response"),
        ("batch 1: 312 jobs", "batch 2: 312 jobs"),
    ] {
        assert_ne!(normal(one), normal(other));
    }
}

#[test]
fn console_sessions_in_docs_are_parsed() {
    let text = "$ cat > a.csv <<END\n> x\n> END\n$ deskbatch status\nqueue\n[exit code 2]\n";
    let fence = Fence { info: "console".to_owned(), text: text.to_owned(), line: 1 };
    let steps = steps(&fence);
    assert_eq!(steps[0].command, "cat > a.csv <<END\nx\nEND");
    assert_eq!(steps[1].output, "queue\n[exit code 2]\n");
    assert_eq!(steps.len(), 2);
}
