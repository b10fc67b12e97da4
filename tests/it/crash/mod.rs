//! Kills and injected faults: no recorded outcome is lost, and no request is repeated without need.

pub mod faults;
pub mod migration;
#[cfg(target_os = "linux")]
pub mod points;
pub mod soak;
