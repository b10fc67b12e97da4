//! deskbatch: a manifest in, every question settled, at the service's pace.

pub mod clock;
pub mod job;
pub mod verdict;
