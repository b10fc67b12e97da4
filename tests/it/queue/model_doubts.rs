//! Doubts in the model of the queue: by question and target status, as in the real one.

use crate::queue::model_queue::{Model, ModelJob};

/// How long a request can still be applied after its slot, or after the run stopped waiting for it.
pub const UNDER_WAY_MAX_MS: i64 = 30_000;

/// The longest time that a run waits for a response.
pub const TIMEOUT_MAX_MS: i64 = 600_000;

/// The doubt about a question and target status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Doubt {
    /// Whether no request has settled it.
    pub open: bool,
    /// Whether a response was lost; otherwise a chunk was rejected.
    pub lost: bool,
    /// Until when the request can be applied.
    pub late_ms: i64,
}

impl Model {
    /// Records that a request for the question and target status lost its response.
    pub fn doubt(&mut self, question: &str, status: i64, late_ms: i64) {
        let doubt = self.doubts.entry((question.to_owned(), status)).or_default();
        *doubt = Doubt { open: true, lost: true, late_ms: doubt.late_ms.max(late_ms) };
    }

    /// Records the doubt about jobs that were rejected in a chunk and will not be sent again.
    pub fn doubt_withdrawn(&mut self, jobs: Vec<(String, i64)>) {
        for (question, status) in jobs {
            let doubt = self.doubts.entry((question, status)).or_default();
            *doubt = Doubt { open: true, lost: doubt.open && doubt.lost, late_ms: doubt.late_ms };
        }
    }

    /// Delays the latest job of a question while a request with another target status can be applied.
    pub fn hold_back(&mut self, now_ms: i64) {
        let waits =
            |job: &&mut ModelJob| job.newest && job.state == "pending" && job.reserved_by.is_none();
        for job in self.jobs.iter_mut().filter(waits) {
            let late = self.doubts.iter().filter(|((question, status), doubt)| {
                *question == job.question && *status != job.status && doubt.late_ms > now_ms
            });
            let late_ms = late.map(|(_, doubt)| doubt.late_ms).max().unwrap_or(0);
            job.not_before_ms = job.not_before_ms.max(late_ms);
        }
    }

    /// Whether something is in doubt about the question.
    pub fn in_doubt(&self, question: &str) -> bool {
        self.doubts.iter().any(|((of, _), doubt)| doubt.open && of == question)
    }

    /// Whether a request for the question and that status has lost its response.
    pub fn is_lost(&self, question: &str, status: i64) -> bool {
        let doubt = self.doubts.get(&(question.to_owned(), status));
        doubt.is_some_and(|doubt| doubt.open && doubt.lost)
    }

    /// Settles the doubts of a question after one of its requests was applied.
    pub fn settle_doubts(&mut self, question: &str, now_ms: i64) {
        for ((of, _), doubt) in &mut self.doubts {
            doubt.open &= of != question;
        }
        self.doubts.retain(|_, doubt| doubt.open || doubt.late_ms > now_ms);
    }
}
