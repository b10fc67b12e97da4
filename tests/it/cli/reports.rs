//! Reports with hostile content: messages of the service never start a formula, and neutralizing them
//! never loses an id.

use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;

use crate::support::binary::{Recorder, ends, has};
use crate::support::place::{Place, data, said};

/// Messages that a spreadsheet could take for a formula.
const INFOS: [&str; 12] = [
    "=HYPERLINK(\"http://x\",\"y\")",
    "+1+1",
    "-2+3",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    "\n=1",
    "  =1",
    "\"=1\"",
    "all well;=cmd|' /C calc'!A0;x",
    "＝1+1",
    "\u{a0}\" ＠SUM(A1)",
];

/// Ids that a spreadsheet or a CSV reader could alter.
const IDS: [&str; 12] = [
    "=1+1",
    "+2",
    "-3",
    "@SUM(A1)",
    "＝1",
    "'=1",
    "\"=1\"",
    ";=1",
    "a,=1",
    "=cmd|'/C'!A0",
    "007",
    "1e5",
];

/// A server that rejects every question, each time with the next of `INFOS`.
fn hostile() -> Recorder {
    let turn = AtomicUsize::new(0);
    Recorder::responding(move |_| {
        let info = INFOS[turn.fetch_add(1, Ordering::Relaxed) % INFOS.len()];
        let body = json!({ "ActionStatus": "FAIL", "ErrorCode": -50_003, "ErrorInfo": info });
        let body = body.to_string();
        format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
    })
}

/// A queue whose jobs were all rejected by the hostile server.
fn refused(place: &Place) {
    let mut csv = csv::Writer::from_path(place.path("jobs.csv")).unwrap();
    csv.write_record(["question_id", "status"]).unwrap();
    for id in IDS {
        csv.write_record([id, "5"]).unwrap();
    }
    csv.flush().unwrap();
    let server = hostile();
    let mut command = place.deskbatch(&["run", "jobs.csv", "--chunk", "1"]);
    command
        .env("DESKBATCH_ENDPOINT", server.endpoint())
        .env("DESKBATCH_SDKAPPID", "1")
        .env("DESKBATCH_IDENTIFIER", "administrator")
        .env("DESKBATCH_SECRET_KEY", "k")
        .env("DESKBATCH_RATE", "200")
        // The server rejects reads too, so the run must not stop at its rejection limit.
        .env("DESKBATCH_MAX_REJECTIONS", "0");
    ends(command, 1);
}

/// An independent CSV reader, as strict as RFC 4180: rows of fields.
fn read_again(text: &str) -> Vec<Vec<String>> {
    let (mut rows, mut row, mut field) = (Vec::new(), Vec::new(), String::new());
    let (mut quoted, mut chars) = (false, text.chars().peekable());
    while let Some(c) = chars.next() {
        match c {
            '"' if quoted && chars.next_if_eq(&'"').is_some() => field.push('"'),
            '"' if quoted => {
                quoted = false;
                assert!(matches!(chars.peek(), Some(',' | '\n')), "text after a quote: {field}");
            }
            c if quoted => field.push(c),
            '"' => {
                assert!(field.is_empty(), "a quote inside {field}");
                quoted = true;
            }
            ',' => row.push(std::mem::take(&mut field)),
            '\n' => {
                row.push(std::mem::take(&mut field));
                rows.push(std::mem::take(&mut row));
            }
            c => field.push(c),
        }
    }
    assert!(!quoted && row.is_empty() && field.is_empty(), "the text is cut off");
    rows
}

/// Whether a spreadsheet could take `text`, or the part after a semicolon, for a formula.
fn could_run(text: &str) -> bool {
    let starts = |cell: &str| {
        let cell = cell.trim_start_matches(|c: char| c.is_whitespace() || c == '"');
        cell.starts_with(['=', '+', '-', '@', '＝', '＋', '－', '＠'])
    };
    text.split([';', '\t', '\r', '\n']).any(starts)
}

#[test]
fn service_text_starts_no_formula_in_report() {
    let place = Place::new();
    refused(&place);
    let rows = read_again(&data(&ends(place.deskbatch(&["report"]), 0)));
    let column = rows[0].iter().position(|name| name == "error_info").unwrap();
    assert!(INFOS.iter().all(|info| could_run(info)));
    let mut infos: Vec<&str> = rows[1..].iter().map(|row| row[column].as_str()).collect();
    for info in &infos {
        assert!(!could_run(info), "{info}");
    }
    // The messages are neutralized but still readable.
    infos.sort_unstable();
    infos.dedup();
    assert!(infos.contains(&"'=HYPERLINK(\"http://x\",\"y\")"), "{infos:?}");
    assert!(infos.contains(&"all well;'=cmd|' /C calc'!A0;x"), "{infos:?}");
    // The other fields cannot start a formula either, except the id and the numeric code.
    for row in &rows[1..] {
        let rest = row
            .iter()
            .zip(&rows[0])
            .filter(|(_, name)| !["question_id", "error_code"].contains(&name.as_str()));
        for (text, name) in rest {
            assert!(!could_run(text), "{name}: {text}");
        }
    }
}

#[test]
fn formula_like_id_survives_report_and_import() {
    let place = Place::new();
    refused(&place);
    ends(place.deskbatch(&["report", "--state", "failed", "-o", "failed.csv"]), 0);
    let ids = |rows: Vec<Vec<String>>| -> Vec<String> {
        rows.into_iter().skip(1).map(|mut row| row.swap_remove(0)).collect()
    };
    assert_eq!(ids(read_again(&place.read("failed.csv"))), IDS);
    let output = ends(place.deskbatch(&["import", "failed.csv", "--sdkappid", "1"]), 0);
    has(&said(&output), &["12 jobs (0 enable, 12 disable, 0 delete)"]);
    ends(place.deskbatch(&["report", "--batch", "2", "-o", "again.csv"]), 0);
    assert_eq!(ids(read_again(&place.read("again.csv"))), IDS);
}
