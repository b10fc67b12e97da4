//! Every text that a user reads uses the words of docs/glossary.md: the help, string literals of the program,
//! the pages, and the files in contrib/.

use std::fs;
use std::path::Path;

use regex::Regex;

use crate::house::architecture::all_sources;
use crate::support::docs::{pages, read, root};

/// Words and phrases that are not used: a pattern, the word to use, and a text that has it.
const FORBIDDEN: [(&str, &str, &str); 44] = [
    ("anew", "again", "It is made anew."),
    ("applications?", "app", "your application is"),
    ("as \\d+[a-z%]*,", "e.g.", "as 90s, 45m"),
    ("bad (row|id|file|question)s?", "invalid", "1 bad row"),
    ("bear(s|ing)?", "accept", "what it bears"),
    ("believ(e|es|ed)", "assume", "it believes that"),
    (
        "(requests|calls|questions|ids|rows|times) an? (second|request|hour|day)",
        "N per X",
        "5 requests a second",
    ),
    ("(one|two|several) an? (line|request|second)", "one per X", "one a line"),
    ("dies? of", "fails because of", "it dies of it"),
    ("for ever", "forever", "waits for ever"),
    ("g[eo]t(s|ting)? through", "succeed", "nothing got through"),
    ("go(es|ing)? on (with|where)?", "continue, resume", "it goes on where it stopped"),
    ("going on", "running", "a run is going on"),
    ("good for", "valid for", "good for a day"),
    ("ha(s|ve) to be", "must", "it has to be there"),
    ("hears?", "receives", "it hears of it"),
    ("intents?", "target status", "the newest intent"),
    (
        "is no (such )?(setting|file|path|digest|code|number|flag|batch)",
        "is not a",
        "it is no path",
    ),
    ("let through", "succeeded", "was let through"),
    ("mend(s|ed|ing)?", "fix, correct", "mend it"),
    ("(another|other|the|this|that|a) machines?", "host", "on this machine"),
    ("nobody", "name the subject", "nobody knows"),
    ("overtaken", "superseded", "it was overtaken"),
    ("(the|learned|kept|a) paces?", "rate", "the pace is kept"),
    ("passed over", "overridden", "it is passed over"),
    ("rehears(al|e|es|ed|als)", "sandbox run", "a rehearsal"),
    ("settings' file", "configuration file", "the settings' file"),
    ("shall", "must", "it shall be"),
    ("sittings?", "session", "a sitting"),
    ("so long", "for this long", "wait so long"),
    ("so many", "this many", "so many jobs"),
    ("so often", "this many times", "so often in a row"),
    ("somebody", "someone", "somebody else"),
    ("speaks? for", "supersedes", "it speaks for it"),
    ("stands? for", "means", "it stands for"),
    ("take(s|n)? (it |them )?back", "set back to pending", "takes them back"),
    ("told", "name the subject", "it was told"),
    ("too fast", "throttled", "refused as too fast"),
    ("the trouble", "the error", "the trouble is"),
    ("what is left", "the remaining jobs", "what is left of it"),
    ("what became of", "the outcome of", "what became of each"),
    ("whoever", "name the subject", "whoever has it"),
    ("without a usable", "valid", "without a usable answer"),
    ("yours alone", "readable only by its owner", "it is yours alone"),
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
    let words = words.collect::<Vec<_>>().join("|").replace(' ', r"\s+");
    Regex::new(&format!(r"(?:^|[^\w-])(?:{words})(?:[^\w/-]|$)")).unwrap()
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

/// The texts in other files, by paragraph: a phrase may go over the end of a line.
fn file_texts() -> Vec<(String, String)> {
    let mut names = pages();
    let others = ["ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "Cargo.toml"];
    names.extend(others.map(str::to_owned));
    names.extend(["deskbatch.example.toml", "docs/output.schema.json"].map(str::to_owned));
    for folder in ["contrib", "src/report/html"] {
        collect(&root().join(folder), &mut names);
    }
    let paragraphs = |name: &String| {
        let text = read(name);
        text.split("\n\n").map(|part| (name.clone(), part.to_owned())).collect::<Vec<_>>()
    };
    let is_english = |name: &&String| !name.contains("zh") && *name != GLOSSARY;
    names.iter().filter(is_english).flat_map(paragraphs).collect()
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
        let around = text.get(found.start().saturating_sub(60)..(found.end() + 60).min(text.len()));
        Some(format!("{name}: {:?} in {:?}", found.as_str(), around.unwrap_or(found.as_str())))
    });
    hits.collect()
}

#[test]
fn user_texts_use_no_forbidden_words() {
    let pattern = phrases(FORBIDDEN.iter().map(|(word, ..)| *word));
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
    let pattern = phrases(FORBIDDEN.iter().map(|(word, ..)| *word));
    for (word, _, text) in FORBIDDEN {
        assert!(phrases(std::iter::once(word)).is_match(&text.to_lowercase()), "{word}: {text}");
        assert!(pattern.is_match(&text.to_lowercase().replace(' ', "\n")), "{text}");
    }
    for text in ["5 requests per second", "recommend it", "application/json", "tolda"] {
        assert!(!pattern.is_match(text), "{text}");
    }
    let source = "let a = \"one \\\n    text\"; // \"no\"\nlet b = r#\"a \"b\"\"#;";
    assert_eq!(literals(source), ["one text", "a \"b\""]);
}
