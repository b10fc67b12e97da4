//! Recognition of the delimiter and the columns.

use super::*;

#[test]
fn id_column_has_four_names_in_any_case() {
    for name in [
        "question_id",
        "StandardQuestionId",
        "standard_question_id",
        "id",
        " ID ",
        "QUESTION_id\t",
        "\u{a0}question_id\u{a0}",
        "id\u{200b}",
        "\u{3000}id",
    ] {
        check(format!("note,{name},status\nx,a,4\n"), &plain(), &["a enable @2"]);
    }
}

#[test]
fn of_several_id_columns_the_most_specific_wins() {
    for (header, wins) in [
        ("id,standard_question_id,StandardQuestionId,question_id,status", "d"),
        ("id,standard_question_id,StandardQuestionId,other,status", "c"),
        ("id,standard_question_id,other,more,status", "b"),
        ("question_id,id,id,id,status", "a"),
    ] {
        let rows = format!("{wins} disable @2");
        check(format!("{header}\na,b,c,d,5\n"), &plain(), &[&rows]);
    }
}

#[test]
fn duplicate_column_name_is_an_error_only_if_used() {
    assert_eq!(
        failure("id,ID,status\n", &plain()),
        "jobs.csv: the header has the column id more than once: rename or remove one"
    );
    assert!(failure("id,status,Status\n", &plain()).contains("column status more than once"));
    check("id,status,Status\na,b,c\n", &with_status(TargetStatus::Delete), &["a delete @2"]);
    check("id,status,x,x\na,4,,\n", &plain(), &["a enable @2"]);
}

#[test]
fn missing_column_error_lists_the_existing_columns() {
    assert_eq!(
        failure("nr, name\x1b[2J ,status\n", &plain()),
        "jobs.csv: no column contains the question ids. Name the column question_id (also accepted: \
         StandardQuestionId, standard_question_id, id). The header has: nr, name\\u{1b}[2J, status"
    );
    assert_eq!(
        failure("id;Etat\n", &plain()),
        "jobs.csv: no column is named status. Add one, or set one status for all rows with --status. \
         The header has: id, Etat"
    );
    let many: Vec<String> = (0..25).map(|n| format!("c{n}")).collect();
    assert!(failure(many.join(","), &plain()).ends_with("c19, and 5 more"));
}

#[test]
fn status_option_overrides_the_status_column() {
    for text in ["id\na\n", "status,id\nrubbish,a\n", "status,status,id\n,,a\n"] {
        check(text, &with_status(TargetStatus::Disable), &["a disable @2"]);
    }
}

#[test]
fn delimiter_is_detected_from_the_header() {
    for (text, row) in [
        ("id,status\na;b,4\n", "a;b enable @2"),
        ("id;status\na,b;4\n", "a,b enable @2"),
        ("id\tstatus\na,b;c\t4\n", "a,b;c enable @2"),
        // The delimiter that yields an id column wins over a more frequent one.
        ("a;b;c,id,status\nx,a,5\n", "a disable @2"),
        ("a,b,c;id;status\nx;a;5\n", "a disable @2"),
        // A delimiter inside quotes is text.
        ("\"x,y,z,id,\";id;status\nx;a;6\n", "a delete @2"),
        ("\"x\n;y\";id;status\nx;a;6\n", "a delete @3"),
        // Both yield an id column, so the more frequent one wins.
        ("id;x;y;status;,id\na;1;2;4;\n", "a enable @2"),
        // Lines without text do not count.
        ("\n;;;\n , \nid,status\na,4\n", "a enable @5"),
    ] {
        check(text, &plain(), &[row]);
    }
    check(
        "id\na,b;c\n",
        &with_status(TargetStatus::Enable),
        &["record 1, line 2, column -: \"a,b;c\": has 2 fields, the header has 1"],
    );
    check("id\na;b\n", &with_status(TargetStatus::Enable), &["a;b enable @2"]);
}

#[test]
fn delimiter_option_overrides_detection() {
    let options = |byte| ManifestOptions { delimiter: Some(byte), ..plain() };
    check("id|status\na,b|4\n", &options(b'|'), &["a,b enable @2"]);
    check("x;y;z,id,status\n1,a,4\n", &options(b','), &["a enable @2"]);
    assert!(failure("id,status\na,4\n", &options(b';')).contains("The header has: id,status"));
    for byte in [b'"', b'\n', b'\r', 0, 0xe4] {
        assert!(
            failure("id,status\n", &options(byte)).contains(" is invalid: use one ASCII character"),
            "{byte}"
        );
    }
}

#[test]
fn sep_line_sets_the_delimiter() {
    for (line, delimiter) in
        [("sep=;", ";"), ("SEP=,", ","), ("sep=\t", "\t"), ("\"sep=|\"", "|"), ("sep=;\r", ";")]
    {
        let rows = "id,status,note\na,4,x\nb,5,\n".replace(',', delimiter);
        let text = format!("{line}\n{rows}");
        check(&text, &plain(), &["a enable @3", "b disable @4"]);
        check(format!("\u{feff}{text}"), &plain(), &["a enable @3", "b disable @4"]);
    }
    check(
        "sep=;\nx;y,id,status\n1;2,a,4\n",
        &ManifestOptions { delimiter: Some(b','), ..plain() },
        &["a enable @3"],
    );
    assert!(failure("sep=;\n", &plain()).contains("is empty"));
    let reported = failure("sep=ab\nid,status\n", &plain());
    assert!(reported.contains("no column contains the question ids"), "{reported}");
}

#[test]
fn header_is_returned_unchanged() {
    let manifest = open(b"\xef\xbb\xbf ID ;\xc4\xe3;Status\n", &plain()).expect("a manifest");
    assert_eq!(manifest.header(), &ByteRecord::from(vec![&b" ID "[..], b"\xc4\xe3", b"Status"]));
}

#[test]
fn header_only_file_is_an_empty_manifest() {
    for text in ["id,status", "id,status\n", "id,status\r\n\r\n,\n"] {
        let (rows, totals) = read(text, &plain());
        assert!(rows.is_empty());
        assert_eq!(totals, Totals { digest: totals.digest.clone(), ..Totals::default() });
    }
}

#[test]
fn unclosed_quote_in_the_header_is_an_error() {
    let text = "id,status,\"note\na,4,x\nb,5,y\n";
    assert_eq!(
        failure(text, &plain()),
        "jobs.csv: the header at line 1 is invalid: a quote is opened here and never closed: its field \
         contains all following lines"
    );
    let text = "\nid,\"note\na,x\nb,\"y\"\nc,z\n";
    assert!(
        failure(text, &with_status(TargetStatus::Delete))
            .contains("the header at line 2 is invalid: a quoted")
    );
}

#[test]
fn on_conflict_choices_roundtrip_as_text() {
    for choice in [OnConflict::First, OnConflict::Last] {
        assert_eq!(choice.to_string().to_uppercase().parse(), Ok(choice));
    }
    assert_eq!("both".parse::<OnConflict>(), Err("not a choice: use first or last".to_owned()));
}
