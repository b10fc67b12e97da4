//! The newest state of the page, read once for all who look.
//!
//! A section has the number of the generation that changed it last, so that whoever has seen
//! generation 7 needs the sections that are newer, and no other. Generations are counted from
//! the time at which the server began, so that those of an earlier one are older.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{Mutex, broadcast, watch};

use crate::domain::clock::{Clock, Moment};
use crate::metrics;
use crate::report::html::{Section, sections};
use crate::report::{About, Facts};
use crate::runner::Event;
use crate::store::{Changes, Store, StoreError};

/// The least time between two looks at the queue.
const REST_MIN: Duration = Duration::from_secs(1);

/// A look is followed by so many times its own length of rest.
const REST_TIMES: u32 = 4;

/// Words of the page speak of time, so it is made anew this often although nothing changed.
const STALE: Duration = Duration::from_secs(30);

/// A section and the generation that changed it last.
#[derive(Debug, Clone)]
pub(super) struct Versioned {
    pub(super) section: Arc<Section>,
    pub(super) since: u64,
}

/// A state of the page.
#[derive(Debug, Clone, Default)]
pub(super) struct Shown {
    pub(super) generation: u64,
    pub(super) sections: Vec<Versioned>,
    /// Why the queue cannot be read, if so; the sections are from before.
    pub(super) trouble: Option<String>,
    /// Nothing will change any more, in these words.
    pub(super) over: Option<&'static str>,
}

impl Shown {
    /// Takes what was read; whether that changes anything.
    fn take(&mut self, read: Result<Option<Vec<Section>>, StoreError>) -> bool {
        let (fresh, trouble) = match read {
            Ok(fresh) => (fresh, None),
            Err(e) => (None, Some(whole_text(&e))),
        };
        let next = self.generation + 1;
        let mut changed = self.trouble != trouble;
        self.trouble = trouble;
        for section in fresh.into_iter().flatten() {
            match self.sections.iter_mut().find(|old| old.section.id == section.id) {
                Some(old) if *old.section == section => continue,
                Some(old) => *old = Versioned { section: Arc::new(section), since: next },
                None => {
                    self.sections.push(Versioned { section: Arc::new(section), since: next });
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

/// An error with what caused it.
pub(super) fn whole_text(error: &StoreError) -> String {
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

/// See the head of this file.
pub(super) struct Hub<C> {
    pub(super) store: Store,
    pub(super) about: About,
    clock: C,
    latest: watch::Sender<Shown>,
    /// Apart from `latest`: who waits for the end does not look.
    over: watch::Sender<bool>,
    reading: Mutex<Reading>,
    /// What machines were told last, and when that was read. Whoever has it reads.
    figures: Mutex<Option<(Moment, String)>>,
}

/// How reading goes. Whoever has it reads; nobody else does then.
#[derive(Default)]
struct Reading {
    changes: Option<Changes>,
    gathered: Option<Moment>,
    /// No look before.
    next: Option<Moment>,
}

impl<C: Clock> Hub<C> {
    pub(super) fn new(store: Store, about: About, clock: C) -> Self {
        let generation = u64::try_from(clock.wall_ms()).unwrap_or_default();
        let (latest, _) = watch::channel(Shown { generation, ..Shown::default() });
        let (over, _) = watch::channel(false);
        let (reading, figures) = (Mutex::default(), Mutex::default());
        Self { store, about, clock, latest, over, reading, figures }
    }

    /// The newest state, looked for now unless that was done a moment ago.
    pub(super) async fn fresh(&self) -> Shown {
        self.refresh(false).await;
        self.latest.borrow().clone()
    }

    /// Every state from now on.
    pub(super) fn watch(&self) -> watch::Receiver<Shown> {
        self.latest.subscribe()
    }

    fn is_watched(&self) -> bool {
        self.latest.receiver_count() > 0
    }

    /// Reads, unless it is too early and nobody insists.
    async fn refresh(&self, insist: bool) {
        let mut reading = self.reading.lock().await;
        let began = self.clock.now();
        if !insist && reading.next.is_some_and(|next| began < next) {
            return;
        }
        let read = self.read(&mut reading).await;
        if read.is_err() {
            // What was missed is looked for again.
            reading.changes = None;
        }
        let now = self.clock.now();
        reading.next = Some(now + REST_MIN.max(now.since(began) * REST_TIMES));
        self.latest.send_if_modified(|shown| shown.take(read));
    }

    /// The sections, unless nothing was written since they were last made.
    async fn read(&self, reading: &mut Reading) -> Result<Option<Vec<Section>>, StoreError> {
        self.store.probe().await?;
        if reading.changes.is_none() {
            reading.changes = Some(self.store.changes().await?);
            reading.gathered = None;
        }
        let changed = match &mut reading.changes {
            Some(changes) => changes.any().await?,
            None => true,
        };
        if changed {
            // Until it is gathered: a look that is cut short has told nobody.
            reading.gathered = None;
        }
        let now = self.clock.now();
        let is_fresh = |at: Moment| now.since(at) < STALE;
        if reading.gathered.is_some_and(is_fresh) {
            return Ok(None);
        }
        let facts = Facts::gather(&self.store, &self.about, self.clock.wall_ms()).await?;
        reading.gathered = Some(now);
        Ok(Some(sections(&facts, &self.about)))
    }

    /// Looks at the queue while somebody watches, until `stopped`: when a run of this process
    /// tells that something happened, or else each second.
    pub(super) async fn keep_fresh(
        &self,
        mut events: Option<broadcast::Receiver<Event>>,
        stopped: impl Future<Output = ()>,
    ) {
        let looking = async {
            loop {
                self.clock.sleep_until(self.clock.now() + REST_MIN).await;
                tokio::select! {
                    () = heard(&mut events) => {}
                    // Another process may write as well: an import, a retry.
                    () = self.clock.sleep_until(self.clock.now() + REST_MIN), if events.is_some() => {}
                }
                if self.is_watched() {
                    self.refresh(false).await;
                }
            }
        };
        tokio::select! {
            () = looking => {}
            () = stopped => {}
        }
    }

    /// A last look, if anybody watches.
    pub(super) async fn look_once_more(&self) {
        if self.is_watched() {
            self.refresh(true).await;
        }
    }

    /// The queue's figures for machines, at most a moment old. However many ask, one reads.
    pub(super) async fn figures(&self) -> Result<String, StoreError> {
        let mut kept = self.figures.lock().await;
        let now = self.clock.now();
        match &*kept {
            Some((read, text)) if now.since(*read) < REST_MIN => Ok(text.clone()),
            _ => {
                let text = metrics::text(&self.store, self.about.rate).await?;
                *kept = Some((self.clock.now(), text.clone()));
                Ok(text)
            }
        }
    }

    /// Nothing changes any more; whoever looks is told so in these words.
    pub(super) fn end(&self, words: &'static str) {
        self.latest.send_modify(|shown| {
            shown.over = Some(words);
            shown.generation += 1;
        });
        self.over.send_replace(true);
    }

    /// Returns once [`Hub::end`] was called.
    pub(super) async fn ended(&self) {
        let _ = self.over.subscribe().wait_for(|over| *over).await;
    }

    /// Lets go of the queue, once nobody reads it any more.
    pub(super) async fn close(&self) {
        if let Some(changes) = self.reading.lock().await.changes.take() {
            changes.close().await;
        }
        self.store.clone().close().await;
    }
}

/// Returns when a run of this process tells something; at once where there is none.
async fn heard(events: &mut Option<broadcast::Receiver<Event>>) {
    let Some(from) = events else { return };
    match from.recv().await {
        // Behind: something has happened.
        Ok(_) | Err(RecvError::Lagged(_)) => {
            // All that came meanwhile is seen by one look.
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
    use crate::store::{RunEnding, RunLock};

    const NOW_MS: i64 = 1_735_689_600_000;

    fn section(id: &'static str, html: &str) -> Section {
        Section { id, html: html.to_owned() }
    }

    #[test]
    fn only_what_changed_gets_the_new_generation() {
        let mut shown = Shown::default();
        let since = |shown: &Shown| shown.sections.iter().map(|s| s.since).collect::<Vec<_>>();
        assert!(shown.take(Ok(Some(vec![section("a", "1"), section("b", "1")]))));
        assert_eq!((shown.generation, since(&shown)), (1, vec![1, 1]));
        assert!(!shown.take(Ok(Some(vec![section("a", "1"), section("b", "1")]))));
        assert!(!shown.take(Ok(None)));
        assert!(shown.take(Ok(Some(vec![section("a", "1"), section("b", "2")]))));
        assert_eq!((shown.generation, since(&shown)), (2, vec![1, 2]));
    }

    #[test]
    fn trouble_is_told_once_and_leaves_what_was_seen() {
        let mut shown = Shown::default();
        shown.take(Ok(Some(vec![section("a", "1")])));
        let gone = || Err(StoreError::Missing("queue.db".into()));
        assert!(shown.take(gone()) && !shown.take(gone()));
        assert!(shown.trouble.as_deref().is_some_and(|text| text.contains("queue.db")));
        assert_eq!((shown.generation, shown.sections.len()), (2, 1));
        assert!(shown.take(Ok(None)) && shown.trouble.is_none());
    }
    /// On a queue file of its own, which goes with the folder.
    async fn hub() -> (TempDir, ManualClock, Hub<ManualClock>) {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("queue.db")).await.unwrap();
        let about = About {
            database: "queue.db".to_owned(),
            version: "0",
            flags: String::new(),
            rate: 5.0,
            batch: None,
            refused_max: 1,
            settings: Vec::new(),
            estimate: Arc::new(|_: &Facts| None),
        };
        let clock = ManualClock::new(NOW_MS);
        (folder, clock.clone(), Hub::new(store, about, clock))
    }

    /// Lets a run begin and end.
    async fn write(store: &Store) {
        let lock = RunLock::take(store.path(), NOW_MS).unwrap();
        let app = App { sdkappid: 1_400_000_000, library: Library::Chitchat };
        let run = store.begin_run(&lock, app, NOW_MS).await.unwrap().run;
        store.end_run(run, RunEnding::Drained, NOW_MS).await.unwrap();
    }

    /// Lets `look` go on so many times; whether it came to its end.
    async fn cut_after(times: usize, look: impl Future<Output = ()>) -> bool {
        let (mut look, mut left) = (pin!(look), times);
        std::future::poll_fn(|context| {
            if left == 0 {
                return Poll::Ready(false);
            }
            left -= 1;
            look.as_mut().poll(context).map(|()| true)
        })
        .await
    }

    #[tokio::test]
    async fn a_look_that_is_cut_short_wherever_it_is_loses_no_change() {
        let (_folder, _, hub) = hub().await;
        hub.refresh(true).await;
        for times in 0.. {
            let before = hub.latest.borrow().generation;
            write(&hub.store).await;
            let was_whole = cut_after(times, hub.refresh(true)).await;
            if !was_whole {
                hub.refresh(true).await;
            }
            assert_eq!(hub.latest.borrow().generation, before + 1, "cut after {times}");
            if was_whole {
                break;
            }
        }
    }

    #[tokio::test]
    async fn generations_of_an_earlier_server_are_older() {
        let (_folder, clock, hub) = hub().await;
        hub.refresh(true).await;
        let seen = hub.fresh().await.generation;
        clock.advance(REST_MIN);
        let next = Hub::new(hub.store.clone(), hub.about.clone(), clock);
        let shown = next.fresh().await;
        assert!(!shown.sections.is_empty());
        assert!(shown.sections.iter().all(|part| part.since > seen));
    }

    #[tokio::test]
    async fn who_waits_for_the_end_does_not_look() {
        let (_folder, _, hub) = hub().await;
        let mut ended = pin!(hub.ended());
        assert!(ended.as_mut().now_or_never().is_none() && !hub.is_watched());
        let watching = hub.watch();
        assert!(hub.is_watched());
        hub.end("over");
        ended.await;
        assert_eq!(watching.borrow().over, Some("over"));
    }

    #[tokio::test]
    async fn figures_are_read_once_a_moment_however_many_ask() {
        let (_folder, clock, hub) = hub().await;
        let first = hub.figures().await.unwrap();
        write(&hub.store).await;
        assert_eq!(hub.figures().await.unwrap(), first);
        clock.advance(REST_MIN);
        assert_ne!(hub.figures().await.unwrap(), first);
    }
}
