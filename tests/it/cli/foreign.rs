//! A manifest for another app: its warning is part of the plan, and a manifest with only foreign rows
//! is rejected.

use crate::support::binary::{ends, has, sandbox};
use crate::support::place::{Place, data, manifest, question, said};
use crate::support::terminal::{closes, on_terminal};

/// Deletes of `foreign` questions of another app and `own` questions of this one.
fn deletes(foreign: usize, own: usize) -> String {
    let foreign = (0..foreign).map(|n| format!("1600000000-@RBT#DeskDefaultRobot-f{n}"));
    let ids: Vec<String> = foreign.chain((0..own).map(|n| question(&format!("q{n}")))).collect();
    manifest(ids.iter().map(|id| (id.as_str(), "delete")))
}

const WARNING: &str = "warning: 50 ids do not begin with the SDKAppID 1400000000, for example \
                       1600000000-@RBT#DeskDefaultRobot-f0 (record 1, line 2): check that this is \
                       the right app";

#[tokio::test(flavor = "multi_thread")]
async fn manifest_warnings_precede_confirmation_prompt() {
    let (place, sandbox) = (Place::new(), sandbox().await);
    place.write("jobs.csv", deletes(50, 2));
    let mut terminal = on_terminal(place.fast(&sandbox, &["run", "jobs.csv"]));
    let shown = terminal.exp_string("Delete 52 questions? [y/N] ").unwrap();
    let last = shown.lines().map(str::trim_end).rfind(|line| !line.is_empty());
    assert_eq!(last, Some(WARNING), "{shown}");
    terminal.send_line("n").unwrap();
    let after = closes(terminal, 2);
    assert!(!after.contains("right app"), "{after}");
    // The warning also appears without a terminal.
    has(&said(&ends(place.fast(&sandbox, &["run", "jobs.csv"]), 2)), &[WARNING]);
    has(&said(&ends(place.fast(&sandbox, &["import", "jobs.csv"]), 0)), &[WARNING]);
    assert_eq!(sandbox.ledger().total, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn manifest_warnings_are_part_of_a_plan() {
    let (place, sandbox) = (Place::new(), sandbox().await);
    place.write("jobs.csv", deletes(50, 2));
    let text = data(&ends(place.fast(&sandbox, &["plan", "jobs.csv"]), 0));
    has(&text, &[&format!("\n\n{WARNING}\n\ndigest of this plan:")]);
    let output = ends(place.fast(&sandbox, &["plan", "jobs.csv", "--json"]), 0);
    let plan: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let warnings = plan["file"]["warnings"].as_array().unwrap();
    assert_eq!(warnings, &[WARNING.strip_prefix("warning: ").unwrap()]);
    // The plan was approved with this warning, so a quiet run that succeeds prints nothing.
    let digest = plan["digest"].as_str().unwrap();
    let run = ["run", "jobs.csv", "--quiet", "--plan", digest];
    assert_eq!(said(&ends(place.fast(&sandbox, &run), 0)), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn manifest_of_another_app_is_refused() {
    let (place, sandbox) = (Place::new(), sandbox().await);
    place.write("jobs.csv", deletes(50, 0));
    let parts = [
        "jobs.csv: all 50 of its ids begin with an SDKAppID other than 1400000000, for example 1600000000-@RBT",
        "Nothing was imported or sent",
        "--sdkappid",
        "--allow-foreign-ids",
    ];
    for command in [&["run", "--yes"][..], &["plan"], &["import"], &["run", "--yes", "--sandbox"]] {
        let output = ends(place.fast(&sandbox, &[command, &["jobs.csv"]].concat()), 2);
        has(&said(&output), &parts);
    }
    assert_eq!((place.status()["total"].as_u64(), sandbox.ledger().total), (Some(0), 0));
    let meant = place.fast(&sandbox, &["run", "jobs.csv", "--yes", "--allow-foreign-ids"]);
    has(&said(&ends(meant, 0)), &[WARNING, "succeeded   50"]);
    // A sandbox run without an SDKAppID has no app to compare with.
    let sandbox_run = ["run", "jobs.csv", "--sandbox", "--rate-limit", "0", "--rate", "200"];
    has(&said(&ends(place.deskbatch(&sandbox_run), 0)), &[WARNING, "succeeded   50"]);
}
