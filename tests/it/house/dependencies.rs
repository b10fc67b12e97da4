//! Dependency rules: the one unmaintained crate stays behind one file, and no other such crate enters
//! unnoticed. `cargo deny check` uses the full advisory database. This test needs no network and fails
//! with the change that adds such a crate.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use toml::Table;

/// Common crates that are unmaintained according to the advisory database or their own authors. Crates
/// that a new owner maintains (humantime, ring, spin) are not listed.
const GIVEN_UP: &str = "
    adler ansi_term anymap async-std atty backtrace-sys badge bincode block-cipher boxfnonce
    buf_redux chan clipboard console_error_panic_hook cpuid-bool derivative difference dlopen_derive
    dotenv dotenv_codegen encoding failure failure_derive fehler fxhash generational-arena get-size
    gcc hpack json kuchiki libusb lmdb lzw mach mapr markdown memmap minitrace mmap multipart net2
    number_prefix opentelemetry_api parity-util-mem parity-wasm paste pqcrypto proc-macro-error
    proc-macro-error-attr proc-macro-hack rental rust-crypto rustls-pemfile rusttype safemem
    serde_cbor serde_yaml serial slice-deque sodiumoxide spirv_headers static_type_map stb_truetype
    stdweb stream-cipher structopt tempdir term term_size traitobject trust-dns-proto
    trust-dns-resolver tui twoway typemap unic-char-property unic-common unic-ucd-ident users
    wee_alloc yaml-rust
";

/// Exceptions; `deny.toml` gives the reasons.
const KEPT: [(&str, &str); 2] =
    [("backoff", "RUSTSEC-2025-0012"), ("instant", "RUSTSEC-2024-0384")];

fn read(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap()
}

fn parsed(name: &str) -> Table {
    toml::from_str(&read(name)).unwrap()
}

/// Every package of the lock file with the names of its dependencies.
fn locked() -> Vec<(String, Vec<String>)> {
    let lock = parsed("Cargo.lock");
    let package = |package: &toml::Value| {
        let needs = package.get("dependencies").and_then(toml::Value::as_array);
        let needs = needs.into_iter().flatten().map(|need| {
            // The version follows the name where the lock file has two versions.
            need.as_str().unwrap().split(' ').next().unwrap().to_owned()
        });
        (package["name"].as_str().unwrap().to_owned(), needs.collect())
    };
    lock["package"].as_array().unwrap().iter().map(package).collect()
}

/// The packages that depend on `name`.
fn needed_by(name: &str) -> Vec<String> {
    let needs = |(_, needs): &(String, Vec<String>)| needs.iter().any(|need| need == name);
    locked().into_iter().filter(needs).map(|(package, _)| package).collect()
}

#[test]
fn lockfile_has_no_unmaintained_crates() {
    let locked: BTreeSet<String> = locked().into_iter().map(|(name, _)| name).collect();
    assert!(locked.len() > 100 && locked.contains("deskbatch"), "{locked:?}");
    let found: Vec<&str> =
        GIVEN_UP.split_whitespace().filter(|name| locked.contains(*name)).collect();
    assert!(found.is_empty(), "given up by their authors: {found:?}");
    for (name, _) in KEPT {
        assert!(locked.contains(name), "{name} has gone: take it out of deny.toml and from here");
    }
}

#[test]
fn backoff_is_named_once_and_used_in_one_file() {
    let manifest = read("Cargo.toml");
    let named = manifest.lines().filter(|line| line.contains("backoff"));
    assert_eq!(named.count(), 1, "Cargo.toml");
    assert_eq!(needed_by("backoff"), ["deskbatch"]);
    assert_eq!(needed_by("instant"), ["backoff"]);

    let mut folders: Vec<PathBuf> =
        ["src", "benches"].map(|name| Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).into();
    let mut users = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if fs::read_to_string(&path).unwrap().contains("backoff::") {
                users.push(path.strip_prefix(env!("CARGO_MANIFEST_DIR")).unwrap().to_owned());
            }
        }
    }
    assert_eq!(users, [Path::new("src/limiter/retry.rs")]);
}

#[test]
fn every_ignored_advisory_has_a_reason() {
    let deny = parsed("deny.toml");
    let ignored = deny["advisories"]["ignore"].as_array().unwrap();
    let mut ids: Vec<&str> = ignored.iter().map(|row| row["id"].as_str().unwrap()).collect();
    ids.sort_unstable();
    let mut kept = KEPT.map(|(_, id)| id);
    kept.sort_unstable();
    assert_eq!(ids, kept);
    for row in ignored {
        let reason = row["reason"].as_str().unwrap();
        assert!(
            KEPT.iter().any(|(name, id)| row["id"].as_str() == Some(*id) && reason.contains(name)),
            "{row:?}"
        );
    }
    for (table, key, value) in [
        ("advisories", "yanked", "deny"),
        ("advisories", "unmaintained", "all"),
        ("bans", "wildcards", "deny"),
        ("sources", "unknown-registry", "deny"),
        ("sources", "unknown-git", "deny"),
    ] {
        assert_eq!(deny[table][key].as_str(), Some(value), "{table}.{key}");
    }
    // Checks the bans of deny.toml against the lock file, since `cargo deny` may not be installed.
    let locked: BTreeSet<String> = locked().into_iter().map(|(name, _)| name).collect();
    let banned = deny["bans"]["deny"].as_array().unwrap();
    assert!(banned.len() >= 3);
    for ban in banned {
        let name = ban["crate"].as_str().unwrap();
        assert!(!locked.contains(name), "{name} is banned");
    }
    assert_eq!(read("Cargo.lock").matches("source = \"").count(), locked_from_the_registry());
}

/// The number of packages with a registry checksum.
fn locked_from_the_registry() -> usize {
    let lock = read("Cargo.lock");
    let sources = lock.lines().filter(|line| line.starts_with("source = \"registry+"));
    let count = sources.count();
    assert_eq!(lock.lines().filter(|line| line.starts_with("checksum = \"")).count(), count);
    count
}
