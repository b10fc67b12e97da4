//! Other file formats, files with an unusual end, and files that change during the import.

use std::fs::{self, File};
use std::time::{Duration, SystemTime};

use super::*;

#[test]
fn other_kinds_of_files_are_named() {
    let text = "id,status\na,4\n";
    let utf32 = |mark: &str, to_bytes: fn(u32) -> [u8; 4]| -> Vec<u8> {
        mark.chars().chain(text.chars()).flat_map(|c| to_bytes(u32::from(c))).collect()
    };
    for (bytes, what, advice) in [
        (b"\xfd7zXZ\0\0\x04".to_vec(), "an xz archive", "`xz -d`"),
        (b"\x28\xb5\x2f\xfd\x04".to_vec(), "a Zstandard archive", "`zstd -d`"),
        (b"BZh91AY&SY\x01".to_vec(), "a bzip2 archive", "`bzip2 -d`"),
        (b"PK\x03\x04\x14".to_vec(), "an Excel workbook (.xlsx) or another zip", "CSV UTF-8"),
        (b"\xd0\xcf\x11\xe0\xa1".to_vec(), "an old Excel workbook (.xls)", "CSV UTF-8"),
        (b"%PDF-1.7\n".to_vec(), "a PDF", "Export"),
        (b"SQLite format 3\0x".to_vec(), "a SQLite database", "Export"),
        (utf32("\u{feff}", u32::to_le_bytes), "text in UTF-32", "iconv -f UTF-32"),
        (utf32("\u{feff}", u32::to_be_bytes), "text in UTF-32", "iconv -f UTF-32"),
        (utf32("", u32::to_le_bytes), "text in UTF-32", "iconv -f UTF-32"),
        (utf32("", u32::to_be_bytes), "text in UTF-32", "iconv -f UTF-32"),
    ] {
        for bytes in [gzip(&bytes), bytes] {
            let reported = failure(bytes, &plain());
            assert!(reported.starts_with(&format!("jobs.csv is {what}")), "{reported}");
            assert!(reported.contains(advice), "{reported}");
        }
    }
    check("BZh,id,status\nx,a,4\n", &plain(), &["a enable @2"]);
}

#[test]
fn one_trailing_ctrl_z_is_ignored() {
    for text in ["id,status\na,4\n\x1a", "id,status\na,4\x1a", "id,status\r\na,4\r\n\x1a"] {
        check(text, &plain(), &["a enable @2"]);
        let marked = format!("\u{feff}{text}");
        check(utf16(&marked, u16::to_le_bytes), &plain(), &["a enable @2"]);
        check(gzip(text.as_bytes()), &plain(), &["a enable @2"]);
    }
    let (_, totals) = read("id,status\n\x1a,4\na\x1a,4\nb,5\n\x1a\x1a", &plain());
    assert_eq!((totals.good, totals.bad), (1, 3));
}

#[test]
fn trailing_ctrl_z_is_recognised_in_split_reads() {
    for mark in ["", "\x1a"] {
        let bytes = format!("id,status\na\x1ab,4\nc,5\n{mark}").into_bytes();
        let pipe = Box::new(Trickle(Cursor::new(bytes), false));
        let manifest = Manifest::from_reader(pipe, "stdin", &plain()).expect("a manifest");
        let (rows, totals) = read_all(manifest).expect("readable");
        assert_eq!((rows.len(), totals.good, totals.bad), (2, 1, 1), "{mark:?}");
    }
}

#[test]
fn zero_bytes_after_gzip_are_ignored() {
    let text = "id,status\na,4\nb,5\n";
    let whole = [gzip(&text.as_bytes()[..12]), gzip(&text.as_bytes()[12..])].concat();
    for zeros in [1, 511, 100_000] {
        let (rows, totals) = read([&whole[..], &vec![0; zeros]].concat(), &plain());
        assert_eq!((rows.len(), totals.digest), (2, read(text, &plain()).1.digest));
        let more = [&whole[..], &vec![0; zeros], b"x"].concat();
        assert!(failure(more, &plain()).contains("other data follows its end"));
    }
}

#[test]
fn gzip_that_unpacks_to_too_much_is_refused() {
    // Rows of one KiB, because a test feels millions of short ones.
    let row = format!("a,4,{}\n", "x".repeat(1_019));
    let rows = gzip(row.repeat(1 << 12).as_bytes());
    let bomb = [gzip(b"id,status,note\n"), rows.repeat(20)].concat();
    let reported = failure(bomb, &plain());
    let parts = ["unpacks to more than 64 MiB, over 100 times its size, near line ", "`gzip -d`"];
    for part in parts {
        assert!(reported.contains(part), "{reported}");
    }
    // A small file with the same ratio and a large file with a smaller ratio are accepted.
    let few = [gzip(b"id,status,note\n"), rows].concat();
    assert_eq!(read(few, &plain()).1.rows, 1 << 12);
    let mut seed = 1_u64;
    let row = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        format!("{seed:x},4,{}\n", "x".repeat(700))
    };
    let many: String = std::iter::repeat_with(row).take(100_000).collect();
    assert!(many.len() > 68 << 20);
    let packed = gzip(format!("id,status,note\n{many}").as_bytes());
    assert_eq!(read(packed, &plain()).1.rows, 100_000);
}

#[test]
fn file_that_changes_while_it_is_read_is_an_error() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("jobs.csv");
    let rows: Vec<String> = (0..100_000).map(|n| format!("q{n},4\n")).collect();
    let text = format!("id,status\n{}", rows.concat());
    let write = |text: &str| fs::write(&path, text).expect("written");
    let changes: [(&str, &dyn Fn()); 5] = [
        ("cut short", &|| write(&text[..800_000])),
        ("longer", &|| write(&(text.clone() + "more,4\n"))),
        ("as long", &|| {
            write(&text.replace(",4", ",6"));
            let file = File::options().write(true).open(&path).expect("there");
            file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(9)).expect("set");
        }),
        ("replaced", &|| {
            fs::write(folder.path().join("new"), &text).expect("written");
            fs::rename(folder.path().join("new"), &path).expect("replaced");
        }),
        ("gone", &|| fs::remove_file(&path).expect("gone")),
    ];
    for (what, change) in changes {
        write(&text);
        let mut manifest = Manifest::open(&path, &plain()).expect("a manifest");
        assert!(manifest.next_row().expect("a row").is_some());
        change();
        let reported = read_all(manifest).expect_err(what).to_string();
        assert!(
            reported.contains("was changed while it was read. Nothing was imported."),
            "{reported}"
        );
    }
    write(&text);
    let manifest = Manifest::open(&path, &plain()).expect("a manifest");
    assert_eq!(read_all(manifest).expect("unchanged").1.good, 100_000);
}
