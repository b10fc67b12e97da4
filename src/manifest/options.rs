//! The options of the command line that decide how a manifest is read.

use strum::{Display, EnumMessage, EnumString, IntoStaticStr, VariantArray};

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
#[derive(Display, EnumMessage, EnumString, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "lowercase", ascii_case_insensitive)]
#[strum(parse_err_ty = String, parse_err_fn = not_a_choice)]
pub enum OnConflict {
    /// The row that comes first in the file.
    First,
    /// The row that comes last in the file.
    Last,
}

fn not_a_choice(text: &str) -> String {
    let meant = did_you_mean(text, OnConflict::VARIANTS.iter().map(Into::into));
    format!("not a choice{meant}: use first or last")
}
