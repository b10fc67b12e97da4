//! What a file that is written may take the place of: an earlier file of the same kind that
//! nobody has changed since, and nothing else.
//!
//! A report or a file of rejects is changed by hand to be imported again, and then holds work
//! that is nowhere else. So each file that is written carries a mark, an extended attribute of
//! its size and its time, which no later writing leaves true. Where the file system keeps no such
//! attributes, the beginning of the file decides alone.

use std::fs::{self, File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{XattrFlags, fgetxattr, fsetxattr};
use rustix::io::Errno;

use super::CommandError;
use super::whole_file::{folder, followed, is_no_file};
use crate::manifest::{look_like_rejects, same_file};
use crate::report::{COLUMNS, JSON_STARTS};
use crate::text::path_text;

/// The attribute's name.
const MARK: &str = "user.deskbatch";

/// How much of a file tells its kind.
const HEAD_BYTES: u64 = 64 * 1024;

/// What the engine has beside a queue file.
const BESIDE_QUEUE: [&str; 4] = ["", "-wal", "-shm", ".lock"];

/// A kind of file that commands write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// `report`, as CSV or JSON.
    Report,
    /// `report --html`.
    Page,
    /// `--rejects`.
    Rejects,
    /// `--metrics-file`.
    Metrics,
}

impl Kind {
    /// Whether a file that begins with `head` is of this kind.
    fn is_of(self, head: &[u8]) -> bool {
        let is_within = |text: &str| head.windows(text.len()).any(|part| part == text.as_bytes());
        match self {
            Self::Report => {
                let columns = format!("{}\n", COLUMNS.join(","));
                head.starts_with(columns.as_bytes())
                    || JSON_STARTS.iter().any(|start| head.starts_with(start.as_bytes()))
            }
            Self::Page => head.starts_with(b"<!DOCTYPE html>") && is_within("<title>deskbatch: "),
            Self::Rejects => look_like_rejects(head),
            Self::Metrics => head.starts_with(b"# HELP deskbatch_") || head.starts_with(b"# EOF"),
        }
    }

    /// Whether people change such a file.
    fn is_edited(self) -> bool {
        matches!(self, Self::Report | Self::Rejects)
    }

    fn name(self) -> &'static str {
        match self {
            Self::Report => "a report",
            Self::Page => "a report's page",
            Self::Rejects => "rejects",
            Self::Metrics => "metrics of deskbatch",
        }
    }
}

/// Why the file at `path` may not be replaced by one of this `kind`, in words; `None` if it may,
/// or is none.
pub(super) fn why_kept(path: &Path, kind: Kind) -> io::Result<Option<String>> {
    let found = match fs::metadata(path) {
        Ok(found) => found,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e),
    };
    // What is no file is not replaced, and nothing is lost with an empty one.
    if is_no_file(path) || found.len() == 0 {
        return Ok(None);
    }
    let file = File::open(path)?;
    let mut head = Vec::new();
    (&file).take(HEAD_BYTES).read_to_end(&mut head)?;
    if !kind.is_of(&head) {
        return Ok(Some(format!("holds something else than {}", kind.name())));
    }
    let is_changed = kind.is_edited() && has_mark(&file, &found) == Some(false);
    Ok(is_changed
        .then(|| "was changed after deskbatch wrote it, or was not written by it".to_owned()))
}

/// Fails if the file at `path` may not be replaced by one of this `kind`, unless `overwrite` says
/// that it may.
pub(super) fn must_be_replaceable(
    flag: &str,
    path: &Path,
    kind: Kind,
    overwrite: bool,
) -> Result<(), CommandError> {
    if overwrite {
        return Ok(());
    }
    let kept = why_kept(path, kind).map_err(CommandError::output(path))?;
    kept.map_or(Ok(()), |why| {
        Err(CommandError::Wrong(format!(
            "{flag}: {} {why}: nothing was written; name another file, or add --overwrite",
            path_text(path)
        )))
    })
}

/// Fails if `path` is one of `sources`, each with what it is, whatever else was said.
pub(super) fn must_be_no_source(
    flag: &str,
    path: &Path,
    sources: &[(PathBuf, &str)],
) -> Result<(), CommandError> {
    let Some((_, what)) = sources.iter().find(|(source, _)| is_same(path, source)) else {
        return Ok(());
    };
    Err(CommandError::Wrong(format!(
        "{flag}: {} is the {what} itself; name another file",
        path_text(path)
    )))
}

/// The files that a command with this queue and these settings reads from.
pub(super) fn sources(queue: &Path, settings: Option<&Path>) -> Vec<(PathBuf, &'static str)> {
    let beside = BESIDE_QUEUE.into_iter().map(|end| {
        let mut path = queue.as_os_str().to_owned();
        path.push(end);
        (PathBuf::from(path), "queue file")
    });
    beside.chain(settings.map(|path| (path.to_owned(), "settings' file"))).collect()
}

/// Whether both paths lead to one file, by whatever names and links, or would if it were there.
fn is_same(a: &Path, b: &Path) -> bool {
    let place = |path: &Path| {
        let path = followed(path).ok()?;
        Some(folder(&path).canonicalize().ok()?.join(path.file_name()?))
    };
    same_file(a, b) || place(a).is_some_and(|at| place(b) == Some(at))
}

/// Marks a file as it is now.
pub(super) fn mark(file: &File) {
    if let Ok(found) = file.metadata() {
        // Where there are no such attributes, the file goes without.
        let _ = fsetxattr(file, MARK, state(&found).as_bytes(), XattrFlags::empty());
    }
}

/// Whether the file is as it was when it was marked; `None` where no file can be.
fn has_mark(file: &File, found: &Metadata) -> Option<bool> {
    let mut mark = [0; 64];
    match fgetxattr(file, MARK, &mut mark[..]) {
        Ok(length) => Some(mark[..length] == *state(found).as_bytes()),
        Err(Errno::NOTSUP | Errno::PERM | Errno::ACCESS | Errno::NOSYS) => None,
        Err(_) => Some(false),
    }
}

fn state(found: &Metadata) -> String {
    format!("{} {}.{:09}", found.len(), found.mtime(), found.mtime_nsec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::whole_file::{IfThere, write_whole};

    #[test]
    fn file_of_the_same_kind_is_replaced_until_it_is_changed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("failed.csv");
        let kept = |kind| why_kept(&path, kind).unwrap();
        assert_eq!(kept(Kind::Report), None);
        let report = format!("{}\na,4\n", COLUMNS.join(","));
        write_whole(&path, report.as_bytes(), Some(0o600), IfThere::Replace).unwrap();
        assert_eq!(kept(Kind::Report), None);
        assert!(
            kept(Kind::Page).is_some_and(|why| why.contains("something else than a report's page"))
        );
        if has_mark(&File::open(&path).unwrap(), &fs::metadata(&path).unwrap()).is_some() {
            // As an editor writes it: in place, or another file.
            fs::write(&path, report.replace("a,4", "a,5,,")).unwrap();
            assert!(kept(Kind::Report).is_some_and(|why| why.contains("was changed")));
            fs::remove_file(&path).unwrap();
            fs::write(&path, &report).unwrap();
            assert!(kept(Kind::Report).is_some_and(|why| why.contains("was changed")));
        }
        fs::write(&path, "").unwrap();
        assert_eq!(kept(Kind::Report), None);
    }

    #[test]
    fn kinds_are_told_by_their_beginning() {
        for (kind, head) in [
            (Kind::Report, "[\n]\n"),
            (Kind::Report, "[\n{\"question_id\":\"a\""),
            (Kind::Rejects, "note,id,status,reason\nx"),
            (Kind::Page, "<!DOCTYPE html><html><head><title>deskbatch: x</title>"),
            (Kind::Metrics, "# HELP deskbatch_jobs Jobs.\n"),
        ] {
            for other in [Kind::Report, Kind::Rejects, Kind::Page, Kind::Metrics] {
                assert_eq!(other.is_of(head.as_bytes()), other == kind, "{head} {other:?}");
            }
            assert!(!kind.is_of(b"question_id,status\na,4\n"), "{head}");
        }
    }

    #[test]
    fn one_file_is_known_under_other_names() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("a"), "").unwrap();
        fs::write(at("b"), "").unwrap();
        fs::hard_link(at("a"), at("hard")).unwrap();
        std::os::unix::fs::symlink(at("a"), at("soft")).unwrap();
        std::os::unix::fs::symlink(at("none"), at("dangling")).unwrap();
        for (a, b, same) in [
            ("a", "./a", true),
            ("a", "b", false),
            ("soft", "a", true),
            ("hard", "a", true),
            ("a", "none", false),
            ("none", "none", true),
            ("dangling", "none", true),
        ] {
            assert_eq!(is_same(&at(a), &at(b)), same, "{a} {b}");
        }
    }
}
