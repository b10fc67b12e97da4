//! What is read from rows in the same way wherever it stands: a count, an app; and the stretches
//! in which many rows are summed. Only reads.

use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use crate::domain::job::App;
use crate::queue::{Context as _, QueueError};

/// Rows that one statement sums.
const STRETCH_ROWS: i64 = 100_000;

/// Stretches that cover every row of a table from number `first` to `last`; none where there is
/// no row.
pub(in crate::queue) fn stretches(
    ends: Option<(i64, i64)>,
) -> impl Iterator<Item = (i64, i64)> + Send {
    ends.into_iter().flat_map(|(first, last)| {
        let starts = (first..=last).step_by(usize::try_from(STRETCH_ROWS).unwrap_or(usize::MAX));
        starts.map(move |start| (start, (start + STRETCH_ROWS - 1).min(last)))
    })
}

/// The first and the last number of a table, in columns 0 and 1; none if it is empty.
pub(in crate::queue) fn ends(row: &SqliteRow) -> Result<Option<(i64, i64)>, sqlx::Error> {
    Ok(row.try_get::<Option<i64>, _>(0)?.zip(row.try_get(1)?))
}

/// A column that counts something.
pub(in crate::queue) fn count(row: &SqliteRow, at: usize) -> Result<u64, sqlx::Error> {
    let n: i64 = row.try_get(at)?;
    Ok(u64::try_from(n).unwrap_or_default())
}

/// The app in the columns `at` and the next one, of row `id` of `table`.
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
