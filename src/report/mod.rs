//! Reports: records as CSV or JSON, one at a time; and the HTML report of the whole queue.
//!
//! The CSV is a manifest with more columns, so a report of failed jobs can be imported again unchanged. Text
//! from the service never starts a spreadsheet formula.

pub mod html;
mod page_data;

use std::io::{self, Write};

use serde::Serialize;

use crate::domain::clock::utc_text;
use crate::queue::Record;
use crate::util::escape::{visible, visible_json};

pub use page_data::{Estimate, PageData, PageEta, PageInfo};

/// The columns of the CSV, in order.
pub const COLUMNS: [&str; 11] = [
    "question_id",
    "status",
    "state",
    "error_code",
    "error_info",
    "attempts",
    "response_lost",
    "in_doubt",
    "batch",
    "row",
    "finished_at",
];

/// The first bytes of the JSON, without and with records.
pub const JSON_STARTS: [&str; 2] = ["[\n]\n", "[\n{\"question_id\":"];

/// A report format.
pub trait Writer {
    /// Writes one record.
    ///
    /// # Errors
    /// When the destination cannot be written.
    fn write(&mut self, record: &Record) -> io::Result<()>;

    /// Writes the end of the report.
    ///
    /// # Errors
    /// When the destination cannot be written.
    fn finish(&mut self) -> io::Result<()>;
}

/// Writes a report as CSV.
pub struct CsvWriter<W: Write>(csv::Writer<W>);

impl<W: Write> CsvWriter<W> {
    /// Writes the header line.
    ///
    /// # Errors
    /// When the destination cannot be written.
    pub fn new(to: W) -> io::Result<Self> {
        let mut csv = csv::Writer::from_writer(to);
        csv.write_record(COLUMNS).map_err(io_error)?;
        Ok(Self(csv))
    }
}

impl<W: Write> Writer for CsvWriter<W> {
    fn write(&mut self, record: &Record) -> io::Result<()> {
        let flag = |is: bool| if is { "1" } else { "0" };
        let number = |n: Option<i64>| n.map(|n| n.to_string()).unwrap_or_default();
        let row = [
            record.question_id.as_str(),
            record.status.name(),
            record.state.name(),
            &number(record.error_code),
            &no_formula(&visible(record.error_info.as_deref().unwrap_or_default())),
            &record.attempts.to_string(),
            flag(record.response_lost),
            flag(record.in_doubt),
            &no_formula(&visible(&record.batch)),
            &record.line.to_string(),
            &record.finished_ms.map(utc_text).unwrap_or_default(),
        ];
        self.0.write_record(row).map_err(io_error)
    }

    fn finish(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Unwraps the I/O error, so that callers can recognise a broken pipe.
fn io_error(error: csv::Error) -> io::Error {
    match error.into_kind() {
        csv::ErrorKind::Io(error) => error,
        other => io::Error::other(format!("{other:?}")),
    }
}

/// The characters that start a formula in a spreadsheet. The full-width ones do so in Chinese and Japanese
/// locales.
const FORMULA_STARTS: [char; 10] = ['=', '+', '-', '@', '＝', '＋', '－', '＠', '\t', '\r'];

/// Characters after which a spreadsheet may begin a new cell inside a field: with a semicolon or tab as
/// separator it ignores quotes in the middle of a line.
const CELL_ENDS: [char; 4] = [';', '\t', '\r', '\n'];

/// Prevents formula injection: prepends an apostrophe to each part that could become a cell with a formula.
/// Question ids stay unchanged: they must round-trip, and come from the user's own file.
fn no_formula(text: &str) -> String {
    let is_ignored = |c: char| c == '"' || (c.is_whitespace() && !FORMULA_STARTS.contains(&c));
    let mut safe = String::with_capacity(text.len() + 1);
    for cell in text.split_inclusive(CELL_ENDS) {
        if cell.trim_start_matches(is_ignored).starts_with(FORMULA_STARTS) {
            safe.push('\'');
        }
        safe.push_str(cell);
    }
    safe
}

/// Writes a report as a JSON array, one object per line.
pub struct JsonWriter<W: Write> {
    to: W,
    first: bool,
}

impl<W: Write> JsonWriter<W> {
    /// Writes the beginning of the array.
    ///
    /// # Errors
    /// When the destination cannot be written.
    pub fn new(mut to: W) -> io::Result<Self> {
        to.write_all(b"[")?;
        Ok(Self { to, first: true })
    }
}

/// A record of the JSON, with the columns of the CSV.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct JsonRecord<'a> {
    /// The question id.
    question_id: &'a str,
    /// The target status: enable, disable or delete.
    status: &'a str,
    /// The state of the job: pending, `in_flight`, succeeded, failed, cancelled or superseded.
    state: &'a str,
    /// The error code of the last response; null if there is none.
    error_code: Option<i64>,
    /// The message of the service; without a code, the reason of the failure.
    error_info: Option<&'a str>,
    /// Requests that counted as attempts. Throttled requests do not count.
    attempts: i64,
    /// Whether the response of a request with this job was lost, whatever happened later.
    response_lost: bool,
    /// Whether a request may have changed the question and no later response says whether it did.
    in_doubt: bool,
    /// Name of the batch.
    batch: &'a str,
    /// Line of the manifest.
    row: i64,
    /// Time of the outcome; null while there is none.
    finished_at: Option<String>,
}

impl<W: Write> Writer for JsonWriter<W> {
    fn write(&mut self, record: &Record) -> io::Result<()> {
        self.to.write_all(if self.first { b"\n" } else { b",\n" })?;
        self.first = false;
        let line = JsonRecord {
            question_id: &record.question_id,
            status: record.status.name(),
            state: record.state.name(),
            error_code: record.error_code,
            error_info: record.error_info.as_deref(),
            attempts: record.attempts,
            response_lost: record.response_lost,
            in_doubt: record.in_doubt,
            batch: &record.batch,
            row: record.line,
            finished_at: record.finished_ms.map(utc_text),
        };
        let line = serde_json::to_string(&line)?;
        self.to.write_all(visible_json(&line).as_bytes())
    }

    fn finish(&mut self) -> io::Result<()> {
        self.to.write_all(b"\n]\n")?;
        self.to.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::job::{JobState, TargetStatus};

    fn record() -> Record {
        Record {
            id: 1,
            question_id: "=1-@RBT#x,y".to_owned(),
            status: TargetStatus::Delete,
            state: JobState::Failed,
            error_code: Some(-50_011),
            error_info: Some("=HYPERLINK(\"x\")".to_owned()),
            attempts: 2,
            response_lost: true,
            in_doubt: false,
            batch: "+batch".into(),
            line: 7,
            finished_ms: Some(1_735_689_600_250),
        }
    }

    #[test]
    fn csv_keeps_ids_and_defuses_formulas() {
        let mut bytes = Vec::new();
        let mut csv = CsvWriter::new(&mut bytes).unwrap();
        csv.write(&record()).unwrap();
        csv.finish().unwrap();
        drop(csv);
        assert_eq!(
            String::from_utf8(bytes).unwrap(),
            "question_id,status,state,error_code,error_info,attempts,response_lost,in_doubt,batch,row,finished_at\n\
             \"=1-@RBT#x,y\",delete,failed,-50011,\"'=HYPERLINK(\"\"x\"\")\",2,1,0,'+batch,7,2025-01-01T00:00:00.250Z\n"
        );
    }

    #[test]
    fn formula_is_defused_in_every_possible_cell() {
        for (text, safe) in [
            ("=1", "'=1"),
            ("-14", "'-14"),
            ("+1", "'+1"),
            ("@A1", "'@A1"),
            ("＝1", "'＝1"),
            ("\t", "'\t"),
            ("\rx", "'\rx"),
            ("\t=1", "'\t'=1"),
            (" \"\u{a0}\" =1", "' \"\u{a0}\" =1"),
            ("a;=1; -2;b", "a;'=1;' -2;b"),
            ("a\n=1", "a\n'=1"),
            ("'=1", "'=1"),
            ("", ""),
            ("1-2=x, a@b", "1-2=x, a@b"),
        ] {
            assert_eq!(no_formula(text), safe, "{text:?}");
        }
    }

    #[test]
    fn json_is_one_array_for_any_number_of_records() {
        for count in 0..3 {
            let mut bytes = Vec::new();
            let mut json = JsonWriter::new(&mut bytes).unwrap();
            for _ in 0..count {
                json.write(&record()).unwrap();
            }
            json.finish().unwrap();
            let value: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
            assert_eq!(value.as_array().map(Vec::len), Some(count));
            assert!(bytes.starts_with(JSON_STARTS[count.min(1)].as_bytes()));
        }
    }
}
