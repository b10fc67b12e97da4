//! Encodings, compression, digests, and other file formats.

use sha2::{Digest as _, Sha256};

use super::*;

const TEXT: &str = "id\tstatus\tnote\r\n1-问\t4\t\"é,\n😀\"\r\nb\t5\t\r\n";
const ROWS: [&str; 2] = ["1-问 enable @2", "b disable @4"];

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}

fn marked(text: &str) -> String {
    format!("\u{feff}{text}")
}

#[test]
fn utf8_and_utf16_with_bom_and_plain_utf8_are_read() {
    for bytes in [
        TEXT.as_bytes().to_vec(),
        marked(TEXT).into_bytes(),
        utf16(&marked(TEXT), u16::to_le_bytes),
        utf16(&marked(TEXT), u16::to_be_bytes),
    ] {
        let (rows, totals) = read(&bytes, &plain());
        assert_eq!(rows, ROWS);
        assert_eq!(totals.digest, sha256(&bytes));
        check(gzip(&bytes), &plain(), &ROWS);
    }
}

#[test]
fn non_utf8_bytes_in_other_columns_are_kept() {
    for mark in [&b""[..], b"\xef\xbb\xbf"] {
        let text = [mark, b"\xb1\xea\xcc\xe2,id,status\n\xc4\xe3\xff\x00,a,4\n\xfe\xff,b,9\n"];
        let (header, bad) = bad_rows(text.concat(), &plain());
        assert_eq!(&header[0], b"\xb1\xea\xcc\xe2");
        assert_eq!(&bad[0].fields[0], b"\xfe\xff");
        check(text.concat(), &plain(), &["a enable @2", &bad[0].to_string()]);
    }
    let text = b"id,status\n\xc4\xe3,4\na,\xc4\xe3\n";
    check(
        text,
        &plain(),
        &[
            "record 1, line 2, column id: \"\\xc4\\xe3\": is not UTF-8 text",
            "record 2, line 3, column status: \"\\xc4\\xe3\": is not UTF-8 text",
        ],
    );
}

#[test]
fn truncated_utf16_character_is_a_bad_row() {
    let mut bytes = utf16(&marked("status,id\n4,a"), u16::to_le_bytes);
    bytes.push(b'b');
    check(
        bytes,
        &plain(),
        &["record 1, line 2, column id: \"a\u{fffd}\": contains the unprintable character U+FFFD"],
    );
}

#[test]
fn utf16_without_bom_is_an_error_with_advice() {
    for to_bytes in [u16::to_le_bytes, u16::to_be_bytes] {
        let text = failure(utf16("id,status\na,4\n", to_bytes), &plain());
        assert!(text.contains("UTF-16 without a byte order mark. Save the file as"), "{text}");
    }
}

#[test]
fn empty_input_is_an_error_that_says_what_is_missing() {
    for bytes in
        [&b""[..], b"\n\r\n \n,,\n", b"\xef\xbb\xbf", b"\xff\xfe", b"\xff\xfe\n\0", &gzip(b"")]
    {
        assert_eq!(
            failure(bytes, &plain()),
            "jobs.csv is empty. The first line must name the columns, e.g. `question_id,status`."
        );
    }
}

#[test]
fn workbook_is_distinguished_from_csv() {
    for bytes in [&b"PK\x03\x04\x14\0\x06\0"[..], b"\xd0\xcf\x11\xe0\xa1\xb1"] {
        assert!(failure(bytes, &plain()).contains("ave it as \"CSV UTF-8\""));
    }
}

#[test]
fn gzip_of_several_parts_is_read_to_its_end() {
    let parts = [gzip(&TEXT.as_bytes()[..20]), gzip(&TEXT.as_bytes()[20..])];
    let (rows, totals) = read(parts.concat(), &plain());
    assert_eq!(rows, ROWS);
    assert_eq!(totals.digest, sha256(TEXT.as_bytes()));
}

#[test]
fn damaged_gzip_is_an_error_at_any_position() {
    let text = format!("id,status\n{}", "a,4\nb,5\n".repeat(40_000));
    let whole = gzip(text.as_bytes());
    let mut wrong_sum = whole.clone();
    wrong_sum[whole.len() - 8] ^= 1;
    for bytes in [
        &whole[..1_000.min(whole.len() / 2)],
        &whole[..whole.len() - 4],
        &wrong_sum,
        b"\x1f\x8b",
        b"\x1f\x8brubbish, and more",
        &[&whole[..], b"id,status\n"].concat(),
    ] {
        let text = failure(bytes, &plain());
        assert!(text.contains("the gzip data is damaged or truncated"), "{text}");
    }
}

#[test]
fn slow_interrupted_pipe_is_read_completely() {
    for bytes in [TEXT.as_bytes().to_vec(), utf16(&marked(TEXT), u16::to_be_bytes)] {
        for bytes in [gzip(&bytes), bytes] {
            let pipe = Box::new(Trickle(Cursor::new(bytes), false));
            let manifest = Manifest::from_reader(pipe, "stdin", &plain()).expect("a manifest");
            let (rows, _) = read_all(manifest).expect("readable");
            assert_eq!(rows.iter().map(reported).collect::<Vec<_>>(), ROWS);
        }
    }
}

#[test]
fn digest_covers_the_unpacked_file() {
    for text in ["id,status\na,4\n", "id,status\na,4", "id,status\n\n\n\n", "id,status\na,\"4\n\n"]
    {
        assert_eq!(read(text, &plain()).1.digest, sha256(text.as_bytes()));
        assert_eq!(read(gzip(text.as_bytes()), &plain()).1.digest, sha256(text.as_bytes()));
    }
    let other_app = ManifestOptions { sdkappid: 7, ..plain() };
    assert_eq!(read(TEXT, &other_app).1.digest, sha256(TEXT.as_bytes()));
}

#[test]
fn semantic_options_change_the_digest_reproducibly() {
    let text = "id,status\na,4\n";
    let all = ManifestOptions {
        status: Some(TargetStatus::Delete),
        delimiter: Some(b','),
        on_conflict: Some(OnConflict::Last),
        sets_aside: true,
        sdkappid: 1,
    };
    // Computed with `sha256sum`, the second one over the first digest, a line feed and the options.
    assert_eq!(
        read(text, &plain()).1.digest,
        "cb32610ead3771d46c509d13439641f80314fb1feed69a592ca768c84e57cefe"
    );
    assert_eq!(
        read(text, &all).1.digest,
        "109dffe51b48b0724b8cd0c73680c4f5a666a006be733957f1f0108e6854d688"
    );
    let delimiter = ManifestOptions { delimiter: Some(b','), ..plain() };
    let choices = [
        plain(),
        with_status(TargetStatus::Enable),
        with_status(TargetStatus::Delete),
        on_conflict(OnConflict::First),
        on_conflict(OnConflict::Last),
        delimiter,
        all,
    ];
    let digests: std::collections::BTreeSet<String> =
        choices.iter().map(|options| read(text, options).1.digest).collect();
    assert_eq!(digests.len(), choices.len());
}

#[test]
fn manifest_is_opened_by_path_and_named_in_errors() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("jobs.csv.gz");
    let missing = Manifest::open(&path, &plain()).err().expect("an error");
    assert_eq!(missing.to_string(), format!("cannot open {}", path.display()));
    assert!(std::error::Error::source(&missing).is_some());
    std::fs::write(&path, gzip(TEXT.as_bytes())).expect("written");
    let manifest = Manifest::open(&path, &plain()).expect("a manifest");
    assert_eq!(read_all(manifest).expect("readable").1.good, 2);
    let folder = Manifest::open(folder.path(), &plain()).err().expect("an error");
    assert!(folder.to_string().starts_with("cannot open "), "{folder}");
}
