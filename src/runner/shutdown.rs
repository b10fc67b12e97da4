//! Shutdown, as an argument: who wants the run to end, and how soon.

use tokio::sync::watch;

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

/// The side that asks.
#[derive(Debug)]
pub struct Stopper(watch::Sender<Urgency>);

impl Stopper {
    /// Asks for the next step: first to finish, then to end at once.
    pub fn press(&self) {
        self.0.send_modify(|urgency| {
            *urgency = if *urgency == Urgency::None { Urgency::Finish } else { Urgency::Now };
        });
    }
}

/// The side that listens.
#[derive(Debug, Clone)]
pub struct Shutdown(watch::Receiver<Urgency>);

/// A pair of both sides.
pub fn shutdown() -> (Stopper, Shutdown) {
    let (sender, receiver) = watch::channel(Urgency::None);
    (Stopper(sender), Shutdown(receiver))
}

impl Shutdown {
    /// Returns once at least `urgency` was asked for; never, if nobody can ask any more.
    pub async fn asked(&mut self, urgency: Urgency) {
        if self.0.wait_for(|now| *now >= urgency).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Whether the run shall end.
    pub fn is_asked(&self) -> bool {
        *self.0.borrow() >= Urgency::Finish
    }
}
