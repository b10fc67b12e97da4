//! Checks what a run needs of this machine: files, queue, lock and disk space.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, StatVfsMountFlags};

use super::Finding;
use crate::commands::error::{CommandError, Exit};
use crate::config::Settings;
use crate::queue::{Queue, QueueError};
use crate::util::escape::path_text;

/// The most defects of a queue that are printed.
const DAMAGE_SHOWN: usize = 5;

/// The prefix of a defect that a recount repairs.
const COUNTER_DEFECT: &str = "figures: ";

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
            "the folder {folder} is not there: make it, or name another file with --database"
        );
        return vec![Finding::bad("files", Exit::Broken, text)];
    }
    let mut findings = vec![check_files(path, &folder)];
    // Before the queue is opened, which creates files of its own.
    findings.extend(check_disk(path, &folder));
    findings.push(check_queue(path, recount).await);
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
            "{name} cannot be read and written: {error}: give this user the right to, or name another file with --database"
        );
        return Finding::bad("files", Exit::Broken, text);
    }
    match there.map(|found| found.permissions().mode() & 0o777) {
        Ok(mode) if mode & 0o077 != 0 => Finding::warn(
            "files",
            format!(
                "others can use {path} (mode {mode:o}): chmod 600 {path}",
                path = path_text(path)
            ),
        ),
        Ok(_) => Finding::ok("files", format!("{} is yours alone", path_text(path))),
        Err(_) => Finding::ok("files", format!("{} can be made", path_text(path))),
    }
}

/// Whether the queue is intact; a missing one is ok. With `recount`, wrong counters are repaired.
async fn check_queue(database: &Path, recount: bool) -> Finding {
    let path = path_text(database);
    // Any command that opens an empty file makes a new queue of it.
    if fs::metadata(database).is_ok_and(|file| file.is_file() && file.len() == 0) {
        let text = format!("{path} is empty: if there were jobs in it, restore it from a backup");
        return Finding::bad("queue", Exit::Usage, text);
    }
    let queue = match Queue::open_existing(database).await {
        Ok(queue) => queue,
        Err(QueueError::Missing(_)) => {
            let text = format!("{path} is not there yet: the first import makes it");
            return Finding::ok("queue", text);
        }
        Err(error) => return Finding::from_error("queue", &error.into()),
    };
    let finding = check_rows(&queue, &path, recount).await;
    queue.close().await;
    finding.unwrap_or_else(|error| Finding::from_error("queue", &error.at(database).into()))
}

async fn check_rows(queue: &Queue, path: &str, recount: bool) -> Result<Finding, QueueError> {
    let repaired = if recount { queue.recount().await?.len() } else { 0 };
    let damage = queue.check().await?;
    let shown = damage.iter().take(DAMAGE_SHOWN).map(String::as_str).collect::<Vec<_>>().join("; ");
    Ok(if damage.is_empty() && queue.has_lost_log().await? {
        let text = format!(
            "{path} is whole, but its log {path}-wal was lost, and what a run has recorded last with it: put the log \
             back beside it before anything else; without it the next run takes all pending jobs for in doubt"
        );
        Finding::warn("queue", text)
    } else if damage.is_empty() {
        let note = match repaired {
            0 => String::new(),
            some => format!("; {some} figures were wrong and were counted anew"),
        };
        Finding::ok(
            "queue",
            format!("{path} is whole, of version {}{note}", Queue::schema_version()),
        )
    } else if damage.iter().all(|line| line.starts_with(COUNTER_DEFECT)) {
        let text = format!(
            "{path} keeps wrong figures ({shown}): its jobs are whole; deskbatch doctor --recount counts them anew"
        );
        Finding::bad("queue", Exit::Broken, text)
    } else {
        let text = format!(
            "{path} is damaged ({shown}): keep a copy, restore it from a backup, or import the manifests into a new \
             file (--database)"
        );
        Finding::bad("queue", Exit::Broken, text)
    })
}

/// A held lock is ok: a run is running.
fn check_lock(database: &Path) -> Finding {
    // The lock file is beside the queue file itself, not beside a link to it.
    let real = fs::canonicalize(database).unwrap_or_else(|_| database.to_owned());
    match Queue::lease_holder(&real) {
        Ok(None) => Finding::ok("lock", "free: no run has the queue"),
        Ok(Some(holder)) => {
            Finding::ok("lock", format!("a run has the queue: {holder}; another would end with 5"))
        }
        Err(error) => Finding::from_error("lock", &CommandError::from(error)),
    }
}

/// Whether there is space for an import, on a local disk.
fn check_disk(path: &Path, folder: &Path) -> Vec<Finding> {
    let mut findings = Vec::new();
    match rustix::fs::statvfs(folder) {
        Ok(found) if found.f_flag.contains(StatVfsMountFlags::RDONLY) => {
            let text =
                "the file system is mounted for reading alone: name another file with --database";
            findings.push(Finding::bad("disk", Exit::Broken, text));
        }
        Ok(found) => {
            let queue_bytes = fs::metadata(path).map_or(0, |file| file.len());
            findings
                .push(check_free_space(found.f_bavail.saturating_mul(found.f_frsize), queue_bytes));
        }
        Err(error) => {
            let text = format!("how much room is left cannot be told: {error}: look with df");
            findings.push(Finding::warn("disk", text));
        }
    }
    if let Some(kind) = network_file_system(folder) {
        let text = format!(
            "the queue would lie on a network file system ({kind}), whose locks do not hold: keep it on a disk of this \
             machine (--database)"
        );
        findings.push(Finding::warn("disk", text));
    }
    findings
}

/// Whether `free_bytes` are enough beside a queue of `queue_bytes`, whose WAL may grow to its size.
fn check_free_space(free_bytes: u64, queue_bytes: u64) -> Finding {
    let free = bytes_text(free_bytes);
    let jobs = free_bytes.saturating_sub(queue_bytes) / JOB_BYTES;
    let text = format!("{free} free, room for about {jobs} more jobs");
    let advice = "free some space, or put the queue elsewhere with --database";
    if free_bytes < FREE_BAD_BYTES {
        return Finding::bad("disk", Exit::Broken, format!("{text}: {advice}"));
    }
    // Not below the limit above: prune itself needs space before it frees any.
    let advice = format!("{advice}; deskbatch prune drops old jobs");
    if free_bytes < FREE_WARN_BYTES.max(queue_bytes) {
        return Finding::warn("disk", format!("{text}: {advice}"));
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
            (0, 0, Level::Bad(Exit::Broken), "0 bytes free, room for about 0"),
            ((16 << 20) - 1, 0, Level::Bad(Exit::Broken), "15.9 MiB free"),
            (16 << 20, 0, Level::Warn, "16.0 MiB free, room for about 32768"),
            (300 << 20, 0, Level::Ok, "300.0 MiB free"),
            (300 << 20, 301 << 20, Level::Warn, "room for about 0"),
            (u64::MAX, 0, Level::Ok, "GiB free"),
        ] {
            let finding = check_free_space(free, queue);
            assert_eq!(finding.level, level, "{free}: {}", finding.text);
            assert!(finding.text.contains(part), "{free}: {}", finding.text);
            let advises_prune = finding.text.contains("prune");
            assert_eq!(advises_prune, level == Level::Warn, "{free}: {}", finding.text);
        }
    }
}
