//! Helpers that know nothing of this program's domain.

pub(crate) mod atomic_file;
pub mod escape;
pub(crate) mod file_mark;
pub(crate) mod hex;
pub mod suggest;
