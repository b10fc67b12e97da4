//! An import: reads a whole manifest into the queue in one transaction, or changes nothing.
//!
//! Rows are staged in a temporary table while the manifest is read (`staging.rs`). Then one transaction
//! decides and writes. It supersedes the pending jobs of older batches for the same questions, so at no
//! time can two jobs of one question be sent. Dropping an [`Import`] rolls it back.

mod apply;
pub(in crate::queue) mod staging;

use sqlx::{Connection as _, Row as _, SqliteConnection};

use crate::domain::job::{App, NewJob, QuestionId};
use crate::queue::read::status::open_by_status;
use crate::queue::sqlite::connection::{begin_immediate, truncate_wal};
use crate::queue::sqlite::doubts;
use crate::queue::sqlite::import::apply::{Index, Questions, insert, step_back};
use crate::queue::sqlite::import::staging::Staging;
use crate::queue::{
    ApprovalId, BatchId, CancellationToken, Context as _, Queue, QueueError, RowBatch,
};

/// An import that has begun.
#[derive(Debug)]
pub struct Import {
    /// Its own connection, so that no writer waits for it while the manifest is read.
    pub(in crate::queue) connection: SqliteConnection,
    app: App,
    pub(in crate::queue) now_ms: i64,
    group: RowBatch,
    staging: Staging,
    questions: Option<Questions>,
    dry_run: bool,
    decides: bool,
    /// Known once the transaction has begun.
    pub(in crate::queue) app_id: i64,
    /// The batch that it creates; 0 without a batch.
    pub(in crate::queue) batch: BatchId,
    pub(in crate::queue) superseded: u64,
    /// The earlier batch of the same manifest, once a preview has found it.
    pub(in crate::queue) known: Option<BatchId>,
    /// The approval that was recorded in its transaction.
    pub(in crate::queue) approval: Option<ApprovalId>,
}

/// What the reader of the manifest counted; becomes the row of the batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportTotals {
    /// The name of the batch in reports.
    pub name: String,
    /// The source of the manifest: a path or standard input.
    pub source: String,
    /// SHA-256 of the manifest and of the options that change its meaning, 64 hex digits.
    pub digest: String,
    pub rows: u64,
    /// Rows that repeat another row.
    pub duplicates: u64,
    /// Bad rows, which make no job.
    pub rejected: u64,
}

/// Whether a manifest that is already in the queue creates a new batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SameManifest {
    /// No: its batch continues, or is finished.
    Continues,
    /// Yes: `--again`.
    Again,
}

/// How an import ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Imported {
    /// The import created a batch.
    New {
        /// The new batch.
        batch: BatchId,
        /// Jobs of older batches that it superseded.
        superseded: u64,
    },
    /// The same manifest is already in the queue; nothing was changed.
    Known {
        /// The earlier batch.
        batch: BatchId,
    },
}

/// The effect that an import would have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preview {
    /// The earlier batch of the same manifest, if the import would continue it.
    pub known: Option<BatchId>,
    /// Jobs of older batches that it would supersede.
    pub superseded: u64,
    /// The app's open jobs after the import, by status, in the order of `Status::ALL`.
    pub open: [u64; 3],
}

/// The page cache of an import and of its temporary tables, in KiB. An import writes in order and sorts
/// while it reads, so a larger cache does not help: with eight times as much, an import of 1,000,000
/// rows took 7 % longer and 50 MiB more.
const CACHE_KIB: u32 = 4 * 1024;

impl Queue {
    /// Begins an import for `app`. Other writers do not wait for it until it has all its rows.
    ///
    /// # Errors
    /// When the queue file cannot be opened by another connection.
    pub async fn begin_import(&self, app: App, now_ms: i64) -> Result<Import, QueueError> {
        const CONTEXT: &str = "begin an import";
        // The same transaction creates every row that its rows refer to.
        let options = self.writer.options().foreign_keys(false);
        let options = options.pragma("cache_size", format!("-{CACHE_KIB}")).pragma("threads", "1");
        // Temporary tables have a separate cache.
        let options = options.pragma("temp.cache_size", format!("-{CACHE_KIB}"));
        let mut connection = SqliteConnection::connect_with(&options).await.context(CONTEXT)?;
        let staging = Staging::begin(&mut connection).await?;
        Ok(Import {
            connection,
            app,
            now_ms,
            group: RowBatch::default(),
            staging,
            questions: None,
            dry_run: false,
            decides: false,
            app_id: 0,
            batch: 0,
            superseded: 0,
            known: None,
            approval: None,
        })
    }
}

/// The id of `app` in this file, created if it is new.
pub(in crate::queue) async fn app_id(
    connection: &mut SqliteConnection,
    app: App,
) -> Result<i64, QueueError> {
    let sdkappid = i64::try_from(app.sdkappid).unwrap_or(i64::MAX);
    sqlx::query("INSERT INTO apps (sdkappid, library) VALUES (?, ?) ON CONFLICT DO NOTHING")
        .bind(sdkappid)
        .bind(app.library.name())
        .execute(&mut *connection)
        .await
        .context("note the app")?;
    sqlx::query_scalar("SELECT id FROM apps WHERE sdkappid = ? AND library = ?")
        .bind(sdkappid)
        .bind(app.library.name())
        .fetch_one(connection)
        .await
        .context("find the app")
}

impl Import {
    /// Lets `stop` cancel the import at any time, with [`QueueError::Stopped`].
    ///
    /// # Errors
    /// When the queue file fails.
    pub async fn cancel_with(&mut self, stop: &CancellationToken) -> Result<(), QueueError> {
        stop.cancel_on(&mut self.connection).await
    }

    /// Adds one row. Each question may be added once; a later row for it goes to [`Import::replace`].
    ///
    /// # Errors
    /// When the row cannot be staged.
    pub async fn add(&mut self, job: NewJob) -> Result<(), QueueError> {
        self.group.push(job);
        if self.group.is_full() { self.write_group().await } else { Ok(()) }
    }

    /// Adds several rows.
    ///
    /// # Errors
    /// When the rows cannot be staged.
    pub async fn add_group(&mut self, group: RowBatch) -> Result<(), QueueError> {
        self.write_group().await?;
        self.staging.add(&mut self.connection, group).await
    }

    /// Adds a row that replaces an earlier one (`--on-conflict last`).
    ///
    /// # Errors
    /// When the row cannot be staged.
    pub async fn replace(&mut self, job: NewJob) -> Result<(), QueueError> {
        self.staging.replace(&mut self.connection, &job).await
    }

    /// Removes the row of a question whose rows contradict each other.
    ///
    /// # Errors
    /// When the removal cannot be staged.
    pub async fn take_out(&mut self, question: &QuestionId) -> Result<(), QueueError> {
        self.staging.take_out(&mut self.connection, question).await
    }

    /// Sets the test whether a row names a question, once all rows are added. With it a large import
    /// scans the jobs once instead of looking up each question.
    pub fn set_membership_test(&mut self, has: impl Fn(&str) -> bool + Send + Sync + 'static) {
        self.questions = Some(Questions(Box::new(has)));
    }

    /// Marks the import as one that is rolled back after its preview.
    pub fn dry_run(&mut self) {
        self.dry_run = true;
    }

    async fn write_group(&mut self) -> Result<(), QueueError> {
        let group = std::mem::take(&mut self.group);
        self.staging.add(&mut self.connection, group).await
    }

    /// Begins the transaction that decides. From now on other writers wait.
    pub(in crate::queue) async fn begin(&mut self) -> Result<(), QueueError> {
        const CONTEXT: &str = "begin an import";
        begin_immediate(&mut self.connection, CONTEXT).await?;
        self.decides = true;
        self.app_id = app_id(&mut self.connection, self.app).await?;
        let saved = sqlx::query("SAVEPOINT before_rows").execute(&mut self.connection).await;
        saved.map(drop).context(CONTEXT)
    }

    /// Writes everything without a commit.
    async fn decide(&mut self, digest: &str, same: SameManifest) -> Result<(), QueueError> {
        self.write_group().await?;
        self.staging.finish(&mut self.connection).await?;
        self.begin().await?;
        if same == SameManifest::Continues {
            // If the manifest has a batch already, this import writes nothing.
            self.known = self.find_known(digest).await?;
        }
        if self.known.is_some() {
            return Ok(());
        }
        // The row of the batch comes first, for its id; its counts follow at the end.
        let noted = sqlx::query(
            "INSERT INTO batches (app_id, name, source, digest, created_ms, rows, jobs, duplicates, rejected)
             VALUES (?, '', '', printf('%064d', 0), ?, 0, 0, 0, 0)",
        )
        .bind(self.app_id)
        .bind(self.now_ms)
        .execute(&mut self.connection)
        .await
        .context("begin an import")?;
        self.batch = noted.last_insert_rowid();
        let (connection, rows) = (&mut self.connection, self.staging.rows);
        let mut index =
            Index::choose(connection, rows, self.questions.take(), self.dry_run).await?;
        self.superseded = step_back(connection, self.app_id, self.now_ms, &mut index).await?;
        insert(connection, self.app_id, self.batch, self.staging.by_status, &index).await?;
        doubts::hold_back(connection, self.now_ms).await
    }

    /// Shows the effect of the import before its commit. A caller that does not want it drops the
    /// import.
    ///
    /// # Errors
    /// When the queue file cannot be written.
    pub async fn preview(
        &mut self,
        digest: &str,
        same: SameManifest,
    ) -> Result<Preview, QueueError> {
        self.decide(digest, same).await?;
        let open = open_by_status(&mut self.connection, self.app_id).await?;
        Ok(Preview { known: self.known, superseded: self.superseded, open })
    }

    /// Commits the import, unless the preview found an earlier batch of the same manifest.
    ///
    /// # Errors
    /// When the queue file cannot be written; the import is then rolled back.
    pub async fn commit(mut self, totals: &ImportTotals) -> Result<Imported, QueueError> {
        if !self.decides {
            self.decide(&totals.digest, SameManifest::Again).await?;
        }
        if let Some(batch) = self.known {
            self.end_without_batch().await?;
            return Ok(Imported::Known { batch });
        }
        let count = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        sqlx::query(
            "UPDATE batches SET name = ?2, source = ?3, digest = ?4, rows = ?5, duplicates = ?6, rejected = ?7,
                    jobs = ?5 - ?6 - ?7
             WHERE id = ?1",
        )
        .bind(self.batch)
        .bind(&totals.name)
        .bind(&totals.source)
        .bind(&totals.digest)
        .bind(count(totals.rows))
        .bind(count(totals.duplicates))
        .bind(count(totals.rejected))
        .execute(&mut self.connection)
        .await
        .context("finish an import")?;
        let imported = Imported::New { batch: self.batch, superseded: self.superseded };
        self.end("COMMIT").await?;
        Ok(imported)
    }

    /// Rolls back, and releases the write lock before it returns. Dropping an import does the same a
    /// little later.
    ///
    /// # Errors
    /// When the queue file fails.
    pub async fn undo(self) -> Result<(), QueueError> {
        self.end("ROLLBACK").await
    }

    /// Ends the transaction, if it has begun, and closes the connection.
    pub(in crate::queue) async fn end(mut self, how: &'static str) -> Result<(), QueueError> {
        // A cancellation must not interrupt the end.
        self.connection.lock_handle().await.context("end an import")?.remove_progress_handler();
        if self.decides {
            // A dry run may lack an index, so it must not be committed.
            let how = if self.dry_run { "ROLLBACK" } else { how };
            match sqlx::query(how).execute(&mut self.connection).await {
                // The engine has already rolled back when it was cancelled.
                Err(_) if how == "ROLLBACK" => {}
                ended => ended.map(drop).context("finish an import")?,
            }
            if how == "COMMIT" {
                truncate_wal(&mut self.connection).await;
            }
        }
        self.connection.close().await.context("close its file")
    }

    /// The newest batch of the same manifest and app.
    async fn find_known(&mut self, digest: &str) -> Result<Option<BatchId>, QueueError> {
        let row = sqlx::query(
            "SELECT id FROM batches WHERE app_id = ? AND digest = ? ORDER BY id DESC LIMIT 1",
        )
        .bind(self.app_id)
        .bind(digest)
        .fetch_optional(&mut self.connection)
        .await
        .context("look for the same manifest")?;
        row.map(|row| row.try_get(0)).transpose().context("look for the same manifest")
    }
}
