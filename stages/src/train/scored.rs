//! Pretraining by what segments are worth: the objectives of Korbak et al. 2023, "Pretraining Language Models with Human Preferences", but
//! for filtering and control tokens, which are plain likelihood of other texts (`data.filter`, `data.annotate`).

use gradus_protocol::catalog::Rule;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use crate::{
    error::StageError,
    nn::{
        batch::Example,
        conditioning::{advantage_weighted, unlikelihood, weights},
        decoder::Model,
        head,
        likelihood::learnt,
        stepper::Loss,
        trainer::Objective,
    },
    rules::{param, rule},
};

/// What is made of what segments are worth.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Goal {
    /// Nothing: maximum likelihood.
    #[default]
    Mle,
    /// Tokens of segments below `threshold` are made unlikely.
    Unlikelihood,
    /// Tokens weigh `exp(R / beta)` of their segment's reward R.
    RewardWeighted,
    /// Tokens weigh `exp((R − V) / beta)`, where V is what a head, learnt beside, expects of the segment: a number from −1 to 0.
    AdvantageWeighted,
}

/// How segments count. Kinds flatten this into their own parameters.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub(super) struct Conditioning {
    /// What is made of what segments are worth. All but `mle` need texts from `data.score`.
    #[serde(default)]
    #[schemars(extend("neutral" = "mle"))]
    pub(super) objective: Goal,
    /// Of `unlikelihood`: the weight of what is made unlikely; of `advantage_weighted`: of likelihood, against that of the values, which
    /// is what is left of 1.
    #[serde(default = "half")]
    #[schemars(range(min = 0.0), extend("neutral" = 0.5))]
    alpha: f64,
    /// Of weights: how much worse segments count less; the less, the more so.
    #[serde(default = "one")]
    #[schemars(extend("exclusiveMinimum" = 0.0, "neutral" = 1.0))]
    beta: f64,
    /// Of weights: the most that a token counts.
    #[serde(default = "thousand")]
    #[schemars(extend("exclusiveMinimum" = 0.0, "neutral" = 1000.0))]
    weight_max: f64,
    /// Of weights: whether they are divided by their mean, so that `beta` does not change the step size: by rewards that over the whole
    /// step, by advantages that over the tokens which are in memory at once.
    #[serde(default = "yes")]
    #[schemars(extend("neutral" = true))]
    normalise: bool,
    /// Of `unlikelihood`: the least reward that is wanted.
    #[serde(default)]
    #[schemars(extend("neutral" = 0.0))]
    threshold: f64,
}

fn half() -> f64 {
    0.5
}
fn one() -> f64 {
    1.0
}
fn thousand() -> f64 {
    1000.0
}
fn yes() -> bool {
    true
}

impl Conditioning {
    pub(super) fn rules() -> Vec<Rule> {
        vec![rule(
            "of likelihood and values `alpha` is a share: at most 1",
            [param("alpha").above(1), param("objective").is(["advantage_weighted"])],
        )]
    }

    /// Whether a head learns beside what a segment is worth.
    pub(super) fn has_values(&self) -> bool {
        self.objective == Goal::AdvantageWeighted
    }
}

/// Packed texts whose tokens are worth something.
pub(super) struct Scored<'a> {
    pub(super) bins: Vec<Vec<Example>>,
    /// Of every bin, for each token that is predicted, in order.
    pub(super) rewards: Vec<Vec<f32>>,
    pub(super) how: &'a Conditioning,
}

impl Scored<'_> {
    /// The weights of tokens that are worth so much, divided by the mean of `all` if they are to be.
    fn weighed(&self, worth: &Tensor, all: &Tensor) -> Tensor {
        let weighed = |worth| weights(worth, self.how.beta, self.how.weight_max);
        if self.how.normalise {
            weighed(worth) / weighed(all).mean(Kind::Float).clamp_min(1e-12)
        } else {
            weighed(worth)
        }
    }

    /// What the predicted tokens of rows are worth, in order.
    fn worth(&self, rows: &[usize], model: &Model) -> Tensor {
        let worth: Vec<f32> = rows.iter().flat_map(|row| self.rewards[*row].clone()).collect();
        Tensor::from_slice(&worth).to_device(model.device())
    }
}

impl Objective for Scored<'_> {
    fn rows(&self) -> usize {
        self.bins.len()
    }

    fn weight(&self, row: usize) -> f64 {
        self.rewards[row].len() as f64
    }

    fn tokens(&self, row: usize) -> usize {
        self.bins[row].iter().map(|example| example.ids.len()).sum()
    }

    fn loss(&self, model: &Model, part: &[usize], all: &[usize]) -> Result<Loss, StageError> {
        let bins: Vec<&[Example]> = part.iter().map(|row| self.bins[*row].as_slice()).collect();
        let (below, ids) = learnt(model, &bins);
        let rewards = self.worth(part, model);
        // Two heads may read the states, and the way back through what is below is gone once, for both.
        let shares = self.how.has_values() && below.requires_grad();
        let hidden =
            if shares { below.detach().set_requires_grad(true) } else { below.shallow_clone() };
        let (log_probs, tail) = head::log_probs(model, &hidden, &ids);
        let sum = |x: &Tensor| x.sum(Kind::Float);
        let mut metrics = vec![("nll", -sum(&log_probs.detach())), ("reward", sum(&rewards))];
        let losses = match self.how.objective {
            Goal::Mle => -&log_probs,
            Goal::Unlikelihood => {
                unlikelihood(&log_probs, &rewards, self.how.threshold, self.how.alpha)
            }
            Goal::RewardWeighted => -(&log_probs * self.weighed(&rewards, &self.worth(all, model))),
            Goal::AdvantageWeighted => {
                let values = -model.scored(&hidden).sigmoid();
                metrics.push(("value", sum(&values.detach())));
                let ahead = &rewards - values.detach();
                let weights = self.weighed(&ahead, &ahead);
                advantage_weighted(&log_probs, &weights, &rewards, &values, self.how.alpha)
            }
        };
        let tail = match tail {
            Some(tail) if shares => Some(tail.sharing(below, hidden)),
            tail => tail,
        };
        Ok(Loss { sum: sum(&losses), metrics, tail })
    }
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;
    use crate::nn::{config::tests::tiny, stream::Stream};

    fn scored(how: &Conditioning) -> Scored<'_> {
        let row = |ids: &[u32]| vec![Example::after_prompt(ids.to_vec(), 0)];
        Scored {
            bins: vec![row(&[2, 3, 4, 1]), row(&[5, 6, 1])],
            rewards: vec![vec![-0.5, -0.5, 0.0], vec![0.0, 0.0]],
            how,
        }
    }

    fn how(given: serde_json::Value) -> Conditioning {
        serde_json::from_value(given).unwrap()
    }

    /// A model without opinions: every token costs ln 16.
    fn blank() -> Model {
        let base = Model::fresh(tiny(), Stream::of(1), Device::Cpu);
        let model = base.with_score_head(Stream::of(2), true).trainable();
        tch::no_grad(|| {
            for name in ["lm_head.weight", "score.weight"] {
                let _ = model.parameters[name].shallow_clone().zero_();
            }
        });
        model
    }

    #[test]
    fn every_objective_costs_what_it_says_of_a_model_without_opinions() {
        let (model, ln) = (blank(), 16_f64.ln());
        let cost = |given: serde_json::Value| {
            let how = how(given);
            scored(&how).loss(&model, &[0, 1], &[0, 1]).unwrap().sum.double_value(&[])
        };
        assert!((cost(serde_json::json!({})) - 5.0 * ln).abs() < 1e-4);
        let unlikely = serde_json::json!({ "objective": "unlikelihood", "alpha": 2.0 });
        let by_hand = 3.0 * ln - 2.0 * 2.0 * (15.0 / 16.0_f64).ln();
        assert!((cost(unlikely) - by_hand).abs() < 1e-4);
        let tilt = (-0.5 / 0.5_f64).exp();
        let weighted =
            serde_json::json!({ "objective": "reward_weighted", "beta": 0.5, "normalise": false });
        assert!((cost(weighted.clone()) - (3.0 + 2.0 * tilt) * ln).abs() < 1e-4);
        let mut even = weighted;
        even["normalise"] = true.into();
        assert!((cost(even) - 5.0 * ln).abs() < 1e-4);
        // V = −½, so advantages are 0 and ½, and squares ¼ of the other three.
        let advantage = serde_json::json!({ "objective": "advantage_weighted", "beta": 0.5, "normalise": false });
        let by_hand = 0.5 * (2.0 + 3.0 * 1_f64.exp()) * ln + 0.5 * 3.0 * 0.25;
        assert!((cost(advantage) - by_hand).abs() < 1e-4);
    }

    #[test]
    fn parts_of_a_step_are_weighed_as_the_whole_is() {
        let model = blank();
        let how = how(serde_json::json!({ "objective": "reward_weighted", "beta": 0.5 }));
        let cost = |part: &[usize]| {
            scored(&how).loss(&model, part, &[0, 1]).unwrap().sum.double_value(&[])
        };
        assert!((cost(&[0]) + cost(&[1]) - cost(&[0, 1])).abs() < 1e-4);
        // The first row has the worse tokens, and weighs less than its share of them.
        assert!(cost(&[0]) < cost(&[0, 1]) * 0.6 - 0.1);
    }

    #[test]
    fn the_way_back_of_two_heads_is_that_of_the_tape() {
        let base = Model::fresh(tiny(), Stream::of(1), Device::Cpu);
        let model = base.with_score_head(Stream::of(2), true).trainable();
        let how = how(serde_json::json!({ "objective": "advantage_weighted", "beta": 0.3 }));
        let scored = scored(&how);
        let loss = scored.loss(&model, &[0, 1], &[0, 1]).unwrap();
        loss.sum.backward();
        loss.tail.unwrap().backward(&model).unwrap();
        let name = "model.embed_tokens.weight";
        let found = model.parameters[name].grad().copy();
        for parameter in model.parameters.values() {
            parameter.shallow_clone().zero_grad();
        }
        let bins: Vec<&[Example]> = scored.bins.iter().map(Vec::as_slice).collect();
        let (hidden, ids) = learnt(&model, &bins);
        let log_probs = model.logits(&hidden).log_softmax(-1, Kind::Float);
        let log_probs = log_probs.gather(-1, &ids.unsqueeze(-1), false).squeeze_dim(-1);
        let rewards = Tensor::from_slice(&scored.rewards.concat());
        let values = -model.scored(&hidden).sigmoid();
        let ahead = &rewards - values.detach();
        let weights = scored.weighed(&ahead, &ahead);
        advantage_weighted(&log_probs, &weights, &rewards, &values, 0.5)
            .sum(Kind::Float)
            .backward();
        let apart = (model.parameters[name].grad() - found).abs().max().double_value(&[]);
        assert!(apart < 1e-5, "{apart}");
    }
}
