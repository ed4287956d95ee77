//! `evaluate.duality_gap`: how far a policy is from the equilibrium of a game of preferences, exactly, where there are so few
//! completions that all can be counted (Munos et al. 2023).

use schemars::JsonSchema;
use serde::Deserialize;
use tch::Device;

use super::numbers;
use crate::{
    artifact::{self, true_reward::TrueReward},
    context::Context,
    error::StageError,
    nn::{
        batch::Example,
        batches,
        config::Head,
        game::{Game, divergence},
        head,
        likelihood::learnt,
        pretrained::Pretrained,
        statistics::mean,
    },
    port::{Out, file_of, ports},
    prepare::examples::prompts,
    stage::Stage,
};

/// Measure the duality gap.
pub(crate) struct DualityGap;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Params {
    /// τ: what a nat of divergence from the reference costs in the game.
    #[serde(default = "tenth")]
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    tau: f64,
}

fn tenth() -> f64 {
    0.1
}

ports!(Inputs {
    /// Whose gap is measured.
    policy: artifact::Model,
    /// What both players of the game are held to.
    reference: artifact::Model,
    /// The prompts: a game each.
    prompts: artifact::Prompts,
    /// What is truly preferred; its task must have few completions, `cycles` say.
    true_reward: artifact::TrueReward,
});
ports!(Outputs {
    /// The means over prompts, as JSON: `gap`, `exploitability`, `kl`, `equilibrium_kl` and `elsewhere`.
    numbers: Out<artifact::File>,
});

impl Stage for DualityGap {
    const KIND: &'static str = "evaluate.duality_gap";
    const REVISION: u32 = 1;
    const USES_SEED: bool = false;
    const DOC: &'static str = "Measure how much another policy could win against this one, exactly.

In the game in which both sides are held to the reference, `P(π ≻ π') − τ KL(π‖μ) + τ KL(π'‖μ)`, `gap` is how much more than a half \
the best answer to the policy wins: 0 for the equilibrium alone (Munos et al. 2023). `exploitability` is the same without what \
holds them, `kl` KL(π‖μ), `equilibrium_kl` KL(π*‖π). All completions that count are counted, and what else a policy may say is one \
answer more, whose share is `elsewhere`. All are means over prompts.";
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
            let replies = truth.replies(prompt).filter(|it| !it.is_empty()).ok_or_else(|| {
                StageError::refused(format!(
                    "the true reward has no list of the completions of {prompt:?}: the gap is only counted where they are few, as \
                     those of `task: cycles` are"
                ))
            })?;
            found.push(of(&params, [&policy, &reference], prompt, &replies, &truth)?);
            context.progress(done + 1, count, "prompts", "")?;
        }
        let mean_of = |of: fn(&Found) -> f64| mean(&found.iter().map(of).collect::<Vec<_>>());
        let numbers = [
            ("gap", mean_of(|it| it.gap)),
            ("exploitability", mean_of(|it| it.exploitability)),
            ("kl", mean_of(|it| it.kl)),
            ("equilibrium_kl", mean_of(|it| it.equilibrium_kl)),
            ("elsewhere", mean_of(|it| it.elsewhere)),
        ];
        numbers::write(&numbers, &outputs.numbers.path, context)
    }
}

struct Found {
    gap: f64,
    exploitability: f64,
    kl: f64,
    equilibrium_kl: f64,
    elsewhere: f64,
}

/// Of one prompt.
fn of(
    params: &Params,
    [policy, reference]: [&Pretrained; 2],
    prompt: &str,
    replies: &[&str],
    truth: &TrueReward,
) -> Result<Found, StageError> {
    // All that is no reply is one answer, which is worth what saying nothing is.
    let answers: Vec<&str> = replies.iter().copied().chain([""]).collect();
    let against = |one: &&str| {
        let won = |other: &&str| truth.preference(prompt, one, other).unwrap_or(0.5);
        answers.iter().map(won).collect()
    };
    let preference = answers.iter().map(against).collect();
    let [own, held] = [policy, reference].map(|it| shares(it, prompt, replies));
    let (own, held) = (own?, held?);
    let game = Game { preference, reference: held, tau: params.tau };
    let best = game.won(&own).into_iter().fold(f64::NEG_INFINITY, f64::max);
    Ok(Found {
        gap: game.gap(&own),
        exploitability: best - 0.5,
        kl: divergence(&own, &game.reference),
        equilibrium_kl: divergence(&game.equilibrium()?, &own),
        elsewhere: own.last().copied().unwrap_or(0.0),
    })
}

/// How likely each reply is, with what ends it, and after them all else; none quite without a chance.
fn shares(model: &Pretrained, prompt: &str, replies: &[&str]) -> Result<Vec<f64>, StageError> {
    /// Below what can be told from 0.
    const LEAST: f64 = 1e-12;
    let (codec, mut rows) = (&model.codec, Vec::new());
    let given = codec.encode_open(prompt)?;
    for reply in replies {
        let ids = codec.encode(&format!("{prompt}{reply}{}", codec.eos_text))?;
        if !ids.starts_with(&given) {
            return Err(StageError::refused(format!(
                "the prompt {prompt:?} and the completion {reply:?} share a token: the tokenizer must part them"
            )));
        }
        rows.push(Example::after_prompt(ids, given.len()));
    }
    let longest = rows.iter().map(|row| row.ids.len()).max().unwrap_or(0);
    model.bears(longest, "the prompts with their completions")?;
    let _no_grad = tch::no_grad_guard();
    let lengths: Vec<usize> = rows.iter().map(|row| row.ids.len()).collect();
    let found = batches::each(
        &lengths,
        |_, _| Ok(()),
        |part| {
            let part: Vec<&[Example]> =
                part.iter().map(|row| std::slice::from_ref(&rows[*row])).collect();
            let (hidden, ids) = learnt(&model.model, &part);
            let (log_probs, _) = head::log_probs(&model.model, &hidden, &ids);
            let all =
                Vec::<f64>::try_from(log_probs.to_kind(tch::Kind::Double).to_device(Device::Cpu))?;
            Ok(batches::sums(&all, part.iter().map(|row| row[0].labels())))
        },
    )?;
    let mut shares: Vec<f64> = found.into_iter().map(|it: f64| it.exp().max(LEAST)).collect();
    let all: f64 = shares.iter().sum();
    shares.push((1.0 - all).max(LEAST));
    let all: f64 = shares.iter().sum();
    Ok(shares.into_iter().map(|it| it / all).collect())
}
