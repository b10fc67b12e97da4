//! Every text that a user reads uses the words of docs/glossary.md: the help, string literals of the program,
//! the pages, and the files in contrib/.

use std::fs;
use std::path::Path;

use regex::Regex;

use crate::house::architecture::all_sources;
use crate::support::docs::{pages, read, root};

/// Words and phrases that are not used, each with a reason or the word to use.
const FORBIDDEN: [(&str, &str); 46] = [
    ("anew", "again"),
    ("applications?[^/]", "app"),
    ("as \\d+[a-z%]*,", "e.g."),
    ("bear(s|ing)?", "accept"),
    ("believ(e|es|ed)", "assume"),
    ("(requests|calls|questions|ids|rows|times) an? (second|request|hour|day)", "N per X"),
    ("an? (line|request|second) each", "one per X"),
    ("one an? (line|request|second)", "one per X"),
    ("dies? of", "fails because of"),
    ("for ever", "forever"),
    ("get(s|ting)? through", "succeed"),
    ("got through", "succeeded"),
    ("goes on", "continues"),
    ("going on", "running"),
    ("go on with", "resume"),
    ("good for", "valid for"),
    ("has to be", "must"),
    ("heard?s?", "receives"),
    ("intents?", "target status"),
    ("is no (such )?(setting|file|path|digest|code|number|code|flag|batch)", "is not a"),
    ("let through", "succeeded"),
    ("meant for people", ""),
    ("mend(s|ed|ing)?", "fix, correct"),
    ("(the|this|that|of) machine", "host"),
    ("nobody", "name the subject"),
    ("overtaken", "superseded"),
    ("(the |learned |kept |a |^)pace(s)?", "rate"),
    ("passed over", "overridden"),
    ("rehears(al|e|es|ed|als)", "sandbox run"),
    ("settings' file", "configuration file"),
    ("shall", "must"),
    ("sittings?", "session"),
    ("so long", "for this long"),
    ("so many", "this many"),
    ("so often", "this many times"),
    ("somebody", "someone"),
    ("speaks? for", "supersedes"),
    ("stands? for", "means"),
    ("takes? (it |them )?back", "sets back to pending"),
    ("told", "name the subject"),
    ("too fast", "throttled"),
    ("the trouble", "the error"),
    ("what is left", "the remaining jobs"),
    ("whoever", "name the subject"),
    ("without a usable", "valid"),
    ("yours alone", "readable only by its owner"),
];

/// It lists words that are not used.
const GLOSSARY: &str = "docs/glossary.md";

/// Other spellings of the words of the glossary.
const MISSPELLED: [&str; 12] = [
    "back off time",
    "ratelimit",
    "rate limitter",
    "roundtrip",
    "SDKAppId",
    "SdkAppID",
    "time-?out's",
    "user sig",
    "UserSIG",
    "Usersig",
    "web page of people",
    "work ?load",
];

fn phrases<'a>(words: impl Iterator<Item = &'a str>) -> Regex {
    let words = words.collect::<Vec<_>>().join("|");
    Regex::new(&format!(r"(?:^|[^\w-])(?:{words})(?:[^\w-]|$)")).unwrap()
}

/// The string literals of Rust, line breaks joined.
fn literals(text: &str) -> Vec<String> {
    let pattern = Regex::new(
        r##"(?s)//[^\n]*|'(?:\\.|[^'\\])'|r#+"(.*?)"#+|r"([^"]*)"|"((?:\\.|[^"\\])*)""##,
    );
    let broken = Regex::new(r"\\\n\s*").unwrap();
    let found = pattern.unwrap();
    let found = found.captures_iter(text).filter_map(|found| {
        found.get(1).or(found.get(2)).or(found.get(3)).map(|text| text.as_str().to_owned())
    });
    found.map(|text| broken.replace_all(&text, "").into_owned()).collect()
}

/// The doc comments of Rust.
fn doc_comments(text: &str) -> Vec<String> {
    let lines = text.lines().filter_map(|line| line.trim_start().strip_prefix("/// "));
    lines.map(str::to_owned).collect()
}

/// The texts in the sources of the program, without its tests.
fn program_texts() -> Vec<(String, String)> {
    let mut texts = Vec::new();
    for (name, text) in all_sources() {
        if !name.starts_with("src/") || name.contains("test") {
            continue;
        }
        let text = text.split("#[cfg(test)]\nmod tests").next().unwrap();
        texts.extend(literals(text).into_iter().map(|text| (name.clone(), text)));
        if name.starts_with("src/cli/") {
            texts.extend(doc_comments(text).into_iter().map(|text| (name.clone(), text)));
        }
    }
    assert!(texts.len() > 2_000, "{}", texts.len());
    texts
}

/// The texts in other files, line by line.
fn file_texts() -> Vec<(String, String)> {
    let mut names = pages();
    names.extend(["CHANGELOG.md", "deskbatch.example.toml"].map(str::to_owned));
    for folder in ["contrib", "src/report/html"] {
        collect(&root().join(folder), &mut names);
    }
    let lines = |name: &String| {
        let text = read(name);
        text.lines().map(|line| (name.clone(), line.to_owned())).collect::<Vec<_>>()
    };
    names.iter().filter(|name| !name.contains("zh") && *name != GLOSSARY).flat_map(lines).collect()
}

fn collect(folder: &Path, names: &mut Vec<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, names);
        } else if path.extension().is_none_or(|ending| ending != "rs") {
            names.push(path.strip_prefix(root()).unwrap().to_string_lossy().into_owned());
        }
    }
}

/// The texts that match `pattern`, with their files.
fn hits(texts: &[(String, String)], pattern: &Regex) -> Vec<String> {
    let hits = texts.iter().filter_map(|(name, text)| {
        let found = pattern.find(text)?;
        Some(format!("{name}: {:?} in {text:?}", found.as_str()))
    });
    hits.collect()
}

#[test]
fn user_texts_use_no_forbidden_words() {
    let pattern = phrases(FORBIDDEN.iter().map(|(word, _)| *word));
    let pattern = Regex::new(&format!("(?i){pattern}")).unwrap();
    let mut wrong = hits(&program_texts(), &pattern);
    // Pages quote the vendor in italics and the command lines of other programs.
    wrong.extend(hits(&file_texts(), &pattern));
    assert!(wrong.is_empty(), "{} {wrong:#?}", wrong.len());
}

#[test]
fn user_texts_spell_each_word_in_one_way() {
    let pattern = phrases(MISSPELLED.into_iter());
    let mut wrong = hits(&program_texts(), &pattern);
    wrong.extend(hits(&file_texts(), &pattern));
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn counts_of_one_are_singular() {
    let nouns = "jobs|questions|rows|requests|batches|deletions|deletes|lines|pages|responses|ids";
    let pattern = Regex::new(&format!(
        r"(?:^|[^o] )\{{[a-z_.]*\}} (more |other |of them )?({nouns})(?:[^/\w]|$)"
    ))
    .unwrap();
    let texts = program_texts();
    let in_sentences = texts.into_iter().filter(|(name, _)| {
        // Limits and measurements are never 1.
        ["src/output/", "src/commands/", "src/report/", "src/manifest/", "src/dashboard/"]
            .iter()
            .any(|folder| name.starts_with(folder))
    });
    let wrong = hits(&in_sentences.collect::<Vec<_>>(), &pattern);
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn messages_have_one_error_prefix() {
    let texts = program_texts();
    let prefixes = Regex::new(r"^(deskbatch|Error|ERROR|Warning|WARNING|fatal|panic): ").unwrap();
    let wrong = hits(&texts, &prefixes);
    assert!(wrong.is_empty(), "{wrong:#?}");
    let errors = hits(&texts, &Regex::new("^error: ").unwrap());
    assert_eq!(errors.len(), 1, "only main.rs adds the prefix: {errors:#?}");
}

#[test]
fn times_of_day_name_their_zone() {
    let texts = program_texts();
    let clock = Regex::new("%H").unwrap();
    let wrong: Vec<&(String, String)> = texts
        .iter()
        .filter(|(_, text)| clock.is_match(text) && !text.contains("UTC") && !text.ends_with('Z'))
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn forbidden_words_are_found() {
    let pattern = phrases(FORBIDDEN.iter().map(|(word, _)| *word));
    for text in ["the settings' file", "5 requests a second", "goes on", "nobody", "as 90s, 45m"] {
        assert!(pattern.is_match(text), "{text}");
    }
    for text in ["5 requests per second", "recommend it", "a threshold", "tolda"] {
        assert!(!pattern.is_match(text), "{text}");
    }
    let source = "let a = \"one \\\n    text\"; // \"no\"\nlet b = r#\"a \"b\"\"#;";
    assert_eq!(literals(source), ["one text", "a \"b\""]);
}
