//! Prometheus metrics: values, the file, and the rules in contrib.

pub mod contrib;
pub mod file;
pub mod values;
