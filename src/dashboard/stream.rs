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
        let generation = shown.generation.to_string();
        for part in shown.sections.iter().filter(|part| part.since > self.seen) {
            let data = json!({ "id": part.section.id, "html": part.section.html });
            news.push_back(Sent::default().event("section").id(&generation).data(data.to_string()));
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
        if shown.over {
            news.push_back(Sent::default().event("over").data("over: this is how it ended"));
            self.over = true;
        }
        news
    }
}
