//! Shared test helpers: places, queues, services, browsers.

pub mod approvals;
pub mod auto_commit;
pub mod binary;
pub mod browser;
pub mod counters;
#[cfg(target_os = "linux")]
pub mod crash;
pub mod docs;
pub mod engine;
pub mod events;
pub mod lease;
pub mod manifest;
pub mod metrics;
pub mod migration;
pub mod place;
pub mod queue;
pub mod scale;
pub mod service;
pub mod terminal;
