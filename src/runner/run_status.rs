//! What a run waits for is told to whoever listens, and noted in the queue for whoever
//! watches from another process.

use std::time::Duration;

use super::{Clock, Event, RunId, Runner, StoreError, Transport};
use crate::limiter::{Change, ClosedFor};
use crate::store::{Wait, WaitsFor};

impl<C: Clock, T: Transport> Runner<C, T> {
    /// Tells what an answer did to the gate.
    pub(super) async fn tell_of_gate(
        &mut self,
        run: RunId,
        change: Change,
    ) -> Result<(), StoreError> {
        if self.stopping {
            // Nobody waits for the gate any more; the last answers are what is waited for.
            return Ok(());
        }
        match change {
            Change::None => Ok(()),
            Change::Opened => {
                self.commit().await?;
                self.store.note_wait(run, None).await?;
                self.events.send(Event::Opened);
                Ok(())
            }
            Change::Closed { why, until } => {
                self.commit().await?;
                let (now, now_ms) = (self.clock.now(), self.clock.wall_ms());
                let wait = until.since(now);
                let since_ms = match why {
                    ClosedFor::Frequency => now_ms,
                    ClosedFor::Outage => {
                        let failing = self.gate.failing_since().map(|since| now.since(since));
                        now_ms.saturating_sub(ms(failing.unwrap_or_default())).max(0)
                    }
                };
                tracing::info!(?why, wait_ms = ms(wait), "gate closed");
                let waits_for = match why {
                    ClosedFor::Frequency => WaitsFor::SlowDown,
                    ClosedFor::Outage => WaitsFor::Outage,
                };
                let until_ms = now_ms.saturating_add(ms(wait));
                self.store.note_wait(run, Some(Wait { waits_for, since_ms, until_ms })).await?;
                self.events.send(Event::Closed { why, wait, since_ms });
                Ok(())
            }
        }
    }

    /// Tells that no more requests will leave.
    pub(super) async fn tell_of_stopping(&mut self, run: RunId) -> Result<(), StoreError> {
        self.stopping = true;
        self.events.send(Event::Stopping { in_flight: self.flights.len() });
        let since_ms = self.clock.wall_ms();
        let until_ms = since_ms.saturating_add(ms(self.settings.grace));
        let wait = Wait { waits_for: WaitsFor::Answers, since_ms, until_ms };
        self.store.note_wait(run, Some(wait)).await
    }
}

fn ms(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}
