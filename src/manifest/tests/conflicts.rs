//! The same id more than once.

use super::*;

const NOT_A_STATUS: &str = "not a status: use 4, 5, 6 or enable, disable, delete";

#[test]
fn a_repetition_is_counted_and_not_given_out() {
    let (rows, totals) = read("id,status\na,4\n a ,ENABLE\nb,5\na,\"4\"\n", &plain());
    assert_eq!(rows, ["a enable @2", "b disable @4"]);
    assert_eq!((totals.rows, totals.good, totals.duplicates, totals.bad), (4, 2, 2, 0));
    assert_eq!(totals.by_status, [1, 1, 0]);
}

#[test]
fn two_statuses_for_one_id_are_a_bad_row_that_names_both_lines() {
    let (rows, totals) = read("id,status\na,4\n\n\nb,5\na,6\na,4\na,5\n", &plain());
    let advice = "keep one of them, or decide for all with --on-conflict first or last";
    assert_eq!(
        rows,
        [
            "a enable @2".to_owned(),
            "b disable @5".to_owned(),
            format!(
                "record 3, line 6, column status: \"6\": line 2 says enable, line 6 says delete: \
             {advice}"
            ),
            format!(
                "record 5, line 8, column status: \"5\": line 2 says enable, line 8 says disable: \
             {advice}"
            ),
        ]
    );
    assert_eq!((totals.good, totals.duplicates, totals.bad), (2, 1, 2));
    assert_eq!(totals.by_status, [1, 1, 0]);
}

#[test]
fn on_conflict_first_passes_over_later_rows() {
    let (rows, totals) = read("id,status\na,4\na,6\na,5\na,4\n", &on_conflict(OnConflict::First));
    assert_eq!(rows, ["a enable @2"]);
    assert_eq!((totals.good, totals.duplicates, totals.bad), (1, 3, 0));
    assert_eq!(totals.by_status, [1, 0, 0]);
}

#[test]
fn on_conflict_last_replaces_and_keeps_the_counts_right() {
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
fn a_bad_row_says_nothing_about_its_id() {
    let text = "id,status\na,9\na,6\na,6,\na,6\n";
    check(
        text,
        &plain(),
        &[
            &format!("record 1, line 2, column status: \"9\": {NOT_A_STATUS}"),
            "a delete @3",
            "record 3, line 4, column -: \"a,6,\": has 3 fields, the header has 2",
        ],
    );
}
