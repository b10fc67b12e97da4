//! The real binary against the sandbox over real HTTP for a minute: the share of the limit that it
//! uses, rejections, the busiest second, and the CPU and memory of a waiting runner.
//!
//! `-- --seconds N` makes it longer. CPU and memory come from `/proc` and are missing without it.

#[path = "support/mod.rs"]
mod support;

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::time::Duration;

use deskbatch::domain::clock::{Clock as _, SystemClock};
use deskbatch::sandbox::{Ledger, SANDBOX_SDKAPPID, Sandbox, SandboxSettings};
use support::{cpu_s, deskbatch, peak_mib, real, say};

const LIMIT: f64 = 5.0;
/// The ways to the service, in milliseconds: the minimum of each, and the maximum of the uniform jitter
/// added. A range of 17 ms has a standard deviation of 5 ms, one of 70 ms has 20 ms.
const WAYS: [(u64, u64, &str); 3] = [(20, 0, "none"), (20, 17, "5 ms"), (50, 70, "20 ms")];
const CHUNK: u64 = 100;

#[tokio::main]
async fn main() {
    let seconds = seconds();
    say(&format!(
        "The binary against the sandbox (sliding second, response after 50 ms) over HTTP, {seconds} s each.\n"
    ));
    say(
        "| arrival jitter | share of the limit | without the first 10 s | throttled in 1,000 | most in one second | CPU | peak memory |",
    );
    say("| --- | --- | --- | --- | --- | --- | --- |");
    for way in WAYS {
        let settings = SandboxSettings {
            request_delay: Duration::from_millis(way.0),
            request_delay_jitter: Duration::from_millis(way.1),
            latency: Duration::from_millis(50),
            ..SandboxSettings::default()
        };
        let sandbox = Sandbox::start(settings).await.expect("the sandbox starts");
        let taken = run(&sandbox, seconds).await;
        say(&format!("| {} | {} | {taken} |", way.2, figures(&sandbox.ledger())));
        sandbox.stop().await;
    }
}

fn seconds() -> u64 {
    let words: Vec<String> = std::env::args().collect();
    let at = words.iter().position(|word| word == "--seconds");
    at.and_then(|at| words.get(at + 1)?.parse().ok()).unwrap_or(60)
}

/// Drains as many jobs as fit into `seconds`. Returns the CPU and memory that the runner used.
async fn run(sandbox: &Sandbox, seconds: u64) -> String {
    let folder = tempfile::tempdir().expect("a folder");
    let mut manifest = String::from("question_id,status\n");
    for job in 0..seconds * 5 * CHUNK {
        let _ = writeln!(manifest, "{SANDBOX_SDKAPPID}-@RBT#DeskDefaultRobot-{job:016},disable");
    }
    fs::write(folder.path().join("jobs.csv"), manifest).expect("written");
    let mut child = deskbatch(folder.path(), &["run", "jobs.csv", "--quiet"])
        .env("DESKBATCH_ENDPOINT", sandbox.endpoint())
        .spawn()
        .expect("the binary starts");
    let clock = SystemClock::new();
    let process = format!("/proc/{}", child.id());
    let mut began = None;
    let mut last = None;
    let status = loop {
        if let Some(status) = child.try_wait().expect("a child") {
            break status;
        }
        if let Some(cpu_s) = cpu_s(Path::new(&process)) {
            last = Some((clock.now(), cpu_s, peak_mib(Path::new(&process))));
            // The import is not part of the measurement.
            if began.is_none() && sandbox.ledger().total > 0 {
                began = last;
            }
        }
        clock.sleep_until(clock.now() + Duration::from_millis(100)).await;
    };
    assert!(status.success(), "the run ended with {status}");
    match (began, last) {
        (Some((from, cpu_from, _)), Some((to, cpu_to, peak))) => {
            let share = (cpu_to - cpu_from) / to.since(from).as_secs_f64();
            format!("{:.2} % of a core | {peak} MiB", share * 100.0)
        }
        _ => "not known | not known".to_owned(),
    }
}

fn figures(ledger: &Ledger) -> String {
    let at = |call: usize| ledger.requests[call].counted.0.as_secs_f64();
    let calls = ledger.requests.len();
    let (first, last) = (at(0), at(calls - 1));
    let share = |from: f64| {
        let within = ledger
            .requests
            .iter()
            .filter(|request| request.code == Some(0) && request.counted.0.as_secs_f64() > from);
        real(within.count()) / (LIMIT * (last - from))
    };
    let refused = ledger.codes.get(&-14).copied().unwrap_or_default();
    let refused = 1e3 * real(usize::try_from(refused).unwrap_or_default()) / real(calls);
    format!(
        "{:.3} | {:.3} | {refused:.1} | {}",
        share(first),
        share(first + 10.0),
        ledger.largest_second
    )
}
