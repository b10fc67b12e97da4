//! Words with a meaning in this project alone, and riddles, are used neither in Rust outside of texts for
//! users, nor in SQL, nor in the documents for contributors. docs/glossary.md has the words to use.

use std::fs;
use std::path::Path;

use regex::Regex;

use super::architecture::all_sources;

/// Each as a whole word of a sentence, or as a part of a name.
const PRIVATE_WORDS: [&str; 23] = [
    "anew",
    "belief",
    "believed?",
    "believes",
    "going on",
    "goes on",
    "gist",
    "heed",
    "intents?",
    "mend",
    "mended",
    "nobody",
    "overtaken",
    "rehearsal",
    "sittings?",
    "so long",
    "so many",
    "somebody",
    "speaks for",
    "stands for",
    "tall(?:y|ies)",
    "told",
    "whoever",
];

const DOCUMENTS: [&str; 3] = ["ARCHITECTURE.md", "CONTRIBUTING.md", "docs/internals/api.md"];

fn private_words() -> Regex {
    let words = PRIVATE_WORDS.join("|");
    Regex::new(&format!(r"(?i)(?:^|[^a-z])(?:{words})(?:[^a-z]|$)")).unwrap()
}

/// The text without string literals: comments and names.
fn without_strings(text: &str) -> String {
    let strings = Regex::new(r##"(?s)r#+".*?"#+|"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])'|(//[^\n]*)"##);
    strings.unwrap().replace_all(text, "$1").into_owned()
}

fn hits(name: &str, text: &str) -> Vec<String> {
    let words = private_words();
    let lines = text.lines().enumerate().filter(|(_, line)| words.is_match(line));
    lines.map(|(number, line)| format!("{name}: {} {}", number + 1, line.trim())).collect()
}

#[test]
fn sources_use_no_private_words() {
    let mut wrong = Vec::new();
    for (name, text) in all_sources() {
        // The doc comments of the command line are its help.
        if !name.starts_with("src/cli/") && !name.ends_with("house/words.rs") {
            wrong.extend(hits(&name, &without_strings(&text)));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn schema_and_documents_use_no_private_words() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut wrong = Vec::new();
    for name in DOCUMENTS.into_iter().chain(["migrations/sqlite/0001_queue.sql"]) {
        wrong.extend(hits(name, &fs::read_to_string(root.join(name)).unwrap()));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn private_words_are_found_in_names_and_comments() {
    for line in ["// Nobody waits.", "let told = 1;", "fn is_told() {", "/// It is made anew."] {
        assert_eq!(hits("x", &without_strings(line)).len(), 1, "{line}");
    }
    for line in [r#"let text = "told";"#, "// foretold", "let holder = 1;"] {
        assert_eq!(hits("x", &without_strings(line)).len(), 0, "{line}");
    }
}
