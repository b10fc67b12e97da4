//! The body of an answer.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| deskbatch_fuzz::targets::response(bytes));
