//! One queue file, one name. The lock and the log lie beside the name by which a file was opened:
//! under a second name there would be a second lock and a second log, so two runs would send the
//! same jobs and write over each other's pages.
//!
//! A symbolic link is followed to the one name before this is asked. A hard link, and a file that is
//! mounted by itself, lead to no other name, so they are refused.

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use crate::util::escape::path_text;

/// Why a queue file may have another name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecondName {
    /// A hard link.
    HardLink,
    /// The file is a mount of its own.
    Mount,
}

impl SecondName {
    /// What is the matter, and what to do.
    pub(in crate::queue) fn reason(self, path: &Path) -> String {
        let path = path_text(path);
        match self {
            Self::HardLink => format!(
                "has a second name, by a hard link (find / -xdev -samefile {path} shows both): remove one, or make it a copy"
            ),
            Self::Mount => {
                format!("is mounted as a single file: mount its folder in place of {path}")
            }
        }
    }

    /// How the file at `path`, which has no symbolic link in it, may have another name.
    pub(in crate::queue) fn of(path: &Path, found: &Metadata) -> Option<Self> {
        if found.nlink() > 1 {
            return Some(Self::HardLink);
        }
        is_mount(path).then_some(Self::Mount)
    }
}

/// Linux alone mounts files.
fn is_mount(path: &Path) -> bool {
    let mounts = fs::read("/proc/self/mountinfo").unwrap_or_default();
    let wanted = path.as_os_str().as_encoded_bytes();
    mounts.split(|byte| *byte == b'\n').any(|line| {
        // The fifth word is where it is mounted.
        let place = line.split(|byte| *byte == b' ').nth(4);
        place.is_some_and(|place| unescaped(place) == wanted)
    })
}

/// A word of `mountinfo`, in which blanks and backslashes are written as `\040`.
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
