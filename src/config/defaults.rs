//! The defaults of settings. The help of each setting names its default too; a test compares the two.

use super::{DAY_S, RATE_DOCUMENTED};

/// The queue file.
pub(super) const DATABASE: &str = "deskbatch.db";

/// Requests per second.
pub(super) const RATE: f64 = RATE_DOCUMENTED;

/// The most questions in a request.
pub(super) const CHUNK: u32 = 100;

/// The most requests in flight.
pub(super) const IN_FLIGHT: u32 = 32;

/// Attempts of a chunk.
pub(super) const ATTEMPTS: u32 = 4;

/// Rejections in a row after which the runner checks whether the app is alive.
pub(super) const REJECTIONS_MAX: u32 = 8;

/// The longest outage, in seconds.
pub(super) const OUTAGE_S: u64 = 600;

/// The grace period for requests in flight, in seconds.
pub(super) const GRACE_S: u64 = 10;

/// The connection timeout, in milliseconds.
pub(super) const CONNECT_TIMEOUT_MS: u64 = 3_000;

/// The timeout of a call, in milliseconds.
pub(super) const TIMEOUT_MS: u64 = 10_000;

/// The lifetime of a generated UserSig, in seconds.
pub(super) const USERSIG_LIFETIME_S: u64 = DAY_S;

/// The log filter.
pub(super) const LOG: &str = "warn";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::settings;

    #[test]
    fn help_names_the_defaults() {
        let settings = settings();
        for (key, default) in [
            ("database", DATABASE.to_owned()),
            ("rate", RATE.to_string()),
            ("chunk", CHUNK.to_string()),
            ("in_flight", IN_FLIGHT.to_string()),
            ("attempts", ATTEMPTS.to_string()),
            ("rejections_max", REJECTIONS_MAX.to_string()),
            ("outage_s", OUTAGE_S.to_string()),
            ("grace_s", GRACE_S.to_string()),
            ("connect_timeout_ms", CONNECT_TIMEOUT_MS.to_string()),
            ("timeout_ms", TIMEOUT_MS.to_string()),
            ("usersig_lifetime_s", USERSIG_LIFETIME_S.to_string()),
            ("log", LOG.to_owned()),
        ] {
            let setting = settings.iter().find(|setting| setting.key == key).unwrap();
            assert_eq!(setting.default.as_deref(), Some(default.as_str()), "{key}");
        }
    }
}
