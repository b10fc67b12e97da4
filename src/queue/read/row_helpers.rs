//! Helpers that decode columns of rows: a count, an app, a range of ids.
//!
//! Also splits a table into ranges, in which many rows are summed without a large sort.
//! Only reads.

use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use crate::domain::job::App;
use crate::queue::{Context as _, QueueError};

/// The rows of one range.
const STRETCH_ROWS: i64 = 100_000;

/// Ranges that cover all rows of a table from id `first` to `last`; none for an empty table.
pub(in crate::queue) fn stretches(
    ends: Option<(i64, i64)>,
) -> impl Iterator<Item = (i64, i64)> + Send {
    ends.into_iter().flat_map(|(first, last)| {
        let starts = (first..=last).step_by(usize::try_from(STRETCH_ROWS).unwrap_or(usize::MAX));
        starts.map(move |start| (start, (start + STRETCH_ROWS - 1).min(last)))
    })
}

/// The first and the last id of a table, in columns 0 and 1; `None` for an empty table.
pub(in crate::queue) fn ends(row: &SqliteRow) -> Result<Option<(i64, i64)>, sqlx::Error> {
    Ok(row.try_get::<Option<i64>, _>(0)?.zip(row.try_get(1)?))
}

/// Reads a count. A negative value reads as 0.
pub(in crate::queue) fn count(row: &SqliteRow, at: usize) -> Result<u64, sqlx::Error> {
    let n: i64 = row.try_get(at)?;
    Ok(u64::try_from(n).unwrap_or_default())
}

/// Reads the app from column `at` and the next one; `id` is the row of `table`, for errors.
pub(in crate::queue) fn app(
    row: &SqliteRow,
    at: usize,
    table: &'static str,
    id: i64,
) -> Result<App, QueueError> {
    let impossible = |reason: String| QueueError::Impossible { table, row: id, reason };
    let sdkappid: i64 = row.try_get(at).context("read an app")?;
    let library: &str = row.try_get(at + 1).context("read an app")?;
    Ok(App {
        sdkappid: u64::try_from(sdkappid).map_err(|e| impossible(e.to_string()))?,
        library: library.parse().map_err(impossible)?,
    })
}
