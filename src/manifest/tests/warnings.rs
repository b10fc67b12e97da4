//! Unusual properties of valid rows.

use super::*;

fn warned(text: &str, options: &ManifestOptions) -> Vec<String> {
    let (_, totals) = read(text, options);
    totals.warnings.iter().map(Warning::to_string).collect()
}

#[test]
fn rewritten_ids_are_warned_of_with_their_line() {
    let text = "id,status\n1-a,4\n1.4E+09,4\n2.5E+08,5\n1.4E+09,4\n#NAME?,4\n#REF!,5\n\"=\"\"x\"\"\",4\n\
                'x,4\n1\u{2013}b,6\n1\u{2011}c,6\n2-d,4\n";
    let reload = "export the ids again, and open them with their column as text";
    let expected = [
        "1 id does not begin with the SDKAppID 1, for example 2-d (record 11, line 12): check that this is the right \
         app"
            .to_owned(),
        format!(
            "2 ids are numbers with an exponent, which spreadsheets make of long numbers, for example 1.4E+09 \
             (record 2, line 3): {reload}"
        ),
        format!(
            "2 ids are error values of a spreadsheet, for example #NAME? (record 5, line 6): {reload}"
        ),
        format!(
            "1 id begins with = like a formula of a spreadsheet, for example =\\\"x\\\" (record 7, line 8): \
             {reload}"
        ),
        "1 id begins with the apostrophe with which spreadsheets mark text, for example 'x (record 8, line 9): \
         remove it"
            .to_owned(),
        format!(
            "2 ids have a typographic dash or hyphen instead of -, for example 1\u{2013}b (record 9, line 10): \
             {reload}"
        ),
    ];
    assert_eq!(warned(text, &plain()), expected);
    assert_eq!(warned("id,status\n1-a,4\n", &plain()), Vec::<String>::new());
}

#[test]
fn overridden_statuses_are_counted() {
    let text = "id,status\na,4\nb,delete\nc,\nd,kept\nd,6\n,4\n";
    assert_eq!(
        warned(text, &with_status(TargetStatus::Delete)),
        [
            "2 rows have another status of their own, for example 4 (record 1, line 2): --status delete overrides it"
        ]
    );
    for text in ["id\na\n", "id,status\na,6\na,DELETE\n", "id,status\na\n"] {
        assert_eq!(
            warned(text, &with_status(TargetStatus::Delete)),
            Vec::<String>::new(),
            "{text}"
        );
    }
}
