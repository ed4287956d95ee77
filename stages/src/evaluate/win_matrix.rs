//! `evaluate.win_matrix`: how often each of several policies wins against each other one.
//!
//! Against a single rival much can win that loses to others: where preferences go in circles only the whole matrix tells.

use std::{collections::BTreeMap, fmt::Write as _, fs};

use gradus_protocol::Page;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{
    candidate::{Candidate, comparable, read},
    length_control::{Meeting, at_equal_length},
    samples::{Reward, Sample, by_prompt},
};
use crate::{
    artifact::{self, digest::digest, true_reward::TrueReward},
    context::Context,
    error::StageError,
    nn::{
        config::Head,
        pretrained::Pretrained,
        statistics::{Estimate, Outcomes, rate_of, won},
    },
    port::{Many, Out, file_of, ports},
    reward::contest::{Contest, Reply, asked, known},
    stage::Stage,
};

/// Measure who beats whom.
pub(crate) struct WinMatrix;

/// By whom one completion wins against another.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum By {
    /// More of the true reward, as the evaluations have it; ties count half.
    #[default]
    TrueReward,
    /// A higher score of the reward model, as the evaluations have it.
    Score,
    /// The input `preference_model`: how often it prefers the one.
    PreferenceModel,
    /// What people truly prefer: the input `true_reward` says so, where its task has preferences.
    TruePreference,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Params {
    /// By whom one completion wins against another.
    #[serde(default)]
    by: By,
    /// What candidates are called, by the stages that they come from. A stage's name stands for all its variants.
    #[serde(default)]
    labels: BTreeMap<String, String>,
    /// The heading of the report.
    #[serde(default = "title")]
    title: String,
}

fn title() -> String {
    "Who beats whom".to_owned()
}

ports!(Inputs {
    /// Evaluations of the policies, with their samples of the same prompts.
    candidates: Many<artifact::Evaluation>,
    /// For `by: preference_model`.
    preference_model: Option<artifact::PreferenceModel>,
    /// For `by: true_preference`.
    true_reward: Option<artifact::TrueReward>,
});
ports!(Outputs {
    /// The matrix, and the same at equal length, as Markdown.
    report: Out<artifact::Report>,
    /// A line for each two, as CSV.
    table: Out<artifact::Table>,
    /// `A over B` and `A over B at equal length` by name, as JSON: what a claim can be about.
    numbers: Out<artifact::File>,
});

/// What came of all meetings of two candidates.
struct Found {
    rate: Option<Estimate>,
    at_equal_length: Option<Estimate>,
}

impl Stage for WinMatrix {
    const KIND: &'static str = "evaluate.win_matrix";
    const REVISION: u32 = 1;
    const USES_SEED: bool = false;
    const DOC: &'static str = "Say how often each policy wins against each other one.

Every sample of a prompt meets every sample of the other policy. Rates are over prompts, with 95 % intervals; those at equal length \
take off what length alone wins (Dubois et al. 2024): judges like long answers. Evaluations that were sampled from other prompts or \
otherwise are refused.";
    type Params = Params;
    type Inputs = Inputs;
    type Outputs = Outputs;

    fn run(
        params: Params,
        inputs: Inputs,
        outputs: Outputs,
        context: &mut Context,
    ) -> Result<(), StageError> {
        let candidates = read(&inputs.candidates.0, None, &params.labels)?;
        comparable(&candidates)?;
        let judge = Judge::open(params.by, &inputs, context)?;
        let names: Vec<String> = candidates.iter().map(|it| it.label.to_string()).collect();
        let count = candidates.len();
        let pairs = count * count.saturating_sub(1) / 2;
        let mut found: BTreeMap<(usize, usize), Found> = BTreeMap::new();
        for i in 0..count {
            for j in i + 1..count {
                let prompts = judge.meetings([&candidates[i], &candidates[j]], context)?;
                let turned = |it: &Meeting| Meeting { won: 1.0 - it.won, longer: -it.longer };
                let other: Vec<Vec<Meeting>> =
                    prompts.iter().map(|own| own.iter().map(turned).collect()).collect();
                found.insert((i, j), came_of(&prompts));
                found.insert((j, i), came_of(&other));
                context.progress(found.len() / 2, pairs, "pairs of policies", "")?;
            }
        }
        let mut numbers = serde_json::Map::new();
        for ((i, j), it) in &found {
            let name = format!("{} over {}", names[*i], names[*j]);
            for (name, estimate) in
                [(name.clone(), it.rate), (format!("{name} at equal length"), it.at_equal_length)]
            {
                if let Some(estimate) = estimate {
                    context.estimate(&name, &estimate);
                    numbers.insert(name, json!(estimate.value));
                }
            }
        }
        let text = serde_json::to_string_pretty(&numbers).expect("numbers are JSON");
        let write = |path: &std::path::Path, text: String| {
            fs::write(path, text).map_err(StageError::file(path))
        };
        write(&outputs.numbers.path, text + "\n")?;
        write(&outputs.report.path, markdown(&params.title, &names, &found))?;
        write(&outputs.table.path, csv(&names, &found)?)
    }
}

fn came_of(prompts: &[Vec<Meeting>]) -> Found {
    let outcomes = |own: &Vec<Meeting>| Outcomes {
        sum: own.iter().map(|it| it.won).sum(),
        count: own.len() as f64,
    };
    let rate = rate_of(&prompts.iter().map(outcomes).collect::<Vec<_>>());
    Found { rate, at_equal_length: at_equal_length(prompts) }
}

/// Who says which of two wins.
enum Judge {
    Reward(Reward),
    Preferences(Box<Pretrained>, Page),
    Truth(TrueReward),
}

impl Judge {
    fn open(by: By, inputs: &Inputs, context: &Context) -> Result<Self, StageError> {
        let lacks = |by: &str, port: &str| {
            StageError::refused(format!("`by: {by}` needs the input `{port}`"))
        };
        match by {
            By::TrueReward => Ok(Self::Reward(Reward::TrueReward)),
            By::Score => Ok(Self::Reward(Reward::Score)),
            By::PreferenceModel => {
                let port = "preference_model";
                let came = inputs.preference_model.as_ref().ok_or_else(|| lacks(port, port))?;
                let judge = Pretrained::open(port, &came.source, Head::Score, context.device)?;
                let page = context.page("contest", 1, &json!(Some(digest(&came.source)?)));
                Ok(Self::Preferences(Box::new(judge), page))
            }
            By::TruePreference => {
                let came = inputs.true_reward.as_ref();
                let came = came.ok_or_else(|| lacks("true_preference", "true_reward"))?;
                Ok(Self::Truth(TrueReward::load(file_of(&came.source)?)?))
            }
        }
    }

    /// All meetings of two candidates' samples, by prompt.
    fn meetings(
        &self,
        [ours, theirs]: [&Candidate; 2],
        context: &mut Context,
    ) -> Result<Vec<Vec<Meeting>>, StageError> {
        let (one, other) = (&ours.evaluation.samples, &theirs.evaluation.samples);
        let prompts: Vec<Vec<[&Sample; 2]>> = by_prompt(one)
            .zip(by_prompt(other))
            .map(|(ours, theirs)| {
                ours.iter().flat_map(|one| theirs.iter().map(move |other| [one, other])).collect()
            })
            .collect();
        let all: Vec<[&Sample; 2]> = prompts.iter().flatten().copied().collect();
        let odds: Vec<f64> = match self {
            Self::Reward(reward) => {
                let of =
                    |[one, other]: &[&Sample; 2]| Some(won(reward.of(one)? - reward.of(other)?));
                all.iter().map(of).collect::<Option<_>>().ok_or_else(|| {
                    StageError::refused(format!(
                        "`{}` or `{}` has no {}: give `evaluate.policy` the input `{}`",
                        ours.label,
                        theirs.label,
                        reward.words(),
                        reward.port()
                    ))
                })?
            }
            Self::Preferences(judge, page) => {
                let contests: Vec<Contest> = all.iter().map(contest).collect();
                let report = |done, of| context.rows(done, of, "meetings judged");
                asked(&contests.iter().collect::<Vec<_>>(), judge, page, report)?
            }
            Self::Truth(reward) => {
                let contests: Vec<Contest> = all.iter().map(contest).collect();
                known(&contests.iter().collect::<Vec<_>>(), reward)?
            }
        };
        let mut odds = odds.into_iter();
        let meeting = |([one, other], won): (&[&Sample; 2], f64)| Meeting {
            won,
            longer: one.tokens as f64 - other.tokens as f64,
        };
        Ok(prompts.iter().map(|own| own.iter().zip(odds.by_ref()).map(meeting).collect()).collect())
    }
}

fn contest([one, other]: &[&Sample; 2]) -> Contest {
    let reply = |it: &Sample| Reply { text: it.completion.clone(), ended: it.ended };
    Contest::new(&one.prompt, [reply(one), reply(other)])
}

fn percent(estimate: Option<Estimate>) -> String {
    estimate.map_or("–".to_owned(), |it| {
        let bounds =
            it.interval.map(|it| format!(" ({:.0} to {:.0})", it.low * 100.0, it.high * 100.0));
        format!("{:.0} %{}", it.value * 100.0, bounds.unwrap_or_default())
    })
}

fn markdown(title: &str, names: &[String], found: &BTreeMap<(usize, usize), Found>) -> String {
    let mut text = format!("# {title}\n");
    for (heading, of) in [
        (
            "How often the row wins against the column",
            (|it| it.rate) as fn(&Found) -> Option<Estimate>,
        ),
        ("The same, were both as long", |it| it.at_equal_length),
    ] {
        let _ = write!(text, "\n## {heading}\n\n| |");
        for name in names {
            let _ = write!(text, " {} |", name.replace('|', "\\|"));
        }
        let _ = write!(text, "\n| :-- |{}\n", " --: |".repeat(names.len()));
        for (i, name) in names.iter().enumerate() {
            let _ = write!(text, "| {} |", name.replace('|', "\\|"));
            for j in 0..names.len() {
                let cell = found.get(&(i, j)).map_or("–".to_owned(), |it| percent(of(it)));
                let _ = write!(text, " {cell} |");
            }
            text.push('\n');
        }
    }
    text + "\nIntervals hold 95 %, over prompts.\n"
}

fn csv(names: &[String], found: &BTreeMap<(usize, usize), Found>) -> Result<String, StageError> {
    let wrong = |error: String| StageError::refused(format!("the table: {error}"));
    let mut table = csv::Writer::from_writer(Vec::new());
    let rates = ["win_rate", "win_rate_at_equal_length"];
    let rates = rates.iter().flat_map(|it| ["", "_low", "_high"].map(|end| format!("{it}{end}")));
    let header = ["name", "rival"].map(str::to_owned).into_iter().chain(rates);
    table.write_record(header).map_err(|error| wrong(error.to_string()))?;
    for ((i, j), it) in found {
        let mut record = vec![names[*i].clone(), names[*j].clone()];
        for estimate in [it.rate, it.at_equal_length] {
            let bounds = estimate.and_then(|it| it.interval);
            let numbers =
                [estimate.map(|it| it.value), bounds.map(|it| it.low), bounds.map(|it| it.high)];
            record.extend(numbers.map(|it| it.map_or(String::new(), |it| it.to_string())));
        }
        table.write_record(record).map_err(|error| wrong(error.to_string()))?;
    }
    let bytes = table.into_inner().map_err(|error| wrong(error.to_string()))?;
    String::from_utf8(bytes).map_err(|error| wrong(error.to_string()))
}
