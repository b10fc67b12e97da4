//! The bodies of the fuzz targets, which deskbatch's own tests run too.

#[path = "../../tests/it/house/fuzz_targets.rs"]
pub mod targets;
