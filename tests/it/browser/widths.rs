//! The HTML report at four widths, light and dark: numbers are not broken, nothing overflows, and on a
//! phone each row of a table is a card.

use std::fmt::Write as _;

use serde_json::json;

use crate::support::binary::{ends, sandbox};
use crate::support::browser::Browser;
use crate::support::place::{Place, question};

/// A phone, a small window, a usual one, and a wide one, in CSS pixels.
const WIDTHS: [u32; 4] = [360, 640, 1_000, 1_280];

/// Below this width the rows are cards.
const CARDS_BELOW: u32 = 480;

/// Cells with a number whose text takes more than one line.
const BROKEN_NUMBERS: &str = "return Array.from(document.querySelectorAll('td, th, dd'))
    .filter((cell) => /^[-0-9,.]+$/.test(cell.innerText.trim()))
    .filter((cell) => { const range = document.createRange(); range.selectNodeContents(cell);
        return new Set(Array.from(range.getClientRects(), (at) => Math.round(at.top))).size > 1; })
    .map((cell) => cell.innerText)";

/// How far the page is wider than its window.
const OVERFLOW: &str =
    "return document.documentElement.scrollWidth - document.documentElement.clientWidth";

/// The display of the rows, and the cells of cards that do not show the name of their column.
const CARDS: &str = "return [
    Array.from(new Set(Array.from(document.querySelectorAll('tbody tr'), (row) => getComputedStyle(row).display))),
    Array.from(document.querySelectorAll('tbody td.n'))
        .filter((cell) => !/\\w/.test(getComputedStyle(cell, '::before').content.replace('none', '')))
        .map((cell) => cell.innerText)]";

fn jobs() -> String {
    let mut jobs = String::from("question_id,status\n");
    for n in 0..2_400 {
        let id = question(&format!("{}{n:04}", if n % 1_000 == 7 { "missing" } else { "q" }));
        writeln!(jobs, "{id},{}", if n < 1_200 { "enable" } else { "disable" }).unwrap();
    }
    jobs
}

#[tokio::test(flavor = "multi_thread")]
async fn page_is_readable_at_every_width() {
    let Some(browser) = Browser::start().await else { return };
    let (place, sandbox) = (Place::new(), sandbox().await);
    place.write("jobs.csv", jobs());
    ends(place.fast(&sandbox, &["run", "jobs.csv"]), 1);
    ends(place.deskbatch(&["report", "--html", "page.html"]), 0);
    let url = format!("file://{}", place.path("page.html").display());
    for width in WIDTHS {
        browser.size(width, 900).await;
        browser.open(&url).await;
        for scheme in ["light", "dark"] {
            browser.prefer(scheme).await;
            let at = format!("{width} px, {scheme}");
            assert_eq!(browser.ask(BROKEN_NUMBERS).await, json!([]), "{at}");
            assert_eq!(browser.ask(OVERFLOW).await, json!(0), "{at}");
            let cards = browser.ask(CARDS).await;
            if width < CARDS_BELOW {
                assert_eq!(cards, json!([["block"], []]), "{at}");
            } else {
                assert_eq!(cards[0], json!(["table-row"]), "{at}");
            }
            browser.has_no_violation(&at).await;
        }
    }
    browser.has_no_complaint().await;
    browser.end().await;
}
