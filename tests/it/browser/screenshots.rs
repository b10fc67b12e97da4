//! Makes the screenshots of docs/ from the real binary: `cargo test --test it screenshots --
//! --ignored`.
//!
//! Needs Chromium: `apt-get install chromium chromium-driver`. Takes two minutes, since the run
//! respects the rate of the service.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use deskbatch::sandbox::FaultScript;

use crate::browser::live::address;
use crate::support::binary::{Going, ends};
use crate::support::browser::Browser;
use crate::support::place::{Place, question};

/// A migration with some ids that do not exist.
fn migration() -> String {
    let mut jobs = String::from("question_id,status\n");
    for n in 0..4_000 {
        let last = match n {
            n if n % 397 == 90 => format!("missing{n:04}"),
            n if n == 1_204 || n == 3_310 => format!("preset{n}"),
            n => format!("UhkL2N{n:04}"),
        };
        let status = match n % 10 {
            0..5 => "enable",
            5..8 => "disable",
            _ => "delete",
        };
        writeln!(jobs, "{},{status}", question(&last)).unwrap();
    }
    jobs
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "writes docs/img"]
async fn pictures() {
    let Some(browser) = Browser::start().await else { return };
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/img");
    let place = Place::new();
    place.write("migration.csv", migration());
    let script: FaultScript =
        "ok*30,throttle,ok*90,bad-gateway*4,ok*40,throttle,ok".parse().unwrap();
    let sandbox = crate::support::binary::sandbox_with(|s| {
        s.rate_limit = 5;
        s.latency = Duration::from_millis(110);
        s.latency_jitter = Duration::from_millis(60);
        s.script = Some(script);
    })
    .await;
    let args = ["run", "migration.csv", "--yes", "--chunk", "25", "--dashboard", "127.0.0.1:0"];
    let mut run = Going::start(place.deskbatch_toward(&sandbox, &args));
    let url = address(&mut run);
    browser.size(1100, 1000).await;
    browser.open(&url).await;
    browser.until("document.querySelectorAll('#failed tbody tr').length >= 5").await;
    browser.picture(1_000, &folder.join("dashboard.png")).await;
    browser.until("document.getElementById('live').dataset.state === 'over'").await;
    run.ends(1);
    ends(place.deskbatch_toward(&sandbox, &["report", "--html", "page.html"]), 0);
    browser.open(&format!("file://{}", place.path("page.html").display())).await;
    browser.picture(1_500, &folder.join("report-light.png")).await;
    browser.prefer("dark").await;
    browser.picture(1_500, &folder.join("report-dark.png")).await;
    browser.end().await;
}
