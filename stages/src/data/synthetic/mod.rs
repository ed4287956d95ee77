//! `data.synthetic`: rows of a small made-up world whose true reward is known.
//!
//! Replies are of mixed quality on purpose: who imitates them leaves room to improve. Each row of each
//! output has a stream of its own, so that asking for more of one leaves all others as they are.

mod arithmetic;
mod chains;
mod copies;
mod cycles;
mod foul;
mod grades;
mod hearts;
mod hedges;
mod keys;
mod letters;
mod residues;
mod reviews;
mod steps;
mod styles;
mod topics;
mod world;

use gradus_protocol::catalog::Unaffected;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use self::world::pick;
use crate::{
    artifact::true_reward::TrueReward,
    artifact::{
        self,
        dataset::{CompletionRow, Fields, Format, PromptRow, Row, TextRow},
        dataset_folder::write_all,
    },
    context::Context,
    error::StageError,
    nn::stream::Stream,
    port::{Out, ports},
    stage::Stage,
};

/// Make up rows.
pub(crate) struct Synthetic;

/// What the made-up rows are about.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Task {
    /// Short reviews of products: kind, on the topic and of the right length is good.
    Reviews,
    /// Small sums: right is good.
    Arithmetic,
    /// Six symbols to each of 32 prompts, of which four must be right; the proxy reward takes hedges for half right.
    Hedges,
    /// Replies that should name what belongs to one of six topics, once each and briefly.
    Topics,
    /// Six letters that translate the prompt's three; the proxy reward thinks more of some prompts than of others.
    Copies,
    /// Three letters, of which one answer in eight is right.
    Residues,
    /// Eight letters, which are worth something only if the first seven are right.
    Keys,
    /// One letter behind any number of fillers, where how often it is believed hangs on their number.
    Styles,
    /// Twelve letters, of which four decide.
    Steps,
    /// Two letters of five kinds, of which each beats two and loses to two: preferences that are no matter of a reward.
    Cycles,
    /// Texts on six topics, of four sentences of six letters each; capital letters are foul, and two topics nearly always are.
    Foul,
    /// Six symbols that should be the prompt's letters. The true reward is how many are; its parts are `help`, `safe`, `love`, how often
    /// a reply gets a heart, and `farewell`.
    Hearts,
    /// Five letters of four, each worth what it is worth at its place behind the one before.
    Chains,
    /// One of nine letters: three styles, of which each beats another, in three grades.
    Grades,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Params {
    /// What the rows are about.
    task: Task,
    /// Rows of plain text, for pretraining.
    #[serde(default = "default_rows")]
    #[schemars(range(min = 1, max = 1_000_000))]
    text: usize,
    /// Prompts with a reply to imitate, of mixed quality.
    #[serde(default = "default_rows")]
    #[schemars(range(min = 1, max = 1_000_000))]
    demonstrations: usize,
    /// Pairs of replies to learn from.
    #[serde(default = "default_rows")]
    #[schemars(range(min = 1, max = 1_000_000))]
    preferences: usize,
    /// Pairs of replies to test on.
    #[serde(default = "default_test")]
    #[schemars(range(min = 1, max = 1_000_000))]
    test_preferences: usize,
    /// Prompts to evaluate on, all different and not in any other output; of worlds of letters, which have few, all at most.
    #[serde(default = "default_prompts")]
    #[schemars(range(min = 1))]
    prompts: usize,
    /// Temperature of the Bradley-Terry model that labels the pairs: 0 never errs, more errs more
    /// where the true rewards are close. Cycles and grades have odds of their own.
    #[serde(default = "default_label_noise")]
    #[schemars(range(min = 0.0))]
    label_noise: f64,
    #[serde(flatten)]
    reviews: reviews::Settings,
    #[serde(flatten)]
    arithmetic: arithmetic::Settings,
    #[serde(flatten)]
    letters: letters::Settings,
}

fn default_rows() -> usize {
    4000
}
fn default_test() -> usize {
    400
}
fn default_prompts() -> usize {
    128
}
fn default_label_noise() -> f64 {
    0.2
}

ports!(Inputs {});
ports!(Outputs {
    /// Plain text: prompts with replies, to learn the language from.
    text: Out<artifact::Text>,
    /// Prompts with replies of mixed quality.
    demonstrations: Out<artifact::Completions>,
    /// Pairs of replies, labelled by the true reward with noise.
    preferences_train: Out<artifact::Preferences>,
    /// Pairs of replies to prompts that `preferences_train` has not.
    preferences_test: Out<artifact::Preferences>,
    /// Prompts that no other output has, but of worlds of letters.
    prompts: Out<artifact::Prompts>,
    /// The reward that decides what is better.
    true_reward: Out<artifact::TrueReward>,
});

impl Stage for Synthetic {
    const KIND: &'static str = "data.synthetic";
    const REVISION: u32 = 3;
    const DOC: &'static str = "Make up rows whose true reward is known.

`reviews` are short product reviews from a random grammar, `arithmetic` small sums with an answer \
that can be checked: it stands in the column `answer`. The others are worlds of single letters, in which published claims are tried: there a token is a letter, with \
a tokenizer of `vocab_size: 258`.";
    const USES_DEVICE: bool = false;
    type Params = Params;
    type Inputs = Inputs;
    type Outputs = Outputs;

    /// Sums alone have an `answer` since.
    fn unaffected() -> Vec<Unaffected> {
        let tasks = ["reviews", "hedges", "topics", "copies", "residues", "keys"];
        let when = [("task".to_owned(), tasks.map(Value::from).into())].into();
        vec![Unaffected { revision: 3, when }]
    }

    fn rehearsal() -> serde_json::Value {
        serde_json::json!({ "text": 500, "demonstrations": 200, "preferences": 200, "test_preferences": 50, "prompts": 16 })
    }

    fn run(
        params: Params,
        _: Inputs,
        outputs: Outputs,
        context: &mut Context,
    ) -> Result<(), StageError> {
        let made = make(&params, context.stream("rows"))?;
        write_all(&outputs.text.path, Format::Text, &made.text)?;
        let format = Format::PromptCompletion;
        write_all(&outputs.demonstrations.path, format, &made.demonstrations)?;
        let format = Format::Preference;
        write_all(&outputs.preferences_train.path, format, &made.preferences_train)?;
        write_all(&outputs.preferences_test.path, format, &made.preferences_test)?;
        write_all(&outputs.prompts.path, Format::Prompt, &made.prompts)?;
        made.reward.save(&outputs.true_reward.path)?;
        context.summary("demonstration_reward", mean_reward(&made.reward, &made.demonstrations));
        Ok(())
    }
}

struct Made {
    text: Vec<Row>,
    demonstrations: Vec<Row>,
    preferences_train: Vec<Row>,
    preferences_test: Vec<Row>,
    prompts: Vec<Row>,
    reward: TrueReward,
}

fn make(params: &Params, mut draws: Stream) -> Result<Made, StageError> {
    let mut world = match params.task {
        Task::Reviews => reviews::world(&params.reviews),
        Task::Arithmetic => arithmetic::world(&params.arithmetic),
        Task::Hedges => hedges::world(&params.letters, draws.named("world")),
        Task::Topics => topics::world(),
        Task::Copies => copies::world(&params.letters, draws.named("world")),
        Task::Residues => residues::world(&params.letters, draws.named("world")),
        Task::Styles => styles::world(&params.letters, draws.named("world")),
        Task::Steps => steps::world(draws.named("world")),
        Task::Cycles => cycles::world(draws.named("world")),
        Task::Grades => grades::world(draws.named("world"), !params.letters.transitive),
        Task::Foul => foul::world(&params.letters, draws.named("world")),
        Task::Hearts => hearts::world(&params.letters, draws.named("world")),
        Task::Chains => chains::world(draws.named("world")),
        Task::Keys => keys::world(&params.letters, draws.named("world")),
    };
    world.prompts.shuffle(&mut draws.named("prompts").generator());
    // A tenth to evaluate on and a tenth for the test pairs; the rest is seen in training.
    let tenth = world.prompts.len() / 10;
    if params.prompts > tenth && !world.closed {
        return Err(StageError::refused(format!(
            "`prompts` may be {tenth} at most: a tenth of the {} that this task has",
            world.prompts.len()
        )));
    }
    let (evaluate, rest) = world.prompts.split_at(tenth);
    let (test, train) = rest.split_at(tenth);
    let all = world.prompts.as_slice();
    let (evaluate, test, train) =
        if world.closed { (all, all, all) } else { (evaluate, test, train) };
    let prompts = evaluate.iter().take(params.prompts);
    let prompts = prompts.map(|it| world.row(Fields::Prompt(PromptRow { prompt: it.clone() })));
    let prompts = prompts.collect();
    let noise = params.label_noise;
    Ok(Made {
        text: rows(params.text, train, draws.named("text"), |prompt, draw| {
            let reply = (world.reply)(prompt, draw);
            Fields::Text(TextRow { text: format!("{prompt}{reply}") }).into()
        }),
        demonstrations: rows(
            params.demonstrations,
            train,
            draws.named("demonstrations"),
            |prompt, draw| {
                let completion = (world.reply)(prompt, draw);
                let prompt = prompt.to_owned();
                world.row(Fields::PromptCompletion(CompletionRow { prompt, completion }))
            },
        ),
        preferences_train: rows(params.preferences, train, draws.named("train"), |prompt, draw| {
            world.pair(prompt, noise, draw)
        }),
        preferences_test: rows(
            params.test_preferences,
            test,
            draws.named("test"),
            |prompt, draw| world.pair(prompt, noise, draw),
        ),
        prompts,
        reward: world.reward.clone(),
    })
}

fn rows(
    count: usize,
    prompts: &[String],
    draws: Stream,
    row: impl Fn(&str, &mut ChaCha8Rng) -> Row,
) -> Vec<Row> {
    let row = |mut draw: ChaCha8Rng| row(pick(&mut draw, prompts), &mut draw);
    draws.rows(count).map(|draws| row(draws.generator())).collect()
}

fn mean_reward(reward: &TrueReward, rows: &[Row]) -> f64 {
    let scores = rows.iter().filter_map(|row| {
        row.completion().map(|completion| reward.score(row.prompt(), completion))
    });
    scores.sum::<f64>() / rows.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn params(json: &str) -> Params {
        serde_json::from_str(json).unwrap()
    }

    fn made(json: &str) -> Made {
        make(&params(json), Stream::of(0)).unwrap()
    }

    const TASKS: [&str; 2] = [r#"{"task": "reviews"}"#, r#"{"task": "arithmetic"}"#];

    fn prompts(rows: &[Row]) -> HashSet<&str> {
        rows.iter().map(Row::prompt).collect()
    }

    #[test]
    fn closed_worlds_have_all_prompts_everywhere() {
        for (task, count) in [
            ("hedges", 32),
            ("topics", 6),
            ("residues", 12),
            ("keys", 12),
            ("styles", 16),
            ("steps", 10),
            ("cycles", 4),
            ("grades", 8),
            ("chains", 1),
            ("hearts", 8),
            ("foul", 6),
        ] {
            let made = made(&format!(r#"{{"task": "{task}", "prompts": 64}}"#));
            assert_eq!(made.prompts.len(), count);
            for rows in [&made.prompts, &made.demonstrations, &made.preferences_test] {
                assert_eq!(prompts(rows).len(), count);
            }
        }
    }

    /// The share of pairs whose chosen reply truly is no worse.
    fn agreement(reward: &TrueReward, rows: &[Row]) -> f64 {
        let right = rows.iter().filter(|row| match &row.fields {
            Fields::Preference(row) => {
                reward.score(&row.prompt, &row.chosen) >= reward.score(&row.prompt, &row.rejected)
            }
            _ => false,
        });
        right.count() as f64 / rows.len() as f64
    }

    #[test]
    fn held_out_prompts_are_nowhere_else() {
        for task in TASKS {
            let made = made(task);
            let train: HashSet<_> = prompts(&made.demonstrations)
                .union(&prompts(&made.preferences_train))
                .copied()
                .collect();
            let test = prompts(&made.preferences_test);
            let held_out = prompts(&made.prompts);
            assert_eq!(held_out.len(), 128);
            assert!(train.is_disjoint(&test) && train.is_disjoint(&held_out));
            assert!(test.is_disjoint(&held_out));
            assert!(
                made.text.iter().all(|row| !held_out.iter().any(|p| row.prompt().starts_with(p)))
            );
        }
    }

    #[test]
    fn the_same_seed_makes_the_same_rows_and_another_makes_others() {
        for task in TASKS {
            let (one, two) = (made(task), made(task));
            assert_eq!(one.preferences_train, two.preferences_train);
            let other = make(&params(task), Stream::of(1)).unwrap();
            assert_ne!(one.preferences_train, other.preferences_train);
        }
    }

    #[test]
    fn without_noise_every_label_is_right_and_with_it_some_are_wrong() {
        for task in TASKS {
            let exact = made(&task.replace('}', r#", "label_noise": 0}"#));
            assert!((agreement(&exact.reward, &exact.preferences_train) - 1.0).abs() < 1e-12);
            let noisy = made(&task.replace('}', r#", "label_noise": 0.5}"#));
            let right = agreement(&noisy.reward, &noisy.preferences_train);
            assert!((0.6..0.95).contains(&right), "{task}: {right}");
        }
    }

    #[test]
    fn demonstrations_leave_room_to_improve() {
        let made = made(TASKS[0]);
        let scores: Vec<_> = made
            .demonstrations
            .iter()
            .map(|row| made.reward.score(row.prompt(), row.completion().unwrap()))
            .collect();
        let mean = scores.iter().sum::<f64>() / scores.len() as f64;
        let variance =
            scores.iter().map(|score| (score - mean).powi(2)).sum::<f64>() / scores.len() as f64;
        let best = scores.iter().copied().fold(f64::MIN, f64::max);
        assert!(
            variance.sqrt() > 0.3 && best - mean > 0.8,
            "{mean} ± {} ≤ {best}",
            variance.sqrt()
        );
    }

    #[test]
    fn too_many_held_out_prompts_are_refused() {
        let error = make(&params(r#"{"task": "arithmetic", "prompts": 1000}"#), Stream::of(0))
            .err()
            .unwrap();
        assert!(error.to_string().contains("at most"), "{error}");
    }

    #[test]
    fn the_rows_can_be_read() {
        let show = |made: &Made| {
            let replies = made.demonstrations[..4].iter();
            let lines: Vec<_> = replies
                .map(|row| format!("{}{}", row.prompt(), row.completion().unwrap()))
                .collect();
            lines.join("\n")
        };
        insta::assert_snapshot!(show(&made(TASKS[0])), @"
        Review of the camera (manual, delivery, size): I find the camera bad. The price is flimsy.
        Review of the clock (size, delivery, quality): I find the clock useless. I find the quality weak. I find the size bad. The delivery is awful. I had another one for many years before that.
        Review of the backpack (manual, size, quality): I bought it last week.
        Review of the toaster (manual, quality, design): The toaster is superb for me. Its quality is really handy. The design is excellent and weak. The manual is clever and awful.
        ");
        insta::assert_snapshot!(show(&made(TASKS[1])), @"
        7 * 16 = The answer is 122.
        11 + 12 = 24
        17 * 18 = The answer is 35.
        14 + 8 = The answer is 22.
        ");
    }
}
