//! What changes, as server-sent events: sections that are newer than what was seen, whether
//! the queue can be read, and that it is over.

use std::collections::VecDeque;
use std::convert::Infallible;

use axum::response::sse::Event as Sent;
use futures_util::{Stream, StreamExt as _};
use serde_json::json;
use tokio::sync::{OwnedSemaphorePermit, watch};

use super::hub::Shown;

/// How long a browser waits before it asks again after a lost connection, in milliseconds.
const RETRY: std::time::Duration = std::time::Duration::from_secs(2);

/// Somebody who looks.
struct Client {
    states: watch::Receiver<Shown>,
    /// The newest generation that was sent.
    seen: u64,
    /// Whether anything was said of the queue yet, and what trouble with it was said last.
    said: bool,
    trouble: Option<String>,
    over: bool,
    /// One of the places that there are.
    _place: OwnedSemaphorePermit,
}

/// The events for somebody who has seen generation `seen`. Between two states nothing is kept:
/// who is slow gets the newest one next.
pub(super) fn events(
    states: watch::Receiver<Shown>,
    seen: u64,
    place: OwnedSemaphorePermit,
) -> impl Stream<Item = Result<Sent, Infallible>> + Send {
    let client = Client { states, seen, said: false, trouble: None, over: false, _place: place };
    futures_util::stream::unfold(client, async |mut client| {
        if client.over {
            return None;
        }
        if client.said && client.states.changed().await.is_err() {
            return None;
        }
        let shown = client.states.borrow_and_update().clone();
        let batch = client.news(&shown);
        Some((futures_util::stream::iter(batch.into_iter().map(Ok)), client))
    })
    .flatten()
}

impl Client {
    /// What of `shown` is news.
    fn news(&mut self, shown: &Shown) -> VecDeque<Sent> {
        let mut news = VecDeque::new();
        for part in shown.sections.iter().filter(|part| part.since > self.seen) {
            let data = json!({ "id": part.section.id, "html": part.section.html });
            news.push_back(Sent::default().event("section").data(data.to_string()));
        }
        self.seen = self.seen.max(shown.generation);
        if !self.said || self.trouble != shown.trouble {
            let said = match &shown.trouble {
                None => Sent::default().event("live").data("live"),
                // A line break would end the field.
                Some(trouble) => {
                    Sent::default().event("trouble").data(trouble.replace(['\n', '\r'], " "))
                }
            };
            news.push_back(said.retry(RETRY));
            self.said = true;
            self.trouble.clone_from(&shown.trouble);
        }
        if let Some(words) = shown.over {
            news.push_back(Sent::default().event("over").data(words));
            self.over = true;
        }
        // Of the last alone: whoever loses the connection before it has not seen all of this.
        if let Some(last) = news.pop_back() {
            news.push_back(last.id(shown.generation.to_string()));
        }
        news
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
    use crate::dashboard::hub::Versioned;
    use crate::report::html::Section;

    /// Everything that somebody who has seen `seen` is sent of a page that is over.
    async fn sent(seen: u64) -> String {
        let section = |id, since| Versioned {
            section: Arc::new(Section { id, html: format!("<p>{id}") }),
            since,
        };
        let sections = vec![section("a", 7), section("b", 9), section("c", 9)];
        let over = Some("this is how it ended");
        let shown = Shown { generation: 9, sections, over, ..Shown::default() };
        let place = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
        let (_states, watching) = watch::channel(shown);
        let answer = Sse::new(events(watching, seen, place)).into_response();
        let bytes = to_bytes(answer.into_body(), usize::MAX).await.unwrap();
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    #[tokio::test]
    async fn only_who_got_all_of_a_state_has_seen_it() {
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
