//! The SQLite engine: opening the file, its locks, and every statement that writes.
//!
//! Each module owns one duty, such as the claim, settling or pruning, with the statements for it. The
//! modules in `read` have the statements that only read.

pub(in crate::queue) mod app_lock;
pub(in crate::queue) mod approvals;
pub(in crate::queue) mod approved_jobs;
pub(in crate::queue) mod batches;
pub(in crate::queue) mod change_detector;
pub(in crate::queue) mod claim;
pub(in crate::queue) mod claim_scope;
pub(in crate::queue) mod closing;
pub(in crate::queue) mod conclude;
pub(in crate::queue) mod connection;
pub(in crate::queue) mod disk_full;
pub(in crate::queue) mod doubts;
pub(in crate::queue) mod endpoint;
pub(in crate::queue) mod file_kind;
pub(in crate::queue) mod hard_links;
pub(in crate::queue) mod import;
pub(in crate::queue) mod integrity;
pub(in crate::queue) mod job_counters;
pub(in crate::queue) mod learned_limits;
pub(in crate::queue) mod lock_file;
pub(in crate::queue) mod lost_log;
pub(in crate::queue) mod open;
pub(in crate::queue) mod prune;
#[cfg(test)]
mod query_plan_tests;
pub(in crate::queue) mod recovery;
pub(in crate::queue) mod run_lock;
pub(in crate::queue) mod runs;
pub(in crate::queue) mod schema;
pub(in crate::queue) mod settle;
pub(in crate::queue) mod superseded_in_flight;
pub(in crate::queue) mod transaction;
pub(in crate::queue) mod wait_reason;
