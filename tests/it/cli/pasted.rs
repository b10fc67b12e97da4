//! Every command line that the program suggests can be pasted into a shell: it parses, keeps the flags
//! that select the queue, and does what the text says.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use regex::Regex;

use crate::support::binary::ends;
use crate::support::place::{Place, data, manifest, question, said};

/// The flags that select another configuration file and another queue.
const FLAGS: &str = "--config my.toml --database 'my queue.db' --sandbox";

/// The suggested command lines of a text. One with a placeholder is not complete.
fn suggested(text: &str) -> Vec<String> {
    let line = Regex::new(r"deskbatch [a-z][^`)\n;]*").unwrap();
    let lines = line.find_iter(text).map(|line| line.as_str().trim().to_owned());
    lines.filter(|line| !line.contains("FILE")).collect()
}

/// Runs `line` as a user would paste it.
fn paste(place: &Place, line: &str) -> (Option<i32>, String) {
    let output = Command::new("sh")
        .args(["-c", &format!("deskbatch() {{ \"$BINARY\" \"$@\"; }}; {line}")])
        .env("BINARY", env!("CARGO_BIN_EXE_deskbatch"))
        .current_dir(place.path(""))
        .output()
        .unwrap();
    (output.status.code(), said(&output))
}

#[test]
fn suggested_lines_run_when_pasted() {
    let place = Place::new();
    let config = place.write("my.toml", "chunk = 2\n");
    fs::set_permissions(config, fs::Permissions::from_mode(0o600)).unwrap();
    let ids = ["a", "b", "missing1", "c"].map(question);
    place.write("jobs.csv", manifest(ids.iter().map(|id| (id.as_str(), "enable"))));
    let mut seen = Vec::new();
    for (args, code) in [
        ("plan jobs.csv", 0),
        ("run jobs.csv", 1),
        ("run", 0),
        ("run jobs.csv", 1),
        ("retry", 0),
        ("plan", 0),
        ("run --expired-after 0", 4),
        ("cancel --batch 1", 0),
        ("status", 0),
        ("prune --older-than 0s", 0),
    ] {
        let mut command = place.deskbatch(&[]);
        command.args(shlex::split(&format!("{args} {FLAGS}")).unwrap());
        let output = ends(command, code);
        for line in suggested(&(data(&output) + &said(&output))) {
            assert!(line.contains(FLAGS.trim_end_matches(" --sandbox")), "{args}: {line}");
            seen.push(line);
        }
    }
    seen.dedup();
    for name in ["report", "retry", "run"] {
        assert!(seen.iter().any(|line| line.starts_with(&format!("deskbatch {name} "))), "{name}");
    }
    assert!(seen.iter().any(|line| line.contains(" && deskbatch run ")), "{seen:#?}");
    for line in seen {
        let (code, said) = paste(&place, &line);
        // A plan that was approved before a change, and a report that exists, are refused by name.
        let is_known = said.contains("the plan has changed") || said.contains("exists and");
        assert!(matches!(code, Some(0 | 1)) || is_known, "{line}: {code:?} {said}");
    }
}
