//! A run's write transaction: a response and the claim after it may share one, since the commit is
//! most of what a small transaction costs.
//!
//! Emit events and send requests only after [`WriteTransaction::commit`]. From its first statement on the
//! transaction has the one write connection, so its owner must not wait for another write until it
//! has ended. A statement that fails rolls the whole transaction back: a response recorded in it
//! is as one that never came.

use sqlx::{Sqlite, SqliteConnection, Transaction};

use crate::queue::{Context as _, Queue, QueueError, RequestId};

/// See the head of this file. Dropped before its commit, it is rolled back.
#[derive(Debug)]
pub struct WriteTransaction {
    pub(in crate::queue) store: Queue,
    /// `None` before its first statement.
    transaction: Option<Transaction<'static, Sqlite>>,
    /// The request that it has claimed jobs for.
    pub(in crate::queue) claimed: Option<RequestId>,
}

impl Queue {
    /// A transaction that begins with its first statement.
    pub fn begin_write(&self) -> WriteTransaction {
        WriteTransaction { store: self.clone(), transaction: None, claimed: None }
    }
}

impl WriteTransaction {
    /// Whether it has written something that is not committed.
    pub fn is_open(&self) -> bool {
        self.transaction.is_some()
    }

    /// Makes durable what was written since the last commit.
    ///
    /// # Errors
    /// When the queue file cannot be written: nothing of it has happened then.
    pub async fn commit(&mut self) -> Result<(), QueueError> {
        let claimed = self.claimed.take();
        let Some(transaction) = self.transaction.take() else { return Ok(()) };
        transaction.commit().await.context("make what was written durable")?;
        if let Some(request) = claimed {
            self.store.note_sent(request);
        }
        Ok(())
    }

    /// Its connection, on which the transaction has begun.
    pub(in crate::queue) async fn connection(
        &mut self,
    ) -> Result<&mut SqliteConnection, QueueError> {
        if self.transaction.is_none() {
            self.transaction = Some(self.store.write("begin to write").await?);
        }
        let none = || sqlx::Error::Protocol("no transaction has begun".to_owned());
        self.transaction.as_deref_mut().ok_or_else(none).context("begin to write")
    }

    /// Rolls it back where `done` is an error.
    pub(in crate::queue) fn rollback_on_error<T>(
        &mut self,
        done: Result<T, QueueError>,
    ) -> Result<T, QueueError> {
        if done.is_err() {
            (self.transaction, self.claimed) = (None, None);
        }
        done
    }
}
