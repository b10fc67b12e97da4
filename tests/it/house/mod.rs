//! Rules of the repository: architecture, sizes, dependencies, packaging, fuzz targets.

pub mod architecture;
pub mod dependencies;
pub mod fuzz_targets;
pub mod fuzzing;
pub mod packaging;
mod words;
