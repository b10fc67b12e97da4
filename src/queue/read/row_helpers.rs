//! Helpers that read rows by the names of their columns: structs, integers, enums.
//!
//! Also splits a table into ranges of ids, in which many rows are summed without a large sort.
//! Only reads.

use sqlx::error::BoxDynError;
use sqlx::sqlite::SqliteRow;
use sqlx::{Database, Decode, FromRow, Row as _, Type};

use crate::domain::job::{App, JobState, Library, TargetStatus};
use crate::queue::WaitReason;

/// The rows of one range.
const RANGE_ROWS: i64 = 100_000;

/// Ranges that cover all rows of a table from id `first` to `last`; none for an empty table.
pub(in crate::queue) fn id_ranges(
    ends: Option<(i64, i64)>,
) -> impl Iterator<Item = (i64, i64)> + Send {
    ends.into_iter().flat_map(|(first, last)| {
        let starts = (first..=last).step_by(usize::try_from(RANGE_ROWS).unwrap_or(usize::MAX));
        starts.map(move |start| (start, (start + RANGE_ROWS - 1).min(last)))
    })
}

/// The columns `first_id` and `last_id` of a table; `None` for an empty table.
pub(in crate::queue) fn first_and_last_id(
    row: &SqliteRow,
) -> Result<Option<(i64, i64)>, sqlx::Error> {
    Ok(row.try_get::<Option<i64>, _>("first_id")?.zip(row.try_get("last_id")?))
}

/// Implements `FromRow` for a struct whose fields are columns of the same name. After `field =` comes the
/// function that reads the field: [`integer`], [`flatten`], [`skip`] or one of the module.
///
/// The derive of sqlx is not used, since it depends on the engine: every build would compile SQLite twice,
/// once for the compiler.
macro_rules! from_row {
    ($name:ident { $($field:ident $(= $read:path)?),+ $(,)? }) => {
        impl ::sqlx::FromRow<'_, ::sqlx::sqlite::SqliteRow> for $name {
            fn from_row(row: &::sqlx::sqlite::SqliteRow) -> Result<Self, ::sqlx::Error> {
                Ok(Self {
                    $($field: $crate::queue::read::row_helpers::from_row!(@ row $field $($read)?)?),+
                })
            }
        }
    };
    (@ $row:ident $field:ident) => { ::sqlx::Row::try_get($row, stringify!($field)) };
    (@ $row:ident $field:ident $read:path) => { $read($row, stringify!($field)) };
}
pub(in crate::queue) use from_row;

/// Reads an integer as a type that cannot hold every integer, such as a count.
pub(in crate::queue) fn integer<T>(row: &SqliteRow, column: &str) -> Result<T, sqlx::Error>
where
    T: TryFrom<i64, Error: std::error::Error + Send + Sync + 'static>,
{
    T::try_from(row.try_get(column)?).map_err(|error| sqlx::Error::ColumnDecode {
        index: column.to_owned(),
        source: error.into(),
    })
}

/// Reads a field that is a struct from columns of the same row.
pub(in crate::queue) fn flatten<'r, T>(row: &'r SqliteRow, _: &str) -> Result<T, sqlx::Error>
where
    T: FromRow<'r, SqliteRow>,
{
    T::from_row(row)
}

/// Leaves a field empty that has no column, for the caller to fill.
#[expect(clippy::unnecessary_wraps, reason = "it is called as the functions that read")]
pub(in crate::queue) fn skip<T: Default>(_: &SqliteRow, _: &str) -> Result<T, sqlx::Error> {
    Ok(T::default())
}

from_row!(App { sdkappid = integer, library });

/// The number of an app as a value of a statement. No app has a number that the column cannot hold.
pub(in crate::queue) fn sdkappid(app: App) -> i64 {
    i64::try_from(app.sdkappid).unwrap_or(i64::MAX)
}

/// Reads a difference of two counters. Below 0 it is 0: until `doctor` repairs them, they can disagree.
pub(in crate::queue) fn difference(row: &SqliteRow, column: &str) -> Result<u64, sqlx::Error> {
    Ok(u64::try_from(row.try_get::<i64, _>(column)?).unwrap_or_default())
}

/// Implements `Decode` for enums that a text column stores by name. An unknown name is an error.
macro_rules! decode_name {
    ($($name:ty),+) => {$(
        impl<DB: Database> Type<DB> for $name
        where
            str: Type<DB>,
        {
            fn type_info() -> DB::TypeInfo {
                str::type_info()
            }

            fn compatible(column: &DB::TypeInfo) -> bool {
                str::compatible(column)
            }
        }

        impl<'r, DB: Database> Decode<'r, DB> for $name
        where
            &'r str: Decode<'r, DB>,
        {
            fn decode(value: DB::ValueRef<'r>) -> Result<Self, BoxDynError> {
                Ok(<&str>::decode(value)?.parse::<Self>()?)
            }
        }
    )+};
}

decode_name!(JobState, Library, WaitReason);

/// A target status is stored as the number of the service.
impl<DB: Database> Type<DB> for TargetStatus
where
    i64: Type<DB>,
{
    fn type_info() -> DB::TypeInfo {
        i64::type_info()
    }

    fn compatible(column: &DB::TypeInfo) -> bool {
        i64::compatible(column)
    }
}

impl<'r, DB: Database> Decode<'r, DB> for TargetStatus
where
    i64: Decode<'r, DB>,
{
    fn decode(value: DB::ValueRef<'r>) -> Result<Self, BoxDynError> {
        let code = i64::decode(value)?;
        Ok(Self::from_code(code).ok_or_else(|| format!("no target status has the code {code}"))?)
    }
}
