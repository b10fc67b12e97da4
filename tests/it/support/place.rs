//! A test's folder with its queue, manifests, binary and sandbox.

#![allow(dead_code, reason = "each test takes what it needs")]

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use deskbatch::sandbox::{SANDBOX_IDENTIFIER, SANDBOX_KEY, SANDBOX_SDKAPPID, Sandbox};
use tempfile::TempDir;

/// A folder of its own for one test, in which the binary runs.
pub struct Place {
    pub folder: TempDir,
}

impl Place {
    pub fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    /// A folder in memory, where the system has one: a test that kills hundreds of programs need not
    /// wait for a disk.
    pub fn in_memory() -> Self {
        Self { folder: folder_in_memory() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, text).unwrap();
        path
    }

    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    /// The binary in this folder with `args` and no settings from outside.
    pub fn deskbatch(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_deskbatch"));
        command.current_dir(self.folder.path()).args(args).stdin(Stdio::null());
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("DESKBATCH_") {
                command.env_remove(name);
            }
        }
        command
    }

    /// The same with the account of `sandbox`.
    pub fn deskbatch_toward(&self, sandbox: &Sandbox, args: &[&str]) -> Command {
        let mut command = self.deskbatch(args);
        command
            .env("DESKBATCH_ENDPOINT", sandbox.endpoint())
            .env("DESKBATCH_SDKAPPID", SANDBOX_SDKAPPID.to_string())
            .env("DESKBATCH_IDENTIFIER", SANDBOX_IDENTIFIER)
            .env("DESKBATCH_SECRET_KEY", SANDBOX_KEY);
        command
    }

    /// `status --json`, parsed.
    pub fn status(&self) -> serde_json::Value {
        let output = self.deskbatch(&["status", "--json"]).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", said(&output));
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

/// A temporary folder in memory, where the system has one.
pub fn folder_in_memory() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// Prints a figure for docs/reliability.md, visible with `--nocapture`.
#[allow(clippy::print_stderr, reason = "figures of a long test are for people")]
pub fn report_line(figure: &str) {
    eprintln!("{figure}");
}

/// Prints why a test checks nothing on this machine. In CI it fails, unless the machine does not allow
/// what the test needs.
#[track_caller]
pub fn skipped(why: &str, is_allowed: bool) {
    let must_run = is_allowed && std::env::var_os("CI").is_some();
    assert!(!must_run, "in CI this test must run: {why}");
    report_line(&format!("skipped: {why}"));
}

/// The stderr of a program.
pub fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The stdout of a program.
pub fn data(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// An id in the vendor's format; `last` is its last part.
pub fn question(last: &str) -> String {
    format!("{SANDBOX_SDKAPPID}-@RBT#DeskDefaultRobot-{last}")
}

/// A manifest of `(id, status)` rows.
pub fn manifest<'a>(rows: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let mut text = String::from("question_id,status\n");
    for (id, status) in rows {
        writeln!(text, "{id},{status}").unwrap();
    }
    text
}
