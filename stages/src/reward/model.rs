//! Scores of completions by a reward model of whatever tokenizer: they go to it as texts.

use gradus_protocol::Page;

use crate::{
    error::StageError,
    nn::{pretrained::Pretrained, scores::scores},
};

/// Scores `[prompt, completion]`, each with whether it ended by itself; `page` is of this judge.
pub(crate) fn scored<'t>(
    texts: impl Iterator<Item = ([&'t str; 2], bool)>,
    judge: &Pretrained,
    page: &Page,
    report: impl FnMut(usize, usize) -> Result<(), StageError>,
) -> Result<Vec<f64>, StageError> {
    let mut all = Vec::new();
    for ([prompt, completion], ended) in texts {
        let end = if ended { judge.codec.eos_text.as_str() } else { "" };
        all.push(judge.codec.encode(&format!("{prompt}{completion}{end}"))?);
    }
    let all: Vec<&[u32]> = all.iter().map(Vec::as_slice).collect();
    let longest = all.iter().map(|text| text.len()).max().unwrap_or(0);
    judge.bears(longest, "the prompts with their completions")?;
    scores(&judge.model, &all, Some(page), report)
}
