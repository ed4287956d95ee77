//! Rotary positions: at what pace each pair of a head's numbers turns, and how `config.json` says so.
//!
//! transformers 5 keeps all of it in `rope_parameters`; 4.x had `rope_theta` and `rope_scaling`.

use std::f64::consts::TAU;

use serde_json::{Value, json};

/// The turns of a head's pairs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Rope {
    pub(crate) theta: f64,
    pub(crate) scaling: Scaling,
}

/// What was done to the frequencies for contexts longer than the model began with.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Scaling {
    None,
    /// All are `factor` times slower (Chen et al. 2023, eq. 4).
    Linear {
        factor: f64,
    },
    /// Those are that turn less than `low` times in the old `context`; those that turn more than `high`
    /// times are not, with a ramp between (Llama 3.1).
    Llama3 {
        factor: f64,
        low: f64,
        high: f64,
        context: u32,
    },
}

impl Rope {
    pub(crate) fn plain(theta: f64) -> Self {
        Self { theta, scaling: Scaling::None }
    }

    /// Reads either spelling from a whole `config.json`.
    pub(crate) fn from_config(config: &Value) -> Result<Self, String> {
        let mut scaling = Scaling::None;
        for key in ["rope_parameters", "rope_scaling"] {
            let found = Scaling::from_json(key, &config[key], &config["max_position_embeddings"])?;
            scaling = if found == Scaling::None { scaling } else { found };
        }
        let theta = config["rope_parameters"]["rope_theta"].as_f64();
        let theta = theta.or(config["rope_theta"].as_f64()).unwrap_or(10_000.0);
        if theta > 0.0 {
            Ok(Self { theta, scaling })
        } else {
            Err(format!("`rope_theta` is {theta}"))
        }
    }

    /// What `rope_parameters` and `rope_scaling` are to say.
    pub(crate) fn to_json(self) -> (Value, Value) {
        let scaling = match self.scaling {
            Scaling::None => Value::Null,
            Scaling::Linear { factor } => json!({ "rope_type": "linear", "factor": factor }),
            Scaling::Llama3 { factor, low, high, context } => json!({
                "rope_type": "llama3",
                "factor": factor,
                "low_freq_factor": low,
                "high_freq_factor": high,
                "original_max_position_embeddings": context,
            }),
        };
        let mut parameters =
            if scaling.is_null() { json!({ "rope_type": "default" }) } else { scaling.clone() };
        parameters["rope_theta"] = json!(self.theta);
        (parameters, scaling)
    }

    /// Radians per position of each pair: θ^(−2i/d) (Su et al. 2021, eq. 15), scaled.
    pub(crate) fn frequencies(self, head_dim: i64) -> Vec<f64> {
        let plain = |i: i64| self.theta.powf(-2.0 * i as f64 / head_dim as f64);
        (0..head_dim / 2).map(|i| self.scaling.apply(plain(i))).collect()
    }
}

impl Scaling {
    fn from_json(key: &str, rope: &Value, longest: &Value) -> Result<Self, String> {
        let number = |name: &str| {
            let number = rope[name].as_f64().filter(|number| *number > 0.0);
            number.ok_or_else(|| {
                format!("`{key}`: `{name}` is {}, not a number above zero", rope[name])
            })
        };
        let partial = rope["partial_rotary_factor"].as_f64().unwrap_or(1.0);
        if (partial - 1.0).abs() > f64::EPSILON {
            return Err("partial rotary positions are not supported".to_owned());
        }
        match rope["rope_type"].as_str().or(rope["type"].as_str()).unwrap_or("default") {
            "default" => Ok(Self::None),
            "linear" => Ok(Self::Linear { factor: number("factor")? }),
            "llama3" => {
                let context = [&rope["original_max_position_embeddings"], longest];
                let context = context.iter().find_map(|length| length.as_u64());
                let context =
                    context.and_then(|length| u32::try_from(length).ok()).ok_or_else(|| {
                        format!("`{key}` has no sound `original_max_position_embeddings`")
                    })?;
                let (factor, low, high) =
                    (number("factor")?, number("low_freq_factor")?, number("high_freq_factor")?);
                if high <= low {
                    return Err(format!(
                        "`{key}`: `high_freq_factor` is not above `low_freq_factor`"
                    ));
                }
                Ok(Self::Llama3 { factor, low, high, context })
            }
            kind => Err(format!(
                "`{key}` asks for the rope type `{kind}`; default, linear and llama3 are known"
            )),
        }
    }

    fn apply(self, frequency: f64) -> f64 {
        match self {
            Self::None => frequency,
            Self::Linear { factor } => frequency / factor,
            Self::Llama3 { factor, low, high, context } => {
                let turns = f64::from(context) * frequency / TAU;
                let keep = ((turns - low) / (high - low)).clamp(0.0, 1.0);
                frequency * (keep + (1.0 - keep) / factor)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(ours: &[f64], theirs: &[f64]) {
        assert!(ours.iter().zip(theirs).all(|(a, b)| (a - b).abs() < 1e-12), "{ours:?}");
        assert_eq!(ours.len(), theirs.len());
    }

    #[test]
    fn each_pair_turns_a_hundredth_as_fast_as_the_one_before() {
        close(&Rope::plain(10_000.0).frequencies(4), &[1.0, 0.01]);
    }

    #[test]
    fn scaling_slows_all_pairs_or_only_the_slow_ones() {
        let rope = Rope { theta: 10_000.0, scaling: Scaling::Linear { factor: 4.0 } };
        close(&rope.frequencies(4), &[0.25, 0.0025]);
        // Kept at 5 turns in the old context, slowed to 1/8 at 1, half-way between at 2.5.
        let scaling = Scaling::Llama3 { factor: 8.0, low: 1.0, high: 4.0, context: 100 };
        let of_turns = |turns: f64| scaling.apply(turns * TAU / 100.0) / (turns * TAU / 100.0);
        close(&[5.0, 1.0, 2.5].map(of_turns), &[1.0, 0.125, 0.5 + 0.0625]);
    }

    #[test]
    fn both_spellings_say_the_same() {
        let scaling = Scaling::Llama3 { factor: 8.0, low: 1.0, high: 4.0, context: 64 };
        for rope in [Rope::plain(5e5), Rope { theta: 5e5, scaling }] {
            let (parameters, scaling) = rope.to_json();
            let new = json!({ "rope_parameters": parameters });
            let old = json!({ "rope_theta": 5e5, "rope_scaling": scaling });
            assert_eq!(Rope::from_config(&new), Ok(rope));
            assert_eq!(Rope::from_config(&old), Ok(rope));
        }
    }
}
