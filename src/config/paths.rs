//! The paths in the settings: the queue file and the metrics file, and their names in a sandbox run.

use std::path::{Path, PathBuf};

use super::ConfigError;
use crate::util::escape::path_text;

/// A path, or `sqlite:` and a path, or `sqlite://` and a path.
pub(super) fn database_path(text: &str) -> Result<PathBuf, ConfigError> {
    let path = match text.split_once(':') {
        Some(("sqlite", path)) => path.strip_prefix("//").unwrap_or(path),
        Some((scheme, rest)) if rest.starts_with("//") => {
            return Err(ConfigError(format!(
                "database: {scheme}: is not supported by this version: write a path, or sqlite: and a path"
            )));
        }
        _ => text,
    };
    if path.is_empty() || path.contains('?') {
        return Err(ConfigError(format!(
            "database: {text:?} is not a path: name a file, e.g. deskbatch.db, or omit it"
        )));
    }
    Ok(PathBuf::from(path))
}

/// `deskbatch.db` → `deskbatch.sandbox.db`.
pub(super) fn sandbox_database_path(path: &Path) -> PathBuf {
    match path.extension() {
        Some(extension) => {
            let mut ending = std::ffi::OsString::from("sandbox.");
            ending.push(extension);
            path.with_extension(ending)
        }
        None => path.with_extension("sandbox"),
    }
}

/// The metrics file. That of a sandbox run has a name that no exporter reads, so that it is never
/// taken for live data: `deskbatch.prom` → `deskbatch.prom.sandbox`.
pub(super) fn metrics_path(path: &Path, is_sandbox_run: bool) -> Result<PathBuf, ConfigError> {
    if path.extension().is_none_or(|ending| ending != "prom") {
        return Err(ConfigError(format!(
            "metrics_file: {} does not end in .prom, and node_exporter reads no other files: name it e.g. deskbatch.prom",
            path_text(path)
        )));
    }
    Ok(if is_sandbox_run { path.with_extension("prom.sandbox") } else { path.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn database_is_a_path_or_a_sqlite_url() {
        let path =
            |text| database_path(text).map(|p| p.to_string_lossy().into_owned()).map_err(|e| e.0);
        for text in ["q.db", "sqlite:q.db", "sqlite://q.db"] {
            assert_eq!(path(text).as_deref(), Ok("q.db"));
        }
        assert_eq!(path("sqlite:///var/q.db").as_deref(), Ok("/var/q.db"));
        assert!(path("postgres://host/q").unwrap_err().contains("postgres"));
        assert!(path("sqlite:").is_err());
    }

    #[test]
    fn sandbox_metrics_file_does_not_end_in_prom() {
        let path = |text: &str, is_sandbox_run| {
            let path = metrics_path(Path::new(text), is_sandbox_run);
            path.map(|path| path.to_string_lossy().into_owned()).map_err(|e| e.0)
        };
        assert_eq!(path("/var/lib/a.b.prom", false).as_deref(), Ok("/var/lib/a.b.prom"));
        assert_eq!(path("/var/lib/a.b.prom", true).as_deref(), Ok("/var/lib/a.b.prom.sandbox"));
        for wrong in ["", "prom", ".prom", "a.prom.txt", "a.PROM", "-"] {
            assert!(path(wrong, false).unwrap_err().contains("does not end in .prom"), "{wrong}");
        }
    }

    #[test]
    fn sandbox_run_has_its_own_queue_file() {
        let path =
            |text: &str| sandbox_database_path(Path::new(text)).to_string_lossy().into_owned();
        assert_eq!(path("deskbatch.db"), "deskbatch.sandbox.db");
        assert_eq!(path("/var/lib/queue"), "/var/lib/queue.sandbox");
    }
}
