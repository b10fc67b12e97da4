//! Fault injection: which request gets which fault, by script or by chance.
//!
//! Pure except for its own seeded generator, so that the same seed repeats the same faults. The effect of a
//! fault is not here: `decide` decides whether the change is applied, `reply` what the client receives.

use std::fmt;
use std::str::FromStr;

use strum::{Display, EnumMessage, EnumString, IntoStaticStr, VariantArray};

use super::not_a;

/// A fault of the service or of the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[derive(Display, EnumMessage, EnumString, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "kebab-case", parse_err_ty = String, parse_err_fn = not_a_fault)]
pub enum Fault {
    /// Returns the code for too frequent calls although the limit is kept. Not applied, and not counted
    /// towards the limit.
    Throttle,
    /// HTTP 502 with an HTML page. Not applied.
    BadGateway,
    /// The connection is cut. Not applied.
    CutBefore,
    /// Applied, then the connection is cut before the first byte of the response.
    CutAfter,
    /// Applied; the response comes later than the timeout of a client.
    Late,
    /// Applied, HTTP 200 with the first half of the JSON.
    Truncated,
    /// Applied, HTTP 200 with text that is not JSON.
    Garbage,
    /// Returns 60008, a timeout inside the service. Not applied.
    Internal,
    /// Returns -7 for any request. Not applied.
    Malformed,
    /// Returns a code that no document lists. Not applied.
    Unknown,
    /// Returns another such code. Not applied.
    #[strum(to_string = "unknown-2")]
    UnknownOther,
    /// Returns -50003 although every question exists. Not applied.
    Rejected,
    /// Returns -50003 although every question exists. Applied.
    RejectedApplied,
}

fn not_a_fault(word: &str) -> String {
    not_a::<Fault>("a fault", word)
}

/// A fault and its probability: `bad-gateway=0.05`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FaultChance {
    pub fault: Fault,
    /// From 0 (never) to 1 (always).
    pub probability: f64,
}

impl fmt::Display for FaultChance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.fault, self.probability)
    }
}

impl FromStr for FaultChance {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (fault, probability) = text
            .split_once('=')
            .ok_or("not a fault and its probability: write e.g. bad-gateway=0.05")?;
        let fault = fault.trim().parse()?;
        let probability = probability.trim().parse().ok().filter(|p| (0.0..=1.0).contains(p));
        let probability = probability.ok_or("the probability must be a number from 0 to 1")?;
        Ok(Self { fault, probability })
    }
}

/// Rejects probabilities whose sum is more than 1.
pub(super) fn check_chances(chances: &[FaultChance]) -> Result<(), String> {
    let sum: f64 = chances.iter().map(|chance| chance.probability).sum();
    // Allows for rounding: ten times 0.1 can come to slightly more than 1.
    if sum.is_finite() && sum <= 1.0 + 1e-9 {
        Ok(())
    } else {
        Err(format!("the probabilities of the faults add up to {sum}; at most 1 is allowed"))
    }
}

/// The most requests that one step of a script may cover.
const RUN_MAX: u64 = 1_000_000_000;

/// One step for each request in the order of arrival: `ok*3,throttle,bad-gateway*2,ok`.
///
/// After the script's end the probabilities apply. A script that ends with `...` repeats.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FaultScript {
    /// The steps, each with its number of consecutive requests, which is never zero.
    runs: Vec<(Option<Fault>, u64)>,
    repeats: bool,
}

impl fmt::Display for FaultScript {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (step, times)) in self.runs.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            write!(f, "{comma}{}", step.map_or("ok", Into::into))?;
            if *times > 1 {
                write!(f, "*{times}")?;
            }
        }
        f.write_str(if self.repeats { ",..." } else { "" })
    }
}

impl FromStr for FaultScript {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let (steps, repeats) = match text.strip_suffix("...") {
            Some(steps) => (steps.trim_end().trim_end_matches(','), true),
            None => (text, false),
        };
        let runs = steps.split(',').map(|step| read_run(step.trim())).collect::<Result<_, _>>()?;
        Ok(Self { runs, repeats })
    }
}

fn read_run(text: &str) -> Result<(Option<Fault>, u64), String> {
    let (name, times) = match text.split_once('*') {
        Some((name, times)) => (name.trim_end(), times.trim_start().parse().unwrap_or(0)),
        None => (text, 1),
    };
    if !(1..=RUN_MAX).contains(&times) {
        return Err(format!("{text}: a step can be repeated 1 to {RUN_MAX} times"));
    }
    match name {
        "ok" => Ok((None, times)),
        _ => name.parse().map(|fault| (Some(fault), times)).map_err(|error| format!("{error}, ok")),
    }
}

/// Chooses the fault of each request.
#[derive(Debug)]
pub(super) struct Faults {
    script: Option<FaultScript>,
    /// The index of the current step, and how many of its requests have arrived.
    at: usize,
    used: u64,
    chances: Vec<FaultChance>,
    rng: fastrand::Rng,
}

impl Faults {
    pub(super) fn new(script: Option<FaultScript>, chances: Vec<FaultChance>, seed: u64) -> Self {
        Self { script, at: 0, used: 0, chances, rng: fastrand::Rng::with_seed(seed) }
    }

    /// The fault of the current request.
    pub(super) fn next(&mut self) -> Option<Fault> {
        let Some((step, times)) = self.run_of_script() else { return self.by_chance() };
        self.used += 1;
        if self.used == times {
            (self.at, self.used) = (self.at + 1, 0);
        }
        step
    }

    /// The current step; `None` without a script or after its end.
    fn run_of_script(&mut self) -> Option<(Option<Fault>, u64)> {
        let script = self.script.as_ref()?;
        if self.at == script.runs.len() && script.repeats {
            self.at = 0;
        }
        script.runs.get(self.at).copied()
    }

    fn by_chance(&mut self) -> Option<Fault> {
        if self.chances.is_empty() {
            return None;
        }
        // One draw decides among all faults, so that each keeps its own probability.
        let mut draw = self.rng.f64();
        self.chances.iter().find_map(|chance| {
            draw -= chance.probability;
            (draw < 0.0).then_some(chance.fault)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draws(script: Option<&str>, chances: &[&str], seed: u64, count: usize) -> Vec<&'static str> {
        let script = script.map(|text| text.parse().expect("a script"));
        let chances = chances.iter().map(|text| text.parse().expect("a chance")).collect();
        let mut faults = Faults::new(script, chances, seed);
        (0..count).map(|_| faults.next().map_or("ok", Into::into)).collect()
    }

    #[test]
    fn fault_script_runs_once_and_then_returns_ok() {
        let story = ["ok", "ok", "throttle", "cut-after", "cut-after", "ok", "ok"];
        assert_eq!(draws(Some("ok*2, throttle,cut-after*2"), &[], 0, 7), story);
    }

    #[test]
    fn fault_script_that_ends_with_dots_repeats() {
        let story = ["late", "ok", "late", "ok", "late"];
        assert_eq!(draws(Some("late,ok,..."), &[], 0, 5), story);
        assert_eq!(draws(Some("late,ok..."), &[], 0, 5), story);
    }

    #[test]
    fn chances_begin_where_the_script_ends() {
        let story = ["ok", "internal", "throttle", "throttle"];
        assert_eq!(draws(Some("ok,internal"), &["throttle=1"], 0, 4), story);
    }

    #[test]
    fn same_seed_repeats_faults_at_their_probabilities() {
        let chances = ["throttle=0.2", "bad-gateway=0.05"];
        let story = draws(None, &chances, 7, 10_000);
        assert_eq!(story, draws(None, &chances, 7, 10_000));
        assert_ne!(story, draws(None, &chances, 8, 10_000));
        let share = |name| story.iter().filter(|fault| **fault == name).count();
        assert!((1_800..2_200).contains(&share("throttle")), "{}", share("throttle"));
        assert!((400..600).contains(&share("bad-gateway")), "{}", share("bad-gateway"));
    }

    #[test]
    fn specifications_are_written_as_they_are_read() {
        for text in ["ok*3,throttle,bad-gateway*2,ok", "cut-before,late,truncated,garbage,..."] {
            let script: FaultScript = text.parse().expect("a script");
            assert_eq!(script.to_string(), text);
        }
        let chance: FaultChance = "internal=0.25".parse().expect("a chance");
        assert_eq!(chance.to_string(), "internal=0.25");
    }

    #[test]
    fn wrong_specifications_say_what_is_wrong() {
        for bad in ["", "...", "ok,,ok", "ok*0", "ok*x", "ok*-1", "fine", "throttle=0.5"] {
            assert!(bad.parse::<FaultScript>().is_err(), "{bad}");
        }
        for bad in ["throttle", "throttle=", "throttle=1.1", "throttle=-0.1", "x=0.1", "late=NaN"] {
            assert!(bad.parse::<FaultChance>().is_err(), "{bad}");
        }
        let wrong: Result<FaultScript, String> = "fine".parse();
        assert_eq!(
            wrong.expect_err("refused"),
            "not a fault: use throttle, bad-gateway, cut-before, cut-after, late, truncated, \
             garbage, internal, malformed, unknown, unknown-2, rejected, rejected-applied, ok"
        );
    }

    #[test]
    fn fault_probabilities_add_up_to_at_most_one() {
        let tenth = FaultChance { fault: Fault::Late, probability: 0.1 };
        assert!(check_chances(&[tenth; 10]).is_ok());
        assert!(check_chances(&[tenth; 11]).is_err());
    }
}
