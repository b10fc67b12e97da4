//! An app whose Desk resource has lapsed, or that rejects everything, through the binary over
//! HTTP.

use crate::support::binary::{ends, has};
use crate::support::place::{Place, manifest, question, said};

/// A place with `jobs.csv`, which sets `count` questions to `status`.
fn with_jobs(count: usize, status: &str) -> Place {
    let place = Place::new();
    let ids: Vec<String> = (0..count).map(|n| question(&format!("q{n}"))).collect();
    place.write("jobs.csv", manifest(ids.iter().map(|id| (id.as_str(), status))));
    place
}

/// Nothing failed, all jobs are pending, and few requests were spent.
#[track_caller]
fn all_are_pending(place: &Place, count: u64) {
    let status = ends(place.deskbatch(&["status", "--sandbox", "--json"]), 0);
    let status: serde_json::Value = serde_json::from_slice(&status.stdout).unwrap();
    assert_eq!((&status["pending"], &status["failed"]), (&count.into(), &0.into()), "{status}");
    assert!(status["requests"].as_u64().unwrap() <= 10, "{status}");
}

#[test]
fn lapsed_app_exits_4_with_10000_jobs_pending() {
    let place = with_jobs(10_000, "4");
    let args = ["run", "jobs.csv", "--sandbox", "--expired-after", "0"];
    let output = ends(place.deskbatch(&args), 4);
    let parts = [
        "Stopped: the service rejects this app or account.",
        "The remaining jobs stay pending.",
        "-50003",
    ];
    has(&said(&output), &parts);
    all_are_pending(&place, 10_000);
    // After the renewal the same command line resumes.
    let args = ["run", "--sandbox", "--rate", "500", "--rate-limit", "0"];
    ends(place.deskbatch(&args), 0);
}

#[test]
fn same_codes_for_everything_exit_4_all_pending() {
    for (script, code) in [("malformed,...", "-7"), ("unknown,unknown-2,...", "-5999")] {
        let place = with_jobs(3_000, "5");
        let args = ["run", "jobs.csv", "--sandbox", "--script", script];
        let text = said(&ends(place.deskbatch(&args), 4));
        has(&text, &["every request was rejected", "The remaining jobs stay pending.", code]);
        all_are_pending(&place, 3_000);
    }
}

#[test]
fn poisonous_question_is_reported_and_rest_succeeds() {
    let place = Place::new();
    let ids: Vec<String> = (0..150)
        .map(|n| question(&format!("{}{n}", if n == 140 { "poison" } else { "q" })))
        .collect();
    place
        .write("jobs.csv", manifest(ids.iter().map(String::as_str).zip(["5"].into_iter().cycle())));
    let args = ["run", "jobs.csv", "--sandbox", "--poison", "cut-before"];
    let output = ends(place.deskbatch(&args), 1);
    has(&said(&output), &["149", "poison140"]);
}
