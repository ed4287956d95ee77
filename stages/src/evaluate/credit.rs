//! `evaluate.credit`: what a policy that was trained on whole replies thinks of their single tokens, held against the truth, where
//! there are so few replies that all can be counted (Rafailov et al. 2024, "From r to Q*").
//!
//! The log-ratio to the reference is an advantage, not a reward: how much better a token is than what the policy could do instead.

use schemars::JsonSchema;
use serde::Deserialize;
use tch::{Device, Kind};

use super::numbers;
use crate::{
    artifact::{
        self,
        true_reward::{
            TrueReward,
            chains::{Chain, LETTERS},
        },
    },
    context::Context,
    error::StageError,
    nn::{
        batch::Example,
        batches,
        config::Head,
        discrimination::correlation,
        head,
        likelihood::learnt,
        pretrained::Pretrained,
        soft::{Tree, on_the_way},
        statistics::mean,
    },
    port::{Out, file_of, ports},
    prepare::examples::prompts,
    stage::Stage,
};

/// Measure what single tokens are credited with.
pub(crate) struct Credit;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Params {
    /// β of the training: what a nat of log-ratio is worth.
    #[serde(default = "tenth")]
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    beta: f64,
}

fn tenth() -> f64 {
    0.1
}

ports!(Inputs {
    /// The policy, trained on preferences.
    policy: artifact::Model,
    /// What it was held to.
    reference: artifact::Model,
    /// The prompts.
    prompts: artifact::Prompts,
    /// What letters are worth: that of `task: chains`.
    true_reward: artifact::TrueReward,
});
ports!(Outputs {
    /// The means over prompts, as JSON.
    numbers: Out<artifact::File>,
});

impl Stage for Credit {
    const KIND: &'static str = "evaluate.credit";
    const REVISION: u32 = 1;
    const USES_SEED: bool = false;
    const DOC: &'static str = "Hold a policy's credit of single tokens against their exact advantages.

A token's implicit reward is `beta` times its log-ratio to the reference, of both as far as they keep to the form of a reply: among its \
letters. `advantage_correlation` is Pearson's with the exact optimal \
advantage of every token behind every beginning, `reward_correlation` with its reward alone, `advantage_over_reward` their difference, \
`reply_correlation` that of whole replies with their reward. `implicit_reward` is the mean under the reference and `reference_kl` KL(μ‖π): \
one is minus `beta` times the other, up to `identity_gap`. `localised` is how often the worst token, put into the likeliest reply, \
is the one with the least implicit reward. All replies are counted; what else a policy may say is `elsewhere`. All are means over prompts.";
    type Params = Params;
    type Inputs = Inputs;
    type Outputs = Outputs;

    fn run(
        params: Params,
        inputs: Inputs,
        outputs: Outputs,
        context: &mut Context,
    ) -> Result<(), StageError> {
        let open = |role, it: &artifact::Model| {
            Pretrained::open(role, &it.source, Head::LanguageModel, context.device)
        };
        let policy = open("policy", &inputs.policy)?;
        let reference = open("reference", &inputs.reference)?;
        let truth = TrueReward::load(file_of(&inputs.true_reward.source)?)?;
        let prompts = prompts("prompts", &inputs.prompts.source, None)?.rows;
        let (mut found, count) = (Vec::new(), prompts.len());
        for (done, (prompt, _)) in prompts.iter().enumerate() {
            let chain = truth.chain(prompt).ok_or_else(|| {
                StageError::refused(format!(
                    "the true reward does not say what the letters of a reply to {prompt:?} are worth: that of `task: chains` does"
                ))
            })?;
            let [own, held] = [&policy, &reference].map(|it| log_probs(it, prompt, chain.length()));
            found.push(Credited::of(params.beta, chain, [&own?, &held?])?);
            context.progress(done + 1, count, "prompts", "")?;
        }
        let mean_of = |of: fn(&Credited) -> f64| mean(&found.iter().map(of).collect::<Vec<_>>());
        let numbers = [
            ("advantage_correlation", mean_of(|it| it.advantage)),
            ("reward_correlation", mean_of(|it| it.reward)),
            ("advantage_over_reward", mean_of(|it| it.advantage - it.reward)),
            ("reply_correlation", mean_of(|it| it.reply)),
            ("implicit_reward", mean_of(|it| it.implicit)),
            ("reference_kl", mean_of(|it| it.kl)),
            ("identity_gap", mean_of(|it| it.identity_gap)),
            ("localised", mean_of(|it| it.localised)),
            ("elsewhere", mean_of(|it| it.elsewhere)),
        ];
        numbers::write(&numbers, &outputs.numbers.path, context)
    }
}

/// What is found of one prompt.
#[derive(Debug)]
struct Credited {
    advantage: f64,
    reward: f64,
    reply: f64,
    implicit: f64,
    kl: f64,
    identity_gap: f64,
    localised: f64,
    elsewhere: f64,
}

/// By length of a beginning, for every beginning and letter in the order of [`Tree`].
type Table = Vec<Vec<f64>>;

impl Credited {
    /// From log p of every letter behind every beginning, under the policy and the reference.
    fn of(beta: f64, chain: &Chain, [own, held]: [&Table; 2]) -> Result<Self, StageError> {
        // What has left the form has left it for all letters alike: no letter is credited with that.
        let [told, reference] =
            [own, held].map(|all| all.iter().map(|it| normalised(it)).collect::<Table>());
        let implicit = both(&told, &reference, |p, q| beta * (p - q));
        let reward: Table = (0..chain.length()).map(|place| worth(chain, place)).collect();
        let elsewhere = 1.0 - on_the_way(own, LETTERS).iter().map(|it| sum(it).exp()).sum::<f64>();
        let tree = Tree { letters: LETTERS, beta, reference, reward };
        let advantages = tree.advantages();
        let same = |what: &str| {
            StageError::refused(format!(
                "{what} are all the same, so nothing goes with them: has the policy learnt?"
            ))
        };
        let goes_with = |one: &Table, what| {
            correlation(&implicit.concat(), &one.concat()).ok_or_else(|| same(what))
        };
        let (advantage, alone) =
            (goes_with(&advantages, "log-ratios")?, goes_with(&tree.reward, "rewards")?);
        let [parts, earned, weights] =
            [&implicit, &tree.reward, &tree.reference].map(|it| on_the_way(it, LETTERS));
        let totals = |all: &[Vec<f64>]| -> Vec<f64> { all.iter().map(|it| sum(it)).collect() };
        let reply =
            correlation(&totals(&parts), &totals(&earned)).ok_or_else(|| same("replies"))?;
        let shares: Vec<f64> = totals(&weights).into_iter().map(f64::exp).collect();
        let mean_implicit: f64 =
            totals(&parts).iter().zip(&shares).map(|(it, share)| it * share).sum();
        let kl = divergence(&tree.reference, &told);
        Ok(Self {
            advantage,
            reward: alone,
            reply,
            implicit: mean_implicit,
            kl,
            identity_gap: (mean_implicit + beta * kl).abs(),
            localised: localised(own, &advantages, &parts),
            elsewhere,
        })
    }
}

fn sum(values: &[f64]) -> f64 {
    values.iter().sum()
}

fn both(one: &Table, other: &Table, of: impl Fn(f64, f64) -> f64) -> Table {
    let row = |(a, b): (&Vec<f64>, &Vec<f64>)| a.iter().zip(b).map(|(a, b)| of(*a, *b)).collect();
    one.iter().zip(other).map(row).collect()
}

/// What every letter is worth behind every beginning of this length.
fn worth(chain: &Chain, place: usize) -> Vec<f64> {
    let beginnings = LETTERS.pow(u32::try_from(place).unwrap_or(0));
    let before = |it: usize| (place > 0).then_some(it % LETTERS);
    let letters =
        |it: usize| (0..LETTERS).map(move |letter| chain.worth(place, before(it), letter));
    (0..beginnings).flat_map(letters).collect()
}

/// log p among the letters alone.
fn normalised(log_probs: &[f64]) -> Vec<f64> {
    let each = log_probs.chunks(LETTERS).flat_map(|all| {
        let whole = all.iter().map(|it| it.exp()).sum::<f64>().ln();
        all.iter().map(move |it| it - whole)
    });
    each.collect()
}

/// Σ over beginnings of how likely they are under the reference, times its divergence from the policy there: token by token, where
/// the mean implicit reward is reply by reply.
fn divergence(reference: &Table, own: &Table) -> f64 {
    let mut reached = vec![0.0_f64];
    let mut all = 0.0;
    for (reference, own) in reference.iter().zip(own) {
        let next: Vec<f64> = reference
            .iter()
            .enumerate()
            .map(|(place, log_p)| reached[place / LETTERS] + log_p)
            .collect();
        let gap =
            next.iter().zip(reference.iter().zip(own)).map(|(p, (q, own))| p.exp() * (q - own));
        all += gap.sum::<f64>();
        reached = next;
    }
    all
}

/// The likeliest letter at every place, one after the other; then, place by place, the worst letter in its stead: how often that is
/// where the implicit reward is least.
fn localised(own: &Table, advantages: &Table, parts: &[Vec<f64>]) -> f64 {
    let extreme = |values: &[f64], sign: f64| {
        let better = |a: &usize, b: &usize| (sign * values[*a]).total_cmp(&(sign * values[*b]));
        (0..values.len()).max_by(better).unwrap_or(0)
    };
    let behind = |table: &[f64], beginning: usize, sign: f64| {
        extreme(&table[beginning * LETTERS..(beginning + 1) * LETTERS], sign)
    };
    let mut greedy = Vec::new();
    let mut beginning = 0;
    for table in own {
        let letter = behind(table, beginning, 1.0);
        greedy.push(letter);
        beginning = beginning * LETTERS + letter;
    }
    let found = (0..greedy.len()).map(|place| {
        let number =
            |letters: &[usize]| letters.iter().fold(0, |all, letter| all * LETTERS + letter);
        let mut changed = greedy.clone();
        changed[place] = behind(&advantages[place], number(&greedy[..place]), -1.0);
        f64::from(extreme(&parts[number(&changed)], -1.0) == place)
    });
    mean(&found.collect::<Vec<_>>())
}

/// log p of every letter behind every beginning.
fn log_probs(model: &Pretrained, prompt: &str, length: usize) -> Result<Table, StageError> {
    let given = model.codec.encode_open(prompt)?;
    let count = LETTERS.pow(u32::try_from(length).unwrap_or(0));
    let letter = |way: usize, place: usize| {
        let later = u32::try_from(length - 1 - place).unwrap_or(0);
        char::from(b'a' + u8::try_from(way / LETTERS.pow(later) % LETTERS).unwrap_or(0))
    };
    let mut rows = Vec::new();
    for way in 0..count {
        let reply: String = (0..length).map(|place| letter(way, place)).collect();
        let ids = model.codec.encode_open(&format!("{prompt}{reply}"))?;
        if !ids.starts_with(&given) || ids.len() != given.len() + length {
            return Err(StageError::refused(
                "a letter must be a token: train the tokenizer with `vocab_size: 258`",
            ));
        }
        rows.push(Example::after_prompt(ids, given.len()));
    }
    model.bears(given.len() + length, "the prompts with their completions")?;
    let _no_grad = tch::no_grad_guard();
    let lengths = vec![given.len() + length; count];
    let ways: Vec<Vec<f64>> = batches::each(
        &lengths,
        |_, _| Ok(()),
        |part| {
            let part: Vec<&[Example]> =
                part.iter().map(|row| std::slice::from_ref(&rows[*row])).collect();
            let (hidden, ids) = learnt(&model.model, &part);
            let (log_probs, _) = head::log_probs(&model.model, &hidden, &ids);
            let all = Vec::<f64>::try_from(log_probs.to_kind(Kind::Double).to_device(Device::Cpu))?;
            Ok(all.chunks(length).map(<[f64]>::to_vec).collect())
        },
    )?;
    // Of all that begin alike the first says it.
    let table = |place: usize| {
        let later = LETTERS.pow(u32::try_from(length - 1 - place).unwrap_or(0));
        ways.iter().step_by(later).map(|way| way[place]).collect()
    };
    Ok((0..length).map(table).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Behind a later letter there is more to be had, so an advantage is not a reward.
    fn chain() -> Chain {
        let row = |shift: usize| {
            [0, 1, 2, 3].map(|letter: usize| ((letter * 3 + shift) % 4 * shift) as f64)
        };
        Chain(vec![vec![row(1)], (0..LETTERS).map(|before| row(before + 1)).collect()])
    }

    fn even() -> Table {
        vec![vec![0.25_f64.ln(); 4], vec![0.25_f64.ln(); 16]]
    }

    #[test]
    fn the_optimal_policy_is_credited_with_advantages_exactly() {
        let (beta, chain) = (0.5, chain());
        let reward: Table = (0..2).map(|place| worth(&chain, place)).collect();
        let tree = Tree { letters: LETTERS, beta, reference: even(), reward };
        let best = both(&even(), &tree.advantages(), |p, a| p + a / beta);
        let found = Credited::of(beta, &chain, [&best, &even()]).unwrap();
        assert!((found.advantage - 1.0).abs() < 1e-9 && (found.reply - 1.0).abs() < 1e-9);
        assert!(found.reward < 0.99 && found.elsewhere.abs() < 1e-9, "{found:?}");
        assert!(found.identity_gap < 1e-12 && found.implicit < 0.0 && found.kl > 0.0);
        assert!((found.localised - 1.0).abs() < 1e-9);
    }

    #[test]
    fn what_a_letter_is_worth_stands_behind_its_beginning() {
        let chain = chain();
        let second = worth(&chain, 1);
        // Behind b, the second beginning, d: (3 · 3 + 2) mod 4, twice.
        assert!((second[4 + 3] - 6.0).abs() < 1e-12 && second.len() == 16);
        assert!(
            Credited::of(0.5, &chain, [&even(), &even()])
                .unwrap_err()
                .to_string()
                .contains("learnt")
        );
    }
}
