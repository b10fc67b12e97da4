//! Manifests with the same id more than once.

use super::*;

const NOT_A_STATUS: &str = "not a status: use enable, disable or delete, or 4, 5 or 6";

#[test]
fn duplicate_row_is_counted_and_skipped() {
    let (rows, totals) = read("id,status\na,4\n a ,ENABLE\nb,5\na,\"4\"\n", &plain());
    assert_eq!(rows, ["a enable @2", "b disable @4"]);
    assert_eq!((totals.rows, totals.good, totals.duplicates, totals.bad), (4, 2, 2, 0));
    assert_eq!(totals.by_status, [1, 1, 0]);
}

#[test]
fn conflicting_row_error_names_both_lines() {
    let (rows, totals) = read("id,status\na,4\n\n\nb,5\na,6\na,4\na,5\n", &plain());
    let advice = "keep one of them, or decide for all rows with --on-conflict first or last";
    assert_eq!(
        rows,
        [
            "a enable @2".to_owned(),
            "b disable @5".to_owned(),
            format!(
                "not a: record 3, line 6, column status: \"6\": line 2 has enable, line 6 has delete: \
             {advice}"
            ),
            format!(
                "record 4, line 7, column status: \"4\": line 6 has delete, line 7 has enable: \
             {advice}"
            ),
            format!(
                "record 5, line 8, column status: \"5\": line 2 has enable, line 8 has disable: \
             {advice}"
            ),
        ]
    );
    // The first row is invalid as well, although it was already returned.
    assert_eq!((totals.good, totals.duplicates, totals.bad), (1, 0, 4));
    assert_eq!(totals.by_status, [0, 1, 0]);
}

/// Every row of the file with `text`, in a second pass, and the totals.
fn set_aside(text: &[u8]) -> (Vec<String>, Totals) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("jobs.csv");
    std::fs::write(&path, text).expect("written");
    let options = ManifestOptions { sets_aside: true, ..plain() };
    let mut manifest = Manifest::open(&path, &options).expect("a manifest");
    while manifest.next_row().expect("readable").is_some() {}
    assert!(manifest.has_conflicts());
    let (rows, totals) = manifest.set_aside().and_then(read_all).expect("readable again");
    (rows.iter().map(reported).collect(), totals)
}

#[test]
fn every_row_of_a_conflict_is_set_aside() {
    let text = "id,status,note\na,6,one\na,6,two\nb,5,\na,4,three\nc,9,\na,6,four\nb,5,\n";
    let advice = "keep one of them, or decide for all rows with --on-conflict first or last";
    let bad = |record, status, lines: &str| {
        let line = record + 1;
        format!("record {record}, line {line}, column status: \"{status}\": {lines}: {advice}")
    };
    let expected = [
        bad(1, 6, "line 2 has delete, line 5 has enable"),
        bad(2, 6, "line 3 has delete, line 5 has enable"),
        "b disable @4".to_owned(),
        bad(4, 4, "line 2 has delete, line 5 has enable"),
        format!("record 5, line 6, column status: \"9\": {NOT_A_STATUS}"),
        bad(6, 6, "line 5 has enable, line 7 has delete"),
    ];
    for bytes in [text.as_bytes().to_vec(), gzip(text.as_bytes())] {
        let (rows, totals) = set_aside(&bytes);
        assert_eq!(rows, expected);
        assert_eq!((totals.rows, totals.good, totals.duplicates, totals.bad), (7, 1, 1, 5));
        assert_eq!(totals.by_status, [0, 1, 0]);
        assert_eq!(totals.digest, read(text, &plain()).1.digest);
    }
}

#[test]
fn conflicting_questions_are_not_in_the_manifest() {
    let mut manifest = open("id,status\na,4\na,5\nb,4\n", &plain()).expect("a manifest");
    while manifest.next_row().expect("readable").is_some() {}
    let (_, questions) = manifest.finish_with_questions();
    assert_eq!(["a", "b"].map(|id| questions.contains(id)), [false, true]);
}

#[test]
fn on_conflict_first_passes_over_later_rows() {
    let (rows, totals) = read("id,status\na,4\na,6\na,5\na,4\n", &on_conflict(OnConflict::First));
    assert_eq!(rows, ["a enable @2"]);
    assert_eq!((totals.good, totals.duplicates, totals.bad), (1, 3, 0));
    assert_eq!(totals.by_status, [1, 0, 0]);
}

#[test]
fn on_conflict_last_replaces_and_keeps_counts_correct() {
    let (rows, totals) =
        read("id,status\na,4\nb,4\na,6\na,6\na,5\na,6\n", &on_conflict(OnConflict::Last));
    assert_eq!(
        rows,
        [
            "a enable @2",
            "b enable @3",
            "replace a delete @4",
            "replace a disable @6",
            "replace a delete @7",
        ]
    );
    assert_eq!((totals.good, totals.duplicates, totals.bad), (2, 4, 0));
    assert_eq!(totals.by_status, [1, 0, 1]);
}

#[test]
fn bad_row_does_not_register_its_id() {
    let text = "id,status\na,9\na,6\na,6,x\na,6\n";
    check(
        text,
        &plain(),
        &[
            &format!("record 1, line 2, column status: \"9\": {NOT_A_STATUS}"),
            "a delete @3",
            "record 3, line 4, column -: \"a,6,x\": has 3 fields, the header has 2",
        ],
    );
}
