//! deskbatch: a manifest in, every question settled, at the service's pace.

pub mod clock;
pub mod desk;
pub mod gate;
pub mod isolate;
pub mod job;
pub mod manifest;
pub mod retry;
pub mod runner;
pub mod sandbox;
pub mod store;
pub mod verdict;
