//! The HTML report opened from disk in a real browser.
//!
//! Needs Chromium: `apt-get install chromium chromium-driver`. All tests share one browser.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::support::binary::{Recorder, ends, has, sandbox};
use crate::support::browser::Browser;
use crate::support::place::{Place, question};

/// A message of the service that contains markup and script.
const INFO: &str =
    "</td><script>window.hacked=1</script><img src=x onerror=window.hacked=2>\u{202e}txt";

/// Ids that contain markup. They have no blanks because a manifest rejects blanks in an id.
const IDS: [&str; 4] = [
    "</script><script>window.hacked=3</script>",
    "<svg/onload=window.hacked=4>",
    "\"'><b>bold</b>",
    "plain-1",
];

/// Writes `page.html` of a queue whose jobs were all rejected with hostile messages.
fn hostile_page(place: &Place) -> String {
    let mut csv = csv::Writer::from_path(place.path("jobs.csv")).unwrap();
    csv.write_record(["question_id", "status"]).unwrap();
    for id in IDS {
        csv.write_record([id, "5"]).unwrap();
    }
    csv.flush().unwrap();
    let server = Recorder::responding(|_| {
        let body = json!({ "ActionStatus": "FAIL", "ErrorCode": -50_003, "ErrorInfo": INFO });
        let body = body.to_string();
        format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
    });
    let mut command = place.deskbatch(&["run", "jobs.csv", "--chunk", "1"]);
    command
        .env("DESKBATCH_ENDPOINT", server.endpoint())
        .env("DESKBATCH_SDKAPPID", "1")
        .env("DESKBATCH_IDENTIFIER", "administrator")
        .env("DESKBATCH_SECRET_KEY", "k")
        .env("DESKBATCH_RATE", "200")
        // The recorder rejects reads too, so the run must not stop at its rejection limit.
        .env("DESKBATCH_MAX_REJECTIONS", "0");
    ends(command, 1);
    file_of(place)
}

fn file_of(place: &Place) -> String {
    ends(place.deskbatch(&["report", "--html", "page.html"]), 0);
    format!("file://{}", place.path("page.html").display())
}

/// The rejected questions that the page shows now.
async fn rows(browser: &Browser) -> Value {
    let script = "return Array.from(document.querySelectorAll('#failed tbody tr:not([hidden]) th'), (cell) => cell.innerText)";
    browser.ask(script).await
}

async fn find(browser: &Browser, words: &str) -> Value {
    let script = format!(
        "const field = document.getElementById('filter'); field.value = {};
         field.dispatchEvent(new Event('input')); return document.getElementById('filtered').textContent;",
        json!(words)
    );
    browser.ask(&script).await
}

async fn hostile_text_stays_text(browser: &Browser, place: &Place) {
    let url = hostile_page(place);
    browser.open(&url).await;
    assert_eq!(browser.ask("return window.hacked ?? null").await, Value::Null);
    assert_eq!(rows(browser).await, json!(IDS));
    let said = browser.ask("return document.querySelector('#failed .said').innerText").await;
    assert_eq!(said, json!(INFO.replace('\u{202e}', " ")));
    let strangers = "return document.querySelectorAll('main b, main img, main script, main svg[onload]').length";
    assert_eq!(browser.ask(strangers).await, json!(0));
    assert_eq!(find(browser, "SVG onload").await, json!("1 of 4"));
    assert_eq!(rows(browser).await, json!([IDS[1]]));
    assert_eq!(find(browser, "nowhere").await, json!("0 of 4"));
    assert_eq!(find(browser, "").await, json!(""));
    assert_eq!(rows(browser).await, json!(IDS));
    browser.has_no_complaint().await;
    assert_eq!(browser.requested().await, [url]);
}

async fn a_usual_page_reads_well(browser: &Browser, place: &Place) {
    let sandbox = sandbox().await;
    let mut jobs = String::from("question_id,status\n");
    for n in 0..400 {
        let id = question(&format!("{}{n:03}", if n % 100 == 7 { "missing" } else { "q" }));
        writeln!(jobs, "{id},{}", 4 + n % 3).unwrap();
    }
    place.write("jobs.csv", jobs);
    ends(place.fast(&sandbox, &["run", "jobs.csv", "--yes"]), 1);
    let url = file_of(place);
    browser.open(&url).await;
    browser.until("document.getElementById('headline').innerText.startsWith('396 of 400 questions updated, 4 failed')").await;
    let text = browser.ask("return document.body.innerText").await;
    let text = text.as_str().unwrap();
    has(
        text,
        &[
            "-50003",
            "A Desk resource is invalid",
            "What to do: check the id",
            "finished",
            "All times are UTC",
        ],
    );
    assert!(!text.contains("NaN") && !text.contains("undefined"));
    // Only the chart for this width is visible.
    let drawn = "return Array.from(document.querySelectorAll('svg.chart'), (svg) => svg.getBoundingClientRect().height > 100)";
    assert_eq!(browser.ask(drawn).await, json!([true, false]));
    browser.is_accessible().await;
    let pdf = browser.tool("Page.printToPDF", json!({ "printBackground": true })).await;
    let pdf = pdf["data"].as_str().unwrap();
    // "%PDF-" in base64.
    assert!(pdf.starts_with("JVBERi0") && pdf.len() > 20_000, "{} bytes", pdf.len());
    browser.has_no_complaint().await;
    assert_eq!(browser.requested().await, [url.as_str()]);
    dark_is_dark(browser).await;
    page_is_complete_without_its_script(browser, &url).await;
}

/// Checks the charts too, because the file embeds their colours for the light page.
async fn dark_is_dark(browser: &Browser) {
    let colours = "const of = (found) => getComputedStyle(document.querySelector(found));
                   return [of('body').backgroundColor, of('svg.wide text').fill, of('svg.wide rect').fill]";
    let light = browser.ask(colours).await;
    browser.prefer("dark").await;
    let dark = browser.ask(colours).await;
    for at in 0..3 {
        assert_ne!(light[at], dark[at], "{light} {dark}");
    }
    browser.prefer("light").await;
}

async fn page_is_complete_without_its_script(browser: &Browser, url: &str) {
    browser.tool("Emulation.setScriptExecutionDisabled", json!({ "value": true })).await;
    browser.open(url).await;
    browser.tool("Emulation.setScriptExecutionDisabled", json!({ "value": false })).await;
    let shown = "return [document.querySelectorAll('#failed tbody tr').length, document.getElementById('search').hidden]";
    assert_eq!(browser.ask(shown).await, json!([4, true]));
}

#[tokio::test(flavor = "multi_thread")]
async fn saved_page_is_readable_and_runs_no_foreign_script() {
    let Some(browser) = Browser::start().await else { return };
    hostile_text_stays_text(&browser, &Place::new()).await;
    a_usual_page_reads_well(&browser, &Place::new()).await;
    browser.end().await;
}
