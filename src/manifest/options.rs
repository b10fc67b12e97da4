//! The options of the command line that decide how a manifest is read.

use std::fmt;
use std::str::FromStr;

use crate::domain::job::TargetStatus;
use crate::util::suggest::did_you_mean;

/// How a manifest is read.
#[derive(Debug, Clone, Default)]
pub struct ManifestOptions {
    /// One status for every row. It overrides a status column.
    pub status: Option<TargetStatus>,
    /// The delimiter between fields; recognised from the header line if not given.
    pub delimiter: Option<u8>,
    /// Which row counts when two rows of one question have different target statuses. Without it, a conflict
    /// is an error.
    pub on_conflict: Option<OnConflict>,
    /// Whether [`super::Manifest::set_aside`] may be called. A pipe is then copied while it is read, because
    /// it can be read only once.
    pub sets_aside: bool,
    /// The app that the questions should belong to; only for [`super::Totals::other_app_ids`].
    pub sdkappid: u64,
}

/// Which row counts when two rows of one question have different target statuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnConflict {
    /// The row that comes first in the file.
    First,
    /// The row that comes last in the file.
    Last,
}

impl fmt::Display for OnConflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::First => "first",
            Self::Last => "last",
        })
    }
}

impl FromStr for OnConflict {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Self::First, Self::Last]
            .into_iter()
            .find(|choice| text.eq_ignore_ascii_case(&choice.to_string()))
            .ok_or_else(|| {
                let meant = did_you_mean(text, ["first", "last"]);
                format!("not a choice: {meant}use first or last")
            })
    }
}
