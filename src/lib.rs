//! deskbatch: a manifest in, every question settled, at the service's pace.

pub mod cli;
pub mod clock;
pub mod commands;
pub mod config;
pub mod desk;
pub mod gate;
pub mod isolate;
pub mod job;
pub mod manifest;
pub mod output;
pub mod report;
pub mod retry;
pub mod runner;
pub mod sandbox;
pub mod store;
pub mod verdict;
