//! Manifests with conflicts, overrides, from a pipe or from a spreadsheet, through the binary.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::support::binary::{ends, ends_with_input, has, sandbox};
use crate::support::place::{Place, data, manifest, question, said};
use crate::support::terminal::{closes, on_terminal};

/// Two questions. One of them has rows for delete, enable and delete.
fn in_conflict() -> String {
    let (torn, whole) = (question("torn"), question("whole"));
    format!(
        "question_id,status,note\n{torn},delete,one\n{whole},disable,two\n{torn},enable,three\n{torn},delete,four\n"
    )
}

/// `--rejects` lists every row in conflict as the manifest has it, with the reason.
fn check_rejects(text: &str) {
    let rows: Vec<&str> = text.lines().collect();
    assert_eq!(rows.len(), 4, "{text}");
    let torn = question("torn");
    for (row, start) in rows[1..].iter().zip(["delete,one,", "enable,three,", "delete,four,"]) {
        assert!(row.starts_with(&format!("{torn},{start}\"line ")), "{text}");
        has(row, &["has delete", "has enable", "keep one of them"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn conflicts_go_to_the_rejects_with_every_row() {
    let sandbox = sandbox().await;
    let text = in_conflict();
    let mut gz = GzEncoder::new(Vec::new(), Compression::fast());
    gz.write_all(text.as_bytes()).unwrap();
    let packed = gz.finish().unwrap();
    for bytes in [text.as_bytes(), &packed] {
        let place = Place::new();
        place.write("old.csv", manifest([(question("torn").as_str(), "5")]));
        ends(place.fast(&sandbox, &["import", "old.csv"]), 0);
        place.write("jobs.csv", bytes);
        has(
            &said(&ends(place.fast(&sandbox, &["import", "jobs.csv"]), 2)),
            &["rows are invalid. Nothing"],
        );
        let import = ["import", "jobs.csv", "--rejects", "bad.csv"];
        let talk = said(&ends(place.fast(&sandbox, &import), 0));
        has(
            &talk,
            &[
                "3 invalid rows were skipped and written to bad.csv",
                "1 job (0 enable, 1 disable, 0 delete)",
            ],
        );
        check_rejects(&place.read("bad.csv"));
        // The older job of the question in conflict is still pending.
        assert_eq!(place.counts(), [2, 0, 0, 0, 0, 0]);
        let batch = &place.status()["batches"];
        assert_eq!(batch.as_array().unwrap().len(), 2, "{batch}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn conflicts_from_a_pipe_are_set_aside_too() {
    let (place, sandbox) = (Place::new(), sandbox().await);
    let command = place.fast(&sandbox, &["run", "-", "--rejects", "bad.csv"]);
    ends_with_input(command, in_conflict().as_bytes(), 0);
    check_rejects(&place.read("bad.csv"));
    assert_eq!(place.counts(), [0, 0, 1, 0, 0, 0]);
    assert_eq!(sandbox.ledger().requests.iter().map(|r| r.ids.len()).sum::<usize>(), 1);
    let place = Place::new();
    place.write("jobs.csv", in_conflict());
    let last = ["run", "jobs.csv", "--rejects", "bad.csv", "--on-conflict", "first", "--yes"];
    ends(place.fast(&sandbox, &last), 0);
    assert!(!place.path("bad.csv").exists());
    assert_eq!(place.counts(), [0, 0, 2, 0, 0, 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn plan_and_run_handle_conflicts_alike() {
    let (place, sandbox) = (Place::new(), sandbox().await);
    place.write("jobs.csv", in_conflict());
    let args = ["plan", "jobs.csv", "--rejects", "bad.csv", "--json"];
    let plan = ends(place.fast(&sandbox, &args), 0);
    let plan: serde_json::Value = serde_json::from_slice(&plan.stdout).unwrap();
    let counts = ["rows", "duplicates", "rejected"].map(|key| plan["file"][key].as_u64().unwrap());
    assert_eq!(counts, [4, 0, 3], "{plan}");
    assert_eq!(plan["jobs"]["total"], 1);
    assert!(!place.path("bad.csv").exists());
    let digest = plan["digest"].as_str().unwrap();
    let run = ["run", "jobs.csv", "--rejects", "bad.csv", "--plan", digest];
    ends(place.fast(&sandbox, &run), 0);
    check_rejects(&place.read("bad.csv"));
}

#[tokio::test(flavor = "multi_thread")]
async fn delete_over_another_status_needs_its_flag() {
    let (place, sandbox) = (Place::new(), sandbox().await);
    let (a, b, c) = (question("a"), question("b"), question("c"));
    place.write("jobs.csv", manifest([(a.as_str(), "4"), (&b, "delete"), (&c, "disable")]));
    let odd = "2 rows have another status of their own, for example 4 (record 1, line 2)";
    for command in ["run", "plan", "import"] {
        let args = [command, "jobs.csv", "--status", "delete"];
        let talk = said(&ends(place.fast(&sandbox, &args), 2));
        has(
            &talk,
            &[odd, "--status delete overrides it. Nothing was imported", "--override-status"],
        );
    }
    let args = ["run", "jobs.csv", "--status", "delete", "--yes"];
    ends(place.fast(&sandbox, &args), 2);
    assert_eq!(place.status()["total"], 0);
    assert_eq!(sandbox.ledger().total, 0);
    // Another status is reported and applied.
    let talk = said(&ends(place.fast(&sandbox, &["import", "jobs.csv", "--status", "enable"]), 0));
    has(&talk, &["warning: 2 rows have another status", "--status enable overrides it"]);
    let talk = said(&ends(place.fast(&sandbox, &[&args[..], &["--override-status"]].concat()), 0));
    has(&talk, &[&format!("warning: {odd}"), "3 jobs (0 enable, 0 disable, 3 delete)"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn rewritten_ids_are_warned_of_by_an_import() {
    let (place, sandbox) = (Place::new(), sandbox().await);
    place.write(
        "jobs.csv",
        manifest([("1.4E+09", "4"), ("#REF!", "4"), ("#NAME?", "5"), ("'x", "4")]),
    );
    let talk = said(&ends(place.fast(&sandbox, &["import", "jobs.csv"]), 0));
    has(&talk, &["warning: 1 id is a number with an exponent", "1.4E+09 (record 1, line 2)"]);
    has(
        &talk,
        &["warning: 2 ids are error values of a spreadsheet, for example #REF! (record 2, line 3)"],
    );
    has(&talk, &["warning: 1 id begins with the apostrophe"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn rewritten_ids_are_warned_of_before_deletes() {
    let (place, sandbox) = (Place::new(), sandbox().await);
    let ids = ["1.4E+09", "#NAME?", "\"=\"\"x\"\"\"", "'x", "1400000000\u{2013}x"];
    place.write("jobs.csv", manifest(ids.map(|id| (id, "delete"))));
    let plan = ends(place.fast(&sandbox, &["plan", "jobs.csv", "--json"]), 0);
    let plan: serde_json::Value = serde_json::from_slice(&plan.stdout).unwrap();
    let warnings: Vec<&str> =
        plan["file"]["warnings"].as_array().unwrap().iter().map(|w| w.as_str().unwrap()).collect();
    let examples = ["1.4E+09", "#NAME?", "=\\\"x\\\"", "'x", "1400000000\u{2013}x"];
    assert_eq!(warnings.len(), examples.len(), "{warnings:?}");
    for ((warning, id), line) in warnings.iter().zip(examples).zip(2..) {
        has(warning, &[&format!("for example {id} (record {}, line {line}): ", line - 1)]);
    }
    let mut lines: Vec<String> = warnings.iter().map(|text| format!("warning: {text}")).collect();
    let text = data(&ends(place.fast(&sandbox, &["plan", "jobs.csv"]), 0));
    has(&text, &[&format!("\n\n{}\n\ndigest of this plan:", lines.join("\n"))]);
    let mut terminal = on_terminal(place.fast(&sandbox, &["run", "jobs.csv"]));
    let shown = terminal.exp_string("Delete 5 questions? [y/N] ").unwrap();
    // The terminal of the tests makes a character of each byte.
    for line in &mut lines {
        *line = line.bytes().map(char::from).collect();
    }
    let above: Vec<&str> = shown.lines().map(str::trim_end).filter(|l| !l.is_empty()).collect();
    assert_eq!(above[above.len() - lines.len()..], lines, "{shown}");
    terminal.send_line("n").unwrap();
    closes(terminal, 2);
    assert_eq!(sandbox.ledger().total, 0);
}

/// A named pipe that delivers `text` to its first reader.
fn fifo(path: &Path, text: String) {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
    let path = path.to_owned();
    // Opening the pipe for writing blocks until a reader comes, so a thread does it.
    thread::spawn(move || fs::write(path, text));
}

#[tokio::test(flavor = "multi_thread")]
async fn deletes_from_a_pipe_need_yes() {
    let (place, sandbox) = (Place::new(), sandbox().await);
    let deletes = || manifest([(question("a").as_str(), "delete")]);
    fifo(&place.path("pipe"), deletes());
    let terminal = on_terminal(place.fast(&sandbox, &["run", "pipe"]));
    let shown = closes(terminal, 2);
    has(
        &shown,
        &[
            "refusing to delete 1 question without confirmation: ",
            "pipe can be read only once",
            "Nothing was imported or sent.",
            "--yes",
        ],
    );
    assert_eq!(place.status()["total"], 0);
    assert_eq!(sandbox.ledger().total, 0);

    let mut shell = place.fast(&sandbox, &["run"]);
    shell.arg("/dev/fd/3").arg("--yes");
    let piped = "\"$0\" \"$@\" 3<<EOF\n$ROWS\nEOF\n";
    let mut command = Command::new("bash");
    command.args(["-c", &piped.replace("3<<EOF\n$ROWS\nEOF", "3< <(printf %s \"$ROWS\")")]);
    command.arg(shell.get_program()).args(shell.get_args()).env("ROWS", deletes());
    for (name, value) in shell.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command.current_dir(place.folder.path()).stdin(Stdio::null());
    ends(command, 0);
    assert_eq!(place.counts(), [0, 0, 1, 0, 0, 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn deletes_from_stdin_need_yes_or_a_plan() {
    let (place, sandbox) = (Place::new(), sandbox().await);
    let rows = manifest([(question("a").as_str(), "delete"), (&question("b"), "enable")]);
    let piped =
        |args: &[&str], code| ends_with_input(place.fast(&sandbox, args), rows.as_bytes(), code);
    let refused = said(&piped(&["run", "-"], 2));
    has(
        &refused,
        &[
            "refusing to delete 1 question without confirmation: ",
            "stdin can be read only once",
            "--yes",
        ],
    );
    let plan: serde_json::Value =
        serde_json::from_slice(&piped(&["plan", "-", "--json"], 0).stdout).unwrap();
    assert_eq!(plan["deletes"], serde_json::json!([question("a")]), "{plan}");
    assert_eq!((place.status()["total"].as_u64(), sandbox.ledger().total), (Some(0), 0));
    let approved = ["run", "-", "--plan", plan["digest"].as_str().unwrap()];
    let other = manifest([(question("c").as_str(), "delete")]);
    let refused = ends_with_input(place.fast(&sandbox, &approved), other.as_bytes(), 2);
    has(
        &said(&refused),
        &["the plan has changed since its digest was made", "changed: the file\n"],
    );
    piped(&approved, 0);
    assert_eq!(place.counts(), [0, 0, 2, 0, 0, 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn spreadsheet_export_quirks_are_accepted() {
    let (place, sandbox) = (Place::new(), sandbox().await);
    let [a, b, c, d] = ["a", "b", "c", "d"].map(question);
    let text = format!(
        "sep=;\r\n\u{a0}question_id;status\u{a0};note;more\r\n{a};4\r\n{b};5;x\r\n{c};4;x;y;\r\n{d};5;;\r\n\x1a"
    );
    let mut gz = GzEncoder::new(Vec::new(), Compression::fast());
    gz.write_all(text.as_bytes()).unwrap();
    let packed = [gz.finish().unwrap(), vec![0; 1_024]].concat();
    place.write("jobs.csv.gz", packed);
    let talk = said(&ends(place.fast(&sandbox, &["run", "jobs.csv.gz"]), 0));
    has(&talk, &["4 jobs (2 enable, 2 disable, 0 delete)"]);
    assert_eq!(place.report(&[])[3]["row"], "6");
    place.write("jobs.xz", b"\xfd7zXZ\0\0\x04\xe6\xd6\xb4\x46");
    let talk = said(&ends(place.fast(&sandbox, &["run", "jobs.xz"]), 2));
    has(&talk, &["jobs.xz is an xz archive, not CSV. Unpack it with `xz -d`"]);
    assert_eq!(
        data(&ends(place.deskbatch(&["report", "--state", "pending"]), 0)).lines().count(),
        1
    );
}
