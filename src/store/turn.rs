//! A run's turn to write: an answer that has come and the claim of what leaves next, in one
//! transaction, since making it durable is most of what a small one costs.
//!
//! Nothing that was written is true before [`Turn::commit`]: until then nobody may be told of an
//! answer, and no request may leave. From its first statement on a turn has the one connection
//! that writes, so its owner may wait for nothing but the turn itself until it has ended. What
//! fails while it writes undoes the whole turn: an answer in it then is one that never came.

use sqlx::query::Query;
use sqlx::sqlite::SqliteArguments;
use sqlx::{AssertSqlSafe, Sqlite};

use super::write::{Text, Told, Write};
use super::{Doing as _, RequestId, Store, StoreError};

/// See the head of this file. Dropped before it is committed, it leaves nothing behind.
#[derive(Debug)]
pub struct Turn {
    pub(super) store: Store,
    /// `None` before its first statement.
    write: Option<Write>,
    /// The request that it has claimed jobs for.
    pub(super) claimed: Option<RequestId>,
}

impl Store {
    /// A turn that has written nothing yet.
    pub fn turn(&self) -> Turn {
        Turn { store: self.clone(), write: None, claimed: None }
    }
}

impl Turn {
    /// Whether something is written that is not durable yet.
    pub fn is_open(&self) -> bool {
        self.write.is_some()
    }

    /// Makes durable what was written since the last time, if anything was.
    ///
    /// # Errors
    /// When the queue file cannot be written: nothing of it has happened then.
    pub async fn commit(&mut self) -> Result<(), StoreError> {
        let claimed = self.claimed.take();
        let Some(write) = self.write.take() else { return Ok(()) };
        write.commit().await.doing("make what was written durable")?;
        if let Some(request) = claimed {
            self.store.note_sent(request);
        }
        Ok(())
    }

    /// What `text` tells, with the values that `bind` gives it. After an error the turn has to be
    /// undone where it changes something; it has not begun where it is the first.
    pub(super) async fn ask<'q>(
        &mut self,
        doing: &'static str,
        text: &Text,
        bind: impl Fn(Query<'q, Sqlite, SqliteArguments>) -> Query<'q, Sqlite, SqliteArguments>,
    ) -> Result<Told, StoreError> {
        let query = |text| bind(sqlx::query(AssertSqlSafe(text)));
        let Some(mut write) = self.write.take() else {
            let mut write = self.store.writer.take(doing).await?;
            let told = write.begin_with(doing, || query(text.first())).await?;
            self.write = Some(write);
            return Ok(told);
        };
        let told = write.ask(query(text.later())).await.doing(doing);
        self.write = Some(write);
        told
    }

    /// Begins its transaction, where it has not begun.
    pub(super) async fn begin(&mut self) -> Result<(), StoreError> {
        if self.write.is_none() {
            self.write = Some(self.store.write("begin to write").await?);
        }
        Ok(())
    }

    /// Its transaction, for statements after the first.
    pub(super) fn begun(&mut self) -> Result<&mut Write, StoreError> {
        let none = || sqlx::Error::Protocol("no transaction has begun".to_owned());
        self.write.as_mut().ok_or_else(none).doing("go on writing")
    }

    /// Undoes the turn where `done` is an error.
    pub(super) fn unless_failed<T>(
        &mut self,
        done: Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        if done.is_err() {
            (self.write, self.claimed) = (None, None);
        }
        done
    }
}
