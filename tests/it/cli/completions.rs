//! Completions in real shells and man pages through the real formatter. Both, like `init` and
//! `explain`, work with any settings.

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use rexpect::session::spawn_command;

use crate::support::binary::{ends, has};
use crate::support::place::{Place, data, said};

/// A test fails if a shell takes longer than this.
const PATIENCE_MS: u64 = 60_000;

/// Whether `program` is installed. In CI it must be.
#[allow(clippy::print_stderr, reason = "who runs the tests wants to know what was left out")]
fn is_there(program: &str) -> bool {
    let found = std::env::var_os("PATH").is_some_and(|paths| {
        std::env::split_paths(&paths).any(|folder| folder.join(program).is_file())
    });
    assert!(found || std::env::var_os("CI").is_none(), "{program} is missing: apt-get install it");
    if !found {
        eprintln!("left out: {program} is not installed");
    }
    found
}

/// The script for `shell`, in a file of this name.
fn script(place: &Place, shell: &str, name: &str) -> PathBuf {
    place.write(name, ends(place.deskbatch(&["completions", shell]), 0).stdout)
}

/// What `program` prints for `input` on stdin, without settings from the environment.
#[track_caller]
fn through(place: &Place, program: &str, args: &[&str]) -> Output {
    let mut command = Command::new(program);
    command.args(args).current_dir(place.folder.path()).stdin(Stdio::null());
    ends(command, 0)
}

#[test]
fn bash_completes_commands_flags_and_values() {
    if !is_there("bash") {
        return;
    }
    let place = Place::new();
    script(&place, "bash", "deskbatch.bash");
    let complete = |words: &[&str]| -> Vec<String> {
        let last = words.len() - 1;
        let line = format!(
            "source ./deskbatch.bash; COMP_WORDS=({}); COMP_CWORD={last}; \
             COMP_LINE='{}'; COMP_POINT=${{#COMP_LINE}}; \
             _deskbatch deskbatch '{}' '{}'; printf '%s\\n' \"${{COMPREPLY[@]}}\"",
            words.iter().map(|word| format!("'{word}'")).collect::<Vec<_>>().join(" "),
            words.join(" "),
            words[last],
            words[last - 1],
        );
        let output = through(&place, "bash", &["--norc", "-c", &line]);
        assert_eq!(said(&output), "");
        data(&output).split_whitespace().map(str::to_owned).collect()
    };
    assert_eq!(complete(&["deskbatch", "re"]), ["report", "retry"]);
    assert_eq!(complete(&["deskbatch", "run", "--max-f"]), ["--max-failures"]);
    assert_eq!(
        complete(&["deskbatch", "run", "--region", "s"]),
        ["singapore", "seoul", "silicon-valley"]
    );
    assert_eq!(complete(&["deskbatch", "config", "sh"]), ["show"]);
    assert_eq!(complete(&["deskbatch", "import", "--status", "d"]), ["disable", "delete"]);
}

#[test]
fn fish_completes_commands_and_values() {
    if !is_there("fish") {
        return;
    }
    let place = Place::new();
    script(&place, "fish", "deskbatch.fish");
    let complete = |line: &str| {
        let script = format!("source ./deskbatch.fish; complete --do-complete '{line}'");
        data(&through(&place, "fish", &["--no-config", "-c", &script]))
    };
    has(
        &complete("deskbatch sta"),
        &["status\tShow the counts of the queue, the rate and the ETA"],
    );
    has(&complete("deskbatch run --region ja"), &["jakarta"]);
}

#[test]
fn zsh_completes_on_a_terminal() {
    if !is_there("zsh") {
        return;
    }
    let place = Place::new();
    script(&place, "zsh", "_deskbatch");
    let mut command = Command::new("zsh");
    command
        .args(["-f", "-i"])
        .current_dir(place.folder.path())
        .env("TERM", "dumb")
        .env("COLUMNS", "200");
    let mut terminal = spawn_command(command, Some(PATIENCE_MS)).unwrap();
    terminal
        .send_line("unsetopt zle_bracketed_paste; fpath=($PWD $fpath); autoload -U compinit; compinit -D -u; print re''ady")
        .unwrap();
    terminal.exp_string("ready").unwrap();
    terminal.send("deskbatch stat\t").unwrap();
    terminal.flush().unwrap();
    terminal.exp_string("us ").unwrap();
    terminal.send("--databa\t").unwrap();
    terminal.flush().unwrap();
    terminal.exp_string("se").unwrap();
    // An interactive zsh ignores SIGTERM.
    terminal.process_mut().set_kill_timeout(Some(0));
}

#[test]
fn every_shell_has_its_script() {
    let place = Place::new();
    for shell in ["bash", "zsh", "fish", "powershell"] {
        let script = data(&ends(place.deskbatch(&["completions", shell]), 0));
        has(&script, &["deskbatch", "doctor", "max-failures"]);
    }
    has(&said(&ends(place.deskbatch(&["completions", "csh"]), 2)), &["csh", "bash", "zsh"]);
    assert_eq!(place.files(), Vec::<String>::new());
}

#[test]
fn man_pages_format_without_warnings() {
    let place = Place::new();
    std::fs::create_dir(place.path("man1")).unwrap();
    ends(place.deskbatch(&["man", "--dir", "man1"]), 0);
    let mut names: Vec<String> = std::fs::read_dir(place.path("man1"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    for name in ["deskbatch.1", "deskbatch-run.1", "deskbatch-config-show.1", "deskbatch-man.1"] {
        assert!(names.contains(&name.to_owned()), "{names:?}");
    }
    let run = place.read("man1/deskbatch-run.1");
    has(
        &run,
        &[".SH SETTINGS", ".SS Requests", ".SS Account", ".SH EXAMPLES", "deskbatch\\-settings(1)"],
    );
    has(&run, &["The separator of the columns"]);
    has(&place.read("man1/deskbatch.1"), &[".SH \"EXIT STATUS\"", "another run holds the lock"]);
    assert_eq!(data(&ends(place.deskbatch(&["man", "run"]), 0)), run);
    if !is_there("groff") {
        return;
    }
    for name in names {
        let output = through(
            &place,
            "groff",
            &["-man", "-ww", "-Tutf8", "-P-cbou", &format!("man1/{name}")],
        );
        assert_eq!(said(&output), "", "{name}");
        has(&data(&output), &["SYNOPSIS"]);
    }
}

#[test]
fn unknown_man_page_suggests_nearest_command() {
    let place = Place::new();
    let output = ends(place.deskbatch(&["man", "docter"]), 2);
    has(&said(&output), &["docter is not a command", "did you mean doctor?"]);
    let output = ends(place.deskbatch(&["man", "--dir", "absent"]), 2);
    has(&said(&output), &["cannot write absent/", "in an existing directory"]);
}

#[test]
fn commands_without_settings_ignore_broken_config() {
    let place = Place::new();
    place.write("deskbatch.toml", "this is no TOML");
    for args in [
        &["completions", "bash"][..],
        &["man", "run"],
        &["explain", "-50003"],
        &["init", "another.toml"],
        &["--help"],
        &["run", "-h"],
    ] {
        let mut command = place.deskbatch(args);
        command.env("DESKBATCH_RATE", "fast").env("DESKBATCH_CONFIG", "absent.toml");
        ends(command, 0);
    }
    has(&said(&ends(place.deskbatch(&["status"]), 2)), &["deskbatch.toml, line 1"]);
}
