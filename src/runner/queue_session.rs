//! The queue as one run writes it: an open transaction, and the events that wait for its commit.
//!
//! A listener receives an event only after the commit. An event of a transaction that was rolled back is
//! dropped with it.

use super::event::{Event, Events};
use crate::queue::{Queue, QueueError, WriteTransaction};

#[derive(Debug)]
pub(super) struct QueueSession {
    pub(super) queue: Queue,
    /// Open from the first write until [`QueueSession::commit`].
    pub(super) transaction: WriteTransaction,
    events: Events,
    pending_events: Vec<Event>,
}

impl QueueSession {
    pub(super) fn new(queue: Queue, events: Events) -> Self {
        Self { transaction: queue.begin_transaction(), queue, events, pending_events: Vec::new() }
    }

    /// Emits `event` once the open transaction is durable.
    pub(super) fn emit_after_commit(&mut self, event: Event) {
        self.pending_events.push(event);
    }

    /// Emits `event` now: it does not depend on the open transaction.
    pub(super) fn emit(&self, event: Event) {
        self.events.send(event);
    }

    /// Makes the open transaction durable, then emits its events.
    pub(super) async fn commit(&mut self) -> Result<(), QueueError> {
        let pending = std::mem::take(&mut self.pending_events);
        if self.transaction.is_open() {
            self.transaction.commit().await?;
            for event in pending {
                self.events.send(event);
            }
        }
        Ok(())
    }
}
