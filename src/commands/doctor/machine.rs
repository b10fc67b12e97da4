//! Checks what a run needs of this host: files, queue, lock and disk space.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, StatVfsMountFlags};

use super::Finding;
use crate::commands::error::{CommandError, Exit};
use crate::config::Settings;
use crate::queue::{Queue, QueueError};
use crate::util::count::counted;
use crate::util::escape::path_text;

/// The most defects of a queue that are printed.
const DAMAGE_SHOWN: usize = 5;

/// The prefix of a defect that a recount repairs.
const COUNTER_DEFECT: &str = "counters: ";

/// Disk space per job, in bytes: about 180 in the queue file with its indexes, the same again in the
/// WAL during the import, and a share of the requests.
const JOB_BYTES: u64 = 512;

/// Less free space is bad, in bytes: an import of a few thousand rows would not fit.
const FREE_BAD_BYTES: u64 = 16 << 20;

/// Less free space is a warning, in bytes.
const FREE_WARN_BYTES: u64 = 256 << 20;

/// Network file systems by their magic number in the kernel.
#[cfg(target_os = "linux")]
const NETWORK_FILE_SYSTEMS: [(u32, &str); 7] = [
    (0x6969, "NFS"),
    (0x517b, "SMB"),
    (0xfe53_4d42, "SMB"),
    (0xff53_4d42, "CIFS"),
    (0x5346_414f, "AFS"),
    (0x00c3_6400, "Ceph"),
    (0x0102_1997, "9P"),
];

pub(super) async fn check(settings: &Settings, recount: bool) -> Vec<Finding> {
    let path = settings.database.as_path();
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => PathBuf::from("."),
    };
    if !folder.is_dir() {
        let folder = path_text(&folder);
        let text = format!(
            "the directory {folder} does not exist. Create it, or name another queue file with --database"
        );
        return vec![Finding::error("files", Exit::Broken, text)];
    }
    let mut findings = vec![check_files(path, &folder)];
    // Before the queue is opened, which creates files of its own.
    findings.extend(check_disk(path, &folder));
    findings.push(check_queue(path, recount, &settings.flags()).await);
    findings.push(check_lock(path));
    findings
}

/// Whether this user, and no other, can read and write the files.
fn check_files(path: &Path, folder: &Path) -> Finding {
    let can_write = |path: &Path| rustix::fs::access(path, Access::READ_OK | Access::WRITE_OK);
    let there = fs::metadata(path);
    // The directory too: WAL and lock file are created beside the queue.
    let unusable = [folder, path]
        .into_iter()
        .filter(|path| path.exists())
        .find_map(|path| can_write(path).err().map(|error| (path_text(path), error)));
    if let Some((name, error)) = unusable {
        let text = format!(
            "cannot read and write {name}: {error}. Give this user the permission, or name another queue file with \
             --database"
        );
        return Finding::error("files", Exit::Broken, text);
    }
    match there.map(|found| found.permissions().mode() & 0o777) {
        Ok(mode) if mode & 0o077 != 0 => Finding::warning(
            "files",
            format!(
                "other users can access {path} (mode {mode:o}). Run `chmod 600 {path}`",
                path = path_text(path)
            ),
        ),
        Ok(mode) => Finding::ok(
            "files",
            format!("{} is readable only by its owner (mode {mode:o})", path_text(path)),
        ),
        Err(_) => Finding::ok("files", format!("{} can be created", path_text(path))),
    }
}

/// Whether the queue is intact; a missing one is ok. With `recount`, wrong counters are repaired.
async fn check_queue(database: &Path, recount: bool, flags: &str) -> Finding {
    let path = path_text(database);
    // Any command that opens an empty file makes a new queue of it.
    if fs::metadata(database).is_ok_and(|file| file.is_file() && file.len() == 0) {
        let text = format!("{path} is empty. If it had jobs, restore it from a backup");
        return Finding::error("queue", Exit::Usage, text);
    }
    let queue = match Queue::open_existing(database).await {
        Ok(queue) => queue,
        Err(QueueError::Missing(_)) => {
            let text = format!("{path} does not exist yet: the first import creates it");
            return Finding::ok("queue", text);
        }
        Err(error) => return Finding::from_error("queue", &error.into()),
    };
    let finding = check_rows(&queue, &path, recount, flags).await;
    queue.close().await;
    finding.unwrap_or_else(|error| Finding::from_error("queue", &error.at(database).into()))
}

async fn check_rows(
    queue: &Queue,
    path: &str,
    recount: bool,
    flags: &str,
) -> Result<Finding, QueueError> {
    let repaired = if recount { queue.recount().await?.len() } else { 0 };
    let damage = queue.check().await?;
    let shown = damage.iter().take(DAMAGE_SHOWN).map(String::as_str).collect::<Vec<_>>().join("; ");
    Ok(if damage.is_empty() && queue.has_lost_log().await? {
        let text = format!(
            "{path} is intact, but its write-ahead log {path}-wal was lost, and with it the last records of a run. Put \
             the log back beside it before anything else: without it, the next run sets all pending jobs in doubt"
        );
        Finding::warning("queue", text)
    } else if damage.is_empty() {
        let note = match repaired {
            0 => String::new(),
            n => format!("; rebuilt {}", counted(n as u64, "wrong counter")),
        };
        Finding::ok(
            "queue",
            format!("{path} is intact, schema version {}{note}", Queue::schema_version()),
        )
    } else if damage.iter().all(|line| line.starts_with(COUNTER_DEFECT)) {
        let text = format!(
            "{path} has wrong counters ({shown}). Its jobs are intact. Rebuild the counters with `deskbatch \
             doctor{flags} --repair-counters`"
        );
        Finding::error("queue", Exit::Broken, text)
    } else {
        let text = format!(
            "{path} is damaged ({shown}). Keep a copy, then restore it from a backup, or import the manifests into a \
             new file (--database)"
        );
        Finding::error("queue", Exit::Broken, text)
    })
}

/// A held lock is ok: a run is running.
fn check_lock(database: &Path) -> Finding {
    // The lock file is beside the queue file itself, not beside a link to it.
    let real = fs::canonicalize(database).unwrap_or_else(|_| database.to_owned());
    match Queue::lease_holder(&real) {
        Ok(None) => Finding::ok("lock", "free: no run holds the lock"),
        Ok(Some(holder)) => Finding::ok(
            "lock",
            format!("a run holds the lock: {holder}. Another run would end with exit code 5"),
        ),
        Err(error) => Finding::from_error("lock", &CommandError::from(error)),
    }
}

/// Whether there is space for an import, on a local disk.
fn check_disk(path: &Path, folder: &Path) -> Vec<Finding> {
    let mut findings = Vec::new();
    match rustix::fs::statvfs(folder) {
        Ok(found) if found.f_flag.contains(StatVfsMountFlags::RDONLY) => {
            let text = "the file system is mounted read-only. Name a queue file on another one with --database";
            findings.push(Finding::error("disk", Exit::Broken, text));
        }
        Ok(found) => {
            let queue_bytes = fs::metadata(path).map_or(0, |file| file.len());
            findings
                .push(check_free_space(found.f_bavail.saturating_mul(found.f_frsize), queue_bytes));
        }
        Err(error) => {
            let text = format!("cannot read the free disk space: {error}. Check it with `df`");
            findings.push(Finding::warning("disk", text));
        }
    }
    if let Some(kind) = network_file_system(folder) {
        let text = format!(
            "the queue file is on a network file system ({kind}), whose locks are not reliable. Keep it on a local \
             disk of this host (--database)"
        );
        findings.push(Finding::warning("disk", text));
    }
    findings
}

/// Whether `free_bytes` are enough beside a queue of `queue_bytes`, whose WAL may grow to its size.
fn check_free_space(free_bytes: u64, queue_bytes: u64) -> Finding {
    let free = bytes_text(free_bytes);
    let jobs = free_bytes.saturating_sub(queue_bytes) / JOB_BYTES;
    let text = format!("{free} free, enough for about {}", counted(jobs, "more job"));
    let advice = "Free some space, or name a queue file on another disk with --database";
    if free_bytes < FREE_BAD_BYTES {
        return Finding::error("disk", Exit::Broken, format!("{text}. {advice}"));
    }
    // Not below the limit above: prune itself needs space before it frees any.
    let advice = format!("{advice}; `deskbatch prune` deletes old finished batches");
    if free_bytes < FREE_WARN_BYTES.max(queue_bytes) {
        return Finding::warning("disk", format!("{text}. {advice}"));
    }
    Finding::ok("disk", text)
}

fn bytes_text(bytes: u64) -> String {
    let units = [("GiB", 30), ("MiB", 20), ("KiB", 10)];
    let unit = units.into_iter().find(|(_, shift)| bytes >> shift > 0);
    unit.map_or_else(
        || format!("{bytes} bytes"),
        |(name, shift)| {
            let tenths = (u128::from(bytes) * 10) >> shift;
            format!("{}.{} {name}", tenths / 10, tenths % 10)
        },
    )
}

#[cfg(target_os = "linux")]
fn network_file_system(folder: &Path) -> Option<&'static str> {
    let found = rustix::fs::statfs(folder).ok()?;
    // The magic has 32 bits, but the width and sign of the field differ between platforms.
    let number = u32::try_from(i128::from(found.f_type) & 0xffff_ffff).ok()?;
    NETWORK_FILE_SYSTEMS.iter().find(|(known, _)| *known == number).map(|(_, kind)| *kind)
}

#[cfg(not(target_os = "linux"))]
fn network_file_system(_: &Path) -> Option<&'static str> {
    None
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;

    #[test]
    fn little_free_space_is_a_warning_or_bad() {
        for (free, queue, level, part) in [
            (0, 0, Level::Error(Exit::Broken), "0 bytes free, enough for about 0"),
            ((16 << 20) - 1, 0, Level::Error(Exit::Broken), "15.9 MiB free"),
            (16 << 20, 0, Level::Warning, "16.0 MiB free, enough for about 32768"),
            (300 << 20, 0, Level::Ok, "300.0 MiB free"),
            (300 << 20, 301 << 20, Level::Warning, "enough for about 0"),
            (u64::MAX, 0, Level::Ok, "GiB free"),
        ] {
            let finding = check_free_space(free, queue);
            assert_eq!(finding.level, level, "{free}: {}", finding.text);
            assert!(finding.text.contains(part), "{free}: {}", finding.text);
            let advises_prune = finding.text.contains("prune");
            assert_eq!(advises_prune, level == Level::Warning, "{free}: {}", finding.text);
        }
    }
}
