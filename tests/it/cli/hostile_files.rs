//! Files that would exhaust memory or time: each fails at once with exit 2 and the position of the
//! error. Nothing is imported, and memory stays below a limit that the system enforces.

use std::fs::File;
use std::io::{self, Write};
use std::process::{Command, Stdio};
use std::thread;

use flate2::{Compression, write::GzEncoder};

use crate::support::binary::has;
use crate::support::place::{Place, said};

/// The address space of the program, thread stacks included. The system enforces it.
const MEMORY_KIB_MAX: u64 = 100 * 1024;
const GIB: u64 = 1 << 30;
const MIB: usize = 1 << 20;
const HEAD: &[u8] = b"question_id,status,note\na,4,\n";

/// `deskbatch import FILE` within the memory limit.
fn import(place: &Place, file: &str) -> Command {
    let inner = place.deskbatch(&["import", file, "--sdkappid", "1"]);
    let mut command = Command::new("sh");
    let limited = format!("ulimit -d {MEMORY_KIB_MAX} && exec \"$@\"");
    command.args(["-c", &limited, "sh"]).arg(inner.get_program()).args(inner.get_args());
    command.current_dir(place.folder.path()).stdin(Stdio::null());
    for (name, value) in inner.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command
}

/// The import fails with exit 2 and `parts`, and leaves no file behind.
#[track_caller]
fn refused(place: &Place, mut command: Command, parts: &[&str]) {
    let output = command.stdout(Stdio::piped()).stderr(Stdio::piped()).output().unwrap();
    let said = said(&output);
    assert_eq!(output.status.code(), Some(2), "{said}");
    has(&said, parts);
    assert!(said.len() < 4_096, "{} bytes said", said.len());
    assert_eq!(place.status()["total"], 0);
}

/// The same for input that `write` sends through a pipe. Returns how many bytes were read.
#[track_caller]
fn refused_from_pipe(
    write: impl FnOnce(&mut dyn Write) -> io::Result<()> + Send + 'static,
    parts: &[&str],
) -> u64 {
    let place = Place::new();
    let (from, to) = io::pipe().unwrap();
    let mut command = import(&place, "-");
    command.stdin(from);
    let writer = thread::spawn(move || {
        let mut counted = Counted { to, written: 0 };
        // The program may exit before the end of its input, so a write error is expected.
        let _ = write(&mut counted);
        counted.written
    });
    refused(&place, command, parts);
    writer.join().unwrap()
}

struct Counted<W> {
    to: W,
    written: u64,
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let written = self.to.write(buf)?;
        self.written += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

/// Writes `head`, then `block` repeatedly until `bytes` are written, then `tail`.
fn pour(
    head: &'static [u8],
    block: Vec<u8>,
    bytes: u64,
    tail: &'static [u8],
) -> impl FnOnce(&mut dyn Write) -> io::Result<()> + Send + 'static {
    move |to| {
        to.write_all(head)?;
        for _ in 0..bytes / block.len() as u64 {
            to.write_all(&block)?;
        }
        to.write_all(tail)
    }
}

/// One compressed block. Gzip allows any number of concatenated members.
fn packed(block: &[u8]) -> Vec<u8> {
    let mut packer = GzEncoder::new(Vec::new(), Compression::default());
    packer.write_all(block).unwrap();
    packer.finish().unwrap()
}

const TOO_LONG: &str = "a record of more than 8 MiB or 1000000 delimiters starts at line ";

#[test]
fn endless_line_stops_reading_after_16_mib() {
    let taken = refused_from_pipe(
        pour(b"", vec![b'x'; MIB], GIB, b""),
        &["stdin: ", TOO_LONG, "line 1. Is this a CSV file?"],
    );
    assert!(taken < 16 * MIB as u64, "{taken} bytes were read");
    let taken = refused_from_pipe(pour(HEAD, vec![b'x'; MIB], GIB, b""), &[TOO_LONG, "line 3."]);
    assert!(taken < 16 * MIB as u64, "{taken} bytes were read");
}

#[test]
fn gigabyte_of_nul_bytes_is_refused_at_line_1() {
    let place = Place::new();
    File::create(place.path("jobs.csv")).unwrap().set_len(GIB).unwrap();
    refused(&place, import(&place, "jobs.csv"), &["jobs.csv: ", TOO_LONG, "line 1."]);
}

#[test]
fn gzip_bomb_is_not_unpacked() {
    let place = Place::new();
    let bomb = [packed(HEAD), packed(&vec![b'x'; MIB]).repeat(1_024)].concat();
    assert!(bomb.len() < 2 * MIB, "{}", bomb.len());
    place.write("jobs.csv.gz", bomb);
    refused(&place, import(&place, "jobs.csv.gz"), &["jobs.csv.gz: ", TOO_LONG, "line 3."]);
}

#[test]
fn gzip_with_gigabytes_of_rows_is_refused_early() {
    for (status, rejects) in [("4", false), ("none", true)] {
        let place = Place::new();
        let row = format!("a,{status},{}\n", "x".repeat(MIB / 1_024));
        let bomb = [packed(HEAD), packed(row.repeat(1_024).as_bytes()).repeat(2_048)].concat();
        assert!(bomb.len() < 12 * MIB, "{}", bomb.len());
        place.write("jobs.csv.gz", bomb);
        let mut command = import(&place, "jobs.csv.gz");
        if rejects {
            command.args(["--rejects", "bad.csv"]);
        }
        refused(&place, command, &["jobs.csv.gz unpacks to more than 64 MiB, over 100 times"]);
        assert!(!place.path("bad.csv").exists());
    }
}

#[test]
fn rejects_of_more_than_their_limit_are_refused() {
    let row = format!("a,none,{}\n", "x".repeat(MIB / 4)).into_bytes();
    let place = Place::new();
    let (from, to) = io::pipe().unwrap();
    let mut command = import(&place, "-");
    command.args(["--rejects", "bad.csv"]).stdin(from);
    let writer = thread::spawn(move || pour(HEAD, row, GIB, b"")(&mut { to }));
    refused(
        &place,
        command,
        &["--rejects: more than 256 MiB of invalid rows. Nothing was imported."],
    );
    assert!(writer.join().unwrap().is_err(), "all of it was taken");
    assert!(!place.path("bad.csv").exists());
}

#[test]
fn field_of_100_mib_is_refused_at_its_line() {
    let tail = b"\"\nb,5,\n";
    let taken = refused_from_pipe(
        pour(b"question_id,status,note\na,4,\nc,6,\"", vec![b'x'; MIB], 100 << 20, tail),
        &[TOO_LONG, "line 3.", "a quote in that line is opened and never closed"],
    );
    assert!(taken < 16 * MIB as u64, "{taken} bytes were read");
}

#[test]
fn unclosed_quote_is_reported_at_its_line() {
    let rows = "b,5,\n".repeat(200_000).into_bytes();
    let open = b"question_id,status,note\na,4,\nc,6,\"oops\n";
    refused_from_pipe(
        pour(open, rows.clone(), rows.len() as u64, b""),
        &["1 of 2 rows is invalid", "record 2, line 3, column -:", "never closed"],
    );
    refused_from_pipe(pour(open, rows, 100 << 20, b""), &[TOO_LONG, "line 3.", "never closed"]);
}

#[test]
fn thousands_of_columns_are_counted_and_refused() {
    for columns in [10_000, 1_000_000] {
        let names = ",name".repeat(columns - 2);
        let header = format!("question_id,status{names}\na,4\n");
        let counted = format!("the header at line 1 has {columns} columns; at most 1000");
        refused_from_pipe(move |to| to.write_all(header.as_bytes()), &[&counted]);
    }
}

#[test]
fn excess_fields_are_counted_at_their_line() {
    let fields = ",".repeat(999_997);
    refused_from_pipe(
        move |to| write!(to, "question_id,status,note\na,4,\nb,5{fields}\n"),
        &["record 2, line 3, column -: \"b,5,,,,", "has 999999 fields, the header has 3"],
    );
    refused_from_pipe(pour(HEAD, vec![b','; MIB], GIB, b""), &[TOO_LONG, "line 3."]);
}

#[test]
fn nul_bytes_are_named_and_never_taken_for_an_end() {
    refused_from_pipe(
        |to| to.write_all(b"q\0u\0e\0s\0t\0i\0o\0n\0_\0i\0d\0,\0s\0t\0a\0t\0u\0s\0\n\0"),
        &["NUL bytes", "UTF-16", "iconv"],
    );
    refused_from_pipe(
        |to| to.write_all(b"question_id,status\na,4\nb\0,4\nc,\x005\n\0\0\0\n"),
        &[
            "3 of 4 rows are invalid",
            "record 2, line 3, column question_id: \"b\\0\": contains the unprintable character U+0000",
            "record 3, line 4, column status: \"\\05\": not a status",
            "record 4, line 5, column -: \"\\0\\0\\0\": has 1 field",
        ],
    );
}
