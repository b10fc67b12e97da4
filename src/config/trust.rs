//! Whose settings' file is obeyed, and which one may hold a secret.
//!
//! A settings' file decides where calls and the proof of who we are go, and what the shell runs
//! afterwards. One that another user has put into the current folder, or can change, is not obeyed.
//! All of this is asked of the open file, whatever its name leads to a moment later.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;

use rustix::fs::{StatVfsMountFlags, fstatvfs};
use rustix::process::{getegid, geteuid, getgroups};

use super::ConfigError;
use crate::text::path_text;

/// The kinds of file system that live in memory, by the kernel's numbers: tmpfs, ramfs.
#[cfg(target_os = "linux")]
const IN_MEMORY: [u32; 2] = [0x0102_1994, 0x8584_58f6];

/// What the system says of an open file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) mode: u32,
    uid: u32,
    gid: u32,
    /// The system's own device, such as `/dev/null`, has no settings of anybody.
    is_device: bool,
    mount: Mount,
}

/// What a file lies on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mount {
    ReadOnly,
    InMemory,
    Other,
}

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Asker {
    uid: u32,
    gid: u32,
    groups: Vec<u32>,
}

impl Found {
    /// Looks at `file`.
    pub(super) fn of(file: &File) -> io::Result<Self> {
        let found = file.metadata()?;
        let is_device = found.file_type().is_char_device() && found.uid() == 0;
        let (mode, uid, gid) = (found.mode(), found.uid(), found.gid());
        Ok(Self { mode, uid, gid, is_device, mount: mount_of(file) })
    }

    fn others_can(&self, bits: u32) -> bool {
        self.mode & bits != 0
    }
}

fn mount_of(file: &File) -> Mount {
    if fstatvfs(file).is_ok_and(|found| found.f_flag.contains(StatVfsMountFlags::RDONLY)) {
        return Mount::ReadOnly;
    }
    if is_in_memory(file) { Mount::InMemory } else { Mount::Other }
}

#[cfg(target_os = "linux")]
fn is_in_memory(file: &File) -> bool {
    // The numbers have 32 bits; how wide the field is differs from machine to machine.
    let number = rustix::fs::fstatfs(file).map(|found| i128::from(found.f_type) & 0xffff_ffff);
    number.is_ok_and(|number| IN_MEMORY.iter().any(|kind| i128::from(*kind) == number))
}

#[cfg(not(target_os = "linux"))]
fn is_in_memory(_: &File) -> bool {
    false
}

impl Asker {
    /// This process.
    pub(super) fn this() -> Self {
        let groups = getgroups().unwrap_or_default().into_iter().map(rustix::process::Gid::as_raw);
        Self {
            uid: geteuid().as_raw(),
            gid: getegid().as_raw(),
            groups: groups.chain([getegid().as_raw()]).collect(),
        }
    }

    fn owns(&self, found: &Found) -> bool {
        found.uid == self.uid || found.uid == 0
    }

    /// Whether the file's group has this user alone in it, by the custom of most systems: a group
    /// with the number of its only user.
    fn is_alone_in_group(&self, found: &Found) -> bool {
        found.gid == self.gid && self.gid == self.uid
    }

    /// A secret that is mounted for a group of this process, as Kubernetes does with `fsGroup`:
    /// root's or the user's, readable by the group, writable neither by it nor by others.
    fn is_mounted_for(&self, found: &Found) -> bool {
        let is_mount = match found.mount {
            Mount::ReadOnly => !found.others_can(0o027),
            Mount::InMemory => !found.others_can(0o027 | 0o222),
            Mount::Other => false,
        };
        is_mount && self.owns(found) && self.groups.contains(&found.gid)
    }
}

/// Fails unless the file is the user's or root's and no other user can change it.
pub(super) fn must_be_obeyed(path: &Path, found: &Found, asker: &Asker) -> Result<(), ConfigError> {
    if found.is_device {
        return Ok(());
    }
    let path = path_text(path);
    if !asker.owns(found) {
        return Err(ConfigError(format!(
            "{path} belongs to another user (uid {}; you are {}) and is not obeyed: it could send calls and what proves \
             who you are elsewhere, and run commands: make it your own with chown, or name another file with --config",
            found.uid, asker.uid
        )));
    }
    let group = found.others_can(0o020) && !asker.is_alone_in_group(found);
    if group || found.others_can(0o002) {
        return Err(ConfigError(format!(
            "{path} can be changed by others (mode {:o}) and is not obeyed: it could send calls and what proves who you \
             are elsewhere, and run commands: read what is in it, then run `chmod go-w {path}`",
            found.mode & 0o7777
        )));
    }
    Ok(())
}

/// Fails if others can read a file that holds a secret.
pub(super) fn must_be_private(
    path: &Path,
    found: &Found,
    asker: &Asker,
) -> Result<(), ConfigError> {
    if !found.others_can(0o077) || asker.is_mounted_for(found) {
        return Ok(());
    }
    let path = path_text(path);
    Err(ConfigError(format!(
        "{path} holds a secret and others can read it: run `chmod 600 {path}`"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    const USER: u32 = 1_000;
    const GROUP: u32 = 2_000;

    fn asker() -> Asker {
        Asker { uid: USER, gid: USER, groups: vec![GROUP, USER] }
    }

    fn found(uid: u32, gid: u32, mode: u32, mount: Mount) -> Found {
        Found { mode: 0o100_000 | mode, uid, gid, is_device: false, mount }
    }

    #[test]
    fn file_is_obeyed_if_nobody_else_can_change_it() {
        let obeyed = |uid, gid, mode| {
            let found = found(uid, gid, mode, Mount::Other);
            must_be_obeyed(Path::new("a"), &found, &asker()).is_ok()
        };
        for (uid, gid, mode, expected) in [
            (USER, USER, 0o600, true),
            (USER, GROUP, 0o644, true),
            (0, 0, 0o644, true),
            // The group of this user alone.
            (USER, USER, 0o664, true),
            (USER, GROUP, 0o664, false),
            (0, 0, 0o664, false),
            (USER, USER, 0o606, false),
            (USER, USER, 0o602, false),
            (USER + 1, USER, 0o600, false),
            (USER + 1, USER, 0o666, false),
        ] {
            assert_eq!(obeyed(uid, gid, mode), expected, "{uid} {gid} {mode:o}");
        }
        let shared = Asker { gid: GROUP, ..asker() };
        let group_file = found(USER, GROUP, 0o664, Mount::Other);
        must_be_obeyed(Path::new("a"), &group_file, &shared).unwrap_err();
        let device = Found { is_device: true, ..found(0, 0, 0o666, Mount::Other) };
        must_be_obeyed(Path::new("/dev/null"), &device, &asker()).unwrap();
    }

    #[test]
    fn secret_of_a_group_needs_a_mount_for_it() {
        let private = |uid, gid, mode, mount| {
            must_be_private(Path::new("a"), &found(uid, gid, mode, mount), &asker()).is_ok()
        };
        for (uid, gid, mode, mount, expected) in [
            (USER, USER, 0o600, Mount::Other, true),
            (0, GROUP, 0o440, Mount::InMemory, true),
            (0, GROUP, 0o440, Mount::ReadOnly, true),
            (0, GROUP, 0o640, Mount::ReadOnly, true),
            (USER, GROUP, 0o440, Mount::ReadOnly, true),
            (0, GROUP, 0o640, Mount::InMemory, false),
            (0, GROUP, 0o440, Mount::Other, false),
            (0, GROUP, 0o460, Mount::ReadOnly, false),
            (0, GROUP, 0o444, Mount::ReadOnly, false),
            (0, GROUP + 1, 0o440, Mount::ReadOnly, false),
            (USER + 1, GROUP, 0o440, Mount::ReadOnly, false),
        ] {
            assert_eq!(private(uid, gid, mode, mount), expected, "{uid} {gid} {mode:o} {mount:?}");
        }
    }
}
