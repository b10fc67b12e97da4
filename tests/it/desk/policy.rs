//! A snapshot of the whole policy: what each code does to a run.

use deskbatch::domain::verdict::{CODES, UNKNOWN};

#[test]
fn code_table_matches_snapshot() {
    let mut rows: Vec<String> = CODES
        .iter()
        .map(|row| format!("{:>13}  {:9}  {}", row.codes(), row.class.verdict(), row.meaning))
        .collect();
    rows.push(format!("{:>13}  {:9}  {}", "any other", UNKNOWN.class.verdict(), UNKNOWN.meaning));
    insta::assert_snapshot!(rows.join("\n"));
}
