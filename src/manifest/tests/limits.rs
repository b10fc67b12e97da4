//! Input that would otherwise exhaust memory or hide a failure.

use super::*;

/// Returns `start`, then repeats `fill` endlessly, and counts the bytes read.
struct Endless {
    start: Cursor<Vec<u8>>,
    fill: &'static [u8],
    given: usize,
}

impl Read for Endless {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let read = self.start.read(buf)?;
        if read > 0 {
            return Ok(read);
        }
        for (at, byte) in buf.iter_mut().enumerate() {
            *byte = self.fill[(self.given + at) % self.fill.len()];
        }
        self.given += buf.len();
        assert!(self.given < 2 * RECORD_BYTES_MAX, "read on long after the limit");
        Ok(buf.len())
    }
}

fn endless(start: &str, fill: &'static [u8]) -> String {
    let start = Cursor::new(start.as_bytes().to_vec());
    let reader = Box::new(Endless { start, fill, given: 0 });
    let manifest = Manifest::from_reader(reader, "jobs.csv", &plain());
    manifest.and_then(read_all).expect_err("an error").to_string()
}

#[test]
fn oversized_record_is_an_error_at_its_line() {
    for (start, fill, line) in [
        ("", &b"x"[..], 1),
        ("id,status\na,4\n\n", b"x", 4),
        ("id,status\na,4\nb,\"", b"x\n", 3),
        ("id,status\r\rb,4", b",", 3),
    ] {
        assert_eq!(
            endless(start, fill),
            format!(
                "jobs.csv: a record of more than 8 MiB or 1000000 delimiters starts at line \
                 {line}. Is this a CSV file? If it is, a quote in that line is opened and never closed."
            )
        );
    }
}

#[test]
fn long_record_within_the_limit_is_read() {
    let note = "x".repeat(RECORD_BYTES_MAX - 100);
    check(
        format!("id,status,note\na,4,{note}\nb,5,\n"),
        &plain(),
        &["a enable @2", "b disable @3"],
    );
}

#[test]
fn any_number_of_blank_lines_is_passed_over() {
    let blanks = "\r\n".repeat(RECORD_BYTES_MAX);
    let row = format!("a enable @{}", RECORD_BYTES_MAX + 2);
    check(format!("id,status\r\n{blanks}a,4\r\n"), &plain(), &[&row]);
}

/// Returns some text, then fails like a disk.
struct Failing(Cursor<Vec<u8>>);

impl Read for Failing {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self.0.read(buf)? {
            0 => Err(io::Error::other("the disk is gone")),
            read => Ok(read),
        }
    }
}

#[test]
fn read_failure_is_an_error_not_end_of_file() {
    let text = "id,status\n".to_owned() + &"a,4\n".repeat(100_000);
    for packed in [false, true] {
        let mut bytes = text.clone().into_bytes();
        if packed {
            bytes = gzip(&bytes);
            bytes.truncate(bytes.len() - 2);
        }
        let reader = Box::new(Failing(Cursor::new(bytes)));
        let error = Manifest::from_reader(reader, "jobs.csv", &plain())
            .and_then(read_all)
            .expect_err("an error");
        assert!(matches!(error, ManifestError::Read { .. }), "{error}");
    }
}

#[test]
fn delimiter_limit_applies_per_record() {
    let more = ",".repeat(COLUMNS_MAX - 2);
    let rows = format!("a,4{more}\n").repeat(2 * DELIMITERS_MAX / COLUMNS_MAX);
    assert_eq!(read(format!("id,status{more}\n{rows}"), &plain()).1.good, 1);
}

#[test]
fn header_is_limited_to_1000_columns() {
    let wide = |columns: usize| "id,status".to_owned() + &",".repeat(columns - 2);
    let text = |columns| format!("\n{}\na,4{}\n", wide(columns), ",".repeat(columns - 2));
    check(text(COLUMNS_MAX), &plain(), &["a enable @3"]);
    assert_eq!(
        failure(text(COLUMNS_MAX + 1), &plain()),
        "jobs.csv: the header at line 2 has 1001 columns; at most 1000 are allowed, and two are enough. \
         Check that this is the right file, and set its delimiter with --delimiter."
    );
}
