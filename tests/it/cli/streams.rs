//! Unusual stdout: full, closed, non-blocking, or read with pauses.

use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::{PipeReader, Read as _};
use std::process::{Child, Stdio};
use std::time::Duration;

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

use crate::support::binary::{call_for_nothing, ends, has, sandbox_with};
use crate::support::place::{Place, question, said};
use crate::support::scale::cases;

#[test]
fn help_to_full_disk_exits_70() {
    let place = Place::new();
    for args in [&["--help"][..], &["-h"], &["--version"], &["run", "--help"], &["help"]] {
        let mut command = place.deskbatch(args);
        command.stdout(OpenOptions::new().write(true).open("/dev/full").unwrap());
        has(&said(&ends(command, 70)), &["cannot write to stdout", "No space left"]);
        // A closed reader has read enough, so this is no error.
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = place.deskbatch(args);
        command.stdout(writer);
        assert_eq!(said(&ends(command, 0)), "");
    }
}

/// A queue with this many jobs.
fn with_queue(rows: usize) -> Place {
    let place = Place::new();
    let mut text = String::from("question_id,status\n");
    for n in 0..rows {
        writeln!(text, "{},4", question(&format!("q{n}"))).unwrap();
    }
    place.write("jobs.csv", text);
    ends(place.deskbatch(&["import", "jobs.csv", "--sdkappid", "1400000000"]), 0);
    place
}

/// Waits until the pipe has no room for another write of the report.
#[track_caller]
fn wait_until_full(pipe: &PipeReader, child: &mut Child) {
    while rustix::io::ioctl_fionread(pipe).unwrap() < 60_000 {
        assert!(child.try_wait().unwrap().is_none(), "it has ended with the pipe not full");
        std::thread::yield_now();
    }
}

#[test]
fn report_to_nonblocking_pipe_is_complete() {
    const ROWS: usize = 4_000;
    let place = with_queue(ROWS);
    for format in ["csv", "json"] {
        let (mut reader, writer) = std::io::pipe().unwrap();
        fcntl_setfl(&writer, fcntl_getfl(&writer).unwrap() | OFlags::NONBLOCK).unwrap();
        let mut command = place.deskbatch(&["report", "--format", format]);
        let mut child = command.stdout(writer).spawn().unwrap();
        drop(command);
        // Start to read only when the pipe is full.
        wait_until_full(&reader, &mut child);
        let mut got = String::new();
        reader.read_to_string(&mut got).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(0));
        let rows = got.lines().filter(|line| line.contains("DeskDefaultRobot-q")).count();
        assert_eq!(rows, ROWS, "{format}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn report_to_pausing_reader_is_complete() {
    const ROWS: usize = 10_000;
    // The pool of connections warns of a wait of 2 s and gives up after 30 s.
    let pause = cases(Duration::from_secs(3), Duration::from_secs(35));
    let sandbox = sandbox_with(|s| s.latency = pause).await;
    let place = with_queue(ROWS);
    let (mut reader, writer) = std::io::pipe().unwrap();
    let mut command = place.deskbatch(&["report"]);
    let mut child = command.stdout(writer).stderr(Stdio::piped()).spawn().unwrap();
    drop(command);
    wait_until_full(&reader, &mut child);
    call_for_nothing(sandbox.addr());
    let mut got = String::new();
    reader.read_to_string(&mut got).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), said(&output)), (Some(0), String::new()));
    assert_eq!(got.lines().count(), 1 + ROWS);
}
