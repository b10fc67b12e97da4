//! The clock of a simulated run, which can crash the run at any reading, and the waker that shows
//! whether the run is ready.

use std::future::poll_fn;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Poll, Wake, Waker};

use deskbatch::domain::clock::{Clock, ManualClock, Moment};

/// The runner's clock. Each reading can be a crash point. It unwinds exactly there, however fast the
/// queue's own thread is, so that a seed is reproducible.
#[derive(Debug, Clone)]
pub struct WatchedClock {
    pub clock: ManualClock,
    /// The number of readings before the crash.
    pub left: Arc<AtomicU64>,
}

/// The panic payload of a crash.
pub struct Crash;

impl WatchedClock {
    fn look(&self) {
        if self.left.fetch_sub(1, Ordering::Relaxed) == 0 {
            resume_unwind(Box::new(Crash));
        }
    }
}

impl Clock for WatchedClock {
    fn now(&self) -> Moment {
        self.look();
        self.clock.now()
    }

    fn wall_ms(&self) -> i64 {
        self.look();
        self.clock.wall_ms()
    }

    async fn sleep_until(&self, until: Moment) {
        self.clock.sleep_until(until).await;
    }
}

/// Whether the run is ready to continue, and the task that waits for that.
#[derive(Default)]
pub struct Woken {
    is: AtomicBool,
    waits: Mutex<Option<Waker>>,
}

impl Woken {
    /// Whether it was woken since the last call.
    pub fn take(&self) -> bool {
        self.is.swap(false, Ordering::AcqRel)
    }

    /// Whether it is ready now.
    pub fn is(&self) -> bool {
        self.is.load(Ordering::Acquire)
    }

    pub async fn woken(&self) {
        poll_fn(|cx| {
            *self.waits.lock().unwrap() = Some(cx.waker().clone());
            if self.is.load(Ordering::Acquire) { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.is.store(true, Ordering::Release);
        if let Some(waker) = self.waits.lock().unwrap().take() {
            waker.wake();
        }
    }
}
