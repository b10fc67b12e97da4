//! An import: one transaction, all of a manifest or nothing.
//!
//! Rows are staged in a table of the import's own while the manifest is read (`staging.rs`). Then one
//! transaction writes them and supersedes pending jobs of the same questions, so two jobs of one question
//! are never pending at once. A dropped import is rolled back.

mod apply;
pub(in crate::queue) mod staging;

use sqlx::{Connection as _, Row as _, SqliteConnection};

use crate::domain::job::{App, NewJob, QuestionId};
use crate::queue::read::row_helpers::sdkappid;
use crate::queue::read::status::open_by_status;
use crate::queue::sqlite::connection::{begin_immediate, truncate_wal};
use crate::queue::sqlite::import::apply::{Index, Questions, insert, supersede_older};
use crate::queue::sqlite::import::staging::Staging;
use crate::queue::sqlite::{SqliteQueue, doubts};
use crate::queue::{
    ApprovalId, BatchId, CancellationToken, Context as _, ImportTotals, Imported, Preview,
    QueueError, RowBatch, SameManifest,
};

/// An import that has begun.
#[derive(Debug)]
pub struct SqliteImport {
    /// Its own, so that no other write waits while the manifest is read.
    pub(in crate::queue) connection: SqliteConnection,
    app: App,
    pub(in crate::queue) now_ms: i64,
    group: RowBatch,
    staging: Staging,
    questions: Option<Questions>,
    dry_run: bool,
    decides: bool,
    /// Known once it decides.
    pub(in crate::queue) app_id: i64,
    pub(in crate::queue) effect: ImportEffect,
    /// The approval that was noted in its transaction.
    pub(in crate::queue) approval: Option<ApprovalId>,
}

/// What an import has found and written in its transaction so far.
#[derive(Debug, Default)]
pub(in crate::queue) struct ImportEffect {
    /// The batch that it makes; 0 while it makes none.
    pub(in crate::queue) batch: BatchId,
    pub(in crate::queue) superseded: u64,
    /// The batch that the same manifest made before, once a preview has found it.
    pub(in crate::queue) known: Option<BatchId>,
}

/// What the engine may keep in memory of the pages that an import changes, and of what it
/// sorts, in KiB. An import writes in order and sorts while it reads, which more would delay: with
/// eight times as much one of 1,000,000 rows took 7 % longer and 50 MiB more.
const CACHE_KIB: u32 = 4 * 1024;

impl SqliteQueue {
    pub(in crate::queue) async fn begin_import(
        &self,
        app: App,
        now_ms: i64,
    ) -> Result<SqliteImport, QueueError> {
        const CONTEXT: &str = "begin an import";
        // What its rows refer to is made in the same transaction.
        let options = self.writer.options().foreign_keys(false);
        let options = options.pragma("cache_size", format!("-{CACHE_KIB}")).pragma("threads", "1");
        // Temporary tables have a cache of their own.
        let options = options.pragma("temp.cache_size", format!("-{CACHE_KIB}"));
        let mut connection = SqliteConnection::connect_with(&options).await.context(CONTEXT)?;
        let staging = Staging::begin(&mut connection).await?;
        Ok(SqliteImport {
            connection,
            app,
            now_ms,
            group: RowBatch::default(),
            staging,
            questions: None,
            dry_run: false,
            decides: false,
            app_id: 0,
            effect: ImportEffect::default(),
            approval: None,
        })
    }
}

/// The number of `app` in this file, made if it is new.
pub(in crate::queue) async fn app_id(
    connection: &mut SqliteConnection,
    app: App,
) -> Result<i64, QueueError> {
    let number = sdkappid(app);
    sqlx::query("INSERT INTO apps (sdkappid, library) VALUES (?, ?) ON CONFLICT DO NOTHING")
        .bind(number)
        .bind(app.library.name())
        .execute(&mut *connection)
        .await
        .context("record the app")?;
    sqlx::query_scalar("SELECT id FROM apps WHERE sdkappid = ? AND library = ?")
        .bind(number)
        .bind(app.library.name())
        .fetch_one(connection)
        .await
        .context("find the app")
}

impl SqliteImport {
    pub(in crate::queue) async fn cancel_with(
        &mut self,
        stop: &CancellationToken,
    ) -> Result<(), QueueError> {
        stop.cancel_on(&mut self.connection).await
    }

    pub(in crate::queue) async fn add_row(&mut self, job: NewJob) -> Result<(), QueueError> {
        self.group.push(job);
        if self.group.is_full() { self.write_group().await } else { Ok(()) }
    }

    pub(in crate::queue) async fn add_rows(&mut self, group: RowBatch) -> Result<(), QueueError> {
        self.write_group().await?;
        self.staging.add(&mut self.connection, group).await
    }

    pub(in crate::queue) async fn replace_row(&mut self, job: NewJob) -> Result<(), QueueError> {
        self.staging.replace(&mut self.connection, &job).await
    }

    pub(in crate::queue) async fn remove_row(
        &mut self,
        question: &QuestionId,
    ) -> Result<(), QueueError> {
        self.staging.remove_row(&mut self.connection, question).await
    }

    pub(in crate::queue) fn set_membership_test(
        &mut self,
        has: impl Fn(&str) -> bool + Send + Sync + 'static,
    ) {
        self.questions = Some(Questions(Box::new(has)));
    }

    pub(in crate::queue) fn dry_run(&mut self) {
        self.dry_run = true;
    }

    async fn write_group(&mut self) -> Result<(), QueueError> {
        let group = std::mem::take(&mut self.group);
        self.staging.add(&mut self.connection, group).await
    }

    /// Begins the transaction that decides. Other writers wait from now on.
    pub(in crate::queue) async fn begin(&mut self) -> Result<(), QueueError> {
        const CONTEXT: &str = "begin an import";
        begin_immediate(&mut self.connection, CONTEXT).await?;
        self.decides = true;
        self.app_id = app_id(&mut self.connection, self.app).await?;
        let saved = sqlx::query("SAVEPOINT before_rows").execute(&mut self.connection).await;
        saved.map(drop).context(CONTEXT)
    }

    /// Writes everything, not yet durable.
    async fn decide(&mut self, digest: &str, same: SameManifest) -> Result<(), QueueError> {
        self.write_group().await?;
        self.staging.finish(&mut self.connection).await?;
        self.begin().await?;
        if same == SameManifest::Continues {
            // If the batch is there already, nothing of this import counts.
            self.effect.known = self.find_known(digest).await?;
        }
        if self.effect.known.is_some() {
            return Ok(());
        }
        // The batch's own row comes first, for its number; its counts follow at the end.
        let noted = sqlx::query(
            "INSERT INTO batches (app_id, name, source, digest, created_ms, rows, jobs, duplicates, rejected)
             VALUES (?, '', '', printf('%064d', 0), ?, 0, 0, 0, 0)",
        )
        .bind(self.app_id)
        .bind(self.now_ms)
        .execute(&mut self.connection)
        .await
        .context("begin an import")?;
        self.effect.batch = noted.last_insert_rowid();
        let (connection, rows) = (&mut self.connection, self.staging.rows);
        let mut index =
            Index::choose(connection, rows, self.questions.take(), self.dry_run).await?;
        self.effect.superseded =
            supersede_older(connection, self.app_id, self.now_ms, &mut index).await?;
        insert(connection, self.app_id, self.effect.batch, self.staging.by_status, &index).await?;
        doubts::hold_back(connection, self.now_ms).await
    }

    pub(in crate::queue) async fn preview(
        &mut self,
        digest: &str,
        same: SameManifest,
    ) -> Result<Preview, QueueError> {
        self.decide(digest, same).await?;
        let open = open_by_status(&mut self.connection, self.app_id).await?;
        Ok(Preview { known: self.effect.known, superseded: self.effect.superseded, open })
    }

    pub(in crate::queue) async fn commit(
        mut self,
        totals: &ImportTotals,
    ) -> Result<Imported, QueueError> {
        if !self.decides {
            self.decide(&totals.digest, SameManifest::Again).await?;
        }
        if let Some(batch) = self.effect.known {
            self.end_without_batch().await?;
            return Ok(Imported::Known { batch });
        }
        let count = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        sqlx::query(
            "UPDATE batches SET name = ?2, source = ?3, digest = ?4, rows = ?5, duplicates = ?6, rejected = ?7,
                    jobs = ?5 - ?6 - ?7
             WHERE id = ?1",
        )
        .bind(self.effect.batch)
        .bind(&totals.name)
        .bind(&totals.source)
        .bind(&totals.digest)
        .bind(count(totals.rows))
        .bind(count(totals.duplicates))
        .bind(count(totals.rejected))
        .execute(&mut self.connection)
        .await
        .context("finish an import")?;
        let imported =
            Imported::New { batch: self.effect.batch, superseded: self.effect.superseded };
        self.end("COMMIT").await?;
        Ok(imported)
    }

    pub(in crate::queue) async fn rollback(self) -> Result<(), QueueError> {
        self.end("ROLLBACK").await
    }

    /// Ends the transaction, if it has begun, and closes its connection.
    pub(in crate::queue) async fn end(mut self, how: &'static str) -> Result<(), QueueError> {
        // It is too late to cancel the import.
        self.connection.lock_handle().await.context("end an import")?.remove_progress_handler();
        if self.decides {
            // A dry run may have left an index out.
            let how = if self.dry_run { "ROLLBACK" } else { how };
            match sqlx::query(how).execute(&mut self.connection).await {
                // The engine has done that by itself when it was stopped.
                Err(_) if how == "ROLLBACK" => {}
                ended => ended.map(drop).context("finish an import")?,
            }
            if how == "COMMIT" {
                truncate_wal(&mut self.connection).await;
            }
        }
        self.connection.close().await.context("close the queue file")
    }

    /// The newest batch made from the same manifest for the same app.
    async fn find_known(&mut self, digest: &str) -> Result<Option<BatchId>, QueueError> {
        let row = sqlx::query(
            "SELECT id FROM batches WHERE app_id = ? AND digest = ? ORDER BY id DESC LIMIT 1",
        )
        .bind(self.app_id)
        .bind(digest)
        .fetch_optional(&mut self.connection)
        .await
        .context("find an earlier import of the manifest")?;
        row.map(|row| row.try_get(0)).transpose().context("find an earlier import of the manifest")
    }
}
