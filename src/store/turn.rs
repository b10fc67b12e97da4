//! A run's turn to write: the answers that have come and the claim of what leaves next, in one
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
use super::{Doing as _, Store, StoreError};

/// See the head of this file. Dropped before it is committed, it leaves nothing behind.
#[derive(Debug)]
pub struct Turn {
    pub(super) store: Store,
    /// `None` before its first statement.
    write: Option<Write>,
}

impl Store {
    /// A turn that has written nothing yet.
    pub fn turn(&self) -> Turn {
        Turn { store: self.clone(), write: None }
    }
}

impl Turn {
    /// Makes durable what was written since the last time, if anything was.
    ///
    /// # Errors
    /// When the queue file cannot be written: nothing of it has happened then.
    pub async fn commit(&mut self) -> Result<(), StoreError> {
        match self.write.take() {
            Some(write) => write.commit().await.doing("make what was written durable"),
            None => Ok(()),
        }
    }

    /// What `text` tells, with the values that `bind` gives it. Where it changes something, the
    /// turn has to be undone after an error.
    pub(super) async fn ask<'q>(
        &mut self,
        doing: &'static str,
        text: &Text,
        bind: impl Fn(Query<'q, Sqlite, SqliteArguments>) -> Query<'q, Sqlite, SqliteArguments>,
    ) -> Result<Told, StoreError> {
        let query = |text| bind(sqlx::query(AssertSqlSafe(text)));
        let (write, told) = match self.write.take() {
            Some(mut write) => {
                let told = write.ask(query(text.later())).await.doing(doing);
                (write, told)
            }
            None => {
                let mut write = self.store.writer.take(doing).await?;
                let told = write.begin_with(doing, || query(text.first())).await;
                (write, told)
            }
        };
        self.write = Some(write);
        told
    }

    /// The open transaction, for statements after its first.
    pub(super) fn open(&mut self) -> Result<&mut Write, StoreError> {
        self.write.as_mut().ok_or(sqlx::Error::WorkerCrashed).doing("go on writing")
    }

    /// Undoes the turn where `done` is an error.
    pub(super) fn unless_failed<T>(
        &mut self,
        done: Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        if done.is_err() {
            self.write = None;
        }
        done
    }
}
