//! Value types and pure functions that policies, queue and commands share. No I/O.

pub mod plan_digest;
