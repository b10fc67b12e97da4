//! `report --html`: one private file, written completely or not at all.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};

use crate::support::binary::{ends, has, sandbox};
use crate::support::place::{Place, manifest, question, said};

/// A queue of two finished batches. A job of the second one was rejected.
async fn finished(place: &Place) {
    let sandbox = sandbox().await;
    for (name, ids) in [("one.csv", ["a", "b"]), ("two.csv", ["c", "missing1"])] {
        let ids = ids.map(question);
        place.write(name, manifest(ids.iter().map(|id| (id.as_str(), "5"))));
        let code = i32::from(name == "two.csv");
        ends(place.fast(&sandbox, &["run", name]), code);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn html_report_is_owner_only_and_replaced_atomically() {
    let place = Place::new();
    finished(&place).await;
    ends(place.deskbatch(&["report", "--html", "page.html", "--batch", "1"]), 0);
    assert!(!place.read("page.html").contains("missing1"));
    fs::set_permissions(place.path("page.html"), fs::Permissions::from_mode(0o644)).unwrap();
    symlink("page.html", place.path("link.html")).unwrap();
    let before = place.files();
    let output = ends(place.deskbatch(&["report", "--html", "link.html"]), 0);
    assert_eq!((output.stdout.as_slice(), place.files()), (&b""[..], before));
    has(&said(&output), &["wrote link.html: open it in a browser"]);
    let mode = fs::metadata(place.path("page.html")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(fs::symlink_metadata(place.path("link.html")).unwrap().is_symlink());
    let page = place.read("page.html");
    has(&page, &["<!DOCTYPE html>", "3 of 4 questions updated, 1 failed<", "</html>"]);
    has(&page, &[&question("missing1"), "-50003", "no question has this id", "in 2 batches"]);
    // The page has the folder of the queue, because a relative path says nothing on another host.
    let queue = fs::canonicalize(place.path("deskbatch.db")).unwrap();
    has(&page, &[&format!("Queue: {}.", queue.display()), "Last run on host "]);
    assert!(!page.contains("EventSource") && !page.contains("data-generation"));
}

#[tokio::test(flavor = "multi_thread")]
async fn html_report_of_one_batch_shows_no_other() {
    let place = Place::new();
    finished(&place).await;
    ends(place.deskbatch(&["report", "--html", "page.html", "--batch", "1"]), 0);
    let page = place.read("page.html");
    has(&page, &["batch 1 of deskbatch.db", "2 of 2 questions updated<"]);
    assert!(!page.contains("missing1") && !page.contains("two.csv"), "{page}");
    let refused = said(&ends(place.deskbatch(&["report", "--html", "x.html", "--batch", "9"]), 2));
    has(&refused, &["9"]);
    assert!(!place.path("x.html").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn failed_html_report_keeps_existing_file() {
    let place = Place::new();
    finished(&place).await;
    let output = ends(place.deskbatch(&["report", "--html", "deskbatch.db"]), 2);
    has(&said(&output), &["--html: deskbatch.db is the queue file"]);
    let output = ends(place.deskbatch(&["report", "--html", "no/such/folder/page.html"]), 2);
    has(&said(&output), &["cannot write no/such/folder/page.html", "No such file"]);
    for flag in ["--state", "--format", "-o"] {
        let value = match flag {
            "--state" => "failed",
            "--format" => "json",
            _ => "other.csv",
        };
        let output = ends(place.deskbatch(&["report", "--html", "p.html", flag, value]), 2);
        has(&said(&output), &["cannot be used with"]);
    }
    assert_eq!(place.counts(), [0, 0, 3, 1, 0, 0]);
    // A pipe is written directly, without a temporary file.
    let output = ends(place.deskbatch(&["report", "--html", "/dev/stdout", "--quiet"]), 0);
    assert!(output.stdout.starts_with(b"<!DOCTYPE html>") && output.stderr.is_empty());
}

#[test]
fn report_and_dashboard_without_queue_exit_2() {
    let place = Place::new();
    has(&said(&ends(place.deskbatch(&["report", "--html", "page.html"]), 2)), &["no queue file"]);
    has(&said(&ends(place.deskbatch(&["dashboard"]), 2)), &["no queue file"]);
    assert_eq!(place.files(), Vec::<String>::new());
}
