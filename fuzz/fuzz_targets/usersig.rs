//! A UserSig, as the sandbox checks it.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| deskbatch_fuzz::targets::usersig(bytes));
