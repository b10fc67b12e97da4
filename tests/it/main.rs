//! Everything that is tested through the public surface or the binary: one test binary.
