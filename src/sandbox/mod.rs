//! The remote API on this host, for sandbox runs and tests, with faults on demand.
//!
//! It behaves as the API is documented; where that is unknown, [`SandboxSettings`] chooses. It shares no
//! parsing and no signing code with the client, so that one mistake cannot hide in both; only the table of
//! codes and the clock are common. A pure function (`decide`) decides each response; everything else here
//! carries bytes, waits, or records.
//!
//! It never listens beyond loopback and never shows a key or a UserSig.

mod call;
mod decide;
mod faults;
mod ledger;
mod listener;
mod page;
mod rate;
mod reply;
mod server;
mod service;
mod settings;
mod state;
mod usersig;

pub use call::Command;
pub use faults::{Fault, FaultChance, FaultScript};
pub use ledger::{Ledger, SeenRequest};
pub use server::Sandbox;
pub use service::{ApiRequest, ApiResponse, Service};
pub use settings::{
    AdminCode, Apps, JsonCode, KnownIds, MaxIdsAfter, RateCode, SandboxSettings, UnknownIds, Window,
};
// Not part of the API: tests and the fuzzer call it with arbitrary input.
pub use state::{QuestionState, QuestionStatus};
#[doc(hidden)]
pub use usersig::verify as verify_usersig;

use crate::util::suggest::did_you_mean;

/// The key that signs UserSigs for the sandbox. It is public and protects nothing.
pub const SANDBOX_KEY: &str = "this-key-is-published-and-no-secret-for-deskbatchs-sandbox-alone";

/// The default SDKAppID of a sandbox run.
pub const SANDBOX_SDKAPPID: u64 = 1_400_000_000;

/// The default administrator of the sandbox.
pub const SANDBOX_IDENTIFIER: &str = "administrator";

/// The error for a `word` that is not a `T`; `what` names the type, as `a window`.
fn not_a<T>(what: &str, word: &str) -> String
where
    T: strum::VariantArray + Copy + Into<&'static str>,
{
    let words: Vec<&str> = T::VARIANTS.iter().map(|choice| (*choice).into()).collect();
    let meant = did_you_mean(word, words.iter().copied());
    format!("not {what}{meant}: use {}", words.join(", "))
}

#[cfg(test)]
mod testing;
