//! What the model of the queue has in doubt: by question and target status, as in the store.

use crate::model_queue::{Model, ModelJob};

/// How long a request can still be applied after its slot, or after it was given up.
pub const UNDER_WAY_MAX_MS: i64 = 30_000;

impl Model {
    /// A request for the question, with that target status, has lost its response.
    pub fn doubt(&mut self, question: &str, status: i64, late_ms: i64) {
        let doubt = self.doubts.entry((question.to_owned(), status)).or_insert((true, late_ms));
        *doubt = (true, doubt.1.max(late_ms));
    }

    /// The latest job of a question waits while a request with another status can be applied.
    pub fn hold_back(&mut self, now_ms: i64) {
        let waits =
            |job: &&mut ModelJob| job.newest && job.state == "pending" && job.held_by.is_none();
        for job in self.jobs.iter_mut().filter(waits) {
            let late = self.doubts.iter().filter(|((question, status), (_, late_ms))| {
                *question == job.question && *status != job.status && *late_ms > now_ms
            });
            let late_ms = late.map(|(_, (_, late_ms))| *late_ms).max().unwrap_or(0);
            job.due_ms = job.due_ms.max(late_ms);
        }
    }

    /// Whether the question may have been given that status, or any, by a request whose response
    /// was lost.
    pub fn in_doubt(&self, question: &str, status: Option<i64>) -> bool {
        self.doubts.iter().any(|((of, doubted), (open, _))| {
            *open && of == question && status.is_none_or(|status| status == *doubted)
        })
    }

    /// A request for the question was applied.
    pub fn settle_doubts(&mut self, question: &str, now_ms: i64) {
        for ((of, _), (open, _)) in &mut self.doubts {
            *open &= of != question;
        }
        self.doubts.retain(|_, (open, late_ms)| *open || *late_ms > now_ms);
    }
}
