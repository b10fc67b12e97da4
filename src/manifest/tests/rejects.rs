//! Invalid rows written to a file, corrected and read again.

use super::*;

/// The file that `Rejects` writes for the invalid rows in `bytes`.
fn rejected(bytes: impl AsRef<[u8]>) -> Vec<u8> {
    let (header, bad) = bad_rows(bytes, &plain());
    let mut rejects = Rejects::new(Vec::new(), &header).expect("begun");
    for row in &bad {
        rejects.write(row).expect("written");
    }
    let (written, rows) = rejects.finish().expect("complete");
    assert_eq!(rows, bad.len() as u64);
    written
}

#[track_caller]
fn check_rejected(bytes: impl AsRef<[u8]>, expected: impl AsRef<[u8]>) {
    let shown = |bytes: &[u8]| bytes.escape_ascii().to_string().replace("\\n", "\n");
    assert_eq!(shown(&rejected(bytes)), shown(expected.as_ref()));
}

const NOT_A_STATUS: &str = "\"not a status: use enable, disable or delete, or 4, 5 or 6\"";

#[test]
fn rejects_keep_column_bytes_and_add_a_reason() {
    let text = b"\xb1\xea;id;Status\nok;a;4\n \xc4\xe3,\"x\"\xff;b; 9\n\"l\n2\";c d;4\n";
    let reason = NOT_A_STATUS.as_bytes();
    let rows = [
        &b"\xb1\xea,id,Status,reason\n\" \xc4\xe3,\"\"x\"\"\xff\",b, 9,"[..],
        reason,
        b"\n\"l\n2\",c d,4,contains a blank\n",
    ];
    check_rejected(text, rows.concat());
}

#[test]
fn earlier_reason_is_overwritten_in_place() {
    let text = "id, Reason ,status\na,old,9\nb,,4\n";
    check_rejected(text, format!("id, Reason ,status\na,{NOT_A_STATUS},9\n"));
}

#[test]
fn rejects_of_utf16_are_utf8() {
    let text = utf16("\u{feff}id\tstatus\n问\t九\n", u16::to_le_bytes);
    check_rejected(text, format!("id,status,reason\n问,九,{NOT_A_STATUS}\n"));
}

#[test]
fn rejects_keep_all_fields_of_short_and_long_rows() {
    let text = "note,id,status\nx\nHi, there,b,4\nx,c,4,,\n";
    check_rejected(
        text,
        "note,id,status,reason\n\
         x,,,\"has 1 field, the header has 3\"\n\
         Hi, there | 4,b,\"has 4 fields, the header has 3\"\n\
         x,c |  | ,4,\"has 5 fields, the header has 3\"\n",
    );
}

#[test]
fn shifted_value_in_the_reason_column_is_kept() {
    let text = "id,reason,status\na,4\nb,c,5,6\nd,6,\"\ne,x,4\n";
    check_rejected(
        text,
        "id,reason,status\n\
         a | 4,\"has 2 fields, the header has 3\",\n\
         b | 6 | c,\"has 4 fields, the header has 3\",5\n\
         d | 6,a quote is opened here and never closed: its field contains all following lines,\"\n\
         e,x,4\n\"\n",
    );
    let text = "id,status,reason\na,4,\"x\nb,5,\n";
    let file = String::from_utf8(rejected(text)).expect("text");
    assert!(file.starts_with("id,status,reason\n\"a | x\nb,5,\n\",4,a quote"), "{file}");
}

#[test]
fn rejects_are_a_manifest_of_bad_rows_until_fixed() {
    let text = "id,status,note\na,9,x\nb,4,x,y\nc d,5,z\n\"\"\"e\"\"\",,\n";
    let file = rejected(text);
    let (rows, totals) = read(&file, &plain());
    assert_eq!((totals.rows, totals.bad), (4, 4), "{rows:?}");
    let corrected = String::from_utf8(file).expect("text");
    let corrected = corrected
        .replace("a,9", "a,6")
        .replace("b | y", "b")
        .replace("c d", "cd")
        .replace("\"\"\"e\"\"\",", "e,4");
    check(corrected, &plain(), &["a delete @2", "b enable @3", "cd disable @4", "e enable @5"]);
}

#[test]
fn rejects_of_rejects_come_out_the_same() {
    let first = rejected("id;status;note\na;9;\"x\ny\"\nb c;4;\n");
    check_rejected(&first, &first);
}

#[test]
fn single_empty_column_is_still_a_row() {
    let (header, bad) = bad_rows("id\n\"a b\"\n", &with_status(TargetStatus::Enable));
    assert_eq!((header.len(), bad.len()), (1, 1));
    check_rejected("id,status\n,4\n", "id,status,reason\n,4,is empty\n");
}

#[test]
fn rejects_have_a_limit_that_is_an_error() {
    let (header, bad) = bad_rows("id,status,note\na,9,\n", &plain());
    let mut rejects = Rejects::new(io::sink(), &header).expect("begun");
    let note = "x".repeat(1 << 20);
    let row = RowError { fields: vec!["a", "9", &note].into(), ..bad[0].clone() };
    let refused = (0..300).find_map(|_| rejects.write(&row).err()).expect("a limit");
    let why = refused.get_ref().and_then(|why| why.downcast_ref::<TooManyRejects>());
    assert!(why.is_some(), "{refused}");
    assert_eq!(refused.to_string(), "more than 256 MiB of invalid rows");
}

#[test]
fn rejects_are_known_by_their_header() {
    for (text, known) in [
        ("id,status,reason\na,4,x\n", true),
        ("note,Question_ID, Reason \n", true),
        ("id,status\na,reason\n", false),
        ("id;status;reason\n", false),
        ("reason\nid\n", false),
        ("", false),
    ] {
        assert_eq!(look_like_rejects(text.as_bytes()), known, "{text}");
    }
}
