//! The limit model: an estimate of how the service counts requests, how much of its limit other programs use,
//! and how unevenly requests arrive.
//!
//! Pure: takes requests with their results, returns probabilities and margins. None of this is documented or
//! visible: a request is sent at one moment and counted at another, and only a push-back shows that two were
//! counted too close together. So every combination of a counting rule and an arrival jitter has a weight.
//! Each response multiplies the weight by the probability that the combination gave it (Bayes). All weights
//! drift towards the prior, because network, other programs and rule can change. The margin follows from the
//! weights: it minimises the cost of unused slots and of push-backs.

use crate::domain::learned::LearnedRate;

/// The number of values of the arrival jitter that the model distinguishes.
const JITTERS: usize = 28;
/// The smallest and the largest of them, in seconds.
const JITTER_MIN_S: f64 = 0.000_3;
const JITTER_MAX_S: f64 = 0.1;

/// The number of capacity shares that the model distinguishes. A capacity share is the part of the limit that
/// other programs leave: all of it, then four, three and two fifths.
pub(super) const CAPACITY_SHARES: usize = 4;
/// The counting rules: a sliding second, once for each capacity share; a sliding second with the whole limit
/// and random push-backs; a least time between two requests; a least time while other programs use their
/// part.
const RULES: usize = CAPACITY_SHARES + 3;
const RANDOM: usize = CAPACITY_SHARES;
const MIN_SPACING: usize = CAPACITY_SHARES + 1;
const MIN_SPACING_SHARED: usize = CAPACITY_SHARES + 2;

/// The probabilities of the rules before the first response.
const PRIOR: [f64; RULES] = [0.70, 0.03, 0.01, 0.01, 0.005, 0.235, 0.01];
/// The probability of a random push-back, under the rule that has them.
const RANDOM_PUSH_BACK: f64 = 0.02;
/// The probability that a request collides with those of other programs, under the rules where they use a
/// part.
const OTHERS_PUSH_BACK: f64 = 0.5;
/// The probability of a push-back at any distance, under a least time while other programs use their part.
const SHARED_PUSH_BACK: f64 = 0.2;
/// The probability of a push-back that no rule explains.
const UNEXPLAINED: f64 = 2e-6;

/// The probabilities, from one request to the next, that the network changes, that other programs start or
/// stop, and that the service changes its counting rule.
const NETWORK_CHANGES: f64 = 1.0 / 60_000.0;
const OTHERS_CHANGE: f64 = 1.0 / 500.0;
const RULE_CHANGES: f64 = 1.0 / 100_000.0;

/// The widest margin that is considered, in seconds.
const MARGIN_MAX_S: f64 = 0.7;

/// How close a request was sent to an earlier one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Risk {
    /// So late that the service cannot count both together.
    None,
    /// `margin_s` seconds later than needed without jitter. The combined jitter of both arrivals is `widen`
    /// times the jitter of one.
    Margin { margin_s: f64, widen: f64 },
}

/// The risks of one request under each rule.
#[derive(Debug, Clone, Copy)]
pub(super) struct Risks {
    /// The distance from the request that is as many requests back as a capacity share allows per second.
    pub(super) window: [Risk; CAPACITY_SHARES],
    /// The distance from the last request.
    pub(super) spacing: Risk,
}

/// The costs of unused slots and push-backs, for the choice of a margin.
#[derive(Debug, Clone, Copy)]
pub(super) struct Costs {
    /// The cost of a second of margin, in seconds per request.
    pub(super) margin: f64,
    /// The cost of a push-back, in seconds.
    pub(super) push_back_s: f64,
    /// As in [`Risk::Margin`].
    pub(super) widen: f64,
    /// The largest possible jitter, in seconds.
    pub(super) jitter_max_s: f64,
}

/// A summary of the model that is saved for the next run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct ModelSummary {
    /// The geometric mean of the arrival jitter, in seconds.
    pub(super) jitter_s: f64,
    /// The standard deviation of its natural logarithm.
    pub(super) jitter_log_sd: f64,
    /// The probability of a least time between two requests.
    pub(super) min_spacing_probability: f64,
}

impl From<&LearnedRate> for ModelSummary {
    fn from(learned: &LearnedRate) -> Self {
        Self {
            jitter_s: learned.arrival_jitter_ms / 1e3,
            jitter_log_sd: learned.arrival_jitter_log_sd,
            min_spacing_probability: learned.min_spacing_probability,
        }
    }
}

/// The weights of all combinations of counting rule and arrival jitter.
#[derive(Debug, Clone)]
pub(super) struct LimitModel {
    /// Boxed, because the runner's futures contain it.
    weights: Box<[[f64; JITTERS]; RULES]>,
    jitters_s: Box<[f64; JITTERS]>,
}

impl LimitModel {
    /// The prior: every jitter is equally likely.
    pub(super) fn new() -> Self {
        let mut jitters_s = Box::new([0.0; JITTERS]);
        let mut next = JITTER_MIN_S;
        for each in jitters_s.iter_mut() {
            *each = next;
            next *= (JITTER_MAX_S / JITTER_MIN_S).powf(1.0 / (count(JITTERS) - 1.0));
        }
        Self { weights: Box::new(PRIOR.map(|rule| [rule / count(JITTERS); JITTERS])), jitters_s }
    }

    /// The estimate of an earlier run, with more uncertainty: conditions may have changed.
    pub(super) fn from_summary(summary: ModelSummary) -> Self {
        const UNCERTAINTY: f64 = 0.05;
        let mut model = Self::new();
        let log_sd = summary.jitter_log_sd.max(0.2);
        let bell = |jitter_s: f64| {
            let off = (jitter_s / summary.jitter_s).ln() / log_sd;
            (-0.5 * off * off).exp()
        };
        let total: f64 = model.jitters_s.iter().map(|jitter_s| bell(*jitter_s)).sum();
        let spacing = summary.min_spacing_probability.clamp(0.001, 0.999);
        let prior_spacing = PRIOR[MIN_SPACING] + PRIOR[MIN_SPACING_SHARED];
        for (rule, row) in model.weights.iter_mut().enumerate() {
            let share = match rule {
                MIN_SPACING | MIN_SPACING_SHARED => PRIOR[rule] / prior_spacing * spacing,
                _ => PRIOR[rule] / (1.0 - prior_spacing) * (1.0 - spacing),
            };
            for (weight, jitter_s) in row.iter_mut().zip(model.jitters_s.iter()) {
                let density = bell(*jitter_s) / total.max(f64::MIN_POSITIVE);
                *weight = share * ((1.0 - UNCERTAINTY) * density + UNCERTAINTY / count(JITTERS));
            }
        }
        model
    }

    /// Summarises the model. `most_s` is the largest possible jitter.
    pub(super) fn summary(&self, most_s: f64) -> ModelSummary {
        let mut weights = self.by_jitter();
        for (weight, jitter_s) in weights.iter_mut().zip(self.jitters_s.iter()).skip(1) {
            if *jitter_s > most_s {
                *weight = 0.0;
            }
        }
        let all = weights.iter().sum::<f64>().max(f64::MIN_POSITIVE);
        let ln = |jitter: usize| self.jitters_s[jitter].ln();
        let mean = weights.iter().enumerate().map(|(at, w)| w * ln(at)).sum::<f64>() / all;
        let off = |at: usize| (ln(at) - mean).powi(2);
        let variance = weights.iter().enumerate().map(|(at, w)| w * off(at)).sum::<f64>() / all;
        ModelSummary {
            jitter_s: mean.exp(),
            jitter_log_sd: variance.sqrt(),
            min_spacing_probability: self.min_spacing_probability(),
        }
    }

    /// The probability of a least time between two requests.
    pub(super) fn min_spacing_probability(&self) -> f64 {
        self.chance(MIN_SPACING) + self.chance(MIN_SPACING_SHARED)
    }

    /// Updates the weights with the response to one request.
    pub(super) fn update(&mut self, risks: &Risks, is_push_back: bool) {
        let mut total = 0.0;
        for (rule, row) in self.weights.iter_mut().enumerate() {
            let risk = match rule {
                RANDOM => risks.window[0],
                MIN_SPACING | MIN_SPACING_SHARED => risks.spacing,
                share => risks.window[share],
            };
            let at_random = match rule {
                RANDOM => RANDOM_PUSH_BACK,
                MIN_SPACING_SHARED => SHARED_PUSH_BACK,
                _ => UNEXPLAINED,
            };
            let most = if (1..CAPACITY_SHARES).contains(&rule) { OTHERS_PUSH_BACK } else { 1.0 };
            for (weight, jitter_s) in row.iter_mut().zip(self.jitters_s.iter()) {
                if *weight < 1e-60 {
                    continue;
                }
                let chance = at_random.max(match risk {
                    Risk::None => 0.0,
                    Risk::Margin { margin_s, widen } => {
                        most * normal_tail(margin_s / (jitter_s * widen))
                    }
                });
                *weight *= if is_push_back { chance } else { (1.0 - chance).max(UNEXPLAINED) };
                total += *weight;
            }
        }
        for weight in self.weights.iter_mut().flatten() {
            *weight /= total;
        }
        self.drift();
    }

    /// Moves the weights towards the prior, because conditions may have changed since the last request.
    fn drift(&mut self) {
        for row in self.weights.iter_mut() {
            let even = row.iter().sum::<f64>() / count(JITTERS);
            for weight in row {
                *weight += NETWORK_CHANGES * (even - *weight);
            }
        }
        self.move_to_prior(0..MIN_SPACING, OTHERS_CHANGE);
        self.move_to_prior(MIN_SPACING..RULES, OTHERS_CHANGE);
        self.move_to_prior(0..RULES, RULE_CHANGES);
    }

    /// Moves a share of the weights of `rules` to their proportions in the prior. Keeps the distribution of
    /// the jitter.
    fn move_to_prior(&mut self, rules: std::ops::Range<usize>, share: f64) {
        let prior: f64 = PRIOR[rules.clone()].iter().sum();
        for jitter in 0..JITTERS {
            let all: f64 = rules.clone().map(|rule| self.weights[rule][jitter]).sum();
            for rule in rules.clone() {
                let weight = &mut self.weights[rule][jitter];
                *weight += share * (PRIOR[rule] / prior * all - *weight);
            }
        }
    }

    /// The most likely capacity share, by its index: 0 is the whole limit.
    pub(super) fn capacity_share(&self) -> usize {
        let chance = |share: usize| self.by_capacity_share(share).iter().sum::<f64>();
        (0..CAPACITY_SHARES).max_by(|a, b| chance(*a).total_cmp(&chance(*b))).unwrap_or(0)
    }

    /// The margin towards the window, in seconds, under the rules that count per second.
    pub(super) fn window_margin_s(&self, share: usize, costs: Costs) -> f64 {
        let weights = self.by_capacity_share(share);
        let all = weights.iter().sum::<f64>().max(f64::MIN_POSITIVE);
        best_margin_s(costs, &self.jitters_s, &weights.map(|weight| weight / all))
    }

    /// The margin towards the last request, in seconds: none while a least time is unlikely.
    pub(super) fn spacing_margin_s(&self, costs: Costs) -> f64 {
        let mut weights = self.weights[MIN_SPACING];
        for (weight, busy) in weights.iter_mut().zip(&self.weights[MIN_SPACING_SHARED]) {
            *weight += busy;
        }
        best_margin_s(costs, &self.jitters_s, &weights)
    }

    fn chance(&self, rule: usize) -> f64 {
        self.weights[rule].iter().sum()
    }

    /// The weights of the rules with this capacity share.
    fn by_capacity_share(&self, share: usize) -> [f64; JITTERS] {
        let mut weights = self.weights[share];
        if share == 0 {
            for (weight, erratic) in weights.iter_mut().zip(&self.weights[RANDOM]) {
                *weight += erratic;
            }
        }
        weights
    }

    fn by_jitter(&self) -> [f64; JITTERS] {
        std::array::from_fn(|jitter| self.weights.iter().map(|row| row[jitter]).sum())
    }
}

/// The margin with the least cost, in seconds.
fn best_margin_s(costs: Costs, jitters_s: &[f64; JITTERS], weights: &[f64; JITTERS]) -> f64 {
    const STEP: f64 = 1.25;
    let likely: Vec<(f64, f64)> = jitters_s
        .iter()
        .zip(weights)
        .filter(|(jitter_s, weight)| **weight > 1e-12 && **jitter_s <= costs.jitter_max_s)
        .map(|(jitter_s, weight)| (jitter_s * costs.widen, *weight))
        .collect();
    let cost = |margin_s: f64| {
        let refused: f64 =
            likely.iter().map(|(jitter_s, weight)| weight * normal_tail(margin_s / jitter_s)).sum();
        costs.margin * margin_s + costs.push_back_s * refused
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

/// The probability that a normally distributed value is more than `z` standard deviations above its mean.
/// Accurate to 0.003, and to a few per cent for large `z`.
fn normal_tail(z: f64) -> f64 {
    if z < 0.0 {
        return 1.0 - normal_tail(-z);
    }
    0.5 * (-0.717 * z - 0.416 * z * z).exp()
}

#[allow(clippy::cast_precision_loss, reason = "small counts")]
fn count(n: usize) -> f64 {
    n as f64
}

#[cfg(test)]
mod tests;
