//! Architecture rules: file sizes, and which names each module must not use.

use std::fs;
use std::path::{Path, PathBuf};

const FILE_LINES_MAX: usize = 400;
const FUNCTION_LINES_MAX: usize = 70;
const STRUCT_FIELDS_MAX: usize = 12;
const TEST_NAME_MAX: usize = 50;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust file below `folder`: its path from the root and its text.
fn sources(folder: &str) -> Vec<(String, String)> {
    let mut files = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten() {
            let path: PathBuf = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                let name = path.strip_prefix(root()).unwrap().display().to_string();
                files.push((name, fs::read_to_string(path).unwrap()));
            }
        }
    }
    assert!(!files.is_empty() || folder == "benches", "{folder} has no sources");
    files.sort();
    files
}

pub fn all_sources() -> Vec<(String, String)> {
    ["src", "tests", "benches", "fuzz/src", "fuzz/fuzz_targets"]
        .into_iter()
        .flat_map(sources)
        .collect()
}

/// The code of a source file without its tests and comments.
fn program(text: &str) -> String {
    let program = text.split("\n#[cfg(test)]\nmod tests {").next().unwrap();
    let is_comment = |line: &&str| line.trim_start().starts_with("//");
    program.lines().filter(|line| !is_comment(line)).collect::<Vec<_>>().join("\n")
}

/// Fails for every file outside `rooms` whose code contains one of `words`.
#[track_caller]
fn only_in(rooms: &[&str], words: &[&str]) {
    let mut found = Vec::new();
    for (name, text) in sources("src") {
        if rooms.iter().any(|room| name.starts_with(room)) || name.contains("/tests") {
            continue;
        }
        let program = program(&text);
        for word in words.iter().filter(|word| program.contains(**word)) {
            found.push(format!("{name} names {word}"));
        }
    }
    assert!(found.is_empty(), "only {rooms:?} may name these:\n{}", found.join("\n"));
}

#[test]
fn no_file_is_longer_than_400_lines() {
    let long: Vec<String> = all_sources()
        .into_iter()
        .map(|(name, text)| (name, text.lines().count()))
        .filter(|(_, lines)| *lines > FILE_LINES_MAX)
        .map(|(name, lines)| format!("{name}: {lines}"))
        .collect();
    assert!(long.is_empty(), "{long:#?}");
}

#[test]
fn no_function_is_longer_than_70_lines() {
    let mut long = Vec::new();
    for (name, text) in all_sources() {
        let lines: Vec<&str> = text.lines().collect();
        for (at, line) in lines.iter().enumerate() {
            let code = line.trim_start();
            let is_function = ["fn ", "pub fn ", "async fn ", "pub async fn ", "pub(super) fn "]
                .iter()
                .chain(&["pub(super) async fn ", "pub(crate) fn ", "const fn ", "pub const fn "])
                .any(|start| code.starts_with(start));
            if !is_function {
                continue;
            }
            // rustfmt aligns the closing brace with the start of the item.
            let end = format!("{}}}", &line[..line.len() - code.len()]);
            let length = lines[at..].iter().position(|line| *line == end).map_or(0, |n| n + 1);
            if length > FUNCTION_LINES_MAX {
                long.push(format!("{name}:{}: {length}", at + 1));
            }
        }
    }
    assert!(long.is_empty(), "{long:#?}");
}

/// The settings of a program or of its sandbox are as many as they are: these structures mirror a
/// configuration file, a command line or a line of the ledger, one field for each.
const MIRRORS: [&str; 4] = ["SettingsArgs", "SandboxArgs", "SandboxSettings", "SeenRequest"];

#[test]
fn no_struct_has_more_than_12_fields() {
    let mut large = Vec::new();
    for (name, text) in sources("src") {
        let lines: Vec<&str> = text.lines().collect();
        for (at, line) in lines.iter().enumerate() {
            let Some((_, rest)) = line.split_once("struct ") else { continue };
            let is_definition = !line.trim_start().starts_with("//") && rest.ends_with('{');
            let Some(word) = rest.split(|c: char| !c.is_alphanumeric()).next() else { continue };
            if !is_definition || MIRRORS.contains(&word) {
                continue;
            }
            let indent = line.len() - line.trim_start().len();
            let body = lines[at + 1..].iter().take_while(|line| line.trim() != "}");
            let is_field = |line: &&&str| {
                let code = line.trim_start();
                line.len() - code.len() == indent + 4
                    && !code.starts_with(['/', '#'])
                    && code.contains(": ")
            };
            let fields = body.filter(is_field).count();
            if fields > STRUCT_FIELDS_MAX {
                large.push(format!("{name}: {word} has {fields}"));
            }
        }
    }
    assert!(large.is_empty(), "{large:#?}");
}

#[test]
fn test_names_have_at_most_50_characters() {
    let mut wrong = Vec::new();
    let mut tests = 0;
    for (name, text) in all_sources() {
        let mut is_test = false;
        for line in text.lines().map(str::trim_start) {
            is_test |= line.starts_with("async fn ") && line.contains("(engine: Engine)");
            if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
                is_test = true;
            } else if let Some((_, rest)) = line.split_once("fn ").filter(|_| is_test) {
                is_test = false;
                tests += 1;
                let test = rest.split(['(', '<']).next().unwrap_or_default();
                if test.len() > TEST_NAME_MAX {
                    wrong.push(format!("{name}: {test}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(tests > 800, "{tests}");
}

#[test]
fn every_file_begins_with_a_module_doc() {
    for (name, text) in all_sources() {
        assert!(text.starts_with("//! "), "{name} does not begin with a //! line");
    }
}

#[test]
fn private_dependencies_stay_in_their_module() {
    only_in(&["src/queue/"], &["sqlx"]);
    only_in(&["src/domain/clock.rs"], &["Instant::now", "SystemTime", "tokio::time"]);
    only_in(
        &["src/output/"],
        &["println!", "print!", "eprint", "io::stdout", "io::stderr", "indicatif"],
    );
    only_in(&["src/desk/"], &["reqwest", "rustls"]);
    // A file that other code writes can be incomplete after a full disk.
    only_in(&["src/queue/", "src/util/atomic_file.rs"], &["fs::write(", " File::create("]);
    only_in(&["src/limiter/retry.rs"], &["backoff::"]);
    only_in(&["src/limiter/"], &["governor::"]);
    only_in(&["src/sandbox/", "src/dashboard/"], &["axum"]);
    only_in(&["src/metrics/"], &["prometheus_client"]);
    only_in(&["src/report/html/"], &["maud", "plotters"]);
    only_in(&["src/cli/", "src/main.rs"], &["clap::"]);
    only_in(&["src/main.rs"], &["ExitCode", "process::exit"]);
    // A child would inherit the key with the environment; only that module removes it.
    only_in(&["src/commands/shell.rs"], &["process::{C", "process::Command"]);
}

/// Which modules each module may use, pure core first. The edge may use every module.
const MAY_USE: &[(&str, &[&str])] = &[
    ("src/util/", &[]),
    ("src/domain/", &["util"]),
    ("src/eta/", &[]),
    ("src/evidence/", &["domain"]),
    ("src/isolate/", &["domain"]),
    ("src/limiter/", &["domain"]),
    ("src/manifest/", &["domain", "util"]),
    ("src/desk/", &["domain", "util"]),
    ("src/queue/", &["domain", "util"]),
    ("src/runner/", &["desk", "domain", "evidence", "isolate", "limiter", "queue"]),
    ("src/report/", &["domain", "queue", "util"]),
    ("src/metrics/", &["domain", "queue", "util"]),
    ("src/dashboard/", &["domain", "metrics", "report", "runner", "queue"]),
    // The sandbox must not share parsing or signing with the client, or it could not find their faults.
    // It uses the table of codes and the text rules.
    ("src/sandbox/", &["domain", "util"]),
    ("src/output/", &["domain", "eta", "limiter", "runner", "queue", "util"]),
];

/// The modules of `commands/` that several commands share, and which of each other they may use. Every
/// command may use them, and none of them uses a command.
const SHARED_BY_COMMANDS: &[(&str, &[&str])] = &[
    ("error", &[]),
    ("eta", &["error"]),
    ("overwrite", &["error"]),
    ("service", &["error"]),
    ("shell", &[]),
    ("signals", &["error", "shell"]),
];

/// The modules of `commands/` that a file names, except itself.
fn used_commands(text: &str) -> Vec<String> {
    let mut used = Vec::new();
    for start in ["use super::", "crate::commands::"] {
        for rest in program(text).split(start).skip(1) {
            let end = rest.find([';', ' ', ',', '(']).unwrap_or(rest.len());
            let names = if rest.starts_with('{') {
                &rest[1..rest.find('}').unwrap()]
            } else {
                &rest[..end]
            };
            let first = |name: &str| name.trim().split("::").next().unwrap_or_default().to_owned();
            used.extend(names.split(',').map(first).filter(|name| !name.is_empty()));
        }
    }
    used
}

#[test]
fn shared_modules_of_commands_use_no_command() {
    for (name, allowed) in SHARED_BY_COMMANDS {
        let text = fs::read_to_string(root().join(format!("src/commands/{name}.rs"))).unwrap();
        for used in used_commands(&text) {
            assert!(allowed.contains(&used.as_str()), "commands/{name}.rs uses {used}");
        }
    }
    for (folder, below) in [("import", ["run", "plan"]), ("plan.rs", ["run", "confirm"])] {
        for (name, text) in sources("src/commands") {
            if name.starts_with(&format!("src/commands/{folder}")) {
                let used = used_commands(&text);
                assert!(
                    !below.iter().any(|command| used.contains(&(*command).to_owned())),
                    "{name}"
                );
            }
        }
    }
}

#[test]
fn modules_use_only_allowed_modules() {
    let mut wrong = Vec::new();
    for (name, text) in sources("src") {
        if name.contains("/tests") {
            continue;
        }
        let Some((room, allowed)) = MAY_USE.iter().find(|(room, _)| name.starts_with(room)) else {
            continue;
        };
        let own = room.trim_start_matches("src/").trim_end_matches('/').trim_end_matches(".rs");
        for used in program(&text).split("crate::").skip(1) {
            let used: String =
                used.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            if used != own && !allowed.contains(&used.as_str()) {
                wrong.push(format!("{name} uses crate::{used}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn runner_names_no_concrete_transport() {
    for (name, text) in sources("src/runner") {
        assert!(!text.contains("HttpTransport"), "{name}");
    }
}
