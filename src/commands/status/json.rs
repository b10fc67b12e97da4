//! The output of `status --json`.

use serde::Serialize;

use super::data::StatusData;
use crate::config::Settings;
use crate::output::json_line;
use crate::queue::{AppChunkSize, AppRate, BatchSummary, Holder, RunSummary};

/// The output of `deskbatch status --json`.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(in crate::commands) struct StatusJson<'a> {
    /// Version of this format. It changes when a field is removed or changes its meaning.
    schema: u32,
    /// Path of the queue file.
    database: String,
    #[serde(flatten)]
    jobs: JsonJobs,
    #[serde(flatten)]
    requests: JsonRequests,
    #[serde(flatten)]
    queue: JsonQueue,
    #[serde(flatten)]
    eta: JsonEta,
    /// The run that holds the lock; null if no run is active.
    running: Option<&'a Holder>,
    /// The newest run; null before the first one.
    last_run: Option<&'a RunSummary>,
    /// All batches, oldest first.
    batches: &'a [BatchSummary],
    /// The measured rate of each app.
    learned_rates: Vec<JsonRate<'a>>,
    /// The measured chunk size of each app whose service rejected a chunk as too large.
    learned_chunk_sizes: Vec<JsonSize<'a>>,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct JsonJobs {
    /// Jobs that were not sent yet, or that the run sends again.
    pending: u64,
    /// Jobs in a request without a recorded response.
    in_flight: u64,
    /// Jobs that the service applied.
    succeeded: u64,
    /// Jobs that the service rejected.
    failed: u64,
    /// Jobs that the command `cancel` cancelled.
    cancelled: u64,
    /// Jobs that a later import replaced before they had an outcome.
    superseded: u64,
    /// All jobs.
    total: u64,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct JsonRequests {
    /// All requests.
    requests: u64,
    /// Requests that the service throttled.
    throttled: u64,
    /// Requests whose run died before their response was recorded.
    orphaned: u64,
    /// Requests whose response was lost.
    responses_lost: u64,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct JsonQueue {
    /// Jobs in doubt: a request may have changed the question, and no later response says whether it did.
    in_doubt: u64,
    /// Deletions that had been applied already when sent again after a lost response.
    succeeded_in_doubt: u64,
    /// Size of the queue file with its log, in bytes.
    file_bytes: u64,
    /// Time of the last prune, in UTC milliseconds since 1970; null if there was none.
    pruned_ms: Option<i64>,
}

#[allow(clippy::struct_field_names, reason = "they are the keys of the JSON, flattened")]
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct JsonEta {
    /// Lower end of the estimated remaining requests.
    remaining_requests_min: u64,
    /// Upper end of the estimated remaining requests.
    remaining_requests_max: u64,
    /// Lower end of the ETA, in seconds.
    remaining_s_min: u64,
    /// Upper end of the ETA, in seconds.
    remaining_s_max: u64,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct JsonRate<'a> {
    /// SDKAppID of the app.
    sdkappid: u64,
    /// Library of the app: chitchat or faq.
    library: &'a str,
    /// Requests per second that the service accepted.
    rate: f64,
    /// Rate at which the service throttled; null if it never did.
    throttled_rate: Option<f64>,
    /// Standard deviation of the time from sending a request to its being counted, in milliseconds.
    arrival_jitter_ms: f64,
    /// Time of the measurement, in UTC milliseconds since 1970.
    learned_ms: i64,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct JsonSize<'a> {
    /// SDKAppID of the app.
    sdkappid: u64,
    /// Library of the app: chitchat or faq.
    library: &'a str,
    /// Largest accepted chunk, in questions per request.
    accepted: usize,
    /// Smallest chunk that was rejected as too large, in questions per request.
    rejected: usize,
    /// Time of the measurement, in UTC milliseconds since 1970.
    learned_ms: i64,
}

/// One JSON object on one line.
pub(super) fn json(settings: &Settings, data: &StatusData) -> String {
    let StatusData { status, running, batches, learned_rates, learned_sizes } = data;
    let counts = &status.counts;
    let eta = data.eta(settings, counts.open());
    let json = StatusJson {
        schema: 1,
        database: settings.database.to_string_lossy().into_owned(),
        jobs: JsonJobs {
            pending: counts.pending,
            in_flight: counts.in_flight,
            succeeded: counts.succeeded,
            failed: counts.failed,
            cancelled: counts.cancelled,
            superseded: counts.superseded,
            total: counts.total(),
        },
        requests: JsonRequests {
            requests: status.requests,
            throttled: status.throttled,
            orphaned: status.orphaned,
            responses_lost: status.responses_lost,
        },
        queue: JsonQueue {
            in_doubt: status.in_doubt,
            succeeded_in_doubt: status.succeeded_in_doubt,
            file_bytes: status.file_bytes,
            pruned_ms: status.pruned_ms,
        },
        eta: JsonEta {
            remaining_requests_min: *eta.requests.start(),
            remaining_requests_max: *eta.requests.end(),
            remaining_s_min: eta.time.start().as_secs(),
            remaining_s_max: eta.time.end().as_secs()
                + u64::from(eta.time.end().subsec_nanos() > 0),
        },
        running: running.as_ref(),
        last_run: status.last_run.as_ref(),
        batches,
        learned_rates: learned_rates.iter().map(json_rate).collect(),
        learned_chunk_sizes: learned_sizes.iter().map(json_size).collect(),
    };
    json_line(&json)
}

fn json_rate(kept: &AppRate) -> JsonRate<'_> {
    JsonRate {
        sdkappid: kept.app.sdkappid,
        library: kept.app.library.name(),
        rate: kept.learned.rate,
        throttled_rate: kept.learned.throttled_rate,
        arrival_jitter_ms: kept.learned.arrival_jitter_ms,
        learned_ms: kept.learned_ms,
    }
}

fn json_size(kept: &AppChunkSize) -> JsonSize<'_> {
    JsonSize {
        sdkappid: kept.app.sdkappid,
        library: kept.app.library.name(),
        accepted: kept.limit.accepted,
        rejected: kept.limit.rejected,
        learned_ms: kept.learned_ms,
    }
}
