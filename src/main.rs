//! The command line of deskbatch.

fn main() {}
