//! A turn to write, the one connection that this process writes by, and the write-ahead log
//! afterwards.
//!
//! Relies on a connection's own busy timeout for each try. Never gives up: whoever writes
//! ends, and a process that is killed frees the file with its death. The connection is no
//! pool's: a pool asks it twice for each use whether it still answers, and each question to
//! the engine's thread costs about as much as a small statement.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use futures_util::TryStreamExt as _;
use serde::Serialize;
use sqlx::query::Query;
use sqlx::sqlite::{SqliteArguments, SqliteConnectOptions, SqliteRow};
use sqlx::{Connection as _, Either, Executor as _, Row as _, Sqlite, SqliteConnection};
use tokio::sync::{Mutex, OwnedMutexGuard};

use super::{Doing as _, StoreError, open};

/// Where writers of this process queue up, instead of meeting in the file. Clones are one place.
#[derive(Debug, Clone)]
pub(super) struct Writer {
    options: SqliteConnectOptions,
    place: Arc<Mutex<Place>>,
}

#[derive(Debug)]
enum Place {
    Open(SqliteConnection),
    /// Not there yet, or gone with a transaction that did not come to its end.
    Empty,
    Closed,
}

impl Writer {
    /// One that writes by `connection`, and by another one like `options` if that is lost.
    pub(super) fn new(connection: SqliteConnection, options: SqliteConnectOptions) -> Self {
        Self { options, place: Arc::new(Mutex::new(Place::Open(connection))) }
    }

    /// A place of its own for the same file, whose connection is made when it is needed.
    pub(super) fn apart(&self) -> Self {
        Self { options: self.options.clone(), place: Arc::new(Mutex::new(Place::Empty)) }
    }

    /// How its connections are made, for others like them.
    pub(super) fn options(&self) -> &SqliteConnectOptions {
        &self.options
    }

    /// Closes the connection as soon as nobody writes by it, for every clone.
    pub(super) async fn close(self) {
        let mut place = self.place.lock().await;
        if let Place::Open(connection) = std::mem::replace(&mut *place, Place::Closed)
            && let Err(error) = connection.close().await
        {
            tracing::debug!(%error, "the queue file was not closed well");
        }
    }

    /// A transaction that has its lock from the first statement on.
    pub(super) async fn begin(&self, doing: &'static str) -> Result<Write, StoreError> {
        let mut write = self.take(doing).await?;
        begin_on(&mut write, doing).await?;
        Ok(write)
    }

    /// A transaction that is still to begin, by [`Write::begin_with`].
    pub(super) async fn take(&self, doing: &'static str) -> Result<Write, StoreError> {
        let mut place = Arc::clone(&self.place).lock_owned().await;
        let connection = match std::mem::replace(&mut *place, Place::Empty) {
            Place::Open(connection) => connection,
            Place::Empty => SqliteConnection::connect_with(&self.options).await.doing(doing)?,
            Place::Closed => {
                *place = Place::Closed;
                return Err(sqlx::Error::PoolClosed).doing(doing);
            }
        };
        Ok(Write { place, connection })
    }
}

/// How a transaction begins that has its lock from the first statement on.
const BEGIN: &str = "BEGIN IMMEDIATE";

/// Statements that are asked in one go, since every question to the engine's thread costs about
/// as much as a statement of a few rows. Always the same text, so that the engine makes them once.
#[derive(Debug, Clone)]
pub(super) struct Text {
    first: Arc<str>,
    later: Arc<str>,
}

impl Text {
    pub(super) fn new(statements: &str) -> Self {
        Self { first: format!("{BEGIN};{statements}").into(), later: statements.into() }
    }

    /// As the first of a transaction, which they begin.
    pub(super) fn first(&self) -> Arc<str> {
        Arc::clone(&self.first)
    }

    /// Later in one.
    pub(super) fn later(&self) -> Arc<str> {
        Arc::clone(&self.later)
    }
}

/// What the statements of a [`Text`] told.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// How many rows each of them changed; what it says for one that changes none means nothing.
    pub(super) changes: Vec<u64>,
    /// The rows of those that read.
    pub(super) rows: Vec<SqliteRow>,
    /// The number of the last row that was inserted.
    pub(super) inserted: i64,
}

/// A write transaction. Dropped before its end it takes its connection with it, and so leaves
/// nothing behind.
#[derive(Debug)]
pub(super) struct Write {
    place: OwnedMutexGuard<Place>,
    connection: SqliteConnection,
}

impl Write {
    /// Begins with `statements`, which are the first of a [`Text`], however long another process
    /// writes. What they told is without the beginning.
    pub(super) async fn begin_with<'q>(
        &mut self,
        doing: &'static str,
        statements: impl Fn() -> Query<'q, Sqlite, SqliteArguments>,
    ) -> Result<Told, StoreError> {
        loop {
            match self.ask(statements()).await {
                // It has not begun.
                Err(e) if open::is_busy(&e) => still_waits(doing),
                Err(e) => return Err(e).doing(doing),
                Ok(mut told) => {
                    told.changes.remove(0);
                    return Ok(told);
                }
            }
        }
    }

    /// What `statements` tell.
    pub(super) async fn ask(
        &mut self,
        statements: Query<'_, Sqlite, SqliteArguments>,
    ) -> Result<Told, sqlx::Error> {
        let mut told = Told::default();
        let mut answers = self.connection.fetch_many(statements);
        while let Some(answer) = answers.try_next().await? {
            match answer {
                Either::Left(done) => {
                    told.changes.push(done.rows_affected());
                    told.inserted = done.last_insert_rowid();
                }
                Either::Right(row) => told.rows.push(row),
            }
        }
        Ok(told)
    }

    /// Makes it durable.
    pub(super) async fn commit(self) -> Result<(), sqlx::Error> {
        self.end("COMMIT").await
    }

    /// Undoes it, before this returns.
    pub(super) async fn rollback(self) -> Result<(), sqlx::Error> {
        self.end("ROLLBACK").await
    }

    async fn end(mut self, how: &'static str) -> Result<(), sqlx::Error> {
        sqlx::query(how).execute(&mut self.connection).await?;
        self.give_back();
        Ok(())
    }

    /// Ends its use of the connection, on which no transaction is open.
    fn give_back(self) {
        let Self { mut place, connection } = self;
        *place = Place::Open(connection);
    }

    /// Copies all of the log into the file, in place of a transaction: however long another process
    /// needs the state before it.
    pub(super) async fn fold_all(mut self, doing: &'static str) -> Result<(), StoreError> {
        loop {
            let folded = sqlx::query("PRAGMA wal_checkpoint(FULL)").fetch_one(&mut self.connection);
            let busy: i64 = folded.await.and_then(|row| row.try_get(0)).doing(doing)?;
            if busy == 0 {
                self.give_back();
                return Ok(());
            }
            tracing::warn!(doing, "another process uses the queue: still waiting");
        }
    }
}

impl Deref for Write {
    type Target = SqliteConnection;

    fn deref(&self) -> &SqliteConnection {
        &self.connection
    }
}

impl DerefMut for Write {
    fn deref_mut(&mut self) -> &mut SqliteConnection {
        &mut self.connection
    }
}

/// That is nobody's fault, and ends.
fn still_waits(doing: &'static str) {
    tracing::warn!(doing, "another process is writing to the queue: still waiting");
}

/// Begins a transaction that has its lock from the first statement on, however long another
/// process writes. Dropped with its connection, it leaves nothing behind.
pub(super) async fn begin_on(
    connection: &mut SqliteConnection,
    doing: &'static str,
) -> Result<(), StoreError> {
    loop {
        match sqlx::query(BEGIN).execute(&mut *connection).await {
            Err(e) if open::is_busy(&e) => still_waits(doing),
            begun => return begun.map(drop).doing(doing),
        }
    }
}

/// Folds the log into the file after something large, and takes its room back, as far as
/// nobody has to wait for that. What is left the next write does.
pub(super) async fn fold(connection: &mut SqliteConnection) {
    // The first one copies and holds up nobody; the second has little left to do.
    let quietly =
        "PRAGMA busy_timeout = 0; PRAGMA wal_checkpoint(PASSIVE); PRAGMA wal_checkpoint(TRUNCATE)";
    if let Err(error) = sqlx::raw_sql(quietly).execute(connection).await {
        tracing::debug!(%error, "the log was not folded in");
    }
}

/// Figures as a JSON array: one bound value however many there are.
pub(super) fn json<T: Serialize>(figures: &[T]) -> String {
    serde_json::to_string(figures).unwrap_or_default()
}
