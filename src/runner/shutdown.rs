//! Shutdown as an argument: how soon the run must end, and why.

use tokio::sync::watch;

use crate::queue::RunEnding;

/// How soon a run ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ShutdownMode {
    /// No shutdown is requested.
    None,
    /// No new request is sent; the run waits for the responses of those in flight.
    Graceful,
    /// The run waits for no response.
    Immediate,
}

#[derive(Debug, Clone, Copy)]
struct Request {
    mode: ShutdownMode,
    /// The ending of a run that stops for this request.
    ending: RunEnding,
}

/// The side that requests a shutdown.
#[derive(Debug, Clone)]
pub struct ShutdownHandle(watch::Sender<Request>);

impl ShutdownHandle {
    /// Requests the next mode, as a signal does: first graceful, then immediate.
    pub fn signal(&self) {
        self.0.send_modify(|request| {
            if request.mode == ShutdownMode::None {
                *request = Request { mode: ShutdownMode::Graceful, ending: RunEnding::Signal };
            } else {
                request.mode = ShutdownMode::Immediate;
            }
        });
    }

    /// Requests a graceful shutdown because the time limit of the run is reached. An earlier request keeps
    /// its mode and its ending.
    pub fn deadline_reached(&self) {
        self.0.send_if_modified(|request| {
            let is_first = request.mode == ShutdownMode::None;
            if is_first {
                *request = Request { mode: ShutdownMode::Graceful, ending: RunEnding::TimeLimit };
            }
            is_first
        });
    }
}

/// The side that waits for a shutdown.
#[derive(Debug, Clone)]
pub struct Shutdown(watch::Receiver<Request>);

/// A connected pair of both sides.
pub fn shutdown() -> (ShutdownHandle, Shutdown) {
    let none = Request { mode: ShutdownMode::None, ending: RunEnding::Signal };
    let (sender, receiver) = watch::channel(none);
    (ShutdownHandle(sender), Shutdown(receiver))
}

impl Shutdown {
    /// Returns once at least `mode` is requested; never if every handle is dropped.
    pub async fn requested(&mut self, mode: ShutdownMode) {
        if self.0.wait_for(|request| request.mode >= mode).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Whether any shutdown is requested.
    pub fn is_requested(&self) -> bool {
        self.0.borrow().mode >= ShutdownMode::Graceful
    }

    /// The ending of a run that stops for a requested shutdown.
    pub(super) fn ending(&self) -> RunEnding {
        self.0.borrow().ending
    }
}
