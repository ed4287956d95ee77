//! What policies said, side by side: a row for each prompt, a column for each policy.

use maud::{Markup, html};

use super::document::Section;
use crate::{
    evaluate::{
        samples::{Sample, by_prompt},
        side_by_side::Told,
    },
    nn::statistics::mean,
};

/// Completions of one prompt that are shown of one policy.
const SHOWN: usize = 2;

/// What one policy said to one prompt.
struct Said<'a> {
    samples: &'a [Sample],
    /// Mean reward of all samples of the prompt, if all have one.
    reward: Option<f64>,
}

/// The first prompts with everyone's completions; none where no policy has a sample.
pub(crate) fn section(told: &Told) -> Option<Section> {
    let first = told.candidates.first()?;
    let prompts: Vec<&str> =
        by_prompt(&first.evaluation.samples).map(|all| all[0].prompt.as_str()).collect();
    let shown = prompts.len().min(told.examples);
    if shown == 0 {
        return None;
    }
    let baseline = told.rows.iter().position(|row| row.baseline);
    let content = html! {
        p { "The first " (shown) " of " (prompts.len()) " prompts. Numbers are " (told.reward.words()) ": of each completion, and in a \
             heading the mean over all completions of the prompt." }
        div.controls {
            label { "Search " input #search type="search" placeholder="words of prompts or completions"; }
            @if baseline.is_some() {
                label { "Sort by " select #order {
                    option value="place" { "order of prompts" }
                    @for (at, row) in told.rows.iter().enumerate().filter(|(at, _)| Some(*at) != baseline) {
                        option value={ (at) "-down" } { "what " (row.name) " gains" }
                        option value={ (at) "-up" } { "what " (row.name) " loses" }
                    }
                } }
            }
            span #found {}
        }
        div #samples {
            @for (place, prompt) in prompts.iter().take(shown).enumerate() { (side_by_side(told, place, prompt, baseline)) }
        }
    };
    Some(Section { title: "Samples".to_owned(), content })
}

fn side_by_side(told: &Told, place: usize, prompt: &str, baseline: Option<usize>) -> Markup {
    let said: Vec<Option<Said>> = told
        .rows
        .iter()
        .map(|row| {
            // Of replicates the first one speaks.
            let candidate = &told.candidates[*row.members.first()?];
            let samples =
                by_prompt(&candidate.evaluation.samples).find(|all| all[0].prompt == prompt)?;
            let rewards: Option<Vec<f64>> = samples.iter().map(|it| told.reward.of(it)).collect();
            Some(Said { samples, reward: rewards.map(|it| mean(&it)) })
        })
        .collect();
    let reward = |at: usize| said.get(at)?.as_ref()?.reward;
    let gains = said.iter().enumerate().map(|(at, _)| {
        let gain = reward(at).zip(baseline.and_then(reward)).map(|(own, theirs)| own - theirs);
        gain.map_or(String::new(), |gain| format!("{gain:.6}"))
    });
    let gains = gains.collect::<Vec<_>>().join(" ");
    html! {
        article data-place=(place) data-gains=(gains) {
            pre.prompt { (prompt) }
            div.answers {
                @for (row, said) in told.rows.iter().zip(&said) { @if let Some(said) = said {
                    div {
                        h4 { (row.name) @if let Some(reward) = said.reward { span.number { " " (format!("{reward:.2}")) } } }
                        @for sample in said.samples.iter().take(SHOWN) { (completion(told, sample)) }
                        @if said.samples.len() > SHOWN { details {
                            summary { (said.samples.len() - SHOWN) " more" }
                            @for sample in &said.samples[SHOWN..] { (completion(told, sample)) }
                        } }
                    }
                } }
            }
        }
    }
}

fn completion(told: &Told, sample: &Sample) -> Markup {
    let end = if sample.ended { "" } else { " …" };
    html! {
        pre {
            @if let Some(reward) = told.reward.of(sample) { span.number { (format!("{reward:.2}")) " " } }
            (sample.completion.trim()) (end)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate::{
        candidate::{compete, tests::candidate},
        rows::rows,
        samples::Reward,
    };

    #[test]
    fn every_policy_answers_every_prompt_and_its_gain_on_the_baseline_is_there() {
        let mut candidates = vec![candidate("dpo", 1.0, 2.0), candidate("sft", 0.0, 0.0)];
        candidates[0].evaluation.samples[0].completion = "<b>Good</b>".to_owned();
        compete(&mut candidates, Reward::TrueReward);
        let rows = rows(&candidates, None).unwrap();
        let told = |examples| Told {
            title: "Title",
            rows: &rows,
            candidates: &candidates,
            reward: Reward::TrueReward,
            replicates: None,
            examples,
            drawing: None,
        };
        let page = section(&told(1)).unwrap().content.into_string();
        assert_eq!(page.matches("<article").count(), 1);
        assert!(page.contains("&lt;b&gt;Good&lt;/b&gt;") && !page.contains("<b>Good"), "{page}");
        assert!(page.contains(r#"data-gains="1.000000 0.000000""#), "{page}");
        assert!(page.contains("what dpo gains") && !page.contains("what sft gains"));
        assert_eq!(section(&told(9)).unwrap().content.into_string().matches("<article").count(), 2);
        assert!(section(&told(0)).is_none());
    }
}
