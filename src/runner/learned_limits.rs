//! What outlives a run: it begins with the pace and the size that earlier ones have learned,
//! and keeps what it learns itself, now and then and at its end.

use std::time::Duration;

use super::{Clock, Runner, StoreError, Transport};
use crate::store::DUE_WITHIN;

/// How often what was learned is kept: so much of it a crash may cost.
const KEEP_EVERY: Duration = Duration::from_secs(30);

impl<C: Clock, T: Transport> Runner<C, T> {
    /// Another run may have sent a request just now: after a second its last call counts
    /// no longer, whatever happened between its record and its leaving. So do the waits that it has
    /// left for jobs, after the longest of them.
    pub(super) fn wait_out_earlier_runs(&mut self, last_left_ms: Option<i64>) {
        const SECOND_MS: i64 = 1_000;
        self.due_by = self.clock.now() + DUE_WITHIN;
        let Some(last) = last_left_ms else { return };
        let since = self.clock.wall_ms().saturating_sub(last);
        // A wall clock that was set back says nothing; the whole second is safe.
        let since = if since < 0 { 0 } else { since.min(SECOND_MS) };
        let wait = Duration::from_millis(u64::try_from(SECOND_MS - since).unwrap_or(0));
        self.gate.not_before(self.clock.now() + wait);
    }

    /// Begins with the pace and the size that earlier runs have found.
    pub(super) async fn recall(&mut self) -> Result<(), StoreError> {
        if let Some(kept) = self.store.pace(self.settings.app).await? {
            tracing::debug!(rate = kept.learned.rate, "pace of earlier runs");
            self.gate.begin_with(&kept.learned);
        }
        if let Some(kept) = self.store.size(self.settings.app, self.clock.wall_ms()).await? {
            tracing::debug!(jobs = kept.limit.passed, "size of earlier runs");
            self.work.begin_with(kept.limit);
            self.size_kept = Some(kept.limit);
        }
        self.keep_at = self.clock.now() + KEEP_EVERY;
        Ok(())
    }

    /// Keeps what was learned, if it is time to.
    pub(super) async fn keep_now_and_then(&mut self) -> Result<(), StoreError> {
        let now = self.clock.now();
        if now < self.keep_at {
            return Ok(());
        }
        self.keep_at = now + KEEP_EVERY;
        self.commit().await?;
        self.keep().await
    }

    /// Keeps what was learned, if anything was.
    pub(super) async fn keep(&mut self) -> Result<(), StoreError> {
        let now_ms = self.clock.wall_ms();
        if let Some(learned) = self.gate.learned() {
            self.store.keep_pace(self.settings.app, &learned, now_ms).await?;
        }
        // Only when it is another: what is merely believed on must not look newly learned.
        if let Some(limit) = self.work.size_limit().filter(|limit| Some(*limit) != self.size_kept) {
            self.store.keep_size(self.settings.app, limit, now_ms).await?;
            self.size_kept = Some(limit);
        }
        Ok(())
    }
}
