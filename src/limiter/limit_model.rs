//! What is believed of the service and of the way there: how it counts its calls, how much
//! of its limit other programs leave, and how unevenly requests reach it.
//!
//! Pure: calls with their outcomes in, chances and margins out. Neither is documented nor
//! seen: a call leaves at one moment and is counted at another, and only a refusal says
//! that two were counted too close together. So every combination of a way to count and of
//! an unevenness has a weight, each answer multiplies it by how well the combination
//! foretold it (Bayes), and whatever may change meanwhile drifts back towards what was
//! believed at first. The margin follows from the weights: as wide as costs least, where
//! width costs slots and a refusal costs the time that the gate is closed.

use crate::domain::learned::Learned;

/// How many degrees of unevenness are told apart.
const SPREADS: usize = 28;
/// The least and the most standard deviation of the way there, in seconds.
const SPREAD_MIN_S: f64 = 0.000_3;
const SPREAD_MAX_S: f64 = 0.1;

/// How many shares of the limit are told apart that other programs leave: all of it, then
/// four, three and two fifths.
pub(super) const SHARES: usize = 4;
/// The rules: any second holds so many calls, for each share; the whole limit, but calls
/// are refused at random too; two calls keep a distance; the same while others take their
/// part too.
const RULES: usize = SHARES + 3;
const ERRATIC: usize = SHARES;
const SPACED: usize = SHARES + 1;
const SPACED_BUSY: usize = SHARES + 2;

/// What is believed of the rules before anything is known.
const PRIOR: [f64; RULES] = [0.70, 0.03, 0.01, 0.01, 0.005, 0.235, 0.01];
/// The chance of a refusal at random, by a service that does that.
const ERRATIC_REFUSES: f64 = 0.02;
/// The chance that a call meets the others, where others take their part.
const OTHERS_REFUSE: f64 = 0.5;
/// The chance of a refusal by a busy service that wants distance, whatever the distance.
const BUSY_REFUSES: f64 = 0.2;
/// The chance of a refusal that nothing explains.
const UNEXPLAINED: f64 = 2e-6;

/// How likely it is, from one call to the next, that the network has changed, that other
/// programs have come or gone, and that the service counts in another way.
const NETWORK_CHANGES: f64 = 1.0 / 60_000.0;
const OTHERS_CHANGE: f64 = 1.0 / 500.0;
const RULE_CHANGES: f64 = 1.0 / 100_000.0;

/// The widest margin that is thought of, in seconds.
const MARGIN_MAX_S: f64 = 0.7;

/// How close to an earlier call one dared to leave.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Risk {
    /// So late that it could not come too soon.
    None,
    /// So many seconds later than an even way would need, and by how much the unevenness
    /// of both ways together is wider than that of one.
    Margin { margin_s: f64, widen: f64 },
}

/// The risks of one call under each rule.
#[derive(Debug, Clone, Copy)]
pub(super) struct Risks {
    /// Toward the call that is as many back as the share allows a second.
    pub(super) window: [Risk; SHARES],
    /// Toward the last call.
    pub(super) spaced: Risk,
}

/// What slots and refusals cost, for the choice of a margin.
#[derive(Debug, Clone, Copy)]
pub(super) struct Costs {
    /// What a second of margin costs, in seconds a call.
    pub(super) margin: f64,
    /// What a refusal costs, in seconds.
    pub(super) refusal_s: f64,
    /// As in [`Risk::Margin`].
    pub(super) widen: f64,
    /// Spreads above this cannot be, in seconds.
    pub(super) spread_max_s: f64,
}

/// A belief in few figures, to be kept between runs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Gist {
    /// The geometric mean of the spread, in seconds.
    pub(super) spread_s: f64,
    /// The standard deviation of its natural logarithm.
    pub(super) spread_doubt: f64,
    /// The chance that the service wants distance between two calls.
    pub(super) spaced: f64,
}

impl From<&Learned> for Gist {
    fn from(learned: &Learned) -> Self {
        Self {
            spread_s: learned.spread_ms / 1e3,
            spread_doubt: learned.spread_doubt,
            spaced: learned.spaced,
        }
    }
}

/// See the head of this file.
#[derive(Debug, Clone)]
pub(super) struct Belief {
    /// In a box, since the runner's futures carry it along.
    weights: Box<[[f64; SPREADS]; RULES]>,
    spreads_s: Box<[f64; SPREADS]>,
}

impl Belief {
    /// What is believed before anything is known: any spread is as likely as any other.
    pub(super) fn new() -> Self {
        let mut spreads_s = Box::new([0.0; SPREADS]);
        let mut next = SPREAD_MIN_S;
        for each in spreads_s.iter_mut() {
            *each = next;
            next *= (SPREAD_MAX_S / SPREAD_MIN_S).powf(1.0 / (count(SPREADS) - 1.0));
        }
        Self { weights: Box::new(PRIOR.map(|rule| [rule / count(SPREADS); SPREADS])), spreads_s }
    }

    /// What an earlier run believed, with some doubt: the day may be another.
    pub(super) fn from_gist(gist: Gist) -> Self {
        const DOUBT: f64 = 0.05;
        let mut belief = Self::new();
        let doubt = gist.spread_doubt.max(0.2);
        let bell = |spread_s: f64| {
            let off = (spread_s / gist.spread_s).ln() / doubt;
            (-0.5 * off * off).exp()
        };
        let total: f64 = belief.spreads_s.iter().map(|spread_s| bell(*spread_s)).sum();
        let spaced = gist.spaced.clamp(0.001, 0.999);
        let prior_spaced = PRIOR[SPACED] + PRIOR[SPACED_BUSY];
        for (rule, row) in belief.weights.iter_mut().enumerate() {
            let share = match rule {
                SPACED | SPACED_BUSY => PRIOR[rule] / prior_spaced * spaced,
                _ => PRIOR[rule] / (1.0 - prior_spaced) * (1.0 - spaced),
            };
            for (weight, spread_s) in row.iter_mut().zip(belief.spreads_s.iter()) {
                let told = bell(*spread_s) / total.max(f64::MIN_POSITIVE);
                *weight = share * ((1.0 - DOUBT) * told + DOUBT / count(SPREADS));
            }
        }
        belief
    }

    /// The belief in few figures; spreads above `most_s` cannot be.
    pub(super) fn gist(&self, most_s: f64) -> Gist {
        let mut weights = self.by_spread();
        for (weight, spread_s) in weights.iter_mut().zip(self.spreads_s.iter()).skip(1) {
            if *spread_s > most_s {
                *weight = 0.0;
            }
        }
        let all = weights.iter().sum::<f64>().max(f64::MIN_POSITIVE);
        let ln = |spread: usize| self.spreads_s[spread].ln();
        let mean = weights.iter().enumerate().map(|(at, w)| w * ln(at)).sum::<f64>() / all;
        let off = |at: usize| (ln(at) - mean).powi(2);
        let variance = weights.iter().enumerate().map(|(at, w)| w * off(at)).sum::<f64>() / all;
        Gist { spread_s: mean.exp(), spread_doubt: variance.sqrt(), spaced: self.spaced() }
    }

    /// The chance that the service wants distance between two calls.
    pub(super) fn spaced(&self) -> f64 {
        self.chance(SPACED) + self.chance(SPACED_BUSY)
    }

    /// Takes in what became of a call.
    pub(super) fn learn(&mut self, risks: &Risks, refused: bool) {
        let mut total = 0.0;
        for (rule, row) in self.weights.iter_mut().enumerate() {
            let risk = match rule {
                ERRATIC => risks.window[0],
                SPACED | SPACED_BUSY => risks.spaced,
                share => risks.window[share],
            };
            let at_random = match rule {
                ERRATIC => ERRATIC_REFUSES,
                SPACED_BUSY => BUSY_REFUSES,
                _ => UNEXPLAINED,
            };
            let most = if (1..SHARES).contains(&rule) { OTHERS_REFUSE } else { 1.0 };
            for (weight, spread_s) in row.iter_mut().zip(self.spreads_s.iter()) {
                if *weight < 1e-60 {
                    continue;
                }
                let chance = at_random.max(match risk {
                    Risk::None => 0.0,
                    Risk::Margin { margin_s, widen } => most * tail(margin_s / (spread_s * widen)),
                });
                *weight *= if refused { chance } else { (1.0 - chance).max(UNEXPLAINED) };
                total += *weight;
            }
        }
        for weight in self.weights.iter_mut().flatten() {
            *weight /= total;
        }
        self.drift();
    }

    /// Whatever may have changed since the last call moves back towards the prior.
    fn drift(&mut self) {
        for row in self.weights.iter_mut() {
            let even = row.iter().sum::<f64>() / count(SPREADS);
            for weight in row {
                *weight += NETWORK_CHANGES * (even - *weight);
            }
        }
        self.mix(0..SPACED, OTHERS_CHANGE);
        self.mix(SPACED..RULES, OTHERS_CHANGE);
        self.mix(0..RULES, RULE_CHANGES);
    }

    /// Moves a share of the weights of `rules` to where the prior had it among them; what
    /// is believed of the spread stays.
    fn mix(&mut self, rules: std::ops::Range<usize>, share: f64) {
        let prior: f64 = PRIOR[rules.clone()].iter().sum();
        for spread in 0..SPREADS {
            let all: f64 = rules.clone().map(|rule| self.weights[rule][spread]).sum();
            for rule in rules.clone() {
                let weight = &mut self.weights[rule][spread];
                *weight += share * (PRIOR[rule] / prior * all - *weight);
            }
        }
    }

    /// The most likely share of the limit, by its index: 0 is all of it.
    pub(super) fn share(&self) -> usize {
        let chance = |share: usize| self.by_share(share).iter().sum::<f64>();
        (0..SHARES).max_by(|a, b| chance(*a).total_cmp(&chance(*b))).unwrap_or(0)
    }

    /// The margin toward the window, in seconds, if calls are counted by the second.
    pub(super) fn window_margin_s(&self, share: usize, costs: Costs) -> f64 {
        let weights = self.by_share(share);
        let all = weights.iter().sum::<f64>().max(f64::MIN_POSITIVE);
        best_margin_s(costs, &self.spreads_s, &weights.map(|weight| weight / all))
    }

    /// The margin toward the last call, in seconds: none while distance is unlikely to be
    /// asked for.
    pub(super) fn spaced_margin_s(&self, costs: Costs) -> f64 {
        let mut weights = self.weights[SPACED];
        for (weight, busy) in weights.iter_mut().zip(&self.weights[SPACED_BUSY]) {
            *weight += busy;
        }
        best_margin_s(costs, &self.spreads_s, &weights)
    }

    fn chance(&self, rule: usize) -> f64 {
        self.weights[rule].iter().sum()
    }

    /// The weights of the rules that leave such a share of the limit.
    fn by_share(&self, share: usize) -> [f64; SPREADS] {
        let mut weights = self.weights[share];
        if share == 0 {
            for (weight, erratic) in weights.iter_mut().zip(&self.weights[ERRATIC]) {
                *weight += erratic;
            }
        }
        weights
    }

    fn by_spread(&self) -> [f64; SPREADS] {
        std::array::from_fn(|spread| self.weights.iter().map(|row| row[spread]).sum())
    }
}

/// The margin whose cost is least: seconds of width and the chance of a refusal.
fn best_margin_s(costs: Costs, spreads_s: &[f64; SPREADS], weights: &[f64; SPREADS]) -> f64 {
    const STEP: f64 = 1.25;
    let likely: Vec<(f64, f64)> = spreads_s
        .iter()
        .zip(weights)
        .filter(|(spread_s, weight)| **weight > 1e-12 && **spread_s <= costs.spread_max_s)
        .map(|(spread_s, weight)| (spread_s * costs.widen, *weight))
        .collect();
    let cost = |margin_s: f64| {
        let refused: f64 =
            likely.iter().map(|(spread_s, weight)| weight * tail(margin_s / spread_s)).sum();
        costs.margin * margin_s + costs.refusal_s * refused
    };
    let least = |margins: &mut dyn Iterator<Item = f64>| {
        margins.map(|m| (cost(m), m)).min_by(|a, b| a.0.total_cmp(&b.0)).map_or(0.0, |best| best.1)
    };
    let wide = std::iter::successors(Some(0.000_5), |margin_s| Some(margin_s * STEP))
        .take_while(|margin_s| *margin_s < MARGIN_MAX_S);
    let about = least(&mut std::iter::once(0.0).chain(wide));
    let mut near = (-7..=7).map(|eighth| about * STEP.powf(f64::from(eighth) / 8.0));
    least(&mut near)
}

/// The chance that something normally distributed is more than `z` standard deviations
/// above its mean; to within 0.003, and within some per cent far out.
fn tail(z: f64) -> f64 {
    if z < 0.0 {
        return 1.0 - tail(-z);
    }
    0.5 * (-0.717 * z - 0.416 * z * z).exp()
}

#[allow(clippy::cast_precision_loss, reason = "small counts")]
fn count(n: usize) -> f64 {
    n as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    const COSTS: Costs = Costs { margin: 0.2, refusal_s: 1.3, widen: 1.0, spread_max_s: 1.0 };

    /// All risks the same distance from the window, none from the last call.
    fn window(margin_s: f64) -> Risks {
        let risk = Risk::Margin { margin_s, widen: 1.0 };
        Risks { window: [risk; SHARES], spaced: Risk::None }
    }

    #[test]
    fn the_tail_is_that_of_the_normal_distribution() {
        for (z, chance) in [(0.0, 0.5), (1.0, 0.1587), (2.0, 0.02275), (3.0, 0.00135)] {
            assert!((tail(z) - chance).abs() < 0.003, "{z}: {}", tail(z));
            assert!((tail(-z) - (1.0 - chance)).abs() < 0.003);
        }
    }

    /// Thousands of calls, each at the margin that is believed in, all accepted.
    fn after_calm(belief: &mut Belief) {
        for _ in 0..3_000 {
            let margin_s = belief.window_margin_s(0, COSTS);
            belief.learn(&window(margin_s), false);
        }
    }

    #[test]
    fn calls_that_are_accepted_narrow_the_margin_and_a_refusal_widens_it() {
        let mut belief = Belief::new();
        let first = belief.window_margin_s(0, COSTS);
        after_calm(&mut belief);
        let narrow = belief.window_margin_s(0, COSTS);
        assert!(narrow < 0.2 * first, "{narrow} of {first}");
        belief.learn(&window(narrow), true);
        assert!(belief.window_margin_s(0, COSTS) > 1.5 * narrow);
    }

    #[test]
    fn refusals_far_from_the_window_mean_that_others_take_their_part_until_they_are_gone() {
        let mut belief = Belief::new();
        // Far from a fifth less than the limit, and nowhere near two or three fifths less.
        let mut risks = window(0.1);
        risks.window[1] = Risk::Margin { margin_s: -0.2, widen: 1.0 };
        risks.window[2] = Risk::None;
        risks.window[3] = Risk::None;
        for _ in 0..2_000 {
            belief.learn(&risks, false);
        }
        assert_eq!(belief.share(), 0);
        for _ in 0..3 {
            belief.learn(&risks, true);
        }
        assert_eq!(belief.share(), 1);
        let calm = Risks { window: [Risk::None; SHARES], spaced: Risk::None };
        for _ in 0..1_500 {
            belief.learn(&calm, false);
        }
        assert_eq!(belief.share(), 0, "it tries the whole limit again after a while");
    }

    #[test]
    fn refusals_at_random_do_not_widen_the_margin() {
        let mut belief = Belief::new();
        after_calm(&mut belief);
        let narrow = belief.window_margin_s(0, COSTS);
        for call in 0..1_000 {
            // Far from everything: no margin would have helped.
            belief.learn(&window(0.3), call % 50 == 0);
        }
        assert_eq!(belief.share(), 0);
        let margin_s = belief.window_margin_s(0, COSTS);
        assert!(margin_s < 2.0 * narrow + 0.005, "{margin_s} after {narrow}");
    }

    #[test]
    fn refusals_close_to_the_last_call_mean_that_distance_is_wanted() {
        let mut belief = Belief::new();
        let margin_s = belief.spaced_margin_s(Costs { margin: 1.0, ..COSTS });
        for refused in [false, true, false, true, true] {
            let close = Risk::Margin { margin_s: 0.001, widen: 1.0 };
            let far = Risk::Margin { margin_s: 0.3, widen: 1.0 };
            belief.learn(&Risks { window: [far; SHARES], spaced: close }, refused);
        }
        assert!(belief.spaced_margin_s(Costs { margin: 1.0, ..COSTS }) > margin_s);
        assert!(belief.spaced() > 0.9);
    }

    #[test]
    fn a_gist_brings_the_belief_back_with_some_doubt() {
        let mut belief = Belief::new();
        after_calm(&mut belief);
        let back = Belief::from_gist(belief.gist(f64::INFINITY));
        let (was, is) = (belief.window_margin_s(0, COSTS), back.window_margin_s(0, COSTS));
        let first = Belief::new().window_margin_s(0, COSTS);
        assert!(is >= was && is <= 0.5 * first, "{was}, {is}, {first}");
    }
}
