//! How many cases a test with many of them runs: a few by default, all of them if `DESKBATCH_LONG_TESTS`
//! is `1`. Both forms run the same code with the same assertions. Only the number of seeds, operations,
//! kills, crash points, mutations or simulated seconds differs.

use std::sync::LazyLock;

/// The variable that selects the long form.
const SWITCH: &str = "DESKBATCH_LONG_TESTS";

static IS_LONG: LazyLock<bool> = LazyLock::new(|| match std::env::var(SWITCH).as_deref() {
    Ok("1") => true,
    Ok("0" | "") | Err(_) => false,
    Ok(other) => panic!("{SWITCH} is 1 or 0, not {other:?}"),
});

/// `short` by default, `long` in the long form.
pub fn cases<T>(short: T, long: T) -> T {
    if *IS_LONG { long } else { short }
}

/// The number in the variable `name`, or `otherwise` if it is not set.
pub fn number(name: &str, otherwise: u64) -> u64 {
    let parse = |text: String| text.parse().unwrap_or_else(|_| panic!("{name}: {text}"));
    std::env::var(name).map_or(otherwise, parse)
}
