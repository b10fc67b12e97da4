//! The cached page: one read of the queue serves all clients.
//!
//! A section has the generation that changed it last, so a client that has seen generation 7 needs
//! only the sections that are newer. Generations count from the server's start time, so those of an
//! earlier server are always older.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{Mutex, broadcast, watch};

use crate::domain::clock::{Clock, Moment};
use crate::metrics;
use crate::queue::{ChangeDetector, Queue, QueueError};
use crate::report::html::{Section, sections};
use crate::report::{PageData, PageInfo};
use crate::runner::Event;

/// The minimum time between two reads of the queue.
const READ_PAUSE_MIN: Duration = Duration::from_secs(1);

/// The pause after a read, as a multiple of its duration: reading takes at most a fifth of the time.
const READ_PAUSE_FACTOR: u32 = 4;

/// The page contains times, so it is rendered again after this time without a change.
const MAX_AGE: Duration = Duration::from_secs(30);

/// A section and the generation that changed it last.
#[derive(Debug, Clone)]
pub(super) struct VersionedSection {
    pub(super) section: Arc<Section>,
    pub(super) since: u64,
}

/// One state of the page.
#[derive(Debug, Clone, Default)]
pub(super) struct PageState {
    pub(super) generation: u64,
    pub(super) sections: Vec<VersionedSection>,
    /// Why the queue cannot be read at present; the sections are from the last successful read.
    pub(super) error: Option<String>,
    /// The final message: nothing changes any more.
    pub(super) ended: Option<&'static str>,
}

impl PageState {
    /// Applies a read. Returns whether anything changed.
    fn apply(&mut self, read: Result<Option<Vec<Section>>, QueueError>) -> bool {
        let (fresh, error) = match read {
            Ok(fresh) => (fresh, None),
            Err(e) => (None, Some(error_text(&e))),
        };
        let next = self.generation + 1;
        let mut changed = self.error != error;
        self.error = error;
        for section in fresh.into_iter().flatten() {
            match self.sections.iter_mut().find(|old| old.section.id == section.id) {
                Some(old) if *old.section == section => continue,
                Some(old) => *old = VersionedSection { section: Arc::new(section), since: next },
                None => {
                    self.sections
                        .push(VersionedSection { section: Arc::new(section), since: next });
                }
            }
            changed = true;
        }
        if changed {
            self.generation = next;
        }
        changed
    }
}

/// An error with its cause.
pub(super) fn error_text(error: &QueueError) -> String {
    let mut text = error.to_string();
    if let Some(cause) = std::error::Error::source(error) {
        let cause = cause.to_string();
        if !text.contains(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
    }
    text
}

/// See the module's documentation.
pub(super) struct PageCache<C> {
    pub(super) queue: Queue,
    pub(super) info: PageInfo,
    clock: C,
    latest: watch::Sender<PageState>,
    /// Separate from `latest`, whose receivers count as watching clients.
    ended: watch::Sender<bool>,
    /// Locked during a read, so that only one runs at a time.
    read_state: Mutex<ReadState>,
    /// The metrics text and the time of its read; locked during a read.
    metrics: Mutex<Option<(Moment, String)>>,
}

/// What one read keeps for the next.
#[derive(Default)]
struct ReadState {
    changes: Option<ChangeDetector>,
    /// When the sections were rendered.
    rendered: Option<Moment>,
    /// The earliest time of the next read.
    next: Option<Moment>,
}

impl<C: Clock> PageCache<C> {
    pub(super) fn new(queue: Queue, info: PageInfo, clock: C) -> Self {
        let generation = u64::try_from(clock.wall_ms()).unwrap_or_default();
        let (latest, _) = watch::channel(PageState { generation, ..PageState::default() });
        let (ended, _) = watch::channel(false);
        let (read_state, metrics) = (Mutex::default(), Mutex::default());
        Self { queue, info, clock, latest, ended, read_state, metrics }
    }

    /// The latest state, read now unless the last read was a moment ago.
    pub(super) async fn fresh(&self) -> PageState {
        self.refresh(false).await;
        self.latest.borrow().clone()
    }

    /// Receives every state from now on.
    pub(super) fn watch(&self) -> watch::Receiver<PageState> {
        self.latest.subscribe()
    }

    fn is_watched(&self) -> bool {
        self.latest.receiver_count() > 0
    }

    /// Reads the queue, unless it is too early and `force` is not set.
    async fn refresh(&self, force: bool) {
        let mut state = self.read_state.lock().await;
        let began = self.clock.now();
        if !force && state.next.is_some_and(|next| began < next) {
            return;
        }
        let read = self.read(&mut state).await;
        if read.is_err() {
            // Changes may have been missed: start over.
            state.changes = None;
        }
        let now = self.clock.now();
        state.next = Some(now + READ_PAUSE_MIN.max(now.since(began) * READ_PAUSE_FACTOR));
        self.latest.send_if_modified(|page| page.apply(read));
    }

    /// The sections, unless they are up to date.
    async fn read(&self, state: &mut ReadState) -> Result<Option<Vec<Section>>, QueueError> {
        self.queue.probe().await?;
        if state.changes.is_none() {
            state.changes = Some(self.queue.changes().await?);
            state.rendered = None;
        }
        let changed = match &mut state.changes {
            Some(changes) => changes.any().await?,
            None => true,
        };
        if changed {
            // Stays unset until the sections are rendered: a cancelled read must not lose the change.
            state.rendered = None;
        }
        let now = self.clock.now();
        let is_fresh = |at: Moment| now.since(at) < MAX_AGE;
        if state.rendered.is_some_and(is_fresh) {
            return Ok(None);
        }
        let data = PageData::load(&self.queue, &self.info, self.clock.wall_ms()).await?;
        state.rendered = Some(now);
        Ok(Some(sections(&data, &self.info)))
    }

    /// Reads the queue while a client watches, until `stopped`: on events of a run in this process, and
    /// at least every two seconds.
    pub(super) async fn keep_fresh(
        &self,
        mut events: Option<broadcast::Receiver<Event>>,
        stopped: impl Future<Output = ()>,
    ) {
        let reading = async {
            loop {
                self.clock.sleep_until(self.clock.now() + READ_PAUSE_MIN).await;
                tokio::select! {
                    () = next_event(&mut events) => {}
                    // Another process may write too: an import, a retry.
                    () = self.clock.sleep_until(self.clock.now() + READ_PAUSE_MIN), if events.is_some() => {}
                }
                if self.is_watched() {
                    self.refresh(false).await;
                }
            }
        };
        tokio::select! {
            () = reading => {}
            () = stopped => {}
        }
    }

    /// A last read, if a client watches.
    pub(super) async fn refresh_once_more(&self) {
        if self.is_watched() {
            self.refresh(true).await;
        }
    }

    /// The metrics text, at most [`READ_PAUSE_MIN`] old.
    pub(super) async fn metrics(&self) -> Result<String, QueueError> {
        let mut kept = self.metrics.lock().await;
        let now = self.clock.now();
        match &*kept {
            Some((read, text)) if now.since(*read) < READ_PAUSE_MIN => Ok(text.clone()),
            _ => {
                let text = metrics::text(&self.queue, self.info.rate).await?;
                *kept = Some((self.clock.now(), text.clone()));
                Ok(text)
            }
        }
    }

    /// Sends the final message to all clients.
    pub(super) fn end(&self, message: &'static str) {
        self.latest.send_modify(|page| {
            page.ended = Some(message);
            page.generation += 1;
        });
        self.ended.send_replace(true);
    }

    /// Returns once [`PageCache::end`] was called.
    pub(super) async fn ended(&self) {
        let _ = self.ended.subscribe().wait_for(|ended| *ended).await;
    }

    /// Closes the connections to the queue, after the last read.
    pub(super) async fn close(&self) {
        if let Some(changes) = self.read_state.lock().await.changes.take() {
            changes.close().await;
        }
        self.queue.clone().close().await;
    }
}

/// Returns on an event of the run in this process; immediately without a run.
async fn next_event(events: &mut Option<broadcast::Receiver<Event>>) {
    let Some(from) = events else { return };
    match from.recv().await {
        // Lagged: there were events.
        Ok(_) | Err(RecvError::Lagged(_)) => {
            // One read covers all events that are queued.
            while !matches!(
                from.try_recv(),
                Err(broadcast::error::TryRecvError::Empty | broadcast::error::TryRecvError::Closed)
            ) {}
        }
        // The run is over.
        Err(RecvError::Closed) => *events = None,
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::Poll;

    use futures_util::FutureExt as _;
    use tempfile::TempDir;

    use super::*;
    use crate::domain::clock::ManualClock;
    use crate::domain::job::{App, Library};
    use crate::queue::RunEnding;

    const NOW_MS: i64 = 1_735_689_600_000;

    fn section(id: &'static str, html: &str) -> Section {
        Section { id, html: html.to_owned() }
    }

    #[test]
    fn only_changed_sections_get_a_new_generation() {
        let mut page = PageState::default();
        let since = |page: &PageState| page.sections.iter().map(|s| s.since).collect::<Vec<_>>();
        assert!(page.apply(Ok(Some(vec![section("a", "1"), section("b", "1")]))));
        assert_eq!((page.generation, since(&page)), (1, vec![1, 1]));
        assert!(!page.apply(Ok(Some(vec![section("a", "1"), section("b", "1")]))));
        assert!(!page.apply(Ok(None)));
        assert!(page.apply(Ok(Some(vec![section("a", "1"), section("b", "2")]))));
        assert_eq!((page.generation, since(&page)), (2, vec![1, 2]));
    }

    #[test]
    fn read_error_is_reported_once_and_keeps_last_page() {
        let mut page = PageState::default();
        page.apply(Ok(Some(vec![section("a", "1")])));
        let gone = || Err(QueueError::Missing("queue.db".into()));
        assert!(page.apply(gone()) && !page.apply(gone()));
        assert!(page.error.as_deref().is_some_and(|text| text.contains("queue.db")));
        assert_eq!((page.generation, page.sections.len()), (2, 1));
        assert!(page.apply(Ok(None)) && page.error.is_none());
    }

    /// A cache on a queue in a temporary directory.
    async fn cache() -> (TempDir, ManualClock, PageCache<ManualClock>) {
        let folder = tempfile::tempdir().unwrap();
        let queue = Queue::open(&folder.path().join("queue.db")).await.unwrap();
        let info = PageInfo {
            database: "queue.db".to_owned(),
            version: "0",
            flags: String::new(),
            rate: 5.0,
            batch: None,
            failed_max: 1,
            settings: Vec::new(),
            estimate: Arc::new(|_: &PageData| None),
        };
        let clock = ManualClock::new(NOW_MS);
        (folder, clock.clone(), PageCache::new(queue, info, clock))
    }

    /// Begins and ends a run.
    async fn write(queue: &Queue) {
        let app = App { sdkappid: 1_400_000_000, library: Library::Chitchat };
        let lease = queue.acquire(app, NOW_MS).await.unwrap();
        let run = queue.begin_run(&lease, NOW_MS).await.unwrap();
        queue.end_run(run, RunEnding::Drained, NOW_MS).await.unwrap();
    }

    /// Polls `read` at most `times` times; whether it finished.
    async fn poll_at_most(times: usize, read: impl Future<Output = ()>) -> bool {
        let (mut read, mut left) = (pin!(read), times);
        std::future::poll_fn(|context| {
            if left == 0 {
                return Poll::Ready(false);
            }
            left -= 1;
            read.as_mut().poll(context).map(|()| true)
        })
        .await
    }

    #[tokio::test]
    async fn cancelled_read_loses_no_change() {
        let (_folder, _, cache) = cache().await;
        cache.refresh(true).await;
        for times in 0.. {
            let before = cache.latest.borrow().generation;
            write(&cache.queue).await;
            let is_finished = poll_at_most(times, cache.refresh(true)).await;
            if !is_finished {
                cache.refresh(true).await;
            }
            assert_eq!(cache.latest.borrow().generation, before + 1, "cut after {times}");
            if is_finished {
                break;
            }
        }
    }

    #[tokio::test]
    async fn generations_of_earlier_servers_are_older() {
        let (_folder, clock, cache) = cache().await;
        cache.refresh(true).await;
        let seen = cache.fresh().await.generation;
        clock.advance(READ_PAUSE_MIN);
        let next = PageCache::new(cache.queue.clone(), cache.info.clone(), clock);
        let page = next.fresh().await;
        assert!(!page.sections.is_empty());
        assert!(page.sections.iter().all(|part| part.since > seen));
    }

    #[tokio::test]
    async fn waiting_for_the_end_is_not_watching() {
        let (_folder, _, cache) = cache().await;
        let mut ended = pin!(cache.ended());
        assert!(ended.as_mut().now_or_never().is_none() && !cache.is_watched());
        let watching = cache.watch();
        assert!(cache.is_watched());
        cache.end("over");
        ended.await;
        assert_eq!(watching.borrow().ended, Some("over"));
    }

    #[tokio::test]
    async fn metrics_are_cached_for_one_second() {
        let (_folder, clock, cache) = cache().await;
        let first = cache.metrics().await.unwrap();
        write(&cache.queue).await;
        assert_eq!(cache.metrics().await.unwrap(), first);
        clock.advance(READ_PAUSE_MIN);
        assert_ne!(cache.metrics().await.unwrap(), first);
    }
}
