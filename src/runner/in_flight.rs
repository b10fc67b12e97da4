//! A request on its way, and back.

use tokio::task::JoinError;

use super::chunk_queue::Chunk;
use crate::desk::Reply;
use crate::domain::clock::Moment;
use crate::limiter::Ticket;
use crate::store::Carried;

/// A request on its way.
#[derive(Debug)]
pub(super) struct Flight {
    pub(super) carried: Carried,
    pub(super) chunk: Chunk,
    /// Whether any of its jobs was sent before without a known answer.
    pub(super) in_doubt: bool,
    pub(super) ticket: Ticket,
    pub(super) left: Moment,
    /// How many renewals its UserSig had seen.
    pub(super) renewals: u64,
}

/// A request that is back.
#[derive(Debug)]
pub(super) struct Landed {
    pub(super) flight: Flight,
    pub(super) reply: Reply,
    pub(super) at: Moment,
}

/// A transport that panics is a bug that must not look like an answer.
pub(super) fn unwound(landed: Result<Landed, JoinError>) -> Landed {
    match landed {
        Ok(landed) => landed,
        Err(e) => std::panic::resume_unwind(e.into_panic()),
    }
}
