//! Shared helpers of the benchmarks: the binary with an account of the sandbox, values from `/proc`,
//! medians, and output. Measures nothing by itself.

#![allow(dead_code, reason = "each benchmark takes what it needs")]

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use deskbatch::sandbox::{SANDBOX_IDENTIFIER, SANDBOX_KEY, SANDBOX_SDKAPPID};

/// The binary in `folder` with the account of a sandbox and no other settings from outside.
pub fn deskbatch(folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_deskbatch"));
    command.current_dir(folder).args(args).stdin(Stdio::null()).stdout(Stdio::null());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("DESKBATCH_") {
            command.env_remove(name);
        }
    }
    command
        .env("DESKBATCH_SDKAPPID", SANDBOX_SDKAPPID.to_string())
        .env("DESKBATCH_IDENTIFIER", SANDBOX_IDENTIFIER)
        .env("DESKBATCH_SECRET_KEY", SANDBOX_KEY);
    command
}

/// Seconds of CPU time that a process has used.
pub fn cpu_s(process: &Path) -> Option<f64> {
    const TICKS_A_SECOND: f64 = 100.0;
    let stat = fs::read_to_string(process.join("stat")).ok()?;
    let after_name = stat.rsplit_once(')')?.1;
    let mut fields = after_name.split_whitespace().skip(11);
    let (user, system): (f64, f64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some((user + system) / TICKS_A_SECOND)
}

/// The peak resident memory of a process; 0 if unknown.
pub fn peak_mib(process: &Path) -> u64 {
    let status = fs::read_to_string(process.join("status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or_default() / 1_024
}

/// The median; `values` must not be empty.
pub fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Converts a count to a float.
#[allow(clippy::cast_precision_loss, reason = "counts far below 2^52")]
pub fn real(n: usize) -> f64 {
    n as f64
}

/// Prints a line of a table.
#[allow(clippy::print_stdout, reason = "a benchmark prints its tables")]
pub fn say(line: &str) {
    println!("{line}");
}
