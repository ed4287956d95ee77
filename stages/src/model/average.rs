//! `model.average`: one model of several, weight by weight (Wortsman et al. 2022, "Model soups"): of seeds, of checkpoints, or of policies
//! that learnt different things from one beginning.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;
use tch::Tensor;

use crate::{
    artifact,
    context::Context,
    error::StageError,
    nn::{
        config::{Config, Head},
        decoder::Model,
        pretrained::Pretrained,
    },
    port::{Many, Out, ports},
    stage::Stage,
};

/// Average models.
pub(crate) struct Average;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Params {
    /// How much each model counts, in the order in which they come in; they are divided by their sum. All alike by default. Below zero leads
    /// away from a model.
    #[serde(default)]
    weights: Vec<f64>,
}

ports!(Inputs {
    /// The models, of one architecture and one tokenizer.
    models: Many<artifact::Model>,
});
ports!(Outputs {
    /// Their average, with the tokenizer of the first.
    model: Out<artifact::Model>,
});

impl Stage for Average {
    const KIND: &'static str = "model.average";
    const REVISION: u32 = 1;
    const USES_DEVICE: bool = false;
    const USES_SEED: bool = false;
    const DOC: &'static str =
        "Average the weights of models that share an architecture, in float32.

It makes sense of models that have a beginning in common; of others the average is none.";
    type Params = Params;
    type Inputs = Inputs;
    type Outputs = Outputs;

    fn run(
        params: Params,
        inputs: Inputs,
        outputs: Outputs,
        context: &mut Context,
    ) -> Result<(), StageError> {
        let came = &inputs.models.0;
        let shares = shares(&params.weights, came.len()).map_err(StageError::Refused)?;
        let open = |it: &artifact::Model| {
            Pretrained::open("models", &it.source, Head::LanguageModel, tch::Device::Cpu)
        };
        let first = open(&came[0].1)?;
        let mut sum: BTreeMap<String, Tensor> = BTreeMap::new();
        for ((name, it), share) in came.iter().zip(&shares) {
            let own = open(it)?;
            own.same_tokens(&first).map_err(|error| error.about(&format!("`{name}`")))?;
            let differs = difference(&first.model, &own.model);
            if let Some(why) = differs {
                return Err(StageError::refused(format!("`{name}` and `{}` {why}", came[0].0)));
            }
            add(&mut sum, own.model, *share);
        }
        context.summary("models", came.len() as f64);
        let model = Model { config: first.model.config.clone(), parameters: sum };
        first.with_model(model).save(&outputs.model.path)
    }
}

/// Adds a model's weights, each times its share.
fn add(sum: &mut BTreeMap<String, Tensor>, model: Model, share: f64) {
    for (name, value) in model.parameters {
        let part = value * share;
        let whole = match sum.remove(&name) {
            Some(before) => before + part,
            None => part,
        };
        sum.insert(name, whole);
    }
}

/// The share of each of `count` models.
fn shares(weights: &[f64], count: usize) -> Result<Vec<f64>, String> {
    if weights.is_empty() {
        return Ok(vec![1.0 / count.max(1) as f64; count]);
    }
    if weights.len() != count {
        return Err(format!("`weights` has {} numbers, and {count} models came in", weights.len()));
    }
    let all: f64 = weights.iter().sum();
    if !all.is_finite() || all.abs() < 1e-12 {
        return Err(format!("`weights` come to {all}, by which nothing can be divided"));
    }
    Ok(weights.iter().map(|it| it / all).collect())
}

/// What keeps two models from being averaged, if anything.
fn difference(one: &Model, other: &Model) -> Option<String> {
    if one.config.heads != other.config.heads || one.config.kv_heads != other.config.kv_heads {
        return Some("have different numbers of heads".to_owned());
    }
    if one.config.rope != other.config.rope {
        return Some("have different rotary embeddings".to_owned());
    }
    let names = one.parameters.keys().chain(other.parameters.keys());
    for name in names {
        match (one.parameters.get(name), other.parameters.get(name)) {
            (Some(a), Some(b)) if a.size() == b.size() => {}
            (Some(a), Some(b)) => {
                return Some(format!("differ in `{name}`: {:?} and {:?}", a.size(), b.size()));
            }
            _ => return Some(format!("differ in `{name}`, which only one of them has")),
        }
    }
    // How weights were drawn once says nothing of what they are.
    let drawn_alike =
        Config { initializer_range: one.config.initializer_range, ..other.config.clone() };
    (one.config != drawn_alike).then(|| {
        "have weights of the same shapes, and differ in their `config.json`: in norms, context, or the tokens that begin, end and \
         fill a text"
            .to_owned()
    })
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;
    use crate::nn::{config::tests::tiny, stream::Stream};

    #[test]
    fn shares_add_up_to_one() {
        assert_eq!(shares(&[], 4).unwrap(), [0.25; 4]);
        assert_eq!(shares(&[3.0, 1.0], 2).unwrap(), [0.75, 0.25]);
        assert!(shares(&[1.0], 2).unwrap_err().contains("has 1 numbers, and 2 models"));
        assert!(shares(&[1.0, -1.0], 2).unwrap_err().contains("come to 0"));
    }

    #[test]
    fn three_parts_of_one_and_one_of_another() {
        let constant = |value: f64| {
            let model = Model::fresh(tiny(), Stream::of(1), Device::Cpu);
            for weights in model.parameters.values() {
                let _ = weights.shallow_clone().fill_(value);
            }
            model
        };
        let mut sum = BTreeMap::new();
        for (value, share) in [1.0, 5.0].into_iter().zip(shares(&[3.0, 1.0], 2).unwrap()) {
            add(&mut sum, constant(value), share);
        }
        assert_eq!(sum.len(), constant(0.0).parameters.len());
        for (name, weights) in sum {
            let apart = (weights - 2.0).abs().max().double_value(&[]);
            assert!(apart < 1e-6, "{name}: {apart}");
        }
    }

    #[test]
    fn models_of_other_shapes_or_with_other_settings_are_not_averaged() {
        let model = |config: Config| Model::fresh(config, Stream::of(1), Device::Cpu);
        assert_eq!(difference(&model(tiny()), &model(tiny())), None);
        let finer = model(Config { rms_norm_eps: 1e-3, ..tiny() });
        assert!(difference(&model(tiny()), &finer).unwrap().contains("config.json"));
        let ends = model(Config { eos: vec![2], ..tiny() });
        assert!(difference(&model(tiny()), &ends).unwrap().contains("config.json"));
        let drawn = model(Config { initializer_range: 0.5, ..tiny() });
        assert_eq!(difference(&model(tiny()), &drawn), None);
        let wider = model(Config { vocab_size: 20, ..tiny() });
        let why = difference(&model(tiny()), &wider).unwrap();
        assert!(why.starts_with("differ in `") && why.contains("[20, "), "{why}");
    }
}
