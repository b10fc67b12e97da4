//! The documents match the program: settings, exit codes, examples, links and test names.

use std::fs;
use std::path::Path;

use deskbatch::queue::RunEnding;

use crate::support::docs::{pages, read, root};

#[test]
fn every_test_that_the_documents_name_is_there() {
    let mut sources = String::new();
    for folder in ["src", "tests"] {
        collect(&root().join(folder), &mut sources);
    }
    let mut named = 0;
    for page in pages() {
        let text = read(&page);
        for name in named_tests(&text) {
            assert!(sources.contains(&format!("fn {name}(")), "{page} names a test {name}");
            named += 1;
        }
    }
    assert!(named >= 60, "{named}");
}

/// Words in backticks that look like test names: they have more than three underscores.
fn named_tests(page: &str) -> Vec<&str> {
    // Code blocks show no test names.
    let prose = page.split("```").step_by(2);
    let words = prose.flat_map(|text| text.split('`').skip(1).step_by(2));
    let is_test = |word: &&str| {
        // Names of metrics are as long.
        word.matches('_').count() > 3
            && !word.starts_with("deskbatch_")
            && word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
    };
    words.filter(is_test).collect()
}

#[test]
fn every_claim_of_the_security_page_names_a_test() {
    let security = read("SECURITY.md");
    let rows: Vec<&str> = security.lines().filter(|line| line.starts_with("| ")).skip(2).collect();
    assert!(rows.len() >= 10, "{rows:?}");
    for row in rows {
        let reserved_by = row.trim_end_matches(" |").rsplit(" | ").next().unwrap();
        assert!(reserved_by.starts_with('`') && reserved_by.matches('_').count() > 2, "{row}");
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
fn architecture_map_lists_every_module() {
    let map = read("ARCHITECTURE.md");
    let src = root().join("src");
    for entry in fs::read_dir(src).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(map.contains(&format!("\n  {name}")), "ARCHITECTURE.md has no line for src/{name}");
    }
}

#[test]
fn docs_contain_no_placeholder_figure() {
    for name in pages() {
        assert!(!read(&name).contains("_FIGURE"), "{name}");
    }
}

#[test]
fn failure_page_lists_every_ending_and_exit_code() {
    let page = read("docs/after-a-failure.md");
    let endings = [
        RunEnding::Drained,
        RunEnding::Signal,
        RunEnding::TimeLimit,
        RunEnding::Outage,
        RunEnding::Rejected,
        RunEnding::Suspicious,
        RunEnding::FailureLimit,
        RunEnding::Error,
    ];
    for ending in endings {
        assert!(page.contains(&format!("| `{}` |", ending.name())), "{ending:?}");
    }
    for page in ["README.md", "docs/cron.md", "docs/after-a-failure.md"] {
        let text = read(page);
        for code in [1, 2, 3, 4, 5, 70] {
            assert!(text.contains(&format!("\n| {code} | ")), "{page}: {code}");
        }
    }
}

#[test]
fn docs_index_lists_every_page() {
    let index = read("docs/README.md");
    for page in pages() {
        let Some(name) = page.strip_prefix("docs/").filter(|name| *name != "README.md") else {
            continue;
        };
        assert!(index.contains(&format!("]({name})")), "docs/README.md has no line for {name}");
    }
}

#[test]
fn every_link_of_a_page_leads_somewhere() {
    let mut wrong = Vec::new();
    for page in pages() {
        let folder = root().join(&page);
        let text = read(&page);
        let prose: String = text.split("```").step_by(2).collect();
        for link in prose.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let (path, part) = link.split_once('#').unwrap_or((link, ""));
            if link.contains("://") || link.starts_with("mailto:") {
                continue;
            }
            let target = if path.is_empty() { folder.clone() } else { folder.with_file_name(path) };
            let found = fs::read_to_string(&target);
            let there = target.exists() && (part.is_empty() || has_part(&found.unwrap(), part));
            if !there {
                wrong.push(format!("{page}: {link}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Whether a heading of `page` has this anchor, by the rules of GitHub.
fn has_part(page: &str, part: &str) -> bool {
    page.lines().filter(|line| line.starts_with('#')).any(|line| {
        let title = line.trim_start_matches('#').trim().to_lowercase();
        let kept = title.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        kept.collect::<String>().replace(' ', "-") == part
    })
}
