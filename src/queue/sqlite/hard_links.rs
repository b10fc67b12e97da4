//! Rejects a queue file with a second name. The lock and the log lie beside the name by which a file is
//! opened. Under a second name there would be a second lock and a second log: two runs would send the
//! same jobs and overwrite each other's pages.
//!
//! Symbolic links are resolved before this check. A hard link or a file that is mounted by itself does
//! not lead to another name, so it is rejected.

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use crate::util::escape::path_text;

/// The kind of second name that a queue file may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecondName {
    /// A hard link.
    HardLink,
    /// The file is a mount point of its own.
    Mount,
}

impl SecondName {
    /// The error text: the problem, and what to do.
    pub(in crate::queue) fn reason(self, path: &Path) -> String {
        let path = path_text(path);
        match self {
            Self::HardLink => format!(
                "has a second name, a hard link. Remove one of the names (`find / -xdev -samefile {path}` lists both), or \
                 replace one by a copy."
            ),
            Self::Mount => {
                format!("is mounted as a single file. Mount its directory instead of {path}.")
            }
        }
    }

    /// The second name of the file at `path`, whose symbolic links are resolved; `None` if it can have
    /// none.
    pub(in crate::queue) fn of(path: &Path, found: &Metadata) -> Option<Self> {
        if found.nlink() > 1 {
            return Some(Self::HardLink);
        }
        is_mount(path).then_some(Self::Mount)
    }
}

/// Whether `path` is a mount point. Only Linux mounts single files.
fn is_mount(path: &Path) -> bool {
    let mounts = fs::read("/proc/self/mountinfo").unwrap_or_default();
    let wanted = path.as_os_str().as_encoded_bytes();
    mounts.split(|byte| *byte == b'\n').any(|line| {
        // The fifth field is the mount point.
        let place = line.split(|byte| *byte == b' ').nth(4);
        place.is_some_and(|place| unescaped(place) == wanted)
    })
}

/// Decodes a field of `mountinfo`, which writes blanks and backslashes as octal escapes such as `\040`.
fn unescaped(word: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(word.len());
    let mut rest = word;
    while let Some((&first, after)) = rest.split_first() {
        let octal = after
            .get(..3)
            .filter(|digits| first == b'\\' && digits.iter().all(|d| (b'0'..=b'7').contains(d)));
        match octal {
            Some(digits) => {
                let value =
                    digits.iter().fold(0_u32, |sum, digit| sum * 8 + u32::from(digit - b'0'));
                bytes.push(u8::try_from(value).unwrap_or(b'?'));
                rest = &after[3..];
            }
            None => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_with_blanks_are_unescaped() {
        for (word, bytes) in [
            ("/queue/deskbatch.db", "/queue/deskbatch.db"),
            ("/a\\040b\\134c", "/a b\\c"),
            ("\\04", "\\04"),
            ("\\999", "\\999"),
        ] {
            assert_eq!(unescaped(word.as_bytes()), bytes.as_bytes(), "{word}");
        }
    }
}
