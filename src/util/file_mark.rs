//! The mark on a file that this program wrote: an extended attribute with the file's size and
//! modification time. Any later write makes the mark wrong, so an edited file is recognised. Some file
//! systems do not support extended attributes.

use std::fs::{File, Metadata};
use std::os::unix::fs::MetadataExt as _;

use rustix::fs::{XattrFlags, fgetxattr, fsetxattr};
use rustix::io::Errno;

/// The attribute's name.
const ATTRIBUTE: &str = "user.deskbatch";

/// Marks `file` in its present state, if the file system supports it.
pub(crate) fn set_mark(file: &File) {
    if let Ok(metadata) = file.metadata() {
        let _ = fsetxattr(file, ATTRIBUTE, state(&metadata).as_bytes(), XattrFlags::empty());
    }
}

/// Whether `file` is unchanged since it was marked; `None` if the file system does not support marks.
pub(crate) fn is_unchanged(file: &File, metadata: &Metadata) -> Option<bool> {
    let mut mark = [0; 64];
    match fgetxattr(file, ATTRIBUTE, &mut mark[..]) {
        Ok(length) => Some(mark[..length] == *state(metadata).as_bytes()),
        Err(Errno::NOTSUP | Errno::PERM | Errno::ACCESS | Errno::NOSYS) => None,
        Err(_) => Some(false),
    }
}

fn state(metadata: &Metadata) -> String {
    format!("{} {}.{:09}", metadata.len(), metadata.mtime(), metadata.mtime_nsec())
}
