//! A comparison as tables: Markdown for people, CSV and JSON for programs.

use std::fmt::Write as _;

use serde_json::json;

use super::{
    candidate::Candidate,
    rows::Row,
    samples::{Reward, Sample},
};
use crate::{error::StageError, nn::statistics::Estimate};

/// What is told of a comparison.
pub(super) struct Told<'a> {
    pub(super) title: &'a str,
    /// Best first.
    pub(super) rows: &'a [Row],
    pub(super) candidates: &'a [Candidate],
    /// The reward that rows are sorted by and win rates are under.
    pub(super) reward: Reward,
    /// The axis whose points are replicates.
    pub(super) replicates: Option<&'a str>,
    /// Prompts to show completions of.
    pub(super) examples: usize,
    /// A drawing in letters, if there is something to draw.
    pub(super) drawing: Option<String>,
}

type Column = (&'static str, fn(&Row) -> Option<Estimate>);

const COLUMNS: [Column; 4] = [
    ("true_reward", |row| row.true_reward),
    ("score", |row| row.score),
    ("kl", |row| row.kl),
    ("win_rate", |row| row.win_rate),
];

/// What people read above a column.
fn heading(column: &str) -> &str {
    match column {
        "true_reward" => "true reward",
        "score" => "reward-model score",
        "kl" => "KL",
        "win_rate" => "win rate",
        other => other,
    }
}

pub(super) fn json(told: &Told) -> Result<String, StageError> {
    let value = json!({
        "reward": told.reward,
        "intervals_over": told.replicates.unwrap_or("prompts"),
        "rows": told.rows,
    });
    let text = serde_json::to_string_pretty(&value);
    text.map(|text| text + "\n").map_err(|error| StageError::refused(error.to_string()))
}

pub(super) fn csv(told: &Told) -> Result<String, StageError> {
    let wrong = |error: String| StageError::refused(format!("the table: {error}"));
    let mut table = csv::Writer::from_writer(Vec::new());
    let measured =
        COLUMNS.map(|(name, _)| [name.to_owned(), format!("{name}_low"), format!("{name}_high")]);
    let mut header = vec!["name".to_owned(), "baseline".to_owned()];
    header.extend(measured.into_iter().flatten());
    header.extend(["replicates", "prompts", "samples"].map(str::to_owned));
    table.write_record(header).map_err(|error| wrong(error.to_string()))?;
    let plain = |number: Option<f64>| number.map_or(String::new(), |number| number.to_string());
    for row in told.rows {
        let mut record = vec![row.name.clone(), row.baseline.to_string()];
        for (_, column) in COLUMNS {
            let found = column(row);
            let bounds = found.and_then(|it| it.interval);
            record.push(plain(found.map(|it| it.value)));
            record.extend([bounds.map(|it| it.low), bounds.map(|it| it.high)].map(plain));
        }
        record.extend([row.replicates, row.prompts, row.samples].map(|count| count.to_string()));
        table.write_record(record).map_err(|error| wrong(error.to_string()))?;
    }
    let bytes = table.into_inner().map_err(|error| wrong(error.to_string()))?;
    String::from_utf8(bytes).map_err(|error| wrong(error.to_string()))
}

pub(super) fn markdown(told: &Told) -> String {
    let mut text = format!("# {}\n\n{}\n{}", told.title, table(told), legend(told));
    if let Some(drawing) = &told.drawing {
        let _ =
            write!(text, "\n## {} against KL\n\n```text\n{drawing}```\n", told.reward.heading());
    }
    text + &examples(told)
}

/// A line per row of the comparison.
pub(super) fn table(told: &Told) -> String {
    let known = |(_, column): &Column| told.rows.iter().any(|row| column(row).is_some());
    let columns: Vec<Column> = COLUMNS.into_iter().filter(known).collect();
    let mut headings: Vec<&str> = columns.iter().map(|(name, _)| heading(name)).collect();
    headings.extend(told.replicates.map(|_| "replicates"));
    headings.extend(["prompts", "samples"]);
    let mut text = format!("| policy | {} |\n| :-- |", headings.join(" | "));
    text += &" --: |".repeat(headings.len());
    text.push('\n');
    for row in told.rows {
        let note = if row.baseline { " (baseline)" } else { "" };
        let _ = write!(text, "| {}{note}", row.name.replace('|', "\\|"));
        for (name, column) in &columns {
            let words = match column(row) {
                None => "–".to_owned(),
                Some(rate) if *name == "win_rate" => percent(&rate),
                Some(mean) => number(&mean, if *name == "kl" { 2 } else { 3 }),
            };
            let _ = write!(text, " | {words}");
        }
        let counts = [row.prompts, row.samples].map(|count| count.to_string());
        let replicates = told.replicates.map(|_| row.replicates.to_string());
        for count in replicates.into_iter().chain(counts) {
            let _ = write!(text, " | {count}");
        }
        text += " |\n";
    }
    text
}

/// A mean with its interval, if it has one.
fn number(mean: &Estimate, places: usize) -> String {
    let bounds = mean
        .interval
        .map_or_else(String::new, |it| format!(" ({:.places$} to {:.places$})", it.low, it.high));
    format!("{:.places$}{bounds}", mean.value)
}

/// A rate with its interval, as percentages.
fn percent(rate: &Estimate) -> String {
    let hundred = |share: f64| 100.0 * share;
    let bounds = rate
        .interval
        .map_or_else(unknown, |it| format!("({:.0} to {:.0})", hundred(it.low), hundred(it.high)));
    format!("{:.0} % {bounds}", hundred(rate.value))
}

/// In place of bounds that one prompt or one replicate does not give.
fn unknown() -> String {
    "(–)".to_owned()
}

/// What the numbers mean, as far as they are there.
pub(super) fn legend(told: &Told) -> String {
    let mut text = String::new();
    let any = |column: fn(&Row) -> bool| told.rows.iter().any(column);
    if let Some(axis) = told.replicates {
        let _ = writeln!(
            text,
            "A row is the mean over its replicates, which differ in `{axis}` and share their prompts. Intervals \
             hold 95 %,\nover replicates; one alone has none."
        );
    } else {
        text += "Intervals hold 95 %, over prompts. A single prompt has none.\n";
    }
    if any(|row| row.win_rate.is_some()) {
        let _ = writeln!(
            text,
            "The win rate is how often a completion has more {} than the baseline's of the same prompt; ties \
             count half.",
            told.reward.words()
        );
    }
    let measured = || told.candidates.iter().map(|it| &it.evaluation.measured);
    if any(|row| row.kl.is_some()) {
        text += "KL is in nats per completion from what was sampled from, the policy after penalty, temperature and\n\
                 filters, to its reference: on its own samples, the exact divergence at every token, summed.\n";
    }
    if measured().any(|it| it.best_of.is_some()) && any(|row| row.kl.is_some()) {
        text += "Of the best of n samples KL is an upper bound, ln n − (n − 1) / n (Beirami et al. 2024).\n";
    }
    if measured().any(|it| it.decoding.sampling().is_greedy()) {
        text += "Completions were decoded greedily, from no distribution: they have no KL.\n";
    }
    text
}

/// The first completion of every candidate for the first prompts.
fn examples(told: &Told) -> String {
    let mut text = String::new();
    let mut prompts: Vec<&str> = Vec::new();
    let first = told.candidates.first().map_or(&[][..], |it| &it.evaluation.samples);
    prompts.extend(first.iter().map(|sample| sample.prompt.as_str()));
    prompts.dedup();
    for (index, prompt) in prompts.into_iter().take(told.examples).enumerate() {
        if index == 0 {
            text += "\n## Samples\n";
        }
        let _ = writeln!(text, "\n> {}\n", prompt.trim().replace('\n', "\n> "));
        for row in told.rows {
            // Of replicates the first one speaks.
            let shown = row.members.first().and_then(|member| told.candidates.get(*member));
            let samples = shown.map_or(&[][..], |it| &it.evaluation.samples);
            if let Some(sample) = samples.iter().find(|sample| sample.prompt == prompt) {
                let _ = writeln!(text, "{}", example(&row.name, sample, told.reward));
            }
        }
    }
    text
}

fn example(name: &str, sample: &Sample, reward: Reward) -> String {
    let reward = reward.of(sample).map_or(String::new(), |it| format!(" ({it:.2})"));
    let words = sample.completion.trim().replace('\n', "\n  ");
    let end = if sample.ended { "" } else { " …" };
    format!("- {name}{reward}: {words}{end}")
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            candidate::{compete, tests::candidate},
            rows::rows,
        },
        *,
    };

    fn told(names: &[&str], replicates: Option<&str>, tell: impl Fn(&Told) -> String) -> String {
        let candidates = names.iter().zip([1.0, 0.5, 0.0]);
        let mut candidates: Vec<_> =
            candidates.map(|(name, reward)| candidate(name, reward, 4.0 * reward)).collect();
        candidates.iter_mut().filter(|it| it.baseline).for_each(|it| it.evaluation.kl = None);
        compete(&mut candidates, Reward::TrueReward);
        let rows = rows(&candidates, replicates).unwrap();
        tell(&Told {
            title: "Frontier",
            rows: &rows,
            candidates: &candidates,
            reward: Reward::TrueReward,
            replicates,
            examples: 1,
            drawing: Some("a drawing\n".to_owned()),
        })
    }

    #[test]
    fn the_report_has_a_line_per_candidate_both_rewards_and_samples() {
        insta::assert_snapshot!(told(&["dpo[beta=0.1]", "a|b", "sft"], None, markdown));
    }

    #[test]
    fn replicates_are_counted_and_the_interval_is_said_to_be_over_them() {
        let names = ["dpo[seed=1]", "dpo[seed=2]", "sft"];
        insta::assert_snapshot!(told(&names, Some("seed"), markdown));
    }

    #[test]
    fn the_table_quotes_what_csv_must() {
        insta::assert_snapshot!(told(&["dpo[a=1,b=2]", "sft"], None, |told| csv(told).unwrap()));
    }

    #[test]
    fn programs_are_told_what_intervals_are_over() {
        insta::assert_snapshot!(
            told(&["dpo[seed=1]", "sft"], Some("seed"), |told| json(told).unwrap())
        );
    }
}
