//! What a run needs of this machine: its files, the queue, the lock, room on the disk.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, StatVfsMountFlags};

use super::Finding;
use crate::commands::{CommandError, Exit};
use crate::config::Settings;
use crate::store::{RunLock, Store, StoreError};
use crate::text::path_text;

/// How many pieces of damage are told.
const DAMAGE_SHOWN: usize = 5;

/// How damage begins that a recount mends.
const FIGURES: &str = "figures: ";

/// What a job takes, in bytes: some 180 in the queue file, indexes included, as much again in
/// its log while it is imported, and a share of the requests.
const JOB_BYTES: u64 = 512;

/// Less room than this is bad, in bytes: an import of a few thousand rows would not fit.
const ROOM_BAD_BYTES: u64 = 16 << 20;

/// Less than this is told, in bytes.
const ROOM_TOLD_BYTES: u64 = 256 << 20;

/// The kinds of file system that other machines share, by the kernel's numbers: NFS, SMB (two
/// of them), CIFS, AFS, Ceph, 9P.
#[cfg(target_os = "linux")]
const SHARED: [(u32, &str); 7] = [
    (0x6969, "NFS"),
    (0x517b, "SMB"),
    (0xfe53_4d42, "SMB"),
    (0xff53_4d42, "CIFS"),
    (0x5346_414f, "AFS"),
    (0x00c3_6400, "Ceph"),
    (0x0102_1997, "9P"),
];

/// Looks at the queue file and what is around it.
pub(super) async fn look(settings: &Settings, recounts: bool) -> Vec<Finding> {
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
    let mut findings = vec![of_files(path, &folder)];
    // What is on the disk is seen before the queue is opened, which makes files of its own.
    findings.extend(of_disk(path, &folder));
    findings.push(of_queue(path, recounts).await);
    findings.push(of_lock(path));
    findings
}

/// Whether the files can be used, by nobody else.
fn of_files(path: &Path, folder: &Path) -> Finding {
    let can_write = |path: &Path| rustix::fs::access(path, Access::READ_OK | Access::WRITE_OK);
    let there = fs::metadata(path);
    // The log and the lock are made beside the queue.
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
        Ok(mode) if mode & 0o077 != 0 => Finding::doubtful(
            "files",
            format!(
                "others can use {path} (mode {mode:o}): chmod 600 {path}",
                path = path_text(path)
            ),
        ),
        Ok(_) => Finding::well("files", format!("{} is yours alone", path_text(path))),
        Err(_) => Finding::well("files", format!("{} can be made", path_text(path))),
    }
}

/// Whether the queue file is ours and whole. That there is none yet is well. Where figures that
/// are kept of its rows are wrong, they are put right if that `recounts`.
async fn of_queue(database: &Path, recounts: bool) -> Finding {
    let path = path_text(database);
    // The first command that opens it makes a new queue of it.
    if fs::metadata(database).is_ok_and(|file| file.is_file() && file.len() == 0) {
        let text = format!("{path} is empty: if there were jobs in it, restore it from a backup");
        return Finding::bad("queue", Exit::Wrong, text);
    }
    let store = match Store::open_existing(database).await {
        Ok(store) => store,
        Err(StoreError::Missing(_)) => {
            let text = format!("{path} is not there yet: the first import makes it");
            return Finding::well("queue", text);
        }
        Err(error) => return Finding::of("queue", &error.into()),
    };
    let finding = of_rows(&store, &path, recounts).await;
    store.close().await;
    finding.unwrap_or_else(|error| Finding::of("queue", &error.at(database).into()))
}

async fn of_rows(store: &Store, path: &str, recounts: bool) -> Result<Finding, StoreError> {
    let mended = if recounts { store.recount().await?.len() } else { 0 };
    let damage = store.check().await?;
    let shown = damage.iter().take(DAMAGE_SHOWN).map(String::as_str).collect::<Vec<_>>().join("; ");
    Ok(if damage.is_empty() && store.has_lost_log().await? {
        let text = format!(
            "{path} is whole, but its log {path}-wal was lost, and what a run has recorded last with it: put the log \
             back beside it before anything else; without it the next run takes all pending jobs for in doubt"
        );
        Finding::doubtful("queue", text)
    } else if damage.is_empty() {
        let anew = match mended {
            0 => String::new(),
            some => format!("; {some} figures were wrong and were counted anew"),
        };
        Finding::well("queue", format!("{path} is whole, of version {}{anew}", Store::layout()))
    } else if damage.iter().all(|line| line.starts_with(FIGURES)) {
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

/// A run that is going on is no fault; who waits for it wants to know.
fn of_lock(database: &Path) -> Finding {
    // It lies beside the file itself, whatever link leads there.
    let real = fs::canonicalize(database).unwrap_or_else(|_| database.to_owned());
    match RunLock::holder_of(&real) {
        Ok(None) => Finding::well("lock", "free: no run has the queue"),
        Ok(Some(holder)) => Finding::well(
            "lock",
            format!("a run has the queue: {holder}; another would end with 5"),
        ),
        Err(error) => Finding::of("lock", &CommandError::from(error)),
    }
}

/// Room for what an import writes, on a disk that is this machine's own.
fn of_disk(path: &Path, folder: &Path) -> Vec<Finding> {
    let mut findings = Vec::new();
    match rustix::fs::statvfs(folder) {
        Ok(found) if found.f_flag.contains(StatVfsMountFlags::RDONLY) => {
            let text =
                "the file system is mounted for reading alone: name another file with --database";
            findings.push(Finding::bad("disk", Exit::Broken, text));
        }
        Ok(found) => {
            let queue_bytes = fs::metadata(path).map_or(0, |file| file.len());
            findings.push(of_room(found.f_bavail.saturating_mul(found.f_frsize), queue_bytes));
        }
        Err(error) => {
            let text = format!("how much room is left cannot be told: {error}: look with df");
            findings.push(Finding::doubtful("disk", text));
        }
    }
    if let Some(kind) = shared_kind(folder) {
        let text = format!(
            "the queue would lie on a network file system ({kind}), whose locks do not hold: keep it on a disk of this \
             machine (--database)"
        );
        findings.push(Finding::doubtful("disk", text));
    }
    findings
}

/// What `free_bytes` are good for beside a queue of `queue_bytes`, whose log may grow to the
/// size of what changes in it.
fn of_room(free_bytes: u64, queue_bytes: u64) -> Finding {
    let free = in_units(free_bytes);
    let jobs = free_bytes.saturating_sub(queue_bytes) / JOB_BYTES;
    let text = format!("{free} free, room for about {jobs} more jobs");
    let advice = "free some space, or put the queue elsewhere with --database";
    if free_bytes < ROOM_BAD_BYTES {
        return Finding::bad("disk", Exit::Broken, format!("{text}: {advice}"));
    }
    // That writes, too, before it gives room back.
    let advice = format!("{advice}; deskbatch prune drops old jobs");
    if free_bytes < ROOM_TOLD_BYTES.max(queue_bytes) {
        return Finding::doubtful("disk", format!("{text}: {advice}"));
    }
    Finding::well("disk", text)
}

fn in_units(bytes: u64) -> String {
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
fn shared_kind(folder: &Path) -> Option<&'static str> {
    let found = rustix::fs::statfs(folder).ok()?;
    // The numbers have 32 bits; how wide the field is differs from machine to machine.
    let number = u32::try_from(i128::from(found.f_type) & 0xffff_ffff).ok()?;
    SHARED.iter().find(|(known, _)| *known == number).map(|(_, kind)| *kind)
}

#[cfg(not(target_os = "linux"))]
fn shared_kind(_: &Path) -> Option<&'static str> {
    None
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;

    #[test]
    fn room_is_judged_by_what_an_import_needs() {
        for (free, queue, level, part) in [
            (0, 0, Level::Bad(Exit::Broken), "0 bytes free, room for about 0"),
            ((16 << 20) - 1, 0, Level::Bad(Exit::Broken), "15.9 MiB free"),
            (16 << 20, 0, Level::Doubtful, "16.0 MiB free, room for about 32768"),
            (300 << 20, 0, Level::Well, "300.0 MiB free"),
            (300 << 20, 301 << 20, Level::Doubtful, "room for about 0"),
            (u64::MAX, 0, Level::Well, "GiB free"),
        ] {
            let finding = of_room(free, queue);
            assert_eq!(finding.level, level, "{free}: {}", finding.text);
            assert!(finding.text.contains(part), "{free}: {}", finding.text);
            let advises_prune = finding.text.contains("prune");
            assert_eq!(advises_prune, level == Level::Doubtful, "{free}: {}", finding.text);
        }
    }
}
