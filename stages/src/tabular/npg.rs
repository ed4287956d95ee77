//! `tabular.npg`: natural policy gradient from states that a data set shows (Chang et al. 2024, "Dataset Reset Policy Optimization for
//! RLHF", Algorithm 2), where everything can be counted.
//!
//! The reward is learnt from preferences; the policy is held to where it began, and is never told the key.

use std::{array, fs};

use rand::{Rng, seq::IndexedRandom};
use rand_chacha::ChaCha8Rng;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::lock::{Cells, LETTERS, Lock, STATES};
use crate::{
    artifact,
    context::Context,
    error::StageError,
    nn::stream::Stream,
    port::{Out, ports},
    stage::Stage,
};

/// Learn a table from resets.
pub(crate) struct NaturalPolicyGradient;

/// Whose tries a roll-out begins within.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Shown {
    /// Those that people made.
    #[default]
    People,
    /// Those of the policy as it was in the beginning, which tries any letters.
    Itself,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Params {
    /// Letters of the key.
    #[serde(default = "eight")]
    #[schemars(range(min = 1, max = 64))]
    length: usize,
    /// The share of the people's tries that are the key; the others are any letters.
    #[serde(default = "fifth")]
    #[schemars(range(min = 0.0, max = 1.0))]
    coverage: f64,
    /// The share of roll-outs that begin within a try, at a random place, and not at the beginning.
    #[serde(default = "one")]
    #[schemars(range(min = 0.0, max = 1.0))]
    reset_share: f64,
    /// Whose tries those are.
    #[serde(default)]
    shown: Shown,
    /// Times that the policy changes.
    #[serde(default = "sixty")]
    #[schemars(range(min = 1, max = 100_000))]
    iterations: usize,
    /// Roll-outs between two changes.
    #[serde(default = "four_hundred")]
    #[schemars(range(min = 1, max = 1_000_000))]
    rollouts: usize,
    /// η: how far the policy follows what it found at each change.
    #[serde(default = "four")]
    #[schemars(range(min = 0.0))]
    step_size: f64,
    /// λ: what a nat of divergence from the beginning costs.
    #[serde(default = "fiftieth")]
    #[schemars(range(min = 0.0))]
    kl_coefficient: f64,
}

fn eight() -> usize {
    8
}
fn fifth() -> f64 {
    0.2
}
fn one() -> f64 {
    1.0
}
fn sixty() -> usize {
    60
}
fn four_hundred() -> usize {
    400
}
fn four() -> f64 {
    4.0
}
fn fiftieth() -> f64 {
    0.02
}

/// People's tries, and how many pairs of them were judged.
const TRIES: usize = 300;
const PAIRS: usize = 2000;

ports!(Inputs {});
ports!(Outputs {
    /// How often the policy opens the lock, and what its roll-outs earned, after each iteration.
    curve: Out<artifact::Metrics>,
});

impl Stage for NaturalPolicyGradient {
    const KIND: &'static str = "tabular.npg";
    const REVISION: u32 = 1;
    const DOC: &'static str = "Learn to open a combination lock from preferences, from states that others have reached.

A key of `length` letters, four to choose from, opens the lock; an error is never made good. 300 tries are there, with 2,000 \
judgements of which of two is better, from which a reward is learnt. Natural policy gradient with resets (DR-PO, Chang et al. 2024, \
Algorithm 2): roll-outs begin within tries, and the value of their first step changes the policy. `success` is exact: how often the \
policy opens the lock from the beginning.";
    const USES_DEVICE: bool = false;
    type Params = Params;
    type Inputs = Inputs;
    type Outputs = Outputs;

    fn rehearsal() -> serde_json::Value {
        json!({ "iterations": 2, "rollouts": 8 })
    }

    fn run(
        params: Params,
        _: Inputs,
        outputs: Outputs,
        context: &mut Context,
    ) -> Result<(), StageError> {
        let lock = Lock::of(params.length, context.stream("world"));
        let tries = lock.tries(TRIES, params.coverage, context.stream("tries"));
        let reward = lock.learnt_reward(&tries, PAIRS, context.stream("judgements"));
        let own = lock.tries(TRIES, 0.0, context.stream("own tries"));
        let shown = if params.shown == Shown::People { &tries } else { &own };
        let begin = vec![[[1.0 / LETTERS as f64; LETTERS]; STATES]; params.length];
        let (mut policy, mut curve) = (begin.clone(), String::new());
        let mut draws = context.stream("rollouts");
        for iteration in 0..params.iterations {
            let found = critic(&params, &lock, &policy, &reward, shown, draws.at(iteration));
            for ((cells, before), value) in policy.iter_mut().zip(&begin).zip(&found.values) {
                for state in 0..STATES {
                    cells[state] = actor(&params, &cells[state], &before[state], &value[state]);
                }
            }
            let (step, success) = (iteration + 1, lock.opened(&policy));
            curve +=
                &json!({ "step": step, "success": success, "reward": found.earned }).to_string();
            curve.push('\n');
            context.metric("success", step, success);
            context.progress(step, params.iterations, "iterations", "")?;
        }
        context.summary("success", lock.opened(&policy));
        let path = &outputs.curve.path;
        fs::write(path, curve).map_err(StageError::file(path))
    }
}

/// What an iteration's roll-outs say.
struct Found {
    /// The mean return of a first step, by step, state and letter: the least squares of all tables. Letters that were not tried are
    /// worth what their state is.
    values: Vec<Cells>,
    /// The mean return of all roll-outs.
    earned: f64,
}

fn critic(
    params: &Params,
    lock: &Lock,
    policy: &[Cells],
    reward: &Cells,
    shown: &[Vec<usize>],
    draws: Stream,
) -> Found {
    let none = [[(0.0, 0.0); LETTERS]; STATES];
    let (mut seen, mut earned) = (vec![none; lock.length()], 0.0);
    for draws in draws.rows(params.rollouts) {
        let mut draw = draws.generator();
        let mut tried = begun(params.reset_share, shown, &mut draw);
        let (step, state) = (tried.len(), lock.state(&tried));
        for cells in &policy[step..] {
            tried.push(letter(&cells[lock.state(&tried)], &mut draw));
        }
        let end = lock.end(&tried);
        let cell: &mut (f64, f64) = &mut seen[step][state][tried[step]];
        cell.0 += 1.0;
        cell.1 += reward[end.0][end.1];
        earned += reward[end.0][end.1] / params.rollouts as f64;
    }
    let values = |cells: [[(f64, f64); LETTERS]; STATES]| {
        cells.map(|cells| {
            let mean =
                |(count, sum): (f64, f64)| if count > 0.0 { Some(sum / count) } else { None };
            let all = cells.iter().fold((0.0, 0.0), |all, it| (all.0 + it.0, all.1 + it.1));
            cells.map(|cell| mean(cell).or(mean(all)).unwrap_or(0.0))
        })
    };
    Found { values: seen.into_iter().map(values).collect(), earned }
}

/// The letters from which a roll-out goes on: none, or the beginning of a try that leaves at least one letter open.
fn begun(share: f64, shown: &[Vec<usize>], draw: &mut ChaCha8Rng) -> Vec<usize> {
    let resets = draw.random_bool(share);
    let whole = shown.choose(draw).map_or(&[][..], Vec::as_slice);
    let until = draw.random_range(0..whole.len().max(1));
    if resets { whole[..until].to_vec() } else { Vec::new() }
}

fn letter(chances: &[f64; LETTERS], draw: &mut ChaCha8Rng) -> usize {
    let mut left = draw.random::<f64>();
    let reached = chances.iter().position(|chance| {
        left -= chance;
        left < 0.0
    });
    reached.unwrap_or(LETTERS - 1)
}

/// `π'(a) ∝ π_0(a)^(ηλ/(ηλ+1)) · π(a)^(1/(ηλ+1)) · exp(η Q(a) / (ηλ+1))`: the closed form of the step that Algorithm 2 takes.
fn actor(
    params: &Params,
    policy: &[f64; LETTERS],
    begin: &[f64; LETTERS],
    values: &[f64; LETTERS],
) -> [f64; LETTERS] {
    let (eta, pull) = (params.step_size, params.step_size * params.kl_coefficient);
    let logs: [f64; LETTERS] = array::from_fn(|a| {
        (pull * begin[a].ln() + policy[a].ln() + eta * values[a]) / (pull + 1.0)
    });
    let most = logs.into_iter().fold(f64::NEG_INFINITY, f64::max);
    let weights = logs.map(|log| (log - most).exp());
    let all: f64 = weights.iter().sum();
    weights.map(|weight| weight / all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params(step_size: f64, kl_coefficient: f64) -> Params {
        let given = json!({ "step_size": step_size, "kl_coefficient": kl_coefficient });
        serde_json::from_value(given).unwrap()
    }

    const BEGIN: [f64; LETTERS] = [0.1, 0.2, 0.3, 0.4];
    const POLICY: [f64; LETTERS] = [0.4, 0.3, 0.2, 0.1];
    const VALUES: [f64; LETTERS] = [1.0, 0.0, 0.5, 0.25];

    fn normalised(weights: [f64; LETTERS]) -> [f64; LETTERS] {
        let all: f64 = weights.iter().sum();
        weights.map(|it| it / all)
    }

    #[track_caller]
    fn close(found: [f64; LETTERS], by_hand: [f64; LETTERS], to: f64) {
        assert!(
            found.iter().zip(by_hand).all(|(a, b)| (a - b).abs() < to),
            "{found:?} {by_hand:?}"
        );
    }

    #[test]
    fn unheld_the_step_is_multiplicative_weights() {
        let found = actor(&params(2.0, 0.0), &POLICY, &BEGIN, &VALUES);
        close(found, normalised(array::from_fn(|a| POLICY[a] * (2.0 * VALUES[a]).exp())), 1e-12);
    }

    #[test]
    fn a_very_long_step_ends_where_reward_and_divergence_balance() {
        let found = actor(&params(1e9, 0.5), &POLICY, &BEGIN, &VALUES);
        close(found, normalised(array::from_fn(|a| BEGIN[a] * (VALUES[a] / 0.5).exp())), 1e-6);
    }

    #[test]
    fn places_to_begin_at_are_as_likely_and_the_beginning_is_among_them() {
        let shown = [vec![0, 1, 2, 3]];
        let mut counts = [0_u32; 4];
        for draws in Stream::of(1).rows(10_000) {
            counts[begun(1.0, &shown, &mut draws.generator()).len()] += 1;
        }
        let chi: f64 = counts.iter().map(|it| (f64::from(*it) - 2500.0).powi(2) / 2500.0).sum();
        // The 99.9th percentile of χ² with three degrees of freedom.
        assert!(chi < 16.27, "{counts:?}");
        let draws = |seed| Stream::of(seed).generator();
        assert!((0..50).all(|seed| begun(0.0, &shown, &mut draws(seed)).is_empty()));
    }

    #[test]
    fn what_was_not_tried_is_worth_what_its_state_is() {
        let lock = Lock::of(1, Stream::of(1));
        let policy = [[[0.5, 0.5, 0.0, 0.0]; STATES]];
        let reward = [[1.0, 0.0, 0.7, 0.7], [0.0; LETTERS]];
        let mut params = params(1.0, 0.0);
        params.rollouts = 1000;
        let found = critic(&params, &lock, &policy, &reward, &[vec![0]], Stream::of(2));
        let [first, second, third, fourth] = found.values[0][0];
        assert!((first - 1.0).abs() < 1e-12 && second.abs() < 1e-12);
        assert!((third - found.earned).abs() < 1e-9 && (fourth - third).abs() < 1e-12);
        assert!(
            (found.earned - 0.5).abs() < 0.1 && found.values[0][1].iter().all(|it| *it < 1e-12)
        );
    }
}
