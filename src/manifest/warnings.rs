//! What is no mistake for sure, and has to be read before the jobs of a manifest are sent.

use super::{ManifestOptions, Totals};

/// What there is to warn of in a manifest that was read, a sentence each.
pub(super) fn of(totals: &Totals, options: &ManifestOptions) -> Vec<String> {
    let mut warnings = Vec::new();
    if totals.foreign > 0 {
        warnings.push(format!(
            "{} ids do not begin with the SDKAppID {}, for example {}: is this the right application?",
            totals.foreign,
            options.sdkappid,
            totals.foreign_example.as_deref().unwrap_or_default(),
        ));
    }
    warnings
}
