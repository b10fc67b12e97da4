//! The tables in Markdown, each printed as soon as its rows are known.

use crate::say;
use crate::simulated_queue::{PROMISED, requests_of_placements};
use crate::simulated_run::{ALIKE, Kind, MOMENTS, Tried};
use crate::simulated_service::{Case, Figures, Rule, simulate};

const RULES: [(Rule, &str); 4] = [
    (Rule::Sliding, "sliding second"),
    (Rule::Fixed, "fixed second"),
    (Rule::Bucket, "bucket of 5"),
    (Rule::Spaced, "spacing of 200 ms"),
];
pub const JITTERS_MS: [f64; 4] = [0.0, 5.0, 20.0, 50.0];
/// How requests leave: by the rate limiter, or evenly.
const PACES: [(Option<f64>, &str); 4] = [
    (None, "deskbatch"),
    (Some(200.0), "every 200 ms"),
    (Some(204.0), "every 204 ms"),
    (Some(220.0), "every 220 ms"),
];
const SEEDS: u64 = 5;

/// One row of the rate table.
pub struct PaceRow {
    pub rule: Rule,
    pub pace: &'static str,
    /// Share of the limit and throttled requests in 1,000, by [`JITTERS_MS`].
    pub cells: Vec<(f64, f64)>,
}

/// As `shared/sim/pacing.py`: the way there and 50 ms to the response, both with jitter.
fn case(rule: Rule, jitter_ms: f64, spacing_ms: Option<f64>) -> Case {
    Case {
        rule,
        counts_refused: false,
        jitter_ms,
        response_ms: 50.0,
        response_jitter_ms: jitter_ms,
        others: None,
        refused_at_random: 0.0,
        spacing_ms,
        seconds: 3_600.0,
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn figures(case: &Case) -> Vec<Figures> {
    (1..=SEEDS).map(|seed| simulate(case, seed, None, |_| {})).collect()
}

/// Medians over an hour of each case.
pub fn pace() -> Vec<PaceRow> {
    let mut rows = Vec::new();
    say(
        "Share of the limit of 5 requests per second / throttled requests in 1,000. One hour without its first minute; medians of 5 seeds.",
    );
    say("Every client pauses for at least a second after a push-back.");
    for (rule, rule_name) in RULES {
        say(&format!("\n| the service counts: {rule_name} | no jitter | 5 ms | 20 ms | 50 ms |"));
        say("| --- | --- | --- | --- | --- |");
        for (spacing_ms, pace) in PACES {
            let mut cells = Vec::new();
            for jitter_ms in JITTERS_MS {
                let figures = figures(&case(rule, jitter_ms, spacing_ms));
                cells.push((
                    median(figures.iter().map(|f| f.share)),
                    median(figures.iter().map(|f| f.refused_of_1000)),
                ));
            }
            let text: Vec<String> =
                cells.iter().map(|(share, refused)| format!("{share:.3} / {refused:.1}")).collect();
            say(&format!("| {pace} | {} |", text.join(" | ")));
            rows.push(PaceRow { rule, pace, cells });
        }
    }
    rows
}

/// Other conditions: the worst of the first hundred requests, throttled requests counted, slow
/// responses, another program, responses that show when their requests arrived.
pub fn pace_others() {
    say(
        "\n| deskbatch, half an hour, medians of 5 seeds | share | throttled in 1,000 | throttled in the first 100, worst seed |",
    );
    say("| --- | --- | --- | --- |");
    let usual = |rule, jitter_ms| Case { seconds: 1_800.0, ..case(rule, jitter_ms, None) };
    for (rule, name) in RULES {
        for jitter_ms in [5.0, 20.0] {
            let steady = usual(rule, jitter_ms);
            let cases = [
                ("as above", steady),
                ("throttled requests count", Case { counts_refused: true, ..steady }),
                ("responses after 2 s", Case { response_ms: 2_000.0, ..steady }),
                ("response time without jitter", Case { response_jitter_ms: 0.0, ..steady }),
                (
                    "while another client takes a fifth for 10 min",
                    Case { others: Some((600.0, 1_200.0)), ..steady },
                ),
            ];
            for (what, case) in cases {
                let figures = figures(&case);
                let with_others = case.others.is_some();
                let share = |f: &Figures| if with_others { f.share_with_others } else { f.share };
                let refused = |f: &Figures| {
                    if with_others { f.refused_of_1000_with_others } else { f.refused_of_1000 }
                };
                say(&format!(
                    "| {name}, {jitter_ms} ms, {what} | {:.3} | {:.1} | {} |",
                    median(figures.iter().map(share)),
                    median(figures.iter().map(refused)),
                    figures.iter().map(|f| f.refused_of_first_100).max().unwrap_or(0),
                ));
            }
        }
    }
}

/// Requests by block length and number of bad ids: `(stretch, bad, requests)`.
pub type SearchPoints = Vec<(i64, usize, usize)>;

/// Requests to settle 10,000 ids.
pub fn search() -> SearchPoints {
    say(
        "\nRequests for 10,000 ids, 100 per request; 41 placements. A bad id whose code follows from earlier",
    );
    say("responses is not sent again.");
    say("\n| bad ids | placement | median | fewest | most | target |");
    say("| --- | --- | --- | --- | --- | --- |");
    for (bad, stretch, most) in PROMISED {
        let requests = requests_of_placements(bad, stretch);
        let placement =
            if stretch == 1 { "anywhere".to_owned() } else { format!("in blocks of {stretch}") };
        say(&format!(
            "| {bad} | {placement} | {} | {} | {} | {most} |",
            requests[20], requests[0], requests[40]
        ));
    }
    let mut points = Vec::new();
    for stretch in [1, 3, 10, 30] {
        for bad in [0, 10, 30, 60, 100, 200, 300, 500, 700, 1_000] {
            points.push((stretch, bad, requests_of_placements(bad, stretch)[20]));
        }
    }
    points
}

/// How often the true end lies inside the ETA range.
pub fn estimate() {
    const RUNS: u64 = 200;
    say(
        "\n200 runs of 10,000 jobs: the share that ended inside the ETA range, and the width of the range divided by",
    );
    say(
        "the true time, when 10 % and when 50 % was done. In every second run, one request in fifty is throttled.",
    );
    say("\n| bad ids | at 10 % | width | at 50 % | width |");
    say("| --- | --- | --- | --- | --- |");
    for (kind, ..) in ALIKE {
        let tried = Tried::new(kind, 10_000, RUNS, &MOMENTS);
        let name = match kind {
            Kind::Share(share) => format!("{} %", share * 100.0),
            Kind::Rows(length) => format!("1 % in blocks of {length}"),
            Kind::First(_) | Kind::Last(_) => unreachable!("the beginning is like the end"),
        };
        say(&format!(
            "| {name} | {:.0} % | {:.1} | {:.0} % | {:.1} |",
            tried.hit_rate(0) * 100.0,
            tried.median_width(0),
            tried.hit_rate(1) * 100.0,
            tried.median_width(1)
        ));
    }
}
