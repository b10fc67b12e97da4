//! Manifests as people write them, and the expected result of each.
//!
//! The helpers print a whole manifest as text, one line per row, so that a test shows the file and its
//! meaning side by side.

mod conflicts;
mod files;
mod headers;
mod kinds;
mod limits;
mod property;
mod rejects;
mod rows;
mod torture;
mod warnings;

use std::fmt::Write as _;
use std::io::{self, Cursor, Read, Write as _};

use super::*;

/// Default options, with the app of the ids used here.
fn plain() -> ManifestOptions {
    ManifestOptions { sdkappid: 1, ..ManifestOptions::default() }
}

fn with_status(status: TargetStatus) -> ManifestOptions {
    ManifestOptions { status: Some(status), ..plain() }
}

fn on_conflict(choice: OnConflict) -> ManifestOptions {
    ManifestOptions { on_conflict: Some(choice), ..plain() }
}

fn open(bytes: impl AsRef<[u8]>, options: &ManifestOptions) -> Result<Manifest, ManifestError> {
    let bytes = Cursor::new(bytes.as_ref().to_vec());
    Manifest::from_reader(Box::new(bytes), "jobs.csv", options)
}

/// `id status @line` for a job, `replace …` for a replacement, or the bad row.
fn reported(row: &Row) -> String {
    let job = |job: &NewJob| format!("{} {} @{}", job.question_id, job.status, job.line);
    match row {
        Row::New(new) => job(new),
        Row::Replace(new) => format!("replace {}", job(new)),
        Row::Bad(bad) => bad.to_string(),
        Row::Conflict(bad, question) => format!("not {question}: {bad}"),
    }
}

fn read_all(mut manifest: Manifest) -> Result<(Vec<Row>, Totals), ManifestError> {
    let mut rows = Vec::new();
    while let Some(row) = manifest.next_row()? {
        rows.push(row);
    }
    Ok((rows, manifest.finish()))
}

/// Every row, and the totals; checks that the totals add up.
fn read(bytes: impl AsRef<[u8]>, options: &ManifestOptions) -> (Vec<String>, Totals) {
    let (rows, totals) = open(bytes, options).and_then(read_all).expect("a manifest");
    assert_eq!(totals.rows, totals.good + totals.duplicates + totals.bad);
    assert_eq!(totals.by_status.iter().sum::<u64>(), totals.good);
    (rows.iter().map(reported).collect(), totals)
}

#[track_caller]
fn check(bytes: impl AsRef<[u8]>, options: &ManifestOptions, rows: &[&str]) {
    assert_eq!(read(bytes, options).0, rows);
}

/// The error that reading a manifest returns, with its causes.
fn failure(bytes: impl AsRef<[u8]>, options: &ManifestOptions) -> String {
    let error = open(bytes, options).and_then(read_all).expect_err("an error");
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(error) = cause {
        let _ = write!(text, ": {error}");
        cause = error.source();
    }
    text
}

fn bad_rows(bytes: impl AsRef<[u8]>, options: &ManifestOptions) -> (ByteRecord, Vec<RowError>) {
    let manifest = open(bytes, options).expect("a manifest");
    let header = manifest.header().clone();
    let (rows, _) = read_all(manifest).expect("readable");
    let bad = rows.into_iter().filter_map(|row| match row {
        Row::Bad(bad) | Row::Conflict(bad, _) => Some(bad),
        Row::New(_) | Row::Replace(_) => None,
    });
    (header, bad.collect())
}

fn utf16(text: &str, to_bytes: fn(u16) -> [u8; 2]) -> Vec<u8> {
    text.encode_utf16().flat_map(to_bytes).collect()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packer.write_all(bytes).expect("memory");
    packer.finish().expect("memory")
}

/// Returns one byte at a time, with an interruption before each, like a slow pipe.
struct Trickle(Cursor<Vec<u8>>, bool);

impl Read for Trickle {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.1 = !self.1;
        if self.1 {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let len = buf.len().min(1);
        self.0.read(&mut buf[..len])
    }
}

#[test]
fn manifest_can_be_read_on_another_thread() {
    fn is_send<T: Send>() {}
    is_send::<Manifest>();
}
