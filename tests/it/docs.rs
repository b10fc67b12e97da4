//! The documents say what is: settings, exit codes, examples and the names of tests.

use std::fs;
use std::path::Path;

use clap::CommandFactory as _;
use deskbatch::cli::Cli;

fn read(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap()
}

/// Every setting as the command line has it: flag, variable, default in the help text.
fn settings() -> Vec<(String, String, Option<String>)> {
    let mut command = Cli::command();
    command.build();
    let run = command.find_subcommand("run").unwrap().clone();
    let mut found = Vec::new();
    for arg in command.get_arguments().chain(run.get_arguments()) {
        let (Some(flag), Some(variable)) = (arg.get_long(), arg.get_env()) else { continue };
        let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
        let default = help.split_once("[default: ").map(|(_, rest)| {
            rest.trim_end_matches(']').split([',', ' ']).next().unwrap().to_owned()
        });
        found.push((format!("--{flag}"), variable.to_string_lossy().into_owned(), default));
    }
    found.sort();
    found.dedup();
    found
}

#[test]
fn the_readme_has_every_setting_with_its_three_names_and_its_default() {
    let readme = read("README.md");
    let settings = settings();
    assert!(settings.len() > 30, "{settings:?}");
    for (flag, variable, default) in settings {
        let row = readme
            .lines()
            .find(|line| line.starts_with(&format!("| `{flag}` |")))
            .unwrap_or_else(|| panic!("README.md has no row for {flag}"));
        assert!(row.contains(&format!("`{variable}`")), "{flag}: {variable} is missing");
        let key = flag.trim_start_matches("--").replace('-', "_");
        assert!(key == "config" || row.contains(&format!("`{key}`")), "{flag}: {key} is missing");
        if let Some(default) = default {
            assert!(row.contains(&default), "{flag}: the default {default} is missing");
        }
    }
}

#[test]
fn every_test_that_the_documents_name_is_there() {
    let mut sources = String::new();
    for folder in ["src", "tests"] {
        collect(&Path::new(env!("CARGO_MANIFEST_DIR")).join(folder), &mut sources);
    }
    let readme = read("README.md");
    let guarantees = readme.split("## Guarantees").nth(1).unwrap().split("\n## ").next().unwrap();
    let security = read("SECURITY.md");
    for (document, text) in [("README.md", guarantees), ("SECURITY.md", &security)] {
        let words = text.split('`').skip(1).step_by(2);
        let is_test = |word: &&str| {
            word.matches('_').count() > 2 && !word.contains(|c: char| c.is_uppercase())
        };
        let names: Vec<&str> = words.filter(is_test).collect();
        assert!(names.len() >= 10, "{document}: {names:?}");
        for name in names {
            assert!(sources.contains(&format!("fn {name}(")), "{document} names a test {name}");
        }
    }
}

#[test]
fn every_claim_of_the_security_page_names_a_test() {
    let security = read("SECURITY.md");
    let rows: Vec<&str> = security.lines().filter(|line| line.starts_with("| ")).skip(2).collect();
    assert!(rows.len() >= 10, "{rows:?}");
    for row in rows {
        let held_by = row.trim_end_matches(" |").rsplit(" | ").next().unwrap();
        assert!(held_by.starts_with('`') && held_by.matches('_').count() > 2, "{row}");
    }
}

fn collect(folder: &Path, text: &mut String) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, text);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            text.push_str(&fs::read_to_string(path).unwrap());
        }
    }
}

#[test]
fn every_key_of_the_example_file_is_a_setting() {
    let example = read("deskbatch.example.toml");
    let plain: Vec<&str> = example
        .lines()
        .map(|line| match line.strip_prefix("# ") {
            Some(setting) if setting.contains(" = ") || setting.starts_with('[') => setting,
            _ => line,
        })
        .collect();
    let plain = plain.join("\n");
    let settings: Result<deskbatch::cli::SettingsArgs, _> = toml::from_str(&plain);
    assert!(settings.is_ok(), "{plain}\n{settings:?}");
}

#[test]
fn the_map_in_the_architecture_names_every_room_and_nothing_else() {
    let map = read("ARCHITECTURE.md");
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for entry in fs::read_dir(src).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(map.contains(&format!("\n  {name}")), "ARCHITECTURE.md has no line for src/{name}");
    }
}

#[test]
fn no_page_has_a_figure_that_nobody_filled_in() {
    for name in ["README.md", "SECURITY.md", "docs/performance.md", "docs/reliability.md"] {
        assert!(!read(name).contains("_FIGURE"), "{name}");
    }
}
