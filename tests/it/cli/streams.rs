//! Unusual stdout: full, closed, or non-blocking.

use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::Read as _;

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

use crate::support::binary::{ends, has};
use crate::support::place::{Place, question, said};

#[test]
fn help_to_full_disk_exits_70() {
    let place = Place::new();
    for args in [&["--help"][..], &["-h"], &["--version"], &["run", "--help"], &["help"]] {
        let mut command = place.deskbatch(args);
        command.stdout(OpenOptions::new().write(true).open("/dev/full").unwrap());
        has(&said(&ends(command, 70)), &["stdout cannot be written", "No space left"]);
        // A closed reader has read enough, so this is no error.
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = place.deskbatch(args);
        command.stdout(writer);
        assert_eq!(said(&ends(command, 0)), "");
    }
}

#[test]
fn report_to_nonblocking_pipe_is_complete() {
    const ROWS: usize = 4_000;
    let place = Place::new();
    let mut text = String::from("question_id,status\n");
    for n in 0..ROWS {
        writeln!(text, "{},4", question(&format!("q{n}"))).unwrap();
    }
    place.write("jobs.csv", text);
    ends(place.deskbatch(&["import", "jobs.csv", "--sdkappid", "1400000000"]), 0);
    for format in ["csv", "json"] {
        let (mut reader, writer) = std::io::pipe().unwrap();
        fcntl_setfl(&writer, fcntl_getfl(&writer).unwrap() | OFlags::NONBLOCK).unwrap();
        let mut command = place.deskbatch(&["report", "--format", format]);
        let mut child = command.stdout(writer).spawn().unwrap();
        drop(command);
        // Start to read only when the pipe is full.
        while rustix::io::ioctl_fionread(&reader).unwrap() < 60_000 {
            assert!(child.try_wait().unwrap().is_none(), "it has ended with the pipe not full");
            std::thread::yield_now();
        }
        let mut got = String::new();
        reader.read_to_string(&mut got).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(0));
        let rows = got.lines().filter(|line| line.contains("DeskDefaultRobot-q")).count();
        assert_eq!(rows, ROWS, "{format}");
    }
}
