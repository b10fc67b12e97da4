//! The sandbox's HTML page, and the same data as JSON for scripts.
//!
//! Pure. Question ids come from any caller, so every text on the page is escaped. The page loads nothing and
//! runs nothing. The ledger contains no credentials.

use std::fmt::{self, Display, Write as _};

use serde_json::{Value, json};

use super::ledger::{Ledger, SeenRequest};
use crate::domain::clock::utc_text;
use crate::domain::verdict;
use crate::util::count::counted;
use crate::util::escape::visible;

/// The number of latest requests on the page.
pub(super) const REQUESTS_SHOWN: usize = 200;

/// The most ids of a request that the page lists.
const IDS_SHOWN: usize = 5;

/// The `Content-Security-Policy` that keeps the page from loading or running anything.
pub(super) const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'";

const HEAD: &str = r#"<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>deskbatch sandbox</title><style>
body{font:14px/1.5 system-ui,sans-serif;margin:2rem;max-width:80rem}
table{border-collapse:collapse;margin:0 0 2rem}
th,td{border:1px solid #8886;padding:.2rem .6rem;text-align:left;vertical-align:top}
td.n{text-align:right}
</style></head><body>
<h1>deskbatch sandbox</h1>
"#;

/// Text with its markup characters escaped.
struct Text<T>(T);

impl<T: Display> Display for Text<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Makes control and direction characters visible first, because they can disguise text.
        for c in visible(&self.0.to_string()).chars() {
            match c {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

/// A value, or a dash for `None`.
fn or_dash<T: Display>(value: Option<T>) -> Text<String> {
    Text(value.map_or_else(|| "–".to_owned(), |value| value.to_string()))
}

/// The page.
pub(super) fn html(ledger: &Ledger) -> String {
    let mut page = String::from(HEAD);
    // Writing to a String cannot fail.
    let _ = write_summary(&mut page, ledger).and_then(|()| write_requests(&mut page, ledger));
    page.push_str("</body></html>\n");
    page
}

fn write_summary(page: &mut String, ledger: &Ledger) -> fmt::Result {
    writeln!(
        page,
        "<p>{}. Maximum in one second: {} arrived, {} within the limit. The same data as JSON: \
         <a href=\"/ledger.json\">ledger.json</a>.</p>",
        counted(ledger.total, "request"),
        ledger.largest_second,
        ledger.largest_second_accepted
    )?;
    page.push_str("<table><tr><th>code</th><th>requests</th><th>meaning</th></tr>\n");
    for (code, count) in &ledger.codes {
        let meaning = Text(verdict::explain(*code).meaning);
        writeln!(page, "<tr><td class=n>{code}<td class=n>{count}<td>{meaning}</tr>")?;
    }
    page.push_str("</table>\n<table><tr><th>fault</th><th>requests</th></tr>\n");
    for (fault, count) in &ledger.faults {
        writeln!(page, "<tr><td>{}<td class=n>{count}</tr>", Text(fault))?;
    }
    page.push_str("</table>\n");
    Ok(())
}

fn write_requests(page: &mut String, ledger: &Ledger) -> fmt::Result {
    page.push_str(
        "<table><tr><th>#</th><th>time (UTC)</th><th>command</th><th>SDKAppID</th><th>status</th>\
         <th>code</th><th>HTTP</th><th>fault</th><th>applied</th><th>ids</th></tr>\n",
    );
    for seen in ledger.requests.iter().rev().take(REQUESTS_SHOWN) {
        write_request(page, seen)?;
    }
    page.push_str("</table>\n");
    Ok(())
}

fn write_request(page: &mut String, seen: &SeenRequest) -> fmt::Result {
    write!(
        page,
        "<tr><td class=n>{}<td>{}<td>{}<td class=n>{}<td class=n>{}<td class=n>{}<td class=n>{}\
         <td>{}<td>{}<td>{}: ",
        seen.number,
        Text(utc_text(seen.wall_ms)),
        or_dash(seen.command),
        or_dash(seen.sdkappid),
        or_dash(seen.status),
        or_dash(seen.code),
        seen.http.map_or_else(|| "cut".to_owned(), |http| http.to_string()),
        or_dash(seen.fault),
        if seen.applied { "yes" } else { "no" },
        seen.ids.len(),
    )?;
    for id in seen.ids.iter().take(IDS_SHOWN) {
        write!(page, "{} ", Text(id))?;
    }
    let more = seen.ids.len().saturating_sub(IDS_SHOWN);
    if more > 0 {
        write!(page, "and {more} more")?;
    }
    page.push_str("</tr>\n");
    Ok(())
}

/// The data of the page as JSON.
pub(super) fn json(ledger: &Ledger) -> String {
    let shown = ledger.requests.len().saturating_sub(REQUESTS_SHOWN);
    let last: Vec<Value> = ledger.requests.iter().skip(shown).map(|seen| request(seen)).collect();
    let named = |(fault, count): (&super::Fault, &u64)| (fault.to_string(), json!(count));
    json!({
        "requests": ledger.total,
        "reads": ledger.reads,
        "largest_second": ledger.largest_second,
        "largest_second_accepted": ledger.largest_second_accepted,
        "codes": ledger.codes,
        "faults": ledger.faults.iter().map(named).collect::<serde_json::Map<_, _>>(),
        "last": last,
    })
    .to_string()
}

fn request(seen: &SeenRequest) -> Value {
    json!({
        "number": seen.number,
        "wall_ms": seen.wall_ms,
        "command": seen.command.map(<&str>::from),
        "sdkappid": seen.sdkappid,
        "random": seen.random,
        "status": seen.status,
        "ids": seen.ids,
        "code": seen.code,
        "http": seen.http,
        "fault": seen.fault.map(<&str>::from),
        "applied": seen.applied,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use super::super::{Command, Fault};
    use super::*;
    use crate::domain::clock::Moment;

    fn ledger(ids: &[&str], count: u64) -> Ledger {
        let seen = |number| SeenRequest {
            number,
            arrived: Moment::default(),
            counted: Moment::default(),
            wall_ms: 1_735_689_600_250,
            command: Some(Command::BatchSetChitchat),
            sdkappid: Some(1_400_000_000),
            random: Some(9),
            status: Some(6),
            ids: ids.iter().map(ToString::to_string).collect(),
            code: Some(-50_003),
            http: None,
            fault: Some(Fault::CutAfter),
            applied: false,
        };
        Ledger {
            requests: (1..=count).map(|number| Arc::new(seen(number))).collect(),
            total: count,
            reads: 0,
            codes: BTreeMap::from([(-50_003, count)]),
            faults: BTreeMap::from([(Fault::CutAfter, count)]),
            largest_second: 6,
            largest_second_accepted: 5,
        }
    }

    #[test]
    fn hostile_text_in_an_id_stays_text() {
        let id = "<script>alert('1')</script>&\"\u{202e}\0";
        let page = html(&ledger(&[id], 1));
        assert!(!page.contains("<script") && !page.contains('\u{202e}') && !page.contains('\0'));
        let text = "&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;&amp;&quot;\\u{202e}\\u{0}";
        assert!(page.contains(text), "{page}");
        let value: Value = serde_json::from_str(&json(&ledger(&[id], 1))).expect("JSON");
        assert_eq!(value["last"][0]["ids"][0], id);
    }

    #[test]
    fn sandbox_page_shows_sums_and_newest_requests_first() {
        let page = html(&ledger(&["a", "b", "c", "d", "e", "f", "g"], 201));
        assert!(
            page.contains("201 requests. Maximum in one second: 6 arrived, 5 within the limit.")
        );
        assert!(page.contains("<td class=n>-50003<td class=n>201<td>"), "{page}");
        assert!(page.contains("<td>7: a b c d e and 2 more</tr>"));
        assert!(page.contains("<td>2025-01-01T00:00:00.250Z<td>batch_set_chitchat<td"));
        let row = |number: u64| page.find(&format!("<tr><td class=n>{number}<td>"));
        assert!(row(201) < row(2) && row(201).is_some() && row(1).is_none());
    }

    #[test]
    fn sandbox_json_has_the_numbers_of_the_page() {
        let value: Value = serde_json::from_str(&json(&ledger(&["a"], 201))).expect("JSON");
        assert_eq!((&value["requests"], &value["largest_second"]), (&json!(201), &json!(6)));
        assert_eq!(value["codes"], json!({ "-50003": 201 }));
        assert_eq!(value["faults"], json!({ "cut-after": 201 }));
        assert_eq!(value["last"].as_array().map(Vec::len), Some(200));
        let newest = json!({
            "number": 201, "wall_ms": 1_735_689_600_250_i64, "command": "batch_set_chitchat",
            "sdkappid": 1_400_000_000, "random": 9, "status": 6, "ids": ["a"], "code": -50_003,
            "http": null, "fault": "cut-after", "applied": false,
        });
        assert_eq!(value["last"][199], newest);
    }
}
