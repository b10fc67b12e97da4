//! Cases that other CSV readers failed: those of the npm package csv-spectrum, rewritten with each record
//! between an id and a status.
//!
//! Each case has the hard record first as a valid row and then as an invalid one. The test compares the fields of
//! the invalid row with the expected ones.

use super::*;

/// `hard` is the record between its id and its status, `columns` are the names of its columns, and `fields`
/// is the expected result. `end` is the line end of the manifest. It replaces each `\n` in `hard` and in
/// `fields`.
#[track_caller]
fn torture(end: &str, columns: &str, hard: &str, fields: &[&str]) {
    let lines = hard.matches('\n').count() as u64;
    let text = format!(
        "question_id,{columns},status\na,{hard},4\nb,{hard},9\nc,{hard},delete\nd,{plain},5\n",
        plain = vec![""; fields.len()].join(","),
    );
    let (header, bad) = bad_rows(text.replace('\n', end), &plain());
    let at = |record: u64| 2 + (record - 1) * (1 + lines);
    let meant: Vec<String> = fields.iter().map(|field| field.replace('\n', end)).collect();
    let meant = [&["b".to_owned()], &meant[..], &["9".to_owned()]].concat();
    assert_eq!(header.len(), fields.len() + 2, "{columns}");
    assert_eq!(bad.len(), 1, "{hard}");
    assert_eq!((bad[0].record, bad[0].line), (2, at(2)), "{hard}");
    assert_eq!(bad[0].fields, meant, "{hard}");
    let (rows, _) = read(text.replace('\n', end), &plain());
    let jobs: Vec<&String> = rows.iter().filter(|row| !row.starts_with("record")).collect();
    let [first, third, fourth] = [1, 3, 4].map(at);
    let reported = [
        format!("a enable @{first}"),
        format!("c delete @{third}"),
        format!("d disable @{fourth}"),
    ];
    assert_eq!(jobs, reported.iter().collect::<Vec<_>>(), "{hard}");
}

#[test]
fn simple_records_with_every_line_end() {
    for end in ["\n", "\r\n", "\r"] {
        torture(end, "x,y,z", "1,2,3", &["1", "2", "3"]);
    }
}

#[test]
fn quoted_comma_is_text() {
    torture("\n", "name,place,zip", "Jo,\"Anytown, WW\",08123", &["Jo", "Anytown, WW", "08123"]);
}

#[test]
fn empty_fields_are_read_quoted_and_unquoted() {
    for end in ["\n", "\r\n", "\r"] {
        torture(end, "x,y,z", "1,\"\",", &["1", "", ""]);
        torture(end, "x,y,z", "\"\",\"\",\"\"", &["", "", ""]);
    }
}

#[test]
fn doubled_quotes_are_quotes() {
    torture("\n", "x,y", "1,\"ha \"\"ha\"\" ha\"", &["1", "ha \"ha\" ha"]);
    torture("\n", "x,y", "\"\"\"\",\"\"\"x\"\"\"", &["\"", "\"x\""]);
}

#[test]
fn json_in_a_field_is_text() {
    torture(
        "\n",
        "key,value",
        "1,\"{\"\"type\"\": \"\"Point\"\", \"\"at\"\": [102.0, 0.5]}\"",
        &["1", "{\"type\": \"Point\", \"at\": [102.0, 0.5]}"],
    );
}

#[test]
fn coordinates_in_a_field_are_text() {
    torture("\n", "phone,place", "5550100,\"(41.9, -87.6)\"", &["5550100", "(41.9, -87.6)"]);
    torture("\n", "\"x,y\",place", "5550100,\"(0,\n-0)\"", &["5550100", "(0,\n-0)"]);
}

#[test]
fn line_breaks_in_a_field_are_text_and_count_as_lines() {
    for end in ["\n", "\r\n", "\r"] {
        torture(end, "x,y,z", "\"Once upon \na time\",5,6", &["Once upon \na time", "5", "6"]);
        torture(end, "x", "\"\n\n\"", &["\n\n"]);
    }
}

#[test]
fn quotes_and_line_breaks_together_are_text() {
    for end in ["\n", "\r\n", "\r"] {
        torture(end, "x,y", "1,\"ha \n\"\"ha\"\" \nha\n\"\"\"", &["1", "ha \n\"ha\" \nha\n\""]);
    }
}

#[test]
fn utf8_characters_of_any_width_are_text() {
    torture("\n", "x,y,ʤ", "é,ʤ,问题😀", &["é", "ʤ", "问题😀"]);
}
