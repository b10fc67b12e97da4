//! The live dashboard page during a run, in a real browser.
//!
//! Needs Chromium: `apt-get install chromium chromium-driver`. All tests share one browser.

use std::fmt::Write as _;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::binary::{Going, ends, has, sandbox};
use crate::support::browser::Browser;
use crate::support::place::{Place, question};

/// A manifest that takes a while: every tenth of its `count` questions does not exist.
fn manifest(count: usize) -> String {
    let mut jobs = String::from("question_id,status\n");
    for n in 0..count {
        let last = if n % 10 == 3 { format!("missing{n}") } else { format!("q{n}") };
        writeln!(jobs, "{},{}", question(&last), 4 + n % 2).unwrap();
    }
    jobs
}

/// The address that the program printed on stderr.
pub fn address(going: &mut Going) -> String {
    going.says("the dashboard is at ");
    let rest = going.said.split("the dashboard is at ").nth(1).unwrap();
    rest.split([' ', ',', '\n']).next().unwrap().to_owned()
}

/// The reader's changes to the page must survive its updates: a filter, the focus, a scrolled table.
const READ_ON: &str = "
    window.headlines = new Set();
    new MutationObserver(() => window.headlines.add(document.getElementById('headline').innerText))
      .observe(document, { subtree: true, childList: true });
    const field = document.getElementById('filter');
    field.value = 'missing3 ';
    field.dispatchEvent(new Event('input'));
    field.focus();
    field.setSelectionRange(2, 5);
    const box = document.getElementById('failed-scroll');
    box.scrollLeft = 40;
    field.scrollIntoView({ block: 'start' });
    return [box.scrollLeft, Math.round(field.getBoundingClientRect().top)];";

async fn a_run_is_followed_to_its_end(browser: &Browser) {
    let (place, sandbox) = (Place::new(), sandbox().await);
    place.write("jobs.csv", manifest(60));
    let args = ["run", "jobs.csv", "--chunk", "1", "--dashboard", "127.0.0.1:0", "--rate", "12"];
    let mut run = Going::start(place.deskbatch_toward(&sandbox, &args));
    let url = address(&mut run);
    // Narrow enough for a table that scrolls, too wide for cards.
    browser.size(500, 700).await;
    browser.open(&url).await;
    browser.until("document.getElementById('live').dataset.state === 'live'").await;
    browser.until("document.querySelectorAll('#failed tbody tr').length >= 2").await;
    let moved = browser.ask(READ_ON).await;
    assert_eq!(moved[0], json!(40));
    browser.until("document.getElementById('live').dataset.state === 'over'").await;
    let headline = browser.ask("return document.getElementById('headline').innerText").await;
    assert_eq!(headline, json!("54 of 60 questions updated, 6 failed"));
    let kept = browser
        .ask(
            "const field = document.getElementById('filter');
             const box = document.getElementById('failed-scroll');
             return [document.activeElement === field, field.value, field.selectionStart, box.scrollLeft, Math.round(field.getBoundingClientRect().top),
                     document.querySelectorAll('#failed tbody tr:not([hidden])').length]",
        )
        .await;
    assert_eq!(kept, json!([true, "missing3 ", 2, moved[0], moved[1], 2]));
    let headlines = browser.ask("return Array.from(window.headlines)").await;
    assert!(headlines.as_array().unwrap().len() > 1, "{headlines}");
    run.ends(1);
    browser.has_no_complaint().await;
    assert_eq!(only_from(browser, &url).await, Value::Null);
}

/// A requested address outside `url`, if there is one.
async fn only_from(browser: &Browser, url: &str) -> Value {
    let strange = |asked: &String| !asked.starts_with(url);
    let asked = browser.requested().await;
    assert!(asked.iter().any(|asked| asked.contains("/events?since=")), "{asked:?}");
    asked.into_iter().find(strange).map_or(Value::Null, Value::from)
}

async fn another_process_shows_what_is_written(browser: &Browser) {
    const TOKEN: &str = "browser-token-0123456789";
    let (place, sandbox) = (Place::new(), sandbox().await);
    place.write("jobs.csv", manifest(20));
    ends(place.deskbatch_toward(&sandbox, &["import", "jobs.csv"]), 0);
    let mut command = place.deskbatch(&["dashboard", "--addr", "127.0.0.1:0"]);
    command.env("DESKBATCH_DASHBOARD_TOKEN", TOKEN);
    let mut dashboard = Going::start(command);
    let url = address(&mut dashboard);
    browser.size(1100, 900).await;
    browser.open(&format!("{url}?token={TOKEN}")).await;
    browser
        .until("document.getElementById('headline').innerText === '0 of 20 questions updated, 20 pending'")
        .await;
    browser.until("document.getElementById('live').dataset.state === 'live'").await;
    assert_eq!(browser.ask("return location.href").await, json!(url));
    assert_eq!(
        browser.ask("return document.cookie").await,
        json!(""),
        "the script reads the cookie"
    );
    browser.is_accessible().await;
    ends(place.fast(&sandbox, &["run"]), 1);
    browser
        .until("document.getElementById('headline').innerText.startsWith('18 of 20 questions updated, 2 failed')")
        .await;
    dashboard.signal(Signal::TERM);
    browser.until("document.getElementById('live').dataset.state === 'over'").await;
    has(&dashboard.ends(0), &["stopping"]);
    browser.has_no_complaint().await;
    assert_eq!(only_from(browser, &url).await, Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn live_page_follows_run_and_keeps_reader_state() {
    let Some(browser) = Browser::start().await else { return };
    a_run_is_followed_to_its_end(&browser).await;
    another_process_shows_what_is_written(&browser).await;
    browser.end().await;
}
