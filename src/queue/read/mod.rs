//! Reads of the queue for status, reports and metrics. Nothing here writes.

pub(in crate::queue) mod metrics;
pub(in crate::queue) mod records;
pub(in crate::queue) mod report;
pub(in crate::queue) mod request_stats;
pub(in crate::queue) mod row_helpers;
pub(in crate::queue) mod sessions;
pub(in crate::queue) mod status;
pub(in crate::queue) mod unfinished;
