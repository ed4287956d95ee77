//! `rollout.pairs`: preferences out of rollouts, for whoever learns from pairs what was judged one by one.

use std::collections::{BTreeSet, HashMap, HashSet};

use rand::{Rng, seq::IndexedRandom};
use rand_chacha::ChaCha8Rng;
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
    /// The best against any other.
    BestRandom,
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
    /// Whether pairs are left out until the chosen side is as long as the other on average, those first in which the chosen one is
    /// longest beside the other, in letters: what is learnt is then not to write more. Of the other way round, too.
    #[serde(default)]
    #[schemars(extend("neutral" = false))]
    balance_length: bool,
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
    /// Rollouts of a weaker policy over the same prompts, judged alike: each completion then meets those of its prompt here, and
    /// none of its own side.
    against: Option<artifact::Rollouts>,
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
counted, and pairs that are too close or of one text. The other columns of a prompt's row stay with its pairs. `longer_by` is how many letters \
longer the chosen side is on average.";
    type Params = Params;
    type Inputs = Inputs;
    type Outputs = Outputs;

    fn run(
        params: Params,
        inputs: Inputs,
        outputs: Outputs,
        context: &mut Context,
    ) -> Result<(), StageError> {
        let mut all = read("rollouts", &inputs.rollouts.source)?;
        let strong = all.len();
        if let Some(against) = &inputs.against {
            all.extend(read("against", &against.source)?);
        }
        if let Some(why) = all.get(strong).and_then(|weak| apart(&all[0], weak)) {
            return Err(StageError::refused(why));
        }
        let rewards = all.iter().map(Trajectory::judged).collect::<Result<Vec<f64>, _>>()?;
        let (mut rows, mut without, mut too_close, mut same) = (Vec::new(), 0, 0, 0);
        let mut noise = context.stream("labels");
        let met = if inputs.against.is_some() { by_prompt(&all) } else { groups(&all) };
        for (number, group) in met.into_iter().enumerate() {
            let mut draw = noise.at(number).generator();
            let before = rows.len();
            let (own, weak): (Vec<usize>, Vec<usize>) = group.iter().partition(|at| **at < strong);
            let met = if inputs.against.is_some() {
                between(params.pairs, [&own, &weak], &rewards, &mut draw)
            } else {
                paired(params.pairs, &own, &rewards, &mut draw)
            };
            for (chosen, rejected) in met {
                let margin = rewards[chosen] - rewards[rejected];
                let (one, other) = (&all[chosen], &all[rejected]);
                if one.completion == other.completion {
                    same += 1;
                } else if margin <= params.least_margin {
                    too_close += 1;
                } else {
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
        let found = rows.len();
        if params.balance_length {
            balance(&mut rows);
        }
        if rows.is_empty() {
            return Err(StageError::refused(
                "no prompt has two completions with different rewards: sample more of each, or at a higher \
                 temperature, or lower `least_margin`",
            ));
        }
        context.summary("pairs", rows.len() as f64);
        context.summary("pairs_too_close", f64::from(too_close));
        context.summary("pairs_of_one_text", f64::from(same));
        context.summary("longer_by", mean_excess(&rows));
        if params.balance_length {
            context.summary("pairs_left_out", (found - rows.len()) as f64);
        }
        context.summary("prompts_without_pair", without as f64);
        write_all(&outputs.preferences.path, Format::Preference, &rows)
    }
}

/// The better one first.
fn paired(of: Of, group: &[usize], rewards: &[f64], draw: &mut ChaCha8Rng) -> Vec<(usize, usize)> {
    if group.is_empty() {
        return Vec::new();
    }
    let better_first = |two: &[usize]| match two {
        [one, other] if rewards[*one] < rewards[*other] => Some((*other, *one)),
        [one, other] => Some((*one, *other)),
        _ => None,
    };
    let mut ranked = group.to_vec();
    ranked.sort_by(|a, b| rewards[*b].total_cmp(&rewards[*a]));
    match of {
        Of::BestWorst => vec![(ranked[0], ranked[ranked.len() - 1])],
        Of::BestRandom => {
            ranked[1..].choose(draw).map(|other| (ranked[0], *other)).into_iter().collect()
        }
        Of::Disjoint => group.chunks(2).filter_map(better_first).collect(),
        Of::All => {
            let pairs = ranked.iter().enumerate();
            pairs.flat_map(|(i, one)| ranked[i + 1..].iter().map(move |it| (*one, *it))).collect()
        }
    }
}

/// Why rollouts of two policies cannot be held against each other, if they cannot: their rewards have other names, or their prompts
/// other columns.
fn apart(own: &Trajectory, weak: &Trajectory) -> Option<String> {
    let differ = |what: &str, one: Vec<&String>, other: Vec<&String>| {
        let (one, other): (BTreeSet<_>, BTreeSet<_>) =
            (one.into_iter().collect(), other.into_iter().collect());
        (one != other).then(|| {
            format!(
                "`rollouts` and `against` have different {what}, {one:?} and {other:?}: sample both from the same prompts, and judge both by \
                 the same `reward.judge`"
            )
        })
    };
    differ("rewards", own.rewards.keys().collect(), weak.rewards.keys().collect())
        .or_else(|| differ("columns", own.extra.keys().collect(), weak.extra.keys().collect()))
}

/// Those of one side against those of the other, the better one first.
fn between(
    of: Of,
    [own, weak]: [&[usize]; 2],
    rewards: &[f64],
    draw: &mut ChaCha8Rng,
) -> Vec<(usize, usize)> {
    let better_first = |one: usize, other: usize| {
        if rewards[one] < rewards[other] { (other, one) } else { (one, other) }
    };
    let extreme = |all: &[usize], sign: f64| {
        all.iter().copied().max_by(|a, b| (sign * rewards[*a]).total_cmp(&(sign * rewards[*b])))
    };
    let best = extreme(own, 1.0);
    match of {
        Of::BestWorst => {
            best.zip(extreme(weak, -1.0)).map(|(a, b)| better_first(a, b)).into_iter().collect()
        }
        Of::BestRandom => {
            best.zip(weak.choose(draw)).map(|(a, b)| better_first(a, *b)).into_iter().collect()
        }
        Of::Disjoint => own.iter().zip(weak).map(|(a, b)| better_first(*a, *b)).collect(),
        Of::All => {
            own.iter().flat_map(|a| weak.iter().map(move |b| better_first(*a, *b))).collect()
        }
    }
}

/// The positions of those that answer one and the same prompt, in the order of the prompts' first, whoever sampled them.
fn by_prompt(all: &[Trajectory]) -> Vec<Vec<usize>> {
    let mut known: HashMap<&str, usize> = HashMap::new();
    let mut groups: Vec<Vec<usize>> = Vec::new();
    for (at, it) in all.iter().enumerate() {
        let group = *known.entry(it.prompt.as_str()).or_insert_with(|| {
            groups.push(Vec::new());
            groups.len() - 1
        });
        groups[group].push(at);
    }
    groups
}

/// By how many letters the chosen side is longer.
fn excess(row: &Row) -> f64 {
    match &row.fields {
        Fields::Preference(it) => {
            it.chosen.chars().count() as f64 - it.rejected.chars().count() as f64
        }
        _ => 0.0,
    }
}

fn mean_excess(rows: &[Row]) -> f64 {
    rows.iter().map(excess).sum::<f64>() / rows.len().max(1) as f64
}

/// Leaves out pairs, those that differ most first, until neither side is longer by more than leaving out one more would mend.
fn balance(rows: &mut Vec<Row>) {
    let mut left: f64 = rows.iter().map(excess).sum();
    let sign = left.signum();
    let mut order: Vec<usize> = (0..rows.len()).collect();
    order.sort_by(|a, b| (sign * excess(&rows[*b])).total_cmp(&(sign * excess(&rows[*a]))));
    let mut out = HashSet::new();
    for at in order {
        let own = excess(&rows[at]);
        if sign * own <= 0.0 || (left - own).abs() > left.abs() {
            break;
        }
        left -= own;
        out.insert(at);
    }
    let mut at = 0;
    rows.retain(|_| {
        at += 1;
        !out.contains(&(at - 1))
    });
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
    use crate::{nn::stream::Stream, rollout::trajectories::tests::trajectory};

    #[test]
    fn the_better_one_comes_first() {
        let rewards = [0.5, -1.0, 2.0, 0.5];
        let paired = |of, group: &[usize]| {
            super::paired(of, group, &rewards, &mut Stream::of(1).generator())
        };
        assert_eq!(paired(Of::BestWorst, &[0, 1, 2]), [(2, 1)]);
        assert_eq!(paired(Of::All, &[0, 1, 2]), [(2, 0), (2, 1), (0, 1)]);
        assert_eq!(paired(Of::BestWorst, &[0]), [(0, 0)]);
        assert_eq!(paired(Of::Disjoint, &[0, 1, 3, 2, 0]), [(0, 1), (2, 3)]);
        assert_eq!(paired(Of::BestRandom, &[0, 2]), [(2, 0)]);
        assert_eq!(paired(Of::BestRandom, &[0]), []);
    }

    #[test]
    fn policies_that_were_judged_otherwise_do_not_meet() {
        let (own, mut weak) = (trajectory(0, 0, 1.0), trajectory(0, 1, 0.0));
        assert_eq!(apart(&own, &weak), None);
        weak.extra.insert("answer".to_owned(), 3.into());
        assert!(apart(&own, &weak).unwrap().contains("different columns"));
        weak.rewards.insert("form".to_owned(), 1.0);
        assert!(apart(&own, &weak).unwrap().contains("different rewards"));
    }

    #[test]
    fn two_policies_meet_prompt_by_prompt() {
        let rewards = [0.5, 2.0, 1.0, -1.0];
        let between =
            |of| super::between(of, [&[0, 1], &[2, 3]], &rewards, &mut Stream::of(1).generator());
        assert_eq!(between(Of::BestWorst), [(1, 3)]);
        assert_eq!(between(Of::Disjoint), [(2, 0), (1, 3)]);
        assert_eq!(between(Of::All), [(2, 0), (0, 3), (1, 2), (1, 3)]);
        assert_eq!(between(Of::BestRandom).len(), 1);
    }

    #[test]
    fn pairs_are_left_out_until_no_side_is_longer() {
        let pair = |chosen: usize, rejected: usize| {
            let fields = PreferenceRow {
                prompt: String::new(),
                chosen: "a".repeat(chosen),
                rejected: "b".repeat(rejected),
                margin: None,
            };
            Row::from(Fields::Preference(fields))
        };
        let mut rows = vec![pair(9, 1), pair(3, 4), pair(4, 3), pair(7, 5)];
        balance(&mut rows);
        let kept: Vec<f64> = rows.iter().map(excess).collect();
        // Without the longest they come to 2; without the next to 0.
        assert_eq!(kept, [-1.0, 1.0]);
        let mut even = vec![pair(2, 1), pair(1, 2)];
        balance(&mut even);
        assert_eq!(even.len(), 2);
    }
}
