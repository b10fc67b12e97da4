//! The UserSig of a run: when it is renewed, and when another renewal cannot help.

use std::time::Duration;

use secrecy::SecretString;

use crate::desk::Signer;
use crate::domain::clock::Moment;

/// A UserSig that is rejected this soon after its renewal, with no request evaluated in between, ends the
/// run. A later rejection does not: the UserSig may have expired while requests failed for other reasons.
const RENEWAL_TRIAL: Duration = Duration::from_mins(1);

/// The result of a renewal after a rejected UserSig.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Renewal {
    /// It was already renewed when the response arrived.
    AlreadyRenewed,
    Renewed,
    /// No key to sign with is set, or the last renewal did not help either.
    Impossible,
}

#[derive(Debug)]
pub(super) struct Credentials {
    signer: Signer,
    /// The number of renewals.
    version: u64,
    /// The time of the last renewal, until a request with its UserSig is evaluated.
    unproven_since: Option<Moment>,
}

impl Credentials {
    pub(super) fn new(signer: Signer) -> Self {
        Self { signer, version: 0, unproven_since: None }
    }

    /// The UserSig for a request at `now_ms`.
    pub(super) fn usersig(&mut self, now_ms: i64) -> SecretString {
        self.signer.current(now_ms)
    }

    /// The version of the UserSig for the next request; it grows with each renewal.
    pub(super) fn version(&self) -> u64 {
        self.version
    }

    /// Records that the service evaluated a request with the UserSig of `version`.
    pub(super) fn on_evaluated(&mut self, version: u64) {
        if version == self.version {
            self.unproven_since = None;
        }
    }

    /// Handles a rejection of the UserSig of `version`.
    pub(super) fn renew_after_rejection(
        &mut self,
        version: u64,
        now: Moment,
        now_ms: i64,
    ) -> Renewal {
        if version < self.version {
            return Renewal::AlreadyRenewed;
        }
        let is_on_trial = self.unproven_since.is_some_and(|at| now.since(at) < RENEWAL_TRIAL);
        if is_on_trial || !self.signer.renew(now_ms) {
            return Renewal::Impossible;
        }
        tracing::info!("UserSig renewed");
        self.version += 1;
        self.unproven_since = Some(now);
        Renewal::Renewed
    }

    /// Handles a read that was rejected for its UserSig: `true` if a new UserSig is available.
    pub(super) fn renew_for_read(&mut self, now_ms: i64) -> bool {
        self.signer.renew(now_ms)
    }
}
