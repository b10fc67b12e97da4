//! The output of `status --json`.

use serde::Serialize;

use super::data::StatusData;
use crate::config::Settings;
use crate::queue::{AppChunkSize, AppRate, BatchSummary, Holder, RunSummary};

/// `schema` changes when a key is removed or changes its meaning; new keys may be added without
/// that.
#[derive(Serialize)]
struct Json<'a> {
    schema: u32,
    database: String,
    #[serde(flatten)]
    jobs: JsonJobs,
    #[serde(flatten)]
    requests: JsonRequests,
    #[serde(flatten)]
    queue: JsonQueue,
    #[serde(flatten)]
    eta: JsonEta,
    running: Option<&'a Holder>,
    last_run: Option<&'a RunSummary>,
    batches: &'a [BatchSummary],
    #[serde(rename = "paces")]
    learned_rates: Vec<JsonRate<'a>>,
    #[serde(rename = "sizes")]
    learned_sizes: Vec<JsonSize<'a>>,
}

#[derive(Serialize)]
struct JsonJobs {
    pending: u64,
    in_flight: u64,
    succeeded: u64,
    failed: u64,
    cancelled: u64,
    superseded: u64,
    total: u64,
}

#[derive(Serialize)]
struct JsonRequests {
    requests: u64,
    throttled: u64,
    orphaned: u64,
    responses_lost: u64,
}

#[derive(Serialize)]
struct JsonQueue {
    in_doubt: u64,
    succeeded_in_doubt: u64,
    file_bytes: u64,
    pruned_ms: Option<i64>,
}

#[derive(Serialize)]
struct JsonEta {
    #[serde(rename = "left_requests_min")]
    requests_min: u64,
    #[serde(rename = "left_requests_max")]
    requests_max: u64,
    #[serde(rename = "left_s_min")]
    s_min: u64,
    #[serde(rename = "left_s_max")]
    s_max: u64,
}

#[derive(Serialize)]
struct JsonRate<'a> {
    sdkappid: u64,
    library: &'a str,
    rate: f64,
    refused_rate: Option<f64>,
    spread_ms: f64,
    learned_ms: i64,
}

#[derive(Serialize)]
struct JsonSize<'a> {
    sdkappid: u64,
    library: &'a str,
    passed: usize,
    too_many: usize,
    learned_ms: i64,
}

/// One JSON object on one line.
pub(super) fn json(settings: &Settings, data: &StatusData) -> String {
    let StatusData { status, running, batches, learned_rates, learned_sizes } = data;
    let counts = &status.counts;
    let eta = data.eta(settings, counts.open());
    let json = Json {
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
            requests_min: *eta.requests.start(),
            requests_max: *eta.requests.end(),
            s_min: eta.time.start().as_secs(),
            s_max: eta.time.end().as_secs() + u64::from(eta.time.end().subsec_nanos() > 0),
        },
        running: running.as_ref(),
        last_run: status.last_run.as_ref(),
        batches,
        learned_rates: learned_rates.iter().map(json_rate).collect(),
        learned_sizes: learned_sizes.iter().map(json_size).collect(),
    };
    let mut text = serde_json::to_string(&json).unwrap_or_default();
    text.push('\n');
    text
}

fn json_rate(kept: &AppRate) -> JsonRate<'_> {
    JsonRate {
        sdkappid: kept.app.sdkappid,
        library: kept.app.library.name(),
        rate: kept.learned.rate,
        refused_rate: kept.learned.refused_rate,
        spread_ms: kept.learned.arrival_jitter_ms,
        learned_ms: kept.learned_ms,
    }
}

fn json_size(kept: &AppChunkSize) -> JsonSize<'_> {
    JsonSize {
        sdkappid: kept.app.sdkappid,
        library: kept.app.library.name(),
        passed: kept.limit.accepted,
        too_many: kept.limit.rejected,
        learned_ms: kept.learned_ms,
    }
}
