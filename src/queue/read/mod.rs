//! The reads of the queue, for status, reports and metrics.
//!
//! Nothing here writes. A read sees one committed state, and it neither waits for a run nor makes a run
//! wait. Large tables are read through an index, in pages or in ranges.

pub(in crate::queue) mod approvals;
pub(in crate::queue) mod apps;
pub(in crate::queue) mod batches;
pub(in crate::queue) mod doubts;
pub(in crate::queue) mod learned_limits;
pub(in crate::queue) mod metrics;
pub(in crate::queue) mod records;
pub(in crate::queue) mod report;
pub(in crate::queue) mod request_stats;
pub(in crate::queue) mod row_helpers;
pub(in crate::queue) mod sessions;
pub(in crate::queue) mod status;
pub(in crate::queue) mod unfinished;
