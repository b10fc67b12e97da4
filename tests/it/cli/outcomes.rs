//! Output for later reading: reports that are valid manifests, explanations, UserSigs.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Read as _};
use std::process::Stdio;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use deskbatch::sandbox::{SANDBOX_IDENTIFIER, SANDBOX_SDKAPPID};
use flate2::read::ZlibDecoder;

use crate::support::binary::{ends, has, sandbox};
use crate::support::place::{Place, data, manifest, question, said};

const COLUMNS: &str = "question_id,status,state,error_code,error_info,attempts,response_lost,in_doubt,batch,row,finished_at";

/// A queue with two succeeded and two failed jobs of different target statuses.
async fn finished(place: &Place) -> deskbatch::sandbox::Sandbox {
    let sandbox = sandbox().await;
    let ids = ["a", "missing1", "b", "missing2"].map(question);
    let statuses = ["4", "4", "6", "5"];
    place.write("jobs.csv", manifest(ids.iter().map(String::as_str).zip(statuses)));
    ends(place.fast(&sandbox, &["run", "jobs.csv", "--yes", "--name", "June"]), 1);
    sandbox
}

#[tokio::test(flavor = "multi_thread")]
async fn report_has_one_row_per_job_in_manifest_order() {
    let place = Place::new();
    finished(&place).await;
    let text = data(&ends(place.deskbatch(&["report"]), 0));
    assert_eq!(text.lines().next(), Some(COLUMNS));
    let rows = place.report(&[]);
    let column = |name: &str| rows.iter().map(|row| row[name].as_str()).collect::<Vec<_>>();
    let ids = ["a", "missing1", "b", "missing2"].map(question);
    assert_eq!(column("question_id"), ids);
    assert_eq!(column("status"), ["enable", "enable", "delete", "disable"]);
    assert_eq!(column("state"), ["succeeded", "failed", "succeeded", "failed"]);
    assert_eq!(column("error_code"), ["", "-50003", "", "-50003"]);
    assert_eq!(column("attempts"), ["2", "2", "1", "1"]);
    assert_eq!(column("in_doubt"), ["0"; 4]);
    assert_eq!(column("batch"), ["June"; 4]);
    assert_eq!(column("row"), ["2", "3", "4", "5"]);
    for at in column("finished_at") {
        assert!(at.starts_with("20") && at.ends_with('Z'), "{at}");
    }
    for (only, count) in
        [("succeeded", 2), ("failed", 2), ("pending", 0), ("in-flight", 0), ("in-doubt", 0)]
    {
        assert_eq!(place.report(&["--state", only]).len(), count, "{only}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn failed_report_can_be_imported_unedited() {
    let place = Place::new();
    let sandbox = finished(&place).await;
    ends(place.deskbatch(&["report", "--state", "failed", "-o", "failed.csv"]), 0);
    let output = ends(place.fast(&sandbox, &["import", "failed.csv"]), 0);
    has(&said(&output), &["as batch 2: 2 jobs (1 enable, 1 disable, 0 delete)"]);
    let again = place.report(&["--batch", "2"]);
    let again: Vec<_> = again.iter().map(|row| (&*row["question_id"], &*row["status"])).collect();
    assert_eq!(again, [(&*question("missing1"), "enable"), (&*question("missing2"), "disable")]);
    assert_eq!(place.counts(), [2, 0, 2, 2, 0, 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn json_report_has_same_rows_as_csv() {
    let place = Place::new();
    finished(&place).await;
    let output = ends(place.deskbatch(&["report", "--format", "json", "--state", "failed"]), 0);
    let rows: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(rows.as_array().unwrap().len(), 2);
    let keys: Vec<&str> = rows[0].as_object().unwrap().keys().map(String::as_str).collect();
    let mut columns: Vec<&str> = COLUMNS.split(',').collect();
    columns.sort_unstable();
    assert_eq!(keys, columns);
    assert_eq!(rows[1]["question_id"], question("missing2"));
    assert_eq!(rows[1]["error_code"], -50_003);
    assert_eq!(rows[1]["in_doubt"], false);
}

#[test]
fn closed_report_pipe_exits_0() {
    let place = Place::new();
    let mut text = String::from("question_id,status\n");
    for n in 0..5_000 {
        writeln!(text, "{n},4").unwrap();
    }
    place.write("jobs.csv", text);
    ends(place.deskbatch(&["import", "jobs.csv", "--sdkappid", "1"]), 0);
    for format in ["csv", "json"] {
        let mut command = place.deskbatch(&["report", "--format", format]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut first = String::new();
        BufReader::with_capacity(1, child.stdout.take().unwrap()).read_line(&mut first).unwrap();
        let mut said = String::new();
        child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        assert_eq!((child.wait().unwrap().code(), said.as_str()), (Some(0), ""), "{format}");
    }
}

#[test]
fn explain_matches_handling_of_code_in_run() {
    let place = Place::new();
    let explain = |args: &[&str]| data(&ends(place.deskbatch(&[&["explain"], args].concat()), 0));
    has(
        &explain(&["-50003"]),
        &["-50003: a Desk resource", "isolates the rejected questions", "check the id"],
    );
    has(&explain(&["60018"]), &["60018: requests are too frequent", "no attempt counts"]);
    has(&explain(&["-50040"]), &["stops; the remaining jobs stay pending", "activate Desk"]);
    has(&explain(&["987654"]), &["987654: ", "the run: ", "what to do: "]);
    let table = explain(&[]);
    has(&table, &["-50003", "60018..60019", "70001", "any other code"]);
    assert!(table.lines().count() > 70, "{table}");
}

#[tokio::test(flavor = "multi_thread")]
async fn usersig_has_documented_format_and_is_accepted() {
    let (place, sandbox) = (Place::new(), sandbox().await);
    let output = ends(place.deskbatch_toward(&sandbox, &["usersig"]), 0);
    let usersig = data(&output);
    let usersig = usersig.strip_suffix('\n').unwrap();
    let swapped = usersig.replace('*', "+").replace('-', "/").replace('_', "=");
    let packed = STANDARD.decode(swapped).unwrap();
    let document: serde_json::Value =
        serde_json::from_reader(ZlibDecoder::new(packed.as_slice())).unwrap();
    assert_eq!(document["TLS.ver"], "2.0");
    assert_eq!(document["TLS.identifier"], SANDBOX_IDENTIFIER);
    assert_eq!(document["TLS.sdkappid"], SANDBOX_SDKAPPID);
    assert_eq!(document["TLS.expire"], 86_400);

    place.write("jobs.csv", manifest([(question("a").as_str(), "4")]));
    let mut command = place.fast(&sandbox, &["run", "jobs.csv"]);
    command.env_remove("DESKBATCH_SECRET_KEY").env("DESKBATCH_USERSIG", usersig);
    ends(command, 0);
    let mut command = place.fast(&sandbox, &["usersig"]);
    command.env_remove("DESKBATCH_SECRET_KEY").env("DESKBATCH_USERSIG", usersig);
    let output = ends(command, 2);
    has(&said(&output), &["the secret key is not set: set DESKBATCH_SECRET_KEY"]);
    assert_eq!(data(&output), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn failed_report_omits_superseded_jobs() {
    let (place, sandbox) = (Place::new(), sandbox().await);
    let bad = question("missing1");
    for (file, status) in [("a.csv", "enable"), ("b.csv", "disable")] {
        place.write(file, manifest([(bad.as_str(), status)]));
        ends(place.fast(&sandbox, &["run", file]), 1);
    }
    let rows = place.report(&["--state", "failed"]);
    assert_eq!(rows.len(), 1, "the older one is superseded");
    assert_eq!(rows[0]["status"], "disable");
    assert_eq!(place.report(&[]).len(), 2);
}
