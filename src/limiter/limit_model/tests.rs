//! The effect of responses on the estimate and on the margins.

use super::*;

const COSTS: Costs = Costs { margin: 0.2, push_back_s: 1.3, widen: 1.0, jitter_max_s: 1.0 };

/// Risks at the same distance from the window for every capacity share, and no risk from the last request.
fn window(margin_s: f64) -> Risks {
    let risk = Risk::Margin { margin_s, widen: 1.0 };
    Risks { window: [risk; CAPACITY_SHARES], spacing: Risk::None }
}

#[test]
fn tail_matches_the_normal_distribution() {
    for (z, chance) in [(0.0, 0.5), (1.0, 0.1587), (2.0, 0.02275), (3.0, 0.00135)] {
        assert!((normal_tail(z) - chance).abs() < 0.003, "{z}: {}", normal_tail(z));
        assert!((normal_tail(-z) - (1.0 - chance)).abs() < 0.003);
    }
}

/// Thousands of requests, each at the margin of the model, all accepted.
fn after_calm(model: &mut LimitModel) {
    for _ in 0..3_000 {
        let margin_s = model.window_margin_s(0, COSTS);
        model.update(&window(margin_s), false);
    }
}

#[test]
fn margin_narrows_when_accepted_widens_on_push_back() {
    let mut model = LimitModel::new();
    let first = model.window_margin_s(0, COSTS);
    after_calm(&mut model);
    let narrow = model.window_margin_s(0, COSTS);
    assert!(narrow < 0.2 * first, "{narrow} of {first}");
    model.update(&window(narrow), true);
    assert!(model.window_margin_s(0, COSTS) > 1.5 * narrow);
}

#[test]
fn model_detects_and_forgets_competing_clients() {
    let mut model = LimitModel::new();
    // Far from a limit that is a fifth lower, and without risk at two or three fifths lower.
    let mut risks = window(0.1);
    risks.window[1] = Risk::Margin { margin_s: -0.2, widen: 1.0 };
    risks.window[2] = Risk::None;
    risks.window[3] = Risk::None;
    for _ in 0..2_000 {
        model.update(&risks, false);
    }
    assert_eq!(model.capacity_share(), 0);
    for _ in 0..3 {
        model.update(&risks, true);
    }
    assert_eq!(model.capacity_share(), 1);
    let calm = Risks { window: [Risk::None; CAPACITY_SHARES], spacing: Risk::None };
    for _ in 0..1_500 {
        model.update(&calm, false);
    }
    assert_eq!(model.capacity_share(), 0, "it tries the whole limit again after a while");
}

#[test]
fn random_push_backs_do_not_widen_the_margin() {
    let mut model = LimitModel::new();
    after_calm(&mut model);
    let narrow = model.window_margin_s(0, COSTS);
    for call in 0..1_000 {
        // Far from every earlier request: no margin would have helped.
        model.update(&window(0.3), call % 50 == 0);
    }
    assert_eq!(model.capacity_share(), 0);
    let margin_s = model.window_margin_s(0, COSTS);
    assert!(margin_s < 2.0 * narrow + 0.005, "{margin_s} after {narrow}");
}

#[test]
fn push_backs_after_short_gaps_increase_spacing() {
    let mut model = LimitModel::new();
    let margin_s = model.spacing_margin_s(Costs { margin: 1.0, ..COSTS });
    for refused in [false, true, false, true, true] {
        let close = Risk::Margin { margin_s: 0.001, widen: 1.0 };
        let far = Risk::Margin { margin_s: 0.3, widen: 1.0 };
        model.update(&Risks { window: [far; CAPACITY_SHARES], spacing: close }, refused);
    }
    assert!(model.spacing_margin_s(Costs { margin: 1.0, ..COSTS }) > margin_s);
    assert!(model.min_spacing_probability() > 0.9);
}

#[test]
fn model_roundtrips_through_summary() {
    let mut model = LimitModel::new();
    after_calm(&mut model);
    let back = LimitModel::from_summary(model.summary(f64::INFINITY));
    let (was, is) = (model.window_margin_s(0, COSTS), back.window_margin_s(0, COSTS));
    let first = LimitModel::new().window_margin_s(0, COSTS);
    assert!(is >= was && is <= 0.5 * first, "{was}, {is}, {first}");
}
