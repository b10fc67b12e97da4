//! Which existing files an output file may replace: one of the same kind that is unchanged since
//! deskbatch wrote it, and no other.
//!
//! Users edit a report or a file of rejects to import it again, and then it holds work that exists
//! nowhere else. `util::file_mark` recognises an edited file; where the file system keeps no marks,
//! the file's beginning alone decides.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use super::error::CommandError;
use crate::manifest::{look_like_rejects, same_file};
use crate::report::html::TITLE_START;
use crate::report::{COLUMNS, JSON_STARTS};
use crate::util::atomic_file::{is_special_file, parent_dir, resolve_links};
use crate::util::escape::path_text;
use crate::util::file_mark::is_unchanged;

/// How much of a file is read to recognise its kind.
const HEAD_BYTES: u64 = 64 * 1024;

/// The suffixes of the queue's files.
const BESIDE_QUEUE: [&str; 4] = ["", "-wal", "-shm", ".lock"];

/// A kind of file that commands write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OutputKind {
    /// `report`, as CSV or JSON.
    Report,
    /// `report --html`.
    Page,
    /// `--rejects`.
    Rejects,
    /// `--metrics-file`.
    Metrics,
}

impl OutputKind {
    /// Whether a file that begins with `head` is of this kind.
    fn matches(self, head: &[u8]) -> bool {
        let is_within = |text: &str| head.windows(text.len()).any(|part| part == text.as_bytes());
        match self {
            Self::Report => {
                let columns = format!("{}\n", COLUMNS.join(","));
                head.starts_with(columns.as_bytes())
                    || JSON_STARTS.iter().any(|start| head.starts_with(start.as_bytes()))
            }
            Self::Page => {
                head.starts_with(b"<!DOCTYPE html>") && is_within(&format!("<title>{TITLE_START}"))
            }
            Self::Rejects => look_like_rejects(head),
            Self::Metrics => head.starts_with(b"# HELP deskbatch_") || head.starts_with(b"# EOF"),
        }
    }

    /// Whether users edit such a file.
    fn is_edited(self) -> bool {
        matches!(self, Self::Report | Self::Rejects)
    }

    fn name(self) -> &'static str {
        match self {
            Self::Report => "a report",
            Self::Page => "an HTML report",
            Self::Rejects => "a rejects file",
            Self::Metrics => "a metrics file of deskbatch",
        }
    }
}

/// Why the file at `path` must not be replaced by one of this `kind`; `None` if it may be, or does
/// not exist.
pub(super) fn why_kept(path: &Path, kind: OutputKind) -> io::Result<Option<String>> {
    let found = match fs::metadata(path) {
        Ok(found) => found,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e),
    };
    // A special file is written in place; an empty file has nothing to lose.
    if is_special_file(path) || found.len() == 0 {
        return Ok(None);
    }
    let file = File::open(path)?;
    let mut head = Vec::new();
    (&file).take(HEAD_BYTES).read_to_end(&mut head)?;
    if !kind.matches(&head) {
        return Ok(Some(format!("is not {}", kind.name())));
    }
    let is_changed = kind.is_edited() && is_unchanged(&file, &found) == Some(false);
    Ok(is_changed.then(|| {
        "was changed after deskbatch wrote it, or was not written by deskbatch".to_owned()
    }))
}

/// Fails if the file at `path` must not be replaced by one of this `kind`, unless `overwrite` is set.
pub(super) fn must_be_replaceable(
    flag: &str,
    path: &Path,
    kind: OutputKind,
    overwrite: bool,
) -> Result<(), CommandError> {
    if overwrite {
        return Ok(());
    }
    let kept = why_kept(path, kind).map_err(CommandError::output(path))?;
    kept.map_or(Ok(()), |why| {
        Err(CommandError::Usage(format!(
            "{flag}: {} exists and {why}. Nothing was written. Name another file, or add --overwrite.",
            path_text(path)
        )))
    })
}

/// Fails if `path` is one of the command's input files, even with `--overwrite`.
pub(super) fn must_be_no_source(
    flag: &str,
    path: &Path,
    sources: &[(PathBuf, &str)],
) -> Result<(), CommandError> {
    let Some((_, what)) = sources.iter().find(|(source, _)| is_same(path, source)) else {
        return Ok(());
    };
    Err(CommandError::Usage(format!(
        "{flag}: {} is the {what}: name another file",
        path_text(path)
    )))
}

/// The input files of a command with this queue and this configuration file, each with its name.
pub(super) fn sources(queue: &Path, settings: Option<&Path>) -> Vec<(PathBuf, &'static str)> {
    let beside = BESIDE_QUEUE.into_iter().map(|end| {
        let mut path = queue.as_os_str().to_owned();
        path.push(end);
        (PathBuf::from(path), "queue file")
    });
    beside.chain(settings.map(|path| (path.to_owned(), "configuration file"))).collect()
}

/// Whether both paths lead to the same file through any links; the file need not exist.
fn is_same(a: &Path, b: &Path) -> bool {
    let place = |path: &Path| {
        let path = resolve_links(path).ok()?;
        Some(parent_dir(&path).canonicalize().ok()?.join(path.file_name()?))
    };
    same_file(a, b) || place(a).is_some_and(|at| place(b) == Some(at))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::util::atomic_file::{IfExists, PRIVATE, write_atomic};

    #[test]
    fn edited_file_of_the_same_kind_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("failed.csv");
        let kept = |kind| why_kept(&path, kind).unwrap();
        assert_eq!(kept(OutputKind::Report), None);
        let report = format!("{}\na,4\n", COLUMNS.join(","));
        write_atomic(&path, report.as_bytes(), Some(PRIVATE), IfExists::Replace).unwrap();
        assert_eq!(kept(OutputKind::Report), None);
        assert!(kept(OutputKind::Page).is_some_and(|why| why.contains("is not an HTML report")));
        if is_unchanged(&File::open(&path).unwrap(), &fs::metadata(&path).unwrap()).is_some() {
            // An editor writes in place, or creates another file.
            fs::write(&path, report.replace("a,4", "a,5,,")).unwrap();
            assert!(kept(OutputKind::Report).is_some_and(|why| why.contains("was changed")));
            fs::remove_file(&path).unwrap();
            fs::write(&path, &report).unwrap();
            assert!(kept(OutputKind::Report).is_some_and(|why| why.contains("was changed")));
        }
        fs::write(&path, "").unwrap();
        assert_eq!(kept(OutputKind::Report), None);
    }

    #[test]
    fn kind_is_recognised_by_the_file_head() {
        for (kind, head) in [
            (OutputKind::Report, "[\n]\n"),
            (OutputKind::Report, "[\n{\"question_id\":\"a\""),
            (OutputKind::Rejects, "note,id,status,reason\nx"),
            (OutputKind::Page, "<!DOCTYPE html><html><head><title>deskbatch - x</title>"),
            (OutputKind::Metrics, "# HELP deskbatch_jobs Jobs.\n"),
        ] {
            for other in
                [OutputKind::Report, OutputKind::Rejects, OutputKind::Page, OutputKind::Metrics]
            {
                assert_eq!(other.matches(head.as_bytes()), other == kind, "{head} {other:?}");
            }
            assert!(!kind.matches(b"question_id,status\na,4\n"), "{head}");
        }
    }

    #[test]
    fn links_to_one_file_are_recognised() {
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
