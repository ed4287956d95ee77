//! What stages hand on: one type per kind of artifact.

pub(crate) mod dataset;
pub(crate) mod dataset_folder;
pub(crate) mod digest;
pub(crate) mod ids;
pub(crate) mod json;
pub(crate) mod tokenizer;
pub(crate) mod true_reward;

use crate::port::artifact;

artifact!(
    /// A Hugging Face folder: `config.json`, `model.safetensors`, and the tokenizer's files.
    Model: "model"
);
artifact!(
    /// A sequence classifier with one output, in a Hugging Face folder.
    RewardModel: "reward_model"
);
artifact!(
    /// A model of which the trunk alone counts, whatever its head.
    Trunk: "model" | "reward_model"
);
artifact!(
    /// A sequence classifier with one output that reads a prompt with two replies, in a Hugging Face folder.
    PreferenceModel: "preference_model"
);
artifact!(
    /// `tokenizer.json` and `tokenizer_config.json`; a model's folder has them too.
    Tokenizer: "tokenizer" | "model"
);
artifact!(
    /// Rows of plain text.
    Text: "text" | "completions" | "preferences" | "rollouts" | "tokenized_text"
);
artifact!(
    /// Prompts; whatever has prompts will do.
    Prompts: "prompts" | "completions" | "preferences" | "rollouts"
);
artifact!(
    /// Prompts with a completion; of a preference the chosen side.
    Completions: "completions" | "preferences" | "rollouts" | "tokenized_completions"
);
artifact!(
    /// Completions of which it is known whether they are desirable, or pairs of them.
    Feedback: "completions" | "rollouts" | "preferences"
);
artifact!(
    /// Prompts with a chosen and a rejected completion.
    Preferences: "preferences" | "tokenized_preferences"
);
artifact!(
    /// Rows of any format.
    Rows: "text" | "prompts" | "completions" | "preferences" | "rollouts"
);
artifact!(
    /// What a policy did: completions with their tokens, log-probabilities and rewards.
    Rollouts: "rollouts"
);
artifact!(
    /// Rows as token ids: a safetensors file.
    Tokens: "tokenized_text" | "tokenized_completions" | "tokenized_preferences"
);
artifact!(
    /// What a model thinks of completions: a log-probability for each, as JSON lines.
    LogProbs: "log_probs"
);
artifact!(
    /// A file of whatever kind, as a person or a program wrote it.
    File: "file"
);
artifact!(
    /// A reward in closed form, known because the data is synthetic.
    TrueReward: "true_reward"
);
artifact!(
    /// What `evaluate.policy` measured, with its samples.
    Evaluation: "evaluation"
);
artifact!(
    /// Samples of a policy: an evaluation with them, or rollouts.
    Sampled: "evaluation" | "rollouts"
);
artifact!(
    /// A curve of numbers per step, as JSON lines.
    Metrics: "metrics"
);
artifact!(
    /// Something with numbers by name: an evaluation, a curve, rollouts with rewards, or a JSON object.
    Numbers: "evaluation" | "metrics" | "claim" | "file" | "rollouts"
);
artifact!(
    /// A claim with its numbers and whether they bear it out, as JSON.
    Claimed: "claim"
);
artifact!(
    /// A table, as CSV.
    Table: "table"
);
artifact!(
    /// Evaluations side by side, as JSON.
    Comparison: "comparison"
);
artifact!(
    /// A plot, as SVG.
    Plot: "plot"
);
artifact!(
    /// A plot, as PNG.
    Picture: "picture"
);
artifact!(
    /// A page of text, as Markdown.
    Report: "report"
);
artifact!(
    /// A page that is complete in itself, as HTML.
    Page: "page"
);
