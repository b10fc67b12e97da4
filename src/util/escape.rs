//! Escapes foreign text for display: one set of unsafe characters, one escape syntax. Pure.
//!
//! Ids come from manifests and error texts from servers. Invisible characters, control characters and
//! those that change the direction of text are escaped before a page or a terminal shows them. HTML
//! escaping is done by the page. Words of command lines are quoted for a shell.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::path::Path;

/// `text` on one line: every unsafe character (see [`is_unsafe`]) is escaped, like `\u{202e}`.
pub fn visible(text: &str) -> Cow<'_, str> {
    if !text.contains(is_unsafe) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_unsafe(c) {
            // Writing to a String cannot fail.
            let _ = write!(shown, "\\u{{{:x}}}", u32::from(c));
        } else {
            shown.push(c);
        }
    }
    Cow::Owned(shown)
}

/// [`visible`] that keeps line ends.
pub fn visible_lines(text: &str) -> Cow<'_, str> {
    if !text.contains(|c| c != '\n' && is_unsafe(c)) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.split('\n').map(visible).collect::<Vec<_>>().join("\n"))
}

/// [`visible`] for JSON, with JSON escapes, so that a parser gets the original text.
pub fn visible_json(text: &str) -> Cow<'_, str> {
    if !text.contains(|c| c != '\n' && is_unsafe(c)) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if c == '\n' || !is_unsafe(c) {
            shown.push(c);
            continue;
        }
        for unit in c.encode_utf16(&mut [0; 2]) {
            // Writing to a String cannot fail.
            let _ = write!(shown, "\\u{unit:04x}");
        }
    }
    Cow::Owned(shown)
}

/// `word` quoted for a shell. Unsafe characters are escaped by their bytes, in the syntax of bash, zsh
/// and ksh: `$'a\\012b'`.
pub fn shell_word(word: &str) -> Cow<'_, str> {
    let is_plain = |c: char| !is_unsafe(c) && (c.is_alphanumeric() || "-_./:=,%+@".contains(c));
    if !word.is_empty() && word.chars().all(is_plain) {
        return Cow::Borrowed(word);
    }
    if word.contains(is_unsafe) {
        let mut quoted = String::from("$'");
        for c in word.chars() {
            match c {
                '\'' | '\\' => quoted.extend(['\\', c]),
                _ if is_unsafe(c) => {
                    for byte in c.encode_utf8(&mut [0; 4]).bytes() {
                        // Writing to a String cannot fail.
                        let _ = write!(quoted, "\\{byte:03o}");
                    }
                }
                _ => quoted.push(c),
            }
        }
        quoted.push('\'');
        return Cow::Owned(quoted);
    }
    Cow::Owned(format!("'{}'", word.replace('\'', r"'\''")))
}

/// The unsafe characters, by Unicode class: control characters and line breaks (Cc, Zl, Zp); format
/// characters, among them those that change the direction of text (Cf);
/// `Default_Ignorable_Code_Point` (fillers, selectors, tags); private use and noncharacters; and the
/// empty Braille cell. With any of them two different ids could look the same, or a name could forge a
/// line.
pub fn is_unsafe(c: char) -> bool {
    if c.is_ascii() {
        return c.is_ascii_control();
    }
    // The last two code points of each plane are noncharacters.
    let ends_plane = u32::from(c) & 0xfffe == 0xfffe;
    ends_plane
        || matches!(c,
            '\u{80}'..='\u{9f}' | '\u{ad}' | '\u{34f}' | '\u{600}'..='\u{605}' | '\u{61c}'
            | '\u{6dd}' | '\u{70f}' | '\u{890}'..='\u{891}' | '\u{8e2}'
            | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}' | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{2800}' | '\u{3164}' | '\u{e000}'..='\u{f8ff}' | '\u{fdd0}'..='\u{fdef}'
            | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffc}'
            | '\u{110bd}' | '\u{110cd}' | '\u{13430}'..='\u{1343f}'
            | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e0fff}' | '\u{f0000}'..='\u{10ffff}')
}

/// The subset that is not allowed even in a file name: control characters, line and paragraph
/// separators, and the byte order mark. The others occur in real names, such as a joiner in an emoji or
/// a Persian word.
pub fn is_control(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}')
}

/// A character in the notation of Unicode: `U+202E`.
pub fn code_point(c: char) -> String {
    format!("U+{:04X}", u32::from(c))
}

/// A path as one line of text.
pub fn path_text(path: &Path) -> String {
    visible(&path.to_string_lossy()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn visible_lines_keeps_line_ends() {
        assert_eq!(visible_lines("a\n\u{1b}[2Jb\n"), "a\n\\u{1b}[2Jb\n");
        assert!(matches!(visible_lines("a\nb"), Cow::Borrowed("a\nb")));
    }

    #[test]
    fn escaped_json_parses_to_the_original() {
        let json = serde_json::json!({ "name": "a\u{1b}\u{9b}\u{202e}\u{e0041}b" });
        let text = json.to_string();
        let shown = visible_json(&text);
        assert!(shown.is_ascii(), "{shown}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap(), json);
    }

    #[test]
    fn shell_reads_a_quoted_word_as_one() {
        for (word, shown) in [
            ("a-b_c.d/e:f", "a-b_c.d/e:f"),
            ("", "''"),
            ("my queue $x.db", "'my queue $x.db'"),
            ("it's", r"'it'\''s'"),
            ("a\nb's\u{202e}", r"$'a\012b\'s\342\200\256'"),
        ] {
            assert_eq!(shell_word(word), shown);
        }
    }

    #[test]
    fn invisible_characters_are_escaped() {
        for (text, shown) in [
            ("a\u{202e}b", "a\\u{202e}b"),
            ("\0\t\n\u{7f}\u{9b}", "\\u{0}\\u{9}\\u{a}\\u{7f}\\u{9b}"),
            (
                "\u{61c}\u{200b}\u{2069}\u{feff}\u{e0041}",
                "\\u{61c}\\u{200b}\\u{2069}\\u{feff}\\u{e0041}",
            ),
        ] {
            assert_eq!(visible(text), shown, "{text:?}");
        }
        for text in ["", "1400000000-@RBT#x", "<b>&\"'", "问题 ñ é 🙂 \u{fffd}", "\u{a0}"] {
            assert!(matches!(visible(text), Cow::Borrowed(same) if same == text), "{text:?}");
        }
    }

    #[test]
    fn path_is_one_line() {
        let path = Path::new("a\nsucceeded  9\t\u{1b}[2J\u{3164}.csv");
        assert_eq!(path_text(path), "a\\u{a}succeeded  9\\u{9}\\u{1b}[2J\\u{3164}.csv");
    }

    proptest::proptest! {
        // The classes are those of Unicode's own tables.
        #[test]
        fn unsafe_set_has_all_unicode_classes(
            text in r"[\p{Cc}\p{Cf}\p{Co}\p{Zl}\p{Zp}\p{Default_Ignorable_Code_Point}\p{Noncharacter_Code_Point}]"
        ) {
            proptest::prop_assert!(text.chars().all(is_unsafe), "{}", text.escape_unicode());
        }

        #[test]
        fn unsafe_set_has_no_visible_character(
            text in r"[[\p{L}\p{M}\p{N}\p{P}\p{S}\p{Zs}]--[\p{Default_Ignorable_Code_Point}\x{2800}\x{fffc}]]"
        ) {
            proptest::prop_assert!(!text.chars().any(is_unsafe), "{}", text.escape_unicode());
        }
    }
}
