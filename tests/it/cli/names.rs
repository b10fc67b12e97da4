//! Hostile names of files and batches, and hostile ids: no output lets them forge a line, move the
//! cursor or imitate another name.

use std::fs;

use crate::support::binary::{ends, has, sandbox};
use crate::support::place::{Place, data, manifest, question, said};

/// The line that a hostile name tries to forge.
const FORGED: &str = "succeeded  999";

/// A name with a line break, a tab, an escape sequence and invisible marks.
const NAME: &str = "a\nsucceeded  999\tx\u{1b}[2J\u{202e}\u{3164}";

/// The same name as every output shows it.
const SHOWN: &str = "a\\u{a}succeeded  999\\u{9}x\\u{1b}[2J\\u{202e}\\u{3164}";

#[track_caller]
fn is_safe(what: &str, text: &str) {
    let forged = text.lines().find(|line| line.trim_start().starts_with(FORGED));
    assert_eq!(forged, None, "{what}:\n{text}");
    for c in ['\u{1b}', '\t', '\r', '\u{202e}', '\u{3164}'] {
        assert!(!text.contains(c), "{what} has {c:?}:\n{}", text.escape_debug());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn names_forge_no_line_on_any_surface() {
    let (place, sandbox) = (Place::new(), sandbox().await);
    let (file, id) = (format!("{NAME}.csv"), question("missing1"));
    place.write(&file, manifest([(id.as_str(), "enable")]));
    let plan = ends(place.fast(&sandbox, &["plan", &file]), 0);
    // The command line is quoted for a shell, and the name in it stays on one line.
    is_safe("plan", &data(&plan));
    has(&data(&plan), &[&format!("\n{SHOWN}.csv: 1 row, 1 job\n")]);
    let metrics = ["--metrics-file", "deskbatch.prom", "--log", "trace"];
    let mut command = place.fast(&sandbox, &["run", &file, "--name", NAME]);
    command.args(metrics);
    let run = said(&ends(command, 1));
    is_safe("run", &run);
    has(&run, &[&format!("imported {SHOWN}.csv as batch 1")]);
    is_safe("metrics", &place.read("deskbatch.prom"));
    let status = data(&ends(place.deskbatch(&["status"]), 0));
    is_safe("status", &status);
    has(&status, &[SHOWN]);
    let report = data(&ends(place.deskbatch(&["report"]), 0));
    is_safe("report", &report);
    assert_eq!(report.lines().count(), 2, "{report}");
    has(&report, &[SHOWN]);
    let json = data(&ends(place.deskbatch(&["report", "--format", "json"]), 0));
    is_safe("report as JSON", &json);
    ends(place.deskbatch(&["report", "--html", "page.html"]), 0);
    has(&place.read("page.html"), &["succeeded  999\\u{9}x\\u{1b}"]);
    assert!(!place.read("page.html").contains('\u{1b}'));
}

#[test]
fn names_in_errors_stay_on_one_line() {
    let place = Place::new();
    let gone = format!("gone{NAME}");
    for args in [
        &["import", &gone, "--sdkappid", "1"][..],
        &["status", "--database", "a\u{202e}b.db"],
        &["explain", &gone],
        &["run", "--region", &gone],
    ] {
        is_safe(args[0], &said(&ends(place.deskbatch(args), 2)));
    }
}

#[test]
fn ids_with_invisible_characters_are_refused() {
    let place = Place::new();
    let unsafe_ones = ["fe0f", "61c", "e0041", "3164", "200b", "ad", "34f", "180e", "e000", "2800"];
    for number in unsafe_ones {
        let c = char::from_u32(u32::from_str_radix(number, 16).unwrap()).unwrap();
        let id = question(&format!("q{c}1"));
        place.write("jobs.csv", format!("question_id,status\n{},4\n{id},6\n", question("q1")));
        let import = ["import", "jobs.csv", "--sdkappid", "1400000000"];
        let talk = said(&ends(place.deskbatch(&import), 2));
        let named = format!("U+{:0>4}", number.to_uppercase());
        has(&talk, &["record 2, line 3, column question_id", &named]);
        assert!(!talk.contains(c), "{talk}");
    }
    assert_eq!(place.status()["total"], 0);
}

#[test]
fn whole_program_has_one_set_of_unsafe_characters() {
    // A second set in the source would contain a range of such characters.
    let mut found = Vec::new();
    let mut folders = vec![std::path::PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/src"))];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.extend((!path.ends_with("tests")).then_some(path));
                continue;
            }
            let text = fs::read_to_string(&path).unwrap();
            let program = text.split("#[cfg(test)]").next().unwrap();
            let has = |word: &str| program.contains(word);
            if has(r"'\u{200") || has("is_control()") || has("escape_debug") || has(".display()") {
                found.push(path.file_name().unwrap().to_owned());
            }
        }
    }
    assert_eq!(found, ["escape.rs"]);
}
