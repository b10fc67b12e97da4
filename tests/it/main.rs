//! All tests through the public interface or the binary, in one test binary.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod browser;
mod cli;
mod crash;
mod desk;
mod docs;
mod house;
mod limiter;
mod metrics;
mod queue;
mod runner;
mod support;
