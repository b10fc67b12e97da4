//! Files of another format than CSV, recognised by their first bytes.
//!
//! Looks only at the first bytes, unpacked if they are gzip, and never at a file name.

/// The format of a file that is not CSV, and the remedy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kind {
    /// Its name, with an article.
    pub what: &'static str,
    /// How to make a manifest of it: a sentence without its full stop.
    pub advice: &'static str,
}

/// The number of first bytes that is enough to recognise every format.
pub(super) const HEAD_BYTES: u64 = 16;

const SAVE: &str = "Open it and save it as \"CSV UTF-8\"";
const UTF32: Kind = Kind {
    what: "text in UTF-32",
    advice: "Save it as \"CSV UTF-8\", or convert it with `iconv -f UTF-32 -t UTF-8`",
};

/// The first bytes of each format.
const KINDS: [(&[u8], Kind); 14] = [
    (b"PK\x03\x04", ZIP),
    (b"PK\x05\x06", ZIP),
    (b"\xd0\xcf\x11\xe0", Kind { what: "an old Excel workbook (.xls)", advice: SAVE }),
    (b"\xfd7zXZ\0", Kind { what: "an xz archive", advice: "Unpack it with `xz -d`" }),
    (b"\x28\xb5\x2f\xfd", Kind { what: "a Zstandard archive", advice: "Unpack it with `zstd -d`" }),
    (b"\x04\x22\x4d\x18", Kind { what: "an LZ4 archive", advice: "Unpack it with `lz4 -d`" }),
    (b"\x1f\x9d", Kind { what: "a compress archive (.Z)", advice: "Unpack it with `gzip -d`" }),
    (b"7z\xbc\xaf\x27\x1c", Kind { what: "a 7z archive", advice: "Unpack it with `7z x`" }),
    (b"Rar!\x1a\x07", Kind { what: "a RAR archive", advice: "Unpack it" }),
    (b"%PDF-", Kind { what: "a PDF", advice: "Export the table that it was made of as CSV" }),
    (
        b"SQLite format 3\0",
        Kind { what: "a SQLite database", advice: "Export a table of it as CSV" },
    ),
    (b"PAR1", Kind { what: "a Parquet file", advice: "Export it as CSV" }),
    (b"\xff\xfe\0\0", UTF32),
    (b"\0\0\xfe\xff", UTF32),
];

const ZIP: Kind = Kind {
    what: "an Excel workbook (.xlsx) or another zip archive",
    advice: "Open it and save it as \"CSV UTF-8\", or unpack it with `unzip`",
};

/// The format of a file that begins with `head`; `None` if it may be CSV.
pub(super) fn recognise(head: &[u8]) -> Option<Kind> {
    let known = KINDS.iter().find(|(start, _)| head.starts_with(start)).map(|(_, kind)| *kind);
    known.or_else(|| is_bzip2(head).then_some(BZIP2)).or_else(|| is_utf32(head).then_some(UTF32))
}

const BZIP2: Kind = Kind { what: "a bzip2 archive", advice: "Unpack it with `bzip2 -d`" };

/// `BZh` alone could be the name of a column.
fn is_bzip2(head: &[u8]) -> bool {
    matches!(head, [b'B', b'Z', b'h', b'1'..=b'9', 0x31, 0x41, 0x59, 0x26, ..])
        || matches!(head, [b'B', b'Z', b'h', b'1'..=b'9', 0x17, 0x72, 0x45, 0x38, ..])
}

/// Two characters of four bytes each, without a byte order mark.
fn is_utf32(head: &[u8]) -> bool {
    let Some(head) = head.get(..8) else { return false };
    let characters: Vec<[bool; 4]> =
        head.chunks_exact(4).map(|bytes| [0, 1, 2, 3].map(|at| bytes[at] != 0)).collect();
    let is_all = |character| characters.iter().all(|found| *found == character);
    is_all([true, false, false, false]) || is_all([false, false, false, true])
}
