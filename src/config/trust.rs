//! Which configuration file is trusted, and which one may contain a secret.
//!
//! The file decides the destination of requests and credentials, and which hook runs. A file that another user
//! owns or can change is rejected. All checks use the open file, so that a replaced path makes no difference.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;

use rustix::fs::{StatVfsMountFlags, fstatvfs};
use rustix::process::{getegid, geteuid, getgroups};

use super::ConfigError;
use crate::util::escape::path_text;

/// The magic numbers of file systems in memory: tmpfs, ramfs.
#[cfg(target_os = "linux")]
const IN_MEMORY: [u32; 2] = [0x0102_1994, 0x8584_58f6];

/// Owner, permissions and kind of an open file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FileStatus {
    pub(super) mode: u32,
    uid: u32,
    gid: u32,
    /// Whether it is a device of the system, such as `/dev/null`.
    is_device: bool,
    mount: Mount,
}

/// The kind of mount that a file is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mount {
    ReadOnly,
    InMemory,
    Other,
}

/// The user and the groups of a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Credentials {
    uid: u32,
    gid: u32,
    groups: Vec<u32>,
}

impl FileStatus {
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
    // The magic has 32 bits, but the width and sign of the field differ between platforms.
    let number = rustix::fs::fstatfs(file).map(|found| i128::from(found.f_type) & 0xffff_ffff);
    number.is_ok_and(|number| IN_MEMORY.iter().any(|kind| i128::from(*kind) == number))
}

#[cfg(not(target_os = "linux"))]
fn is_in_memory(_: &File) -> bool {
    false
}

impl Credentials {
    /// Those of this process.
    pub(super) fn of_process() -> Self {
        let groups = getgroups().unwrap_or_default().into_iter().map(rustix::process::Gid::as_raw);
        Self {
            uid: geteuid().as_raw(),
            gid: getegid().as_raw(),
            groups: groups.chain([getegid().as_raw()]).collect(),
        }
    }

    fn owns(&self, status: &FileStatus) -> bool {
        status.uid == self.uid || status.uid == 0
    }

    /// Whether the file's group is a user private group: its number is that of its only user.
    fn is_alone_in_group(&self, status: &FileStatus) -> bool {
        status.gid == self.gid && self.gid == self.uid
    }

    /// Whether the file is a secret mounted for a group of this process, as Kubernetes does with `fsGroup`:
    /// owned by root or the user, readable but not writable by the group, closed to others.
    fn is_mounted_for(&self, status: &FileStatus) -> bool {
        let is_mount = match status.mount {
            Mount::ReadOnly => !status.others_can(0o027),
            Mount::InMemory => !status.others_can(0o027 | 0o222),
            Mount::Other => false,
        };
        is_mount && self.owns(status) && self.groups.contains(&status.gid)
    }
}

/// Fails unless the user or root owns the file and no other user can change it.
pub(super) fn must_be_trusted(
    path: &Path,
    status: &FileStatus,
    user: &Credentials,
) -> Result<(), ConfigError> {
    if status.is_device {
        return Ok(());
    }
    let path = path_text(path);
    if !user.owns(status) {
        return Err(ConfigError(format!(
            "refusing to use {path}: it belongs to another user (uid {}; you are {}), who could redirect requests and \
             credentials, and run commands. Change its owner with chown, or name another file with --config.",
            status.uid, user.uid
        )));
    }
    let group = status.others_can(0o020) && !user.is_alone_in_group(status);
    if group || status.others_can(0o002) {
        return Err(ConfigError(format!(
            "refusing to use {path}: other users can change it (mode {:o}), and so redirect requests and credentials, and \
             run commands. Check its content, then run `chmod go-w {path}`.",
            status.mode & 0o7777
        )));
    }
    Ok(())
}

/// Fails if other users can read the file, which contains a secret.
pub(super) fn must_be_private(
    path: &Path,
    status: &FileStatus,
    user: &Credentials,
) -> Result<(), ConfigError> {
    if !status.others_can(0o077) || user.is_mounted_for(status) {
        return Ok(());
    }
    let path = path_text(path);
    Err(ConfigError(format!(
        "{path} contains a secret, and other users can read it: run `chmod 600 {path}`"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    const USER: u32 = 1_000;
    const GROUP: u32 = 2_000;

    fn user() -> Credentials {
        Credentials { uid: USER, gid: USER, groups: vec![GROUP, USER] }
    }

    fn found(uid: u32, gid: u32, mode: u32, mount: Mount) -> FileStatus {
        FileStatus { mode: 0o100_000 | mode, uid, gid, is_device: false, mount }
    }

    #[test]
    fn file_is_trusted_if_no_other_user_can_change_it() {
        let is_trusted = |uid, gid, mode| {
            let found = found(uid, gid, mode, Mount::Other);
            must_be_trusted(Path::new("a"), &found, &user()).is_ok()
        };
        for (uid, gid, mode, expected) in [
            (USER, USER, 0o600, true),
            (USER, GROUP, 0o644, true),
            (0, 0, 0o644, true),
            // A user private group.
            (USER, USER, 0o664, true),
            (USER, GROUP, 0o664, false),
            (0, 0, 0o664, false),
            (USER, USER, 0o606, false),
            (USER, USER, 0o602, false),
            (USER + 1, USER, 0o600, false),
            (USER + 1, USER, 0o666, false),
        ] {
            assert_eq!(is_trusted(uid, gid, mode), expected, "{uid} {gid} {mode:o}");
        }
        let shared = Credentials { gid: GROUP, ..user() };
        let group_file = found(USER, GROUP, 0o664, Mount::Other);
        must_be_trusted(Path::new("a"), &group_file, &shared).unwrap_err();
        let device = FileStatus { is_device: true, ..found(0, 0, 0o666, Mount::Other) };
        must_be_trusted(Path::new("/dev/null"), &device, &user()).unwrap();
    }

    #[test]
    fn group_readable_secret_needs_a_mount() {
        let is_private = |uid, gid, mode, mount| {
            must_be_private(Path::new("a"), &found(uid, gid, mode, mount), &user()).is_ok()
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
            assert_eq!(
                is_private(uid, gid, mode, mount),
                expected,
                "{uid} {gid} {mode:o} {mount:?}"
            );
        }
    }
}
