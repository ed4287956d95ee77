//! `rollout.pairs`: preferences out of rollouts, for whoever learns from pairs what was judged one by one.

use rand::Rng;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::trajectories::{Trajectory, groups, read};
use crate::{
    artifact::{
        self,
        dataset::{Fields, Format, PreferenceRow, Row},
        dataset_folder::write_all,
    },
    context::Context,
    error::StageError,
    nn::statistics::preferred,
    port::{Out, ports},
    stage::Stage,
};

/// Pair rollouts.
pub(crate) struct Pairs;

/// Which two completions of a prompt make a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Of {
    /// The best against the worst.
    BestWorst,
    /// Each against each, where their rewards differ.
    All,
    /// The first sample against the second, the third against the fourth and so on, so that each is in one pair.
    Disjoint,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Params {
    /// Which two completions of a prompt make a pair.
    #[serde(default = "best_worst")]
    pairs: Of,
    /// Pairs whose rewards differ by no more than this are left out.
    #[serde(default)]
    #[schemars(range(min = 0.0))]
    least_margin: f64,
    /// Temperature of the Bradley-Terry model by which the better of two is chosen, as people err: 0 never errs, more errs
    /// more where rewards are close.
    #[serde(default)]
    #[schemars(range(min = 0.0))]
    label_noise: f64,
}

fn best_worst() -> Of {
    Of::BestWorst
}

ports!(Inputs {
    /// Rollouts with a reward.
    rollouts: artifact::Rollouts,
});
ports!(Outputs {
    /// Pairs of completions of one prompt, with the difference of their rewards as `margin`, which is below zero where noise
    /// chose the worse one.
    preferences: Out<artifact::Preferences>,
});

impl Stage for Pairs {
    const KIND: &'static str = "rollout.pairs";
    const REVISION: u32 = 1;
    const USES_DEVICE: bool = false;
    const DOC: &'static str = "Make preferences of judged rollouts.

Completions of one prompt with different text and different rewards are paired; prompts without such a pair are \
counted. The other columns of a prompt's row stay with its pairs.";
    type Params = Params;
    type Inputs = Inputs;
    type Outputs = Outputs;

    fn run(
        params: Params,
        inputs: Inputs,
        outputs: Outputs,
        context: &mut Context,
    ) -> Result<(), StageError> {
        let all = read("rollouts", &inputs.rollouts.source)?;
        let rewards = all.iter().map(Trajectory::judged).collect::<Result<Vec<f64>, _>>()?;
        let (mut rows, mut without) = (Vec::new(), 0);
        let mut noise = context.stream("labels");
        for (number, group) in groups(&all).into_iter().enumerate() {
            let mut draw = noise.at(number).generator();
            let before = rows.len();
            for (chosen, rejected) in paired(params.pairs, &group, &rewards) {
                let margin = rewards[chosen] - rewards[rejected];
                let (one, other) = (&all[chosen], &all[rejected]);
                if margin > params.least_margin && one.completion != other.completion {
                    let errs = draw.random::<f64>() >= preferred(margin, params.label_noise);
                    rows.push(if errs {
                        row(other, one, -margin)
                    } else {
                        row(one, other, margin)
                    });
                }
            }
            without += usize::from(rows.len() == before);
        }
        if rows.is_empty() {
            return Err(StageError::refused(
                "no prompt has two completions with different rewards: sample more of each, or at a higher \
                 temperature, or lower `least_margin`",
            ));
        }
        context.summary("pairs", rows.len() as f64);
        context.summary("prompts_without_pair", without as f64);
        write_all(&outputs.preferences.path, Format::Preference, &rows)
    }
}

/// The better one first.
fn paired(of: Of, group: &[usize], rewards: &[f64]) -> Vec<(usize, usize)> {
    let better_first = |two: &[usize]| match two {
        [one, other] if rewards[*one] < rewards[*other] => Some((*other, *one)),
        [one, other] => Some((*one, *other)),
        _ => None,
    };
    let mut ranked = group.to_vec();
    ranked.sort_by(|a, b| rewards[*b].total_cmp(&rewards[*a]));
    match of {
        Of::BestWorst => vec![(ranked[0], ranked[ranked.len() - 1])],
        Of::Disjoint => group.chunks(2).filter_map(better_first).collect(),
        Of::All => {
            let pairs = ranked.iter().enumerate();
            pairs.flat_map(|(i, one)| ranked[i + 1..].iter().map(move |it| (*one, *it))).collect()
        }
    }
}

fn row(chosen: &Trajectory, rejected: &Trajectory, margin: f64) -> Row {
    let [prompt, better, worse] =
        [&chosen.prompt, &chosen.completion, &rejected.completion].map(Clone::clone);
    let fields = PreferenceRow { prompt, chosen: better, rejected: worse, margin: Some(margin) };
    Row { fields: Fields::Preference(fields), extra: chosen.extra.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_better_one_comes_first() {
        let rewards = [0.5, -1.0, 2.0, 0.5];
        assert_eq!(paired(Of::BestWorst, &[0, 1, 2], &rewards), [(2, 1)]);
        assert_eq!(paired(Of::All, &[0, 1, 2], &rewards), [(2, 0), (2, 1), (0, 1)]);
        assert_eq!(paired(Of::BestWorst, &[0], &rewards), [(0, 0)]);
        assert_eq!(paired(Of::Disjoint, &[0, 1, 3, 2, 0], &rewards), [(0, 1), (2, 3)]);
    }
}
