//! "Did you mean": finds the known word nearest to an unknown one.
//!
//! Serves commands, settings, columns and statuses. Pure. Prefers no suggestion to a bad one.

/// A longer word is no typing error, and may be a secret in the wrong place.
const WORD_CHARS_MAX: usize = 40;

/// A prefix of at least this length matches its word.
const PREFIX_CHARS_MIN: usize = 4;

/// The word of `known` nearest to `word`, ignoring case, `-`, `_` and whitespace. `None` if none is near,
/// or if `word` is itself known.
///
/// Near is an edit distance of at most a third of the letters and at most 3; a transposition counts 1.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if word.chars().count() > WORD_CHARS_MAX {
        return None;
    }
    let letters = normalized(word);
    let distance_max = (letters.chars().count() / 3).min(3);
    let ranked = known.into_iter().filter_map(|candidate| {
        let meant = normalized(candidate);
        let distance = strsim::osa_distance(&letters, &meant);
        let has_prefix = is_prefix(&letters, &meant);
        (candidate != word && (distance <= distance_max || has_prefix))
            .then_some((candidate, if has_prefix { distance.min(distance_max) } else { distance }))
    });
    // On a tie the first one wins: callers list common words first.
    ranked.min_by_key(|(_, distance)| *distance).map(|(candidate, _)| candidate)
}

/// ` (did you mean X?)` for an error text; empty if no word is near.
pub fn did_you_mean<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    nearest(word, known).map_or_else(String::new, |meant| format!(" (did you mean {meant}?)"))
}

fn normalized(word: &str) -> String {
    let is_separator = |c: char| matches!(c, '-' | '_') || c.is_whitespace();
    word.chars().filter(|c| !is_separator(*c)).flat_map(char::to_lowercase).collect()
}

fn is_prefix(a: &str, b: &str) -> bool {
    let (short, long) = if a.len() < b.len() { (a, b) } else { (b, a) };
    short.chars().count() >= PREFIX_CHARS_MIN && long.starts_with(short)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEYS: [&str; 8] =
        ["sdkappid", "region", "rate", "chunk", "latency_ms", "log", "log_format", "quiet"];

    #[test]
    fn typing_error_finds_its_word() {
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
    fn distant_word_finds_none() {
        for word in ["", "x", "id", "atlantis", "password", "mumbai", "7", "管理员", "chunk"] {
            assert_eq!(nearest(word, KEYS).filter(|_| word != "chunk"), None, "{word}");
        }
        assert_eq!(nearest("chunk", ["chunk"]), None);
        assert_eq!(nearest("7", ["4", "5", "6"]), None);
        assert_eq!(nearest("kept", ["enable", "disable", "delete"]), None);
    }

    proptest! {
        #[test]
        fn suggestion_is_known_and_near(word in "\\PC{0,60}") {
            if let Some(found) = nearest(&word, KEYS) {
                prop_assert!(KEYS.contains(&found));
                let letters = normalized(&word);
                let near = strsim::osa_distance(&letters, &normalized(found)) * 3 <= letters.chars().count();
                prop_assert!(near || is_prefix(&letters, &normalized(found)));
            }
        }
    }
}
