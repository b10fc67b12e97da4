//! Manifests of any size: question ids of 24 hexadecimal digits, derived from a number.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;

/// The target statuses, used in turn.
const STATUSES: [&str; 3] = ["enable", "disable", "delete"];

/// The question with this number; its digits look random but are derived from it.
pub fn question(number: usize) -> String {
    let mut random = fastrand::Rng::with_seed(0x6465_736b ^ u64::try_from(number).unwrap_or(0));
    let (high, low) = (random.u32(..), random.u64(..));
    format!("{high:08x}{low:016x}")
}

/// Writes a manifest of these questions, in this order.
///
/// With `status` all rows have that one, otherwise the three alternate.
pub fn write(path: &Path, numbers: impl Iterator<Item = usize>, status: Option<&str>) {
    let mut file = BufWriter::new(File::create(path).expect("a manifest"));
    writeln!(file, "question_id,status").expect("written");
    for (row, number) in numbers.enumerate() {
        let status = status.unwrap_or(STATUSES[row % STATUSES.len()]);
        writeln!(file, "{},{status}", question(number)).expect("written");
    }
    file.into_inner().expect("written").sync_all().expect("synced");
}
