//! Which known word somebody meant who wrote an unknown one: one rule for commands' words,
//! settings, columns and statuses.
//!
//! Pure. Relies on `strsim` for the distance between two words. Rather says nothing than
//! nonsense: an answer that is no help sends people the wrong way.

/// A longer word is no slip of the pen, and may be a secret in the wrong place.
const WORD_CHARS_MAX: usize = 40;

/// From so many letters on, the beginning of a word means the word.
const BEGINNING_CHARS_MIN: usize = 4;

/// The one of `known` that `word` was most likely meant to be; case and the joints `-`, `_`
/// and blanks count for nothing. `None` when none is near, or when `word` is known already.
///
/// One slip in three letters is near, three at most; two letters changing places are one slip.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if word.chars().count() > WORD_CHARS_MAX {
        return None;
    }
    let letters = plain(word);
    let slips_max = (letters.chars().count() / 3).min(3);
    let judged = known.into_iter().filter_map(|candidate| {
        let meant = plain(candidate);
        let slips = strsim::osa_distance(&letters, &meant);
        let begins = is_beginning(&letters, &meant);
        (candidate != word && (slips <= slips_max || begins))
            .then_some((candidate, if begins { slips.min(slips_max) } else { slips }))
    });
    // Of equals the first one wins: lists stand in the order of use.
    judged.min_by_key(|(_, slips)| *slips).map(|(candidate, _)| candidate)
}

/// `did you mean X? ` as all errors put it; nothing when nothing is near.
pub fn did_you_mean<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    nearest(word, known).map_or_else(String::new, |meant| format!("did you mean {meant}? "))
}

fn plain(word: &str) -> String {
    let is_joint = |c: char| matches!(c, '-' | '_') || c.is_whitespace();
    word.chars().filter(|c| !is_joint(*c)).flat_map(char::to_lowercase).collect()
}

fn is_beginning(a: &str, b: &str) -> bool {
    let (short, long) = if a.len() < b.len() { (a, b) } else { (b, a) };
    short.chars().count() >= BEGINNING_CHARS_MIN && long.starts_with(short)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEYS: [&str; 8] =
        ["sdkappid", "region", "rate", "chunk", "latency_ms", "log", "log_format", "quiet"];

    #[test]
    fn a_slip_of_the_pen_finds_its_word() {
        for (word, meant) in [
            ("chunck", "chunk"),
            ("chnuk", "chunk"),
            ("latency", "latency_ms"),
            ("Sdk-App-Id", "sdkappid"),
            ("sdkapid", "sdkappid"),
            ("logformat", "log_format"),
            ("regoin", "region"),
            ("RATE", "rate"),
            ("rat", "rate"),
            ("quite", "quiet"),
        ] {
            assert_eq!(nearest(word, KEYS), Some(meant), "{word}");
        }
        assert_eq!(nearest("enabel", ["enable", "disable", "delete"]), Some("enable"));
        assert_eq!(nearest("qestion_id", ["question_id", "id"]), Some("question_id"));
        assert_eq!(nearest("silicon", ["china", "silicon-valley"]), Some("silicon-valley"));
    }

    #[test]
    fn a_word_that_is_far_from_all_finds_none() {
        for word in ["", "x", "id", "atlantis", "password", "mumbai", "7", "管理员", "chunk"] {
            assert_eq!(nearest(word, KEYS).filter(|_| word != "chunk"), None, "{word}");
        }
        assert_eq!(nearest("chunk", ["chunk"]), None);
        assert_eq!(nearest("7", ["4", "5", "6"]), None);
        assert_eq!(nearest("kept", ["enable", "disable", "delete"]), None);
    }

    proptest! {
        #[test]
        fn what_is_found_is_known_and_shares_most_letters(word in "\\PC{0,60}") {
            if let Some(found) = nearest(&word, KEYS) {
                prop_assert!(KEYS.contains(&found));
                let letters = plain(&word);
                let near = strsim::osa_distance(&letters, &plain(found)) * 3 <= letters.chars().count();
                prop_assert!(near || is_beginning(&letters, &plain(found)));
            }
        }
    }
}
