//! `config show` and `init`: the effective settings with their sources, and a first configuration file.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};

use rexpect::process::WaitStatus;
use rexpect::session::{PtySession, spawn_command};
use serde_json::Value;

use crate::support::binary::{ends, has};
use crate::support::place::{Place, data, said};

const KEY: &str = "7c1d5e7f90b1a2c3d4e5f60718293a4b5c6d7e8f0f5c1d7e9ab24d68b3f02e6a";

/// A test fails if the program takes longer than this.
const PATIENCE_MS: u64 = 60_000;

fn file(place: &Place, name: &str, text: &str) {
    let path = place.write(name, text);
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

/// The line of `key` in the output of `config show`, its columns joined by one blank.
#[track_caller]
fn line(text: &str, key: &str) -> String {
    let line = text.lines().find(|line| line.split_whitespace().next() == Some(key));
    line.unwrap_or_else(|| panic!("{key} is not in:\n{text}"))
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
}

#[test]
fn config_show_lists_origins_and_hides_secrets() {
    let place = Place::new();
    file(
        &place,
        "deskbatch.toml",
        &format!(
            "sdkappid = 1400111222\nchunk = 20\nrate = 2.5\nsecret_key = \"{KEY}\"\n\
             endpoint = \"https://gate.example:8443/s3cret\"\n[sandbox]\nfault = [\"late=0.1\", \"internal=0.2\"]\n"
        ),
    );
    let mut command = place.deskbatch(&["config", "show", "--rate", "4", "--latency", "7ms"]);
    command.env("DESKBATCH_CHUNK", "30").env("DESKBATCH_SANDBOX_SEED", "9");
    let text = data(&ends(command, 0));
    for (key, shown) in [
        ("config", "config deskbatch.toml default"),
        ("sdkappid", "sdkappid 1400111222 file deskbatch.toml"),
        ("chunk", "chunk 30 environment DESKBATCH_CHUNK"),
        ("rate", "rate 4 flag --rate"),
        ("max_attempts", "max_attempts 4 default"),
        ("region", "region - not set"),
        ("endpoint", "endpoint https://gate.example:8443 file deskbatch.toml"),
        ("secret_key", "secret_key set file deskbatch.toml"),
        ("usersig", "usersig - not set"),
        ("sandbox.fault", "sandbox.fault late=0.1,internal=0.2 file deskbatch.toml"),
        ("sandbox.seed", "sandbox.seed 9 environment DESKBATCH_SANDBOX_SEED"),
        ("sandbox.latency", "sandbox.latency 7ms flag --latency"),
    ] {
        assert_eq!(line(&text, key), shown);
    }
    assert!(!text.contains("s3cret") && !text.contains(&KEY[..8]), "{text}");
    // Settings that a sandbox run changes are listed apart.
    let in_sandbox_run = text.split("with --sandbox:\n").nth(1).unwrap();
    assert_eq!(line(in_sandbox_run, "database"), "database deskbatch.sandbox.db sandbox run");
    assert_eq!(line(in_sandbox_run, "endpoint"), "endpoint the sandbox sandbox run");
    assert!(!in_sandbox_run.contains("chunk"), "{in_sandbox_run}");
}

#[test]
fn config_show_names_overridden_settings() {
    let place = Place::new();
    file(
        &place,
        "deskbatch.toml",
        &format!("endpoint = \"https://gate.example\"\nsecret_key = \"{KEY}\"\n"),
    );
    let mut command = place.deskbatch(&["config", "show", "--region", "tokyo"]);
    command.env("DESKBATCH_USERSIG", "eJw9");
    let text = data(&ends(command, 0));
    assert_eq!(line(&text, "region"), "region tokyo flag --region");
    assert_eq!(line(&text, "endpoint"), "endpoint - overridden by region");
    assert_eq!(line(&text, "usersig"), "usersig set environment DESKBATCH_USERSIG");
    assert_eq!(line(&text, "secret_key"), "secret_key - overridden by usersig");
}

#[test]
fn config_show_prints_settings_as_json() {
    let place = Place::new();
    let mut command = place.deskbatch(&["config", "show", "--json", "--sandbox", "--chunk", "5"]);
    command.env("DESKBATCH_SECRET_KEY", KEY);
    let output = ends(command, 0);
    let all: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&all["schema"], &all["sandbox"]), (&1.into(), &true.into()));
    let of = |key: &str| {
        all["settings"].as_array().unwrap().iter().find(|s| s["key"] == key).unwrap().clone()
    };
    assert_eq!(of("chunk")["value"], "5");
    assert_eq!((&of("chunk")["from"], &of("chunk")["name"]), (&"flag".into(), &"--chunk".into()));
    assert_eq!(of("database")["value"], "deskbatch.sandbox.db");
    assert_eq!(
        (&of("secret_key")["secret"], &of("secret_key")["value"]),
        (&true.into(), &Value::Null)
    );
    assert!(!data(&output).contains(&KEY[..8]));
}

#[test]
fn init_writes_flags_and_names_missing_settings() {
    let place = Place::new();
    let output = ends(
        place.deskbatch(&[
            "init",
            "--sdkappid",
            "1400111222",
            "--identifier",
            "ops",
            "--chunk",
            "20",
        ]),
        0,
    );
    let talk = said(&output);
    has(&talk, &["created deskbatch.toml", "still missing: region", "DESKBATCH_SECRET_KEY"]);
    assert!(!talk.contains("missing: sdkappid"), "{talk}");
    let mode = fs::metadata(place.path("deskbatch.toml")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(place.files(), ["deskbatch.toml"]);
    let text = place.read("deskbatch.toml");
    has(
        &text,
        &["sdkappid = 1400111222\n", "identifier = \"ops\"\n", "chunk = 20 ", "# region = "],
    );
    // The written file loads and has the values that were entered.
    let shown = data(&ends(place.deskbatch(&["config", "show"]), 0));
    assert_eq!(line(&shown, "chunk"), "chunk 20 file deskbatch.toml");
    // `init` never overwrites an existing file.
    let output = ends(place.deskbatch(&["init", "--sdkappid", "1"]), 2);
    has(&said(&output), &["deskbatch.toml already exists", "Nothing was written", "init FILE"]);
    assert_eq!(place.read("deskbatch.toml"), text);
}

#[test]
fn init_refuses_invalid_settings_and_writes_nothing() {
    let place = Place::new();
    for (args, part) in [
        (&["--region", "singapor"][..], "a similar value exists: 'singapore'"),
        (&["--sdkappid", "0"], "sdkappid: 0"),
        (&["--identifier", "管理员"], "only printable ASCII"),
        (&["--endpoint", "http://gate.example"], "use https"),
        (&["--region", "china", "--endpoint", "https://gate.example"], "keep one"),
        (&["--chunk", "0"], "chunk: 0"),
    ] {
        let mut command = place.deskbatch(&["init"]);
        command.args(args);
        has(&said(&ends(command, 2)), &[part]);
    }
    std::os::unix::fs::symlink("nowhere", place.path("link.toml")).unwrap();
    has(&said(&ends(place.deskbatch(&["init", "link.toml"]), 2)), &["already exists"]);
    has(
        &said(&ends(place.deskbatch(&["init", "absent/a.toml"]), 2)),
        &["cannot write absent/a.toml"],
    );
    assert_eq!(place.files(), ["link.toml"]);
}

fn on_terminal(mut command: Command) -> PtySession {
    command.stdin(Stdio::inherit()).env("TERM", "xterm");
    spawn_command(command, Some(PATIENCE_MS)).unwrap()
}

#[track_caller]
fn closes(mut terminal: PtySession, code: i32) -> String {
    let shown = terminal.exp_eof().unwrap();
    match terminal.process().wait().unwrap() {
        WaitStatus::Exited(_, ended) => assert_eq!(ended, code, "{shown}"),
        other => panic!("{other:?}: {shown}"),
    }
    shown
}

#[test]
fn init_validates_terminal_input_and_hides_key() {
    let place = Place::new();
    let mut terminal = on_terminal(place.deskbatch(&["init"]));
    let mut shown = terminal.exp_string("SDKAppID of your app: ").unwrap();
    terminal.send_line("many").unwrap();
    shown += &terminal.exp_string("many is not a number").unwrap();
    terminal.exp_string("SDKAppID of your app: ").unwrap();
    terminal.send_line("1400111222").unwrap();
    terminal.exp_string("[administrator]: ").unwrap();
    terminal.send_line("").unwrap();
    shown += &terminal.exp_string("Region: ").unwrap();
    has(&shown, &["1  china", "7  jakarta"]);
    terminal.send_line("singapor").unwrap();
    terminal.exp_string("did you mean singapore?").unwrap();
    terminal.exp_string("Region: ").unwrap();
    terminal.send_line("2").unwrap();
    terminal.exp_string("DESKBATCH_SECRET_KEY): ").unwrap();
    terminal.send_line(KEY).unwrap();
    let rest = closes(terminal, 0);
    assert!(!rest.contains(&KEY[..8]) && !rest.contains("missing"), "{rest}");
    let text = place.read("deskbatch.toml");
    has(
        &text,
        &[
            "sdkappid = 1400111222\n",
            "identifier = \"administrator\"\n",
            "region = \"singapore\"\n",
        ],
    );
    has(&text, &[&format!("secret_key = \"{KEY}\"\n")]);
    let text = data(&ends(place.deskbatch(&["doctor", "--offline"]), 0));
    has(&text, &["ok      key", "ok      usersig", "ok      config"]);
}

#[test]
fn aborted_init_writes_nothing() {
    let place = Place::new();
    let mut terminal = on_terminal(place.deskbatch(&["init", "--sdkappid", "1"]));
    terminal.exp_string("[administrator]: ").unwrap();
    terminal.send("\u{4}").unwrap();
    terminal.flush().unwrap();
    has(&closes(terminal, 2), &["nothing was written"]);
    assert_eq!(place.files(), Vec::<String>::new());
}

#[test]
fn unknown_variable_is_reported_and_ignored() {
    let place = Place::new();
    place.write("jobs.csv", "question_id,status\nq,4\n");
    let mut command = place.deskbatch(&["import", "jobs.csv", "--sdkappid", "1", "--quiet"]);
    command.env("DESKBATCH_CHUNCK", "s3cret").env("DESKBATCH_OF_SOMEBODY_ELSE", "x");
    let said = said(&ends(command, 0));
    // `--quiet` still prints warnings about likely mistakes.
    has(&said, &["DESKBATCH_CHUNCK is not a setting", "did you mean DESKBATCH_CHUNK?"]);
    assert!(!said.contains("SOMEBODY") && !said.contains("s3cret"), "{said}");
}

#[test]
fn misplaced_config_line_is_reported_with_its_table() {
    let place = Place::new();
    for (text, parts) in [
        (
            "[sandbox]\nrate = 3\n",
            ["line 2: `rate` is not a setting of the sandbox", "above [sandbox]"],
        ),
        (
            "latency = \"3ms\"\n",
            ["line 1: `latency` is a setting of the sandbox", "below a line [sandbox]"],
        ),
        (
            "max-in-flight = 3\n",
            ["line 1: unknown key `max-in-flight`", "did you mean `max_in_flight`?"],
        ),
        ("password = 3\n", ["line 1: unknown key `password`", "deskbatch help settings"]),
        ("chunk = \"3\"\n", ["line 1: ", "a whole number"]),
        ("quiet = 1\n", ["line 1: ", "true or false"]),
    ] {
        place.write("deskbatch.toml", text);
        has(&said(&ends(place.deskbatch(&["status"]), 2)), &parts);
    }
}

#[test]
fn mistyped_column_gets_suggestion() {
    let place = Place::new();
    for (header, part) in [
        ("qestion_id,status", "rename qestion_id to question_id?"),
        ("question_id,staus", "rename staus to status?"),
        ("question_id,state of things", "no column is named status. Add one"),
    ] {
        place.write("jobs.csv", format!("{header}\nq,4\n"));
        has(&said(&ends(place.deskbatch(&["import", "jobs.csv", "--sdkappid", "1"]), 2)), &[part]);
    }
    place.write("jobs.csv", "question_id,status\nq,enabel\n");
    let output = ends(place.deskbatch(&["import", "jobs.csv", "--sdkappid", "1"]), 2);
    has(&said(&output), &["\"enabel\"", "did you mean enable?"]);
}

#[test]
fn interrupted_secret_prompt_restores_echo() {
    let place = Place::new();
    let init = "trap : INT; stty echo; \"$0\" init --sdkappid 1400000000 --identifier a --region china; stty -a";
    let mut shell = Command::new("sh");
    shell.args(["-c", init, env!("CARGO_BIN_EXE_deskbatch")]).current_dir(place.path(""));
    let mut terminal = on_terminal(shell);
    terminal.exp_string("not shown").unwrap();
    terminal.send_control('c').unwrap();
    let shown = terminal.exp_eof().unwrap();
    has(&shown, &["aborted: nothing was written", " echo "]);
    assert!(!shown.contains("-echo "), "{shown}");
}
