//! Helpers for tests of the documents: the pages, their fenced blocks, and one function that compares a
//! page or, with `DESKBATCH_UPDATE_DOCS=1`, rewrites it.
//!
//! Writes only pages, and only if that variable is set.

use std::fs;
use std::path::Path;

/// The command that updates an outdated page.
const UPDATE: &str = "DESKBATCH_UPDATE_DOCS=1 cargo test docs";

pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

pub fn read(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

/// The pages in the root for users, and every page in docs/ and its folders, relative to the root.
pub fn pages() -> Vec<String> {
    let mut names = ["README.md", "README.zh-CN.md", "SECURITY.md"].map(str::to_owned).to_vec();
    for folder in ["docs", "docs/internals", "docs/zh-CN"] {
        for entry in fs::read_dir(root().join(folder)).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            if Path::new(&name).extension().is_some_and(|ending| ending == "md") {
                names.push(format!("{folder}/{name}"));
            }
        }
    }
    names.sort();
    names
}

/// A fenced block of a page.
#[derive(Debug, Clone)]
pub struct Fence {
    /// The text after the opening fence: `sh recipe=nightly`.
    pub info: String,
    /// The lines between the fences with their line ends.
    pub text: String,
    /// The number of the opening fence's line.
    pub line: usize,
}

impl Fence {
    /// The language: the first word.
    pub fn language(&self) -> &str {
        self.info.split(' ').next().unwrap_or_default()
    }

    /// The value of `key=` among the other words of the info string.
    pub fn word(&self, key: &str) -> Option<&str> {
        self.info.split(' ').skip(1).find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
    }
}

pub fn fences(page: &str) -> Vec<Fence> {
    let mut found: Vec<Fence> = Vec::new();
    let mut open = false;
    for (at, line) in page.lines().enumerate() {
        match (line.strip_prefix("```"), open) {
            (Some(info), false) => {
                found.push(Fence { info: info.to_owned(), text: String::new(), line: at + 1 });
                open = true;
            }
            (Some(_), true) => open = false,
            (None, true) => {
                let fence = found.last_mut().unwrap();
                fence.text.push_str(line);
                fence.text.push('\n');
            }
            (None, false) => {}
        }
    }
    assert!(!open, "a block is not closed");
    found
}

/// Whether pages are rewritten instead of compared.
pub fn updates() -> bool {
    std::env::var_os("DESKBATCH_UPDATE_DOCS").is_some_and(|value| value == "1")
}

/// Compares the part of `page` between its two comments called `name` with `text`.
#[track_caller]
pub fn hold_part(page: &str, name: &str, text: &str) {
    let whole = read(page);
    let begin = format!("<!-- generated: {name} -->\n");
    let (head, rest) = whole.split_once(&begin).unwrap_or_else(|| panic!("{page} lacks {begin}"));
    let (old, tail) = rest.split_once("<!-- end -->").unwrap_or_else(|| panic!("{page}: no end"));
    if old == text {
        return;
    }
    assert!(updates(), "{page} is out of date ({name}): {UPDATE}\nit should have:\n{text}");
    fs::write(root().join(page), format!("{head}{begin}{text}<!-- end -->{tail}")).unwrap();
}

/// Compares `page` with `text`. `why` explains a difference.
#[track_caller]
pub fn hold(page: &str, text: &str, why: &str) {
    if read(page) == text {
        return;
    }
    assert!(updates(), "{page} is out of date: {UPDATE}\n{why}");
    fs::write(root().join(page), text).unwrap();
}
