//! The requests in flight: sent, and not settled yet.

use std::sync::Arc;

use tokio::task::JoinSet;

use super::chunk_queue::Chunk;
use crate::desk::{Response, SetStatusRequest, Transport};
use crate::domain::clock::{Clock, Moment};
use crate::limiter::SlotTicket;
use crate::queue::ClaimedRequest;

/// A request that was sent.
#[derive(Debug)]
pub(super) struct InFlightRequest {
    pub(super) claimed: ClaimedRequest,
    pub(super) chunk: Chunk,
    /// Whether an earlier request for any of its jobs may have been applied.
    pub(super) in_doubt: bool,
    pub(super) ticket: SlotTicket,
    pub(super) sent_at: Moment,
    /// The version of its UserSig; see [`super::credentials::Credentials`].
    pub(super) usersig_version: u64,
}

/// A request and its response.
#[derive(Debug)]
pub(super) struct CompletedRequest {
    pub(super) request: InFlightRequest,
    pub(super) response: Response,
    pub(super) at: Moment,
}

/// The requests in flight, each in its own task, which knows only its request.
#[derive(Debug, Default)]
pub(super) struct InFlight {
    tasks: JoinSet<CompletedRequest>,
}

impl InFlight {
    pub(super) fn len(&self) -> usize {
        self.tasks.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }

    pub(super) fn send(
        &mut self,
        transport: &Arc<impl Transport>,
        clock: &impl Clock,
        request: InFlightRequest,
        call: SetStatusRequest,
    ) {
        let (transport, clock) = (Arc::clone(transport), clock.clone());
        self.tasks.spawn(async move {
            let response = transport.send(&call).await;
            let at = clock.now();
            CompletedRequest { request, response, at }
        });
    }

    /// The next completed request; `None` if no request is in flight. Dropping the future loses no response.
    ///
    /// # Panics
    /// When the transport panicked: a bug there must not look like a response.
    pub(super) async fn next(&mut self) -> Option<CompletedRequest> {
        match self.tasks.join_next().await? {
            Ok(completed) => Some(completed),
            Err(e) => std::panic::resume_unwind(e.into_panic()),
        }
    }
}
