//! The metrics: names, help texts and values.
//!
//! Jobs are gauges, since `retry` and `prune` decrease them. Requests are counters, since pruning keeps
//! their counts.

use super::RunOutcome;
use super::exposition::{Family, Labels, Value, seconds};
use crate::domain::job::{JobState, TargetStatus};
use crate::domain::verdict::{Class, explain};
use crate::queue::{AppMetrics, LATENCY_BOUNDS_MS, QueueMetrics};

/// Every verdict of a request, as the queue names it.
const VERDICTS: [&str; 7] =
    ["applied", "throttled", "transient", "renew", "rejected", "stop", "orphaned"];

/// The label of an undocumented code, and of a failure without a code.
const OTHER: &str = "other";

/// The queue's metrics, in the order of docs/metrics.md.
pub(super) fn of_queue(figures: &QueueMetrics, rate: f64) -> Vec<Family> {
    let mut families = about_the_file(figures, rate);
    families.extend(about_jobs(&figures.apps));
    families.extend(about_requests(&figures.apps));
    families.extend(about_runs(&figures.apps));
    families
}

/// All families, without values.
pub(super) fn all() -> Vec<Family> {
    let nothing = QueueMetrics { apps: Vec::new(), file_bytes: None, log_bytes: 0 };
    let mut families = of_queue(&nothing, 0.0);
    families.extend(of_outcome(&RunOutcome::default()));
    families
}

fn about_the_file(figures: &QueueMetrics, rate: f64) -> Vec<Family> {
    let mut build = Family::gauge(
        "deskbatch_build_info",
        "Always 1; the label is the version of deskbatch that wrote the metrics.",
    );
    build.add(vec![("version", env!("CARGO_PKG_VERSION").to_owned())], Value::Whole(1));
    let mut bytes = Family::gauge(
        "deskbatch_queue_file_bytes",
        "Size of the queue file and of its write-ahead log, in bytes.",
    );
    if let Some(file_bytes) = figures.file_bytes {
        for (file, size) in [("queue", file_bytes), ("log", figures.log_bytes)] {
            bytes.add(vec![("file", file.to_owned())], Value::Whole(size));
        }
    }
    let mut limit = Family::gauge(
        "deskbatch_rate_limit_requests_per_second",
        "The configured rate limit in requests per second, for each SDKAppID and library.",
    );
    limit.add(Vec::new(), Value::Real(rate));
    let mut learned = Family::gauge(
        "deskbatch_learned_rate_requests_per_second",
        "The learned rate: the requests per second that the service has accepted.",
    );
    for of_app in &figures.apps {
        if let Some(rate) = of_app.learned_rate {
            learned.add(labels(of_app), Value::Real(rate));
        }
    }
    vec![build, bytes, limit, learned]
}

fn about_jobs(apps: &[AppMetrics]) -> Vec<Family> {
    let mut jobs =
        Family::gauge("deskbatch_jobs", "Jobs in the queue, by target status and state.");
    let mut in_doubt = Family::gauge(
        "deskbatch_jobs_in_doubt",
        "Jobs in doubt: sent, and it is unknown whether they were applied.",
    );
    let mut failed = Family::gauge(
        "deskbatch_failed_jobs",
        "Failed jobs, by the error code of the service; other: an undocumented code, or none.",
    );
    let mut batches = Family::gauge(
        "deskbatch_unfinished_batches",
        "Batches with a job that is pending or in flight.",
    );
    let mut oldest = Family::gauge(
        "deskbatch_oldest_unfinished_job_timestamp_seconds",
        "When the oldest job that is pending or in flight was imported, in Unix seconds.",
    );
    for of_app in apps {
        for (status, counts) in TargetStatus::ALL.into_iter().zip(of_app.jobs) {
            for (state, count) in JobState::ALL.into_iter().zip(counts) {
                let more = [("status", status.name()), ("state", state.name())];
                jobs.add(with(of_app, &more), Value::Whole(count));
            }
        }
        in_doubt.add(labels(of_app), Value::Whole(of_app.in_doubt));
        for (code, count) in by_known_code(of_app) {
            failed.add(with(of_app, &[("code", &code)]), Value::Whole(count));
        }
        batches.add(labels(of_app), Value::Whole(of_app.unfinished_batches));
        if let Some(since_ms) = of_app.oldest_open_ms {
            oldest.add(labels(of_app), Value::Real(seconds(since_ms)));
        }
    }
    vec![jobs, in_doubt, failed, batches, oldest]
}

/// Failed jobs by code, undocumented codes as one.
fn by_known_code(of_app: &AppMetrics) -> Vec<(String, u64)> {
    let known = |code: i64| explain(code).class != Class::Unknown;
    let mut by_code = Vec::new();
    let mut other = 0;
    for (code, count) in &of_app.failed {
        match code.filter(|code| known(*code)) {
            Some(code) => by_code.push((code.to_string(), *count)),
            None => other += count,
        }
    }
    if other > 0 {
        by_code.push((OTHER.to_owned(), other));
    }
    by_code
}

fn about_requests(apps: &[AppMetrics]) -> Vec<Family> {
    let mut requests = Family::counter(
        "deskbatch_requests",
        "Settled requests, by the verdict on their response.",
    );
    let mut carried = Family::counter(
        "deskbatch_request_jobs",
        "Jobs in settled requests; a job may be in several requests.",
    );
    let mut in_flight = Family::gauge(
        "deskbatch_requests_in_flight",
        "Requests that are not settled: in flight, or lost with a run that died.",
    );
    let mut duration = Family::histogram(
        "deskbatch_request_duration_seconds",
        "Time from sending a request to its response or its timeout, in seconds.",
    );
    for of_app in apps {
        for verdict in VERDICTS {
            let of_verdict = of_app.requests.get(verdict).copied().unwrap_or_default();
            let labels = || with(of_app, &[("verdict", verdict)]);
            requests.add(labels(), Value::Count(of_verdict.requests));
            carried.add(labels(), Value::Count(of_verdict.jobs));
        }
        in_flight.add(labels(of_app), Value::Whole(of_app.in_flight));
        duration.add(labels(of_app), latency(of_app));
    }
    vec![requests, carried, in_flight, duration]
}

fn latency(of_app: &AppMetrics) -> Value {
    let latency = &of_app.latency;
    let mut buckets = Vec::new();
    let mut after = 0;
    // Counts under a bound of an older version belong to the next larger bound.
    for bound in LATENCY_BOUNDS_MS.into_iter().chain([i64::MAX]) {
        let count = latency.by_bound.range(after + 1..=bound).map(|(_, count)| count).sum();
        let le = if bound == i64::MAX { f64::INFINITY } else { seconds(bound) };
        buckets.push((le, count));
        after = bound;
    }
    let sum_ms = i64::try_from(latency.sum_ms).unwrap_or(i64::MAX);
    Value::Histogram(seconds(sum_ms), buckets)
}

fn about_runs(apps: &[AppMetrics]) -> Vec<Family> {
    let mut active = Family::gauge(
        "deskbatch_run_active",
        "1 while the latest run has started and its end is not recorded, else 0.",
    );
    let mut start = Family::gauge(
        "deskbatch_last_run_start_timestamp_seconds",
        "When the latest run started, in Unix seconds.",
    );
    let mut end = Family::gauge(
        "deskbatch_last_run_end_timestamp_seconds",
        "When the latest run ended, in Unix seconds; absent while it is active.",
    );
    let mut ending = Family::gauge(
        "deskbatch_last_run_ending",
        "Always 1; the label is how the latest run ended; absent while it is active.",
    );
    let mut response = Family::gauge(
        "deskbatch_last_response_timestamp_seconds",
        "When a request of the latest run was last settled, in Unix seconds.",
    );
    for of_app in apps {
        let run = of_app.last_run.as_ref();
        let is_running = run.is_some_and(|run| run.ending.is_none());
        active.add(labels(of_app), Value::Whole(u64::from(is_running)));
        let Some(run) = run else { continue };
        start.add(labels(of_app), Value::Real(seconds(run.started_ms)));
        if let Some(finished_ms) = run.finished_ms {
            end.add(labels(of_app), Value::Real(seconds(finished_ms)));
        }
        if let Some(how) = &run.ending {
            ending.add(with(of_app, &[("ending", how)]), Value::Whole(1));
        }
        if let Some(responded_ms) = run.responded_ms {
            response.add(labels(of_app), Value::Real(seconds(responded_ms)));
        }
    }
    vec![active, start, end, ending, response]
}

/// The outcome of the last run. [`RunOutcome::read`] relies on the order.
pub(super) fn of_outcome(outcome: &RunOutcome) -> Vec<Family> {
    let mut code = Family::gauge(
        "deskbatch_last_run_exit_code",
        "The exit code of the last deskbatch run, without runs that another run locked out.",
    );
    let mut at = Family::gauge(
        "deskbatch_last_run_exit_timestamp_seconds",
        "When the run with this exit code ended, in Unix seconds.",
    );
    let mut success = Family::gauge(
        "deskbatch_last_success_timestamp_seconds",
        "When a deskbatch run last ended with exit code 0, in Unix seconds.",
    );
    if let Some((last, at_ms)) = outcome.last {
        code.add(Vec::new(), Value::Whole(u64::from(last)));
        at.add(Vec::new(), Value::Real(seconds(at_ms)));
    }
    if let Some(success_ms) = outcome.success_ms {
        success.add(Vec::new(), Value::Real(seconds(success_ms)));
    }
    vec![code, at, success]
}

/// The labels of an app.
fn labels(of_app: &AppMetrics) -> Labels {
    with(of_app, &[])
}

fn with(of_app: &AppMetrics, more: &[(&'static str, &str)]) -> Labels {
    let app = of_app.app;
    let mut labels =
        vec![("sdkappid", app.sdkappid.to_string()), ("library", app.library.name().to_owned())];
    labels.extend(more.iter().map(|(name, value)| (*name, (*value).to_owned())));
    labels
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::verdict::Verdict;

    #[test]
    fn every_verdict_has_a_series() {
        use Verdict::{Applied, Rejected, Renew, Stop, Throttled, Transient};
        for verdict in [Applied, Throttled, Transient, Renew, Rejected, Stop] {
            assert!(VERDICTS.contains(&verdict.name()), "{verdict}");
        }
    }
}
