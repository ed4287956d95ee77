//! One whole update of PPO, from what was sampled to the weights of policy and critic.

use serde_json::Value;
use tch::{Kind, Tensor};

use super::{Fixture, LOG_PROBS, LOSS, Within, close, number, steps::check_sums};
use crate::{
    nn::{
        adamw::AdamSettings,
        batch::Example,
        decoder::Model,
        schedule::{Decay, Schedule},
        stepper::{Loss, Stepper},
    },
    policy::{
        credit::{gae, whiten},
        critic::{value_losses, values},
        sequences::{Table, table},
        shaping::{Estimator, scale_tokens},
        surrogate::{Level, Sampled, Surrogate, SurrogateLoss},
    },
};

const NUMBERS: Within = Within { relative: 1e-4, absolute: 5e-5 };

type Rows = Vec<Vec<f64>>;

struct Update {
    fixture: Fixture,
    policy: Model,
    reference: Model,
    critic: Model,
}

impl Update {
    fn open() -> Option<Self> {
        let fixture = Fixture::open("losses/ppo")?;
        let model = |name: &str| fixture.model(fixture.json[name].as_str().unwrap());
        let (policy, reference) = (model("policy")?, model("reference")?);
        let mut critic = model("reward")?;
        let head = fixture.tensor("value_score.weight").copy().set_requires_grad(true);
        critic.parameters.insert("score.weight".to_owned(), head);
        Some(Self { fixture, policy, reference, critic })
    }

    fn setting(&self, name: &str) -> f64 {
        number(&self.fixture.json["hyperparameters"][name])
    }

    fn count(&self, name: &str) -> usize {
        let found = self.fixture.json["hyperparameters"][name].as_u64().unwrap();
        usize::try_from(found).unwrap()
    }

    fn temperature(&self) -> f64 {
        self.setting("temperature") + 1e-7
    }

    fn ids(&self, name: &str) -> Vec<Vec<u32>> {
        let all: Vec<Vec<i64>> = self.fixture.tensor(name).try_into().unwrap();
        all.iter().map(|row| row.iter().map(|id| u32::try_from(*id).unwrap()).collect()).collect()
    }

    /// The first `lengths` numbers of every row.
    fn numbers(&self, name: &str, lengths: &[usize]) -> Rows {
        let tensor = self.fixture.tensor(name).to_kind(Kind::Double);
        let all: Rows = (&tensor).try_into().unwrap();
        all.into_iter().zip(lengths).map(|(row, length)| row[..*length].to_vec()).collect()
    }

    /// Prompts and completions without padding, each completion cut after so many tokens.
    fn rows(&self, lengths: &[usize]) -> Vec<Example> {
        let pad = u32::try_from(self.count("pad_token_id")).unwrap();
        let both = self.ids("queries").into_iter().zip(self.ids("postprocessed_responses"));
        both.zip(lengths)
            .map(|((query, response), length)| {
                let query: Vec<u32> = query.into_iter().filter(|id| *id != pad).collect();
                Example::after_prompt([&query[..], &response[..*length]].concat(), query.len())
            })
            .collect()
    }
}

#[track_caller]
fn same(what: &str, ours: &[Vec<f64>], theirs: &[Vec<f64>], within: Within) {
    for (row, (ours, theirs)) in ours.iter().zip(theirs).enumerate() {
        assert_eq!(ours.len(), theirs.len());
        for (at, (ours, theirs)) in ours.iter().zip(theirs).enumerate() {
            close(&format!("{what}, row {row}, token {at}"), *ours, *theirs, within);
        }
    }
}

/// The numbers of each row of a table.
fn each(table: &Tensor, lengths: &[usize]) -> Rows {
    let all: Rows = (&table.detach().to_kind(Kind::Double)).try_into().unwrap();
    all.into_iter().zip(lengths).map(|(row, length)| row[..*length].to_vec()).collect()
}

/// Numbers of some rows as a table as wide as `like`.
fn padded(all: &Rows, part: &[usize], like: &Tensor) -> Tensor {
    let width = usize::try_from(like.size()[1]).unwrap();
    let row = |at: &usize| all[*at].iter().copied().chain(std::iter::repeat(0.0)).take(width);
    let numbers: Vec<f64> = part.iter().flat_map(row).collect();
    Tensor::from_slice(&numbers).to_kind(Kind::Float).view_as(like)
}

#[test]
fn oracle_ppo_update() {
    let Some(update) = Update::open() else { return };
    let whole = update.count("response_length");
    // A completion ends with its last token; theirs has one value more, after the end, where there is room.
    let ends = Vec::<i64>::try_from(update.fixture.tensor("sequence_lengths")).unwrap();
    let lengths: Vec<usize> = ends.iter().map(|end| usize::try_from(end + 1).unwrap()).collect();
    let longer: Vec<usize> = lengths.iter().map(|length| (length + 1).min(whole)).collect();
    let rows = update.rows(&lengths);
    let refs: Vec<&Example> = rows.iter().collect();

    let (old, reference) =
        (update.numbers("logprobs", &lengths), update.numbers("ref_logprobs", &lengths));
    let of = |model: &Model| table(model, &refs, update.temperature());
    same("log p", &each(&of(&update.policy).log_probs, &lengths), &old, LOG_PROBS);
    same(
        "log p of the reference",
        &each(&of(&update.reference).log_probs, &lengths),
        &reference,
        LOG_PROBS,
    );
    let before = update.numbers("values", &longer);
    let extended = update.rows(&longer);
    let extended: Vec<&Example> = extended.iter().collect();
    same("values", &each(&values(&update.critic, &extended), &longer), &before, LOG_PROBS);

    // Rewards of tokens: the divergence at each, and the score behind the last.
    let estimator: Estimator =
        serde_json::from_value(update.fixture.json["hyperparameters"]["kl_estimator"].clone())
            .unwrap();
    let scores =
        Vec::<f64>::try_from(update.fixture.tensor("scores").to_kind(Kind::Double)).unwrap();
    let coefficient = update.setting("kl_coef");
    let mut rewards: Rows = (0..rows.len())
        .map(|row| {
            let divergence = |at: usize| match old[row].get(at) {
                Some(old) => -coefficient * estimator.of(*old, reference[row][at]),
                None => 0.0,
            };
            let mut own: Vec<f64> = (0..longer[row]).map(divergence).collect();
            *own.last_mut().unwrap() += scores[row];
            own
        })
        .collect();
    if update.fixture.json["hyperparameters"]["whiten_rewards"] == true {
        scale_tokens(&mut rewards);
    }
    same("rewards", &rewards, &update.numbers("rewards", &longer), NUMBERS);

    let (gamma, lambda) = (update.setting("gamma"), update.setting("lam"));
    let estimated: Rows = rewards
        .iter()
        .zip(&before)
        .map(|(rewards, values)| gae(rewards, values, gamma, lambda))
        .collect();
    same(
        "advantages",
        &estimated,
        &update.numbers("advantages_before_whitening", &longer),
        NUMBERS,
    );
    let returns: Rows = estimated
        .iter()
        .zip(&before)
        .map(|(own, values)| own.iter().zip(values).map(|(a, v)| a + v).collect())
        .collect();
    same("returns", &returns, &update.numbers("returns", &longer), NUMBERS);
    let mut advantages: Rows =
        estimated.iter().zip(&lengths).map(|(own, length)| own[..*length].to_vec()).collect();
    whiten(&mut advantages, &(0..rows.len()).collect::<Vec<_>>());
    same("whitened", &advantages, &update.numbers("advantages", &lengths), NUMBERS);

    learn(&update, [&lengths, &longer], &old, &advantages, [&before, &returns]);
}

/// Takes the steps, and compares every micro-batch and the weights at the end.
fn learn(
    update: &Update,
    [lengths, longer]: [&[usize]; 2],
    old: &Rows,
    advantages: &Rows,
    [before, returns]: [&Rows; 2],
) {
    let surrogate = Surrogate {
        loss: SurrogateLoss::Dapo,
        level: Level::Token,
        clip_low: update.setting("cliprange"),
        clip_high: update.setting("cliprange"),
        most: None,
        beta: 0.0,
        corrected: false,
        most_gap: None,
    };
    let (short, long) = (update.rows(lengths), update.rows(longer));
    let parts = update.fixture.json["micro_batches"].as_array().unwrap();
    let together = update.count("micro_batches_per_mini_batch");
    let betas = &update.fixture.json["hyperparameters"]["betas"];
    let adam = AdamSettings {
        beta1: number(&betas[0]),
        beta2: number(&betas[1]),
        epsilon: update.setting("eps"),
        weight_decay: update.setting("weight_decay"),
    };
    let schedule =
        Schedule { peak: update.setting("lr"), decay: Decay::Constant, warmup: 0, steps: 1 };
    let mut stepper = Stepper::new(adam, schedule, 0.0).with(adam, schedule);
    let models = [Some(&update.policy), Some(&update.critic)];
    for parts in parts.chunks(together) {
        let loss = |part: usize| {
            let theirs: &Value = &parts[part];
            let at: Vec<usize> = serde_json::from_value(theirs["indices"].clone()).unwrap();
            let of = |all: &'_ [Example]| -> Vec<Example> {
                at.iter().map(|i| all[*i].clone()).collect()
            };
            let (short, long) = (of(&short), of(&long));
            let (short, long): (Vec<&Example>, Vec<&Example>) =
                (short.iter().collect(), long.iter().collect());
            let Table { log_probs, mask, tail, .. } =
                table(&update.policy, &short, update.temperature());
            let (old, advantages) = (padded(old, &at, &mask), padded(advantages, &at, &mask));
            let sampled =
                Sampled { old: &old, reference: None, advantages: &advantages, mask: &mask };
            let (losses, shown) = surrogate.losses(&log_probs, &sampled);
            let mean =
                |x: &Tensor, mask: &Tensor| (x * mask).sum(Kind::Float) / mask.sum(Kind::Float);
            let policy_loss = mean(&losses, &mask);
            let found = values(&update.critic, &long);
            let ones: Rows = longer.iter().map(|length| vec![1.0; *length]).collect();
            let real = padded(&ones, &at, &found);
            let (before, returns) = (padded(before, &at, &found), padded(returns, &at, &found));
            let clip = Some(update.setting("cliprange_value"));
            let value_loss = mean(&value_losses(&found, &before, &returns, clip), &real);
            let sum = &policy_loss + &value_loss * update.setting("vf_coef");
            let what = |name: &str| format!("rows {at:?}: {name}");
            let within = Within { relative: 1e-4, absolute: 1e-5 };
            close(
                &what("pg_loss"),
                policy_loss.double_value(&[]),
                number(&theirs["pg_loss"]),
                within,
            );
            close(
                &what("vf_loss"),
                value_loss.double_value(&[]),
                number(&theirs["vf_loss"]),
                within,
            );
            close(&what("loss"), sum.double_value(&[]), number(&theirs["loss"]), within);
            let tokens = mask.sum(Kind::Float);
            let clipped = (shown.clipped_low + shown.clipped_high) / tokens;
            close(
                &what("pg_clipfrac"),
                clipped.double_value(&[]),
                number(&theirs["pg_clipfrac"]),
                LOSS,
            );
            Ok(Loss { sum, metrics: Vec::new(), tail })
        };
        stepper.step_together(&models, parts.len(), parts.len() as f64, loss).unwrap();
    }
    check_sums(
        "losses/ppo: policy",
        &update.fixture.json["final_policy_checksums"],
        &update.policy,
    );
    check_sums("losses/ppo: critic", &update.fixture.json["final_value_checksums"], &update.critic);
}
