//! The remote API as the runner sees it. So far: the UserSig that proves who calls.

mod usersig;

pub use usersig::{IDENTIFIER_BYTES_MAX, Signer, check_identifier, make_usersig};
