//! Numbers in sentences: nouns and verbs agree with them.

/// `n` and the regular noun `noun`: `1 job`, `2 jobs`.
pub fn counted(n: u64, noun: &str) -> String {
    let ending = match n {
        1 => "",
        _ if noun.ends_with("ch") => "es",
        _ => "s",
    };
    format!("{n} {noun}{ending}")
}

/// `n` and words that agree with it: `1 row was`, `2 rows were`.
pub fn counted_as(n: u64, one: &str, many: &str) -> String {
    format!("{n} {}", choose(n, one, many))
}

/// `one` for 1, otherwise `many`.
pub fn choose<'a>(n: u64, one: &'a str, many: &'a str) -> &'a str {
    if n == 1 { one } else { many }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_agree_with_their_number() {
        for (n, text) in [(0, "0 jobs"), (1, "1 job"), (2, "2 jobs"), (21, "21 jobs")] {
            assert_eq!(counted(n, "job"), text);
        }
        assert_eq!(counted(2, "batch"), "2 batches");
        assert_eq!(counted_as(1, "row was", "rows were"), "1 row was");
    }
}
