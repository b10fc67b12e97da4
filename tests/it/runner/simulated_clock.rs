//! The clock of a simulated run, at any look at which it may crash, and the waker that says
//! whether the run wants to go on.

use std::future::poll_fn;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Poll, Wake, Waker};

use deskbatch::domain::clock::{Clock, ManualClock, Moment};

/// The clock as the runner has it: every look at it is a place where a crash may be due. It
/// unwinds just there, however fast the queue's own thread is, so that a seed repeats itself.
#[derive(Debug, Clone)]
pub struct WatchedClock {
    pub clock: ManualClock,
    /// So many looks are left before a crash is due.
    pub left: Arc<AtomicU64>,
}

/// What unwinds where a crash was due.
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

/// Whether the run wants to go on, and who waits for that.
#[derive(Default)]
pub struct Woken {
    is: AtomicBool,
    waits: Mutex<Option<Waker>>,
}

impl Woken {
    /// Whether it was woken since this was asked last.
    pub fn take(&self) -> bool {
        self.is.swap(false, Ordering::AcqRel)
    }

    /// Whether it wants to go on now.
    pub fn is(&self) -> bool {
        self.is.load(Ordering::Acquire)
    }

    /// Returns once it is woken.
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
