//! `tabular.nash`: Nash learning from human feedback where the game is a table (Munos et al. 2023): Nash-MD, and what it is
//! held against.
//!
//! All take the same step, `π_{t+1} ∝ π_t^(1−ητ) μ^(ητ) exp(η P(· ≻ π'))`, and differ by the opponent π'.

use std::fs;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::circle::drawn;
use crate::{
    artifact,
    context::Context,
    error::StageError,
    nn::game::{Game, divergence, softmax},
    port::{Out, ports},
    stage::Stage,
};

/// Nash learning in a table.
pub(crate) struct Nash;

/// Against whom the policy learns.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Method {
    /// The geometric mixture of the policy and the reference: Nash-MD.
    #[default]
    NashMd,
    /// The policy itself: online mirror descent.
    SelfPlay,
    /// The reference.
    BestResponse,
    /// The mean of all its policies so far: fictitious play.
    Fictitious,
    /// A moving average of its policies, of which `decay` stays at every step: Nash-EMA.
    Ema,
    /// Nobody: the optimum of the reward that best explains what is preferred in pairs of the reference, as RLHF has it.
    BradleyTerry,
}

/// How far a step goes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Schedule {
    /// `η_t = 2 / (τ (t + 2))`, with which Theorem 1 holds.
    #[default]
    Theorem,
    /// `η = step_size`.
    Constant,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Params {
    /// Against whom the policy learns.
    #[serde(default)]
    method: Method,
    /// How far a step goes.
    #[serde(default)]
    schedule: Schedule,
    /// Of the constant schedule: η. Times `tau` it is at most 1.
    #[serde(default)]
    #[schemars(range(min = 0.0))]
    step_size: f64,
    /// Of `ema`: how much of the average stays.
    #[serde(default = "most")]
    #[schemars(range(min = 0.0, max = 1.0))]
    decay: f64,
    /// τ: what a nat of divergence from the reference costs.
    #[serde(default = "tenth")]
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    tau: f64,
    /// Answers of the game.
    #[serde(default = "five")]
    #[schemars(range(min = 2, max = 1000))]
    answers: usize,
    /// Steps.
    #[serde(default = "two_thousand")]
    #[schemars(range(min = 1, max = 1_000_000))]
    iterations: usize,
}

fn most() -> f64 {
    0.99
}
fn tenth() -> f64 {
    0.1
}
fn five() -> usize {
    5
}
fn two_thousand() -> usize {
    2000
}

ports!(Inputs {});
ports!(Outputs {
    /// How far the policy and the mean of all policies are from the equilibrium, at each step.
    curve: Out<artifact::Metrics>,
    /// The game, its equilibrium and the last policy, as JSON.
    game: Out<artifact::File>,
});

impl Stage for Nash {
    const KIND: &'static str = "tabular.nash";
    const REVISION: u32 = 1;
    const DOC: &'static str = "Learn to play a game of preferences in a table (Nash-MD).

Answers are preferred to each other in a circle, up to chance, so no reward explains preferences. What is learnt is held against the \
exact equilibrium of the regularised game (Munos et al. 2023): `kl` is KL(π*‖π), `gap` how much more than a half the best answer to \
the policy wins, `average_kl` and `average_gap` the same of the mean of all policies so far, and `excess` by how much `kl` is above \
what Theorem 1's proof allows from one step to the next, `(1 − ητ) KL + 2η²`.";
    const USES_DEVICE: bool = false;
    type Params = Params;
    type Inputs = Inputs;
    type Outputs = Outputs;

    fn rehearsal() -> Value {
        json!({ "iterations": 60 })
    }

    fn run(
        params: Params,
        _: Inputs,
        outputs: Outputs,
        context: &mut Context,
    ) -> Result<(), StageError> {
        params.check().map_err(StageError::Refused)?;
        let game = drawn(params.answers, params.tau, context.stream("game"));
        let equilibrium = game.equilibrium()?;
        let mut play = Play::begin(&game);
        let mut curve = String::new();
        for step in 0..params.iterations {
            let before = divergence(&equilibrium, &play.policy);
            let eta = play.step(&params, &game, step);
            let kl = divergence(&equilibrium, &play.policy);
            let excess = kl - ((1.0 - eta * params.tau) * before + 2.0 * eta * eta);
            let average = (divergence(&equilibrium, &play.mean), game.gap(&play.mean));
            curve += &json!({
                "step": step + 1, "kl": kl, "gap": game.gap(&play.policy),
                "average_kl": average.0, "average_gap": average.1, "excess": excess,
            })
            .to_string();
            curve.push('\n');
            context.metric("gap", step + 1, game.gap(&play.policy));
            context.progress(step + 1, params.iterations, "steps", "")?;
        }
        context.summary("kl", divergence(&equilibrium, &play.policy));
        context.summary("gap", game.gap(&play.policy));
        context.summary("reference_gap", game.gap(&game.reference));
        let path = &outputs.curve.path;
        fs::write(path, curve).map_err(StageError::file(path))?;
        let told = json!({
            "preference": game.preference, "reference": game.reference, "tau": game.tau,
            "equilibrium": equilibrium, "policy": play.policy,
        });
        let path = &outputs.game.path;
        fs::write(path, told.to_string() + "\n").map_err(StageError::file(path))
    }
}

impl Params {
    /// Refuses steps that would go beyond the reference, where policies have negative exponents.
    fn check(&self) -> Result<(), String> {
        if self.schedule == Schedule::Constant
            && !(0.0..=1.0).contains(&(self.step_size * self.tau))
        {
            return Err(format!(
                "`step_size` times `tau` is {}, and at most 1: the policy's share of the anchor is what is left of 1",
                self.step_size * self.tau
            ));
        }
        if self.schedule == Schedule::Constant && self.step_size <= 0.0 {
            return Err("`schedule: constant` needs a `step_size` above zero".to_owned());
        }
        Ok(())
    }

    fn eta(&self, step: usize) -> f64 {
        match self.schedule {
            Schedule::Theorem => 2.0 / (self.tau * (step as f64 + 2.0)),
            Schedule::Constant => self.step_size,
        }
    }
}

/// Who plays, so far.
struct Play {
    policy: Vec<f64>,
    /// Of all policies so far.
    mean: Vec<f64>,
    /// The moving average.
    average: Vec<f64>,
    /// What answers are worth, of Bradley and Terry's.
    scores: Vec<f64>,
}

impl Play {
    fn begin(game: &Game) -> Self {
        let policy = game.reference.clone();
        let scores = vec![0.0; policy.len()];
        Self { mean: policy.clone(), average: policy.clone(), policy, scores }
    }

    /// The next policy; returns how far the step went.
    fn step(&mut self, params: &Params, game: &Game, step: usize) -> f64 {
        let eta = params.eta(step);
        self.policy = match params.method {
            Method::BradleyTerry => {
                rise(game, &mut self.scores);
                let log = |(mu, score): (&f64, &f64)| mu.ln() + score / game.tau;
                softmax(game.reference.iter().zip(&self.scores).map(log))
            }
            Method::NashMd => {
                game.step(&self.policy, eta, &game.won(&game.anchor(&self.policy, eta)))
            }
            Method::SelfPlay => game.step(&self.policy, eta, &game.won(&self.policy)),
            Method::BestResponse => game.step(&self.policy, eta, &game.won(&game.reference)),
            Method::Fictitious => game.step(&self.policy, eta, &game.won(&self.mean)),
            Method::Ema => game.step(&self.policy, eta, &game.won(&self.average)),
        };
        let moved = |to: &mut Vec<f64>, stays: f64| {
            for (old, new) in to.iter_mut().zip(&self.policy) {
                *old = stays * *old + (1.0 - stays) * new;
            }
        };
        let count = step as f64 + 2.0;
        moved(&mut self.mean, (count - 1.0) / count);
        moved(&mut self.average, params.decay);
        eta
    }
}

/// A step up the likelihood of Bradley and Terry's scores, over all pairs that the reference gives.
fn rise(game: &Game, scores: &mut [f64]) {
    /// Short enough for any game: the curvature is a quarter at most.
    const RATE: f64 = 2.0;
    let slope = |i: usize| -> f64 {
        let against = |j: usize| {
            let claimed = 1.0 / (1.0 + (scores[j] - scores[i]).exp());
            game.reference[j] * (game.preference[i][j] - claimed)
        };
        (0..scores.len()).map(against).sum()
    };
    let slopes: Vec<f64> = (0..scores.len()).map(slope).collect();
    for (score, slope) in scores.iter_mut().zip(slopes) {
        *score += RATE * slope;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::{game::tests::raters, stream::Stream};

    fn params(given: Value) -> Params {
        serde_json::from_value(given).unwrap()
    }

    fn played(game: &Game, params: &Params) -> Play {
        let mut play = Play::begin(game);
        for step in 0..params.iterations {
            play.step(params, game, step);
        }
        play
    }

    #[test]
    fn the_theorem_holds_at_every_step() {
        for seed in 0..3 {
            let game = drawn(5, 0.1, Stream::of(seed));
            let equilibrium = game.equilibrium().unwrap();
            let params = params(json!({}));
            let mut play = Play::begin(&game);
            for step in 0..2000 {
                let before = divergence(&equilibrium, &play.policy);
                let eta = play.step(&params, &game, step);
                let allowed = (1.0 - eta * 0.1) * before + 2.0 * eta * eta;
                assert!(divergence(&equilibrium, &play.policy) <= allowed + 1e-12, "{step}");
            }
            assert!(divergence(&equilibrium, &play.policy) < 1e-5);
        }
    }

    #[test]
    fn the_first_step_of_the_theorem_begins_anew_at_the_reference() {
        let game = drawn(4, 0.5, Stream::of(1));
        let won = vec![0.5; 4];
        for policy in [[0.25; 4], [0.7, 0.1, 0.1, 0.1]] {
            let next = game.step(&policy, params(json!({ "tau": 0.5 })).eta(0), &won);
            assert!(next.iter().zip(&game.reference).all(|(a, b)| (a - b).abs() < 1e-12));
        }
    }

    #[test]
    fn all_opponents_are_themselves() {
        let game = drawn(3, 0.2, Stream::of(5));
        let of = |method: &str| {
            let given = json!({ "method": method, "schedule": "constant", "step_size": 1.0, "tau": 0.2, "iterations": 1, "decay": 0.5 });
            played(&game, &params(given)).policy
        };
        // After one step from the reference all opponents are the reference; the mixture of it with itself, too.
        for method in ["self_play", "best_response", "fictitious", "ema"] {
            assert_eq!(of(method), of("nash_md"), "{method}");
        }
    }

    #[test]
    fn scores_explain_a_game_that_is_one_of_scores_and_flip_in_one_that_is_none() {
        let scores = [0.0, 0.5, -1.0];
        let odds = |a: f64, b: f64| 1.0 / (1.0 + (b - a).exp());
        let preference = scores.map(|a| scores.map(|b| odds(a, b)).to_vec()).to_vec();
        let game = Game { preference, reference: vec![0.2, 0.3, 0.5], tau: 0.5 };
        let bradley_terry = params(json!({ "method": "bradley_terry", "tau": 0.5 }));
        let found = played(&game, &bradley_terry).scores;
        assert!(
            (found[1] - found[0] - 0.5).abs() < 1e-6 && (found[2] - found[0] + 1.0).abs() < 1e-6
        );
        let best = |more: f64| {
            let scores = played(&raters(more, 0.5), &bradley_terry).scores;
            (0..3).max_by(|a, b| scores[*a].total_cmp(&scores[*b])).unwrap()
        };
        assert_eq!([best(-0.01), best(0.01)], [0, 1]);
    }

    #[test]
    fn a_step_beyond_the_reference_is_refused() {
        let of = |given| params(given).check().unwrap_err();
        let long = of(json!({ "schedule": "constant", "step_size": 11.0 }));
        assert!(long.contains("at most 1"), "{long}");
        assert!(of(json!({ "schedule": "constant" })).contains("above zero"));
    }
}
