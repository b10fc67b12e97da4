//! The remote API on this machine, for sandbox runs and tests, with faults on demand.
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
    AdminCode, Apps, IdsMaxFall, JsonCode, KnownIds, RateCode, SandboxSettings, UnknownIds, Window,
};
// Not part of the API: tests and the fuzzer call it with arbitrary input.
pub use state::{QuestionState, QuestionStatus};
#[doc(hidden)]
pub use usersig::verify as verify_usersig;

/// The key that signs UserSigs for the sandbox. It is public and protects nothing.
pub const SANDBOX_KEY: &str = "this-key-is-published-and-no-secret-for-deskbatchs-sandbox-alone";

/// The default SDKAppID of a sandbox run.
pub const SANDBOX_SDKAPPID: u64 = 1_400_000_000;

/// The default administrator of the sandbox.
pub const SANDBOX_IDENTIFIER: &str = "administrator";

/// Defines an enum whose variants a user writes as words.
macro_rules! string_enum {
    (
        $(#[$outer:meta])*
        $what:literal enum $name:ident { $($(#[$inner:meta])* $variant:ident = $word:literal,)+ }
    ) => {
        $(#[$outer])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $($(#[$inner])* $variant,)+ }

        impl $name {
            /// Every choice, the default first where there is one.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.name())
            }
        }

        impl std::str::FromStr for $name {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                Self::ALL.iter().copied().find(|choice| choice.name() == text).ok_or_else(|| {
                    let words: Vec<&str> = Self::ALL.iter().map(|choice| choice.name()).collect();
                    let meant = crate::util::suggest::did_you_mean(text, words.iter().copied());
                    format!("not {}: {meant}use {}", $what, words.join(", "))
                })
            }
        }
    };
}
use string_enum;

#[cfg(test)]
mod testing;
