//! A property test: every CSV that is written is read back unchanged.

use csv::{QuoteStyle, Terminator, WriterBuilder};
use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone, Copy)]
enum Form {
    Plain,
    Marked,
    Utf16Le,
    Utf16Be,
}

#[derive(Debug, Clone)]
struct Format {
    delimiter: u8,
    terminator: Terminator,
    quotes: QuoteStyle,
    form: Form,
    packed: bool,
}

#[derive(Debug, Clone)]
struct Wanted {
    id: String,
    status: TargetStatus,
    /// How the status is written: number, name, or name in capitals with blanks.
    spelling: usize,
    note: String,
}

fn format() -> impl Strategy<Value = Format> {
    let terminators = [Terminator::CRLF, Terminator::Any(b'\n'), Terminator::Any(b'\r')];
    (
        prop::sample::select(vec![b',', b';', b'\t']),
        prop::sample::select(terminators.to_vec()),
        prop::sample::select(vec![QuoteStyle::Necessary, QuoteStyle::Always]),
        prop::sample::select(vec![Form::Plain, Form::Marked, Form::Utf16Le, Form::Utf16Be]),
        any::<bool>(),
    )
        .prop_map(|(delimiter, terminator, quotes, form, packed)| Format {
            delimiter,
            terminator,
            quotes,
            form,
            packed,
        })
}

fn wanted() -> impl Strategy<Value = Wanted> {
    (
        "[!-~é问😀]{1,12}",
        prop::sample::select(TargetStatus::ALL.to_vec()),
        0..4_usize,
        "[ -~\r\n\t,;\"问]{0,20}",
    )
        .prop_map(|(id, status, spelling, note)| Wanted { id, status, spelling, note })
}

impl Wanted {
    fn spelled(&self) -> String {
        match self.spelling {
            0 => self.status.code().to_string(),
            1 => self.status.name().to_owned(),
            2 => self.status.name().to_uppercase(),
            _ => format!(" {} ", self.status.code()),
        }
    }
}

/// The number of line ends in `text`; CRLF counts as one.
fn line_ends(text: &str) -> u64 {
    text.replace("\r\n", "\n").chars().filter(|c| matches!(c, '\r' | '\n')).count() as u64
}

/// The file, and the line where each record starts.
fn written(rows: &[Wanted], format: &Format) -> (Vec<u8>, Vec<u64>) {
    let mut writer = WriterBuilder::new()
        .delimiter(format.delimiter)
        .terminator(format.terminator)
        .quote_style(format.quotes)
        .from_writer(Vec::new());
    let mut lines = Vec::new();
    writer.write_record(["note", "question_id", "status"]).expect("memory");
    for row in rows {
        writer.flush().expect("memory");
        let before = std::str::from_utf8(writer.get_ref()).expect("text");
        lines.push(1 + line_ends(before));
        writer.write_record([&row.note, &row.id, &row.spelled()]).expect("memory");
    }
    let text = String::from_utf8(writer.into_inner().expect("memory")).expect("text");
    let marked = format!("\u{feff}{text}");
    let bytes = match format.form {
        Form::Plain => text.into_bytes(),
        Form::Marked => marked.into_bytes(),
        Form::Utf16Le => utf16(&marked, u16::to_le_bytes),
        Form::Utf16Be => utf16(&marked, u16::to_be_bytes),
    };
    (if format.packed { gzip(&bytes) } else { bytes }, lines)
}

proptest! {
    #[test]
    fn written_csv_is_read_back_with_its_line_numbers(
        rows in prop::collection::vec(wanted(), 0..40),
        format in format(),
    ) {
        let (bytes, lines) = written(&rows, &format);
        let mut first = std::collections::HashMap::<&str, (TargetStatus, u64, bool)>::new();
        let (mut expected, mut repeated, mut conflicts) = (Vec::new(), 0, Vec::new());
        for (row, line) in rows.iter().zip(lines) {
            match first.get_mut(row.id.as_str()) {
                None => {
                    first.insert(&row.id, (row.status, line, false));
                    expected.push(NewJob {
                        question_id: QuestionId::parse(row.id.as_bytes()).expect("an id"),
                        status: row.status,
                        line,
                    });
                }
                Some((status, _, false)) if *status == row.status => repeated += 1,
                Some((.., in_conflict)) => {
                    *in_conflict = true;
                    conflicts.push(line);
                }
            }
        }
        let (rows, totals) = open(bytes, &plain()).and_then(read_all).expect("a manifest");
        let (mut jobs, mut bad) = (Vec::new(), Vec::new());
        for row in rows {
            match row {
                Row::New(job) => jobs.push(job),
                Row::Bad(row) | Row::Conflict(row, _) => bad.push(row.line),
                Row::Replace(job) => panic!("nobody asked to replace {job:?}"),
            }
        }
        prop_assert_eq!(jobs, expected);
        prop_assert_eq!(bad, conflicts);
        prop_assert_eq!(totals.duplicates, repeated);
    }

    #[test]
    fn arbitrary_bytes_cause_no_panic_or_miscount(
        start in prop::sample::select(vec!["id,status\n", "\u{feff}id;status;n\r\n", "id\tstatus\r", ""]),
        rest in prop::collection::vec(
            prop::sample::select(b"a4,;\t\"\r\n \x00\xff5".to_vec()), 0..80),
    ) {
        let bytes = [start.as_bytes(), &rest].concat();
        if let Ok((rows, totals)) = open(&bytes, &plain()).and_then(read_all) {
            prop_assert_eq!(totals.rows, totals.good + totals.duplicates + totals.bad);
            prop_assert_eq!(rows.len() as u64, totals.good + totals.bad);
            let conflicts = rows.iter().filter(|row| matches!(row, Row::Conflict(..))).count();
            prop_assert!(totals.bad >= 2 * conflicts as u64);
        }
    }
}
