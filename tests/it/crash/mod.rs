//! Kills and injected faults: nothing recorded is lost, nothing is sent twice without need.

pub mod faults;
pub mod migration;
#[cfg(target_os = "linux")]
pub mod points;
pub mod soak;
