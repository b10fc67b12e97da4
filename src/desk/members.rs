//! The members of a JSON object, read without trusting its values.
//!
//! Pure, and never recursive: the scanner counts nesting and does not descend. An invalid string (half a
//! surrogate pair, a raw line break, an unknown escape) or a value that JSON does not have (`NaN`) hides no
//! other member. The frame must be whole: each string, bracket and brace ends, commas separate members, and
//! nothing follows the object. A quotation mark that is not escaped is therefore an error, because the end of
//! its value would be a guess.

use std::collections::HashSet;

/// A member: its name, and its raw value.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Member<'a> {
    pub(super) name: String,
    pub(super) raw: &'a str,
}

/// The position where the text is no longer a JSON object.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Broken {
    /// The text before this byte is valid.
    at: usize,
    /// Whether the text ends there.
    pub(super) is_cut_off: bool,
}

impl Broken {
    /// The line and column in `text`, from 1.
    pub(super) fn place(&self, text: &str) -> (usize, usize) {
        let before = text.as_bytes().get(..self.at).unwrap_or_default();
        let line_start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let line = before.split(|byte| *byte == b'\n').count();
        (line, before.len() - line_start + usize::from(!self.is_cut_off))
    }
}

/// The members of the object in `text`.
pub(super) fn members(text: &str) -> Result<Vec<Member<'_>>, Broken> {
    let mut scan = Scan { text, at: 0 };
    let mut members = Vec::new();
    scan.expect(b'{')?;
    if scan.peek()? != b'}' {
        loop {
            let name = scan.string()?;
            scan.expect(b':')?;
            members.push(Member { name: text_of(name), raw: scan.value()? });
            if scan.peek()? != b',' {
                break;
            }
            scan.expect(b',')?;
        }
    }
    scan.expect(b'}')?;
    scan.skip_blanks();
    if scan.at == text.len() { Ok(members) } else { Err(scan.broken()) }
}

struct Scan<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Scan<'a> {
    fn byte(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn broken(&self) -> Broken {
        let at = self.at.min(self.text.len());
        Broken { at, is_cut_off: at == self.text.len() }
    }

    fn skip_blanks(&mut self) {
        while matches!(self.byte(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    /// The next byte that is not a blank; does not consume it.
    fn peek(&mut self) -> Result<u8, Broken> {
        self.skip_blanks();
        self.byte().ok_or_else(|| self.broken())
    }

    fn expect(&mut self, byte: u8) -> Result<(), Broken> {
        if self.peek()? != byte {
            return Err(self.broken());
        }
        self.at += 1;
        Ok(())
    }

    /// A string, including its quotation marks.
    fn string(&mut self) -> Result<&'a str, Broken> {
        self.skip_blanks();
        let start = self.at;
        self.expect(b'"')?;
        loop {
            match self.byte() {
                None => return Err(self.broken()),
                Some(b'"') => break,
                // An escaped character never ends the string.
                Some(b'\\') => self.at += 2,
                Some(_) => self.at += 1,
            }
        }
        self.at += 1;
        self.slice(start)
    }

    fn value(&mut self) -> Result<&'a str, Broken> {
        match self.peek()? {
            b'"' => self.string(),
            b'{' | b'[' => self.nested(),
            _ => self.word(),
        }
    }

    /// An object or an array, up to its closing bracket.
    fn nested(&mut self) -> Result<&'a str, Broken> {
        let start = self.at;
        let mut closers = Vec::new();
        loop {
            match self.peek()? {
                b'"' => drop(self.string()?),
                open @ (b'{' | b'[') => {
                    closers.push(if open == b'{' { b'}' } else { b']' });
                    self.at += 1;
                }
                close @ (b'}' | b']') => {
                    if closers.pop() != Some(close) {
                        return Err(self.broken());
                    }
                    self.at += 1;
                    if closers.is_empty() {
                        return self.slice(start);
                    }
                }
                b',' | b':' => self.at += 1,
                _ => drop(self.word()?),
            }
        }
    }

    /// A number or any other bare word.
    fn word(&mut self) -> Result<&'a str, Broken> {
        let start = self.at;
        while matches!(
            self.byte(),
            Some(b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'+' | b'-' | b'.' | b'_')
        ) {
            self.at += 1;
        }
        if self.at == start { Err(self.broken()) } else { self.slice(start) }
    }

    /// The text read since `start`. Both ends are at ASCII characters.
    fn slice(&self, start: usize) -> Result<&'a str, Broken> {
        self.text.get(start..self.at).ok_or_else(|| self.broken())
    }
}

/// The text of a string that [`members`] has read, quotation marks included. Invalid parts become U+FFFD.
pub(super) fn text_of(raw: &str) -> String {
    const BROKEN: char = char::REPLACEMENT_CHARACTER;
    let inner = raw.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(raw);
    let mut text = String::with_capacity(inner.len());
    let mut rest = inner.chars();
    while let Some(c) = rest.next() {
        if c != '\\' {
            text.push(c);
            continue;
        }
        text.push(match rest.next() {
            Some(c @ ('"' | '\\' | '/')) => c,
            Some('b') => '\u{8}',
            Some('f') => '\u{c}',
            Some('n') => '\n',
            Some('r') => '\r',
            Some('t') => '\t',
            Some('u') => {
                let (c, left) = unicode(rest.as_str());
                rest = left.chars();
                c.unwrap_or(BROKEN)
            }
            _ => BROKEN,
        });
    }
    text
}

/// The character whose `\u` precedes `rest`, and the text after it.
fn unicode(rest: &str) -> (Option<char>, &str) {
    let unit = |text: &str| {
        let digits = text.get(..4).filter(|four| four.bytes().all(|b| b.is_ascii_hexdigit()))?;
        u32::from_str_radix(digits, 16).ok()
    };
    let Some(first) = unit(rest) else { return (None, rest) };
    let after = &rest[4..];
    if !(0xd800..0xdc00).contains(&first) {
        return (char::from_u32(first), after);
    }
    let second = after.strip_prefix("\\u").and_then(unit);
    match second.filter(|second| (0xdc00..0xe000).contains(second)) {
        Some(second) => {
            (char::from_u32(0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00)), &after[6..])
        }
        None => (None, after),
    }
}

/// Whether `raw`, a value that [`members`] has read, may name rejected questions. It may if it has an array
/// that is not empty, or a text that is one of `ids` or lists one.
pub(super) fn may_name(raw: &str, ids: &HashSet<&str>) -> bool {
    let mut scan = Scan { text: raw, at: 0 };
    while let Ok(byte) = scan.peek() {
        if byte == b'"' {
            let Ok(string) = scan.string() else { return true };
            let text = text_of(string);
            let is_between = |c: char| c.is_whitespace() || ",;|:\"'()[]{}".contains(c);
            if ids.contains(text.as_str()) || text.split(is_between).any(|part| ids.contains(part))
            {
                return true;
            }
            continue;
        }
        scan.at += 1;
        if byte == b'[' && !matches!(scan.peek(), Ok(b']')) {
            return true;
        }
    }
    false
}
