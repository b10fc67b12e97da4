//! An import: one transaction, all of a manifest or nothing.
//!
//! Rows come in as the manifest is read and are written in groups. What waits from older
//! batches for the same questions is superseded in the same transaction, so no moment
//! exists in which two intents for one question could be sent. Dropping an [`Import`]
//! leaves nothing behind.

use sqlx::{QueryBuilder, Row as _, Sqlite, Transaction};

use super::status::open_by_status;
use super::{ApprovalId, BatchId, Doing as _, Store, StoreError};
use crate::job::{App, NewJob};

/// Rows written by one statement.
const GROUP_ROWS: usize = 200;

/// An import that has begun.
#[derive(Debug)]
pub struct Import {
    pub(super) tx: Transaction<'static, Sqlite>,
    pub(super) app_id: i64,
    pub(super) batch: BatchId,
    pub(super) now_ms: i64,
    waiting: Vec<NewJob>,
    pub(super) superseded: u64,
    /// The batch that the same manifest made before, once a preview has found it.
    pub(super) known: Option<BatchId>,
    /// The approval that was noted in its transaction.
    pub(super) approval: Option<ApprovalId>,
}

/// What the manifest's reader counted; becomes the batch's row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportTotals {
    /// What the batch is called in reports.
    pub name: String,
    /// Where the manifest came from.
    pub source: String,
    /// SHA-256 of the manifest and of the options that change its meaning, 64 hex digits.
    pub digest: String,
    /// Rows read.
    pub rows: u64,
    /// Rows that said again what another row said.
    pub duplicates: u64,
    /// Rows that were bad and left out.
    pub rejected: u64,
}

/// Whether a manifest that is already in the queue makes a new batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SameManifest {
    /// No: the batch that it made goes on, or is done.
    Continues,
    /// Yes: `--again`.
    Again,
}

/// How an import ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Imported {
    /// A new batch is in the queue.
    New {
        /// Its number.
        batch: BatchId,
        /// Jobs of older batches that it has superseded.
        superseded: u64,
    },
    /// The same manifest is in the queue already; nothing was changed.
    Known {
        /// The number of its batch.
        batch: BatchId,
    },
}

/// What an import would do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preview {
    /// The batch that the same manifest made before, if it would continue that one.
    pub known: Option<BatchId>,
    /// Jobs of older batches that it would supersede.
    pub superseded: u64,
    /// The app's open jobs after it, by status, in the order of `Status::ALL`.
    pub open: [u64; 3],
}

impl Store {
    /// Begins an import for `app`. Other writers wait until it is finished or dropped.
    ///
    /// # Errors
    /// When the queue file cannot be written.
    pub async fn begin_import(&self, app: App, now_ms: i64) -> Result<Import, StoreError> {
        let mut tx = self.write("begin an import").await?;
        let app_id = app_id(&mut tx, app).await?;
        sqlx::query("SAVEPOINT before_rows").execute(&mut *tx).await.doing("begin an import")?;
        // The batch's own row comes first, for its number; its figures come at the end.
        let noted = sqlx::query(
            "INSERT INTO batches (app_id, name, source, digest, created_ms, rows, jobs, duplicates, rejected)
             VALUES (?, '', '', printf('%064d', 0), ?, 0, 0, 0, 0)",
        )
        .bind(app_id)
        .bind(now_ms)
        .execute(&mut *tx)
        .await
        .doing("begin an import")?;
        let batch = noted.last_insert_rowid();
        let waiting = Vec::with_capacity(GROUP_ROWS);
        Ok(Import {
            tx,
            app_id,
            batch,
            now_ms,
            waiting,
            superseded: 0,
            known: None,
            approval: None,
        })
    }
}

/// The number of `app` in this file, made if it is new.
pub(super) async fn app_id(
    tx: &mut Transaction<'static, Sqlite>,
    app: App,
) -> Result<i64, StoreError> {
    let sdkappid = i64::try_from(app.sdkappid).unwrap_or(i64::MAX);
    sqlx::query("INSERT INTO apps (sdkappid, library) VALUES (?, ?) ON CONFLICT DO NOTHING")
        .bind(sdkappid)
        .bind(app.library.name())
        .execute(&mut **tx)
        .await
        .doing("note the app")?;
    sqlx::query_scalar("SELECT id FROM apps WHERE sdkappid = ? AND library = ?")
        .bind(sdkappid)
        .bind(app.library.name())
        .fetch_one(&mut **tx)
        .await
        .doing("find the app")
}

impl Import {
    /// Takes one row. An id may come once; a later row for it goes to [`Import::replace`].
    ///
    /// # Errors
    /// When the queue file cannot be written.
    pub async fn add(&mut self, job: NewJob) -> Result<(), StoreError> {
        self.waiting.push(job);
        if self.waiting.len() < GROUP_ROWS { Ok(()) } else { self.write_group().await }
    }

    /// Takes a row that speaks instead of one taken before (`--on-conflict last`).
    ///
    /// # Errors
    /// When the queue file cannot be written.
    pub async fn replace(&mut self, job: NewJob) -> Result<(), StoreError> {
        self.write_group().await?;
        sqlx::query(
            "UPDATE jobs SET status = ?, line = ?
             WHERE app_id = ? AND question_id = ? AND newest = 1 AND batch_id = ? AND state = 'pending'",
        )
        .bind(job.status.code())
        .bind(i64::try_from(job.line).unwrap_or(i64::MAX))
        .bind(self.app_id)
        .bind(job.question_id.as_str())
        .bind(self.batch)
        .execute(&mut *self.tx)
        .await
        .doing("replace a row of the manifest")?;
        Ok(())
    }

    /// Says what the import does, before it is durable: a caller that does not want it
    /// drops it.
    ///
    /// # Errors
    /// When the queue file cannot be written.
    pub async fn preview(
        &mut self,
        digest: &str,
        same: SameManifest,
    ) -> Result<Preview, StoreError> {
        self.write_group().await?;
        if same == SameManifest::Continues {
            self.known = self.find_known(digest).await?;
        }
        if self.known.is_some() {
            // The batch is there already, so nothing of this import counts.
            self.withdraw().await?;
        }
        let open = open_by_status(&mut self.tx, self.app_id).await?;
        Ok(Preview { known: self.known, superseded: self.superseded, open })
    }

    /// Makes everything durable, unless the same manifest is in the queue already as the
    /// preview has found.
    ///
    /// # Errors
    /// When the queue file cannot be written; nothing is left behind then.
    pub async fn commit(mut self, totals: &ImportTotals) -> Result<Imported, StoreError> {
        if let Some(batch) = self.known {
            self.end_without_batch().await?;
            return Ok(Imported::Known { batch });
        }
        self.write_group().await?;
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
        .execute(&mut *self.tx)
        .await
        .doing("finish an import")?;
        self.tx.commit().await.doing("finish an import")?;
        Ok(Imported::New { batch: self.batch, superseded: self.superseded })
    }

    /// Leaves nothing behind, and lets other writers go on before this returns. Dropping
    /// an import does the same a little later.
    ///
    /// # Errors
    /// When the queue file fails.
    pub async fn undo(self) -> Result<(), StoreError> {
        self.tx.rollback().await.doing("undo an import")
    }

    /// The newest other batch made from the same manifest for the same app.
    async fn find_known(&mut self, digest: &str) -> Result<Option<BatchId>, StoreError> {
        let row = sqlx::query(
            "SELECT id FROM batches WHERE app_id = ? AND digest = ? AND id <> ? ORDER BY id DESC LIMIT 1",
        )
        .bind(self.app_id)
        .bind(digest)
        .bind(self.batch)
        .fetch_optional(&mut *self.tx)
        .await
        .doing("look for the same manifest")?;
        row.map(|row| row.try_get(0)).transpose().doing("look for the same manifest")
    }

    async fn write_group(&mut self) -> Result<(), StoreError> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        let jobs = std::mem::take(&mut self.waiting);
        self.supersede_waiting(&jobs).await?;
        self.step_back_others(&jobs).await?;
        self.insert(&jobs).await?;
        self.waiting = jobs;
        self.waiting.clear();
        Ok(())
    }

    /// `pending → superseded` for what waits from older batches for the same questions.
    async fn supersede_waiting(&mut self, jobs: &[NewJob]) -> Result<(), StoreError> {
        let mut sql = QueryBuilder::new(
            "UPDATE jobs SET state = 'superseded', held_by = NULL, newest = 0, finished_ms = ",
        );
        sql.push_bind(self.now_ms).push(" WHERE state = 'pending'");
        self.same_questions(&mut sql, jobs);
        let done = sql.build().execute(&mut *self.tx).await.doing("supersede older jobs")?;
        self.superseded += done.rows_affected();
        Ok(())
    }

    /// Jobs of the same questions in any other state keep it, but are the newest no longer:
    /// one in flight is superseded if it ever comes back, a failed one is not revived.
    async fn step_back_others(&mut self, jobs: &[NewJob]) -> Result<(), StoreError> {
        let mut sql = QueryBuilder::new("UPDATE jobs SET newest = 0 WHERE state <> 'pending'");
        self.same_questions(&mut sql, jobs);
        sql.build().execute(&mut *self.tx).await.doing("step older jobs back")?;
        Ok(())
    }

    fn same_questions(&self, sql: &mut QueryBuilder<Sqlite>, jobs: &[NewJob]) {
        sql.push(" AND newest = 1 AND app_id = ").push_bind(self.app_id);
        sql.push(" AND question_id IN (");
        let mut ids = sql.separated(", ");
        for job in jobs {
            ids.push_bind(job.question_id.as_str().to_owned());
        }
        sql.push(")");
    }

    async fn insert(&mut self, jobs: &[NewJob]) -> Result<(), StoreError> {
        let mut sql =
            QueryBuilder::new("INSERT INTO jobs (batch_id, app_id, line, question_id, status) ");
        sql.push_values(jobs, |mut row, job| {
            row.push_bind(self.batch)
                .push_bind(self.app_id)
                .push_bind(i64::try_from(job.line).unwrap_or(i64::MAX))
                .push_bind(job.question_id.as_str().to_owned())
                .push_bind(job.status.code());
        });
        sql.build().execute(&mut *self.tx).await.doing("write jobs")?;
        Ok(())
    }
}
