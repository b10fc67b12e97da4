//! The page's changes as server-sent events: changed sections, read errors, and the end.
//!
//! A client gets only what changed after the generation it has seen. A slow client skips to the newest
//! state, so memory per client is bounded.

use std::collections::VecDeque;
use std::convert::Infallible;

use axum::response::sse::Event as Sent;
use futures_util::{Stream, StreamExt as _};
use serde_json::json;
use tokio::sync::{OwnedSemaphorePermit, watch};

use super::cache::PageState;

/// How long a browser waits before it reconnects.
const RETRY: std::time::Duration = std::time::Duration::from_secs(2);

/// A client of the stream.
struct Client {
    states: watch::Receiver<PageState>,
    /// The newest generation that was sent.
    seen: u64,
    /// Whether any state was sent, and the error that was sent last.
    has_sent: bool,
    error: Option<String>,
    ended: bool,
    /// Limits the number of clients.
    _permit: OwnedSemaphorePermit,
}

/// The events for a client that has seen generation `seen`. States are not queued: a slow client skips
/// to the newest one.
pub(super) fn events(
    states: watch::Receiver<PageState>,
    seen: u64,
    permit: OwnedSemaphorePermit,
) -> impl Stream<Item = Result<Sent, Infallible>> + Send {
    let client =
        Client { states, seen, has_sent: false, error: None, ended: false, _permit: permit };
    futures_util::stream::unfold(client, async |mut client| {
        if client.ended {
            return None;
        }
        if client.has_sent && client.states.changed().await.is_err() {
            return None;
        }
        let page = client.states.borrow_and_update().clone();
        let batch = client.changes(&page);
        Some((futures_util::stream::iter(batch.into_iter().map(Ok)), client))
    })
    .flatten()
}

impl Client {
    /// The events that bring the client up to `page`.
    fn changes(&mut self, page: &PageState) -> VecDeque<Sent> {
        let mut events = VecDeque::new();
        for part in page.sections.iter().filter(|part| part.since > self.seen) {
            let data = json!({ "id": part.section.id, "html": part.section.html });
            events.push_back(Sent::default().event("section").data(data.to_string()));
        }
        self.seen = self.seen.max(page.generation);
        if !self.has_sent || self.error != page.error {
            let event = match &page.error {
                None => Sent::default().event("live").data("live"),
                // A line break would end the field.
                Some(error) => {
                    Sent::default().event("read-error").data(error.replace(['\n', '\r'], " "))
                }
            };
            events.push_back(event.retry(RETRY));
            self.has_sent = true;
            self.error.clone_from(&page.error);
        }
        if let Some(message) = page.ended {
            events.push_back(Sent::default().event("over").data(message));
            self.ended = true;
        }
        // Only the last event has the id: a client that loses the connection earlier gets all again.
        if let Some(last) = events.pop_back() {
            events.push_back(last.id(page.generation.to_string()));
        }
        events
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use axum::body::to_bytes;
    use axum::response::IntoResponse as _;
    use axum::response::sse::Sse;
    use tokio::sync::Semaphore;

    use super::*;
    use crate::dashboard::cache::VersionedSection;
    use crate::report::html::Section;

    /// All events of an ended page for a client that has seen `seen`.
    async fn sent(seen: u64) -> String {
        let section = |id, since| VersionedSection {
            section: Arc::new(Section { id, html: format!("<p>{id}") }),
            since,
        };
        let sections = vec![section("a", 7), section("b", 9), section("c", 9)];
        let ended = Some("this is how it ended");
        let page = PageState { generation: 9, sections, ended, ..PageState::default() };
        let permit = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
        let (_states, watching) = watch::channel(page);
        let response = Sse::new(events(watching, seen, permit)).into_response();
        let bytes = to_bytes(response.into_body(), usize::MAX).await.unwrap();
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    #[tokio::test]
    async fn event_id_follows_the_complete_state() {
        let text = sent(7).await;
        let events: Vec<&str> = text.split_terminator("\n\n").collect();
        assert_eq!(events.len(), 4, "{text}");
        for (event, part) in events.iter().zip(["<p>b", "<p>c", "live", "this is how it ended"]) {
            assert!(event.contains(part), "{text}");
        }
        let seen: Vec<bool> = events.iter().map(|event| event.contains("id: 9")).collect();
        assert_eq!(seen, [false, false, false, true], "{text}");
    }
}
