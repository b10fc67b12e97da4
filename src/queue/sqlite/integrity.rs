//! Checks the whole queue file for damage, for `doctor`.
//!
//! The check reads every page and every row, and reports each problem as one line. It repairs nothing.
//! Only [`Queue::recount`] writes: it rebuilds the counters from the jobs and requests they count.

use futures_util::TryStreamExt as _;
use sqlx::Row as _;

use crate::queue::sqlite::SqliteQueue;
use crate::queue::sqlite::job_counters::{find_drift, rebuild};
use crate::queue::sqlite::open::engine_code;
use crate::queue::{Context as _, QueueError};

/// The operation, for errors.
const CONTEXT: &str = "check the integrity of the queue";
/// `SQLITE_CORRUPT`: the database disk image is malformed.
const SQLITE_CORRUPT: i32 = 11;

impl SqliteQueue {
    pub(in crate::queue) async fn check(&self) -> Result<Vec<String>, QueueError> {
        let mut wrong = Vec::new();
        let mut looked = self.check_pages(&mut wrong).await;
        // Rows in damaged pages prove nothing.
        if looked.is_ok() && wrong.is_empty() {
            looked = self.check_rows(&mut wrong).await;
        }
        if looked.is_ok() && wrong.is_empty() {
            looked = self.check_latest_jobs(&mut wrong).await;
        }
        if looked.is_ok() && wrong.is_empty() {
            looked = self.check_requests_in_flight(&mut wrong).await;
        }
        if looked.is_ok() && wrong.is_empty() {
            looked = self.check_counters(&mut wrong).await;
        }
        match looked {
            Ok(()) => Ok(wrong),
            // Damage that stops the engine from reading on.
            Err(e) if engine_code(&e) == Some(SQLITE_CORRUPT) => {
                wrong.push(e.to_string());
                Ok(wrong)
            }
            Err(source) => Err(source).context(CONTEXT),
        }
    }

    async fn check_pages(&self, wrong: &mut Vec<String>) -> Result<(), sqlx::Error> {
        let mut lines = sqlx::query_scalar("PRAGMA quick_check").fetch(&self.readers);
        while let Some(line) = lines.try_next().await? {
            wrong.extend(Some(line).filter(|line| line != "ok"));
        }
        Ok(())
    }

    async fn check_rows(&self, wrong: &mut Vec<String>) -> Result<(), sqlx::Error> {
        let mut strays = sqlx::query("PRAGMA foreign_key_check").fetch(&self.readers);
        while let Some(stray) = strays.try_next().await? {
            let (table, row): (&str, Option<i64>) = (stray.try_get(0)?, stray.try_get(1)?);
            let parent: &str = stray.try_get(2)?;
            // A table without rowids has no row number.
            let which =
                row.map_or_else(|| format!("a row of {table}"), |row| format!("{table} row {row}"));
            wrong.push(format!("{which} refers to a row of {parent} that does not exist"));
        }
        Ok(())
    }

    /// Checks that the index of latest jobs exists; without it, that each question has one latest job.
    async fn check_latest_jobs(&self, wrong: &mut Vec<String>) -> Result<(), sqlx::Error> {
        const INDEX: &str = "SELECT count(*) FROM sqlite_schema WHERE name = 'jobs_latest'";
        if sqlx::query_scalar::<_, i64>(INDEX).fetch_one(&self.readers).await? > 0 {
            return Ok(());
        }
        wrong.push("the index jobs_latest is missing".to_owned());
        let twice = sqlx::query_scalar(
            "SELECT 'jobs row ' || max(id) || ' is as new as row ' || min(id) || ' for the same question' FROM jobs
             WHERE is_latest GROUP BY app_id, question_id HAVING count(*) > 1",
        );
        wrong.extend(twice.fetch_all(&self.readers).await?);
        Ok(())
    }

    /// Checks that each job in flight belongs to an open request, since it can be found only through
    /// that request.
    async fn check_requests_in_flight(&self, wrong: &mut Vec<String>) -> Result<(), sqlx::Error> {
        let lost = sqlx::query_scalar(
            "SELECT 'jobs row ' || id || ' is in flight, but no open request has it' FROM jobs
             WHERE state = 'in_flight' AND request_id NOT IN (SELECT id FROM requests WHERE verdict IS NULL)",
        );
        wrong.extend(lost.fetch_all(&self.readers).await?);
        Ok(())
    }

    async fn check_counters(&self, wrong: &mut Vec<String>) -> Result<(), sqlx::Error> {
        let mut reader = self.readers.acquire().await?;
        wrong.extend(find_drift(&mut reader).await?);
        Ok(())
    }

    pub(in crate::queue) async fn recount(&self) -> Result<Vec<String>, QueueError> {
        const CONTEXT: &str = "recount the jobs";
        let mut tx = self.write(CONTEXT).await?;
        let wrong = find_drift(&mut tx).await.context(CONTEXT)?;
        if !wrong.is_empty() {
            rebuild(&mut tx).await.context(CONTEXT)?;
        }
        tx.commit().await.context(CONTEXT)?;
        Ok(wrong)
    }
}
