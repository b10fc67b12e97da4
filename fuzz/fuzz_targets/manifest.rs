//! A manifest.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| deskbatch_fuzz::targets::manifest(bytes));
