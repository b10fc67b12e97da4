//! Helpers without knowledge of the program's domain.
//!
//! They may use the standard library and crates, but no other module of this program.

pub(crate) mod atomic_file;
pub mod count;
pub mod escape;
pub(crate) mod file_mark;
pub(crate) mod hex;
pub mod suggest;
