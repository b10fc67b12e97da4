//! Value types and tables that every other module may use: jobs, codes and verdicts, learned limits, and the
//! clock.
//!
//! Pure except for [`clock::SystemClock`]. Imports only text helpers, so that policies, queue and runner
//! share these types without depending on each other.

pub mod clock;
mod codes;
pub mod conclusions;
pub mod deadline;
pub mod failure_limit;
pub mod job;
pub mod learned;
pub mod plan_digest;
pub mod verdict;
