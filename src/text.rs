//! Text of strangers, made safe to look at. Pure.
//!
//! Ids come from whoever wrote a manifest, error texts from whoever answers. A page or a
//! terminal shows them, so what is not seen, turns the direction of writing or moves the
//! cursor is spelled out here. Making no markup of text is the page's own business; so that a
//! command line can be copied, a word of it is quoted here as a shell takes it.

use std::borrow::Cow;
use std::fmt::Write as _;

/// `text` with every character that is not seen written as `\u{202e}`; all else stays as it is.
pub fn visible(text: &str) -> Cow<'_, str> {
    if !text.contains(is_hidden) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_hidden(c) {
            // Writing to a String cannot fail.
            let _ = write!(shown, "\\u{{{:x}}}", u32::from(c));
        } else {
            shown.push(c);
        }
    }
    Cow::Owned(shown)
}

/// The same of several lines, whose ends stay what they are.
pub fn visible_lines(text: &str) -> Cow<'_, str> {
    if !text.contains(|c| c != '\n' && is_hidden(c)) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.split('\n').map(visible).collect::<Vec<_>>().join("\n"))
}

/// The same of JSON, by JSON's own rule: whoever reads it gets the very same text.
pub fn visible_json(text: &str) -> Cow<'_, str> {
    if !text.contains(|c| c != '\n' && is_hidden(c)) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if c == '\n' || !is_hidden(c) {
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

/// `word` as a shell takes it for one word.
pub fn shell_word(word: &str) -> Cow<'_, str> {
    let is_plain = |c: char| c.is_alphanumeric() || "-_./:=,%+@".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        return Cow::Borrowed(word);
    }
    Cow::Owned(format!("'{}'", word.replace('\'', r"'\''")))
}

/// Control characters, line breaks too; marks that turn the direction of text; and what
/// takes no room, so that two different ids could look the same.
fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_stay_lines() {
        assert_eq!(visible_lines("a\n\u{1b}[2Jb\n"), "a\n\\u{1b}[2Jb\n");
        assert!(matches!(visible_lines("a\nb"), Cow::Borrowed("a\nb")));
    }

    #[test]
    fn json_says_the_same_as_before() {
        let json = serde_json::json!({ "name": "a\u{1b}\u{9b}\u{202e}\u{e0041}b" });
        let text = json.to_string();
        let shown = visible_json(&text);
        assert!(shown.is_ascii(), "{shown}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap(), json);
    }

    #[test]
    fn a_shell_takes_every_word_for_one() {
        for (word, shown) in [
            ("a-b_c.d/e:f", "a-b_c.d/e:f"),
            ("", "''"),
            ("my queue $x.db", "'my queue $x.db'"),
            ("it's", r"'it'\''s'"),
        ] {
            assert_eq!(shell_word(word), shown);
        }
    }

    #[test]
    fn what_is_not_seen_is_spelled_out_and_all_else_stays() {
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
        for text in ["", "1400000000-@RBT#x", "<b>&\"'", "问题 ñ é 🙂", "\u{a0}"] {
            assert!(matches!(visible(text), Cow::Borrowed(same) if same == text), "{text:?}");
        }
    }
}
