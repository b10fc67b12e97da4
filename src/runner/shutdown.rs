//! Shutdown, as an argument: who wants the run to end, why, and how soon.

use tokio::sync::watch;

use crate::store::RunEnding;

/// How soon a run shall end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Urgency {
    /// It may go on.
    None,
    /// No new request; those in flight are waited for.
    Finish,
    /// At once.
    Now,
}

#[derive(Debug, Clone, Copy)]
struct Asked {
    urgency: Urgency,
    /// How the run has ended then.
    ending: RunEnding,
}

/// The side that asks.
#[derive(Debug, Clone)]
pub struct Stopper(watch::Sender<Asked>);

impl Stopper {
    /// Asks for the next step, as a signal does: first to finish, then to end at once.
    pub fn press(&self) {
        self.0.send_modify(|asked| {
            if asked.urgency == Urgency::None {
                *asked = Asked { urgency: Urgency::Finish, ending: RunEnding::Signal };
            } else {
                asked.urgency = Urgency::Now;
            }
        });
    }

    /// Asks to finish since the run's time is over. What was asked for before stands.
    pub fn time_is_over(&self) {
        self.0.send_if_modified(|asked| {
            let first = asked.urgency == Urgency::None;
            if first {
                *asked = Asked { urgency: Urgency::Finish, ending: RunEnding::TimeOver };
            }
            first
        });
    }
}

/// The side that listens.
#[derive(Debug, Clone)]
pub struct Shutdown(watch::Receiver<Asked>);

/// A pair of both sides.
pub fn shutdown() -> (Stopper, Shutdown) {
    let nothing = Asked { urgency: Urgency::None, ending: RunEnding::Signal };
    let (sender, receiver) = watch::channel(nothing);
    (Stopper(sender), Shutdown(receiver))
}

impl Shutdown {
    /// Returns once at least `urgency` was asked for; never, if nobody can ask any more.
    pub async fn asked(&mut self, urgency: Urgency) {
        if self.0.wait_for(|asked| asked.urgency >= urgency).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Whether the run shall end.
    pub fn is_asked(&self) -> bool {
        self.0.borrow().urgency >= Urgency::Finish
    }

    /// How a run has ended that ends because it was asked to.
    pub(super) fn ending(&self) -> RunEnding {
        self.0.borrow().ending
    }
}
