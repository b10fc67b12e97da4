//! Single rows: good, blank, bad.

use super::*;

#[test]
fn status_column_accepts_numbers_and_names() {
    let text = "id,status\na,4\nb, 5 \nc,\t6\nd,Enable\ne,DISABLE\nf,\"delete\"\n";
    check(
        text,
        &plain(),
        &[
            "a enable @2",
            "b disable @3",
            "c delete @4",
            "d enable @5",
            "e disable @6",
            "f delete @7",
        ],
    );
}

#[test]
fn bad_row_names_position_value_and_reason() {
    let text = "Question_ID , STATUS\nok,4\n\na b,4\nx,9\n,4\ny,\n";
    check(
        text,
        &plain(),
        &[
            "ok enable @2",
            "record 2, line 4, column Question_ID: \"a b\": contains a blank",
            "record 3, line 5, column STATUS: \"9\": not a status: use enable, disable or delete, or 4, 5 or 6",
            "record 4, line 6, column Question_ID: \"\": is empty",
            "record 5, line 7, column STATUS: \"\": not a status: use enable, disable or delete, or 4, 5 or 6",
        ],
    );
}

#[test]
fn bad_value_is_truncated_and_escaped() {
    let value = |bytes: &[u8]| {
        let text = [b"id,status\n\"", bytes, b"\",9\n"].concat();
        bad_rows(text, &plain()).1.remove(0).value
    };
    assert_eq!(value(b"a \x1b[31m\x07\tb"), "a \\u{1b}[31m\\u{7}\\tb");
    assert_eq!(value(b"a \xc4\xe3'\\"), "a \\xc4\\xe3'\\\\");
    assert_eq!(value("问 \u{202e}\u{200b}".as_bytes()), "问 \\u{202e}\\u{200b}");
    assert_eq!(value(b"say \"\"x\"\""), "say \\\"x\\\"");
    assert_eq!(value(&b" x".repeat(30)), " x".repeat(30));
    assert_eq!(value("问 ".repeat(31).as_bytes()), "问 ".repeat(30) + "…");
}

#[test]
fn row_with_wrong_field_count_is_a_bad_row() {
    check(
        "x,id,status,note\ny,a\nx,b,5,z,1\nc\nx,d,6,,,\nx,e,4,\n",
        &plain(),
        &[
            "record 1, line 2, column -: \"y,a\": has 2 fields, the header has 4",
            "record 2, line 3, column -: \"x,b,5,z,1\": has 5 fields, the header has 4",
            "record 3, line 4, column -: \"c\": has 1 field, the header has 4",
            "record 4, line 5, column -: \"x,d,6,,,\": has 6 fields, the header has 4",
            "e enable @6",
        ],
    );
}

#[test]
fn empty_last_columns_need_no_delimiters() {
    let text = "id,status,note,x\na,4\nb,5,y\nc,6,y,z\nd,4,y,z,\ne,5,,,\nf,6,,, \n";
    let [a, b, c] = ["a enable @2", "b disable @3", "c delete @4"];
    let rows = [a, b, c, "d enable @5", "e disable @6", "f delete @7"];
    check(text, &plain(), &rows);
    check(text.replace(',', ";"), &plain(), &rows);
    let rows = ["a enable @2", "b enable @3", "c enable @4"];
    check("id,note\na\nb,\nc,,\n", &with_status(TargetStatus::Enable), &rows);
    check("id\na,\n", &with_status(TargetStatus::Enable), &["a enable @2"]);
}

#[test]
fn blank_rows_are_skipped_but_counted_as_lines() {
    let text = "\n\r\nid,status\n\n  \na,4\n,\n , \n\"\",\"\"\n\t,\r\n\r\nb,5\n\n";
    check(text, &plain(), &["a enable @6", "b disable @12"]);
    check("id\n\na\n \n\nb", &with_status(TargetStatus::Enable), &["a enable @3", "b enable @6"]);
}

#[test]
fn lines_are_counted_alike_with_every_line_end() {
    for end in ["\n", "\r\n", "\r"] {
        let text = ["id,status,note", "", "a,4,\"x", "y\"", "", "b,5,", "c,9,z", ""].join(end);
        check(
            text,
            &plain(),
            &[
                "a enable @3",
                "b disable @6",
                "record 3, line 7, column status: \"9\": not a status: use enable, disable or delete, or 4, 5 or 6",
            ],
        );
    }
}

#[test]
fn quoted_field_holds_delimiter_quote_and_line_break() {
    let text = "note,id,status\n\"a,\"\"b\"\"\r\n\nc\",\"q,\"\"1\",\"4\"\nx,r,5";
    check(text, &plain(), &["q,\"1 enable @2", "r disable @5"]);
}

#[test]
fn unclosed_quote_is_a_bad_row_at_its_line() {
    let reason = "a quote is opened here and never closed: its field contains all following lines";
    for (rest, value) in [
        ("b,5,\"x\nc,6,\n", "b,5,x\\nc,6,\\n"),
        ("b,5,\"x\nc,6,", "b,5,x\\nc,6,"),
        ("b,\"5\nc,6,y\n\n\n", "b,5\\nc,6,y\\n\\n\\n"),
        ("b,5,\"", "b,5,"),
        ("b,5,\"\"\"", "b,5,\\\""),
        ("\"", ""),
    ] {
        let bad = format!("record 2, line 4, column -: \"{value}\": {reason}");
        check(format!("id,status,note\na,4,\n\n{rest}"), &plain(), &["a enable @2", &bad]);
    }
    let options = with_status(TargetStatus::Delete);
    check(
        "id\na\n\"b\nc\n",
        &options,
        &["a delete @2", &format!("record 2, line 3, column -: \"b\\nc\\n\": {reason}")],
    );
}

#[test]
fn closed_quote_at_end_of_file_is_valid() {
    for end in ["", "\n", "\r\n", "\r", "\n\n\n", "\r\r"] {
        check(format!("id,status\na,\"4\"{end}"), &plain(), &["a enable @2"]);
        check(format!("id,status,n\na,4,\"x\n\n\"{end}"), &plain(), &["a enable @2"]);
    }
}

#[test]
fn stray_quote_that_spans_rows_is_a_bad_row() {
    let text = "id,status,note\na,4,\"oops\nb,5,fine\nc,6,\"more\"\nd,4,x\n";
    let (rows, totals) = read(text, &plain());
    assert!(rows[0].starts_with("record 1, line 2, column -: \"a,4,oops\\nb,5,fine\\nc,6,more"));
    assert!(rows[0].contains("text follows its closing quote"), "{}", rows[0]);
    assert_eq!((rows.len(), totals.bad), (2, 1));
    assert_eq!(rows[1], "d enable @5");
}

#[test]
fn stray_quotes_within_one_row_are_tolerated() {
    for note in ["5\" wide", "\"so\" he said", "\"a\" ", "a\"\"b", "\"x\ny\" "] {
        check(format!("id,note,status\na,{note},4\n"), &plain(), &["a enable @2"]);
    }
}

#[test]
fn other_app_ids_are_counted_once_with_an_example() {
    let text = "id,status\n1-a,4\n2-b,4\n2-b,4\nfaq-3,4\nx,4\n3-c,5\n9-bad,9\n";
    let (_, totals) = read(text, &plain());
    assert_eq!((totals.other_app_ids, totals.other_app_example.as_deref()), (2, Some("2-b")));
    let (_, totals) = read("id,status\n1-a,4\nx,4\n", &plain());
    assert_eq!((totals.other_app_ids, totals.other_app_example), (0, None));
}
