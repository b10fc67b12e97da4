//! Exit 2: the command line, the settings or the manifest is wrong. Nothing is sent or imported, and
//! the message says what to do.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use crate::support::binary::{ends, has, sandbox};
use crate::support::place::{Place, data, manifest, question, said};

const KEY: &str = "5bd2850fff3ecb11d7c805251c51ee463a25727bddc2385f3fa8bfee1bb93b5e";

/// `args` exit with 2 and print `parts`.
#[track_caller]
fn wrong(place: &Place, args: &[&str], parts: &[&str]) {
    let output = ends(place.deskbatch(args), 2);
    assert_eq!(data(&output), "");
    has(&said(&output), parts);
}

fn one_job(place: &Place) {
    place.write("jobs.csv", manifest([(question("q").as_str(), "enable")]));
}

/// A `deskbatch.toml` that only its owner can read.
fn config(place: &Place, text: &str) {
    let path = place.write("deskbatch.toml", text);
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

#[test]
fn unknown_flag_and_invalid_value_are_named() {
    let place = Place::new();
    wrong(&place, &["run", "--chunks", "5"], &["--chunks", "--chunk"]);
    wrong(&place, &["run", "--chunk", "0"], &["chunk: 0 is not between 1 and 10000"]);
    wrong(&place, &["run", "--rate", "0"], &["rate: 0"]);
    wrong(&place, &["run", "--region", "atlantis"], &["atlantis", "singapore"]);
    wrong(&place, &["status", "--log", "deskbatch=loud"], &["log: deskbatch=loud"]);
    wrong(&place, &["import", "x.csv", "--status", "7", "--sdkappid", "1"], &["--status", "7"]);
    wrong(&place, &["run", "--secret-key", KEY], &["--secret-key"]);
    wrong(&place, &["bury"], &["bury"]);
}

#[test]
fn manifest_flag_without_file_is_refused() {
    let place = Place::new();
    for flag in ["--status=5", "--delimiter=;", "--on-conflict=last", "--rejects=r", "--name=n"] {
        wrong(&place, &["run", flag], &["required", "FILE"]);
    }
    wrong(&place, &["run", "--reimport"], &["required", "FILE"]);
}

#[test]
fn sandbox_flag_without_sandbox_is_refused() {
    let place = Place::new();
    one_job(&place);
    wrong(&place, &["run", "jobs.csv", "--fault", "throttle=0.1"], &["--fault", "--sandbox"]);
    wrong(&place, &["run", "--latency", "5ms", "jobs.csv"], &["--latency", "--sandbox"]);
    assert!(!place.path("deskbatch.db").exists());
    let mut command = place.deskbatch(&["run", "jobs.csv", "--sandbox", "--latency", "5ms"]);
    command.env("DESKBATCH_SANDBOX_LATENCY_JITTER", "1ms");
    ends(command, 0);
}

#[test]
fn missing_setting_is_named_with_all_its_sources() {
    let place = Place::new();
    one_job(&place);
    let given = [
        ("DESKBATCH_SDKAPPID", "1400000000", "--sdkappid"),
        ("DESKBATCH_IDENTIFIER", "administrator", "--identifier"),
        ("DESKBATCH_SECRET_KEY", KEY, "DESKBATCH_USERSIG"),
        ("DESKBATCH_REGION", "china", "--region"),
    ];
    for (at, (name, _, another)) in given.into_iter().enumerate() {
        let mut command = place.deskbatch(&["run", "jobs.csv"]);
        command.envs(given[..at].iter().map(|(name, value, _)| (name, value)));
        let key = name.trim_start_matches("DESKBATCH_").to_lowercase();
        has(&said(&ends(command, 2)), &[name, another, &format!("{key} in deskbatch.toml")]);
    }
    assert_eq!(place.files(), ["jobs.csv"]);
}

#[test]
fn contradictory_account_settings_are_refused() {
    let place = Place::new();
    let both = ["run", "--region", "china", "--endpoint", "https://gateway.example"];
    wrong(&place, &both, &["both a region and an endpoint", "keep one"]);
    let mut command = place.deskbatch(&["run", "--sdkappid", "1", "--identifier", "a"]);
    command.env("DESKBATCH_SECRET_KEY", KEY).env("DESKBATCH_USERSIG", "eJw9");
    command.args(["--region", "china"]);
    has(&said(&ends(command, 2)), &["both a secret key and a UserSig", "keep one"]);
}

#[test]
fn rate_above_service_limit_is_refused_for_remote() {
    let place = Place::new();
    for host in [["--region", "china"], ["--endpoint", "https://127.0.0.1.example"]] {
        let mut command = place.deskbatch(&["run", "--rate", "5.1"]);
        command.args(host);
        has(&said(&ends(command, 2)), &["allows 5 requests per second", "5.1", "on this host"]);
    }
}

#[test]
fn plain_http_to_remote_host_is_refused() {
    let place = Place::new();
    let args = ["run", "--endpoint", "http://gateway.example"];
    wrong(&place, &args, &["endpoint:", "use https"]);
}

#[test]
fn invalid_sandbox_settings_are_refused_before_import() {
    let place = Place::new();
    one_job(&place);
    for (flags, reason) in [
        (["--fault", "throttle=0.6,internal=0.6"], "add up to 1.2"),
        (["--fault", "storm=0.5"], "not a fault: use throttle"),
        (["--known-ids", "absent.txt"], "cannot read absent.txt"),
    ] {
        let [name, value] = flags;
        wrong(&place, &["run", "jobs.csv", "--sandbox", name, value], &["sandbox", reason]);
        wrong(&place, &["sandbox", "--addr", "127.0.0.1:0", name, value], &["sandbox", reason]);
    }
    wrong(&place, &["run", "--sandbox", "--window", "slide"], &["--window", "sliding, fixed"]);
    wrong(&place, &["sandbox", "--addr", "0.0.0.0:0"], &["0.0.0.0:0 is not a loopback address"]);
    assert_eq!(place.files(), ["jobs.csv"]);
}

#[test]
fn bad_rows_are_located_and_abort_import() {
    let place = Place::new();
    let good = question("good");
    place.write("jobs.csv", format!("note,question_id,status\nx,{good},4\ny,a b,4\nz,{good}2,7\n"));
    wrong(
        &place,
        &["import", "jobs.csv", "--sdkappid", "1400000000"],
        &[
            "2 of 3 rows are invalid. Nothing was imported.",
            "record 2, line 3, column question_id: \"a b\": ",
            "record 3, line 4, column status: \"7\": ",
            "--rejects",
        ],
    );
    assert_eq!(place.status()["total"], 0);
}

#[test]
fn twenty_bad_rows_are_shown_and_the_others_counted() {
    let place = Place::new();
    let mut text = String::from("question_id,status\n");
    for n in 0..57 {
        writeln!(text, "{},bad{n}", question("q")).unwrap();
    }
    place.write("jobs.csv", text);
    let output = ends(place.deskbatch(&["import", "jobs.csv", "--sdkappid", "1400000000"]), 2);
    let said = said(&output);
    assert_eq!(said.matches("  record ").count(), 20, "{said}");
    has(&said, &["57 of 57 rows", "bad19", "and 37 more"]);
}

#[test]
fn one_question_with_two_statuses_names_both_lines() {
    let place = Place::new();
    let id = question("q");
    place.write("jobs.csv", manifest([(id.as_str(), "4"), (id.as_str(), "6")]));
    let parts = ["line 2 has enable, line 3 has delete", "--on-conflict"];
    wrong(&place, &["import", "jobs.csv", "--sdkappid", "1400000000"], &parts);
}

#[test]
fn invalid_manifest_names_file_and_reason() {
    let place = Place::new();
    place.write("columns.csv", "name,status\nx,4\n");
    place.write("status.csv", "question_id\nx\n");
    place.write("empty.csv", "");
    fs::create_dir(place.path("folder")).unwrap();
    let import = |file, parts: &[&str]| wrong(&place, &["import", file, "--sdkappid", "1"], parts);
    import("absent.csv", &["cannot open absent.csv: ", "No such file"]);
    import("columns.csv", &["columns.csv: no column contains the question ids", "question_id"]);
    import("status.csv", &["status.csv: no column is named status", "--status"]);
    import("empty.csv", &["empty.csv is empty", "question_id,status"]);
    import("folder", &["cannot open folder: ", "directory"]);
}

#[test]
fn read_only_command_creates_no_queue_file() {
    let place = Place::new();
    for args in [
        &["status"][..],
        &["report"],
        &["retry"],
        &["cancel", "--batch", "1"],
        &["status", "--json"],
    ] {
        wrong(&place, args, &["no queue file at deskbatch.db", "import", "--database"]);
    }
    assert_eq!(place.files(), Vec::<String>::new());
}

#[test]
fn file_that_is_no_queue_stays_unchanged() {
    let place = Place::new();
    one_job(&place);
    let before = place.read("jobs.csv");
    for args in [&["status"][..], &["report"], &["import", "jobs.csv", "--sdkappid", "1"]] {
        let mut command = place.deskbatch(args);
        command.args(["--database", "jobs.csv"]);
        has(&said(&ends(command, 2)), &["jobs.csv is not a queue file", "Nothing was changed"]);
    }
    assert_eq!(place.read("jobs.csv"), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn deletes_need_yes_without_terminal() {
    let (place, sandbox) = (Place::new(), sandbox().await);
    let (kept, gone) = (question("kept"), question("gone"));
    place.write("jobs.csv", manifest([(kept.as_str(), "4"), (gone.as_str(), "delete")]));
    let output = ends(place.fast(&sandbox, &["run", "jobs.csv"]), 2);
    has(&said(&output), &["delete 1 question without", "Nothing was imported or sent.", "--yes"]);
    assert_eq!(place.status()["total"], 0);
    // The same for jobs that are already in the queue.
    ends(place.fast(&sandbox, &["import", "jobs.csv"]), 0);
    ends(place.fast(&sandbox, &["run"]), 2);
    assert_eq!(place.counts(), [2, 0, 0, 0, 0, 0]);
    assert_eq!(sandbox.ledger().total, 0);
    ends(place.fast(&sandbox, &["run", "--yes"]), 0);
    assert_eq!(place.counts(), [0, 0, 2, 0, 0, 0]);
}

#[test]
fn unreadable_config_file_exits_2_and_is_named() {
    let place = Place::new();
    fs::create_dir(place.path("folder.toml")).unwrap();
    for name in ["absent.toml", "folder.toml"] {
        wrong(&place, &["status", "--config", name], &["cannot read ", name]);
    }
    place.write("deskbatch.toml", b"rate = 1\n# \xff\n");
    wrong(&place, &["status"], &["cannot read deskbatch.toml: ", "UTF-8"]);
}

#[test]
fn readable_secret_is_refused_with_chmod_command() {
    for secret in [format!("secret_key = \"{KEY}\"\n"), "usersig = \"eJw9\"\n".to_owned()] {
        let place = Place::new();
        config(&place, &secret);
        let parts = ["deskbatch.toml contains a secret", "`chmod 600 deskbatch.toml`"];
        for mode in [0o640, 0o604] {
            let mode = fs::Permissions::from_mode(mode);
            fs::set_permissions(place.path("deskbatch.toml"), mode).unwrap();
            wrong(&place, &["status"], &parts);
        }
        fs::set_permissions(place.path("deskbatch.toml"), fs::Permissions::from_mode(0o600))
            .unwrap();
        wrong(&place, &["status"], &["no queue file"]);
    }
}

#[test]
fn mistyped_key_is_named_with_its_line() {
    let place = Place::new();
    config(&place, "# the account\nsdkappid = 1400000000\nchunck = 50\n");
    wrong(&place, &["status"], &["deskbatch.toml, line 3: ", "`chunck`", "`chunk`"]);
    config(&place, "rate = 5\n\n[sandbox]\nlatencyy = \"3ms\"\n");
    wrong(&place, &["status"], &["deskbatch.toml, line 4: ", "`latencyy`", "`latency`"]);
}

#[test]
fn secret_in_broken_file_is_never_shown() {
    let place = Place::new();
    let digits = "1234567890123456";
    for text in [
        format!("secret_key = {digits}"),
        format!("secret_key = {digits}.5"),
        format!("secret_key = {KEY}"),
        format!("secret_key = \"{KEY}"),
        format!("secret_key: {KEY}"),
        format!("usersig = [\"{KEY}\"]"),
        format!("sdkappid = \"{KEY}\""),
        format!("rate = \"{KEY}\""),
        format!("quiet = \"{KEY}\""),
        format!("log_format = \"{KEY}\""),
        format!("max_failures = \"{KEY}\""),
        format!("{KEY} = 1"),
        format!("secret_{KEY} = \"x\""),
        KEY.to_owned(),
    ] {
        config(&place, &format!("chunk = 5\n{text}\n"));
        let said = said(&ends(place.deskbatch(&["status"]), 2));
        has(&said, &["deskbatch.toml, line 2: "]);
        assert!(!said.contains(&KEY[..8]) && !said.contains(digits), "{text}\n{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_batch_number_is_named() {
    let (place, sandbox) = (Place::new(), sandbox().await);
    one_job(&place);
    ends(place.fast(&sandbox, &["import", "jobs.csv"]), 0);
    for command in ["cancel", "retry", "report"] {
        let parts = ["batch 7 does not exist", "deskbatch status"];
        wrong(&place, &[command, "--batch", "7"], &parts);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_detects_damaged_queue_and_names_remedy() {
    let (place, sandbox) = (Place::new(), sandbox().await);
    let well = |place: &Place| data(&ends(place.fast(&sandbox, &["doctor"]), 0));
    has(
        &well(&place),
        &["ok      account   SDKAppID", "ok      queue     deskbatch.db does not exist yet"],
    );
    place.write("deskbatch.db", "");
    has(&data(&ends(place.fast(&sandbox, &["doctor"]), 2)), &["deskbatch.db is empty"]);
    let rows: Vec<(String, &str)> = (0..500).map(|n| (question(&format!("q{n}")), "4")).collect();
    place.write("jobs.csv", manifest(rows.iter().map(|(id, status)| (id.as_str(), *status))));
    ends(place.fast(&sandbox, &["import", "jobs.csv"]), 0);
    has(&well(&place), &["ok      queue     deskbatch.db is intact"]);
    // A run cannot begin without an account.
    has(&data(&ends(place.deskbatch(&["doctor"]), 2)), &["error   account", "ok      queue"]);

    let path = place.path("deskbatch.db");
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2 / 4_096 * 4_096;
    bytes[middle..middle + 4_096].fill(0xAA);
    std::fs::write(&path, bytes).unwrap();
    let output = ends(place.fast(&sandbox, &["doctor"]), 70);
    has(&data(&output), &["error   queue     deskbatch.db is damaged", "restore it from a backup"]);
}

#[test]
fn missing_manifest_is_reported_before_settings() {
    let place = Place::new();
    let said = said(&ends(place.deskbatch(&["run", "absent.csv"]), 2));
    has(&said, &["absent.csv", "No such file"]);
    assert!(!said.contains("SDKAPPID") && place.files().is_empty(), "{said}");
}
