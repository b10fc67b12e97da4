//! Suggested commands work: each fits this queue, hostile text cannot move the cursor, the closest
//! setting is suggested, and a typing error is not reported as a machine fault.

use std::fs;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::PermissionsExt as _;

use crate::support::binary::{ends, has, sandbox};
use crate::support::place::{Place, data, manifest, question, said};

fn two_jobs(place: &Place) {
    let (one, other) = (question("one"), question("other"));
    place.write("jobs.csv", manifest([(one.as_str(), "enable"), (other.as_str(), "delete")]));
}

#[test]
fn suggested_commands_use_the_same_queue() {
    let place = Place::new();
    two_jobs(&place);
    let config = place.write("my.toml", "chunk = 20\n");
    fs::set_permissions(config, fs::Permissions::from_mode(0o600)).unwrap();
    let (base, name) = (["--config", "my.toml", "--database"], "my queue $x.db");
    let flags = format!("--config my.toml --database '{name}'");
    let mut run = place.deskbatch(&["run", "jobs.csv", "--sandbox", "--yes"]);
    run.args(["--desk-off", "1400000000"]).args(base).arg(name);
    has(&said(&ends(run, 4)), &[&format!("deskbatch run {flags} --sandbox\n")]);
    let mut run = place.deskbatch(&["run", "--sandbox", "--yes"]);
    run.args(base).arg(name);
    has(&said(&ends(run, 0)), &[&format!("deskbatch run FILE {flags}\n")]);
    // The hint must not suggest a run that has nothing to send.
    let mut retry = place.deskbatch(&["retry", "--sandbox"]);
    retry.args(base).arg(name);
    let retried = said(&ends(retry, 0));
    assert_eq!(retried, "0 failed jobs set back to pending\n");
}

#[test]
fn invisible_characters_in_names_are_escaped() {
    let place = Place::new();
    let name = "a\u{1b}[2J\u{7}\u{202e}b.csv";
    place.write(name, manifest([(question("q").as_str(), "enable")]));
    let shown = "a\\u{1b}[2J\\u{7}\\u{202e}b";
    let hidden = |text: &str| text.contains(['\u{1b}', '\u{7}', '\u{202e}']);
    for args in
        [&["plan", name, "--sandbox"][..], &["import", name, "--sandbox"], &["status", "--sandbox"]]
    {
        let output = ends(place.deskbatch(args), 0);
        let all = data(&output) + &said(&output);
        assert!(all.contains(shown) && !hidden(&all), "{args:?}: {all:?}");
    }
    let absent = format!("{name}.absent");
    let output = ends(place.deskbatch(&["import", &absent, "--sandbox"]), 2);
    assert!(said(&output).contains(shown) && !hidden(&said(&output)));
    // The JSON output has the same name.
    let output = ends(place.deskbatch(&["status", "--json", "--sandbox"]), 0);
    assert!(!hidden(&data(&output)));
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["batches"][0]["name"], name.trim_end_matches(".csv"));
}

#[test]
fn log_lines_in_a_file_have_no_colours() {
    let place = Place::new();
    two_jobs(&place);
    let args = ["run", "jobs.csv", "--sandbox", "--yes", "--log", "debug"];
    let log = ends(place.deskbatch(&args), 0).stderr;
    let text = String::from_utf8(log).unwrap();
    assert!(text.contains("DEBUG") && !text.contains('\u{1b}'), "{text:?}");
}

#[test]
fn higher_precedence_decides_region_or_endpoint() {
    let place = Place::new();
    let show = |variable: (&str, &str), args: &[&str]| {
        let mut command = place.deskbatch(&["config", "show"]);
        command.args(args).env(variable.0, variable.1);
        let text = data(&ends(command, 0));
        let line = |key: &str| {
            let line = text.lines().find(|line| line.starts_with(key)).unwrap();
            line.split_whitespace().collect::<Vec<_>>().join(" ")
        };
        [line("region"), line("endpoint")]
    };
    let flag = show(("DESKBATCH_ENDPOINT", "https://a.example"), &["--region", "singapore"]);
    assert_eq!(flag, ["region singapore flag --region", "endpoint - overridden by region"]);
    let flag = show(("DESKBATCH_REGION", "tokyo"), &["--endpoint", "https://a.example"]);
    assert_eq!(
        flag,
        ["region - overridden by endpoint", "endpoint https://a.example flag --endpoint"]
    );
    let mut both = place.deskbatch(&["status"]);
    both.env("DESKBATCH_REGION", "tokyo").env("DESKBATCH_ENDPOINT", "https://a.example");
    has(&said(&ends(both, 2)), &["both a region and an endpoint are set"]);
}

#[test]
fn empty_variable_counts_as_unset() {
    let place = Place::new();
    let mut command = place.deskbatch(&["config", "show", "--json"]);
    for name in [
        "REGION",
        "ENDPOINT",
        "SDKAPPID",
        "MAX_DURATION",
        "ON_FINISH",
        "METRICS_FILE",
        "DASHBOARD",
        "QUIET",
        "CONFIG",
        "MAX_FAILURES",
        "SANDBOX_SEED",
    ] {
        command.env(format!("DESKBATCH_{name}"), if name == "QUIET" { " " } else { "" });
    }
    let json: serde_json::Value = serde_json::from_slice(&ends(command, 0).stdout).unwrap();
    let from = json["settings"].as_array().unwrap();
    assert!(from.iter().all(|setting| setting["from"] != "environment"), "{json:#}");
    // The command line that a plan suggests ignores empty variables too.
    place.write("jobs.csv", manifest([(question("q").as_str(), "enable")]));
    let mut plan = place.deskbatch(&["plan", "jobs.csv", "--sandbox"]);
    plan.env("DESKBATCH_SDKAPPID", "");
    has(&data(&ends(plan, 0)), &["deskbatch run jobs.csv --sandbox --plan "]);
}

#[test]
fn config_show_handles_empty_secret_and_sandbox() {
    let place = Place::new();
    let path = place.write(
        "deskbatch.toml",
        "dashboard_token = \"\"\nsecret_key = \"\"\nusersig = \"sig\"\nmetrics_file = \"x.prom\"\n",
    );
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    let text = data(&ends(place.deskbatch(&["config", "show", "--sandbox"]), 0));
    let line = |key: &str| text.lines().find(|line| line.starts_with(key)).unwrap();
    has(line("dashboard_token"), &["not set"]);
    has(line("metrics_file"), &["x.prom.sandbox"]);
}

#[test]
fn invalid_output_path_exits_2_and_creates_nothing() {
    let place = Place::new();
    place.write("jobs.csv", manifest([(question("q").as_str(), "enable")]));
    ends(place.deskbatch(&["import", "jobs.csv", "--sandbox"]), 0);
    fs::create_dir(place.path("folder")).unwrap();
    let before = place.files();
    for args in [
        &["report", "-o", "nodir/x.csv"][..],
        &["report", "-o", "folder"],
        &["report", "--html", "nodir/x"],
        &["report", "--html", "folder"],
        &["init", "nodir/x.toml"],
        &["init", "-"],
        &["import", "jobs.csv", "--database", "nodir/x.db"],
        &["import", "jobs.csv", "--database", "folder"],
    ] {
        let mut command = place.deskbatch(args);
        if args[0] == "report" {
            command.arg("--sandbox");
        }
        command.env("DESKBATCH_SDKAPPID", "1400000000");
        has(&said(&ends(command, 2)).to_lowercase(), &["name"]);
    }
    assert_eq!(place.files(), before);
}

#[test]
fn report_writes_to_stdout_for_dash() {
    let place = Place::new();
    place.write("jobs.csv", manifest([(question("q").as_str(), "enable")]));
    ends(place.deskbatch(&["import", "jobs.csv", "--sandbox"]), 0);
    let before = place.files();
    let page = data(&ends(place.deskbatch(&["report", "--sandbox", "--html", "-"]), 0));
    assert!(page.starts_with("<!DOCTYPE html>") && page.trim_end().ends_with("</html>"), "{page}");
    let csv = data(&ends(place.deskbatch(&["report", "--sandbox", "-o", "-"]), 0));
    has(&csv, &["question_id,", &question("q")]);
    assert_eq!(place.files(), before);
}

#[test]
fn out_of_range_values_get_specific_messages() {
    let place = Place::new();
    for (args, part) in [
        (["--max-duration", "99999999999d"], "is too long"),
        (["--max-duration", "0"], "0s is too short for a run"),
        (["--max-failures", "-1"], "write a number of jobs, e.g. 20"),
        (["--rate", "-1"], "is not a valid rate: write requests per second above 0"),
        (["--lock-timeout", "-1s"], "is not a duration: write it with units"),
        (["--region", ""], "a value is required for '--region <NAME>'"),
    ] {
        let mut command = place.deskbatch(&["run"]);
        command.args(args);
        has(&said(&ends(command, 2)), &[part]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn truncated_queue_is_named_with_remedy() {
    let (place, sandbox) = (Place::new(), sandbox().await);
    two_jobs(&place);
    ends(place.fast(&sandbox, &["import", "jobs.csv"]), 0);
    let whole = fs::read(place.path("deskbatch.db")).unwrap();
    place.write("deskbatch.db", &whole[..whole.len() / 2]);
    for args in [&["status"][..], &["run"]] {
        let output = ends(place.fast(&sandbox, args), 70);
        has(&said(&output), &["deskbatch.db is damaged", "Keep a copy", "deskbatch doctor"]);
    }
}

#[test]
fn non_utf8_file_name_exits_2_with_safe_message() {
    let place = Place::new();
    let name = std::ffi::OsString::from_vec(b"\xff\x1b.csv".to_vec());
    let mut command = place.deskbatch(&["import", "--sandbox"]);
    command.arg(name);
    assert!(!said(&ends(command, 2)).contains('\u{1b}'));
}
