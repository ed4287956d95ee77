//! `evaluate.diversity`: how different the samples of a prompt are: what training by reward takes from a policy first.
//!
//! Each measure is of texts alone, in [`variety`](super::variety), and hangs on how many samples there are: candidates need as many.

use std::{collections::BTreeMap, fmt::Write as _, fs};

use schemars::JsonSchema;
use serde::Deserialize;

use gradus_protocol::Source;

use super::{
    evaluation::Evaluation,
    label::named,
    measured::Measured,
    samples::by_prompt,
    variety::{Group, adjusted, answers, distinct, duplicates, self_bleu, vocabulary},
};
use crate::{
    artifact,
    context::Context,
    error::StageError,
    nn::statistics::Estimate,
    port::{Many, Out, ports},
    rollout::trajectories,
    stage::Stage,
};

/// Measure the diversity of samples.
pub(crate) struct Diversity;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Params {
    /// What candidates are called, by the stages that they come from. A stage's name stands for all its variants.
    #[serde(default)]
    labels: BTreeMap<String, String>,
    /// The heading of the report.
    #[serde(default = "default_title")]
    title: String,
}

fn default_title() -> String {
    "Diversity of samples".to_owned()
}

ports!(Inputs {
    /// Evaluations or rollouts with several samples of each prompt.
    candidates: Many<artifact::Sampled>,
});
ports!(Outputs {
    /// A row per candidate, as Markdown.
    report: Out<artifact::Report>,
    /// The same as CSV.
    table: Out<artifact::Table>,
});

/// The samples of a candidate, prompt by prompt.
struct Candidate {
    name: String,
    measured: Option<Measured>,
    prompts: Vec<(String, Vec<String>)>,
}

/// What a row says of a candidate: each measure by its name.
struct Row {
    name: String,
    prompts: usize,
    samples: usize,
    measures: [(&'static str, Option<Estimate>); 6],
}

impl Stage for Diversity {
    const KIND: &'static str = "evaluate.diversity";
    const REVISION: u32 = 1;
    const USES_DEVICE: bool = false;
    const USES_SEED: bool = false;
    const DOC: &'static str = "Say how different the samples of a prompt are from each other.

`duplicates` is the share that repeats a sample of the same prompt; `distinct_1` and `distinct_2` are different words and pairs of words \
over all (Li et al. 2016) and `self_bleu` how alike samples are (Zhu et al. 2018), means over prompts with 95 % intervals; \
`distinct_adjusted` does not fall with length (Liu et al. 2022), over all candidates' words; `answers` counts different last numbers. All but the \
latter two are metrics of `evaluate.claim` too. Candidates need the same prompts, with as many samples of each.";
    type Params = Params;
    type Inputs = Inputs;
    type Outputs = Outputs;

    fn run(
        params: Params,
        inputs: Inputs,
        outputs: Outputs,
        context: &mut Context,
    ) -> Result<(), StageError> {
        let names: Vec<String> = inputs.candidates.0.iter().map(|(name, _)| name.clone()).collect();
        let labels = named(&names, &params.labels)?;
        let mut candidates = Vec::new();
        for (label, (_, artifact)) in labels.into_iter().zip(&inputs.candidates.0) {
            context.heard()?;
            candidates.push(Candidate::read(label.to_string(), &artifact.source)?);
        }
        comparable(&candidates)?;
        let rows = rows(&candidates);
        for row in &rows {
            for (name, measure) in &row.measures {
                if let Some(measure) = measure {
                    context.estimate(&format!("{}.{name}", row.name), measure);
                }
            }
        }
        let report = markdown(&params.title, &rows);
        fs::write(&outputs.report.path, report).map_err(StageError::file(&outputs.report.path))?;
        let table = csv(&rows)?;
        fs::write(&outputs.table.path, table).map_err(StageError::file(&outputs.table.path))
    }
}

impl Candidate {
    /// An evaluation is a file, rollouts are a folder.
    fn read(name: String, source: &Source) -> Result<Self, StageError> {
        let mut prompts: Vec<(String, Vec<String>)> = Vec::new();
        let mut measured = None;
        match source {
            Source::File(path) => {
                let evaluation = Evaluation::read(path, &name)?;
                for samples in by_prompt(&evaluation.samples) {
                    let texts = samples.iter().map(|it| it.completion.clone());
                    prompts.push((samples[0].prompt.clone(), texts.collect()));
                }
                measured = Some(evaluation.measured);
            }
            Source::Tree(_) => {
                let all = trajectories::read("candidates", source)?;
                for group in trajectories::groups(&all) {
                    let texts = group.iter().map(|at| all[*at].completion.clone());
                    prompts.push((all[group[0]].prompt.clone(), texts.collect()));
                }
            }
        }
        if prompts.iter().all(|(_, samples)| samples.len() < 2) {
            return Err(StageError::refused(format!(
                "`{name}` has one sample of each prompt, which differs from nothing: raise its `samples_per_prompt`"
            )));
        }
        Ok(Self { name, measured, prompts })
    }

    fn groups(&self) -> Vec<Group<'_>> {
        self.prompts.iter().map(|(_, texts)| texts.iter().map(String::as_str).collect()).collect()
    }
}

/// Refuses candidates that were not sampled alike, as far as is known.
fn comparable(candidates: &[Candidate]) -> Result<(), StageError> {
    for (index, one) in candidates.iter().enumerate() {
        for other in &candidates[index + 1..] {
            if let Some((own, theirs)) = one.measured.as_ref().zip(other.measured.as_ref()) {
                own.comparable(theirs, [&one.name, &other.name])?;
            }
            let counts = |it: &Candidate| -> Vec<(String, usize)> {
                it.prompts.iter().map(|(prompt, texts)| (prompt.clone(), texts.len())).collect()
            };
            if counts(one) != counts(other) {
                return Err(StageError::refused(format!(
                    "`{}` and `{}` have not as many samples of the same prompts, and more samples repeat each other more: sample both alike",
                    one.name, other.name
                )));
            }
        }
    }
    Ok(())
}

fn rows(candidates: &[Candidate]) -> Vec<Row> {
    let all: Vec<Vec<Group>> = candidates.iter().map(Candidate::groups).collect();
    let words = vocabulary(all.iter().flatten());
    let row = |(candidate, groups): (&Candidate, &Vec<Group>)| {
        let adjusted = adjusted(groups, words);
        Row {
            name: candidate.name.clone(),
            prompts: groups.len(),
            samples: groups.iter().map(Vec::len).sum(),
            measures: [
                ("duplicates", duplicates(groups)),
                ("distinct_1", distinct(groups, 1)),
                ("distinct_2", distinct(groups, 2)),
                ("self_bleu", self_bleu(groups)),
                ("distinct_adjusted", adjusted.map(|value| Estimate { value, interval: None })),
                ("answers", answers(groups)),
            ],
        }
    };
    candidates.iter().zip(&all).map(row).collect()
}

fn markdown(title: &str, rows: &[Row]) -> String {
    let mut text = format!(
        "# {title}\n\n| | duplicates | distinct-1 | distinct-2 | self-BLEU | distinct, adjusted | answers | prompts | samples |\n\
         | :-- |{}\n",
        " --: |".repeat(8)
    );
    for row in rows {
        let _ = write!(text, "| {} |", row.name.replace('|', "\\|"));
        for (_, measure) in &row.measures {
            let words = measure.map_or("–".to_owned(), |it| {
                let bounds = it.interval.map(|it| format!(" ({:.3} to {:.3})", it.low, it.high));
                format!("{:.3}{}", it.value, bounds.unwrap_or_default())
            });
            let _ = write!(text, " {words} |");
        }
        let _ = writeln!(text, " {} | {} |", row.prompts, row.samples);
    }
    text += "\nDuplicates repeat a sample of the same prompt. distinct-n is different n-grams of words over all, self-BLEU how alike samples are \
             (1: all\nthe same), each of the samples of a prompt; adjusted, distinct-1 of all samples does not fall with their length. Answers are \
             different last\nnumbers of a prompt's samples. Intervals hold 95 %, over prompts.\n";
    text
}

fn csv(rows: &[Row]) -> Result<String, StageError> {
    let wrong = |error: String| StageError::refused(format!("the table: {error}"));
    let mut table = csv::Writer::from_writer(Vec::new());
    let mut header = vec!["name".to_owned()];
    let measures = rows.first().map(|row| row.measures).into_iter().flatten();
    header.extend(
        measures.flat_map(|(name, _)| ["", "_low", "_high"].map(|end| format!("{name}{end}"))),
    );
    header.extend(["prompts", "samples"].map(str::to_owned));
    table.write_record(header).map_err(|error| wrong(error.to_string()))?;
    for row in rows {
        let mut record = vec![row.name.clone()];
        for (_, found) in row.measures {
            let bounds = found.and_then(|it| it.interval);
            let numbers =
                [found.map(|it| it.value), bounds.map(|it| it.low), bounds.map(|it| it.high)];
            record.extend(numbers.map(|it| it.map_or(String::new(), |it| it.to_string())));
        }
        record.extend([row.prompts, row.samples].map(|count| count.to_string()));
        table.write_record(record).map_err(|error| wrong(error.to_string()))?;
    }
    let bytes = table.into_inner().map_err(|error| wrong(error.to_string()))?;
    String::from_utf8(bytes).map_err(|error| wrong(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(name: &str, texts: &[&str]) -> Candidate {
        let texts = texts.iter().map(ToString::to_string).collect();
        Candidate {
            name: name.to_owned(),
            measured: None,
            prompts: vec![("1 + 1 =".to_owned(), texts)],
        }
    }

    #[test]
    fn the_report_has_a_line_per_candidate() {
        let candidates = [
            candidate("sft", &[" It is 2.", " 3", " So 2", " 2"]),
            candidate("grpo", &[" 2", " 2", " 2", " 2"]),
        ];
        insta::assert_snapshot!(markdown("Diversity", &rows(&candidates)));
    }

    #[test]
    fn more_samples_are_not_compared_with_fewer() {
        let candidates = [candidate("sft", &["a", "b"]), candidate("grpo", &["a", "b", "c"])];
        let error = comparable(&candidates).unwrap_err().to_string();
        assert!(error.starts_with("`sft` and `grpo` have not as many samples"), "{error}");
    }
}
