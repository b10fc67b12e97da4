//! Value types and tables that every other module may use: jobs, codes and verdicts, what a run has
//! learned, and the clock.
//!
//! Pure but for [`clock::SystemClock`]. Imports nothing but text helpers, so that policies, queue and
//! runner share these types without knowing each other.

pub mod clock;
mod codes;
pub mod conclusions;
pub mod deadline;
pub mod failure_limit;
pub mod job;
pub mod learned;
pub mod plan_digest;
pub mod verdict;
