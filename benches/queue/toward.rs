//! The service of the benchmarks: the sandbox as a process of its own, without limit and latency.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Stdio};

use crate::support::deskbatch;

/// A sandbox process that ends on drop.
pub struct SandboxProcess {
    child: Child,
    pub endpoint: String,
    /// Kept open, because the sandbox writes to it when it ends.
    _stdout: BufReader<ChildStdout>,
}

impl SandboxProcess {
    pub fn start(folder: &Path) -> Self {
        let args = ["sandbox", "--addr", "127.0.0.1:0", "--rate-limit", "0", "--quiet"];
        let mut command = deskbatch(folder, &args);
        // The sandbox prints an account of its own only if no key is set.
        command.env_remove("DESKBATCH_SECRET_KEY").stdout(Stdio::piped());
        let mut child = command.spawn().expect("the sandbox starts");
        let mut stdout = BufReader::new(child.stdout.take().expect("its stdout"));
        let mut line = String::new();
        stdout.read_line(&mut line).expect("its address");
        let endpoint = line.trim().trim_start_matches("export DESKBATCH_ENDPOINT=").to_owned();
        Self { child, endpoint, _stdout: stdout }
    }
}

impl Drop for SandboxProcess {
    fn drop(&mut self) {
        // It may have ended by itself, in which case the client has already failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
